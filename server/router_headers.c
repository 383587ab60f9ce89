/* router_headers.c: what the headers of a request say, held against its route. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "router_internal.h"

static bool refuse_media(const api_request *rq, const char *content_type, problem *p)
{
    const char *expected = rq->route->body == ROUTE_PATCH
                               ? "application/merge-patch+json or application/json"
                               : "application/json or application/vnd.safetensors";
    problem_set(p, PROBLEM_UNSUPPORTED_MEDIA_TYPE, "Content-Type is %.128s, expected %s",
                content_type == NULL      ? "missing"
                : content_type[0] == '\0' ? "empty"
                                          : content_type,
                expected);
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

static bool refuse_header(const char *header, const char *value, const char *expected, problem *p)
{
    problem_set(p, PROBLEM_MALFORMED_REQUEST, "%s is '%.64s', expected %s", header, value,
                expected);
    strcpy(p->header, header);
    return false;
}

/* A name of visible ASCII characters. */
static bool take_visible(const char *header, const char *value, size_t most, const char **out,
                         problem *p)
{
    const size_t length = value != NULL ? strlen(value) : 1;
    bool visible = length >= 1 && length <= most;
    for (size_t i = 0; value != NULL && i < length; i++) {
        visible = visible && value[i] > ' ' && value[i] < 0x7f;
    }
    if (!visible) {
        problem_set(p, PROBLEM_MALFORMED_REQUEST,
                    "%s is expected as 1 to %zu visible ASCII characters", header, most);
        strcpy(p->header, header);
    }
    *out = visible ? value : NULL; /* such a one is nobody's name */
    return visible;
}

/* Every float32 can tell such weights apart, and add up a round of them. */
#define WEIGHT_MIN 1e-30
#define WEIGHT_MAX 1e30

static bool take_weight(const char *value, api_request *rq, problem *p)
{
    rq->weight = 1;
    if (value == NULL) {
        return true;
    }
    char *end;
    const bool digits = value[0] != '\0' && strspn(value, "0123456789.eE+-") == strlen(value);
    rq->weight = strtod(value, &end);
    return (digits && *end == '\0' && rq->weight >= WEIGHT_MIN && rq->weight <= WEIGHT_MAX) ||
           refuse_header("Adam-Weight", value, "a number above 0, from 1e-30 to 1e30", p);
}

static bool take_based_on(const char *value, api_request *rq, problem *p)
{
    size_t step = 0;
    rq->has_based_on = value != NULL;
    if (value != NULL && !path_number(value, strlen(value), ADAM_MAX_STEP, &step)) {
        return refuse_header("Adam-Based-On", value, "the number of a step", p);
    }
    rq->based_on = step;
    return true;
}

/* What belongs to a step alone. */
static bool take_step_headers(const router_headers *h, api_request *rq, problem *p)
{
    if (!rq->is_step) {
        const char *header = h->key != NULL        ? "Idempotency-Key"
                             : h->weight != NULL   ? "Adam-Weight"
                             : h->based_on != NULL ? "Adam-Based-On"
                                                   : NULL;
        if (header != NULL) {
            problem_set(p, PROBLEM_MALFORMED_REQUEST, "%s belongs to a step, which this is not",
                        header);
            strcpy(p->header, header);
        }
        return header == NULL;
    }
    return take_visible("Idempotency-Key", h->key, IDEMPOTENCY_MAX_KEY, &rq->key, p) &&
           take_weight(h->weight, rq, p) && take_based_on(h->based_on, rq, p);
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

bool router_take_headers(const api_context *ctx, const router_headers *h, api_request *rq,
                         problem *p)
{
    rq->minimal = prefers_minimal(h->prefer);
    return take_visible("Adam-Worker", h->worker, REGISTRY_MAX_NAME, &rq->worker, p) &&
           take_step_headers(h, rq, p) && take_content_type(h, rq, p) && take_accept(h, rq, p) &&
           check_length(ctx, h, rq, p) && take_last_event_id(h->last_event_id, rq, p);
}
