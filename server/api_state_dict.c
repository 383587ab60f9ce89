/* api_state_dict.c: the whole state, out and back in, and its digest. */
#include <stdio.h>

#include "api.h"
#include "codec_state_dict.h"
#include "state_digest.h"

bool api_get_state_dict(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    const adam_optimizer *o = rq->instance->optimizer;
    text t = {.pool = ctx->buffers};
    if (rq->wanted == MEDIA_JSON) {
        state_dict_add_json(&t, o);
        return reply_json(r, 200, &t, p);
    }
    const size_t bytes = state_dict_add_header(&t, o);
    buffer *data = buffer_get(ctx->buffers, bytes);
    if (t.failed || data == NULL) {
        text_drop(&t);
        buffer_drop(data);
        return problem_set(p, PROBLEM_OUT_OF_MEMORY,
                           "no memory within the budget for a copy of the state, %zu bytes", bytes);
    }
    state_dict_copy_data(o, data->data);
    reply_tensors(r, rq->wanted, &t, data, 0, bytes);
    buffer_drop(data);
    return true;
}

static adam_status load(adam_optimizer *o, state_dict_load what, const state_dict *s,
                        adam_error *why)
{
    return what == STATE_DICT_LOAD_PARAMS
               ? adam_optimizer_set_params(o, s->params, s->n_params, why)
               : adam_optimizer_load_state(o, &s->dict, why);
}

/* Notes what was loaded; `before` it, the optimizer was at that step. */
static void note_load(const instance *inst, state_dict_load what, uint64_t before)
{
    if (what == STATE_DICT_LOAD_PARAMS) {
        api_note_change(inst, "params", NULL, NULL);
        return;
    }
    char from[64];
    char to[64];
    (void)snprintf(from, sizeof from, "{\"step\": %llu}", (unsigned long long)before);
    (void)snprintf(to, sizeof to, "{\"step\": %llu}",
                   (unsigned long long)adam_optimizer_step_count(inst->optimizer));
    api_note_change(inst, "state_dict", from, to);
}

bool api_put_state_dict(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    instance *inst = rq->instance;
    codec_error error;
    state_dict s;
    const codec_status st =
        rq->sent == MEDIA_JSON
            ? state_dict_read_json(ctx->buffers, rq->body, inst->optimizer, rq->query.load, &s,
                                   &error)
            : state_dict_read_safetensors(ctx->buffers, rq->body, ctx->config->max_json_body,
                                          inst->optimizer, rq->query.load, &s, &error);
    bool done = st == CODEC_OK || problem_from_codec(p, &error);
    adam_error why;
    const uint64_t step = adam_optimizer_step_count(inst->optimizer);
    if (done && load(inst->optimizer, rq->query.load, &s, &why) != ADAM_OK) {
        done = problem_from_adam(p, &why);
    }
    state_dict_drop(&s);
    if (done) {
        instance_unpublish(inst);
        instance_rewritten(inst, registry_next_epoch(ctx->registry));
        note_load(inst, rq->query.load, step);
        reply_empty(r, 204);
    }
    return done;
}

bool api_get_digest(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    const adam_optimizer *o = rq->instance->optimizer;
    char digest[STATE_DIGEST_SIZE];
    if (!state_digest(o, digest)) {
        return problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory to compute the digest");
    }
    text t = {.pool = ctx->buffers};
    text_add_format(&t, "{\"digest\": \"%s\", \"step\": %llu}", digest,
                    (unsigned long long)adam_optimizer_step_count(o));
    return reply_json(r, 200, &t, p);
}
