/* codec_create.c: reading creations. Leaves ranges, names and duplicates to the core. */
#include "codec_create.h"

#include <stdio.h>
#include <string.h>

#include "codec_create_internal.h"
#include "codec_names.h"
#include "codec_numbers.h"
#include "codec_options.h"

static codec_status wrong_type(const char *what, const json_value *value, const char *expected,
                               codec_error *error)
{
    return codec_fail(error, CODEC_INVALID_VALUE, "%s is %s, expected %s", what,
                      value != NULL ? json_type_text(value) : "missing", expected);
}

void creation_drop(creation *c)
{
    json_free(c->doc);
    safetensors_drop(&c->file);
    tensor_list_drop(&c->list);
    buffer_drop(c->groups_room);
    *c = (creation){0};
}

/* ---- parameters ---- */

/* The members of a parameter object beside its name, into t; `values` gets its data, or NULL. */
static codec_status read_param_body(const json_doc *doc, const json_value *object, adam_tensor *t,
                                    const json_value **values, codec_error *error)
{
    char label[ADAM_MAX_NAME + 64];
    (void)snprintf(label, sizeof label, "data of '" CODEC_NAME_FORMAT "'",
                   CODEC_NAME(t->name, t->name_len));
    const json_value *dtype = json_get(object, "dtype");
    const json_value *shape = json_get(object, "shape");
    *values = json_get(object, "data");
    if (dtype != NULL &&
        (json_type_of(dtype) != JSON_STRING || (strcmp(json_string(dtype), "float32") != 0 &&
                                                strcmp(json_string(dtype), "float64") != 0))) {
        codec_fail(error, CODEC_DTYPE,
                   "dtype of '" CODEC_NAME_FORMAT "' is expected to be \"float32\" or \"float64\"",
                   CODEC_NAME(t->name, t->name_len));
        goto named;
    }
    t->dtype = dtype != NULL && json_string(dtype)[5] == '6' ? ADAM_FLOAT64 : ADAM_FLOAT32;
    if (*values == NULL && shape == NULL) {
        codec_fail(error, CODEC_INVALID_VALUE,
                   "parameter '" CODEC_NAME_FORMAT "' needs a shape, data or both",
                   CODEC_NAME(t->name, t->name_len));
        goto named;
    }
    if (*values != NULL &&
        numbers_shape(doc, *values, label, &t->rank, t->shape, error) != CODEC_OK) {
        goto named;
    }
    if (shape == NULL) {
        return CODEC_OK;
    }
    uint64_t said[ADAM_MAX_RANK];
    size_t rank;
    uint64_t numel;
    if (!numbers_uint_list(doc, shape, ADAM_MAX_RANK, said, &rank) ||
        !adam_shape_numel((int)rank, said, &numel)) {
        codec_fail(error, CODEC_INVALID_VALUE,
                   "shape of '" CODEC_NAME_FORMAT
                   "' is expected as a list of at most %d whole numbers, of at most "
                   "2^53 elements",
                   CODEC_NAME(t->name, t->name_len), ADAM_MAX_RANK);
        goto named;
    }
    if (*values != NULL && !numbers_shape_fits((int)rank, said, t->rank, t->shape)) {
        codec_fail(error, CODEC_INVALID_VALUE, "%s does not have the shape that stands beside it",
                   label);
        goto named;
    }
    t->rank = (int)rank;
    memcpy(t->shape, said, sizeof t->shape);
    return CODEC_OK;
named:
    codec_error_param(error, t->name, t->name_len);
    return error->status;
}

/* A parameter of the long form: {"name", "shape", "dtype", "data"}. */
static codec_status read_param(const json_doc *doc, const json_value *object, tensor_list *list,
                               codec_error *error)
{
    static const char *const allowed[] = {"name", "shape", "dtype", "data", NULL};
    if (json_type_of(object) != JSON_OBJECT) {
        return wrong_type("a parameter", object, "an object with a name", error);
    }
    codec_status st = json_check_names(object, allowed, "a parameter", error);
    const json_value *name = json_get(object, "name");
    if (st == CODEC_OK && (name == NULL || json_type_of(name) != JSON_STRING)) {
        st = wrong_type("name of a parameter", name, "a string", error);
    }
    if (st != CODEC_OK) {
        return st;
    }
    adam_tensor *t = tensor_list_add(list, json_string(name), NULL);
    return read_param_body(doc, object, t, &list->values[list->n - 1], error);
}

/* A parameter of the short form: name: nested list, or name: {"shape", "dtype", "data"}. */
static codec_status read_short_param(const json_doc *doc, const json_value *member,
                                     tensor_list *list, codec_error *error)
{
    static const char *const allowed[] = {"shape", "dtype", "data", NULL};
    adam_tensor *t = tensor_list_add(list, json_name(member), member);
    if (json_type_of(member) == JSON_OBJECT) {
        codec_status st = json_check_names(member, allowed, "a parameter", error);
        return st == CODEC_OK ? read_param_body(doc, member, t, &list->values[list->n - 1], error)
                              : st;
    }
    char label[ADAM_MAX_NAME + 64];
    (void)snprintf(label, sizeof label, "data of '" CODEC_NAME_FORMAT "'",
                   CODEC_NAME(t->name, t->name_len));
    codec_status st = numbers_shape(doc, member, label, &t->rank, t->shape, error);
    if (st != CODEC_OK) {
        codec_error_param(error, t->name, t->name_len);
    }
    return st;
}

/* ---- groups ---- */

/* The options of group `index`, over the defaults. */
codec_status creation_read_group_options(const creation *c, const json_doc *doc,
                                         const json_value *object, size_t index,
                                         adam_options *options, codec_error *error)
{
    static const char *const allowed[] = {"params", CODEC_OPTION_NAMES, NULL};
    char where[32];
    (void)snprintf(where, sizeof where, "param group %zu", index);
    if (json_type_of(object) != JSON_OBJECT) {
        return wrong_type(where, object, "an object", error);
    }
    codec_status st = json_check_names(object, allowed, where, error);
    *options = c->defaults;
    return st == CODEC_OK ? options_read(doc, object, where, options, error) : st;
}

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

/* Adds a group of the long form, whose parameters stand in it. */
static codec_status add_group(creation *c, const json_value *object, codec_error *error)
{
    adam_group_spec *g = &c->groups[c->n_groups];
    *g = (adam_group_spec){.params = c->list.tensors + c->list.n};
    codec_status st =
        creation_read_group_options(c, c->doc, object, c->n_groups, &g->options, error);
    if (st != CODEC_OK) {
        return st;
    }
    const json_value *params = json_get(object, "params");
    if (params == NULL ||
        (json_type_of(params) != JSON_LIST && !names_empty_list(c->doc, params))) {
        return wrong_type("params of a param group", params, "a list of parameters", error);
    }
    for (const json_value *p = json_first(params); p != NULL; p = json_next(p)) {
        st = read_param(c->doc, p, &c->list, error);
        if (st != CODEC_OK) {
            return st;
        }
        g->n_params++;
    }
    c->n_groups++;
    return CODEC_OK;
}

/* The number of parameters in all groups; wrong types count as none here and are refused later. */
static size_t count_params(const json_value *groups)
{
    size_t n = 0;
    for (const json_value *g = json_first(groups); g != NULL; g = json_next(g)) {
        const json_value *params = json_type_of(g) == JSON_OBJECT ? json_get(g, "params") : NULL;
        n += params != NULL && json_type_of(params) == JSON_LIST ? json_count(params) : 0;
    }
    return n;
}

codec_status creation_read_algorithm(const json_value *root, creation *c, codec_error *error)
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

/* `defaults` of the long form, over torch's. */
codec_status creation_read_defaults(const json_doc *doc, const json_value *root, creation *c,
                                    codec_error *error)
{
    static const char *const allowed[] = {CODEC_OPTION_NAMES, NULL};
    const json_value *defaults = json_get(root, "defaults");
    if (defaults == NULL) {
        return CODEC_OK;
    }
    if (json_type_of(defaults) != JSON_OBJECT) {
        return wrong_type("defaults", defaults, "an object", error);
    }
    codec_status st = json_check_names(defaults, allowed, "defaults", error);
    return st == CODEC_OK ? options_read(doc, defaults, "defaults", &c->defaults, error) : st;
}

/* ---- the three forms ---- */

static codec_status read_long_form(buffer_pool *pool, creation *c, codec_error *error)
{
    static const char *const allowed[] = {"algorithm", "defaults", "param_groups", NULL};
    const json_value *root = json_root(c->doc);
    codec_status st = json_check_names(root, allowed, "the optimizer", error);
    if (st == CODEC_OK) {
        st = creation_read_defaults(c->doc, root, c, error);
    }
    const json_value *groups = json_get(root, "param_groups");
    if (st == CODEC_OK && json_type_of(groups) != JSON_LIST) {
        st = wrong_type("param_groups", groups, "a list of param groups", error);
    }
    if (st == CODEC_OK) {
        st = creation_begin_groups(pool, c, json_count(groups), error);
    }
    if (st == CODEC_OK) {
        st = tensor_list_begin(pool, count_params(groups), &c->list, error);
    }
    for (const json_value *g = json_first(groups); st == CODEC_OK && g != NULL; g = json_next(g)) {
        st = add_group(c, g, error);
    }
    return st;
}

static codec_status read_short_form(buffer_pool *pool, creation *c, codec_error *error)
{
    static const char *const allowed[] = {"algorithm", "params", CODEC_OPTION_NAMES, NULL};
    const json_value *root = json_root(c->doc);
    codec_status st = json_check_names(root, allowed, "the optimizer", error);
    if (st == CODEC_OK) {
        st = options_read(c->doc, root, "the optimizer", &c->defaults, error);
    }
    const json_value *params = json_get(root, "params");
    if (st == CODEC_OK && (params == NULL || json_type_of(params) != JSON_OBJECT)) {
        st = params == NULL
                 ? wrong_type("param_groups (or params, in the short form)", NULL,
                              "a list of param groups", error)
                 : wrong_type("params", params, "an object of parameters by name", error);
    }
    if (st == CODEC_OK) {
        st = creation_begin_groups(pool, c, 1, error);
    }
    if (st == CODEC_OK) {
        st = tensor_list_begin(pool, json_count(params), &c->list, error);
    }
    for (const json_value *p = st == CODEC_OK ? json_first(params) : NULL;
         st == CODEC_OK && p != NULL; p = json_next(p)) {
        st = read_short_param(c->doc, p, &c->list, error);
    }
    if (st == CODEC_OK) {
        c->groups[0] = (adam_group_spec){
            .options = c->defaults, .params = c->list.tensors, .n_params = c->list.n};
        c->n_groups = 1;
    }
    return st;
}

codec_status creation_read_json(buffer_pool *pool, const char *body, size_t length, creation *c,
                                codec_error *error)
{
    *c = (creation){0};
    codec_status st = json_parse(pool, body, length, &c->doc, error);
    if (st != CODEC_OK) {
        return st;
    }
    const json_value *root = json_root(c->doc);
    if (json_type_of(root) != JSON_OBJECT) {
        return wrong_type("the body", root, "an object", error);
    }
    st = creation_read_algorithm(root, c, error);
    if (st == CODEC_OK) {
        st = json_get(root, "param_groups") != NULL ? read_long_form(pool, c, error)
                                                    : read_short_form(pool, c, error);
    }
    return st == CODEC_OK ? tensor_list_read(c->doc, &c->list, "data", error) : st;
}

codec_status creation_read_group(buffer_pool *pool, const char *body, size_t length,
                                 const adam_options *defaults, creation *c, codec_error *error)
{
    *c = (creation){.defaults = *defaults};
    codec_status st = json_parse(pool, body, length, &c->doc, error);
    if (st != CODEC_OK) {
        return st;
    }
    const json_value *root = json_root(c->doc);
    const json_value *params = json_type_of(root) == JSON_OBJECT ? json_get(root, "params") : NULL;
    st = creation_begin_groups(pool, c, 1, error);
    if (st == CODEC_OK) {
        st = tensor_list_begin(pool, params != NULL ? json_count(params) : 0, &c->list, error);
    }
    if (st == CODEC_OK) {
        st = add_group(c, root, error);
    }
    return st == CODEC_OK ? tensor_list_read(c->doc, &c->list, "data", error) : st;
}
