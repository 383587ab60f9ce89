/* codec_tensors.h: lists of tensors on their way in, from JSON or safetensors alike. */
#ifndef ADAMD_CODEC_TENSORS_H
#define ADAMD_CODEC_TENSORS_H

#include "adam/optimizer.h"
#include "codec_json.h"
#include "codec_safetensors.h"

/* Tensors and where their numbers come from. Names and values point into the JSON document, data
 * into `data` or into the body of a safetensors file. */
typedef struct tensor_list {
    buffer_pool *pool;
    adam_tensor *tensors;
    const json_value **values; /* of each tensor that comes from JSON; NULL: no data */
    size_t n, capacity;
    buffer *room; /* holds both arrays */
    buffer *data; /* holds the numbers that were read from JSON, without gaps: */
    size_t data_offset, data_length;
} tensor_list;

/* An empty list with room for `capacity` tensors. In any case the caller calls tensor_list_drop. */
codec_status tensor_list_begin(buffer_pool *pool, size_t capacity, tensor_list *list,
                               codec_error *error);
/* Adds a tensor with its name, to be filled in by the caller. There is room. */
adam_tensor *tensor_list_add(tensor_list *list, const char *name, const json_value *values);
/* Reads the numbers of all tensors that have `values`, whose shapes and dtypes are set, into one
 * buffer; the others get data NULL. `what` begins messages: "gradient". */
codec_status tensor_list_read(const json_doc *doc, tensor_list *list, const char *what,
                              codec_error *error);
void tensor_list_drop(tensor_list *list);

/* A list of the optimizer's parameters by name, from a JSON object of nested lists. Each takes its
 * dtype from the optimizer, and its shape where only zeros hide it; what fits no parameter is the
 * core's to refuse. Reads the numbers too. */
codec_status tensor_list_read_object(buffer_pool *pool, const json_doc *doc,
                                     const json_value *object, const char *what,
                                     const adam_optimizer *optimizer, tensor_list *list,
                                     codec_error *error);

#endif
