/* json.c: as much JSON as a client needs: strings both ways, whole numbers, skipping the rest.
 * Reads strictly (RFC 8259); knows nothing of tensors. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 64 /* of nested values, as on the server */

static bool expected(adamdc_json *json, const char *what)
{
    json->why = what;
    return false;
}

static void skip_space(adamdc_json *json)
{
    while (json->at < json->end &&
           (*json->at == ' ' || *json->at == '\n' || *json->at == '\t' || *json->at == '\r')) {
        json->at++;
    }
}

bool adamdc_json_peek(adamdc_json *json, char c)
{
    skip_space(json);
    if (json->at < json->end && *json->at == c) {
        json->at++;
        return true;
    }
    return false;
}

bool adamdc_json_take(adamdc_json *json, char c)
{
    if (adamdc_json_peek(json, c)) {
        return true;
    }
    switch (c) {
    case '{': return expected(json, "expected '{'");
    case '}': return expected(json, "expected ',' or '}'");
    case '[': return expected(json, "expected '['");
    case ']': return expected(json, "expected ',' or ']'");
    case ':': return expected(json, "expected ':'");
    default: return expected(json, "expected a string");
    }
}

bool adamdc_json_end(adamdc_json *json)
{
    skip_space(json);
    return json->at == json->end || expected(json, "expected the end of the text");
}

static bool hex4(adamdc_json *json, unsigned *value)
{
    if (json->end - json->at < 4) {
        return expected(json, "expected four hexadecimal digits");
    }
    *value = 0;
    for (int i = 0; i < 4; i++) {
        char c = *json->at++;
        unsigned digit = 0;
        if (c >= '0' && c <= '9') {
            digit = (unsigned)(c - '0');
        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            digit = (unsigned)((c | 0x20) - 'a') + 10;
        } else {
            return expected(json, "expected four hexadecimal digits");
        }
        *value = *value << 4 | digit;
    }
    return true;
}

static bool append_utf8(adamdc_buffer *out, unsigned code)
{
    unsigned char bytes[4];
    size_t n = 0;
    if (code < 0x80) {
        bytes[n++] = (unsigned char)code;
    } else if (code < 0x800) {
        bytes[n++] = (unsigned char)(0xC0 | code >> 6);
        bytes[n++] = (unsigned char)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        bytes[n++] = (unsigned char)(0xE0 | code >> 12);
        bytes[n++] = (unsigned char)(0x80 | (code >> 6 & 0x3F));
        bytes[n++] = (unsigned char)(0x80 | (code & 0x3F));
    } else {
        bytes[n++] = (unsigned char)(0xF0 | code >> 18);
        bytes[n++] = (unsigned char)(0x80 | (code >> 12 & 0x3F));
        bytes[n++] = (unsigned char)(0x80 | (code >> 6 & 0x3F));
        bytes[n++] = (unsigned char)(0x80 | (code & 0x3F));
    }
    return adamdc_buffer_append(out, bytes, n) == ADAMD_OK;
}

/* What follows the u of an escape, its second half too. */
static bool unicode_escape(adamdc_json *json, adamdc_buffer *out)
{
    unsigned code = 0;
    if (!hex4(json, &code)) {
        return false;
    }
    if (code >= 0xD800 && code < 0xDC00) {
        unsigned low = 0;
        if (json->end - json->at < 6 || json->at[0] != '\\' || json->at[1] != 'u') {
            return expected(json, "expected the second half of a surrogate pair");
        }
        json->at += 2;
        if (!hex4(json, &low) || low < 0xDC00 || low > 0xDFFF) {
            return expected(json, "expected the second half of a surrogate pair");
        }
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    } else if (code >= 0xDC00 && code <= 0xDFFF) {
        return expected(json, "expected a surrogate pair to begin with its first half");
    } else if (code == 0) {
        return expected(json, "expected a string without NUL");
    }
    return append_utf8(out, code) || expected(json, "no memory for a string");
}

static bool escape(adamdc_json *json, adamdc_buffer *out)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    if (json->at == json->end) {
        return expected(json, "expected the end of a string");
    }
    char c = *json->at++;
    if (c == 'u') {
        return unicode_escape(json, out);
    }
    const char *found = c != '\0' ? strchr(from, c) : NULL;
    if (found == NULL) {
        return expected(json, "expected one of \" \\ / b f n r t u after a backslash");
    }
    return adamdc_buffer_append(out, &to[found - from], 1) == ADAMD_OK ||
           expected(json, "no memory for a string");
}

bool adamdc_json_string(adamdc_json *json, adamdc_buffer *out)
{
    out->length = 0;
    if (!adamdc_json_take(json, '"')) {
        return false;
    }
    for (;;) {
        const char *run = json->at;
        while (json->at < json->end && *json->at != '"' && *json->at != '\\' &&
               (unsigned char)*json->at >= 0x20) {
            json->at++;
        }
        if (adamdc_buffer_append(out, run, (size_t)(json->at - run)) != ADAMD_OK) {
            return expected(json, "no memory for a string");
        }
        if (json->at == json->end || (unsigned char)*json->at < 0x20) {
            return expected(json, "expected the end of a string");
        }
        if (*json->at++ == '"') {
            return true;
        }
        if (!escape(json, out)) {
            return false;
        }
    }
}

bool adamdc_json_uint64(adamdc_json *json, uint64_t *value)
{
    skip_space(json);
    const char *start = json->at;
    *value = 0;
    while (json->at < json->end && *json->at >= '0' && *json->at <= '9') {
        unsigned digit = (unsigned)(*json->at - '0');
        if (*value > (UINT64_MAX - digit) / 10) {
            return expected(json, "expected a number below 2^64");
        }
        *value = *value * 10 + digit;
        json->at++;
    }
    bool zero_first = json->at - start > 1 && *start == '0';
    bool fraction = json->at < json->end && strchr(".eE", *json->at) != NULL && *json->at != '\0';
    if (json->at == start || zero_first || fraction) {
        return expected(json, "expected a whole number");
    }
    return true;
}

/* A number, true, false or null: only told from text that cannot be one. */
static bool skip_word(adamdc_json *json)
{
    const char *start = json->at;
    while (json->at < json->end && *json->at != '\0' &&
           strchr("+-.0123456789abcdefghijklmnopqrstuvwxyzE", *json->at) != NULL) {
        json->at++;
    }
    return json->at > start || expected(json, "expected a value");
}

/* Skips a string without keeping it. */
static bool skip_string(adamdc_json *json)
{
    if (!adamdc_json_take(json, '"')) {
        return false;
    }
    while (json->at < json->end && *json->at != '"') {
        json->at += *json->at == '\\' && json->end - json->at > 1 ? 2 : 1;
    }
    if (json->at == json->end) {
        return expected(json, "expected the end of a string");
    }
    json->at++;
    return true;
}

/* The depth is bounded, so a stack of brackets stands in for recursion. */
bool adamdc_json_skip(adamdc_json *json)
{
    char closing[MAX_DEPTH];
    size_t depth = 0;
    do {
        bool opened = false;
        if (adamdc_json_peek(json, '{') || adamdc_json_peek(json, '[')) {
            if (depth == MAX_DEPTH) {
                return expected(json, "expected at most 64 levels");
            }
            closing[depth++] = json->at[-1] == '{' ? '}' : ']';
            opened = true;
        } else {
            skip_space(json);
            bool string = json->at < json->end && *json->at == '"';
            if (!(string ? skip_string(json) : skip_word(json))) {
                return false;
            }
        }
        while (depth > 0 && adamdc_json_peek(json, closing[depth - 1])) {
            depth--;
            opened = false;
        }
        if (depth > 0 && !opened && !adamdc_json_take(json, ',')) {
            return expected(json, "expected ',' or a closing bracket");
        }
        if (depth > 0 && closing[depth - 1] == '}' &&
            !(skip_string(json) && adamdc_json_take(json, ':'))) {
            return false;
        }
    } while (depth > 0);
    return true;
}

bool adamdc_json_valid(const char *text, size_t length)
{
    adamdc_json json = {.start = text, .at = text, .end = text + length};
    return adamdc_json_skip(&json) && adamdc_json_end(&json);
}

void adamdc_number_text(locale_t c_locale, double value, char text[32])
{
    const locale_t before = uselocale(c_locale);
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, 32, "%.*g", digits, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
    (void)uselocale(before);
}

adamd_status adamdc_json_quote(adamdc_buffer *out, const char *text)
{
    static const char digits[] = "0123456789abcdef";
    adamd_status status = adamdc_buffer_append(out, "\"", 1);
    while (status == ADAMD_OK && *text != '\0') {
        size_t run = 0;
        while ((unsigned char)text[run] >= 0x20 && text[run] != '"' && text[run] != '\\') {
            run++;
        }
        status = adamdc_buffer_append(out, text, run);
        text += run;
        if (status == ADAMD_OK && *text != '\0') {
            unsigned char c = (unsigned char)*text++;
            char code[6] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};
            char plain[2] = {'\\', (char)c};
            bool control = c < 0x20;
            status = adamdc_buffer_append(out, control ? code : plain, control ? 6 : 2);
        }
    }
    return status == ADAMD_OK ? adamdc_buffer_append(out, "\"", 1) : status;
}
