/* events.c: server-sent events as they come, and where they broke off from there on. */
#include "internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MAX_EVENT ((size_t)16 << 20) /* bytes of a line, and of one event's data */
#define MAX_ID    32                 /* bytes of an id, with the terminator */
#define SLICE_MS  200U               /* of a wait, after which the caller may end it */

typedef struct stream {
    adamdc_transfer *transfer;
    adamd_on_event on_event;
    void *context;
    adamdc_buffer line, type, data; /* of the event that is being read */
    char id[MAX_ID];                /* of that event */
    char last_id[MAX_ID];           /* of the last that had one */
    bool begun, removed, stop, progress;
} stream;

static adamd_status no_room(adamd_error *error, adamd_status status)
{
    return adamdc_error_set(error, status, "an event does not fit: %s (limit: %zu bytes)",
                            adamd_status_text(status), MAX_EVENT);
}

/* A blank line ends an event. One without data, as after a comment, is none. */
static void dispatch(stream *in)
{
    if (in->data.length > 0) {
        in->data.data[in->data.length - 1] = '\0'; /* the last line break */
        adamd_event event = {.type = in->type.length > 0 ? in->type.data : "message",
                             .id = in->id,
                             .data = in->data.data};
        if (in->id[0] != '\0') {
            memcpy(in->last_id, in->id, sizeof in->last_id);
        }
        in->progress = true;
        in->removed = in->removed || strcmp(event.type, "removed") == 0;
        in->stop = in->stop || !in->on_event(in->context, &event);
    }
    in->type.length = in->data.length = 0;
    in->id[0] = '\0';
}

static adamd_status take_line(stream *in, adamd_error *error)
{
    char *line = in->line.data;
    char *value = strchr(line, ':');
    if (line[0] == '\0') {
        dispatch(in);
        return ADAMD_OK;
    }
    if (value == line) {
        return ADAMD_OK; /* a comment */
    }
    if (value != NULL) {
        *value++ = '\0';
        value += *value == ' ';
    } else {
        value = line + strlen(line);
    }
    adamd_status status = ADAMD_OK;
    if (strcmp(line, "event") == 0) {
        in->type.length = 0;
        status = adamdc_buffer_puts(&in->type, value);
    } else if (strcmp(line, "data") == 0) {
        status = adamdc_buffer_puts(&in->data, value);
        status = status == ADAMD_OK ? adamdc_buffer_puts(&in->data, "\n") : status;
    } else if (strcmp(line, "id") == 0 && strlen(value) < MAX_ID) {
        memcpy(in->id, value, strlen(value) + 1);
    }
    return status == ADAMD_OK ? status : no_room(error, status);
}

/* The stream begins with the next step, so a repeat goes on from the present one. */
static void begin(stream *in)
{
    uint64_t epoch = 0;
    uint64_t step = 0;
    in->begun = true;
    if (in->last_id[0] == '\0' && adamdc_etag_parse(in->transfer->client->etag, &epoch, &step)) {
        (void)snprintf(in->last_id, sizeof in->last_id, "%" PRIu64, step);
    }
}

static adamd_status on_bytes(void *context, const char *bytes, size_t length, adamd_error *error)
{
    stream *in = context;
    if (!in->begun) {
        begin(in);
    }
    while (length > 0 && !in->stop) {
        const char *end = memchr(bytes, '\n', length);
        size_t n = end != NULL ? (size_t)(end - bytes) : length;
        adamd_status status = adamdc_buffer_append(&in->line, bytes, n);
        if (status != ADAMD_OK) {
            return no_room(error, status);
        }
        n += end != NULL;
        bytes += n;
        length -= n;
        if (end == NULL) {
            break;
        }
        if (in->line.length > 0 && in->line.data[in->line.length - 1] == '\r') {
            in->line.data[--in->line.length] = '\0';
        }
        status = take_line(in, error);
        in->line.length = 0;
        if (status != ADAMD_OK) {
            return status;
        }
    }
    return in->stop ? ADAMD_TRANSPORT : ADAMD_OK; /* any error ends the transfer */
}

static bool on_idle(void *context)
{
    stream *in = context;
    in->stop = in->stop || !in->on_event(in->context, NULL);
    return !in->stop;
}

/* One connection, to its end. True where another is to be made. */
static bool follow(stream *in, adamd_status *status, adamd_error *error)
{
    adamdc_transfer *transfer = in->transfer;
    char last[MAX_ID + 32];
    const char *headers[] = {"Accept: text/event-stream", NULL, NULL};
    if (in->last_id[0] != '\0') {
        (void)snprintf(last, sizeof last, "Last-Event-ID: %s", in->last_id);
        headers[1] = last;
    }
    in->line.length = in->type.length = in->data.length = 0;
    in->id[0] = '\0';
    in->progress = false;
    transfer->headers = headers;
    *status = adamdc_transfer_run(transfer, error);
    if (*status == ADAMD_OK && transfer->status == 200 && !in->begun) {
        begin(in);
    }
    if (in->stop || in->removed) {
        *status = ADAMD_OK;
        return false;
    }
    if (*status == ADAMD_OK && transfer->status != 200) {
        const adamdc_buffer *body = transfer->body;
        *status =
            adamdc_error_refused(error, transfer->path, transfer->status, transfer->retry_after,
                                 body->length > 0 ? body->data : "", body->length);
        return transfer->status == 503 && transfer->retry_after >= 0;
    }
    if (*status == ADAMD_OK) {
        *status = adamdc_error_set(error, ADAMD_TRANSPORT,
                                   "GET %s: the server ended the stream; it may be stopping",
                                   transfer->path);
        return true;
    }
    return transfer->broken;
}

/* Waits as adamdc_retry_sleep does, and asks the caller in between. */
static void pause_between(stream *in, uint64_t wait_ms)
{
    while (wait_ms > 0 && on_idle(in)) {
        uint64_t slice = wait_ms < SLICE_MS ? wait_ms : SLICE_MS;
        adamdc_retry_sleep(slice);
        wait_ms -= slice;
    }
}

adamd_status adamd_events(adamd_client *client, const char *name, const char *last_event_id,
                          adamd_on_event on_event, void *context, adamd_error *error)
{
    char path[ADAMDC_MAX_PATH];
    adamd_status status = adamdc_path(client, name, "/events", path, error);
    if (status != ADAMD_OK) {
        return status;
    }
    if (on_event == NULL || (last_event_id != NULL && strlen(last_event_id) >= MAX_ID)) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "adamd_events: expected a callback, and an id of at most %d bytes",
                                MAX_ID - 1);
    }
    adamdc_transfer transfer = {.client = client, .method = "GET", .path = path};
    stream in = {.transfer = &transfer, .on_event = on_event, .context = context};
    in.line.limit = in.type.limit = in.data.limit = MAX_EVENT;
    (void)snprintf(in.last_id, sizeof in.last_id, "%s", last_event_id != NULL ? last_event_id : "");
    transfer.sink = on_bytes;
    transfer.on_idle = on_idle;
    transfer.sink_context = &in;
    transfer.body = &client->reply;
    adamd_client_options options = client->options;
    options.timeout_ms = 0;
    adamdc_retry retry;
    adamdc_retry_begin(&retry, &options, true);
    while (follow(&in, &status, error)) {
        uint64_t wait_ms = 0;
        if (in.progress) {
            adamdc_retry_begin(&retry, &options, true);
        }
        if (!adamdc_retry_next(&retry, transfer.retry_after, &wait_ms)) {
            break;
        }
        pause_between(&in, wait_ms);
        if (in.stop) {
            status = ADAMD_OK;
            break;
        }
    }
    adamdc_buffer_free(&in.line);
    adamdc_buffer_free(&in.type);
    adamdc_buffer_free(&in.data);
    return status;
}
