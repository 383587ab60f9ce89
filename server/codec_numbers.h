/* codec_numbers.h: tensors as nested lists in JSON text, both ways. */
#ifndef ADAMD_CODEC_NUMBERS_H
#define ADAMD_CODEC_NUMBERS_H

#include "codec_json.h"

/* The shape of a value that should be a tensor: a number (rank 0), a list, or one of the strings
 * for non-finite numbers. CODEC_INVALID_VALUE where it is something else or ragged. `what` begins
 * the message: "gradient of 'w'". */
codec_status numbers_shape(const json_doc *doc, const json_value *value, const char *what,
                           int *rank, uint64_t *shape, codec_error *error);

/* The same without a message; false where there would be one. */
bool numbers_have_shape(const json_doc *doc, const json_value *value, int *rank, uint64_t *shape);

/* Whether a list of shape `got` is how a tensor of shape `want` may be written: the same, but
 * nothing is written below a dimension of 0, and an empty tensor of any shape may be []. */
bool numbers_shape_fits(int want_rank, const uint64_t *want, int got_rank, const uint64_t *got);

/* Reads all numbers, row-major, to `out`, which has room for the elements that numbers_shape said.
 * CODEC_INVALID_VALUE where one overflows. */
codec_status numbers_read(const json_doc *doc, const json_value *value, const char *what,
                          adam_dtype dtype, void *out, codec_error *error);

/* A number from a JSON_NUMBER; false where it overflows. */
bool numbers_double(const json_doc *doc, const json_value *value, double *out);
/* A whole number >= 0, at most 2^53; false where it is anything else. */
bool numbers_uint(const json_doc *doc, const json_value *value, uint64_t *out);
/* A flat list of whole numbers, at most `most` of them; false where it is anything else. */
bool numbers_uint_list(const json_doc *doc, const json_value *value, size_t most, uint64_t *out,
                       size_t *count);

/* ---- printing ---- */

/* A string in quotes, escaped. */
void json_add_string(text *t, const char *string, size_t length);
void json_add_double(text *t, double value);
/* A value that a tensor of that type holds, in its shortest digits. */
void json_add_number(text *t, adam_dtype dtype, double value);
void json_add_uint(text *t, uint64_t value);
/* "[3, 2]" */
void json_add_shape(text *t, int rank, const uint64_t *shape);
/* A tensor's elements as a nested list, or a bare number for rank 0; [] where it is empty. The
 * narrow types are printed as the float32 of the same value. */
void json_add_tensor(text *t, const adam_tensor *tensor);

#endif
