/* codec_safetensors.h: safetensors files, read in place and written as a header before the data.
 * Format: https://huggingface.co/docs/safetensors (8 bytes of header length, JSON header, data). */
#ifndef ADAMD_CODEC_SAFETENSORS_H
#define ADAMD_CODEC_SAFETENSORS_H

#include "codec_json.h"

/* A parsed file. Everything points into the body and `header`. */
typedef struct safetensors {
    json_doc *header;
    const json_value *metadata; /* object of strings, or NULL */
    adam_tensor *tensors;       /* in the order of the header */
    size_t n_tensors;
    size_t data_offset; /* of the data in the body */
    buffer *room;       /* holds `tensors` */
} safetensors;

/* Reads and checks a whole file. The header may have at most `max_header` bytes. On success the
 * caller calls safetensors_drop; `body` must outlive it. */
codec_status safetensors_parse(buffer_pool *pool, char *body, size_t length, size_t max_header,
                               safetensors *file, codec_error *error);
void safetensors_drop(safetensors *file);

/* The format's name of a type: "F32", "BF16". */
const char *safetensors_dtype_name(adam_dtype dtype);

/* Value of a metadata key, or NULL. */
const char *safetensors_metadata(const safetensors *file, const char *key);
/* Refuses metadata keys that are not in the NULL-terminated `allowed`, which should name "format":
 * other writers add it. */
codec_status safetensors_check_metadata(const safetensors *file, const char *const *allowed,
                                        codec_error *error);

/* Writing, to an empty text: begin, metadata, end_metadata, each tensor in the order of its data,
 * end. The end pads the header, so that the data begins on a multiple of 64 bytes. */
void safetensors_begin(text *t);
/* `value` is any text of `length` bytes. */
void safetensors_add_metadata(text *t, const char *key, const char *value, size_t length);
void safetensors_end_metadata(text *t);
/* Adds a tensor of `tensor`'s dtype and shape, named prefix (at most 31 bytes) + its name, whose
 * data begins at `offset` of the data. Returns where it ends. */
uint64_t safetensors_add_tensor(text *t, const char *prefix, const adam_tensor *tensor,
                                uint64_t offset);
void safetensors_end(text *t);

#endif
