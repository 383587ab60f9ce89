/* codec_create_params.c: descriptions of parameters in JSON. Leaves names and duplicates to the
 * core. */
#include <stdio.h>
#include <string.h>

#include "codec_create_internal.h"
#include "codec_numbers.h"

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

codec_status creation_read_param(const json_doc *doc, const json_value *object, tensor_list *list,
                                 codec_error *error)
{
    static const char *const allowed[] = {"name", "shape", "dtype", "data", NULL};
    if (json_type_of(object) != JSON_OBJECT) {
        return creation_wrong_type("a parameter", object, "an object with a name", error);
    }
    codec_status st = json_check_names(object, allowed, "a parameter", error);
    const json_value *name = json_get(object, "name");
    if (st == CODEC_OK && (name == NULL || json_type_of(name) != JSON_STRING)) {
        st = creation_wrong_type("name of a parameter", name, "a string", error);
    }
    if (st != CODEC_OK) {
        return st;
    }
    adam_tensor *t = tensor_list_add(list, json_string(name), NULL);
    return read_param_body(doc, object, t, &list->values[list->n - 1], error);
}

/* A parameter of an object of them, name: nested list, or name: {"shape", "dtype", "data"}. */
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

codec_status creation_read_params(buffer_pool *pool, const json_doc *doc, const json_value *params,
                                  tensor_list *list, codec_error *error)
{
    if (json_type_of(params) != JSON_OBJECT) {
        return creation_wrong_type("params", params, "an object of parameters by name", error);
    }
    codec_status st = tensor_list_begin(pool, json_count(params), list, error);
    for (const json_value *p = json_first(params); st == CODEC_OK && p != NULL; p = json_next(p)) {
        st = read_short_param(doc, p, list, error);
    }
    return st;
}
