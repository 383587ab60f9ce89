/* load.c: see load.h. An epoll loop that does as little as it can, so that what is measured is the
 * server. */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define REPLY_MAX  ((size_t)1 << 20)
#define EVENTS     64
#define KEEP_TIMES ((size_t)1 << 20) /* latencies, of the first replies */

typedef struct connection {
    int socket;
    const bench_load_request *request;
    size_t place; /* of the request */
    size_t sent;
    size_t have, expected; /* of the reply; expected 0: its header is not whole yet */
    double started;        /* or, while it is idle, when it goes on */
    bool idle;
    char *reply;
} connection;

typedef struct load {
    int epoll;
    size_t n, replies, n_times;
    const bench_load_request *requests;
    size_t n_requests;
    double *times, pause;
    connection *connections;
} load;

bench_load_request bench_load_make(const char *method, const char *path, const char *type,
                                   const void *body, size_t length)
{
    char header[512];
    const int n = type == NULL ? snprintf(header, sizeof header,
                                          "%s %s HTTP/1.1\r\nHost: bench\r\n\r\n", method, path)
                               : snprintf(header, sizeof header,
                                          "%s %s HTTP/1.1\r\nHost: bench\r\nContent-Type: %s\r\n"
                                          "Content-Length: %zu\r\n\r\n",
                                          method, path, type, length);
    char *bytes = malloc((size_t)n + length);
    if (bytes == NULL) {
        bench_fail("no memory");
    }
    memcpy(bytes, header, (size_t)n);
    if (length > 0) {
        memcpy(bytes + n, body, length);
    }
    return (bench_load_request){bytes, (size_t)n + length};
}

void bench_load_free(bench_load_request *request)
{
    free((char *)request->bytes);
}

static void send_more(connection *c)
{
    while (c->sent < c->request->length) {
        const ssize_t n = send(c->socket, c->request->bytes + c->sent, c->request->length - c->sent,
                               MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n <= 0) {
            bench_fail("sending a request: %s", strerror(errno));
        }
        c->sent += (size_t)n;
    }
}

static void begin(connection *c)
{
    c->sent = c->have = c->expected = 0;
    c->idle = false;
    c->started = bench_now();
    send_more(c);
}

/* Reads the header of a reply, once it is whole. */
static void take_header(connection *c)
{
    c->reply[c->have] = '\0';
    const char *end = strstr(c->reply, "\r\n\r\n");
    if (end == NULL) {
        return;
    }
    const char *length = strstr(c->reply, "Content-Length:");
    if (strncmp(c->reply, "HTTP/1.1 200", 12) != 0 || length == NULL || length > end) {
        bench_fail("a reply that is not expected: %.400s", c->reply);
    }
    c->expected = (size_t)(end + 4 - c->reply) + strtoul(length + 15, NULL, 10);
    if (c->expected > REPLY_MAX) {
        bench_fail("a reply of %zu bytes", c->expected);
    }
}

static void finish(load *l, connection *c)
{
    const double now = bench_now();
    if (l->n_times < KEEP_TIMES) {
        l->times[l->n_times++] = now - c->started;
    }
    l->replies++;
    c->place = (c->place + l->n) % l->n_requests;
    c->request = &l->requests[c->place];
    if (l->pause > 0) {
        c->idle = true;
        c->started = now + l->pause;
    } else {
        begin(c);
    }
}

static void on_event(load *l, connection *c, unsigned events)
{
    if ((events & EPOLLOUT) != 0 && !c->idle) {
        send_more(c);
    }
    for (;;) {
        const ssize_t n = recv(c->socket, c->reply + c->have, REPLY_MAX - c->have, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n <= 0) {
            bench_fail("the server ended a connection");
        }
        c->have += (size_t)n;
        if (c->expected == 0) {
            take_header(c);
        }
        if (c->expected > 0 && c->have == c->expected) {
            finish(l, c);
            return; /* what comes next is another event */
        }
    }
}

static void begin_due(load *l)
{
    const double now = bench_now();
    for (size_t i = 0; i < l->n; i++) {
        if (l->connections[i].idle && l->connections[i].started <= now) {
            begin(&l->connections[i]);
        }
    }
}

static void open_all(load *l, unsigned port)
{
    for (size_t i = 0; i < l->n; i++) {
        connection *c = &l->connections[i];
        *c = (connection){.socket = bench_connect("127.0.0.1", port),
                          .request = &l->requests[i],
                          .place = i,
                          .reply = malloc(REPLY_MAX + 1)};
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
        if (c->reply == NULL || epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->socket, &event) != 0) {
            bench_fail("connection %zu: %s", i, strerror(errno));
        }
        begin(c);
    }
}

bench_load bench_load_run(unsigned port, const bench_load_request *requests, size_t n_requests,
                          size_t n, double seconds, double pause)
{
    load l = {.epoll = epoll_create1(EPOLL_CLOEXEC),
              .n = n,
              .requests = requests,
              .n_requests = n_requests,
              .pause = pause};
    l.connections = calloc(n, sizeof *l.connections);
    l.times = malloc(KEEP_TIMES * sizeof *l.times);
    if (l.epoll < 0 || l.connections == NULL || l.times == NULL) {
        bench_fail("no memory");
    }
    open_all(&l, port);
    const double start = bench_now();
    double now = start;
    while (now - start < seconds) {
        struct epoll_event events[EVENTS];
        const int got = epoll_wait(l.epoll, events, EVENTS, pause > 0 ? 1 : 1000);
        for (int i = 0; i < got; i++) {
            on_event(&l, events[i].data.ptr, events[i].events);
        }
        if (pause > 0) {
            begin_due(&l);
        }
        now = bench_now();
    }
    bench_load result = {.rate = (double)l.replies / (now - start)};
    if (l.n_times > 0) {
        result.p50 = bench_median(l.times, l.n_times); /* sorts */
        result.p99 = l.times[l.n_times * 99 / 100];
    }
    for (size_t i = 0; i < n; i++) {
        (void)close(l.connections[i].socket);
        free(l.connections[i].reply);
    }
    (void)close(l.epoll);
    free(l.connections);
    free(l.times);
    return result;
}
