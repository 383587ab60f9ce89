/* http_stream.c: ties a listener to the deadline of its connection. A stream as a whole has no
 * deadline; bytes that are on their way have one. A client that has gone is found out by asking,
 * and the listener woken, since a suspended connection does not notice. */
#include "http_stream.h"

#include <stdlib.h>
#include <time.h>

/* How long clients have to see the end of their streams when the server stops. */
#define END_MS  1000
#define TICK_MS 5

struct http_stream {
    listener *listener;
    http_connection on;
};

static void suspend(void *context)
{
    const http_stream *s = context;
    deadline_pause(s->on.deadline);
    s->on.suspend(s->on.connection);
}

static void resume(void *context)
{
    const http_stream *s = context;
    s->on.resume(s->on.connection);
}

static void cut(void *context)
{
    const http_stream *s = context;
    deadline_expire(s->on.deadline);
}

static void on_shut(void *context)
{
    stream_wake(context);
}

http_stream *http_stream_begin(listener *l, const http_connection *connection)
{
    http_stream *s = connection->deadline != NULL ? malloc(sizeof *s) : NULL;
    if (s == NULL) {
        return NULL;
    }
    *s = (http_stream){.listener = l, .on = *connection};
    const listener_calls calls = {suspend, resume, cut, s};
    stream_attach(l, &calls);
    deadline_on_shut(s->on.watch, s->on.deadline, on_shut, l);
    deadline_reading(s->on.deadline, true);
    return s;
}

ssize_t http_stream_read(http_stream *s, char *to, size_t room)
{
    const ssize_t n = stream_read(s->listener, to, room);
    if (n > 0) {
        deadline_restart(s->on.watch, s->on.deadline, (size_t)n);
    }
    return n;
}

void http_stream_end(http_stream *s)
{
    deadline_on_shut(s->on.watch, s->on.deadline, NULL, NULL);
    stream_close(s->listener);
    free(s);
}

void http_stream_end_all(stream_hub *hub)
{
    const struct timespec tick = {.tv_nsec = TICK_MS * 1000000L};
    stream_hub_end(hub);
    for (int ms = 0; stream_hub_count(hub) > 0 && ms < END_MS; ms += TICK_MS) {
        (void)nanosleep(&tick, NULL);
    }
}
