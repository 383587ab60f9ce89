/* codec_tensors.c: gathering tensors before the core sees them. */
#include "codec_tensors.h"

#include <stdio.h>
#include <string.h>

#include "codec_numbers.h"

codec_status tensor_list_begin(buffer_pool *pool, size_t capacity, tensor_list *list,
                               codec_error *error)
{
    *list = (tensor_list){.pool = pool, .capacity = capacity};
    if (capacity > CODEC_MAX_TENSORS) {
        return codec_fail(error, CODEC_LIMIT, "more than %d tensors", CODEC_MAX_TENSORS);
    }
    list->room = buffer_get(pool, capacity * (sizeof *list->tensors + sizeof *list->values));
    if (list->room == NULL) {
        return codec_fail(error, CODEC_NO_MEMORY, "no memory for %zu tensors", capacity);
    }
    list->tensors = (void *)list->room->data;
    list->values = (void *)(list->tensors + capacity);
    return CODEC_OK;
}

adam_tensor *tensor_list_add(tensor_list *list, const char *name, const json_value *values)
{
    adam_tensor *t = &list->tensors[list->n];
    *t = (adam_tensor){.name = name, .name_len = strlen(name)};
    list->values[list->n++] = values;
    return t;
}

static uint64_t tensor_bytes(const adam_tensor *t)
{
    uint64_t numel = 0;
    (void)adam_shape_numel(t->rank, t->shape, &numel);
    return numel * adam_dtype_size(t->dtype);
}

/* Gives each tensor of `dtype` its place from *offset on, and reads it. */
static codec_status read_dtype(const json_doc *doc, tensor_list *list, adam_dtype dtype,
                               const char *what, size_t *offset, codec_error *error)
{
    char label[ADAM_MAX_NAME + 64];
    for (size_t i = 0; i < list->n; i++) {
        adam_tensor *t = &list->tensors[i];
        if (t->dtype != dtype || list->values[i] == NULL) {
            continue;
        }
        t->data = list->data->data + *offset;
        *offset += tensor_bytes(t);
        (void)snprintf(label, sizeof label, "%s of '%s'", what, t->name);
        codec_status st = numbers_read(doc, list->values[i], label, dtype, t->data, error);
        if (st != CODEC_OK) {
            codec_error_param(error, t->name, t->name_len);
            return st;
        }
    }
    return CODEC_OK;
}

/* Whether all numbers stand one behind the other where they were read while they were parsed: then
 * they stay there. */
static bool take_floats(const json_doc *doc, tensor_list *list)
{
    const float *first = NULL;
    const float *next = NULL;
    for (size_t i = 0; i < list->n; i++) {
        adam_tensor *t = &list->tensors[i];
        if (list->values[i] == NULL) {
            continue;
        }
        const bool floats =
            t->dtype == ADAM_FLOAT32 && json_type_of(list->values[i]) == JSON_NUMBERS;
        const float *values = floats ? json_numbers_of(doc, list->values[i])->values : NULL;
        if (values == NULL || (next != NULL && values != next)) {
            return false;
        }
        first = first != NULL ? first : values;
        next = values + tensor_bytes(t) / sizeof *values;
    }
    if (first == NULL) {
        return false;
    }
    list->data = buffer_hold(json_floats(doc));
    list->data_offset = (size_t)((const char *)first - list->data->data);
    list->data_length = (size_t)(next - first) * sizeof *first;
    char *at = list->data->data + list->data_offset;
    for (size_t i = 0; i < list->n; i++) {
        if (list->values[i] != NULL) {
            list->tensors[i].data = at;
            at += tensor_bytes(&list->tensors[i]);
        }
    }
    return true;
}

codec_status tensor_list_read(const json_doc *doc, tensor_list *list, const char *what,
                              codec_error *error)
{
    if (take_floats(doc, list)) {
        return CODEC_OK;
    }
    uint64_t bytes = 0;
    for (size_t i = 0; i < list->n; i++) {
        bytes += list->values[i] != NULL ? tensor_bytes(&list->tensors[i]) : 0;
    }
    list->data = buffer_get(list->pool, bytes);
    if (list->data == NULL) {
        return codec_fail(error, CODEC_NO_MEMORY, "no memory for %llu bytes of numbers",
                          (unsigned long long)bytes);
    }
    list->data->length = bytes;
    list->data_length = bytes;
    /* the wider type first: then all are aligned without gaps */
    size_t offset = 0;
    codec_status st = read_dtype(doc, list, ADAM_FLOAT64, what, &offset, error);
    return st == CODEC_OK ? read_dtype(doc, list, ADAM_FLOAT32, what, &offset, error) : st;
}

void tensor_list_drop(tensor_list *list)
{
    buffer_drop(list->room);
    buffer_drop(list->data);
    *list = (tensor_list){0};
}

codec_status tensor_list_read_object(buffer_pool *pool, const json_doc *doc,
                                     const json_value *object, const char *what,
                                     const adam_optimizer *optimizer, tensor_list *list,
                                     codec_error *error)
{
    codec_status st = tensor_list_begin(pool, json_count(object), list, error);
    char label[ADAM_MAX_NAME + 64];
    for (const json_value *m = json_first(object); st == CODEC_OK && m != NULL; m = json_next(m)) {
        adam_tensor *t = tensor_list_add(list, json_name(m), m);
        if (!numbers_have_shape(doc, m, &t->rank, t->shape)) {
            (void)snprintf(label, sizeof label, "%s of '%s'", what, t->name);
            st = numbers_shape(doc, m, label, &t->rank, t->shape, error);
            codec_error_param(error, t->name, t->name_len);
            return st;
        }
        size_t param;
        if (adam_optimizer_find(optimizer, t->name, t->name_len, &param)) {
            const adam_tensor own = adam_optimizer_param(optimizer, param).tensor;
            t->dtype = own.dtype;
            if (numbers_shape_fits(own.rank, own.shape, t->rank, t->shape)) {
                t->rank = own.rank;
                memcpy(t->shape, own.shape, sizeof t->shape);
            }
        }
    }
    return st == CODEC_OK ? tensor_list_read(doc, list, what, error) : st;
}
