/* codec_create_head.c: what stands in a creation beside its parameters, in every form: the settings
 * of the optimizer and of its groups. */
#include <stdio.h>
#include <string.h>

#include "codec_create_internal.h"

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
    if (st != CODEC_OK) {
        return st;
    }
    return form == CREATION_SHORT ? options_read(doc, root, where, &c->defaults, error)
                                  : read_defaults(doc, root, c, error);
}

/* ---- groups ---- */

codec_status creation_begin_groups(buffer_pool *pool, creation *c, size_t n, codec_error *error)
{
    if (n > ADAM_MAX_GROUPS) {
        return codec_fail(error, CODEC_LIMIT, "more than %d param groups", ADAM_MAX_GROUPS);
    }
    c->groups_room = buffer_get(pool, n * sizeof *c->groups);
    if (c->groups_room == NULL) {
        return codec_fail(error, CODEC_NO_MEMORY, "no memory for %zu param groups", n);
    }
    c->groups = (void *)c->groups_room->data;
    return CODEC_OK;
}

codec_status creation_begin_group(creation *c, const json_doc *doc, const json_value *object,
                                  codec_error *error)
{
    static const char *const allowed[] = {CREATION_GROUP_MEMBERS, NULL};
    adam_group_spec *g = &c->groups[c->n_groups];
    char where[32];
    (void)snprintf(where, sizeof where, "param group %zu", c->n_groups);
    *g = (adam_group_spec){.options = c->defaults};
    if (json_type_of(object) != JSON_OBJECT) {
        return creation_wrong_type(where, object, "an object", error);
    }
    codec_status st = json_check_names(object, allowed, where, error);
    return st == CODEC_OK ? options_read(doc, object, where, &g->options, error) : st;
}
