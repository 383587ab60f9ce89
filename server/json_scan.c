/* json_scan.c: the grammar of JSON, strictly. Builds nothing: codec_json.c does. */
#include "json_scan.h"

#include <string.h>

#include "adam/tensor.h"

typedef struct scanner {
    const char *start, *at, *end;
    text *skeleton, *spans;
    unsigned depth;
    codec_error *error;
} scanner;

static codec_status malformed(scanner *s, const char *what)
{
    codec_fail(s->error, CODEC_MALFORMED_JSON, "not JSON: %s at byte %zu", what,
               (size_t)(s->at - s->start));
    s->error->has_position = true;
    s->error->position = (size_t)(s->at - s->start);
    return CODEC_MALFORMED_JSON;
}

static void skip_space(scanner *s)
{
    while (s->at < s->end &&
           (*s->at == ' ' || *s->at == '\n' || *s->at == '\t' || *s->at == '\r')) {
        s->at++;
    }
}

static bool digit(const scanner *s)
{
    return s->at < s->end && *s->at >= '0' && *s->at <= '9';
}

static codec_status scan_number(scanner *s)
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
static long hex4(const scanner *s)
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
static codec_status scan_unicode_escape(scanner *s)
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

static codec_status scan_string(scanner *s)
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

static bool at_text(const scanner *s, const char *word)
{
    const size_t n = strlen(word);
    return (size_t)(s->end - s->at) >= n && memcmp(s->at, word, n) == 0;
}

/* Length of "NaN", "Infinity" or "-Infinity", in quotes, at s->at; 0 where none stands there. */
static size_t special_at(const scanner *s)
{
    static const char *const words[] = {"\"NaN\"", "\"Infinity\"", "\"-Infinity\""};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (at_text(s, words[i])) {
            return strlen(words[i]);
        }
    }
    return 0;
}

static void add_span(scanner *s, const char *from)
{
    const json_span span = {from, (size_t)(s->at - from)};
    text_add(s->spans, (const char *)&span, sizeof span);
}

/* Tries to scan a list of numbers. False: it is something else, or malformed, which the general
 * scan will say; s->at is then where it was. Lists of numbers nest at most as deep as tensors. */
static bool scan_number_list(scanner *s)
{
    const char *from = s->at;
    unsigned open = 0;
    bool want_item = true; /* an item may stand here */
    bool may_close = false;
    do {
        skip_space(s);
        if (s->at == s->end) {
            goto other;
        }
        const size_t special = want_item ? special_at(s) : 0;
        if (want_item && *s->at == '[' && open < ADAM_MAX_RANK &&
            s->depth + open < CODEC_MAX_DEPTH) {
            s->at++;
            open++;
            may_close = true;
            continue;
        }
        if (*s->at == ']' && (may_close || !want_item)) {
            s->at++;
            open--;
            want_item = false;
            may_close = false;
            continue;
        }
        if (!want_item && *s->at == ',') {
            s->at++;
            want_item = true;
            may_close = false;
            continue;
        }
        if (special > 0) {
            s->at += special;
        } else if (!want_item || !(*s->at == '-' || digit(s)) || scan_number(s) != CODEC_OK) {
            goto other;
        }
        want_item = false;
        may_close = false;
    } while (open > 0);
    text_add(s->skeleton, "[0]", 3);
    add_span(s, from);
    return true;
other:
    s->at = from;
    return false;
}

static codec_status scan_value(scanner *s);

static codec_status scan_members(scanner *s, char close)
{
    const char open = *s->at;
    text_add(s->skeleton, s->at++, 1);
    if (++s->depth > CODEC_MAX_DEPTH) {
        return codec_fail(s->error, CODEC_LIMIT, "JSON nested deeper than %d", CODEC_MAX_DEPTH);
    }
    skip_space(s);
    if (s->at < s->end && *s->at == close) {
        goto closed;
    }
    for (;;) {
        if (open == '{') {
            skip_space(s);
            if (s->at == s->end || *s->at != '"') {
                return malformed(s, "a name in quotes is expected");
            }
            const char *from = s->at;
            codec_status st = scan_string(s);
            if (st != CODEC_OK) {
                return st;
            }
            text_add(s->skeleton, from, (size_t)(s->at - from));
            skip_space(s);
            if (s->at == s->end || *s->at != ':') {
                return malformed(s, "':' is expected");
            }
            text_add(s->skeleton, s->at++, 1);
        }
        codec_status st = scan_value(s);
        if (st != CODEC_OK) {
            return st;
        }
        skip_space(s);
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

static codec_status scan_value(scanner *s)
{
    skip_space(s);
    if (s->at == s->end) {
        return malformed(s, "a value is expected, but the text ends");
    }
    const char *from = s->at;
    codec_status st = CODEC_OK;
    if (*s->at == '{') {
        return scan_members(s, '}');
    }
    if (*s->at == '[') {
        return scan_number_list(s) ? CODEC_OK : scan_members(s, ']');
    }
    if (*s->at == '-' || digit(s)) {
        st = scan_number(s);
        if (st == CODEC_OK) {
            text_add(s->skeleton, "0", 1);
            add_span(s, from);
        }
        return st;
    }
    if (*s->at == '"') {
        st = scan_string(s);
    } else if (at_text(s, "true") || at_text(s, "null")) {
        s->at += 4;
    } else if (at_text(s, "false")) {
        s->at += 5;
    } else if (at_text(s, "NaN") || at_text(s, "Infi") || at_text(s, "nan") || at_text(s, "inf")) {
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

codec_status json_scan(const char *json, size_t length, text *skeleton, text *spans,
                       codec_error *error)
{
    scanner s = {.start = json,
                 .at = json,
                 .end = json + length,
                 .skeleton = skeleton,
                 .spans = spans,
                 .error = error};
    codec_status st = scan_value(&s);
    if (st != CODEC_OK) {
        return st;
    }
    skip_space(&s);
    if (s.at != s.end) {
        return malformed(&s, "text after the value");
    }
    if (skeleton->failed || spans->failed) {
        return codec_fail(error, CODEC_NO_MEMORY, "no memory to read %zu bytes of JSON", length);
    }
    return CODEC_OK;
}
