/* codec_numbers.c: nested lists of numbers, read from and printed to JSON text. The grammar was
 * checked by json_scan.c; here are shapes and values. */
#include "codec_numbers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "number.h"

/* Walks the tokens of a checked list of numbers. */
typedef struct cursor {
    const char *at, *end;
} cursor;

/* The next token's first character, or 0 at the end; for a number or string, *token is its text.
 * Commas and white space are passed over. */
static char next_token(cursor *c, json_span *token)
{
    while (c->at < c->end && strchr(" \n\t\r,", *c->at) != NULL) {
        c->at++;
    }
    if (c->at == c->end) {
        return 0;
    }
    const char first = *c->at;
    const char *from = c->at++;
    if (first == '"') {
        while (*c->at++ != '"') {
        }
    } else if (first != '[' && first != ']') {
        while (c->at < c->end && strchr(" \n\t\r,]", *c->at) == NULL) {
            c->at++;
        }
    }
    *token = (json_span){from, (size_t)(c->at - from)};
    return first;
}

/* Closes the list at `depth` that held `count` items: they must be as many as in those before it.
 */
static bool close_list(uint64_t *shape, bool *known, int depth, uint64_t count)
{
    if (!known[depth]) {
        known[depth] = true;
        shape[depth] = count;
    }
    return shape[depth] == count;
}

static codec_status list_shape(json_span list, const char *what, int *rank, uint64_t *shape,
                               codec_error *error)
{
    cursor c = {list.text, list.text + list.length};
    uint64_t count[ADAM_MAX_RANK] = {0};
    bool known[ADAM_MAX_RANK] = {false};
    int depth = -1;
    int leaf_depth = -1; /* lists around each number; -1: none seen yet */
    int deepest = 0;
    json_span token;
    for (char t = next_token(&c, &token); t != 0; t = next_token(&c, &token)) {
        if (t == '[') {
            if (depth >= 0) {
                count[depth]++;
            }
            depth++;
            count[depth] = 0;
            deepest = depth > deepest ? depth : deepest;
            if (leaf_depth >= 0 && depth > leaf_depth) {
                goto ragged;
            }
        } else if (t == ']') {
            if (!close_list(shape, known, depth, count[depth])) {
                goto ragged;
            }
            depth--;
        } else {
            if (leaf_depth >= 0 && leaf_depth != depth) {
                goto ragged;
            }
            leaf_depth = depth;
            count[depth]++;
        }
    }
    if (leaf_depth >= 0 && leaf_depth != deepest) {
        goto ragged;
    }
    *rank = deepest + 1;
    return CODEC_OK;
ragged:
    return codec_fail(error, CODEC_INVALID_VALUE,
                      "%s is ragged: lists at the same depth must have the same length", what);
}

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

codec_status numbers_shape(const json_doc *doc, const json_value *value, const char *what,
                           int *rank, uint64_t *shape, codec_error *error)
{
    double special;
    const json_type type = json_type_of(value);
    if (type == JSON_NUMBERS) {
        return list_shape(json_number_text(doc, value), what, rank, shape, error);
    }
    if (type == JSON_NUMBER ||
        (type == JSON_STRING && special_value(json_string(value), &special))) {
        *rank = 0;
        return CODEC_OK;
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

/* Stores one number; false where it overflows. */
static bool store(json_span token, adam_dtype dtype, size_t index, void *out)
{
    if (token.text[0] == '"') {
        const double value = token.text[1] == 'N'   ? NAN
                             : token.text[1] == '-' ? -INFINITY
                                                    : INFINITY;
        if (dtype == ADAM_FLOAT64) {
            ((double *)out)[index] = value;
        } else {
            ((float *)out)[index] = (float)value;
        }
        return true;
    }
    return dtype == ADAM_FLOAT64 ? number_read_f64(token.text, token.length, (double *)out + index)
                                 : number_read_f32(token.text, token.length, (float *)out + index);
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
        span = json_number_text(doc, value);
    }
    cursor c = {span.text, span.text + span.length};
    size_t index = 0;
    json_span token;
    for (char t = next_token(&c, &token); t != 0; t = next_token(&c, &token)) {
        if (t == '[' || t == ']') {
            continue;
        }
        if (!store(token, dtype, index, out)) {
            return codec_fail(error, CODEC_INVALID_VALUE,
                              "%s has %.*s at element %zu, which is out of the range of %s", what,
                              CODEC_NAME(token.text, token.length), index, adam_dtype_name(dtype));
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
    const json_span list = json_number_text(doc, value);
    cursor c = {list.text + 1, list.text + list.length - 1};
    json_span token;
    *count = 0;
    for (char t = next_token(&c, &token); t != 0; t = next_token(&c, &token)) {
        if (t == '[' || t == ']' || t == '"' || *count == most || !read_uint(token, &out[*count])) {
            return false;
        }
        (*count)++;
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

static void add_element(text *t, const adam_tensor *tensor, size_t index)
{
    const char *from = (const char *)tensor->data + index * adam_dtype_size(tensor->dtype);
    if (tensor->dtype == ADAM_FLOAT64) {
        double value;
        memcpy(&value, from, sizeof value);
        json_add_number(t, ADAM_FLOAT64, value);
    } else {
        float value;
        adam_convert(ADAM_FLOAT32, &value, tensor->dtype, from, 1);
        json_add_number(t, ADAM_FLOAT32, value);
    }
}

/* Adds the list at `dim`; *index runs over the elements. */
static void add_list(text *t, const adam_tensor *tensor, int dim, size_t *index)
{
    if (dim == tensor->rank) {
        add_element(t, tensor, (*index)++);
        return;
    }
    text_add(t, "[", 1);
    for (uint64_t i = 0; i < tensor->shape[dim] && !t->failed; i++) {
        if (i > 0) {
            text_add(t, ", ", 2);
        }
        add_list(t, tensor, dim + 1, index);
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
    size_t index = 0;
    add_list(t, tensor, 0, &index);
}
