/* codec_state_dict.c: reading a state_dict: its groups, and what JSON and safetensors share.
 * Everything goes by name. */
#include "codec_state_dict.h"

#include <stdio.h>
#include <string.h>

#include "codec_names.h"
#include "codec_numbers.h"
#include "codec_options.h"
#include "codec_schedule.h"
#include "codec_state_dict_read.h"

void state_dict_drop(state_dict *s)
{
    json_free(s->doc);
    safetensors_drop(&s->file);
    tensor_list_drop(&s->list);
    for (size_t i = 0; i < s->n_groups; i++) {
        buffer_drop(s->schedules[i]);
    }
    buffer_drop(s->room);
    *s = (state_dict){0};
}

codec_status state_reader_begin(state_reader *r)
{
    const size_t n = adam_optimizer_param_count(r->optimizer);
    const size_t groups = adam_optimizer_group_count(r->optimizer);
    const size_t bytes = n * (sizeof *r->states + sizeof(adam_tensor) + sizeof *r->named) +
                         groups * (sizeof *r->options + sizeof *r->schedules + sizeof(buffer *));
    r->out->room = buffer_get(r->pool, bytes);
    if (r->out->room == NULL) {
        return codec_fail(r->error, CODEC_NO_MEMORY, "no memory for the state of %zu parameters",
                          n);
    }
    memset(r->out->room->data, 0, bytes);
    r->states = (void *)r->out->room->data;
    r->out->params = (void *)(r->states + n);
    r->out->n_params = n;
    r->options = (void *)(r->out->params + n);
    r->schedules = (void *)(r->options + groups);
    r->out->schedules = (void *)(r->schedules + groups);
    r->out->n_groups = groups;
    r->named = (bool *)(r->out->schedules + groups);
    r->out->dict = (adam_state_dict){.grad_options = &r->out->grad_options,
                                     .groups = r->options,
                                     .schedules = (const adam_schedule *const *)r->schedules,
                                     .n_groups = groups,
                                     .params = r->states,
                                     .n_params = n};
    return CODEC_OK;
}

const char *state_reader_got(const json_doc *doc, const json_value *value, char *out, size_t size)
{
    if (value == NULL) {
        return "missing";
    }
    if (json_type_of(value) == JSON_STRING) {
        const char *string = json_string(value);
        (void)snprintf(out, size, "\"" CODEC_NAME_FORMAT "\"", CODEC_NAME(string, strlen(string)));
        return out;
    }
    if (json_type_of(value) != JSON_NUMBER) {
        return json_type_text(value);
    }
    const json_span span = json_number_text(doc, value);
    (void)snprintf(out, size, CODEC_NAME_FORMAT, CODEC_NAME(span.text, span.length));
    return out;
}

codec_status state_reader_step(const state_reader *r, const json_doc *doc, const json_value *value,
                               const char *whose, uint64_t *step)
{
    char got[256];
    if (value != NULL && numbers_uint(doc, value, step)) {
        return CODEC_OK;
    }
    return codec_fail(r->error, CODEC_INVALID_VALUE,
                      "step%s is %s, expected a whole number from 0 to 2^53", whose,
                      state_reader_got(doc, value, got, sizeof got));
}

codec_status state_reader_find(const state_reader *r, const char *where, const char *name,
                               size_t length, size_t *param)
{
    if (adam_optimizer_find(r->optimizer, name, length, param)) {
        return CODEC_OK;
    }
    codec_fail(r->error, CODEC_UNKNOWN_PARAM,
               "%s of the state names '" CODEC_NAME_FORMAT
               "', but the optimizer has no such parameter",
               where, CODEC_NAME(name, length));
    codec_error_param(r->error, name, length);
    return CODEC_UNKNOWN_PARAM;
}

codec_status state_reader_fits(const state_reader *r, size_t param, const char *what,
                               const char *dtype, int rank, const uint64_t *shape)
{
    const adam_tensor own = adam_optimizer_param(r->optimizer, param).tensor;
    if (strcmp(dtype, adam_dtype_name(own.dtype)) != 0) {
        codec_fail(r->error, CODEC_DTYPE,
                   "%s of '" CODEC_NAME_FORMAT "' has dtype %.64s, expected %s", what,
                   CODEC_NAME(own.name, own.name_len), dtype, adam_dtype_name(own.dtype));
        codec_error_param(r->error, own.name, own.name_len);
        return CODEC_DTYPE;
    }
    return adam_shape_equal(rank, shape, own.rank, own.shape)
               ? CODEC_OK
               : codec_fail_shape(r->error, what, &own, rank, shape);
}

codec_status state_reader_missing(const state_reader *r, size_t param, const char *what)
{
    const adam_tensor t = adam_optimizer_param(r->optimizer, param).tensor;
    codec_fail(r->error, CODEC_MISSING_PARAM,
               "%s of '" CODEC_NAME_FORMAT "' is missing from the state", what,
               CODEC_NAME(t.name, t.name_len));
    codec_error_param(r->error, t.name, t.name_len);
    return CODEC_MISSING_PARAM;
}

codec_status state_reader_end(state_reader *r)
{
    for (size_t i = 0; i < r->out->n_params; i++) {
        const adam_param_state *s = &r->states[i];
        if (s->tensor.name == NULL) {
            return state_reader_missing(r, i, "the value");
        }
        if (r->load == STATE_DICT_LOAD_EVERYTHING &&
            (s->exp_avg == NULL || s->exp_avg_sq == NULL)) {
            return state_reader_missing(r, i, s->exp_avg == NULL ? "exp_avg" : "exp_avg_sq");
        }
        r->out->params[i] = s->tensor;
    }
    return CODEC_OK;
}

/* ---- groups ---- */

static const char *const group_names[] = {"params", CODEC_OPTION_NAMES, "initial_lr", "schedule",
                                          NULL};

/* Marks one name of a group's list. */
static codec_status read_name(state_reader *r, size_t index, const char *where, const char *name,
                              size_t length)
{
    size_t param;
    codec_status st = state_reader_find(r, where, name, length, &param);
    if (st != CODEC_OK) {
        return st;
    }
    const size_t group = adam_optimizer_param(r->optimizer, param).group;
    if (group != index) {
        st = codec_fail(r->error, CODEC_STATE,
                        "'" CODEC_NAME_FORMAT "' is in %s of the state, expected in param group "
                        "%zu, where the optimizer has it",
                        CODEC_NAME(name, length), where, group);
    } else if (r->named[param]) {
        st = codec_fail(r->error, CODEC_DUPLICATE_PARAM, "%s names '" CODEC_NAME_FORMAT "' twice",
                        where, CODEC_NAME(name, length));
    }
    if (st != CODEC_OK) {
        codec_error_param(r->error, name, length);
        return st;
    }
    r->named[param] = true;
    return CODEC_OK;
}

/* Exactly the parameters that the optimizer's group has. */
static codec_status read_names(state_reader *r, const json_doc *doc, const json_value *list,
                               size_t index, const char *where)
{
    name_list names;
    char got[256];
    if (!names_begin(doc, list, &names)) {
        return codec_fail(r->error, CODEC_INVALID_VALUE,
                          "params of %s is %s, expected a list of names", where,
                          state_reader_got(doc, list, got, sizeof got));
    }
    size_t length;
    for (const char *name = names_next(&names, &length); name != NULL;
         name = names_next(&names, &length)) {
        codec_status st = read_name(r, index, where, name, length);
        if (st != CODEC_OK) {
            return st;
        }
    }
    const adam_group_view own = adam_optimizer_group(r->optimizer, index);
    for (size_t i = own.first_param; i < own.first_param + own.n_params; i++) {
        const adam_tensor t = adam_optimizer_param(r->optimizer, i).tensor;
        if (!r->named[i]) {
            codec_fail(r->error, CODEC_MISSING_PARAM,
                       "%s of the state does not name '" CODEC_NAME_FORMAT
                       "', which the optimizer has there",
                       where, CODEC_NAME(t.name, t.name_len));
            codec_error_param(r->error, t.name, t.name_len);
            return CODEC_MISSING_PARAM;
        }
    }
    return CODEC_OK;
}

/* `schedule` with where it stands, and the `initial_lr` beside it; or neither. */
static codec_status read_schedule(state_reader *r, const json_doc *doc, const json_value *object,
                                  size_t index, const char *where)
{
    const json_value *schedule = json_get(object, "schedule");
    const json_value *initial_lr = json_get(object, "initial_lr");
    char got[256];
    if (schedule == NULL || json_type_of(schedule) == JSON_NULL) {
        return initial_lr == NULL
                   ? CODEC_OK
                   : codec_fail(r->error, CODEC_INVALID_VALUE,
                                "%s has an initial_lr, but no schedule that it is of", where);
    }
    double lr = 0;
    if (initial_lr == NULL || json_type_of(initial_lr) != JSON_NUMBER ||
        !numbers_double(doc, initial_lr, &lr)) {
        return codec_fail(r->error, CODEC_INVALID_VALUE,
                          "initial_lr of %s is %s, expected a number, as it has a schedule", where,
                          state_reader_got(doc, initial_lr, got, sizeof got));
    }
    const codec_status st =
        schedule_read(r->pool, doc, schedule, where, true, &r->out->schedules[index],
                      &r->schedules[index], r->error);
    if (st == CODEC_OK) {
        r->schedules[index]->initial_lr = lr;
    }
    return st;
}

/* One group: all its options, and its parameters. */
static codec_status read_group(state_reader *r, const json_doc *doc, const json_value *object,
                               size_t index)
{
    static const char *const needed[] = {"lr",           "betas",   "eps",
                                         "weight_decay", "amsgrad", "maximize"};
    char where[32];
    (void)snprintf(where, sizeof where, "param group %zu", index);
    if (json_type_of(object) != JSON_OBJECT) {
        return codec_fail(r->error, CODEC_INVALID_VALUE, "%s is %s, expected an object", where,
                          json_type_text(object));
    }
    codec_status st = json_check_names(object, group_names, where, r->error);
    if (st != CODEC_OK || r->load == STATE_DICT_LOAD_PARAMS) {
        return st;
    }
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        if (json_get(object, needed[i]) == NULL) {
            return codec_fail(r->error, CODEC_INVALID_VALUE, "%s of %s is missing from the state",
                              needed[i], where);
        }
    }
    adam_options_default(adam_optimizer_algorithm(r->optimizer), &r->options[index]);
    st = options_read(doc, object, where, &r->options[index], r->error);
    if (st == CODEC_OK) {
        st = read_schedule(r, doc, object, index, where);
    }
    return st == CODEC_OK ? read_names(r, doc, json_get(object, "params"), index, where) : st;
}

static codec_status read_groups(state_reader *r, const json_doc *doc, const json_value *groups)
{
    const bool everything = r->load == STATE_DICT_LOAD_EVERYTHING;
    const bool empty = groups != NULL && names_empty_list(doc, groups);
    if (groups == NULL && !everything) {
        return CODEC_OK;
    }
    if (groups == NULL || (json_type_of(groups) != JSON_LIST && !empty)) {
        char got[256];
        return codec_fail(r->error, CODEC_INVALID_VALUE, "param_groups is %s, expected a list",
                          state_reader_got(doc, groups, got, sizeof got));
    }
    const size_t n = empty ? 0 : json_count(groups);
    if (everything && n != r->out->dict.n_groups) {
        return codec_fail(r->error, CODEC_STATE,
                          "the state has %zu param groups, expected %zu, as the optimizer has", n,
                          r->out->dict.n_groups);
    }
    codec_status st = CODEC_OK;
    const json_value *g = empty ? NULL : json_first(groups);
    for (size_t i = 0; st == CODEC_OK && g != NULL; g = json_next(g)) {
        st = read_group(r, doc, g, i++);
    }
    return st;
}

codec_status state_reader_head(state_reader *r, const json_doc *doc, const json_value *object)
{
    const json_value *algorithm = json_get(object, "algorithm");
    const char *own = adam_algorithm_name(adam_optimizer_algorithm(r->optimizer));
    if (r->load == STATE_DICT_LOAD_EVERYTHING) {
        const bool named = algorithm != NULL && json_type_of(algorithm) == JSON_STRING;
        if (!named || strcmp(json_string(algorithm), own) != 0) {
            char got[256];
            return codec_fail(r->error, named ? CODEC_STATE : CODEC_INVALID_VALUE,
                              "algorithm is %s, expected \"%s\", the optimizer's",
                              state_reader_got(doc, algorithm, got, sizeof got), own);
        }
        codec_status st =
            state_reader_step(r, doc, json_get(object, "step"), "", &r->out->dict.step);
        if (st == CODEC_OK) {
            adam_grad_options_default(&r->out->grad_options);
            st = grad_options_read(doc, object, "the state_dict", &r->out->grad_options, r->error);
        }
        if (st != CODEC_OK) {
            return st;
        }
    }
    return read_groups(r, doc, json_get(object, "param_groups"));
}
