/* codec_numbers.c: nested lists of numbers, read from and printed to JSON text. The grammar was
 * checked by json_scan.c; here are shapes and values. */
#include "codec_numbers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "number.h"

static bool special_value(const char *string, double *value)
{
    if (strcmp(string, "NaN") == 0) {
        *value = NAN;
    } else if (strcmp(string, "Infinity") == 0) {
        *value = INFINITY;
    } else if (strcmp(string, "-Infinity") == 0) {
        *value = -INFINITY;
    } else {
        return false;
    }
    return true;
}

bool numbers_have_shape(const json_doc *doc, const json_value *value, int *rank, uint64_t *shape)
{
    double special;
    const json_type type = json_type_of(value);
    if (type == JSON_NUMBERS) {
        const json_numbers *list = json_numbers_of(doc, value);
        *rank = list->rank;
        memcpy(shape, list->shape, list->rank > 0 ? (size_t)list->rank * sizeof *shape : 0);
        return *rank != JSON_RAGGED;
    }
    *rank = 0;
    return type == JSON_NUMBER ||
           (type == JSON_STRING && special_value(json_string(value), &special));
}

codec_status numbers_shape(const json_doc *doc, const json_value *value, const char *what,
                           int *rank, uint64_t *shape, codec_error *error)
{
    if (numbers_have_shape(doc, value, rank, shape)) {
        return CODEC_OK;
    }
    if (json_type_of(value) == JSON_NUMBERS) {
        return codec_fail(error, CODEC_INVALID_VALUE,
                          "%s is ragged: lists at the same depth must have the same length", what);
    }
    return codec_fail(error, CODEC_INVALID_VALUE,
                      "%s is %s, expected a number or nested lists of numbers, at most %d deep",
                      what, json_type_text(value), ADAM_MAX_RANK);
}

bool numbers_shape_fits(int want_rank, const uint64_t *want, int got_rank, const uint64_t *got)
{
    uint64_t numel = 1;
    (void)adam_shape_numel(want_rank, want, &numel);
    if (numel == 0 && got_rank == 1 && got[0] == 0) {
        return true;
    }
    int written = 0;
    while (written < want_rank && (written == 0 || want[written - 1] != 0)) {
        written++;
    }
    return adam_shape_equal(written, want, got_rank, got);
}

/* Passes over what stands between the numbers of checked text: brackets, commas and white space. */
static const char *next_number(const char *at, const char *end)
{
    while (at < end && *at != '"' && *at != '-' && (*at < '0' || *at > '9')) {
        at++;
    }
    return at;
}

static const char *number_end(const char *at, const char *end)
{
    while (at<end && * at> ' ' && *at != ',' && *at != ']') {
        at++;
    }
    return at;
}

/* Stores the number at `at`, or what a string stands for; returns where it ends, or NULL where it
 * overflows. */
static const char *take(const char *at, const char *end, adam_dtype dtype, size_t index, void *out)
{
    if (*at != '"') {
        return dtype == ADAM_FLOAT64 ? number_take_f64(at, end, (double *)out + index)
                                     : number_take_f32(at, end, (float *)out + index);
    }
    const double value = at[1] == 'N' ? NAN : at[1] == '-' ? -INFINITY : INFINITY;
    if (dtype == ADAM_FLOAT64) {
        ((double *)out)[index] = value;
    } else {
        ((float *)out)[index] = (float)value;
    }
    return strchr(at + 1, '"') + 1;
}

codec_status numbers_read(const json_doc *doc, const json_value *value, const char *what,
                          adam_dtype dtype, void *out, codec_error *error)
{
    json_span span;
    char quoted[16];
    if (json_type_of(value) == JSON_STRING) {
        const int length = snprintf(quoted, sizeof quoted, "\"%s\"", json_string(value));
        span = (json_span){quoted, (size_t)length};
    } else {
        const json_numbers *n = json_numbers_of(doc, value);
        uint64_t numel = 0;
        if (n->values != NULL && dtype == ADAM_FLOAT32) {
            (void)adam_shape_numel(n->rank, n->shape, &numel);
            memcpy(out, n->values, numel * sizeof *n->values);
            return CODEC_OK;
        }
        span = n->span;
    }
    const char *end = span.text + span.length;
    size_t index = 0;
    for (const char *at = next_number(span.text, end); at < end; at = next_number(at, end)) {
        const char *from = at;
        at = take(from, end, dtype, index, out);
        if (at == NULL) {
            return codec_fail(error, CODEC_INVALID_VALUE,
                              "%s has %.*s at element %zu, which is out of the range of %s", what,
                              CODEC_NAME(from, number_end(from, end) - from), index,
                              adam_dtype_name(dtype));
        }
        index++;
    }
    return CODEC_OK;
}

bool numbers_double(const json_doc *doc, const json_value *value, double *out)
{
    const json_span span = json_number_text(doc, value);
    return number_read_f64(span.text, span.length, out);
}

/* Digits alone: 2.0 and 1e1 are numbers, but not how a count is written. */
static bool read_uint(json_span digits, uint64_t *out)
{
    const uint64_t most = UINT64_C(1) << 53;
    uint64_t value = 0;
    for (size_t i = 0; i < digits.length; i++) {
        if (digits.text[i] < '0' || digits.text[i] > '9' || value > most) {
            return false;
        }
        value = value * 10 + (uint64_t)(digits.text[i] - '0');
    }
    *out = value;
    return value <= most;
}

bool numbers_uint(const json_doc *doc, const json_value *value, uint64_t *out)
{
    return json_type_of(value) == JSON_NUMBER && read_uint(json_number_text(doc, value), out);
}

bool numbers_uint_list(const json_doc *doc, const json_value *value, size_t most, uint64_t *out,
                       size_t *count)
{
    if (json_type_of(value) != JSON_NUMBERS) {
        return false;
    }
    const json_numbers *list = json_numbers_of(doc, value);
    if (list->rank != 1 || list->shape[0] > most) {
        return false;
    }
    const char *end = list->span.text + list->span.length;
    *count = 0;
    for (const char *at = next_number(list->span.text, end); at < end; at = next_number(at, end)) {
        const json_span number = {at, (size_t)(number_end(at, end) - at)};
        if (!read_uint(number, &out[*count])) {
            return false;
        }
        (*count)++;
        at += number.length;
    }
    return true;
}

/* ---- printing ---- */

void json_add_string(text *t, const char *string, size_t length)
{
    text_add(t, "\"", 1);
    size_t plain = 0; /* bytes since the last escape */
    for (size_t i = 0; i < length; i++) {
        const unsigned char c = (unsigned char)string[i];
        if (c != '"' && c != '\\' && c >= 0x20) {
            plain++;
            continue;
        }
        text_add(t, string + i - plain, plain);
        plain = 0;
        if (c == '"' || c == '\\') {
            const char escape[2] = {'\\', (char)c};
            text_add(t, escape, sizeof escape);
        } else {
            text_add_format(t, "\\u%04x", c);
        }
    }
    text_add(t, string + length - plain, plain);
    text_add(t, "\"", 1);
}

void json_add_number(text *t, adam_dtype dtype, double value)
{
    char *to = text_reserve(t, NUMBER_MAX_TEXT);
    if (to != NULL) {
        text_advance(t, dtype == ADAM_FLOAT64 ? number_print_f64(value, to)
                                              : number_print_f32((float)value, to));
    }
}

void json_add_double(text *t, double value)
{
    json_add_number(t, ADAM_FLOAT64, value);
}

void json_add_uint(text *t, uint64_t value)
{
    text_add_uint(t, value);
}

void json_add_shape(text *t, int rank, const uint64_t *shape)
{
    text_add(t, "[", 1);
    for (int i = 0; i < rank; i++) {
        text_add_string(t, i > 0 ? ", " : "");
        text_add_uint(t, shape[i]);
    }
    text_add(t, "]", 1);
}

/* Elements that are printed with one look at the room for them. */
#define ROW_PART ((uint64_t)64)

/* Adds n <= ROW_PART elements from `index` on, with ", " between them. */
static void add_elements(text *t, const adam_tensor *tensor, uint64_t index, uint64_t n)
{
    const char *from = (const char *)tensor->data + index * adam_dtype_size(tensor->dtype);
    if (tensor->dtype == ADAM_FLOAT64) {
        for (uint64_t i = 0; i < n; i++) {
            double value;
            memcpy(&value, from + i * sizeof value, sizeof value);
            text_add(t, ", ", i > 0 ? 2 : 0);
            json_add_double(t, value);
        }
        return;
    }
    float values[ROW_PART];
    char *to = text_reserve(t, n * (NUMBER_MAX_F32 + 2) + NUMBER_MAX_TEXT);
    if (to != NULL) {
        adam_convert(ADAM_FLOAT32, values, tensor->dtype, from, n);
        text_advance(t, number_print_list_f32(values, n, to));
    }
}

/* Adds the list at `dim`; *index runs over the elements. */
static void add_list(text *t, const adam_tensor *tensor, int dim, uint64_t *index)
{
    const uint64_t n = tensor->shape[dim];
    const bool leaves = dim + 1 == tensor->rank;
    text_add(t, "[", 1);
    for (uint64_t i = 0; i < n && !t->failed;) {
        if (leaves) {
            const uint64_t part = n - i < ROW_PART ? n - i : ROW_PART;
            text_add(t, ", ", i > 0 ? 2 : 0);
            add_elements(t, tensor, *index, part);
            *index += part;
            i += part;
        } else {
            if (i++ > 0) {
                text_add(t, ", ", 2);
            }
            add_list(t, tensor, dim + 1, index);
        }
    }
    text_add(t, "]", 1);
}

void json_add_tensor(text *t, const adam_tensor *tensor)
{
    uint64_t numel = 0;
    (void)adam_shape_numel(tensor->rank, tensor->shape, &numel);
    if (numel == 0) {
        text_add(t, "[]", 2); /* not a list for each of what may be 2^53 rows of nothing */
        return;
    }
    if (tensor->rank == 0) {
        add_elements(t, tensor, 0, 1);
        return;
    }
    uint64_t index = 0;
    add_list(t, tensor, 0, &index);
}
