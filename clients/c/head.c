/* head.c: the header of a reply, a line at a time, as libcurl hands it on. */
#include "internal.h"

#include <string.h>
#include <strings.h>

/* Keeps a field's name and value; false where that fails. */
static bool keep_field(adamdc_transfer *transfer, const char *name, size_t name_length,
                       const char *value, size_t value_length)
{
    adamdc_buffer *fields = transfer->fields;
    if (fields == NULL) {
        return true;
    }
    adamd_status status = adamdc_buffer_append(fields, name, name_length);
    status = status == ADAMD_OK ? adamdc_buffer_append(fields, "", 1) : status;
    status = status == ADAMD_OK ? adamdc_buffer_append(fields, value, value_length) : status;
    status = status == ADAMD_OK ? adamdc_buffer_append(fields, "", 1) : status;
    if (status != ADAMD_OK) {
        transfer->sink_status =
            adamdc_error_set(transfer->error, status, "no room for the reply's header fields: %s",
                             adamd_status_text(status));
    }
    return status == ADAMD_OK;
}

static bool name_is(const char *name, size_t length, const char *wanted)
{
    return strlen(wanted) == length && strncasecmp(name, wanted, length) == 0;
}

static bool media_type_is(const char *value, size_t length, const char *wanted)
{
    size_t n = strlen(wanted);
    return length >= n && strncasecmp(value, wanted, n) == 0 &&
           (length == n || value[n] == ';' || value[n] == ' ');
}

/* The seconds of a Retry-After; a date, which adamd does not send, is none. */
static long whole_seconds(const char *value, size_t length)
{
    long seconds = 0;
    for (size_t i = 0; i < length; i++) {
        if (value[i] < '0' || value[i] > '9' || length > 9) {
            return -1;
        }
        seconds = seconds * 10 + (value[i] - '0');
    }
    return seconds;
}

/* A status line begins a reply: what an interim one (100 Continue) left behind goes. */
static void begin_reply(adamdc_transfer *transfer, const char *line, size_t length)
{
    if (transfer->fields != NULL) {
        transfer->fields->length = 0;
    }
    transfer->client->etag[0] = '\0';
    transfer->safetensors_reply = false;
    transfer->says_its_end = false;
    transfer->replayed = false;
    transfer->retry_after = -1;
    transfer->interim = length >= 10 && line[9] == '1';
    transfer->head_done = false;
    transfer->continued |= length >= 12 && memcmp(line + 8, " 100", 4) == 0;
}

size_t adamdc_on_header(char *line, size_t size, size_t count, void *context)
{
    adamdc_transfer *transfer = context;
    size_t length = size * count;
    if (length >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        begin_reply(transfer, line, length);
        return length;
    }
    const char *colon = memchr(line, ':', length);
    if (colon == NULL) {
        transfer->head_done |= !transfer->interim && (line[0] == '\r' || line[0] == '\n');
        return length;
    }
    size_t name_length = (size_t)(colon - line);
    const char *value = colon + 1;
    const char *end = line + length;
    while (value < end && (*value == ' ' || *value == '\t')) {
        value++;
    }
    while (end > value && strchr(" \t\r\n", end[-1]) != NULL) {
        end--;
    }
    size_t value_length = (size_t)(end - value);
    if (name_is(line, name_length, "etag") && value_length < ADAMD_MAX_ETAG) {
        memcpy(transfer->client->etag, value, value_length);
        transfer->client->etag[value_length] = '\0';
    } else if (name_is(line, name_length, "content-type")) {
        transfer->safetensors_reply =
            media_type_is(value, value_length, "application/vnd.safetensors") ||
            media_type_is(value, value_length, "application/octet-stream");
    } else if (name_is(line, name_length, "content-length") ||
               name_is(line, name_length, "transfer-encoding")) {
        transfer->says_its_end = true;
    } else if (name_is(line, name_length, "idempotent-replayed")) {
        transfer->replayed = value_length == 4 && strncasecmp(value, "true", 4) == 0;
    } else if (name_is(line, name_length, "retry-after") && value_length > 0) {
        transfer->retry_after = whole_seconds(value, value_length);
    }
    return keep_field(transfer, line, name_length, value, value_length) ? length : 0;
}
