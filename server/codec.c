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
