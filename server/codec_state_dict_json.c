/* codec_state_dict_json.c: reading a state_dict in JSON. */
#include <stdio.h>
#include <string.h>

#include "codec_numbers.h"
#include "codec_state_dict_kinds.h"
#include "codec_state_dict_read.h"

/* Adds a tensor to be read, for parameter `param`, with its own shape and dtype. */
static codec_status add_tensor(state_reader *r, size_t param, const json_value *values,
                               const char *what)
{
    const adam_tensor own = adam_optimizer_param(r->optimizer, param).tensor;
    char label[ADAM_MAX_NAME + 64];
    (void)snprintf(label, sizeof label, "%s of '%s'", what, own.name);
    int rank;
    uint64_t shape[ADAM_MAX_RANK];
    codec_status st = numbers_shape(r->out->doc, values, label, &rank, shape, r->error);
    if (st != CODEC_OK) {
        codec_error_param(r->error, own.name, own.name_len);
        return st;
    }
    if (!numbers_shape_fits(own.rank, own.shape, rank, shape)) {
        return codec_fail_shape(r->error, what, &own, rank, shape);
    }
    adam_tensor *t = tensor_list_add(&r->out->list, own.name, values);
    t->dtype = own.dtype;
    t->rank = own.rank;
    memcpy(t->shape, own.shape, sizeof t->shape);
    return CODEC_OK;
}

/* CODEC_INVALID_VALUE: `what` of a parameter is `got`, expected something else. */
static codec_status wrong(const state_reader *r, size_t param, const char *what, const char *got,
                          const char *expected)
{
    const adam_tensor own = adam_optimizer_param(r->optimizer, param).tensor;
    codec_fail(r->error, CODEC_INVALID_VALUE, "%s of '" CODEC_NAME_FORMAT "' is %s, expected %s",
               what, CODEC_NAME(own.name, own.name_len), got, expected);
    codec_error_param(r->error, own.name, own.name_len);
    return CODEC_INVALID_VALUE;
}

/* A member of `params`: {"shape", "dtype", "data"}, all needed, and as the optimizer has them. */
static codec_status read_param(state_reader *r, const json_value *member, size_t param)
{
    static const char *const allowed[] = {"shape", "dtype", "data", NULL};
    char got[256];
    if (json_type_of(member) != JSON_OBJECT) {
        return wrong(r, param, "the value", json_type_text(member),
                     "an object with shape, dtype and data");
    }
    codec_status st = json_check_names(member, allowed, "a parameter of the state", r->error);
    if (st != CODEC_OK) {
        return st;
    }
    for (size_t i = 0; allowed[i] != NULL; i++) {
        if (json_get(member, allowed[i]) == NULL) {
            return state_reader_missing(r, param, allowed[i]);
        }
    }
    const json_value *dtype = json_get(member, "dtype");
    const json_value *shape = json_get(member, "shape");
    uint64_t said[ADAM_MAX_RANK];
    size_t rank;
    if (json_type_of(dtype) != JSON_STRING) {
        return wrong(r, param, "dtype", state_reader_got(r->out->doc, dtype, got, sizeof got),
                     "the name of a type");
    }
    if (!numbers_uint_list(r->out->doc, shape, ADAM_MAX_RANK, said, &rank)) {
        return wrong(r, param, "shape", state_reader_got(r->out->doc, shape, got, sizeof got),
                     "a list of at most 8 sizes");
    }
    st = state_reader_fits(r, param, "the value", json_string(dtype), (int)rank, said);
    return st == CODEC_OK ? add_tensor(r, param, json_get(member, "data"), "the value") : st;
}

/* A member of `state`: the moments that are there, in the order of STATE_KINDS. */
static codec_status read_moments(state_reader *r, const json_value *member, size_t param)
{
    static const char *const allowed[] = {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", NULL};
    const adam_tensor own = adam_optimizer_param(r->optimizer, param).tensor;
    char whose[ADAM_MAX_NAME + 64];
    if (json_type_of(member) != JSON_OBJECT) {
        return wrong(r, param, "the state", json_type_text(member),
                     "an object with step, exp_avg and exp_avg_sq");
    }
    codec_status st = json_check_names(member, allowed, "the state of a parameter", r->error);
    if (st != CODEC_OK || r->load == STATE_DICT_LOAD_PARAMS) {
        return st;
    }
    (void)snprintf(whose, sizeof whose, " of '%s'", own.name);
    st = state_reader_step(r, r->out->doc, json_get(member, "step"), whose, &r->states[param].step);
    if (st != CODEC_OK) {
        codec_error_param(r->error, own.name, own.name_len);
    }
    for (int kind = STATE_EXP_AVG; st == CODEC_OK && kind < STATE_KINDS; kind++) {
        const json_value *values = json_get(member, state_kind_names[kind]);
        if (values != NULL) {
            st = add_tensor(r, param, values, state_kind_names[kind]);
        } else if (kind != STATE_MAX_EXP_AVG_SQ) {
            st = state_reader_missing(r, param, state_kind_names[kind]);
        }
    }
    return st;
}

/* Points the states to the numbers, now that they are read: the values first, then the moments,
 * both in the order in which they were added. */
static void attach(state_reader *r, const json_value *params, const json_value *state)
{
    const tensor_list *list = &r->out->list;
    size_t slot = 0;
    size_t param;
    for (const json_value *m = json_first(params); m != NULL; m = json_next(m)) {
        (void)adam_optimizer_find(r->optimizer, json_name(m), strlen(json_name(m)), &param);
        r->states[param].tensor = list->tensors[slot++];
    }
    if (state == NULL || r->load == STATE_DICT_LOAD_PARAMS) {
        return;
    }
    for (const json_value *m = json_first(state); m != NULL; m = json_next(m)) {
        (void)adam_optimizer_find(r->optimizer, json_name(m), strlen(json_name(m)), &param);
        for (int kind = STATE_EXP_AVG; kind < STATE_KINDS; kind++) {
            if (json_get(m, state_kind_names[kind]) != NULL) {
                *state_kind_slot(&r->states[param], kind) = list->tensors[slot++].data;
            }
        }
    }
}

/* Reads each member of `object`, an object by parameter name. */
static codec_status read_members(state_reader *r, const char *what, const json_value *object,
                                 codec_status (*read)(state_reader *, const json_value *, size_t))
{
    codec_status st = CODEC_OK;
    for (const json_value *m = json_first(object); st == CODEC_OK && m != NULL; m = json_next(m)) {
        size_t param;
        st = state_reader_find(r, what, json_name(m), strlen(json_name(m)), &param);
        if (st == CODEC_OK) {
            st = read(r, m, param);
        }
    }
    return st;
}

/* `what` is needed as an object by parameter name. */
static codec_status need_object(const state_reader *r, const json_value *value, const char *what)
{
    char got[256];
    if (value != NULL && json_type_of(value) == JSON_OBJECT) {
        return CODEC_OK;
    }
    return codec_fail(r->error, CODEC_INVALID_VALUE,
                      "%s is %s, expected an object by parameter name", what,
                      state_reader_got(r->out->doc, value, got, sizeof got));
}

/* `params` and `state` of the document. */
static codec_status read_tensors(state_reader *r)
{
    const json_value *params = json_get(json_root(r->out->doc), "params");
    const json_value *state = json_get(json_root(r->out->doc), "state");
    codec_status st = need_object(r, params, "params");
    if (st == CODEC_OK && (state != NULL || r->load == STATE_DICT_LOAD_EVERYTHING)) {
        st = need_object(r, state, "state");
    }
    if (st == CODEC_OK) {
        const size_t most = json_count(params) + (state != NULL ? 3 * json_count(state) : 0);
        st = tensor_list_begin(r->pool, most, &r->out->list, r->error);
    }
    if (st == CODEC_OK) {
        st = read_members(r, "params", params, read_param);
    }
    if (st == CODEC_OK && state != NULL) {
        st = read_members(r, "state", state, read_moments);
    }
    if (st == CODEC_OK) {
        st = tensor_list_read(r->out->doc, &r->out->list, "state", r->error);
    }
    if (st == CODEC_OK) {
        attach(r, params, state);
    }
    return st;
}

codec_status state_dict_read_json(buffer_pool *pool, const buffer *body, const adam_optimizer *o,
                                  state_dict_load load, state_dict *out, codec_error *error)
{
    static const char *const allowed[] = {CODEC_STATE_HEAD_NAMES, "params", "state", NULL};
    state_reader r = {.optimizer = o, .load = load, .pool = pool, .out = out, .error = error};
    *out = (state_dict){0};
    codec_status st = json_parse(pool, body->data, body->length, &out->doc, error);
    if (st == CODEC_OK && json_type_of(json_root(out->doc)) != JSON_OBJECT) {
        st = codec_fail(error, CODEC_INVALID_VALUE, "the body is %s, expected an object",
                        json_type_text(json_root(out->doc)));
    }
    if (st == CODEC_OK) {
        st = json_check_names(json_root(out->doc), allowed, "the state_dict", error);
    }
    if (st == CODEC_OK) {
        st = state_reader_begin(&r);
    }
    if (st == CODEC_OK) {
        st = state_reader_head(&r, out->doc, json_root(out->doc));
    }
    if (st == CODEC_OK) {
        st = read_tensors(&r);
    }
    return st == CODEC_OK ? state_reader_end(&r) : st;
}
