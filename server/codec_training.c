/* codec_training.c: one table of what an aggregation has in which mode, read and printed. */
#include "codec_training.h"

#include <string.h>

#include "adam/optimizer.h"
#include "codec_numbers.h"

static const char *const mode_names[] = {[AGGREGATION_IMMEDIATE] = "immediate",
                                         [AGGREGATION_SYNC] = "sync",
                                         [AGGREGATION_BUFFERED] = "buffered",
                                         [AGGREGATION_ASYNC] = "async"};
#define MODES (sizeof mode_names / sizeof mode_names[0])

static const char *const reduce_names[] = {
    [ADAM_REDUCE_MEAN] = "mean", [ADAM_REDUCE_SUM] = "sum", [ADAM_REDUCE_WEIGHTED] = "weighted"};
#define REDUCTIONS (sizeof reduce_names / sizeof reduce_names[0])

typedef enum member_type { MEMBER_UINT, MEMBER_BOOL, MEMBER_REDUCE, MEMBER_DAMPING } member_type;

#define OF(mode) (1U << (mode))

static const struct member {
    const char *name;
    member_type type;
    unsigned modes;
    size_t offset; /* of the member of aggregation */
    uint64_t least, most;
    const char *expected;
} members[] = {
    {"workers", MEMBER_UINT, OF(AGGREGATION_SYNC), offsetof(aggregation, workers), 1,
     TRAINING_MAX_GRADIENTS, "a whole number from 1 to 10000"},
    {"quorum", MEMBER_UINT, OF(AGGREGATION_SYNC), offsetof(aggregation, quorum), 1,
     TRAINING_MAX_GRADIENTS, "a whole number from 1 to workers"},
    {"timeout_ms", MEMBER_UINT, OF(AGGREGATION_SYNC), offsetof(aggregation, timeout_ms), 1,
     TRAINING_MAX_TIMEOUT_MS, "a whole number from 1 to 3600000"},
    {"size", MEMBER_UINT, OF(AGGREGATION_BUFFERED), offsetof(aggregation, size), 1,
     TRAINING_MAX_GRADIENTS, "a whole number from 1 to 10000"},
    {"max_staleness", MEMBER_UINT, OF(AGGREGATION_ASYNC), offsetof(aggregation, max_staleness), 0,
     ADAM_MAX_STEP, "a whole number from 0 to 2^53"},
    {"damping", MEMBER_DAMPING, OF(AGGREGATION_ASYNC), offsetof(aggregation, damps), 0, 0,
     "\"none\" or \"inverse\""},
    {"reduce", MEMBER_REDUCE, OF(AGGREGATION_SYNC) | OF(AGGREGATION_BUFFERED),
     offsetof(aggregation, reduce), 0, 0, "\"mean\", \"sum\" or \"weighted\""},
    {"elastic", MEMBER_BOOL, OF(AGGREGATION_SYNC), offsetof(aggregation, elastic), 0, 0,
     "true or false"},
    {"strict", MEMBER_BOOL, OF(AGGREGATION_SYNC) | OF(AGGREGATION_BUFFERED),
     offsetof(aggregation, strict), 0, 0, "true or false"},
};
#define MEMBERS (sizeof members / sizeof members[0])

const char *aggregation_mode_name(aggregation_mode mode)
{
    return mode_names[mode];
}

bool aggregation_same(const aggregation *a, const aggregation *b)
{
    return a->mode == b->mode && a->reduce == b->reduce && a->strict == b->strict &&
           a->workers == b->workers && a->quorum == b->quorum && a->timeout_ms == b->timeout_ms &&
           a->elastic == b->elastic && a->size == b->size && a->max_staleness == b->max_staleness &&
           a->damps == b->damps;
}

static codec_status wrong(const struct member *m, const json_value *value, codec_error *error)
{
    const bool number = json_type_of(value) == JSON_NUMBER;
    return codec_fail(error, CODEC_INVALID_VALUE, "%s of aggregation is %s, expected %s", m->name,
                      number ? "out of its range" : json_type_text(value), m->expected);
}

/* The place of a string among `names`; false where it is none of them. */
static bool find_name(const json_value *value, const char *const *names, size_t n, size_t *place)
{
    for (*place = 0; json_type_of(value) == JSON_STRING && *place < n; ++*place) {
        if (strcmp(json_string(value), names[*place]) == 0) {
            return true;
        }
    }
    return false;
}

static codec_status read_member(const json_doc *doc, const struct member *m,
                                const json_value *value, aggregation *out, codec_error *error)
{
    static const char *const dampings[] = {"none", "inverse"};
    char *to = (char *)out + m->offset;
    size_t place;
    uint64_t number = 0;
    /* the default, or that it has none, is zero; but for a staleness, which may be 0 */
    const bool null = json_type_of(value) == JSON_NULL && (m->type != MEMBER_UINT || m->least > 0);
    switch (m->type) {
    case MEMBER_UINT:
        if (!null && (json_type_of(value) != JSON_NUMBER || !numbers_uint(doc, value, &number) ||
                      number < m->least || number > m->most)) {
            return wrong(m, value, error);
        }
        *(uint64_t *)(void *)to = number;
        return CODEC_OK;
    case MEMBER_BOOL:
        if (!null && json_type_of(value) != JSON_BOOL) {
            return wrong(m, value, error);
        }
        *(bool *)to = !null && json_bool(value);
        return CODEC_OK;
    case MEMBER_REDUCE:
        if (!find_name(value, reduce_names, REDUCTIONS, &place) && !null) {
            return wrong(m, value, error);
        }
        *(adam_reduction *)(void *)to = null ? ADAM_REDUCE_MEAN : (adam_reduction)place;
        return CODEC_OK;
    case MEMBER_DAMPING: break;
    }
    if (!find_name(value, dampings, 2, &place) && !null) {
        return wrong(m, value, error);
    }
    *(bool *)to = place == 1;
    return CODEC_OK;
}

/* The mode that `object` says, or that of `out`; begins anew where it is another. */
static codec_status read_mode(const json_value *object, aggregation *out, codec_error *error)
{
    const json_value *mode = json_get(object, "mode");
    size_t place;
    if (mode == NULL) {
        return CODEC_OK;
    }
    if (!find_name(mode, mode_names, MODES, &place)) {
        return codec_fail(
            error, CODEC_INVALID_VALUE,
            "mode of aggregation is expected to be \"immediate\", \"sync\", \"buffered\" or "
            "\"async\"");
    }
    if ((aggregation_mode)place != out->mode) {
        *out = (aggregation){.mode = (aggregation_mode)place};
    }
    return CODEC_OK;
}

/* What is needed is there, what can be left out has its default, and all of it fits together. */
static codec_status complete(const json_value *object, aggregation *out, codec_error *error)
{
    if (out->mode == AGGREGATION_SYNC) {
        if (out->workers == 0) {
            return codec_fail(error, CODEC_INVALID_VALUE,
                              "aggregation needs workers, the number of workers of a round");
        }
        if (out->quorum == 0 ||
            (json_get(object, "workers") != NULL && json_get(object, "quorum") == NULL)) {
            out->quorum = out->workers;
        }
        if (out->quorum > out->workers) {
            return codec_fail(error, CODEC_INVALID_VALUE,
                              "quorum of aggregation is %llu, expected at most workers, %llu",
                              (unsigned long long)out->quorum, (unsigned long long)out->workers);
        }
        if (out->timeout_ms == 0) {
            out->timeout_ms = TRAINING_TIMEOUT_MS;
        }
    }
    if (out->mode == AGGREGATION_BUFFERED && out->size == 0) {
        return codec_fail(error, CODEC_INVALID_VALUE,
                          "aggregation needs size, the number of gradients of a step");
    }
    return CODEC_OK;
}

static codec_status read_aggregation(const json_doc *doc, const json_value *object,
                                     aggregation *out, codec_error *error)
{
    const char *allowed[MEMBERS + 2] = {"mode"};
    const bool async_before = out->mode == AGGREGATION_ASYNC;
    char where[64] = "aggregation of mode ";
    codec_status st = read_mode(object, out, error);
    size_t n = 1;
    for (size_t i = 0; i < MEMBERS; i++) {
        if ((members[i].modes & OF(out->mode)) != 0) {
            allowed[n++] = members[i].name;
        }
    }
    if (st == CODEC_OK) {
        st = json_check_names(object, allowed, strcat(where, mode_names[out->mode]), error);
    }
    for (size_t i = 0; st == CODEC_OK && i < MEMBERS; i++) {
        const json_value *value = json_get(object, members[i].name);
        if (value != NULL) {
            st = read_member(doc, &members[i], value, out, error);
        }
    }
    if (st == CODEC_OK && out->mode == AGGREGATION_ASYNC && !async_before &&
        json_get(object, "max_staleness") == NULL) {
        return codec_fail(error, CODEC_INVALID_VALUE,
                          "aggregation needs max_staleness, the number of steps that a gradient "
                          "may be behind");
    }
    return st == CODEC_OK ? complete(object, out, error) : st;
}

static codec_status read_input(const json_value *value, const char *where, bool *weights,
                               codec_error *error)
{
    static const char *const names[] = {"gradients", "weights"};
    size_t place;
    if (json_type_of(value) == JSON_NULL) {
        *weights = false;
        return CODEC_OK;
    }
    if (!find_name(value, names, 2, &place)) {
        return codec_fail(error, CODEC_INVALID_VALUE,
                          "input of %s is expected to be \"gradients\" or \"weights\"", where);
    }
    *weights = place == 1;
    return CODEC_OK;
}

codec_status training_read(const json_doc *doc, const json_value *object, const char *where,
                           training *out, codec_error *error)
{
    const json_value *aggregated = json_get(object, "aggregation");
    const json_value *input = json_get(object, "input");
    const json_value *most = json_get(object, "max_consecutive_nonfinite");
    codec_status st = CODEC_OK;
    if (aggregated != NULL && json_type_of(aggregated) == JSON_NULL) {
        out->aggregation = (aggregation){0};
    } else if (aggregated != NULL && json_type_of(aggregated) != JSON_OBJECT) {
        st = codec_fail(error, CODEC_INVALID_VALUE,
                        "aggregation of %s is %s, expected an object with a mode", where,
                        json_type_text(aggregated));
    } else if (aggregated != NULL) {
        st = read_aggregation(doc, aggregated, &out->aggregation, error);
    }
    if (st == CODEC_OK && input != NULL) {
        st = read_input(input, where, &out->weights, error);
    }
    if (st != CODEC_OK || most == NULL) {
        return st;
    }
    if (json_type_of(most) == JSON_NULL) {
        out->max_consecutive_nonfinite = 0;
    } else if (json_type_of(most) != JSON_NUMBER ||
               !numbers_uint(doc, most, &out->max_consecutive_nonfinite) ||
               out->max_consecutive_nonfinite < 1 ||
               out->max_consecutive_nonfinite > TRAINING_MAX_NONFINITE) {
        return codec_fail(error, CODEC_INVALID_VALUE,
                          "max_consecutive_nonfinite of %s is expected as a whole number from 1 to "
                          "%d, or null",
                          where, TRAINING_MAX_NONFINITE);
    }
    return CODEC_OK;
}

/* ---- printing ---- */

static void add_member(text *t, const struct member *m, const aggregation *a)
{
    const char *from = (const char *)a + m->offset;
    text_add_format(t, ", \"%s\": ", m->name);
    switch (m->type) {
    case MEMBER_UINT: text_add_uint(t, *(const uint64_t *)(const void *)from); break;
    case MEMBER_BOOL: text_add_string(t, *(const bool *)from ? "true" : "false"); break;
    case MEMBER_REDUCE:
        text_add_format(t, "\"%s\"", reduce_names[*(const adam_reduction *)(const void *)from]);
        break;
    case MEMBER_DAMPING:
        text_add_string(t, *(const bool *)from ? "\"inverse\"" : "\"none\"");
        break;
    }
}

static void add_aggregation(text *t, const aggregation *a)
{
    text_add_format(t, "{\"mode\": \"%s\"", mode_names[a->mode]);
    for (size_t i = 0; i < MEMBERS; i++) {
        if ((members[i].modes & OF(a->mode)) != 0) {
            add_member(t, &members[i], a);
        }
    }
    text_add(t, "}", 1);
}

const char *training_name(size_t i)
{
    static const char *const names[] = {CODEC_TRAINING_NAMES};
    return i < sizeof names / sizeof names[0] ? names[i] : NULL;
}

void training_add_value(text *t, const training *how, size_t i)
{
    if (i == 0) {
        add_aggregation(t, &how->aggregation);
    } else if (i == 1) {
        text_add_string(t, how->weights ? "\"weights\"" : "\"gradients\"");
    } else if (how->max_consecutive_nonfinite == 0) {
        text_add_string(t, "null");
    } else {
        text_add_uint(t, how->max_consecutive_nonfinite);
    }
}

void training_add(text *t, const training *how)
{
    for (size_t i = 0; training_name(i) != NULL; i++) {
        text_add_format(t, "%s\"%s\": ", i > 0 ? ", " : "", training_name(i));
        training_add_value(t, how, i);
    }
}
