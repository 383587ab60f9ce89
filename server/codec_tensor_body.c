/* codec_tensor_body.c: gradients and values on their way to the core. */
#include "codec_tensor_body.h"

#include <stdio.h>
#include <string.h>

#include "codec_grad_options.h"
#include "codec_names.h"
#include "codec_options.h"

#define FLOATS_BESIDE 64

void tensor_body_drop(tensor_body *b)
{
    json_free(b->doc);
    safetensors_drop(&b->file);
    tensor_list_drop(&b->list);
    buffer_drop(b->overrides_room);
    *b = (tensor_body){0};
}

/* `groups` is a list of one object for each group; what they leave out stays as it is. */
static codec_status read_overrides(buffer_pool *pool, const json_doc *doc, const json_value *groups,
                                   const adam_optimizer *optimizer, tensor_body *out,
                                   codec_error *error)
{
    static const char *const allowed[] = {CODEC_OPTION_NAMES, NULL};
    const size_t n = adam_optimizer_group_count(optimizer);
    const bool list = json_type_of(groups) == JSON_LIST || names_empty_list(doc, groups);
    if (!list || json_count(groups) != n) {
        return codec_fail(
            error, CODEC_INVALID_VALUE,
            "param_groups is expected as a list of %zu objects, one for each param group", n);
    }
    out->overrides_room = buffer_get(pool, n * sizeof *out->overrides);
    if (out->overrides_room == NULL) {
        return codec_fail(error, CODEC_NO_MEMORY, "no memory for %zu param groups", n);
    }
    out->overrides = (void *)out->overrides_room->data;
    out->groups = groups;
    size_t i = 0;
    codec_status st = CODEC_OK;
    for (const json_value *g = json_first(groups); st == CODEC_OK && g != NULL; g = json_next(g)) {
        char where[32];
        (void)snprintf(where, sizeof where, "param group %zu", i);
        if (json_type_of(g) != JSON_OBJECT) {
            return codec_fail(error, CODEC_INVALID_VALUE, "%s is %s, expected an object", where,
                              json_type_text(g));
        }
        out->overrides[i] = adam_optimizer_group(optimizer, i).options;
        st = json_check_names(g, allowed, where, error);
        if (st == CODEC_OK) {
            st = options_read(doc, g, where, &out->overrides[i], error);
        }
        i++;
    }
    return st;
}

codec_status tensor_body_reread_overrides(buffer_pool *pool, const adam_optimizer *optimizer,
                                          tensor_body *body, codec_error *error)
{
    adam_grad_options settings = adam_optimizer_grad_options(optimizer);
    codec_status st = CODEC_OK;
    if (body->own_grad_options) {
        st = body->file.header != NULL
                 ? grad_options_read_metadata(pool, &body->file, &settings, error)
                 : grad_options_read(body->doc, json_root(body->doc), "the step", &settings, error);
    }
    if (st != CODEC_OK) {
        return st;
    }
    if (body->overrides != NULL) {
        tensor_body now = {0};
        st = read_overrides(pool, body->doc, body->groups, optimizer, &now, error);
        if (st != CODEC_OK) {
            buffer_drop(now.overrides_room);
            return st;
        }
        buffer_drop(body->overrides_room);
        body->overrides_room = now.overrides_room;
        body->overrides = now.overrides;
    }
    body->grad_options = settings;
    return CODEC_OK;
}

static const char *const grad_option_names[] = {CODEC_GRAD_OPTION_NAMES, NULL};

/* How many numbers the body may have that are wanted as float32, and a few of options beside them.
 */
static size_t floats_of(const adam_optimizer *o)
{
    const bool any = adam_optimizer_param_count(o) > 0 &&
                     adam_optimizer_param(o, 0).tensor.dtype == ADAM_FLOAT32;
    return any ? adam_optimizer_numel(o) + FLOATS_BESIDE : 0; /* mixed types are rare */
}

codec_status tensor_body_read_json(buffer_pool *pool, const buffer *body, tensor_body_kind kind,
                                   const adam_optimizer *optimizer, tensor_body *out,
                                   codec_error *error)
{
    static const char *const step_members[] = {"grads", "param_groups", CODEC_GRAD_OPTION_NAMES,
                                               NULL};
    static const char *const params_members[] = {"params", NULL};
    const bool grads = kind == TENSOR_BODY_GRADS;
    const char *key = grads ? "grads" : "params";
    *out = (tensor_body){0};
    codec_status st =
        json_parse_floats(pool, body->data, body->length, floats_of(optimizer), &out->doc, error);
    if (st != CODEC_OK) {
        return st;
    }
    const json_value *root = json_root(out->doc);
    if (json_type_of(root) != JSON_OBJECT) {
        return codec_fail(error, CODEC_INVALID_VALUE, "the body is %s, expected an object",
                          json_type_text(root));
    }
    st = json_check_names(root, grads ? step_members : params_members, "the body", error);
    if (st != CODEC_OK) {
        return st;
    }
    const json_value *object = json_get(root, key);
    if (object == NULL || json_type_of(object) != JSON_OBJECT) {
        return codec_fail(error, CODEC_INVALID_VALUE,
                          "%s is %s, expected an object of nested lists by parameter name", key,
                          object != NULL ? json_type_text(object) : "missing");
    }
    st = tensor_list_read_object(pool, out->doc, object, grads ? "gradient" : "value", optimizer,
                                 &out->list, error);
    if (st != CODEC_OK) {
        return st;
    }
    out->tensors = out->list.tensors;
    out->n = out->list.n;
    out->data = out->list.data;
    out->data_offset = out->list.data_offset;
    out->data_length = out->list.data_length;
    out->grad_options = adam_optimizer_grad_options(optimizer);
    for (size_t i = 0; grads && grad_option_names[i] != NULL; i++) {
        out->own_grad_options |= json_get(root, grad_option_names[i]) != NULL;
    }
    st =
        grads ? grad_options_read(out->doc, root, "the step", &out->grad_options, error) : CODEC_OK;
    if (st != CODEC_OK) {
        return st;
    }
    const json_value *groups = json_get(root, "param_groups");
    return groups != NULL ? read_overrides(pool, out->doc, groups, optimizer, out, error)
                          : CODEC_OK;
}

codec_status tensor_body_read_safetensors(buffer_pool *pool, buffer *body, size_t max_header,
                                          tensor_body_kind kind, const adam_optimizer *optimizer,
                                          tensor_body *out, codec_error *error)
{
    static const char *const step_keys[] = {"format", "param_groups", CODEC_GRAD_OPTION_NAMES,
                                            NULL};
    static const char *const no_keys[] = {"format", NULL};
    *out = (tensor_body){0};
    codec_status st =
        safetensors_parse(pool, body->data, body->length, max_header, &out->file, error);
    if (st == CODEC_OK) {
        st = safetensors_check_metadata(&out->file, kind == TENSOR_BODY_GRADS ? step_keys : no_keys,
                                        error);
    }
    if (st != CODEC_OK) {
        return st;
    }
    out->tensors = out->file.tensors;
    out->n = out->file.n_tensors;
    out->data = body;
    out->data_offset = out->file.data_offset;
    out->data_length = body->length - out->file.data_offset;
    out->grad_options = adam_optimizer_grad_options(optimizer);
    for (size_t i = 0; out->file.metadata != NULL && grad_option_names[i] != NULL; i++) {
        out->own_grad_options |= json_get(out->file.metadata, grad_option_names[i]) != NULL;
    }
    st = grad_options_read_metadata(pool, &out->file, &out->grad_options, error);
    if (st != CODEC_OK) {
        return st;
    }
    const char *groups = safetensors_metadata(&out->file, "param_groups");
    if (groups == NULL) {
        return CODEC_OK;
    }
    st = json_parse(pool, groups, strlen(groups), &out->doc, error);
    return st == CODEC_OK
               ? read_overrides(pool, out->doc, json_root(out->doc), optimizer, out, error)
               : st;
}
