/* codec_state_dict.c: reading a state_dict, in JSON or safetensors. Everything goes by name. */
#include "codec_state_dict.h"

#include <stdio.h>
#include <string.h>

#include "codec_names.h"
#include "codec_numbers.h"
#include "codec_options.h"
#include "codec_state_dict_kinds.h"

void state_dict_drop(state_dict *s)
{
    json_free(s->doc);
    safetensors_drop(&s->file);
    tensor_list_drop(&s->list);
    buffer_drop(s->room);
    *s = (state_dict){0};
}

/* Room for the states, one for each parameter, by index, the groups, and a mark for each parameter
 * that a group has named. */
static codec_status begin(buffer_pool *pool, const adam_optimizer *o, state_dict *out,
                          adam_param_state **states, codec_error *error)
{
    const size_t n = adam_optimizer_param_count(o);
    const size_t groups = adam_optimizer_group_count(o);
    const size_t bytes = n * sizeof **states + groups * sizeof(adam_options) + n * sizeof(bool);
    out->room = buffer_get(pool, bytes);
    if (out->room == NULL) {
        return codec_fail(error, CODEC_NO_MEMORY, "no memory for the state of %zu parameters", n);
    }
    memset(out->room->data, 0, bytes);
    *states = (void *)out->room->data;
    out->dict = (adam_state_dict){
        .groups = (void *)(*states + n), .n_groups = groups, .params = *states, .n_params = n};
    return CODEC_OK;
}

static codec_status unknown_param(const char *name, size_t length, codec_error *error)
{
    codec_fail(error, CODEC_INVALID_VALUE,
               "the state names '" CODEC_NAME_FORMAT "', which the optimizer does not have",
               CODEC_NAME(name, length));
    codec_error_param(error, name, length);
    return CODEC_INVALID_VALUE;
}

static codec_status missing(const adam_optimizer *o, size_t param, const char *what,
                            codec_error *error)
{
    const adam_tensor t = adam_optimizer_param(o, param).tensor;
    codec_fail(error, CODEC_INVALID_VALUE, "%s of '" CODEC_NAME_FORMAT "' is missing", what,
               CODEC_NAME(t.name, t.name_len));
    codec_error_param(error, t.name, t.name_len);
    return CODEC_INVALID_VALUE;
}

/* ---- groups, in both forms ---- */

/* One group: all its options, and exactly the parameters that the optimizer's group has, which are
 * marked in `named`. */
static codec_status read_group(const json_doc *doc, const json_value *object,
                               const adam_optimizer *o, size_t index, adam_options *options,
                               bool *named, codec_error *error)
{
    static const char *const allowed[] = {"params", CODEC_OPTION_NAMES, NULL};
    static const char *const needed[] = {"lr",           "betas",   "eps",
                                         "weight_decay", "amsgrad", "maximize"};
    char where[32];
    (void)snprintf(where, sizeof where, "param group %zu", index);
    if (json_type_of(object) != JSON_OBJECT) {
        return codec_fail(error, CODEC_INVALID_VALUE, "%s is not an object", where);
    }
    codec_status st = json_check_names(object, allowed, where, error);
    for (size_t i = 0; st == CODEC_OK && i < sizeof needed / sizeof needed[0]; i++) {
        if (json_get(object, needed[i]) == NULL) {
            st = codec_fail(error, CODEC_INVALID_VALUE, "%s of %s is missing", needed[i], where);
        }
    }
    if (st == CODEC_OK) {
        adam_options_default(adam_optimizer_algorithm(o), options);
        st = options_read(doc, object, where, options, error);
    }
    name_list names;
    if (st == CODEC_OK && !names_begin(doc, json_get(object, "params"), &names)) {
        st = codec_fail(error, CODEC_INVALID_VALUE, "params of %s is expected as a list of names",
                        where);
    }
    if (st != CODEC_OK) {
        return st;
    }
    size_t count = 0;
    size_t length;
    for (const char *name = names_next(&names, &length); name != NULL;
         name = names_next(&names, &length)) {
        size_t param;
        if (!adam_optimizer_find(o, name, length, &param)) {
            return unknown_param(name, length, error);
        }
        if (adam_optimizer_param(o, param).group != index) {
            codec_fail(error, CODEC_INVALID_VALUE,
                       "'" CODEC_NAME_FORMAT "' is in param group %zu of the optimizer, not %zu",
                       CODEC_NAME(name, length), adam_optimizer_param(o, param).group, index);
            codec_error_param(error, name, length);
            return CODEC_INVALID_VALUE;
        }
        if (named[param]) {
            codec_fail(error, CODEC_INVALID_VALUE, "%s names '" CODEC_NAME_FORMAT "' twice", where,
                       CODEC_NAME(name, length));
            codec_error_param(error, name, length);
            return CODEC_INVALID_VALUE;
        }
        named[param] = true;
        count++;
    }
    return count == adam_optimizer_group(o, index).n_params
               ? CODEC_OK
               : codec_fail(error, CODEC_INVALID_VALUE,
                            "%s has %zu parameters, the optimizer's has %zu", where, count,
                            adam_optimizer_group(o, index).n_params);
}

/* `algorithm`, `step` and `param_groups` of the document, into out->dict. */
static codec_status read_head(const json_doc *doc, const adam_optimizer *o, state_dict *out,
                              adam_options *options, codec_error *error)
{
    const json_value *root = json_root(doc);
    const json_value *algorithm = json_get(root, "algorithm");
    const json_value *step = json_get(root, "step");
    const json_value *groups = json_get(root, "param_groups");
    const char *own = adam_algorithm_name(adam_optimizer_algorithm(o));
    if (algorithm == NULL || json_type_of(algorithm) != JSON_STRING ||
        strcmp(json_string(algorithm), own) != 0) {
        return codec_fail(error, CODEC_INVALID_VALUE,
                          "algorithm is expected to be \"%s\", the optimizer's", own);
    }
    if (step == NULL || !numbers_uint(doc, step, &out->dict.step)) {
        return codec_fail(error, CODEC_INVALID_VALUE,
                          "step is expected as a whole number from 0 to 2^53");
    }
    if (groups == NULL || json_type_of(groups) != JSON_LIST ||
        json_count(groups) != out->dict.n_groups) {
        return codec_fail(error, CODEC_INVALID_VALUE,
                          "param_groups is expected as a list of %zu objects, as the optimizer has",
                          out->dict.n_groups);
    }
    size_t i = 0;
    bool *named = (bool *)(options + out->dict.n_groups);
    codec_status st = CODEC_OK;
    for (const json_value *g = json_first(groups); st == CODEC_OK && g != NULL; g = json_next(g)) {
        st = read_group(doc, g, o, i, &options[i], named, error);
        i++;
    }
    return st;
}

static codec_status check_complete(const adam_optimizer *o, const adam_param_state *states,
                                   codec_error *error)
{
    for (size_t i = 0; i < adam_optimizer_param_count(o); i++) {
        if (states[i].tensor.name == NULL) {
            return missing(o, i, "value", error);
        }
        if (states[i].exp_avg == NULL || states[i].exp_avg_sq == NULL) {
            return missing(o, i, states[i].exp_avg == NULL ? "exp_avg" : "exp_avg_sq", error);
        }
    }
    return CODEC_OK;
}

/* ---- JSON ---- */

/* Adds a tensor to be read, for parameter `param`, with its own shape and dtype. Its place in the
 * list is kept in *slot. */
static codec_status add_tensor(const json_doc *doc, const adam_optimizer *o, size_t param,
                               const json_value *values, const char *what, state_dict *out,
                               codec_error *error)
{
    const adam_tensor own = adam_optimizer_param(o, param).tensor;
    char label[ADAM_MAX_NAME + 64];
    (void)snprintf(label, sizeof label, "%s of '%s'", what, own.name);
    int rank;
    uint64_t shape[ADAM_MAX_RANK];
    codec_status st = numbers_shape(doc, values, label, &rank, shape, error);
    if (st == CODEC_OK && !numbers_shape_fits(own.rank, own.shape, rank, shape)) {
        st =
            codec_fail(error, CODEC_INVALID_VALUE, "%s does not have the parameter's shape", label);
    }
    if (st != CODEC_OK) {
        codec_error_param(error, own.name, own.name_len);
        return st;
    }
    adam_tensor *t = tensor_list_add(&out->list, own.name, values);
    t->dtype = own.dtype;
    t->rank = own.rank;
    memcpy(t->shape, own.shape, sizeof t->shape);
    return CODEC_OK;
}

/* A member of `params`: {"shape", "dtype", "data"}, all needed, and as the optimizer has them. */
static codec_status read_param(const json_doc *doc, const json_value *member,
                               const adam_optimizer *o, size_t param, state_dict *out,
                               codec_error *error)
{
    static const char *const allowed[] = {"shape", "dtype", "data", NULL};
    const adam_tensor own = adam_optimizer_param(o, param).tensor;
    if (json_type_of(member) != JSON_OBJECT) {
        return missing(o, param, "an object with shape, dtype and data", error);
    }
    codec_status st = json_check_names(member, allowed, "a parameter of the state", error);
    if (st != CODEC_OK) {
        return st;
    }
    const json_value *dtype = json_get(member, "dtype");
    const json_value *shape = json_get(member, "shape");
    const json_value *data = json_get(member, "data");
    uint64_t said[ADAM_MAX_RANK];
    size_t rank;
    if (dtype == NULL || shape == NULL || data == NULL) {
        return missing(o, param, "shape, dtype or data", error);
    }
    if (json_type_of(dtype) != JSON_STRING ||
        strcmp(json_string(dtype), adam_dtype_name(own.dtype)) != 0 ||
        !numbers_uint_list(doc, shape, ADAM_MAX_RANK, said, &rank) ||
        !adam_shape_equal((int)rank, said, own.rank, own.shape)) {
        codec_fail(error, CODEC_INVALID_VALUE,
                   "'%s' has another dtype or shape than the optimizer's", own.name);
        codec_error_param(error, own.name, own.name_len);
        return CODEC_INVALID_VALUE;
    }
    return add_tensor(doc, o, param, data, "value", out, error);
}

/* A member of `state`: the moments that are there, in the order of STATE_KINDS. */
static codec_status read_moments(const json_doc *doc, const json_value *member,
                                 const adam_optimizer *o, size_t param, adam_param_state *state,
                                 state_dict *out, codec_error *error)
{
    static const char *const allowed[] = {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", NULL};
    if (json_type_of(member) != JSON_OBJECT) {
        return missing(o, param, "an object with step, exp_avg and exp_avg_sq", error);
    }
    codec_status st = json_check_names(member, allowed, "the state of a parameter", error);
    const json_value *step = json_get(member, "step");
    if (st == CODEC_OK && (step == NULL || !numbers_uint(doc, step, &state->step))) {
        st = missing(o, param, "step, a whole number,", error);
    }
    for (int kind = STATE_EXP_AVG; st == CODEC_OK && kind < STATE_KINDS; kind++) {
        const json_value *values = json_get(member, state_kind_names[kind]);
        if (values != NULL) {
            st = add_tensor(doc, o, param, values, state_kind_names[kind], out, error);
        } else if (kind != STATE_MAX_EXP_AVG_SQ) {
            st = missing(o, param, state_kind_names[kind], error);
        }
    }
    return st;
}

/* Points the states to the numbers, now that they are read: the values first, then the moments,
 * both in the order in which they were added. */
static void attach(const json_value *params, const json_value *state, const adam_optimizer *o,
                   adam_param_state *states, const state_dict *out)
{
    size_t slot = 0;
    size_t param;
    for (const json_value *m = json_first(params); m != NULL; m = json_next(m)) {
        (void)adam_optimizer_find(o, json_name(m), strlen(json_name(m)), &param);
        states[param].tensor = out->list.tensors[slot++];
    }
    for (const json_value *m = json_first(state); m != NULL; m = json_next(m)) {
        (void)adam_optimizer_find(o, json_name(m), strlen(json_name(m)), &param);
        for (int kind = STATE_EXP_AVG; kind < STATE_KINDS; kind++) {
            if (json_get(m, state_kind_names[kind]) != NULL) {
                *state_kind_slot(&states[param], kind) = out->list.tensors[slot++].data;
            }
        }
    }
}

static codec_status read_members(const json_doc *doc, const json_value *params,
                                 const json_value *state, const adam_optimizer *o,
                                 adam_param_state *states, state_dict *out, codec_error *error)
{
    codec_status st = CODEC_OK;
    size_t param;
    for (const json_value *m = json_first(params); st == CODEC_OK && m != NULL; m = json_next(m)) {
        st = adam_optimizer_find(o, json_name(m), strlen(json_name(m)), &param)
                 ? read_param(doc, m, o, param, out, error)
                 : unknown_param(json_name(m), strlen(json_name(m)), error);
    }
    for (const json_value *m = json_first(state); st == CODEC_OK && m != NULL; m = json_next(m)) {
        st = adam_optimizer_find(o, json_name(m), strlen(json_name(m)), &param)
                 ? read_moments(doc, m, o, param, &states[param], out, error)
                 : unknown_param(json_name(m), strlen(json_name(m)), error);
    }
    return st;
}

codec_status state_dict_read_json(buffer_pool *pool, const buffer *body, const adam_optimizer *o,
                                  state_dict *out, codec_error *error)
{
    static const char *const allowed[] = {"algorithm", "step",  "param_groups",
                                          "params",    "state", NULL};
    adam_param_state *states = NULL;
    *out = (state_dict){0};
    codec_status st = json_parse(pool, body->data, body->length, &out->doc, error);
    if (st == CODEC_OK && json_type_of(json_root(out->doc)) != JSON_OBJECT) {
        st = codec_fail(error, CODEC_INVALID_VALUE, "the body is expected as an object");
    }
    if (st == CODEC_OK) {
        st = json_check_names(json_root(out->doc), allowed, "the state_dict", error);
    }
    if (st == CODEC_OK) {
        st = begin(pool, o, out, &states, error);
    }
    if (st == CODEC_OK) {
        st = read_head(out->doc, o, out, (adam_options *)(states + out->dict.n_params), error);
    }
    if (st != CODEC_OK) {
        return st;
    }
    const json_value *params = json_get(json_root(out->doc), "params");
    const json_value *state = json_get(json_root(out->doc), "state");
    if (params == NULL || json_type_of(params) != JSON_OBJECT || state == NULL ||
        json_type_of(state) != JSON_OBJECT) {
        return codec_fail(error, CODEC_INVALID_VALUE,
                          "params and state are both expected as objects by parameter name");
    }
    const size_t most = json_count(params) + 3 * json_count(state);
    st = tensor_list_begin(pool, most, &out->list, error);
    if (st == CODEC_OK) {
        st = read_members(out->doc, params, state, o, states, out, error);
    }
    if (st == CODEC_OK) {
        st = tensor_list_read(out->doc, &out->list, "state", error);
    }
    if (st != CODEC_OK) {
        return st;
    }
    attach(params, state, o, states, out);
    return check_complete(o, states, error);
}

/* ---- safetensors ---- */

/* Splits "exp_avg/<name>" into its kind and the name. */
static codec_status split_name(const adam_tensor *t, int *kind, adam_tensor *param,
                               codec_error *error)
{
    for (int k = 0; k < STATE_KINDS; k++) {
        const size_t n = strlen(state_kind_names[k]);
        if (t->name_len > n + 1 && memcmp(t->name, state_kind_names[k], n) == 0 &&
            t->name[n] == '/') {
            *kind = k;
            *param = *t;
            param->name += n + 1;
            param->name_len -= n + 1;
            return CODEC_OK;
        }
    }
    return codec_fail(error, CODEC_INVALID_VALUE,
                      "tensor '" CODEC_NAME_FORMAT
                      "' is none of params/…, exp_avg/…, exp_avg_sq/…, "
                      "max_exp_avg_sq/…",
                      CODEC_NAME(t->name, t->name_len));
}

static codec_status read_tensors(const adam_optimizer *o, const safetensors *file,
                                 adam_param_state *states, codec_error *error)
{
    for (size_t i = 0; i < file->n_tensors; i++) {
        int kind = STATE_PARAM;
        adam_tensor t;
        size_t param;
        codec_status st = split_name(&file->tensors[i], &kind, &t, error);
        if (st != CODEC_OK) {
            return st;
        }
        if (!adam_optimizer_find(o, t.name, t.name_len, &param)) {
            return unknown_param(t.name, t.name_len, error);
        }
        const adam_tensor own = adam_optimizer_param(o, param).tensor;
        if (t.dtype != own.dtype || !adam_shape_equal(t.rank, t.shape, own.rank, own.shape)) {
            codec_fail(error, CODEC_INVALID_VALUE,
                       "%s of '%s' has another dtype or shape than the optimizer's parameter",
                       state_kind_names[kind], own.name);
            codec_error_param(error, own.name, own.name_len);
            return CODEC_INVALID_VALUE;
        }
        if (kind == STATE_PARAM) {
            states[param].tensor = t;
        } else {
            *state_kind_slot(&states[param], kind) = t.data;
        }
    }
    return CODEC_OK;
}

static codec_status read_steps(const json_doc *doc, const adam_optimizer *o,
                               adam_param_state *states, codec_error *error)
{
    const json_value *steps = json_get(json_root(doc), "steps");
    if (steps == NULL || json_type_of(steps) != JSON_OBJECT ||
        json_count(steps) != adam_optimizer_param_count(o)) {
        return codec_fail(error, CODEC_INVALID_VALUE,
                          "steps is expected as an object with the step of each of %zu parameters",
                          adam_optimizer_param_count(o));
    }
    for (const json_value *m = json_first(steps); m != NULL; m = json_next(m)) {
        size_t param;
        if (!adam_optimizer_find(o, json_name(m), strlen(json_name(m)), &param)) {
            return unknown_param(json_name(m), strlen(json_name(m)), error);
        }
        if (!numbers_uint(doc, m, &states[param].step)) {
            return missing(o, param, "step, a whole number,", error);
        }
    }
    return CODEC_OK;
}

codec_status state_dict_read_safetensors(buffer_pool *pool, buffer *body, size_t max_header,
                                         const adam_optimizer *o, state_dict *out,
                                         codec_error *error)
{
    static const char *const keys[] = {"format", "state_dict", NULL};
    static const char *const allowed[] = {"algorithm", "step", "param_groups", "steps", NULL};
    adam_param_state *states = NULL;
    *out = (state_dict){0};
    codec_status st =
        safetensors_parse(pool, body->data, body->length, max_header, &out->file, error);
    if (st == CODEC_OK) {
        st = safetensors_check_metadata(&out->file, keys, error);
    }
    if (st != CODEC_OK) {
        return st;
    }
    const char *head = safetensors_metadata(&out->file, "state_dict");
    if (head == NULL) {
        return codec_fail(error, CODEC_INVALID_VALUE, "__metadata__.state_dict is missing");
    }
    st = json_parse(pool, head, strlen(head), &out->doc, error);
    if (st == CODEC_OK && json_type_of(json_root(out->doc)) != JSON_OBJECT) {
        st = codec_fail(error, CODEC_INVALID_VALUE, "__metadata__.state_dict is no object");
    }
    if (st == CODEC_OK) {
        st = json_check_names(json_root(out->doc), allowed, "__metadata__.state_dict", error);
    }
    if (st == CODEC_OK) {
        st = begin(pool, o, out, &states, error);
    }
    if (st == CODEC_OK) {
        st = read_head(out->doc, o, out, (adam_options *)(states + out->dict.n_params), error);
    }
    if (st == CODEC_OK) {
        st = read_steps(out->doc, o, states, error);
    }
    if (st == CODEC_OK) {
        st = read_tensors(o, &out->file, states, error);
    }
    return st == CODEC_OK ? check_complete(o, states, error) : st;
}
