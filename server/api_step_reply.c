/* api_step_reply.c: the answer to a step, in each of its forms. */
#include <string.h>

#include "api_step.h"
#include "codec_numbers.h"
#include "codec_safetensors.h"
#include "number.h"

/* Bytes that a reply may need beside names and numbers. */
#define REPLY_SLACK        ((size_t)1024)
#define REPLY_GROUP_SLACK  ((size_t)256)
#define REPLY_TENSOR_SLACK ((size_t)320)
#define ESCAPED_MAX        ((size_t)6) /* bytes of a character in a JSON string */

void outcome_drop(outcome *did)
{
    buffer_drop(did->room);
    text_drop(&did->group_text);
    api_note_drop(&did->note);
}

bool outcome_begin(api_context *ctx, const adam_optimizer *o, outcome *did, problem *p)
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

bool step_reply_reserve(const outgoing *out, const outcome *did, bool json, text *t, problem *p)
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
    if (did->held > 0) {
        add_number_metadata(t, "pending", (double)did->held);
    }
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

static int status_of(const outcome *did)
{
    return did->held > 0 ? 202 : 200;
}

void step_reply_make(const outgoing *out, outcome *did, media wanted, text *t, reply *r)
{
    if (wanted == MEDIA_JSON) {
        text_add_format(t, "{\"step\": %llu, \"params\": ", (unsigned long long)did->stats.step);
        show_tensors(t, out->tensors, out->n);
        text_add_string(t, ", \"stats\": {");
        show_stats(t, &did->stats);
        text_add_string(t, ", \"param_groups\": ");
        show_group_stats(t, did->groups, did->n_groups, did->stats.clip_coef);
        text_add_string(t, "}");
        if (did->held > 0) {
            text_add_string(t, ", \"pending\": ");
            text_add_uint(t, did->held);
        }
        text_add_string(t, "}");
        reply_json_after(r, status_of(did), t);
        return;
    }
    add_header(t, out, did);
    reply_tensors(r, wanted, t, out->data, out->data_offset, out->data_length);
    r->status = status_of(did);
}

void step_reply_minimal(const outcome *did, reply *r)
{
    reply_empty(r, did->held > 0 ? 202 : 204);
    r->minimal = true;
}

bool step_reply_current(api_context *ctx, api_request *rq, const tensor_body *body, outcome *did,
                        reply *r, problem *p)
{
    const adam_optimizer *o = rq->instance->optimizer;
    const adam_dtype *dtype = rq->query.has_dtype ? &rq->query.dtype : NULL;
    outgoing out;
    text t = {.pool = ctx->buffers};
    if (rq->minimal) {
        step_reply_minimal(did, r);
        return true;
    }
    bool done = outgoing_room(ctx->buffers, body->tensors, body->n, o, dtype, &out) ||
                problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for the reply within the budget");
    done = done && step_reply_reserve(&out, did, rq->wanted == MEDIA_JSON, &t, p);
    if (done) {
        outgoing_fill(o, &out);
        step_reply_make(&out, did, rq->wanted, &t, r);
    }
    outgoing_drop(&out);
    return done;
}
