/* api_step.c: one optimizer step: gradients in, updated parameters out, in one buffer. */
#include "api.h"
#include "codec_numbers.h"
#include "codec_safetensors.h"
#include "codec_tensor_body.h"
#include "number.h"

/* Bytes that a reply may need beside names and numbers. */
#define REPLY_SLACK        ((size_t)1024)
#define REPLY_TENSOR_SLACK ((size_t)320)
#define ESCAPED_MAX        ((size_t)6) /* bytes of a character in a JSON string */

/* Room for the whole text of the reply, before the step: afterwards nothing may fail. */
static bool reserve_reply(const tensor_body *body, bool json, text *t, problem *p)
{
    size_t bytes = REPLY_SLACK;
    for (size_t i = 0; i < body->n; i++) {
        const adam_tensor *tensor = &body->tensors[i];
        uint64_t numel = 0;
        (void)adam_shape_numel(tensor->rank, tensor->shape, &numel);
        bytes += REPLY_TENSOR_SLACK + tensor->name_len * ESCAPED_MAX;
        if (json) {
            /* a digit string and ", ", and at most a bracket each way for every dimension */
            bytes += numel * (tensor->dtype == ADAM_FLOAT64 ? 28 : 20);
            uint64_t lists = 1;
            for (int d = 0; d < tensor->rank && numel > 0; d++) {
                bytes += lists * 4;
                lists *= tensor->shape[d];
            }
        }
    }
    if (!json && body->data_length <= REPLY_JOIN_MAX) {
        bytes += body->data_length;
    }
    return text_reserve(t, bytes) != NULL ||
           problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for the reply within the budget");
}

static void add_number_metadata(text *t, const char *key, double value)
{
    char digits[NUMBER_MAX_TEXT];
    size_t length = number_print_f64(value, digits);
    const bool quoted = digits[0] == '"'; /* the metadata is a string anyway */
    safetensors_add_metadata(t, key, digits + quoted, length - 2 * (size_t)quoted);
}

static void add_header(text *t, const tensor_body *body, const adam_step_stats *stats)
{
    safetensors_begin(t);
    add_number_metadata(t, "step", (double)stats->step);
    add_number_metadata(t, "grad_norm", stats->grad_norm);
    add_number_metadata(t, "param_norm", stats->param_norm);
    add_number_metadata(t, "update_norm", stats->update_norm);
    add_number_metadata(t, "clip_coef", stats->clip_coef);
    safetensors_end_metadata(t);
    const char *start = body->data->data + body->data_offset;
    for (size_t i = 0; i < body->n; i++) {
        const char *at = body->tensors[i].data;
        (void)safetensors_add_tensor(t, "", &body->tensors[i], (uint64_t)(at - start));
    }
    safetensors_end(t);
}

static void make_reply(const tensor_body *body, const adam_step_stats *stats, media wanted, text *t,
                       reply *r)
{
    if (wanted == MEDIA_JSON) {
        text_add_format(t, "{\"step\": %llu, \"params\": ", (unsigned long long)stats->step);
        show_tensors(t, body->tensors, body->n);
        text_add_string(t, ", \"stats\": {");
        show_stats(t, stats);
        text_add_string(t, "}}");
        reply_json_after(r, 200, t);
        return;
    }
    add_header(t, body, stats);
    reply_tensors(r, wanted, t, body->data, body->data_offset, body->data_length);
}

/* Keeps the new parameters for readers, where the step took in all of them. Without memory for it,
 * the next reader copies. */
static void publish(api_context *ctx, instance *inst, const tensor_body *body)
{
    const size_t n = adam_optimizer_param_count(inst->optimizer);
    if (body->n != n || body->data_length < API_PUBLISH_MIN) {
        return;
    }
    buffer *offsets = buffer_get(ctx->buffers, n * sizeof(size_t));
    if (offsets == NULL) {
        return;
    }
    size_t *offset = (void *)offsets->data;
    const char *start = body->data->data + body->data_offset;
    for (size_t i = 0; i < n; i++) {
        size_t param;
        (void)adam_optimizer_find(inst->optimizer, body->tensors[i].name, body->tensors[i].name_len,
                                  &param);
        offset[param] = (size_t)((const char *)body->tensors[i].data - start);
    }
    inst->params = (published){.data = buffer_hold(body->data),
                               .offsets = offsets,
                               .data_offset = body->data_offset,
                               .data_length = body->data_length};
}

static bool step(api_context *ctx, api_request *rq, const tensor_body *body, reply *r, problem *p)
{
    instance *inst = rq->instance;
    const adam_step_args args = {.grads = body->tensors,
                                 .n_grads = body->n,
                                 .groups = body->overrides,
                                 .params_into_grads = true,
                                 .pool = ctx->pool};
    adam_error error;
    adam_step_plan *plan;
    adam_step_stats stats;
    text t = {.pool = ctx->buffers};
    if (adam_step_prepare(inst->optimizer, &args, &plan, &error) != ADAM_OK) {
        return problem_from_adam(p, &error);
    }
    if (!rq->minimal && !reserve_reply(body, rq->wanted == MEDIA_JSON, &t, p)) {
        adam_step_discard(plan);
        return false;
    }
    instance_unpublish(inst);
    adam_step_apply(plan, &stats);
    publish(ctx, inst, body);
    instance_changed(inst);
    if (rq->minimal) {
        reply_empty(r, 204);
        r->minimal = true;
    } else {
        make_reply(body, &stats, rq->wanted, &t, r);
    }
    return true;
}

bool api_step(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    codec_error error;
    tensor_body body;
    const adam_optimizer *o = rq->instance->optimizer;
    const codec_status st =
        rq->sent == MEDIA_JSON
            ? tensor_body_read_json(ctx->buffers, rq->body, TENSOR_BODY_GRADS, o, &body, &error)
            : tensor_body_read_safetensors(ctx->buffers, rq->body, ctx->config->max_json_body,
                                           TENSOR_BODY_GRADS, o, &body, &error);
    const bool done = st == CODEC_OK ? step(ctx, rq, &body, r, p) : problem_from_codec(p, &error);
    tensor_body_drop(&body);
    return done;
}
