/* codec_state_dict_safetensors.c: reading a state_dict in safetensors. */
#include <stdio.h>
#include <string.h>

#include "codec_state_dict_kinds.h"
#include "codec_state_dict_read.h"

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

static codec_status read_tensors(state_reader *r)
{
    const safetensors *file = &r->out->file;
    for (size_t i = 0; i < file->n_tensors; i++) {
        int kind = STATE_PARAM;
        adam_tensor t;
        size_t param;
        codec_status st = split_name(&file->tensors[i], &kind, &t, r->error);
        if (st == CODEC_OK) {
            st = state_reader_find(r, state_kind_names[kind], t.name, t.name_len, &param);
        }
        if (st == CODEC_OK && kind != STATE_PARAM && r->load == STATE_DICT_LOAD_PARAMS) {
            continue;
        }
        if (st == CODEC_OK) {
            st = state_reader_fits(r, param,
                                   kind == STATE_PARAM ? "the value" : state_kind_names[kind],
                                   adam_dtype_name(t.dtype), t.rank, t.shape);
        }
        if (st != CODEC_OK) {
            return st;
        }
        if (kind == STATE_PARAM) {
            r->states[param].tensor = t;
        } else {
            *state_kind_slot(&r->states[param], kind) = t.data;
        }
    }
    return CODEC_OK;
}

/* `steps`: the step of each parameter. */
static codec_status read_steps(state_reader *r)
{
    const json_value *steps = json_get(json_root(r->out->doc), "steps");
    char got[256];
    if (steps == NULL || json_type_of(steps) != JSON_OBJECT) {
        return codec_fail(r->error, CODEC_INVALID_VALUE,
                          "steps is %s, expected an object with the step of each parameter",
                          state_reader_got(r->out->doc, steps, got, sizeof got));
    }
    /* from here on: whether `steps` has named it */
    memset(r->named, 0, r->out->n_params * sizeof *r->named);
    for (const json_value *m = json_first(steps); m != NULL; m = json_next(m)) {
        char whose[ADAM_MAX_NAME + 64];
        size_t param;
        codec_status st = state_reader_find(r, "steps", json_name(m), strlen(json_name(m)), &param);
        if (st != CODEC_OK) {
            return st;
        }
        (void)snprintf(whose, sizeof whose, " of '%s'", json_name(m));
        st = state_reader_step(r, r->out->doc, m, whose, &r->states[param].step);
        if (st != CODEC_OK) {
            codec_error_param(r->error, json_name(m), strlen(json_name(m)));
            return st;
        }
        r->named[param] = true;
    }
    for (size_t i = 0; i < r->out->n_params; i++) {
        if (!r->named[i]) {
            return state_reader_missing(r, i, "step");
        }
    }
    return CODEC_OK;
}

/* `__metadata__.state_dict`, which a file of parameters alone need not have. */
static codec_status read_metadata(state_reader *r)
{
    static const char *const allowed[] = {CODEC_STATE_HEAD_NAMES, "steps", NULL};
    const char *head = safetensors_metadata(&r->out->file, "state_dict");
    if (head == NULL) {
        return r->load == STATE_DICT_LOAD_PARAMS
                   ? CODEC_OK
                   : codec_fail(r->error, CODEC_INVALID_VALUE,
                                "__metadata__.state_dict is missing, expected algorithm, step, "
                                "param_groups and steps as a JSON string");
    }
    codec_status st = json_parse(r->pool, head, strlen(head), &r->out->doc, r->error);
    if (st == CODEC_OK && json_type_of(json_root(r->out->doc)) != JSON_OBJECT) {
        st = codec_fail(r->error, CODEC_INVALID_VALUE,
                        "__metadata__.state_dict is %s, expected an object",
                        json_type_text(json_root(r->out->doc)));
    }
    if (st == CODEC_OK) {
        st = json_check_names(json_root(r->out->doc), allowed, "__metadata__.state_dict", r->error);
    }
    if (st == CODEC_OK) {
        st = state_reader_head(r, r->out->doc, json_root(r->out->doc));
    }
    return st == CODEC_OK && r->load == STATE_DICT_LOAD_EVERYTHING ? read_steps(r) : st;
}

codec_status state_dict_read_file(buffer_pool *pool, safetensors *file, const adam_optimizer *o,
                                  state_dict_load load, state_dict *out, codec_error *error)
{
    state_reader r = {.optimizer = o, .load = load, .pool = pool, .out = out, .error = error};
    *out = (state_dict){.file = *file};
    *file = (safetensors){0};
    codec_status st = state_reader_begin(&r);
    if (st == CODEC_OK) {
        st = read_metadata(&r);
    }
    if (st == CODEC_OK) {
        st = read_tensors(&r);
    }
    return st == CODEC_OK ? state_reader_end(&r) : st;
}

codec_status state_dict_read_safetensors(buffer_pool *pool, buffer *body, size_t max_header,
                                         const adam_optimizer *o, state_dict_load load,
                                         state_dict *out, codec_error *error)
{
    static const char *const keys[] = {"format", "state_dict", NULL};
    safetensors file;
    *out = (state_dict){0};
    codec_status st = safetensors_parse(pool, body->data, body->length, max_header, &file, error);
    if (st != CODEC_OK) {
        return st;
    }
    st = safetensors_check_metadata(&file, keys, error);
    if (st == CODEC_OK) {
        st = state_dict_read_file(pool, &file, o, load, out, error);
    }
    safetensors_drop(&file);
    return st;
}
