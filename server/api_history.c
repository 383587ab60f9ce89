/* api_history.c: what has happened to an optimizer: its last steps, at once or as they come, and
 * its changes. Needs no turn in its strand: a long step keeps nobody from reading. */
#include <string.h>

#include "api.h"

/* Prints the records from `place` to before `end`, a line each. Where they go faster than they are
 * printed, what remains is printed. False: no memory. */
static bool add_steps(api_context *ctx, history *h, uint64_t place, uint64_t end, text *t)
{
    const size_t start = text_length(t);
    history_page page = {0};
    history_status status = HISTORY_READ;
    while (place < end && !t->failed && status != HISTORY_NO_MEMORY) {
        status = history_read(h, place, ctx->buffers, &page);
        if (status == HISTORY_GONE) {
            place = history_first(h);
            t->buffer->length = start;
        }
        for (; page.left > 0 && place < end; place++) {
            step_record record;
            history_take(&page, &record);
            text_add_string(t, text_length(t) > start ? ",\n " : "\n ");
            show_step(t, &record);
        }
    }
    buffer_drop(page.data);
    return status != HISTORY_NO_MEMORY;
}

bool api_history(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    history *h = rq->instance->history;
    const uint64_t end = history_next(h);
    const uint64_t first = history_first(h);
    const uint64_t place = end - first > rq->query.last ? end - rq->query.last : first;
    text t = {.pool = ctx->buffers};
    text_add_string(&t, "{\"history\": [");
    if (!add_steps(ctx, h, place, end, &t)) {
        t.failed = true;
    }
    text_add_string(&t, "]}");
    return reply_json(r, 200, &t, p);
}

bool api_changes(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    text t = {.pool = ctx->buffers};
    text_add_string(&t, "{\"changes\": [");
    changes_show(rq->instance->changes, rq->query.last, &t);
    text_add_string(&t, "]}");
    return reply_json(r, 200, &t, p);
}

/* A client that names no step gets what comes from now on. One that does gets what came after it,
 * or is told that not all of it is left. */
static stream_start find_start(instance *inst, const api_request *rq)
{
    stream_start start = {.last_id = rq->last_id};
    if (!rq->has_last_id) {
        start.place = history_next(inst->history);
        return start;
    }
    /* both before the search: what comes meanwhile comes after it */
    const uint64_t next = history_next(inst->history);
    const bool is_now = instance_info(inst).step == rq->last_id;
    if (!history_find(inst->history, rq->last_id, &start.place)) {
        start.gap = !is_now;
        start.place = is_now ? next : start.place;
    }
    return start;
}

bool api_events(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    const stream_start start = find_start(rq->instance, rq);
    r->stream = stream_listen(ctx->streams, rq->instance->history, ctx->buffers, &start);
    if (r->stream == NULL) {
        return problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for a stream within the budget");
    }
    r->status = 200;
    r->content_type = media_name(MEDIA_EVENTS);
    r->close = true; /* after its end there is nothing more to ask for on this connection */
    return true;
}
