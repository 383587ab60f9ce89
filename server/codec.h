/* codec.h: what every codec shares: how it fails, and its limits. */
#ifndef ADAMD_CODEC_H
#define ADAMD_CODEC_H

#include <stdbool.h>
#include <stddef.h>

#include "adam/tensor.h"

#define CODEC_MAX_DEPTH   64                    /* nested lists and objects of JSON */
#define CODEC_MAX_TENSORS (4 * ADAM_MAX_PARAMS) /* of a body: a state_dict has four a parameter */

typedef enum codec_status {
    CODEC_OK,
    CODEC_MALFORMED_JSON,
    CODEC_MALFORMED_SAFETENSORS,
    CODEC_UNKNOWN_FIELD, /* a member or option that is not known */
    CODEC_INVALID_VALUE, /* known, but not of the expected type or form */
    CODEC_UNSUPPORTED_OPTION,
    CODEC_INVALID_NAME,
    CODEC_DUPLICATE_PARAM,
    CODEC_DTYPE, /* a type of numbers that is not taken */
    CODEC_LIMIT, /* over a limit of this file */
    CODEC_NO_MEMORY,
    CODEC_UNKNOWN_PARAM,
    CODEC_MISSING_PARAM,
    CODEC_SHAPE, /* not that of the parameter: `expected` and `got` */
    CODEC_STATE, /* a state that is not this optimizer's */
} codec_status;

/* Why a body was refused; the caller's. `message` is a sentence. */
typedef struct codec_error {
    codec_status status;
    char message[768];
    bool has_position;
    size_t position;               /* byte in the JSON text */
    char param[ADAM_MAX_NAME + 1]; /* parameter concerned, or "" */
    bool has_shapes;               /* `expected` and `got` */
    int expected_rank, got_rank;
    uint64_t expected[ADAM_MAX_RANK], got[ADAM_MAX_RANK];
} codec_error;

/* Fills it; returns the status. */
codec_status codec_fail(codec_error *error, codec_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void codec_error_param(codec_error *error, const char *name, size_t length);
/* CODEC_SHAPE: `what` of parameter `own` has another shape than `own`. */
codec_status codec_fail_shape(codec_error *error, const char *what, const adam_tensor *own,
                              int rank, const uint64_t *shape);

/* "%.*s" of text from a client, cut to what a message can hold. */
#define CODEC_NAME_FORMAT        "%.*s"
#define CODEC_NAME(name, length) (int)((length) < 200 ? (length) : 200), (name)

#endif
