/* codec_options.c: one table of hyperparameters, read and printed. */
#include "codec_options.h"

#include <string.h>

#include "codec_numbers.h"
#include "codec_schedule.h"

typedef enum option_type {
    OPTION_DOUBLE,
    OPTION_BETAS,
    OPTION_BOOL,
    OPTION_NONE_OR_FALSE, /* torch's foreach and fused */
    OPTION_FALSE,         /* torch's capturable and differentiable */
    OPTION_OWN_TRUE,      /* adamd's own: shown only where it is not true */
    OPTION_OWN_FALSE,     /* or not false */
} option_type;

/* In torch's order, then adamd's own. `offset` is that of the member of adam_options. */
static const struct option {
    const char *name;
    option_type type;
    size_t offset;
} table[] = {
    {"lr", OPTION_DOUBLE, offsetof(adam_options, lr)},
    {"betas", OPTION_BETAS, offsetof(adam_options, betas)},
    {"eps", OPTION_DOUBLE, offsetof(adam_options, eps)},
    {"weight_decay", OPTION_DOUBLE, offsetof(adam_options, weight_decay)},
    {"amsgrad", OPTION_BOOL, offsetof(adam_options, amsgrad)},
    {"maximize", OPTION_BOOL, offsetof(adam_options, maximize)},
    {"foreach", OPTION_NONE_OR_FALSE, offsetof(adam_options, foreach)},
    {"capturable", OPTION_FALSE, 0},
    {"differentiable", OPTION_FALSE, 0},
    {"fused", OPTION_NONE_OR_FALSE, offsetof(adam_options, fused)},
    {"bias_correction", OPTION_OWN_TRUE, offsetof(adam_options, bias_correction)},
    {"buffers", OPTION_OWN_FALSE, offsetof(adam_options, buffers)},
};
#define TABLE_LENGTH (sizeof table / sizeof table[0])

static codec_status wrong_type(const struct option *o, const json_value *value, const char *where,
                               const char *expected, codec_error *error)
{
    return codec_fail(error, CODEC_INVALID_VALUE, "%s of %s is %s, expected %s", o->name, where,
                      json_type_text(value), expected);
}

static codec_status read_double(const json_doc *doc, const struct option *o,
                                const json_value *value, const char *where, double *out,
                                codec_error *error)
{
    if (json_type_of(value) != JSON_NUMBER) {
        return wrong_type(o, value, where, "a number", error);
    }
    if (!numbers_double(doc, value, out)) {
        return codec_fail(error, CODEC_INVALID_VALUE, "%s of %s is out of the range of float64",
                          o->name, where);
    }
    return CODEC_OK;
}

static codec_status read_betas(const json_doc *doc, const struct option *o, const json_value *value,
                               const char *where, double *out, codec_error *error)
{
    int rank;
    uint64_t shape[ADAM_MAX_RANK];
    if (json_type_of(value) != JSON_NUMBERS ||
        numbers_shape(doc, value, o->name, &rank, shape, error) != CODEC_OK || rank != 1 ||
        shape[0] != 2) {
        return codec_fail(error, CODEC_INVALID_VALUE, "betas of %s are expected as two numbers",
                          where);
    }
    return numbers_read(doc, value, o->name, ADAM_FLOAT64, out, error);
}

/* foreach, fused, capturable, differentiable: only what asks for nothing. */
static codec_status read_inert(const struct option *o, const json_value *value, const char *where,
                               adam_flag *flag, codec_error *error)
{
    const bool null = json_type_of(value) == JSON_NULL;
    const bool is_false = json_type_of(value) == JSON_BOOL && !json_bool(value);
    if (is_false || (null && o->type == OPTION_NONE_OR_FALSE)) {
        if (flag != NULL) {
            *flag = null ? ADAM_FLAG_NONE : ADAM_FLAG_FALSE;
        }
        return CODEC_OK;
    }
    if (json_type_of(value) == JSON_BOOL) {
        return codec_fail(error, CODEC_UNSUPPORTED_OPTION,
                          "%s of %s is true, but it chooses among torch's own implementations and "
                          "means nothing to a server; expected %s",
                          o->name, where, o->type == OPTION_FALSE ? "false" : "null or false");
    }
    return wrong_type(o, value, where, o->type == OPTION_FALSE ? "false" : "null or false", error);
}

static codec_status read_option(const json_doc *doc, const struct option *o,
                                const json_value *value, const char *where, adam_options *options,
                                codec_error *error)
{
    void *member = (char *)options + o->offset;
    switch (o->type) {
    case OPTION_DOUBLE: return read_double(doc, o, value, where, member, error);
    case OPTION_BETAS: return read_betas(doc, o, value, where, member, error);
    case OPTION_BOOL:
    case OPTION_OWN_TRUE:
    case OPTION_OWN_FALSE:
        if (json_type_of(value) != JSON_BOOL) {
            return wrong_type(o, value, where, "true or false", error);
        }
        *(bool *)member = json_bool(value);
        return CODEC_OK;
    case OPTION_NONE_OR_FALSE: return read_inert(o, value, where, member, error);
    case OPTION_FALSE: break;
    }
    return read_inert(o, value, where, NULL, error);
}

codec_status options_read(const json_doc *doc, const json_value *object, const char *where,
                          adam_options *options, codec_error *error)
{
    for (size_t i = 0; i < TABLE_LENGTH; i++) {
        const json_value *value = json_get(object, table[i].name);
        codec_status st =
            value != NULL ? read_option(doc, &table[i], value, where, options, error) : CODEC_OK;
        if (st != CODEC_OK) {
            return st;
        }
    }
    return CODEC_OK;
}

void options_add_value(text *t, const adam_options *options, size_t place)
{
    const void *member = (const char *)options + table[place].offset;
    const double *numbers = member;
    switch (table[place].type) {
    case OPTION_DOUBLE: json_add_double(t, *numbers); break;
    case OPTION_BETAS:
        text_add(t, "[", 1);
        json_add_double(t, numbers[0]);
        text_add(t, ", ", 2);
        json_add_double(t, numbers[1]);
        text_add(t, "]", 1);
        break;
    case OPTION_BOOL:
    case OPTION_OWN_TRUE:
    case OPTION_OWN_FALSE: text_add_string(t, *(const bool *)member ? "true" : "false"); break;
    case OPTION_NONE_OR_FALSE:
        text_add_string(t, *(const adam_flag *)member == ADAM_FLAG_NONE ? "null" : "false");
        break;
    case OPTION_FALSE: text_add_string(t, "false"); break;
    }
}

/* Torch's stand always. */
static bool shown(const adam_options *options, size_t place)
{
    const void *member = (const char *)options + table[place].offset;
    switch (table[place].type) {
    case OPTION_OWN_TRUE: return !*(const bool *)member;
    case OPTION_OWN_FALSE: return *(const bool *)member;
    default: return true;
    }
}

void options_add(text *t, const adam_options *options)
{
    for (size_t i = 0; i < TABLE_LENGTH; i++) {
        if (!shown(options, i)) {
            continue;
        }
        text_add_format(t, "%s\"%s\": ", i > 0 ? ", " : "", table[i].name);
        options_add_value(t, options, i);
    }
}

void group_options_add(text *t, const adam_group_view *group)
{
    options_add(t, &group->options);
    if (group->schedule != NULL) {
        text_add_string(t, ", \"initial_lr\": ");
        json_add_double(t, group->schedule->initial_lr);
        text_add_string(t, ", \"schedule\": ");
        schedule_add(t, group->schedule);
    }
}

const char *options_name(size_t place)
{
    return table[place].name;
}

static bool same(const void *a, const void *b, option_type type)
{
    const double *x = a;
    const double *y = b;
    switch (type) {
    case OPTION_DOUBLE: return *x == *y;
    case OPTION_BETAS: return x[0] == y[0] && x[1] == y[1];
    case OPTION_BOOL:
    case OPTION_OWN_TRUE:
    case OPTION_OWN_FALSE: return *(const bool *)a == *(const bool *)b;
    case OPTION_NONE_OR_FALSE: return *(const adam_flag *)a == *(const adam_flag *)b;
    case OPTION_FALSE: break;
    }
    return true;
}

size_t options_differ(const adam_options *a, const adam_options *b, size_t place)
{
    while (place < TABLE_LENGTH && same((const char *)a + table[place].offset,
                                        (const char *)b + table[place].offset, table[place].type)) {
        place++;
    }
    return place < TABLE_LENGTH ? place : OPTIONS_SAME;
}
