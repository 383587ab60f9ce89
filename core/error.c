/* error.c: texts of statuses and errors. Knows no optimizer. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *adam_status_text(adam_status status)
{
    switch (status) {
#define X(name, text) \
    case ADAM_##name: return text;
        ADAM_STATUS_MAP(X)
#undef X
    case ADAM_STATUS_COUNT: break;
    }
    return "unknown status";
}

/* Takes off a character that was cut in the middle at the end of a text. */
static void drop_cut_character(char *text)
{
    const size_t n = strlen(text);
    size_t last = n;
    while (last > 0 && n - last < 3 && ((unsigned char)text[last - 1] & 0xc0) == 0x80) {
        last--;
    }
    if (last > 0 && (unsigned char)text[last - 1] >= 0xc0 &&
        !adam_utf8_valid(text + last - 1, n - last + 1)) {
        text[last - 1] = '\0';
    }
}

adam_status adam_error_set(adam_error *error, adam_status status, const char *format, ...)
{
    if (error == NULL) {
        return status;
    }
    memset(error, 0, sizeof *error);
    error->status = status;
    va_list args;
    va_start(args, format);
    const int length = vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
    if (length >= (int)sizeof error->message) {
        drop_cut_character(error->message);
    }
    return status;
}

adam_status adam_error_no_memory(adam_error *error, size_t bytes)
{
    return adam_error_set(error, ADAM_NO_MEMORY, "no memory for %zu bytes", bytes);
}

void adam_error_param(adam_error *error, const char *name, size_t name_len)
{
    if (error != NULL) {
        size_t n = name_len < ADAM_MAX_NAME ? name_len : ADAM_MAX_NAME;
        memcpy(error->param, name, n);
        error->param[n] = '\0';
        if (n < name_len) {
            drop_cut_character(error->param);
        }
    }
}

const char *adam_digits(double value, char out[ADAM_MAX_DIGITS])
{
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(out, ADAM_MAX_DIGITS, "%.*g", digits, value);
        const double back = strtod(out, NULL);
        if (!(back < value) && !(back > value)) { /* NaN: any digits do */
            break;
        }
    }
    return out;
}

void adam_error_in_group(adam_error *error, size_t group)
{
    if (error == NULL) {
        return;
    }
    char message[sizeof error->message];
    memcpy(message, error->message, sizeof message);
    const int length =
        snprintf(error->message, sizeof error->message, "param group %zu: %s", group, message);
    if (length >= (int)sizeof error->message) {
        drop_cut_character(error->message);
    }
}

/* "[3, 2]" */
static void format_shape(char *out, size_t size, int rank, const uint64_t *shape)
{
    size_t used = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < rank && used < size; i++) {
        used += (size_t)snprintf(out + used, size - used, i ? ", %llu" : "%llu",
                                 (unsigned long long)shape[i]);
    }
    if (used < size) {
        (void)snprintf(out + used, size - used, "]");
    }
}

adam_status adam_error_shapes(adam_error *error, const char *what, const adam_tensor *expected,
                              const adam_tensor *got)
{
    if (error == NULL) {
        return ADAM_SHAPE_MISMATCH;
    }
    char want[ADAM_MAX_RANK * 24];
    char have[ADAM_MAX_RANK * 24];
    format_shape(want, sizeof want, expected->rank, expected->shape);
    format_shape(have, sizeof have, got->rank, got->shape);
    adam_error_set(error, ADAM_SHAPE_MISMATCH, "%s of '%.*s' has shape %s, expected %s", what,
                   (int)expected->name_len, expected->name, have, want);
    adam_error_param(error, expected->name, expected->name_len);
    error->has_shapes = true;
    error->expected_rank = expected->rank;
    error->got_rank = got->rank;
    memcpy(error->expected, expected->shape, sizeof error->expected);
    memcpy(error->got, got->shape, sizeof error->got);
    return ADAM_SHAPE_MISMATCH;
}
