/* outgoing.c: parameters on their way out. */
#include "outgoing.h"

#include <string.h>

void outgoing_drop(outgoing *out)
{
    buffer_drop(out->data);
    buffer_drop(out->room);
    *out = (outgoing){0};
}

static uint64_t numel_of(const adam_tensor *t)
{
    uint64_t numel = 0;
    (void)adam_shape_numel(t->rank, t->shape, &numel);
    return numel;
}

/* The type that a gradient's parameter has; its own where there is no such parameter, which the
 * core refuses. */
static adam_dtype stored_dtype(const adam_optimizer *o, const adam_tensor *t)
{
    size_t param;
    return adam_optimizer_find(o, t->name, t->name_len, &param)
               ? adam_optimizer_param(o, param).tensor.dtype
               : t->dtype;
}

/* Copies n views, to be given types by the caller. */
static adam_tensor *begin(buffer_pool *pool, size_t n, outgoing *out)
{
    out->room = buffer_get(pool, n * sizeof(adam_tensor));
    out->n = n;
    out->tensors = out->room != NULL ? (void *)out->room->data : NULL;
    return (void *)out->tensors;
}

/* Gives the tensors their places in a new buffer: the widest type first, so that all are aligned.
 */
static bool place(buffer_pool *pool, adam_tensor *tensors, outgoing *out)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < out->n; i++) {
        bytes += numel_of(&tensors[i]) * adam_dtype_size(tensors[i].dtype);
    }
    out->data = buffer_get(pool, bytes);
    if (out->data == NULL) {
        return false;
    }
    out->data_offset = 0;
    out->data_length = bytes;
    char *at = out->data->data;
    for (size_t size = sizeof(double); size >= sizeof(uint16_t); size /= 2) {
        for (size_t i = 0; i < out->n; i++) {
            if (adam_dtype_size(tensors[i].dtype) == size) {
                tensors[i].data = at;
                at += numel_of(&tensors[i]) * size;
            }
        }
    }
    return true;
}

bool outgoing_of_step(buffer_pool *pool, const tensor_body *body, const adam_optimizer *o,
                      const adam_dtype *dtype, outgoing *out)
{
    bool in_place = true;
    *out = (outgoing){.own_type = true};
    for (size_t i = 0; i < body->n; i++) {
        const adam_dtype stored = stored_dtype(o, &body->tensors[i]);
        const adam_dtype wanted = dtype != NULL ? *dtype : stored;
        in_place = in_place && wanted == body->tensors[i].dtype;
        out->own_type = out->own_type && wanted == stored;
    }
    if (in_place) {
        out->tensors = body->tensors;
        out->n = body->n;
        out->data = buffer_hold(body->data);
        out->data_offset = body->data_offset;
        out->data_length = body->data_length;
        return true;
    }
    adam_tensor *tensors = begin(pool, body->n, out);
    if (tensors == NULL) {
        return false;
    }
    for (size_t i = 0; i < body->n; i++) {
        tensors[i] = body->tensors[i];
        tensors[i].dtype = dtype != NULL ? *dtype : stored_dtype(o, &tensors[i]);
    }
    return place(pool, tensors, out);
}

bool outgoing_room(buffer_pool *pool, const adam_tensor *named, size_t n, const adam_optimizer *o,
                   const adam_dtype *dtype, outgoing *out)
{
    *out = (outgoing){.own_type = true};
    adam_tensor *tensors = begin(pool, n, out);
    if (tensors == NULL) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        tensors[i] = named[i];
        tensors[i].dtype = dtype != NULL ? *dtype : stored_dtype(o, &named[i]);
        out->own_type = out->own_type && tensors[i].dtype == stored_dtype(o, &named[i]);
    }
    return place(pool, tensors, out);
}

void outgoing_fill(const adam_optimizer *o, outgoing *out)
{
    for (size_t i = 0; i < out->n; i++) {
        const adam_tensor *t = &out->tensors[i];
        size_t param;
        if (adam_optimizer_find(o, t->name, t->name_len, &param)) {
            const adam_param_view v = adam_optimizer_param(o, param);
            adam_convert(t->dtype, t->data, v.tensor.dtype, v.tensor.data, v.numel);
        }
    }
}

bool outgoing_of_params(buffer_pool *pool, const adam_optimizer *o, size_t first, size_t n,
                        adam_dtype dtype, outgoing *out)
{
    *out = (outgoing){0};
    adam_tensor *tensors = begin(pool, n, out);
    if (tensors == NULL) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        tensors[i] = adam_optimizer_param(o, first + i).tensor;
        tensors[i].dtype = dtype;
    }
    if (!place(pool, tensors, out)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const adam_param_view v = adam_optimizer_param(o, first + i);
        adam_convert(dtype, tensors[i].data, v.tensor.dtype, v.tensor.data, v.numel);
    }
    return true;
}
