/* router_query.c: what stands in a target's query. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "codec_safetensors.h"
#include "router_internal.h"

static bool take_name(const path_segment *value, const char *key, char *name, problem *p)
{
    if (value->length > REGISTRY_MAX_NAME) {
        return problem_set(p, PROBLEM_INVALID_QUERY, "%s is longer than any name", key);
    }
    memcpy(name, value->text, value->length + 1);
    return true;
}

static bool take_prefix(const path_segment *value, api_query *q, problem *p)
{
    return take_name(value, "prefix", q->prefix, p);
}

static bool take_after(const path_segment *value, api_query *q, problem *p)
{
    return take_name(value, "after", q->after, p);
}

static bool take_limit(const path_segment *value, api_query *q, problem *p)
{
    return (path_number(value->text, value->length, API_LIST_LIMIT_MAX, &q->limit) &&
            q->limit > 0) ||
           problem_set(p, PROBLEM_INVALID_QUERY, "limit is expected as a number from 1 to %d",
                       API_LIST_LIMIT_MAX);
}

static bool take_data(const path_segment *value, api_query *q, problem *p)
{
    q->data = strcmp(value->text, "all") == 0 ? SHOW_DATA_ALL : SHOW_DATA_NONE;
    return q->data == SHOW_DATA_ALL || strcmp(value->text, "none") == 0 ||
           problem_set(p, PROBLEM_INVALID_QUERY, "data is expected to be all or none");
}

static bool take_dtype(const path_segment *value, api_query *q, problem *p)
{
    static const adam_dtype known[] = {ADAM_FLOAT32, ADAM_FLOAT64, ADAM_BFLOAT16, ADAM_FLOAT16};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcasecmp(value->text, safetensors_dtype_name(known[i])) == 0) {
            q->has_dtype = true;
            q->dtype = known[i];
            return true;
        }
    }
    return problem_set(p, PROBLEM_INVALID_QUERY, "dtype is '%.64s', expected f32, f64, bf16 or f16",
                       value->text);
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

static bool take_load(const path_segment *value, api_query *q, problem *p)
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

bool router_check_load(const api_request *rq, problem *p)
{
    return (rq->route->query & ROUTE_QUERY_LOAD) == 0 || rq->query.load != STATE_DICT_LOAD_UNSAID ||
           refuse_load(p, "missing");
}

static bool take_wait(const path_segment *value, api_query *q, problem *p)
{
    return (path_number(value->text, value->length, API_MAX_WAIT, &q->wait) && q->wait > 0) ||
           problem_set(p, PROBLEM_INVALID_QUERY,
                       "wait is '%.64s', expected a number of seconds from 1 to %d", value->text,
                       API_MAX_WAIT);
}

/* q->last says until then how many there are. */
static bool take_last(const path_segment *value, api_query *q, problem *p)
{
    const size_t most = q->last;
    return (path_number(value->text, value->length, most, &q->last) && q->last > 0) ||
           problem_set(
               p, PROBLEM_INVALID_QUERY,
               "last is '%.64s', expected a number from 1 to %zu, which is all that is kept",
               value->text, most);
}

/* Each key, and the routes that know it. */
static const struct query_key {
    const char *name;
    unsigned routes; /* ROUTE_QUERY_… */
    bool (*take)(const path_segment *value, api_query *q, problem *p);
} keys[] = {
    {"prefix", ROUTE_QUERY_LIST, take_prefix}, {"after", ROUTE_QUERY_LIST, take_after},
    {"limit", ROUTE_QUERY_LIST, take_limit},   {"data", ROUTE_QUERY_DATA, take_data},
    {"dtype", ROUTE_QUERY_DTYPE, take_dtype},  {"load", ROUTE_QUERY_LOAD, take_load},
    {"last", ROUTE_QUERY_LAST, take_last},     {"wait", ROUTE_QUERY_WAIT, take_wait},
};

static const struct query_key *find_key(const route *r, const char *name)
{
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if ((keys[i].routes & r->query) != 0 && strcmp(keys[i].name, name) == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

bool router_take_query(const api_context *ctx, const path *target, api_request *rq, problem *p)
{
    rq->query.limit = API_LIST_LIMIT;
    rq->query.last = rq->route->handler == api_changes ? CHANGES_MAX_LINES : ctx->config->history;
    for (size_t i = 0; i < target->n_query; i++) {
        const char *name = target->query[i].key.text;
        for (size_t k = 0; k < i; k++) {
            if (strcmp(target->query[k].key.text, name) == 0) {
                return problem_set(p, PROBLEM_INVALID_QUERY,
                                   "query parameter '%.64s' is given twice", name);
            }
        }
        const struct query_key *key = find_key(rq->route, name);
        if (key == NULL) {
            return problem_set(p, PROBLEM_INVALID_QUERY, "unknown query parameter '%.64s'", name);
        }
        if (!key->take(&target->query[i].value, &rq->query, p)) {
            return false;
        }
    }
    return true;
}
