/* json_scan.c: the grammar of JSON, strictly. Builds nothing: codec_json.c does. */
#include <string.h>

#include "adam/tensor.h"
#include "json_scan_internal.h"

static codec_status malformed(json_scanner *s, const char *what)
{
    codec_fail(s->error, CODEC_MALFORMED_JSON, "not JSON: %s at byte %zu", what,
               (size_t)(s->at - s->start));
    s->error->has_position = true;
    s->error->position = (size_t)(s->at - s->start);
    return CODEC_MALFORMED_JSON;
}

static bool digit(const json_scanner *s)
{
    return s->at < s->end && *s->at >= '0' && *s->at <= '9';
}

static codec_status scan_number(json_scanner *s)
{
    if (*s->at == '-') {
        s->at++;
    }
    if (!digit(s)) {
        return malformed(s, "a digit is expected");
    }
    if (*s->at == '0') {
        s->at++;
        if (digit(s)) {
            return malformed(s, "a number must not begin with 0");
        }
    }
    while (digit(s)) {
        s->at++;
    }
    if (s->at < s->end && *s->at == '.') {
        s->at++;
        if (!digit(s)) {
            return malformed(s, "a digit is expected after the decimal point");
        }
        while (digit(s)) {
            s->at++;
        }
    }
    if (s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
        s->at++;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-')) {
            s->at++;
        }
        if (!digit(s)) {
            return malformed(s, "a digit is expected in the exponent");
        }
        while (digit(s)) {
            s->at++;
        }
    }
    return CODEC_OK;
}

/* Four hex digits at s->at, or -1. */
static long hex4(const json_scanner *s)
{
    long value = 0;
    if (s->end - s->at < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        const char c = s->at[i];
        const char *digits = "0123456789abcdef";
        const char *found = strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
        if (c == '\0' || found == NULL) {
            return -1;
        }
        value = value * 16 + (found - digits);
    }
    return value;
}

/* After "\u". NUL is refused: it would end names early, and no name may hold it. */
static codec_status scan_unicode_escape(json_scanner *s)
{
    const long code = hex4(s);
    if (code < 0) {
        return malformed(s, "four hex digits are expected after \\u");
    }
    if (code == 0) {
        return malformed(s, "\\u0000 is not taken");
    }
    if (code >= 0xdc00 && code <= 0xdfff) {
        return malformed(s, "a low surrogate without a high one");
    }
    s->at += 4;
    if (code >= 0xd800 && code <= 0xdbff) {
        if (s->end - s->at < 2 || s->at[0] != '\\' || s->at[1] != 'u') {
            return malformed(s, "a high surrogate without a low one");
        }
        s->at += 2;
        const long low = hex4(s);
        if (low < 0xdc00 || low > 0xdfff) {
            return malformed(s, "a high surrogate without a low one");
        }
        s->at += 4;
    }
    return CODEC_OK;
}

static codec_status scan_string(json_scanner *s)
{
    s->at++; /* the quote */
    const char *first = s->at;
    while (s->at < s->end && *s->at != '"') {
        if ((unsigned char)*s->at < 0x20) {
            return malformed(s, "a control character in a string");
        }
        if (*s->at++ != '\\') {
            continue;
        }
        if (s->at == s->end) {
            break;
        }
        const char escape = *s->at;
        if (escape == '\0' || strchr("\"\\/bfnrtu", escape) == NULL) {
            return malformed(s, "an unknown escape in a string");
        }
        s->at++;
        if (escape == 'u') {
            codec_status st = scan_unicode_escape(s);
            if (st != CODEC_OK) {
                return st;
            }
        }
    }
    if (s->at == s->end) {
        return malformed(s, "a string does not end");
    }
    if (!adam_utf8_valid(first, (size_t)(s->at - first))) {
        s->at = first;
        return malformed(s, "a string that is not UTF-8");
    }
    s->at++;
    return CODEC_OK;
}

static codec_status scan_value(json_scanner *s);

static codec_status scan_members(json_scanner *s, char close)
{
    const char open = *s->at;
    text_add(s->skeleton, s->at++, 1);
    if (++s->depth > CODEC_MAX_DEPTH) {
        return codec_fail(s->error, CODEC_LIMIT, "JSON nested deeper than %d", CODEC_MAX_DEPTH);
    }
    json_skip_space(s);
    if (s->at < s->end && *s->at == close) {
        goto closed;
    }
    for (;;) {
        if (open == '{') {
            json_skip_space(s);
            if (s->at == s->end || *s->at != '"') {
                return malformed(s, "a name in quotes is expected");
            }
            const char *from = s->at;
            codec_status st = scan_string(s);
            if (st != CODEC_OK) {
                return st;
            }
            text_add(s->skeleton, from, (size_t)(s->at - from));
            json_skip_space(s);
            if (s->at == s->end || *s->at != ':') {
                return malformed(s, "':' is expected");
            }
            text_add(s->skeleton, s->at++, 1);
        }
        codec_status st = scan_value(s);
        if (st != CODEC_OK) {
            return st;
        }
        json_skip_space(s);
        if (s->at < s->end && *s->at == close) {
            goto closed;
        }
        if (s->at == s->end || *s->at != ',') {
            return malformed(s, open == '{' ? "',' or '}' is expected" : "',' or ']' is expected");
        }
        text_add(s->skeleton, s->at++, 1);
    }
closed:
    text_add(s->skeleton, s->at++, 1);
    s->depth--;
    return CODEC_OK;
}

static codec_status scan_value(json_scanner *s)
{
    json_skip_space(s);
    if (s->at == s->end) {
        return malformed(s, "a value is expected, but the text ends");
    }
    const char *from = s->at;
    codec_status st = CODEC_OK;
    if (*s->at == '{') {
        return scan_members(s, '}');
    }
    if (*s->at == '[') {
        return json_scan_list(s) ? CODEC_OK : scan_members(s, ']');
    }
    if (*s->at == '-' || digit(s)) {
        st = scan_number(s);
        if (st == CODEC_OK) {
            text_add(s->skeleton, "0", 1);
            json_add_numbers(s, &(json_numbers){.span = {.text = from}}, NULL);
        }
        return st;
    }
    if (*s->at == '"') {
        st = scan_string(s);
    } else if (json_at_text(s, "true") || json_at_text(s, "null")) {
        s->at += 4;
    } else if (json_at_text(s, "false")) {
        s->at += 5;
    } else if (json_at_text(s, "NaN") || json_at_text(s, "Infi") || json_at_text(s, "nan") ||
               json_at_text(s, "inf")) {
        return malformed(s, "JSON has no such number; \"NaN\", \"Infinity\" and \"-Infinity\" are "
                            "written as strings");
    } else {
        return malformed(s, "a value is expected");
    }
    if (st == CODEC_OK) {
        text_add(s->skeleton, from, (size_t)(s->at - from));
    }
    return st;
}

codec_status json_scan(const char *json, size_t length, json_kept *kept, text *skeleton,
                       text *numbers, codec_error *error)
{
    json_scanner s = {.start = json,
                      .at = json,
                      .end = json + length,
                      .kept = kept,
                      .skeleton = skeleton,
                      .numbers = numbers,
                      .error = error};
    codec_status st = scan_value(&s);
    if (st != CODEC_OK) {
        return st;
    }
    json_skip_space(&s);
    if (s.at != s.end) {
        return malformed(&s, "text after the value");
    }
    if (skeleton->failed || numbers->failed) {
        return codec_fail(error, CODEC_NO_MEMORY, "no memory to read %zu bytes of JSON", length);
    }
    return CODEC_OK;
}
