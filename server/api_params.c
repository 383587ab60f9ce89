/* api_params.c: parameters, read and overwritten. */
#include <string.h>

#include "api.h"
#include "codec_numbers.h"
#include "codec_safetensors.h"
#include "codec_tensor_body.h"
#include "outgoing.h"

static bool no_memory(problem *p)
{
    return problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for the reply within the budget");
}

/* Copies all parameters to a buffer of their own and publishes it: the wider type first, so that
 * all are aligned. */
static bool publish_copy(api_context *ctx, instance *inst, problem *p)
{
    static const adam_dtype order[] = {ADAM_FLOAT64, ADAM_FLOAT32};
    const adam_optimizer *o = inst->optimizer;
    const size_t n = adam_optimizer_param_count(o);
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        const adam_param_view v = adam_optimizer_param(o, i);
        bytes += v.numel * adam_dtype_size(v.tensor.dtype);
    }
    buffer *data = buffer_get(ctx->buffers, bytes);
    buffer *offsets = buffer_get(ctx->buffers, n * sizeof(size_t));
    if (data == NULL || offsets == NULL) {
        buffer_drop(data);
        buffer_drop(offsets);
        return no_memory(p);
    }
    size_t *offset = (void *)offsets->data;
    size_t end = 0;
    for (size_t d = 0; d < sizeof order / sizeof order[0]; d++) {
        for (size_t i = 0; i < n; i++) {
            const adam_param_view v = adam_optimizer_param(o, i);
            if (v.tensor.dtype != order[d]) {
                continue;
            }
            const size_t length = v.numel * adam_dtype_size(v.tensor.dtype);
            offset[i] = end;
            if (length > 0) {
                memcpy(data->data + end, v.tensor.data, length);
            }
            end += length;
        }
    }
    inst->params = (published){.data = data, .offsets = offsets, .data_length = bytes};
    return true;
}

/* Begins the header of a file of all parameters. */
static void begin_header(api_context *ctx, const adam_optimizer *o, text *t)
{
    text step = {.pool = ctx->buffers};
    json_add_uint(&step, adam_optimizer_step_count(o));
    safetensors_begin(t);
    if (!step.failed) {
        safetensors_add_metadata(t, "step", step.buffer->data, step.buffer->length);
    }
    t->failed = t->failed || step.failed;
    text_drop(&step);
    safetensors_end_metadata(t);
}

/* Ends the header of a file with that data, and makes it the reply. */
static bool end_file(api_request *rq, text *t, buffer *data, size_t offset, size_t length, reply *r,
                     problem *p)
{
    safetensors_end(t);
    if (t->failed) {
        text_drop(t);
        return no_memory(p);
    }
    reply_tensors(r, rq->wanted, t, data, offset, length);
    return true;
}

/* All parameters in the types they have: what is published, or a copy that is published now. */
static bool all_as_safetensors(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    instance *inst = rq->instance;
    const adam_optimizer *o = inst->optimizer;
    if (inst->params.data == NULL && !publish_copy(ctx, inst, p)) {
        return false;
    }
    text t = {.pool = ctx->buffers};
    begin_header(ctx, o, &t);
    inst->params.idle = 0;
    const size_t *offset = (const void *)inst->params.offsets->data;
    for (size_t i = 0; i < adam_optimizer_param_count(o); i++) {
        const adam_tensor tensor = adam_optimizer_param(o, i).tensor;
        (void)safetensors_add_tensor(&t, "", &tensor, offset[i]);
    }
    if (!end_file(rq, &t, inst->params.data, inst->params.data_offset, inst->params.data_length, r,
                  p)) {
        return false;
    }
    if (inst->params.data_length < API_PUBLISH_MIN) {
        instance_unpublish(inst);
    }
    return true;
}

static bool all_as_json(api_context *ctx, const adam_optimizer *o, const adam_tensor *tensors,
                        reply *r, problem *p)
{
    text t = {.pool = ctx->buffers};
    text_add_format(&t, "{\"step\": %llu, \"params\": {",
                    (unsigned long long)adam_optimizer_step_count(o));
    for (size_t i = 0; i < adam_optimizer_param_count(o) && !t.failed; i++) {
        const adam_tensor tensor = tensors != NULL ? tensors[i] : adam_optimizer_param(o, i).tensor;
        text_add_string(&t, i > 0 ? ", " : "");
        json_add_string(&t, tensor.name, tensor.name_len);
        text_add_string(&t, ": ");
        json_add_tensor(&t, &tensor);
    }
    text_add_string(&t, "}}");
    return reply_json(r, 200, &t, p);
}

/* All parameters in another type. */
static bool all_converted(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    const adam_optimizer *o = rq->instance->optimizer;
    const size_t n = adam_optimizer_param_count(o);
    outgoing out;
    bool done = outgoing_of_params(ctx->buffers, o, 0, n, rq->query.dtype, &out) || no_memory(p);
    if (done && rq->wanted == MEDIA_JSON) {
        done = all_as_json(ctx, o, out.tensors, r, p);
    } else if (done) {
        text t = {.pool = ctx->buffers};
        uint64_t end = 0;
        begin_header(ctx, o, &t);
        for (size_t i = 0; i < n; i++) {
            end = safetensors_add_tensor(&t, "", &out.tensors[i], end);
        }
        done = end_file(rq, &t, out.data, out.data_offset, out.data_length, r, p);
    }
    outgoing_drop(&out);
    return done;
}

bool api_get_params(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    bool known = false;
    if (rq->if_none_match != NULL) {
        char etag[64];
        const optimizer_info info = instance_info(rq->instance);
        api_etag(&info, etag, sizeof etag);
        known = api_none_match_names(rq->if_none_match, etag);
    }
    if (rq->query.wait > 0 && (known || rq->if_none_match == NULL)) {
        return api_wait_for_change(ctx, rq, r, p);
    }
    if (known) {
        reply_empty(r, 304);
        return true;
    }
    if (rq->query.has_dtype) {
        return all_converted(ctx, rq, r, p);
    }
    return rq->wanted == MEDIA_JSON ? all_as_json(ctx, rq->instance->optimizer, NULL, r, p)
                                    : all_as_safetensors(ctx, rq, r, p);
}

bool api_put_params(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    codec_error error;
    tensor_body body;
    instance *inst = rq->instance;
    const codec_status st =
        rq->sent == MEDIA_JSON
            ? tensor_body_read_json(ctx->buffers, rq->body, TENSOR_BODY_PARAMS, inst->optimizer,
                                    &body, &error)
            : tensor_body_read_safetensors(ctx->buffers, rq->body, ctx->config->max_json_body,
                                           TENSOR_BODY_PARAMS, inst->optimizer, &body, &error);
    bool done = st == CODEC_OK ? true : problem_from_codec(p, &error);
    adam_error why;
    if (done && adam_optimizer_set_params(inst->optimizer, body.tensors, body.n, &why) != ADAM_OK) {
        done = problem_from_adam(p, &why);
    }
    tensor_body_drop(&body);
    if (done) {
        instance_unpublish(inst);
        instance_rewritten(inst, registry_next_epoch(ctx->registry));
        api_note_change(inst, "params", NULL, NULL);
        reply_empty(r, 204);
    }
    return done;
}

static bool find_param(const api_request *rq, size_t *param, problem *p)
{
    if (adam_optimizer_find(rq->instance->optimizer, rq->param, rq->param_length, param)) {
        return true;
    }
    problem_set(p, PROBLEM_NO_SUCH_PARAM, "optimizer '%s' has no parameter '%s'", rq->optimizer,
                rq->param);
    memcpy(p->param, rq->param, sizeof p->param);
    return false;
}

/* One parameter, or its converted copy, as a safetensors file. */
static bool one_as_safetensors(api_context *ctx, const api_request *rq, const adam_tensor *tensor,
                               reply *r, problem *p)
{
    uint64_t numel = 0;
    (void)adam_shape_numel(tensor->rank, tensor->shape, &numel);
    text t = {.pool = ctx->buffers};
    safetensors_begin(&t);
    safetensors_end_metadata(&t);
    (void)safetensors_add_tensor(&t, "", tensor, 0);
    safetensors_end(&t);
    text_add(&t, tensor->data, numel * adam_dtype_size(tensor->dtype));
    if (t.failed) {
        text_drop(&t);
        return no_memory(p);
    }
    r->status = 200;
    r->content_type = media_name(rq->wanted);
    r->text = t.buffer;
    return true;
}

bool api_get_param(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    const adam_optimizer *o = rq->instance->optimizer;
    size_t param;
    outgoing out = {0};
    if (!find_param(rq, &param, p)) {
        return false;
    }
    adam_tensor tensor = adam_optimizer_param(o, param).tensor;
    bool done = true;
    if (rq->query.has_dtype) {
        done = outgoing_of_params(ctx->buffers, o, param, 1, rq->query.dtype, &out) || no_memory(p);
        tensor = done ? out.tensors[0] : tensor;
    }
    if (done && rq->wanted != MEDIA_JSON) {
        done = one_as_safetensors(ctx, rq, &tensor, r, p);
    } else if (done) {
        text t = {.pool = ctx->buffers};
        show_tensor(&t, &tensor, SHOW_DATA_ALL);
        done = reply_json(r, 200, &t, p);
    }
    outgoing_drop(&out);
    return done;
}

bool api_get_state(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    size_t param;
    if (!find_param(rq, &param, p)) {
        return false;
    }
    text t = {.pool = ctx->buffers};
    show_state(&t, rq->instance->optimizer, param, rq->query.data);
    return reply_json(r, 200, &t, p);
}
