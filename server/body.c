/* body.c: receiving bodies, within their limits and the budget. */
#include "body.h"

#include <string.h>

/* First buffer of a body whose length is not announced. */
#define BODY_CHUNKED_FIRST ((size_t)64 << 10)

static void set_transit(api_context *ctx, api_request *rq, size_t bytes)
{
    atomic_fetch_add(&ctx->transit_bytes, bytes);
    atomic_fetch_sub(&ctx->transit_bytes, rq->transit);
    rq->transit = bytes;
}

static bool no_memory(api_context *ctx, const api_request *rq, size_t bytes, problem *p)
{
    const size_t limit = memory_limit(ctx->memory);
    problem_set(p, PROBLEM_OUT_OF_MEMORY,
                "no memory for a body of %zu bytes within the budget of %zu", bytes, limit);
    p->has_limit = true;
    p->limit_bytes = limit;
    api_blame_memory(ctx, rq, p);
    return false;
}

bool body_begin(api_context *ctx, const router_headers *headers, api_request *rq, problem *p)
{
    const size_t bytes = headers->has_length ? (size_t)headers->length : BODY_CHUNKED_FIRST;
    rq->body = buffer_get(ctx->buffers, bytes);
    if (rq->body == NULL) {
        return no_memory(ctx, rq, bytes, p);
    }
    set_transit(ctx, rq, rq->body->capacity);
    return true;
}

/* Only a body without a Content-Length ever needs it. */
static bool grow(api_context *ctx, api_request *rq, size_t needed)
{
    buffer *old = rq->body;
    const size_t bytes = old->capacity * 2 > needed ? old->capacity * 2 : needed;
    buffer *bigger = buffer_get(ctx->buffers, bytes);
    if (bigger == NULL) {
        return false;
    }
    memcpy(bigger->data, old->data, old->length);
    bigger->length = old->length;
    rq->body = bigger;
    buffer_drop(old);
    set_transit(ctx, rq, bigger->capacity);
    return true;
}

bool body_take(api_context *ctx, api_request *rq, const char *bytes, size_t length, problem *p)
{
    const size_t needed = rq->body->length + length;
    const size_t limit = router_body_limit(ctx, rq);
    if (needed > limit) {
        problem_set(p, PROBLEM_BODY_TOO_LARGE,
                    "the body is larger than the %zu bytes that are taken", limit);
        p->has_limit = true;
        p->limit_bytes = limit;
        return false;
    }
    if (needed > rq->body->capacity && !grow(ctx, rq, needed)) {
        return no_memory(ctx, rq, needed, p);
    }
    memcpy(rq->body->data + rq->body->length, bytes, length);
    rq->body->length = needed;
    return true;
}

void body_drop(api_context *ctx, api_request *rq)
{
    buffer_drop(rq->body);
    rq->body = NULL;
    set_transit(ctx, rq, 0);
}
