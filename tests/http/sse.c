/* sse.c: reads a reply whose length nobody knows, chunked or up to its end. */
#include "sse.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Waits for more bytes of the body. False: the server has closed. */
static bool receive_more(sse *e)
{
    struct pollfd wait = {.fd = e->socket, .events = POLLIN};
    assert_true(e->raw_length < sizeof e->raw);
    if (poll(&wait, 1, RAW_SECONDS * 1000) != 1) {
        fail_msg("no event comes; so far: '%s'", e->text + e->taken);
    }
    const ssize_t n = recv(e->socket, e->raw + e->raw_length, sizeof e->raw - e->raw_length, 0);
    e->raw_length += n > 0 ? (size_t)n : 0;
    e->closed = n <= 0;
    return n > 0;
}

static void drop_raw(sse *e, size_t n)
{
    memmove(e->raw, e->raw + n, e->raw_length - n);
    e->raw_length -= n;
}

/* Joins what is there of a chunk to the text. */
static void join(sse *e, size_t n)
{
    e->text = realloc(e->text, e->length + n + 1);
    assert_non_null(e->text);
    memcpy(e->text + e->length, e->raw, n);
    e->length += n;
    e->text[e->length] = '\0';
    drop_raw(e, n);
}

/* Takes one step through the raw bytes; false: there are too few. */
static bool take_raw(sse *e)
{
    if (!e->chunked) {
        const size_t n = e->raw_length;
        join(e, n);
        return n > 0;
    }
    if (e->left > 0) {
        const size_t n = e->left < e->raw_length ? e->left : e->raw_length;
        join(e, n);
        e->left -= n;
        return n > 0;
    }
    if (e->raw_length >= 2 && memcmp(e->raw, "\r\n", 2) == 0) { /* behind a chunk */
        drop_raw(e, 2);
        return true;
    }
    const char *end = memmem(e->raw, e->raw_length, "\r\n", 2);
    if (end == NULL) {
        return false;
    }
    e->left = strtoul(e->raw, NULL, 16);
    e->ended = e->left == 0;
    drop_raw(e, (size_t)(end - e->raw) + 2);
    return !e->ended;
}

/* Reads more of the text; false at its end. */
static bool read_more(sse *e)
{
    const size_t before = e->length;
    while (e->length == before && !e->ended) {
        if (!take_raw(e) && !e->ended && !receive_more(e)) {
            e->ended = !e->chunked;
            return false;
        }
    }
    return e->length > before;
}

void sse_open_with(sse *e, const server *s, const char *request)
{
    *e = (sse){.socket = raw_connect(s), .text = calloc(1, 1)};
    assert_non_null(e->text);
    assert_true(raw_send_text(e->socket, request));
    const char *end = NULL;
    while (end == NULL) {
        assert_true(receive_more(e));
        end = memmem(e->raw, e->raw_length, "\r\n\r\n", 4);
    }
    const size_t length = (size_t)(end - e->raw) + 4;
    assert_true(length < sizeof e->head);
    memcpy(e->head, e->raw, length);
    drop_raw(e, length);
    assert_int_equal(sscanf(e->head, "HTTP/1.1 %d", &e->status), 1);
    e->chunked = strstr(e->head, "\r\nTransfer-Encoding: chunked\r\n") != NULL;
}

void sse_open(sse *e, const server *s, const char *name, const char *lines)
{
    char request[1024];
    (void)snprintf(request, sizeof request,
                   "GET /v1/optimizers/%s/events HTTP/1.1\r\nHost: x\r\n%s\r\n", name, lines);
    sse_open_with(e, s, request);
}

void sse_close(sse *e)
{
    (void)close(e->socket);
    free(e->text);
    e->text = NULL;
}

const char *sse_next(sse *e)
{
    char *end;
    while ((end = strstr(e->text + e->taken, "\n\n")) == NULL) {
        if (!read_more(e)) {
            assert_int_equal(e->taken, e->length); /* no event is cut in two */
            return NULL;
        }
    }
    *end = '\0';
    const char *event = e->text + e->taken;
    e->taken = (size_t)(end - e->text) + 2;
    return event;
}

void assert_next(sse *e, const char *begin)
{
    const char *event = sse_next(e);
    if (event == NULL || strncmp(event, begin, strlen(begin)) != 0) {
        fail_msg("expected the event '%s', got '%s'", begin, event != NULL ? event : "(the end)");
    }
}

void assert_step(sse *e, unsigned long step)
{
    char begin[128];
    (void)snprintf(begin, sizeof begin, "id: %lu\nevent: step\ndata: {\"step\": %lu, \"time\": \"",
                   step, step);
    assert_next(e, begin);
}

void assert_ended(sse *e)
{
    const char *event = sse_next(e);
    if (event != NULL || !e->ended) {
        fail_msg("expected the end of the stream, got '%s'",
                 event != NULL ? event : "a connection that breaks off");
    }
}
