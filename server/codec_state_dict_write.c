/* codec_state_dict_write.c: printing a state_dict, in JSON or safetensors. */
#include <string.h>

#include "codec_grad_options.h"
#include "codec_numbers.h"
#include "codec_options.h"
#include "codec_state_dict.h"
#include "codec_state_dict_kinds.h"

/* `"algorithm": …, "step": …, "grad_scale": …, "param_groups": […]`, which both forms have. */
static void add_head(text *t, const adam_optimizer *o)
{
    const adam_grad_options grad_options = adam_optimizer_grad_options(o);
    text_add_format(t, "\"algorithm\": \"%s\", \"step\": %llu, ",
                    adam_algorithm_name(adam_optimizer_algorithm(o)),
                    (unsigned long long)adam_optimizer_step_count(o));
    grad_options_add(t, &grad_options);
    text_add_string(t, ", \"param_groups\": [");
    for (size_t g = 0; g < adam_optimizer_group_count(o); g++) {
        const adam_group_view group = adam_optimizer_group(o, g);
        text_add_string(t, g > 0 ? ", {\"params\": [" : "{\"params\": [");
        for (size_t i = 0; i < group.n_params; i++) {
            const adam_tensor own = adam_optimizer_param(o, group.first_param + i).tensor;
            text_add_string(t, i > 0 ? ", " : "");
            json_add_string(t, own.name, own.name_len);
        }
        text_add_string(t, "], ");
        group_options_add(t, &group);
        text_add(t, "}", 1);
    }
    text_add(t, "]", 1);
}

/* One tensor of the parameter as a nested list. */
static void add_kind(text *t, const adam_param_view *param, int kind)
{
    adam_tensor tensor = param->tensor;
    tensor.data = (void *)state_kind_data(param, kind); /* printed, not written to */
    json_add_tensor(t, &tensor);
}

void state_dict_add_json(text *t, const adam_optimizer *o)
{
    const size_t n = adam_optimizer_param_count(o);
    text_add(t, "{", 1);
    add_head(t, o);
    text_add_string(t, ", \"params\": {");
    for (size_t i = 0; i < n; i++) {
        const adam_param_view p = adam_optimizer_param(o, i);
        text_add_string(t, i > 0 ? ", " : "");
        json_add_string(t, p.tensor.name, p.tensor.name_len);
        text_add_string(t, ": {\"shape\": ");
        json_add_shape(t, p.tensor.rank, p.tensor.shape);
        text_add_format(t, ", \"dtype\": \"%s\", \"data\": ", adam_dtype_name(p.tensor.dtype));
        add_kind(t, &p, STATE_PARAM);
        text_add(t, "}", 1);
    }
    text_add_string(t, "}, \"state\": {");
    for (size_t i = 0; i < n; i++) {
        const adam_param_view p = adam_optimizer_param(o, i);
        text_add_string(t, i > 0 ? ", " : "");
        json_add_string(t, p.tensor.name, p.tensor.name_len);
        text_add_format(t, ": {\"step\": %llu", (unsigned long long)p.step);
        for (int kind = STATE_EXP_AVG; kind < STATE_KINDS; kind++) {
            if (state_kind_data(&p, kind) != NULL) {
                text_add_format(t, ", \"%s\": ", state_kind_names[kind]);
                add_kind(t, &p, kind);
            }
        }
        text_add(t, "}", 1);
    }
    text_add_string(t, "}}");
}

/* The wider type comes first, so that all are aligned. */
void state_dict_each_tensor(const adam_optimizer *o, state_dict_visit *visit, void *context)
{
    static const adam_dtype order[] = {ADAM_FLOAT64, ADAM_FLOAT32};
    static const char *const prefixes[STATE_KINDS] = {"params/", "exp_avg/", "exp_avg_sq/",
                                                      "max_exp_avg_sq/"};
    for (size_t d = 0; d < sizeof order / sizeof order[0]; d++) {
        for (int kind = 0; kind < STATE_KINDS; kind++) {
            for (size_t i = 0; i < adam_optimizer_param_count(o); i++) {
                const adam_param_view p = adam_optimizer_param(o, i);
                adam_tensor t = p.tensor;
                t.data = (void *)state_kind_data(&p, kind); /* read, not written to */
                if (t.dtype == order[d] && t.data != NULL) {
                    visit(context, prefixes[kind], &t);
                }
            }
        }
    }
}

void state_dict_add_description(text *t, const adam_optimizer *o)
{
    text_add(t, "{", 1);
    add_head(t, o);
    text_add_string(t, ", \"steps\": {");
    for (size_t i = 0; i < adam_optimizer_param_count(o); i++) {
        const adam_param_view p = adam_optimizer_param(o, i);
        text_add_string(t, i > 0 ? ", " : "");
        json_add_string(t, p.tensor.name, p.tensor.name_len);
        text_add_format(t, ": %llu", (unsigned long long)p.step);
    }
    text_add_string(t, "}}");
}

typedef struct header_writer {
    text *text;
    uint64_t offset;
} header_writer;

static void write_tensor(void *context, const char *prefix, const adam_tensor *tensor)
{
    header_writer *w = context;
    w->offset = safetensors_add_tensor(w->text, prefix, tensor, w->offset);
}

uint64_t state_dict_add_header(text *t, const adam_optimizer *o)
{
    text description = {.pool = t->pool};
    state_dict_add_description(&description, o);
    header_writer w = {.text = t};
    safetensors_begin(t);
    if (description.failed) {
        t->failed = true;
    } else {
        safetensors_add_metadata(t, "state_dict", description.buffer->data,
                                 description.buffer->length);
    }
    text_drop(&description);
    safetensors_end_metadata(t);
    state_dict_each_tensor(o, write_tensor, &w);
    safetensors_end(t);
    return w.offset;
}

static void copy_tensor(void *context, const char *prefix, const adam_tensor *tensor)
{
    char **to = context;
    uint64_t numel = 0;
    (void)prefix;
    (void)adam_shape_numel(tensor->rank, tensor->shape, &numel);
    const size_t bytes = numel * adam_dtype_size(tensor->dtype);
    if (bytes > 0) {
        memcpy(*to, tensor->data, bytes);
        *to += bytes;
    }
}

void state_dict_copy_data(const adam_optimizer *o, char *data)
{
    state_dict_each_tensor(o, copy_tensor, &data);
}
