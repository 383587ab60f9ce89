/* codec_schedule.c: schedules read from JSON. Types and names are refused here; ranges are the
 * core's. */
#include "codec_schedule.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "codec_numbers.h"
#include "codec_schedule_table.h"

/* What is being read. `label` begins the messages: "StepLR of param group 1". */
typedef struct reader {
    const json_doc *doc;
    const json_value *object;
    char label[256];
    codec_error *error;
} reader;

static codec_status wrong_type(const reader *r, const char *name, const json_value *value,
                               const char *expected)
{
    return codec_fail(r->error, CODEC_INVALID_VALUE, "%s: %s is %s, expected %s", r->label, name,
                      json_type_text(value), expected);
}

static codec_status read_number(const reader *r, const char *name, const json_value *value,
                                double *out)
{
    if (json_type_of(value) != JSON_NUMBER) {
        return wrong_type(r, name, value, "a number");
    }
    if (!numbers_double(r->doc, value, out)) {
        return codec_fail(r->error, CODEC_INVALID_VALUE, "%s: %s is out of the range of float64",
                          r->label, name);
    }
    return CODEC_OK;
}

static codec_status read_count(const reader *r, const char *name, const json_value *value,
                               uint64_t *out)
{
    if (json_type_of(value) != JSON_NUMBER) {
        return wrong_type(r, name, value, "a whole number");
    }
    if (!numbers_uint(r->doc, value, out)) {
        return codec_fail(r->error, CODEC_INVALID_VALUE,
                          "%s: %s is not a whole number from 0 to 2^53, written in digits",
                          r->label, name);
    }
    return CODEC_OK;
}

static codec_status read_count_or_none(const reader *r, const char *name, const json_value *value,
                                       uint64_t *out)
{
    *out = 0;
    if (json_type_of(value) == JSON_NULL) {
        return CODEC_OK;
    }
    codec_status st = read_count(r, name, value, out);
    if (st == CODEC_OK && *out == 0) {
        st = codec_fail(r->error, CODEC_INVALID_VALUE,
                        "%s: %s is 0, expected a whole number >= 1, or null", r->label, name);
    }
    return st;
}

static codec_status read_anneal(const reader *r, const char *name, const json_value *value,
                                adam_anneal *out)
{
    if (json_type_of(value) != JSON_STRING) {
        return wrong_type(r, name, value, "\"cos\" or \"linear\"");
    }
    for (int i = ADAM_ANNEAL_COS; i <= ADAM_ANNEAL_LINEAR; i++) {
        if (strcmp(json_string(value), schedule_anneal_name((adam_anneal)i)) == 0) {
            *out = (adam_anneal)i;
            return CODEC_OK;
        }
    }
    return codec_fail(r->error, CODEC_INVALID_VALUE,
                      "%s: %s is '" CODEC_NAME_FORMAT "', expected \"cos\" or \"linear\"", r->label,
                      name, CODEC_NAME(json_string(value), strlen(json_string(value))));
}

static codec_status read_argument(const reader *r, const argument *a, const json_value *value,
                                  adam_scheduler *out)
{
    void *member = (char *)out + a->offset;
    switch (a->type) {
    case ARGUMENT_NUMBER: return read_number(r, a->name, value, member);
    case ARGUMENT_COUNT: return read_count(r, a->name, value, member);
    case ARGUMENT_COUNT_OR_NONE: return read_count_or_none(r, a->name, value, member);
    case ARGUMENT_BOOL:
        if (json_type_of(value) != JSON_BOOL) {
            return wrong_type(r, a->name, value, "true or false");
        }
        *(bool *)member = json_bool(value);
        return CODEC_OK;
    case ARGUMENT_ANNEAL: return read_anneal(r, a->name, value, member);
    case ARGUMENT_MILESTONES:
        if (!numbers_uint_list(r->doc, value, a->most, member,
                               (size_t *)(void *)((char *)out + a->count))) {
            return codec_fail(r->error, CODEC_INVALID_VALUE,
                              "%s: %s is expected as a list of at most %zu whole numbers from 0 "
                              "to 2^53",
                              r->label, a->name, a->most);
        }
        return CODEC_OK;
    case ARGUMENT_SCHEDULERS: break; /* schedule_read's own */
    }
    return CODEC_OK;
}

/* A last_epoch of -1 is a whole number too. */
static codec_status read_epoch(const reader *r, const json_value *value, int64_t *out)
{
    double number;
    uint64_t count;
    const bool is_number = value != NULL && json_type_of(value) == JSON_NUMBER;
    if (is_number && numbers_uint(r->doc, value, &count)) {
        *out = (int64_t)count;
        return CODEC_OK;
    }
    if (is_number && numbers_double(r->doc, value, &number) && !(number < -1) && !(number > -1)) {
        *out = -1;
        return CODEC_OK;
    }
    return codec_fail(r->error, CODEC_INVALID_VALUE,
                      "%s: last_epoch is expected, a whole number from -1 to 2^53", r->label);
}

static codec_status read_position(const reader *r, bool in_sequence, adam_scheduler *out)
{
    codec_status st = read_epoch(r, json_get(r->object, "last_epoch"), &out->last_epoch);
    const bool cycles = out->kind == ADAM_COSINE_ANNEALING_WARM_RESTARTS;
    const struct {
        const char *name;
        bool has;
    } members[] = {{"T_cur", cycles}, {"T_i", cycles}, {"base_lr", in_sequence}};
    for (size_t i = 0; st == CODEC_OK && i < 3; i++) {
        const json_value *value = json_get(r->object, members[i].name);
        if (members[i].has && value == NULL) {
            st = codec_fail(r->error, CODEC_INVALID_VALUE, "%s: %s is missing", r->label,
                            members[i].name);
        } else if (members[i].has) {
            st = i == 2 ? read_number(r, members[i].name, value, &out->base_lr)
                        : read_count(r, members[i].name, value, i == 0 ? &out->T_cur : &out->T_i);
        }
    }
    return st;
}

static bool is_position(const adam_scheduler *s, bool in_sequence, const char *name)
{
    const bool cycles = s->kind == ADAM_COSINE_ANNEALING_WARM_RESTARTS;
    return strcmp(name, "last_epoch") == 0 || (in_sequence && strcmp(name, "base_lr") == 0) ||
           (cycles && (strcmp(name, "T_cur") == 0 || strcmp(name, "T_i") == 0));
}

/* A member that is no argument, refused with the reason. */
static codec_status refuse_name(const reader *r, const adam_scheduler *s, bool in_sequence,
                                const char *name)
{
    char known[256] = "";
    if (is_position(s, in_sequence, name)) {
        return codec_fail(r->error, CODEC_UNSUPPORTED_OPTION,
                          "%s: %s is where a schedule stands, and a new one stands at its start; "
                          "positions are taken with a state_dict alone",
                          r->label, name);
    }
    if (strcmp(name, "verbose") == 0) {
        return codec_fail(r->error, CODEC_UNSUPPORTED_OPTION,
                          "%s: verbose asks for printing, which a server does not do; param_groups "
                          "shows each learning rate",
                          r->label);
    }
    size_t count;
    const argument *table = schedule_arguments(&count);
    for (size_t i = 0; i < count; i++) {
        if (table[i].kind == s->kind) {
            const size_t n = strlen(known);
            (void)snprintf(known + n, sizeof known - n, "%s%s", n > 0 ? ", " : "", table[i].name);
        }
    }
    return codec_fail(r->error, CODEC_UNKNOWN_FIELD,
                      "%s: unknown argument '" CODEC_NAME_FORMAT "'; known are %s", r->label,
                      CODEC_NAME(name, strlen(name)), known);
}

static codec_status check_names(const reader *r, const adam_scheduler *s, bool in_sequence,
                                bool position)
{
    size_t count;
    const argument *table = schedule_arguments(&count);
    for (const json_value *m = json_first(r->object); m != NULL; m = json_next(m)) {
        const char *name = json_name(m);
        bool known = strcmp(name, "name") == 0 || (position && is_position(s, in_sequence, name));
        for (size_t i = 0; !known && i < count; i++) {
            known = table[i].kind == s->kind && strcmp(table[i].name, name) == 0;
        }
        if (!known) {
            return refuse_name(r, s, in_sequence, name);
        }
    }
    return CODEC_OK;
}

static codec_status read_kind(const reader *r, adam_scheduler_kind *out)
{
    const json_value *name =
        json_type_of(r->object) == JSON_OBJECT ? json_get(r->object, "name") : NULL;
    char known[256] = "";
    for (int i = 0; i < ADAM_SCHEDULER_KINDS; i++) {
        const char *one = adam_scheduler_name((adam_scheduler_kind)i);
        if (name != NULL && json_type_of(name) == JSON_STRING &&
            strcmp(one, json_string(name)) == 0) {
            *out = (adam_scheduler_kind)i;
            return CODEC_OK;
        }
        const size_t n = strlen(known);
        (void)snprintf(known + n, sizeof known - n, "%s%s", i > 0 ? ", " : "", one);
    }
    if (json_type_of(r->object) != JSON_OBJECT) {
        return codec_fail(r->error, CODEC_INVALID_VALUE,
                          "%s is %s, expected an object with a name, one of %s", r->label,
                          json_type_text(r->object), known);
    }
    if (name == NULL || json_type_of(name) != JSON_STRING) {
        return codec_fail(r->error, CODEC_INVALID_VALUE, "%s: name is %s, expected one of %s",
                          r->label, name == NULL ? "missing" : json_type_text(name), known);
    }
    return codec_fail(r->error, CODEC_INVALID_VALUE,
                      "%s: name is '" CODEC_NAME_FORMAT "', expected one of %s", r->label,
                      CODEC_NAME(json_string(name), strlen(json_string(name))), known);
}

static codec_status read_arguments(const reader *r, adam_scheduler *out)
{
    codec_status st = CODEC_OK;
    size_t count;
    const argument *table = schedule_arguments(&count);
    for (size_t i = 0; st == CODEC_OK && i < count; i++) {
        const argument *a = &table[i];
        const json_value *value = a->kind == out->kind ? json_get(r->object, a->name) : NULL;
        if (value != NULL) {
            st = read_argument(r, a, value, out);
        } else if (a->kind == out->kind && a->required) {
            st =
                codec_fail(r->error, CODEC_INVALID_VALUE,
                           "%s: %s is missing, and torch has no default for it", r->label, a->name);
        }
    }
    return st;
}

/* One scheduler. `where`: "param group 1", or the same with the place in a SequentialLR. */
static codec_status read_scheduler(reader *r, const char *where, bool in_sequence, bool position,
                                   adam_scheduler *out)
{
    adam_scheduler_kind kind;
    (void)snprintf(r->label, sizeof r->label, "%s%s", in_sequence ? "" : "schedule of ", where);
    codec_status st = read_kind(r, &kind);
    if (st != CODEC_OK) {
        return st;
    }
    adam_scheduler_default(kind, out);
    (void)snprintf(r->label, sizeof r->label, "%s%s%s", adam_scheduler_name(kind),
                   in_sequence ? ", " : " of ", where);
    if (in_sequence && kind == ADAM_SEQUENTIAL_LR) {
        return codec_fail(r->error, CODEC_INVALID_VALUE,
                          "%s: a SequentialLR cannot stand in another", r->label);
    }
    st = check_names(r, out, in_sequence, position);
    if (st == CODEC_OK) {
        st = read_arguments(r, out);
    }
    return st == CODEC_OK && position ? read_position(r, in_sequence, out) : st;
}

static codec_status read_children(const reader *parent, const json_value *list, const char *where,
                                  bool position, adam_schedule *out)
{
    char place[192];
    reader r = *parent;
    codec_status st = CODEC_OK;
    r.object = list != NULL ? json_first(list) : NULL;
    for (size_t i = 1; st == CODEC_OK && i < out->n; i++) {
        (void)snprintf(place, sizeof place, "schedulers[%zu] of SequentialLR of %s", i - 1, where);
        st = read_scheduler(&r, place, true, position, &out->at[i]);
        r.object = json_next(r.object);
    }
    return st;
}

/* How many schedulers a SequentialLR has. */
static codec_status count_children(const reader *r, const json_value *list, size_t *count)
{
    if (json_type_of(list) != JSON_LIST) { /* [] is a list of numbers */
        return codec_fail(r->error, CODEC_INVALID_VALUE,
                          "%s: schedulers is expected as a list of 1 to %d schedules", r->label,
                          ADAM_MAX_SCHEDULERS);
    }
    *count = json_count(list);
    return *count <= ADAM_MAX_SCHEDULERS
               ? CODEC_OK
               : codec_fail(r->error, CODEC_LIMIT, "%s: %zu schedulers, expected at most %d",
                            r->label, *count, ADAM_MAX_SCHEDULERS);
}

codec_status schedule_read(buffer_pool *pool, const json_doc *doc, const json_value *value,
                           const char *where, bool position, buffer **room, adam_schedule **out,
                           codec_error *error)
{
    reader r = {.doc = doc, .object = value, .error = error};
    adam_scheduler first;
    size_t children = 0;
    *room = NULL;
    *out = NULL;
    codec_status st = read_scheduler(&r, where, false, position, &first);
    const json_value *list = NULL;
    if (st == CODEC_OK && first.kind == ADAM_SEQUENTIAL_LR) {
        list = json_get(value, "schedulers");
        st = count_children(&r, list, &children);
    }
    if (st != CODEC_OK) {
        return st;
    }
    buffer *b = buffer_get(pool, adam_schedule_bytes_of(1 + children));
    if (b == NULL) {
        return codec_fail(error, CODEC_NO_MEMORY, "no memory to read the schedule");
    }
    adam_schedule *schedule = (void *)b->data; /* buffers are aligned to 64 bytes */
    schedule->initial_lr = 0;
    schedule->n = 1 + children;
    schedule->at[0] = first;
    st = read_children(&r, list, where, position, schedule);
    if (st != CODEC_OK) {
        buffer_drop(b);
        return st;
    }
    if (!position) {
        adam_schedule_rewind(schedule);
    }
    *room = b;
    *out = schedule;
    return CODEC_OK;
}
