/* codec_create_head.c: what stands in a creation beside its parameters, in every form: the settings
 * of the optimizer and of its groups. */
#include <stdio.h>
#include <string.h>

#include "codec_create_internal.h"
#include "codec_schedule.h"

codec_status creation_wrong_type(const char *what, const json_value *value, const char *expected,
                                 codec_error *error)
{
    return codec_fail(error, CODEC_INVALID_VALUE, "%s is %s, expected %s", what,
                      value != NULL ? json_type_text(value) : "missing", expected);
}

/* ---- the top level ---- */

/* What a form calls its top level, and the members that it takes there. */
static const struct form {
    const char *where;
    const char *const *members;
} forms[] = {
    [CREATION_LONG] = {"the optimizer", (const char *const[]){CREATION_TOP_MEMBERS, "defaults",
                                                              "param_groups", NULL}},
    [CREATION_SHORT] = {"the optimizer", (const char *const[]){CREATION_TOP_MEMBERS, "params",
                                                               CODEC_OPTION_NAMES, NULL}},
    [CREATION_COMBINED] = {"the optimizer", (const char *const[]){CREATION_TOP_MEMBERS, "defaults",
                                                                  "params", "param_groups", NULL}},
    [CREATION_FILE] = {"__metadata__.optimizer",
                       (const char *const[]){CREATION_TOP_MEMBERS, "defaults", "param_groups",
                                             NULL}},
};

/* Hyperparameters where another form has them are told where to stand. */
static codec_status check_places(const json_value *root, creation_form form, codec_error *error)
{
    static const char *const options[] = {CODEC_OPTION_NAMES, NULL};
    if (form == CREATION_SHORT && json_get(root, "defaults") != NULL) {
        return codec_fail(error, CODEC_UNKNOWN_FIELD,
                          "unknown field 'defaults' in the short form: without param_groups, "
                          "hyperparameters stand beside params");
    }
    for (size_t i = 0; form != CREATION_SHORT && options[i] != NULL; i++) {
        if (json_get(root, options[i]) != NULL) {
            return codec_fail(error, CODEC_UNKNOWN_FIELD,
                              "unknown field '%s' in %s: %s, hyperparameters stand in 'defaults' "
                              "or in a param group",
                              options[i], forms[form].where,
                              form == CREATION_FILE ? "in a file" : "beside param_groups");
        }
    }
    return CODEC_OK;
}

static codec_status read_algorithm(const json_value *root, creation *c, codec_error *error)
{
    const json_value *algorithm = json_get(root, "algorithm");
    c->algorithm = ADAM_ALGORITHM_ADAM;
    if (algorithm != NULL) {
        const char *name = json_type_of(algorithm) == JSON_STRING ? json_string(algorithm) : "";
        if (strcmp(name, "adamw") == 0) {
            c->algorithm = ADAM_ALGORITHM_ADAMW;
        } else if (strcmp(name, "adam") != 0) {
            return codec_fail(error, CODEC_INVALID_VALUE,
                              "algorithm is expected to be \"adam\" or \"adamw\"");
        }
    }
    adam_options_default(c->algorithm, &c->defaults);
    return CODEC_OK;
}

/* A schedule, or null: none. On success *room is the caller's to drop. */
static codec_status read_schedule(creation *c, const json_doc *doc, const json_value *value,
                                  const char *where, buffer **room, adam_schedule **out,
                                  codec_error *error)
{
    *out = NULL;
    *room = NULL;
    return json_type_of(value) == JSON_NULL
               ? CODEC_OK
               : schedule_read(c->pool, doc, value, where, false, room, out, error);
}

/* What is done with gradients and how they are gathered, and the schedule of all groups. */
static codec_status read_settings(const json_doc *doc, const json_value *root, const char *where,
                                  creation *c, codec_error *error)
{
    const json_value *schedule = json_get(root, "schedule");
    adam_grad_options_default(&c->grad_options);
    c->training = (training){0};
    codec_status st = grad_options_read(doc, root, where, &c->grad_options, error);
    if (st == CODEC_OK) {
        st = training_read(doc, root, where, &c->training, error);
    }
    return st == CODEC_OK && schedule != NULL
               ? read_schedule(c, doc, schedule, where, &c->schedule_room, &c->schedule, error)
               : st;
}

/* `defaults`, over torch's. */
static codec_status read_defaults(const json_doc *doc, const json_value *root, creation *c,
                                  codec_error *error)
{
    static const char *const allowed[] = {CODEC_OPTION_NAMES, NULL};
    const json_value *defaults = json_get(root, "defaults");
    if (defaults == NULL) {
        return CODEC_OK;
    }
    if (json_type_of(defaults) != JSON_OBJECT) {
        return creation_wrong_type("defaults", defaults, "an object", error);
    }
    codec_status st = json_check_names(defaults, allowed, "defaults", error);
    return st == CODEC_OK ? options_read(doc, defaults, "defaults", &c->defaults, error) : st;
}

codec_status creation_read_head(const json_doc *doc, creation_form form, creation *c,
                                codec_error *error)
{
    const json_value *root = json_root(doc);
    const char *where = forms[form].where;
    codec_status st = check_places(root, form, error);
    if (st == CODEC_OK) {
        st = json_check_names(root, forms[form].members, where, error);
    }
    if (st == CODEC_OK) {
        st = read_algorithm(root, c, error);
    }
    if (st == CODEC_OK) {
        st = read_settings(doc, root, where, c, error);
    }
    if (st != CODEC_OK) {
        return st;
    }
    return form == CREATION_SHORT ? options_read(doc, root, where, &c->defaults, error)
                                  : read_defaults(doc, root, c, error);
}

/* ---- groups ---- */

codec_status creation_begin_groups(creation *c, size_t n, codec_error *error)
{
    if (n > ADAM_MAX_GROUPS) {
        return codec_fail(error, CODEC_LIMIT, "more than %d param groups", ADAM_MAX_GROUPS);
    }
    const size_t bytes = n * (sizeof *c->groups + sizeof *c->schedule_rooms);
    c->groups_room = buffer_get(c->pool, bytes);
    if (c->groups_room == NULL) {
        return codec_fail(error, CODEC_NO_MEMORY, "no memory for %zu param groups", n);
    }
    memset(c->groups_room->data, 0, bytes);
    c->groups = (void *)c->groups_room->data;
    c->schedule_rooms = (void *)(c->groups + n);
    c->n_schedule_rooms = n;
    return CODEC_OK;
}

codec_status creation_begin_group(creation *c, const json_doc *doc, const json_value *object,
                                  codec_error *error)
{
    static const char *const allowed[] = {CREATION_GROUP_MEMBERS, NULL};
    adam_group_spec *g = &c->groups[c->n_groups];
    char where[32];
    (void)snprintf(where, sizeof where, "param group %zu", c->first_group + c->n_groups);
    *g = (adam_group_spec){.options = c->defaults, .schedule = c->schedule};
    if (json_type_of(object) != JSON_OBJECT) {
        return creation_wrong_type(where, object, "an object", error);
    }
    codec_status st = json_check_names(object, allowed, where, error);
    if (st == CODEC_OK) {
        st = options_read(doc, object, where, &g->options, error);
    }
    const json_value *schedule = json_get(object, "schedule");
    if (st != CODEC_OK || schedule == NULL) {
        return st;
    }
    adam_schedule *own;
    st = read_schedule(c, doc, schedule, where, &c->schedule_rooms[c->n_groups], &own, error);
    g->schedule = own;
    return st;
}
