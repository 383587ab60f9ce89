/* router.c: the table of routes, and the checks before a body. Sees no sockets. */
#include "router.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "codec_safetensors.h"
#include "path.h"

#define OPTIMIZER "/v1/optimizers/{name}"

static const route routes[] = {
    {"GET", "/", api_root, ROUTE_NO_BODY, REPLY_AS_JSON, false, 0},
    {"GET", "/livez", api_livez, ROUTE_NO_BODY, REPLY_AS_JSON, false, 0},
    {"GET", "/readyz", api_readyz, ROUTE_NO_BODY, REPLY_AS_JSON, false, 0},
    {"GET", "/openapi.yaml", api_openapi, ROUTE_NO_BODY, REPLY_AS_YAML, false, 0},
    {"GET", "/v1/optimizers", api_list, ROUTE_NO_BODY, REPLY_AS_JSON, false, ROUTE_QUERY_LIST},
    {"GET", OPTIMIZER, api_summary, ROUTE_NO_BODY, REPLY_AS_JSON, false, 0},
    {"PUT", OPTIMIZER, api_create, ROUTE_TENSORS, REPLY_AS_JSON, false, 0},
    {"PATCH", OPTIMIZER, api_patch_optimizer, ROUTE_PATCH, REPLY_AS_JSON, false, 0},
    {"DELETE", OPTIMIZER, api_delete, ROUTE_NO_BODY, REPLY_AS_JSON, false, 0},
    {"POST", OPTIMIZER "/step", api_step, ROUTE_TENSORS, REPLY_AS_TENSORS, false,
     ROUTE_QUERY_DTYPE},
    {"GET", OPTIMIZER "/param_groups", api_get_param_groups, ROUTE_NO_BODY, REPLY_AS_JSON, true,
     ROUTE_QUERY_DATA},
    {"POST", OPTIMIZER "/param_groups", api_add_param_group, ROUTE_JSON, REPLY_AS_JSON, true, 0},
    {"PATCH", OPTIMIZER "/param_groups/{index}", api_patch_param_group, ROUTE_PATCH, REPLY_AS_JSON,
     true, 0},
    {"GET", OPTIMIZER "/params", api_get_params, ROUTE_NO_BODY, REPLY_AS_TENSORS, true,
     ROUTE_QUERY_DTYPE},
    {"PUT", OPTIMIZER "/params", api_put_params, ROUTE_TENSORS, REPLY_AS_JSON, false, 0},
    {"GET", OPTIMIZER "/params/{param}", api_get_param, ROUTE_NO_BODY, REPLY_AS_TENSORS, true,
     ROUTE_QUERY_DTYPE},
    {"GET", OPTIMIZER "/state/{param}", api_get_state, ROUTE_NO_BODY, REPLY_AS_JSON, true,
     ROUTE_QUERY_DATA},
    {"GET", OPTIMIZER "/state_dict", api_get_state_dict, ROUTE_NO_BODY, REPLY_AS_TENSORS, true, 0},
    {"PUT", OPTIMIZER "/state_dict", api_put_state_dict, ROUTE_TENSORS, REPLY_AS_JSON, true,
     ROUTE_QUERY_LOAD},
    {"GET", OPTIMIZER "/digest", api_get_digest, ROUTE_NO_BODY, REPLY_AS_JSON, true, 0},
    {"GET", OPTIMIZER "/history", api_history, ROUTE_NO_BODY, REPLY_AS_JSON, false,
     ROUTE_QUERY_LAST},
    {"GET", OPTIMIZER "/changes", api_changes, ROUTE_NO_BODY, REPLY_AS_JSON, false,
     ROUTE_QUERY_LAST},
    {"GET", OPTIMIZER "/events", api_events, ROUTE_NO_BODY, REPLY_AS_EVENTS, false, 0},
};
#define ROUTES_LENGTH (sizeof routes / sizeof routes[0])

const route *router_routes(size_t *count)
{
    *count = ROUTES_LENGTH;
    return routes;
}

/* ---- route and path ---- */

/* The methods that a path takes, for Allow: "GET, HEAD, PUT". */
static void list_methods(const path *target, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < ROUTES_LENGTH; i++) {
        if (path_matches(target, routes[i].pattern) && used < size) {
            used += (size_t)snprintf(out + used, size - used, "%s%s%s", used > 0 ? ", " : "",
                                     routes[i].method,
                                     strcmp(routes[i].method, "GET") == 0 ? ", HEAD" : "");
        }
    }
}

static bool find_route(const path *target, const char *method, api_request *rq, problem *p)
{
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    bool known = false;
    for (size_t i = 0; i < ROUTES_LENGTH; i++) {
        if (path_matches(target, routes[i].pattern)) {
            known = true;
            if (strcmp(routes[i].method, wanted) == 0) {
                rq->route = &routes[i];
                return true;
            }
        }
    }
    if (!known) {
        return problem_set(p, PROBLEM_NO_SUCH_PATH,
                           "there is nothing at this path; GET / says what is");
    }
    char allow[sizeof p->allow];
    list_methods(target, allow, sizeof allow);
    problem_set(p, PROBLEM_METHOD_NOT_ALLOWED, "%.32s is not for this path, expected %s", method,
                allow);
    memcpy(p->allow, allow, sizeof p->allow);
    return false;
}

static bool valid_optimizer_name(const char *name, size_t length)
{
    if (length < 1 || length > REGISTRY_MAX_NAME || name[0] == '.' || name[0] == '_' ||
        name[0] == '-') {
        return false;
    }
    return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
           length;
}

/* Takes {name}, {param} and {index} from the path. */
static bool take_variables(const path *target, api_request *rq, problem *p)
{
    const path_segment *name = path_variable(target, rq->route->pattern, "{name}");
    const path_segment *param = path_variable(target, rq->route->pattern, "{param}");
    const path_segment *index = path_variable(target, rq->route->pattern, "{index}");
    if (name != NULL) {
        if (!valid_optimizer_name(name->text, name->length)) {
            return rq->route->handler == api_create
                       ? problem_set(
                             p, PROBLEM_INVALID_NAME,
                             "an optimizer's name is 1 to %d letters, digits, '.', '_' or '-', "
                             "and begins with a letter or digit",
                             REGISTRY_MAX_NAME)
                       : problem_set(p, PROBLEM_NO_SUCH_OPTIMIZER,
                                     "there is no optimizer of that name, nor can there be");
        }
        memcpy(rq->optimizer, name->text, name->length + 1);
    }
    if (param != NULL) {
        if (param->length == 0 || param->length > ADAM_MAX_NAME) {
            return problem_set(p, PROBLEM_NO_SUCH_PARAM, "a parameter's name has 1 to %d bytes",
                               ADAM_MAX_NAME);
        }
        memcpy(rq->param, param->text, param->length + 1);
        rq->param_length = param->length;
    }
    if (index != NULL && !path_number(index->text, index->length, ADAM_MAX_GROUPS, &rq->index)) {
        return problem_set(p, PROBLEM_NO_SUCH_GROUP,
                           "the index of a param group is expected as a whole number");
    }
    return true;
}

static bool take_list_query(const char *key, const path_segment *value, api_query *q, bool *known,
                            problem *p)
{
    char *name = strcmp(key, "prefix") == 0  ? q->prefix
                 : strcmp(key, "after") == 0 ? q->after
                                             : NULL;
    *known = name != NULL || strcmp(key, "limit") == 0;
    if (name != NULL) {
        if (value->length > REGISTRY_MAX_NAME) {
            return problem_set(p, PROBLEM_INVALID_QUERY, "%s is longer than any name", key);
        }
        memcpy(name, value->text, value->length + 1);
        return true;
    }
    if (*known && (!path_number(value->text, value->length, API_LIST_LIMIT_MAX, &q->limit) ||
                   q->limit == 0)) {
        return problem_set(p, PROBLEM_INVALID_QUERY, "limit is expected as a number from 1 to %d",
                           API_LIST_LIMIT_MAX);
    }
    return true;
}

static bool take_data(const char *value, api_query *q, problem *p)
{
    q->data = strcmp(value, "all") == 0 ? SHOW_DATA_ALL : SHOW_DATA_NONE;
    return q->data == SHOW_DATA_ALL || strcmp(value, "none") == 0 ||
           problem_set(p, PROBLEM_INVALID_QUERY, "data is expected to be all or none");
}

static bool take_dtype(const char *value, api_query *q, problem *p)
{
    static const adam_dtype known[] = {ADAM_FLOAT32, ADAM_FLOAT64, ADAM_BFLOAT16, ADAM_FLOAT16};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcasecmp(value, safetensors_dtype_name(known[i])) == 0) {
            q->has_dtype = true;
            q->dtype = known[i];
            return true;
        }
    }
    return problem_set(p, PROBLEM_INVALID_QUERY, "dtype is '%.64s', expected f32, f64, bf16 or f16",
                       value);
}

/* Parameters alone and a whole state are both what someone means by "load", and the wrong one goes
 * unnoticed: so there is no default. */
static bool refuse_load(problem *p, const char *is)
{
    return problem_set(p, PROBLEM_INVALID_QUERY,
                       "load is %s, expected params (takes the values of the parameters; moments, "
                       "step counts and options stay) or everything (makes the optimizer what the "
                       "state_dict is); there is no default",
                       is);
}

static bool take_load_query(const path_segment *value, api_query *q, problem *p)
{
    if (strcmp(value->text, "params") == 0) {
        q->load = STATE_DICT_LOAD_PARAMS;
    } else if (strcmp(value->text, "everything") == 0) {
        q->load = STATE_DICT_LOAD_EVERYTHING;
    } else {
        char is[80];
        (void)snprintf(is, sizeof is, "'%.64s'", value->text);
        return refuse_load(p, is);
    }
    return true;
}

static bool check_load(const api_request *rq, problem *p)
{
    return (rq->route->query & ROUTE_QUERY_LOAD) == 0 || rq->query.load != STATE_DICT_LOAD_UNSAID ||
           refuse_load(p, "missing");
}

static bool take_last(const path_segment *value, size_t most, api_query *q, problem *p)
{
    return (path_number(value->text, value->length, most, &q->last) && q->last > 0) ||
           problem_set(
               p, PROBLEM_INVALID_QUERY,
               "last is '%.64s', expected a number from 1 to %zu, which is all that is kept",
               value->text, most);
}

static bool take_query(const api_context *ctx, const path *target, api_request *rq, problem *p)
{
    rq->query.limit = API_LIST_LIMIT;
    rq->query.last = rq->route->handler == api_changes ? CHANGES_MAX_LINES : ctx->config->history;
    const size_t kept = rq->query.last;
    for (size_t i = 0; i < target->n_query; i++) {
        const char *key = target->query[i].key.text;
        const path_segment *value = &target->query[i].value;
        bool known = false;
        for (size_t k = 0; k < i; k++) {
            if (strcmp(target->query[k].key.text, key) == 0) {
                return problem_set(p, PROBLEM_INVALID_QUERY,
                                   "query parameter '%.64s' is given twice", key);
            }
        }
        if ((rq->route->query & ROUTE_QUERY_LIST) != 0 &&
            !take_list_query(key, value, &rq->query, &known, p)) {
            return false;
        }
        if ((rq->route->query & ROUTE_QUERY_DATA) != 0 && strcmp(key, "data") == 0) {
            known = true;
            if (!take_data(value->text, &rq->query, p)) {
                return false;
            }
        }
        if ((rq->route->query & ROUTE_QUERY_DTYPE) != 0 && strcmp(key, "dtype") == 0) {
            known = true;
            if (!take_dtype(value->text, &rq->query, p)) {
                return false;
            }
        }
        if ((rq->route->query & ROUTE_QUERY_LOAD) != 0 && strcmp(key, "load") == 0) {
            known = true;
            if (!take_load_query(value, &rq->query, p)) {
                return false;
            }
        }
        if ((rq->route->query & ROUTE_QUERY_LAST) != 0 && strcmp(key, "last") == 0) {
            known = true;
            if (!take_last(value, kept, &rq->query, p)) {
                return false;
            }
        }
        if (!known) {
            return problem_set(p, PROBLEM_INVALID_QUERY, "unknown query parameter '%.64s'", key);
        }
    }
    return true;
}

/* ---- headers ---- */

static bool refuse_media(const api_request *rq, const char *content_type, problem *p)
{
    const char *expected = rq->route->body == ROUTE_JSON ? "application/json"
                           : rq->route->body == ROUTE_PATCH
                               ? "application/merge-patch+json or application/json"
                               : "application/json or application/vnd.safetensors";
    problem_set(p, PROBLEM_UNSUPPORTED_MEDIA_TYPE, "Content-Type is %.128s, expected %s",
                content_type != NULL ? content_type : "missing", expected);
    strcpy(p->header, "Content-Type");
    return false;
}

static bool take_content_type(const router_headers *h, api_request *rq, problem *p)
{
    const route_body takes = rq->route->body;
    if (takes == ROUTE_NO_BODY) {
        return !h->has_body || problem_set(p, PROBLEM_MALFORMED_REQUEST,
                                           "%s on this path takes no body", rq->route->method);
    }
    rq->sent = h->content_type != NULL ? media_parse(h->content_type) : MEDIA_NONE;
    if (rq->sent == MEDIA_OCTETS) {
        rq->sent = MEDIA_SAFETENSORS;
    }
    const bool fits = rq->sent == MEDIA_JSON ||
                      (rq->sent == MEDIA_MERGE_PATCH && takes == ROUTE_PATCH) ||
                      (rq->sent == MEDIA_SAFETENSORS && takes == ROUTE_TENSORS);
    if (!fits) {
        return refuse_media(rq, h->content_type, p);
    }
    return true;
}

static bool take_accept(const router_headers *h, api_request *rq, problem *p)
{
    static const media json[] = {MEDIA_JSON};
    static const media yaml[] = {MEDIA_YAML};
    static const media events[] = {MEDIA_EVENTS};
    static const media json_first[] = {MEDIA_JSON, MEDIA_SAFETENSORS, MEDIA_OCTETS};
    static const media tensors_first[] = {MEDIA_SAFETENSORS, MEDIA_OCTETS, MEDIA_JSON};
    const media *offers = json;
    size_t n = 1;
    if (rq->route->answer == REPLY_AS_YAML) {
        offers = yaml;
    } else if (rq->route->answer == REPLY_AS_EVENTS) {
        offers = events;
    } else if (rq->route->answer == REPLY_AS_TENSORS) {
        offers = rq->sent == MEDIA_SAFETENSORS ? tensors_first : json_first;
        n = 3;
    }
    rq->wanted = media_choose(h->accept, offers, n);
    if (rq->wanted != MEDIA_NONE) {
        return true;
    }
    problem_set(p, PROBLEM_NOT_ACCEPTABLE, "Accept is %.128s, but here are: %s%s", h->accept,
                media_name(offers[0]), n > 1 ? ", in JSON or safetensors" : "");
    strcpy(p->header, "Accept");
    return false;
}

static bool take_worker(const char *worker, api_request *rq, problem *p)
{
    if (worker == NULL) {
        return true;
    }
    const size_t length = strlen(worker);
    bool visible = length >= 1 && length <= REGISTRY_MAX_NAME;
    for (size_t i = 0; i < length; i++) {
        visible = visible && worker[i] > ' ' && worker[i] < 0x7f;
    }
    if (!visible) {
        problem_set(p, PROBLEM_MALFORMED_REQUEST,
                    "Adam-Worker is expected as 1 to %d visible ASCII characters",
                    REGISTRY_MAX_NAME);
        strcpy(p->header, "Adam-Worker");
    }
    rq->worker = worker;
    return visible;
}

/* Of a client that comes back to a stream of events. */
static bool take_last_event_id(const char *id, api_request *rq, problem *p)
{
    size_t step;
    if (id == NULL || rq->route->answer != REPLY_AS_EVENTS) {
        return true;
    }
    if (!path_number(id, strlen(id), ADAM_MAX_STEP, &step)) {
        problem_set(p, PROBLEM_MALFORMED_REQUEST,
                    "Last-Event-ID is '%.64s', expected the id of an event, which is a step", id);
        strcpy(p->header, "Last-Event-ID");
        return false;
    }
    rq->has_last_id = true;
    rq->last_id = step;
    return true;
}

/* Prefer: return=minimal, among others that are nobody's here (RFC 7240). */
static bool prefers_minimal(const char *prefer)
{
    for (const char *at = prefer; at != NULL && *at != '\0';) {
        at += strspn(at, " \t,");
        const size_t length = strcspn(at, ",; \t");
        if ((length == 14 && strncasecmp(at, "return=minimal", length) == 0) ||
            (length == 16 && strncasecmp(at, "return=\"minimal\"", length) == 0)) {
            return true;
        }
        at += strcspn(at, ",");
    }
    return false;
}

static bool check_length(const api_context *ctx, const router_headers *h, const api_request *rq,
                         problem *p)
{
    if (rq->route->body == ROUTE_NO_BODY) {
        return true;
    }
    if (!h->has_length && rq->sent == MEDIA_SAFETENSORS) {
        return problem_set(p, PROBLEM_LENGTH_REQUIRED,
                           "a safetensors body needs a Content-Length header");
    }
    const size_t limit = router_body_limit(ctx, rq);
    if (h->has_length && h->length > limit) {
        problem_set(p, PROBLEM_BODY_TOO_LARGE, "the body has %llu bytes, at most %zu are taken",
                    (unsigned long long)h->length, limit);
        p->has_limit = true;
        p->limit_bytes = limit;
        return false;
    }
    return true;
}

/* Finds the optimizer, or finds that its name is still free. */
static bool take_instance(api_context *ctx, api_request *rq, problem *p)
{
    if (rq->optimizer[0] == '\0') {
        return true;
    }
    instance *inst = registry_hold(ctx->registry, rq->optimizer);
    if (rq->route->handler == api_create) {
        const bool taken = inst != NULL;
        instance_drop(inst);
        return !taken ||
               problem_set(p, PROBLEM_NAME_TAKEN,
                           "there is an optimizer '%s' already; DELETE it first, or choose "
                           "another name",
                           rq->optimizer);
    }
    rq->instance = inst;
    return inst != NULL ||
           problem_set(p, PROBLEM_NO_SUCH_OPTIMIZER, "there is no optimizer '%s'", rq->optimizer);
}

static bool check_if_match(const api_request *rq, problem *p)
{
    if (rq->if_match == NULL) {
        return true;
    }
    if (rq->instance == NULL) {
        problem_set(p, PROBLEM_PRECONDITION_FAILED, "If-Match does not hold: there is nothing yet");
        strcpy(p->header, "If-Match");
        return false;
    }
    char etag[64];
    const optimizer_info info = instance_info(rq->instance);
    api_etag(&info, etag, sizeof etag);
    return api_check_if_match(rq->if_match, etag, p);
}

bool router_begin(api_context *ctx, const char *method, const char *target,
                  const router_headers *headers, api_request *rq, problem *p)
{
    path parsed;
    *rq = (api_request){.if_match = headers->if_match, .minimal = prefers_minimal(headers->prefer)};
    const char *wrong = path_parse(target, &parsed);
    if (wrong != NULL) {
        return problem_set(p, PROBLEM_MALFORMED_REQUEST, "the path %s", wrong);
    }
    if (!find_route(&parsed, method, rq, p)) {
        return false;
    }
    if (atomic_load(&ctx->draining) && rq->route->handler != api_livez) {
        return problem_set(p, PROBLEM_DRAINING, "the server is shutting down");
    }
    return take_variables(&parsed, rq, p) && take_query(ctx, &parsed, rq, p) &&
           take_instance(ctx, rq, p) && check_load(rq, p) && take_worker(headers->worker, rq, p) &&
           take_content_type(headers, rq, p) && take_accept(headers, rq, p) &&
           check_length(ctx, headers, rq, p) && take_last_event_id(headers->last_event_id, rq, p) &&
           check_if_match(rq, p);
}

size_t router_body_limit(const api_context *ctx, const api_request *rq)
{
    const size_t json = ctx->config->max_json_body;
    const size_t any = ctx->config->max_body;
    return rq->sent == MEDIA_SAFETENSORS || any < json ? any : json;
}

/* What only reads the history may overtake a step that takes its time. */
static bool stands_aside(const route *r)
{
    return r->handler == api_history || r->handler == api_changes || r->handler == api_events;
}

strand *router_strand(const api_request *rq)
{
    return rq->instance != NULL && !stands_aside(rq->route) ? &rq->instance->strand : NULL;
}

size_t router_cost(const api_request *rq)
{
    size_t cost = rq->body != NULL ? rq->body->length : 0;
    if (rq->instance != NULL && rq->route->whole) {
        cost += instance_info(rq->instance).bytes;
    }
    if (rq->instance != NULL && rq->route->handler == api_history) {
        cost += history_bytes(rq->instance->history);
    }
    return cost;
}

static bool run(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    if (rq->instance != NULL && atomic_load(&rq->instance->removed)) {
        return problem_set(p, PROBLEM_NO_SUCH_OPTIMIZER, "there is no optimizer '%s' any more",
                           rq->optimizer);
    }
    return check_if_match(rq, p) && rq->route->handler(ctx, rq, r, p);
}

void router_blame(api_context *ctx, const api_request *rq, problem *p)
{
    if (p->code == PROBLEM_OUT_OF_MEMORY && atomic_load(&ctx->transit_bytes) > rq->transit) {
        p->code = PROBLEM_BUSY;
    }
}

void router_run(api_context *ctx, api_request *rq, reply *r)
{
    problem p;
    const bool done = run(ctx, rq, r, &p);
    if (!done) {
        router_blame(ctx, rq, &p);
    }
    if (rq->instance != NULL && !atomic_load(&rq->instance->removed)) {
        const optimizer_info info = instance_info(rq->instance);
        api_etag(&info, r->etag, sizeof r->etag);
    }
    if (!done) {
        reply_problem(r, &p, ctx->buffers);
    }
}
