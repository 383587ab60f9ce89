/* path.c: request targets. */
#include "path.h"

#include <string.h>

#include "adam/tensor.h"

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Decodes `length` bytes to *to, which moves on. */
static const char *decode(const char *from, size_t length, char **to, path_segment *out)
{
    char *start = *to;
    for (size_t i = 0; i < length; i++) {
        char c = from[i];
        if (c == '%') {
            if (length - i < 3 || hex(from[i + 1]) < 0 || hex(from[i + 2]) < 0) {
                return "has a broken percent-encoding";
            }
            c = (char)(hex(from[i + 1]) * 16 + hex(from[i + 2]));
            i += 2;
        } else if ((unsigned char)c <= ' ' || (unsigned char)c >= 0x7f) {
            return "has a character that must be percent-encoded";
        }
        if (c == '\0') {
            return "has a NUL";
        }
        *(*to)++ = c;
    }
    out->text = start;
    out->length = (size_t)(*to - start);
    *(*to)++ = '\0';
    return adam_utf8_valid(out->text, out->length) ? NULL : "is not UTF-8";
}

static const char *parse_query(const char *at, char **to, path *out)
{
    while (*at != '\0') {
        const size_t length = strcspn(at, "&");
        const size_t key = strcspn(at, "=&");
        if (out->n_query == PATH_MAX_QUERY) {
            return "has too many query parameters";
        }
        const char *value = at + key + (key < length);
        const char *wrong = decode(at, key, to, &out->query[out->n_query].key);
        if (wrong == NULL) {
            wrong =
                decode(value, length - (size_t)(value - at), to, &out->query[out->n_query].value);
        }
        if (wrong != NULL) {
            return wrong;
        }
        out->n_query++;
        at += length + (at[length] == '&');
    }
    return NULL;
}

const char *path_parse(const char *target, path *out)
{
    out->n_segments = 0;
    out->n_query = 0;
    char *to = out->text;
    if (strlen(target) > PATH_MAX_BYTES) {
        return "is too long";
    }
    if (strncmp(target, "http://", 7) ==
        0) { /* absolute form, as to a proxy: RFC 9112, section 3.2.2 */
        target += 7 + strcspn(target + 7, "/?");
    }
    if (target[0] != '/') {
        return "does not begin with /";
    }
    const char *at = target + 1;
    for (;;) {
        const size_t length = strcspn(at, "/?");
        if (out->n_segments == PATH_MAX_SEGMENTS) {
            return "has too many segments";
        }
        if ((length == 1 && at[0] == '.') || (length == 2 && at[0] == '.' && at[1] == '.')) {
            return "has a segment . or ..";
        }
        const char *wrong = decode(at, length, &to, &out->segments[out->n_segments++]);
        if (wrong != NULL) {
            return wrong;
        }
        at += length;
        if (*at != '/') {
            break;
        }
        at++;
    }
    return *at == '?' ? parse_query(at + 1, &to, out) : NULL;
}

/* Walks pattern and path together; stops at `variable`, if given, with its place in *index. */
static bool walk(const path *p, const char *pattern, const char *variable, size_t *index)
{
    size_t i = 0;
    const char *at = pattern + 1;
    for (;; i++) {
        const size_t length = strcspn(at, "/");
        if (i == p->n_segments) {
            return false;
        }
        if (variable != NULL && strlen(variable) == length && memcmp(at, variable, length) == 0) {
            *index = i;
            return true;
        }
        const path_segment *s = &p->segments[i];
        if (at[0] == '{' ? s->length == 0
                         : s->length != length || memcmp(s->text, at, length) != 0) {
            return false;
        }
        at += length;
        if (*at == '\0') {
            return variable == NULL && i + 1 == p->n_segments;
        }
        at++;
    }
}

bool path_matches(const path *p, const char *pattern)
{
    return walk(p, pattern, NULL, NULL);
}

const path_segment *path_variable(const path *p, const char *pattern, const char *variable)
{
    size_t index = 0;
    return walk(p, pattern, variable, &index) ? &p->segments[index] : NULL;
}

bool path_number(const char *text, size_t length, size_t most, size_t *out)
{
    size_t value = 0;
    if (length == 0 || length > 18) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        value = value * 10 + (size_t)(text[i] - '0');
    }
    *out = value;
    return value <= most;
}
