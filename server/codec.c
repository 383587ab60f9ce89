/* codec.c: how codecs say what was wrong. */
#include "codec.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

codec_status codec_fail(codec_error *error, codec_status status, const char *format, ...)
{
    memset(error, 0, sizeof *error);
    error->status = status;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
    return status;
}

void codec_error_param(codec_error *error, const char *name, size_t length)
{
    const size_t n = length < ADAM_MAX_NAME ? length : ADAM_MAX_NAME;
    memcpy(error->param, name, n);
    error->param[n] = '\0';
}

/* "[3, 2]" */
static void format_shape(char *out, size_t size, int rank, const uint64_t *shape)
{
    size_t used = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < rank && used < size; i++) {
        used += (size_t)snprintf(out + used, size - used, i > 0 ? ", %llu" : "%llu",
                                 (unsigned long long)shape[i]);
    }
    if (used < size) {
        (void)snprintf(out + used, size - used, "]");
    }
}

codec_status codec_fail_shape(codec_error *error, const char *what, const adam_tensor *own,
                              int rank, const uint64_t *shape)
{
    char got[ADAM_MAX_RANK * 22 + 3];
    char expected[sizeof got];
    format_shape(got, sizeof got, rank, shape);
    format_shape(expected, sizeof expected, own->rank, own->shape);
    codec_fail(error, CODEC_SHAPE, "%s of '" CODEC_NAME_FORMAT "' has shape %s, expected %s", what,
               CODEC_NAME(own->name, own->name_len), got, expected);
    codec_error_param(error, own->name, own->name_len);
    error->has_shapes = true;
    error->expected_rank = own->rank;
    error->got_rank = rank;
    memcpy(error->expected, own->shape, sizeof error->expected);
    memcpy(error->got, shape, (size_t)rank * sizeof *shape);
    return CODEC_SHAPE;
}
