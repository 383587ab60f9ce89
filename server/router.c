/* router.c: the table of routes; paths and the optimizers they name. Sees no sockets. */
#include "router.h"

#include <stdio.h>
#include <string.h>

#include "api_persist.h"
#include "router_internal.h"

#define OPTIMIZER "/v1/optimizers/{name}"

/* The first that fits is taken; the step stands first because it is asked for most. */
static const route routes[] = {
    {"POST", OPTIMIZER "/step", api_step, ROUTE_TENSORS, REPLY_AS_TENSORS, false,
     ROUTE_QUERY_DTYPE},
    {"GET", "/", api_root, ROUTE_NO_BODY, REPLY_AS_JSON, false, 0},
    {"GET", "/livez", api_livez, ROUTE_NO_BODY, REPLY_AS_JSON, false, 0},
    {"GET", "/readyz", api_readyz, ROUTE_NO_BODY, REPLY_AS_JSON, false, 0},
    {"GET", "/openapi.yaml", api_openapi, ROUTE_NO_BODY, REPLY_AS_YAML, false, 0},
    {"GET", "/v1/optimizers", api_list, ROUTE_NO_BODY, REPLY_AS_JSON, false, ROUTE_QUERY_LIST},
    {"GET", OPTIMIZER, api_summary, ROUTE_NO_BODY, REPLY_AS_JSON, false, 0},
    {"PUT", OPTIMIZER, api_create, ROUTE_TENSORS, REPLY_AS_JSON, false, 0},
    {"PATCH", OPTIMIZER, api_patch_optimizer, ROUTE_PATCH, REPLY_AS_JSON, false, ROUTE_KEEPS},
    {"DELETE", OPTIMIZER, api_delete, ROUTE_NO_BODY, REPLY_AS_JSON, false, 0},
    {"GET", OPTIMIZER "/param_groups", api_get_param_groups, ROUTE_NO_BODY, REPLY_AS_JSON, true,
     ROUTE_QUERY_DATA},
    {"POST", OPTIMIZER "/param_groups", api_add_param_group, ROUTE_TENSORS, REPLY_AS_JSON, true,
     ROUTE_KEEPS},
    {"PATCH", OPTIMIZER "/param_groups/{index}", api_patch_param_group, ROUTE_PATCH, REPLY_AS_JSON,
     true, ROUTE_KEEPS},
    {"GET", OPTIMIZER "/params", api_get_params, ROUTE_NO_BODY, REPLY_AS_TENSORS, true,
     ROUTE_QUERY_DTYPE | ROUTE_QUERY_WAIT},
    {"PUT", OPTIMIZER "/params", api_put_params, ROUTE_TENSORS, REPLY_AS_JSON, false, ROUTE_KEEPS},
    {"GET", OPTIMIZER "/params/{param}", api_get_param, ROUTE_NO_BODY, REPLY_AS_TENSORS, true,
     ROUTE_QUERY_DTYPE},
    {"GET", OPTIMIZER "/state/{param}", api_get_state, ROUTE_NO_BODY, REPLY_AS_JSON, true,
     ROUTE_QUERY_DATA},
    {"GET", OPTIMIZER "/state_dict", api_get_state_dict, ROUTE_NO_BODY, REPLY_AS_TENSORS, true, 0},
    {"PUT", OPTIMIZER "/state_dict", api_put_state_dict, ROUTE_TENSORS, REPLY_AS_JSON, true,
     ROUTE_QUERY_LOAD | ROUTE_KEEPS},
    {"GET", OPTIMIZER "/digest", api_get_digest, ROUTE_NO_BODY, REPLY_AS_JSON, true, 0},
    {"GET", OPTIMIZER "/round", api_get_round, ROUTE_NO_BODY, REPLY_AS_JSON, false, 0},
    {"DELETE", OPTIMIZER "/round", api_drop_round, ROUTE_NO_BODY, REPLY_AS_JSON, false,
     ROUTE_KEEPS},
    {"GET", OPTIMIZER "/workers", api_get_workers, ROUTE_NO_BODY, REPLY_AS_JSON, false, 0},
    {"DELETE", OPTIMIZER "/workers/{worker}", api_delete_worker, ROUTE_NO_BODY, REPLY_AS_JSON,
     false, ROUTE_KEEPS},
    {"POST", OPTIMIZER "/snapshot", api_snapshot, ROUTE_NO_BODY, REPLY_AS_JSON, false, 0},
    {"POST", OPTIMIZER "/rollback", api_rollback, ROUTE_PATCH, REPLY_AS_JSON, false, ROUTE_KEEPS},
    {"POST", OPTIMIZER "/fork", api_fork, ROUTE_PATCH, REPLY_AS_JSON, false, 0},
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
                rq->is_step = routes[i].handler == api_step;
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

/* Takes {name}, {param}, {worker} and {index} from the path. */
static bool take_variables(const path *target, api_request *rq, problem *p)
{
    const path_segment *name = path_variable(target, rq->route->pattern, "{name}");
    const path_segment *param = path_variable(target, rq->route->pattern, "{param}");
    const path_segment *worker = path_variable(target, rq->route->pattern, "{worker}");
    const path_segment *index = path_variable(target, rq->route->pattern, "{index}");
    if (name != NULL) {
        if (!registry_valid_name(name->text, name->length)) {
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
    if (worker != NULL) {
        if (worker->length == 0 || worker->length > REGISTRY_MAX_NAME) {
            return problem_set(p, PROBLEM_NO_SUCH_WORKER, "a worker's name has 1 to %d bytes",
                               REGISTRY_MAX_NAME);
        }
        memcpy(rq->param, worker->text, worker->length + 1);
    }
    if (index != NULL && !path_number(index->text, index->length, ADAM_MAX_GROUPS, &rq->index)) {
        return problem_set(p, PROBLEM_NO_SUCH_GROUP,
                           "the index of a param group is expected as a whole number");
    }
    return true;
}

/* Finds the optimizer, or finds that its name is still free. */
static bool take_instance(api_context *ctx, api_request *rq, problem *p)
{
    if (rq->optimizer[0] == '\0') {
        return true;
    }
    instance *inst = rq->replays != NULL ? instance_hold(rq->replays)
                                         : registry_hold(ctx->registry, rq->optimizer);
    if (rq->route->handler == api_create) {
        const bool taken = inst != NULL;
        instance_drop(inst);
        return !taken || rq->recovers ||
               problem_set(p, PROBLEM_NAME_TAKEN,
                           "there is an optimizer '%s' already; DELETE it first, or choose "
                           "another name",
                           rq->optimizer);
    }
    rq->instance = inst;
    return inst != NULL || rq->recovers ||
           problem_set(p, PROBLEM_NO_SUCH_OPTIMIZER, "there is no optimizer '%s'%s", rq->optimizer,
                       rq->route->handler == api_put_state_dict
                           ? "; create it first, with the same algorithm, groups and parameters"
                           : "");
}

/* Whether a step may be the repeat of one that was taken, which is to be answered as that was: only
 * api_step can say, which then checks what follows itself. */
static bool may_be_repeat(const api_request *rq)
{
    return rq->is_step && rq->key != NULL;
}

/* A step does where gradients may be some steps old, too. */
static bool takes_if_match_itself(const api_request *rq)
{
    return may_be_repeat(rq) ||
           (rq->is_step && rq->instance != NULL &&
            instance_info(rq->instance).training.aggregation.mode == AGGREGATION_ASYNC);
}

static bool check_if_match(const api_request *rq, problem *p)
{
    if (rq->if_match == NULL || takes_if_match_itself(rq)) {
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

static bool begin(api_context *ctx, const char *method, const char *target,
                  const router_headers *headers, api_request *rq, problem *p)
{
    path parsed;
    *rq = (api_request){
        .if_match = headers->if_match,
        .if_none_match = headers->if_none_match,
        .replays = headers->replays,
        .recovers = headers->recovers,
        .asked = {.method = method,
                  .target = target,
                  .content_type = headers->content_type,
                  .worker = headers->worker,
                  .key = headers->key,
                  .weight = headers->weight,
                  .based_on = headers->based_on},
    };
    const char *wrong = path_parse(target, &parsed);
    if (wrong != NULL) {
        return problem_set(p, PROBLEM_MALFORMED_REQUEST, "the path %s", wrong);
    }
    if (!find_route(&parsed, method, rq, p)) {
        return false;
    }
    if (rq->route->handler != api_livez && !headers->recovers) {
        if (atomic_load(&ctx->draining)) {
            return problem_set(p, PROBLEM_DRAINING, "the server is shutting down");
        }
        if (atomic_load(&ctx->recovering)) {
            return problem_set(p, PROBLEM_RECOVERING,
                               "the server is reading its data directory; GET /readyz says when it "
                               "is done");
        }
    }
    return take_variables(&parsed, rq, p) && router_take_query(ctx, &parsed, rq, p) &&
           take_instance(ctx, rq, p) && router_check_load(rq, p) &&
           router_take_headers(ctx, headers, rq, p) && check_if_match(rq, p) &&
           (may_be_repeat(rq) || api_check_quarantine(rq, p));
}

bool router_begin(api_context *ctx, const char *method, const char *target,
                  const router_headers *headers, api_request *rq, problem *p)
{
    const bool begun = begin(ctx, method, target, headers, rq, p);
    if (!begun) {
        api_blame_worker(ctx, rq, p);
    }
    return begun;
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

/* A byte that is read or written as text, or hashed, takes as long as this many that are copied. */
#define TEXT_WEIGHT 16

size_t router_cost(const api_request *rq)
{
    const bool as_text = (rq->body != NULL && rq->sent != MEDIA_SAFETENSORS) ||
                         (rq->wanted != MEDIA_SAFETENSORS && rq->wanted != MEDIA_OCTETS);
    size_t cost = rq->body != NULL ? rq->body->length : 0;
    if (rq->instance != NULL && rq->route->whole) {
        cost += instance_info(rq->instance).bytes;
    }
    if (rq->instance != NULL && rq->route->handler == api_history) {
        cost += history_bytes(rq->instance->history);
    }
    return as_text ? cost * TEXT_WEIGHT : cost;
}

static bool run(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    if (rq->instance != NULL && atomic_load(&rq->instance->removed)) {
        return problem_set(p, PROBLEM_NO_SUCH_OPTIMIZER, "there is no optimizer '%s' any more",
                           rq->optimizer);
    }
    const bool keeps = (rq->route->query & ROUTE_KEEPS) != 0;
    if (!check_if_match(rq, p) || (keeps && !api_reserve_request(ctx, rq, p))) {
        return false;
    }
    return rq->route->handler(ctx, rq, r, p) &&
           (!keeps || r->wait != REPLY_READY || /* it has yet to be done */
            api_keep_change(ctx, rq, p));
}

bool router_may_wait_for_disk(const api_context *ctx, const api_request *rq)
{
    return ctx->store != NULL && store_is_always(ctx->store) &&
           (rq->is_step || (rq->route->query & ROUTE_KEEPS) != 0 ||
            rq->route->handler == api_create || rq->route->handler == api_delete);
}

bool router_run(api_context *ctx, api_request *rq, reply *r)
{
    problem p;
    const bool watched = router_strand(rq) != NULL && api_is_waited_at(rq->instance);
    optimizer_info before;
    if (watched) {
        before = instance_info(rq->instance);
    }
    const bool done = run(ctx, rq, r, &p);
    if (done && r->wait != REPLY_READY) {
        return r->wait == REPLY_WAITS;
    }
    if (watched) {
        api_changed(ctx, rq->instance, &before);
    }
    if (!done) {
        api_blame_memory(ctx, rq, &p);
        api_blame_worker(ctx, rq, &p);
    }
    const bool is_about_another = done && r->etag[0] != '\0'; /* which it has made */
    if (rq->instance != NULL && !atomic_load(&rq->instance->removed) && !is_about_another) {
        const optimizer_info info = instance_info(rq->instance);
        api_etag(&info, r->etag, sizeof r->etag);
    }
    if (!done) {
        reply_problem(r, &p, ctx->buffers);
        return false;
    }
    const bool waits = api_waits_for_disk(ctx, rq);
    if (waits) {
        api_wait_for_disk(ctx, rq);
    }
    return waits;
}
