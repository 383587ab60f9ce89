/* error.c: fills adamd_error, from words and from problem+json. */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *adamd_status_text(adamd_status status)
{
    switch (status) {
#define X(name, text) \
    case ADAMD_##name: return text;
        ADAMD_STATUS_MAP(X)
#undef X
    case ADAMD_STATUS_COUNT: break;
    }
    return "unknown status";
}

adamd_status adamdc_error_set(adamd_error *error, adamd_status status, const char *format, ...)
{
    if (error == NULL) {
        return status;
    }
    memset(error, 0, sizeof *error);
    error->retry_after = -1;
    error->status = status;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
    return status;
}

adamd_status adamdc_error_no_memory(adamd_error *error, size_t bytes)
{
    return adamdc_error_set(error, ADAMD_NO_MEMORY, "no memory for %zu bytes", bytes);
}

/* Copies as much as fits, and never half a UTF-8 character. */
static void copy_text(char *out, size_t size, const char *text, size_t length)
{
    size_t n = length < size - 1 ? length : size - 1;
    if (n < length) {
        while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80) {
            n--;
        }
    }
    memcpy(out, text, n);
    out[n] = '\0';
}

/* Fetches `type` and `detail` from a problem; leaves alone what is not one. */
static void read_problem(adamd_error *error, const char *body, size_t length)
{
    adamdc_json json = {.start = body, .at = body, .end = body + length};
    adamdc_buffer key = {.limit = length};
    adamdc_buffer value = {.limit = length};
    bool more = adamdc_json_take(&json, '{') && !adamdc_json_peek(&json, '}');
    while (more) {
        if (!adamdc_json_string(&json, &key) || !adamdc_json_take(&json, ':')) {
            break;
        }
        bool is_type = strcmp(key.data, "type") == 0;
        bool is_detail = strcmp(key.data, "detail") == 0;
        if (!is_type && !is_detail) {
            more = adamdc_json_skip(&json);
        } else if (adamdc_json_string(&json, &value)) {
            copy_text(is_type ? error->type : error->detail,
                      is_type ? sizeof error->type : sizeof error->detail, value.data,
                      value.length);
        } else {
            more = false;
        }
        more = more && adamdc_json_peek(&json, ',');
    }
    adamdc_buffer_free(&key);
    adamdc_buffer_free(&value);
}

adamd_status adamdc_error_refused(adamd_error *error, const char *what, long http_status,
                                  long retry_after, const char *body, size_t length)
{
    if (error == NULL) {
        return ADAMD_REFUSED;
    }
    memset(error, 0, sizeof *error);
    error->status = ADAMD_REFUSED;
    error->http_status = http_status;
    error->retry_after = retry_after;
    if (length > 0) {
        copy_text(error->body, sizeof error->body, body, length);
        read_problem(error, body, length);
    }
    char title[256];
    bool titled = adamd_error_member(error, "title", title, sizeof title);
    const char *text = error->detail[0] != '\0' ? error->detail
                       : titled
                           ? title
                           : "no problem document came with it, so it is not adamd that answered; "
                             "check the URL, and the proxy if there is one before it";
    (void)snprintf(error->message, sizeof error->message, "%s: %ld: %s", what, http_status, text);
    return ADAMD_REFUSED;
}

const char *adamd_error_code(const adamd_error *error)
{
    static const char prefix[] = "urn:adamd:problem:";
    size_t n = sizeof prefix - 1;
    return strncmp(error->type, prefix, n) == 0 ? error->type + n : "";
}

/* A value's text: decoded where it is a string. False where it is malformed or does not fit. */
static bool take_value(adamdc_json *json, adamdc_buffer *text, char *value, size_t size)
{
    adamdc_json first = *json;
    if (adamdc_json_peek(&first, '"')) {
        if (!adamdc_json_string(json, text) || text->length >= size) {
            return false;
        }
        memcpy(value, text->data, text->length + 1);
        return true;
    }
    while (json->at < json->end && strchr(" \t\r\n", *json->at) != NULL && *json->at != '\0') {
        json->at++;
    }
    const char *start = json->at;
    if (!adamdc_json_skip(json) || (size_t)(json->at - start) >= size) {
        return false;
    }
    memcpy(value, start, (size_t)(json->at - start));
    value[json->at - start] = '\0';
    return true;
}

bool adamd_error_member(const adamd_error *error, const char *member, char *value, size_t size)
{
    size_t length = strlen(error->body);
    adamdc_json json = {.start = error->body, .at = error->body, .end = error->body + length};
    adamdc_buffer text = {.limit = length};
    bool found = false;
    bool more = size > 0 && adamdc_json_take(&json, '{');
    if (size > 0) {
        value[0] = '\0';
    }
    while (more && !found) {
        more = adamdc_json_string(&json, &text) && adamdc_json_take(&json, ':');
        if (more && strcmp(text.data, member) == 0) {
            found = take_value(&json, &text, value, size);
            break;
        }
        more = more && adamdc_json_skip(&json) && adamdc_json_peek(&json, ',');
    }
    adamdc_buffer_free(&text);
    return found;
}
