/* api_step.c: one optimizer step: gradients in, updated parameters out, in one buffer. */
#include <string.h>

#include "api.h"
#include "codec_numbers.h"
#include "codec_safetensors.h"
#include "codec_tensor_body.h"
#include "number.h"
#include "outgoing.h"

/* Bytes that a reply may need beside names and numbers. */
#define REPLY_SLACK        ((size_t)1024)
#define REPLY_GROUP_SLACK  ((size_t)256)
#define REPLY_TENSOR_SLACK ((size_t)320)
#define ESCAPED_MAX        ((size_t)6) /* bytes of a character in a JSON string */

/* What a step did, and the room for its norms by group, as numbers and as metadata. */
typedef struct outcome {
    adam_step_stats stats;
    adam_group_stats *groups;
    size_t n_groups;
    buffer *room;
    text group_text;
    step_note note;
} outcome;

static void drop_outcome(outcome *did)
{
    buffer_drop(did->room);
    text_drop(&did->group_text);
    api_note_drop(&did->note);
}

static bool begin_outcome(api_context *ctx, const adam_optimizer *o, outcome *did, problem *p)
{
    *did =
        (outcome){.n_groups = adam_optimizer_group_count(o), .group_text = {.pool = ctx->buffers}};
    did->room = buffer_get(ctx->buffers, did->n_groups * sizeof *did->groups);
    if (did->room == NULL ||
        text_reserve(&did->group_text, 2 + did->n_groups * REPLY_GROUP_SLACK) == NULL) {
        return problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for the step within the budget");
    }
    did->groups = (void *)did->room->data;
    return true;
}

/* Room for the whole text of the reply, before the step: afterwards nothing may fail. */
static bool reserve_reply(const outgoing *out, const outcome *did, bool json, text *t, problem *p)
{
    size_t bytes = REPLY_SLACK + did->n_groups * REPLY_GROUP_SLACK;
    for (size_t i = 0; i < out->n; i++) {
        const adam_tensor *tensor = &out->tensors[i];
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
    if (!json && out->data_length <= REPLY_JOIN_MAX) {
        bytes += out->data_length;
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

static void add_metadata(text *t, outcome *did)
{
    const adam_step_stats *stats = &did->stats;
    text *groups = &did->group_text;
    const char *skipped = stats->skipped ? "true" : "false";
    add_number_metadata(t, "step", (double)stats->step);
    add_number_metadata(t, "grad_norm", stats->grad_norm);
    add_number_metadata(t, "param_norm", stats->param_norm);
    add_number_metadata(t, "update_norm", stats->update_norm);
    add_number_metadata(t, "clip_coef", stats->clip_coef);
    safetensors_add_metadata(t, "skipped", skipped, strlen(skipped));
    add_number_metadata(t, "converted", (double)stats->converted);
    show_group_stats(groups, did->groups, did->n_groups, stats->clip_coef);
    safetensors_add_metadata(t, "param_groups", groups->buffer->data, groups->buffer->length);
}

static void add_header(text *t, const outgoing *out, outcome *did)
{
    safetensors_begin(t);
    add_metadata(t, did);
    safetensors_end_metadata(t);
    const char *start = out->data->data + out->data_offset;
    for (size_t i = 0; i < out->n; i++) {
        const char *at = out->tensors[i].data;
        (void)safetensors_add_tensor(t, "", &out->tensors[i], (uint64_t)(at - start));
    }
    safetensors_end(t);
}

static void make_reply(const outgoing *out, outcome *did, media wanted, text *t, reply *r)
{
    if (wanted == MEDIA_JSON) {
        text_add_format(t, "{\"step\": %llu, \"params\": ", (unsigned long long)did->stats.step);
        show_tensors(t, out->tensors, out->n);
        text_add_string(t, ", \"stats\": {");
        show_stats(t, &did->stats);
        text_add_string(t, ", \"param_groups\": ");
        show_group_stats(t, did->groups, did->n_groups, did->stats.clip_coef);
        text_add_string(t, "}}");
        reply_json_after(r, 200, t);
        return;
    }
    add_header(t, out, did);
    reply_tensors(r, wanted, t, out->data, out->data_offset, out->data_length);
}

/* Keeps the new parameters for readers, where the step took in all of them. Without memory for it,
 * the next reader copies. */
static void publish(api_context *ctx, instance *inst, const outgoing *out)
{
    const size_t n = adam_optimizer_param_count(inst->optimizer);
    if (!out->own_type || out->n != n || out->data_length < API_PUBLISH_MIN) {
        return;
    }
    buffer *offsets = buffer_get(ctx->buffers, n * sizeof(size_t));
    if (offsets == NULL) {
        return;
    }
    size_t *offset = (void *)offsets->data;
    const char *start = out->data->data + out->data_offset;
    for (size_t i = 0; i < n; i++) {
        size_t param;
        (void)adam_optimizer_find(inst->optimizer, out->tensors[i].name, out->tensors[i].name_len,
                                  &param);
        offset[param] = (size_t)((const char *)out->tensors[i].data - start);
    }
    inst->params = (published){.data = buffer_hold(out->data),
                               .offsets = offsets,
                               .data_offset = out->data_offset,
                               .data_length = out->data_length};
}

static bool step(api_context *ctx, api_request *rq, const tensor_body *body, const outgoing *out,
                 outcome *did, reply *r, problem *p)
{
    instance *inst = rq->instance;
    const adam_step_args args = {.grads = body->tensors,
                                 .n_grads = body->n,
                                 .out = out->tensors,
                                 .groups = body->overrides,
                                 .grad_options = &body->grad_options,
                                 .pool = ctx->pool,
                                 .scratch = &ctx->scratch};
    adam_error error;
    adam_step_plan *plan;
    text t = {.pool = ctx->buffers};
    if (adam_step_prepare(inst->optimizer, &args, &plan, &error) != ADAM_OK) {
        return problem_from_adam(p, &error);
    }
    if (!rq->minimal && !reserve_reply(out, did, rq->wanted == MEDIA_JSON, &t, p)) {
        adam_step_discard(plan);
        return false;
    }
    instance_unpublish(inst);
    adam_step_apply(plan, &did->stats, did->groups);
    publish(ctx, inst, out);
    instance_changed(inst);
    api_note_step(ctx, rq, &did->note, &did->stats, did->groups);
    if (rq->minimal) {
        reply_empty(r, 204);
        r->minimal = true;
    } else {
        make_reply(out, did, rq->wanted, &t, r);
    }
    return true;
}

static bool step_with(api_context *ctx, api_request *rq, const tensor_body *body, reply *r,
                      problem *p)
{
    const adam_optimizer *o = rq->instance->optimizer;
    const adam_dtype *dtype = rq->query.has_dtype ? &rq->query.dtype : NULL;
    outgoing out = {0};
    outcome did;
    bool done = begin_outcome(ctx, o, &did, p) &&
                api_note_begin(ctx, rq->instance, body->overrides, &did.note, p);
    if (done && !outgoing_of_step(ctx->buffers, body, o, dtype, &out)) {
        done = problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for the reply within the budget");
    }
    done = done && step(ctx, rq, body, &out, &did, r, p);
    outgoing_drop(&out);
    drop_outcome(&did);
    return done;
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
    const bool done =
        st == CODEC_OK ? step_with(ctx, rq, &body, r, p) : problem_from_codec(p, &error);
    tensor_body_drop(&body);
    return done;
}
