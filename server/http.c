/* http.c: requests and replies on libmicrohttpd, the only file that knows it. Reads a request's
 * headers, then its body into one pooled buffer; leaves what it means to the router.
 *
 * A request is an exchange. Small work runs on the connection's thread. Large work, and work that
 * must wait for its optimizer, is handed to the executor while the connection is suspended, so that
 * it holds up nobody else on that thread. */
#include "http.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "body.h"
#include "deadline.h"
#include "guard.h"
#include "http_stream.h"
#include "log.h"
#include "router.h"

/* Read buffer and header memory of a connection; half of it is the read buffer. */
#define CONNECTION_MEMORY ((size_t)32 << 10)
/* Work of more bytes than this goes to the executor: so much takes less than a millisecond, and two
 * wake-ups on the way there and back are a tenth of it. */
#define INLINE_MAX ((size_t)5 << 20)
/* Of a body that is not wanted, and whose length is not known or over --max-body, this much is
 * read. */
#define DISCARD_MAX ((size_t)16 << 20)
/* Bytes of a stream at a time, to clients of HTTP/1.0. */
#define STREAM_BLOCK     ((size_t)4 << 10)
#define RESUMING_TICK_MS 1

struct http_server {
    /* Requests that were not refused from their headers; jobs that are done, but may still be in
     * libmicrohttpd. On a cache line of their own. */
    _Alignas(API_LINE) atomic_uint in_flight;
    atomic_uint resuming;
    char apart[API_LINE - 2 * sizeof(atomic_uint)];
    api_context *ctx;
    executor *jobs;
    struct MHD_Daemon *daemon;
    deadline_watch *watch;
};

typedef enum exchange_state {
    EXCHANGE_NEW,
    EXCHANGE_READING,
    EXCHANGE_REFUSED, /* the reply is made; the rest of the body is dropped */
    EXCHANGE_WORKING, /* suspended, in the executor */
    EXCHANGE_DONE,    /* the reply is made */
} exchange_state;

typedef struct exchange {
    job job; /* first, so that a job * is an exchange * */
    http_server *server;
    struct MHD_Connection *connection;
    deadline *deadline; /* of the connection; NULL where there was no memory */
    exchange_state state;
    api_request request;
    reply reply;
    char *if_match, *if_none_match; /* the request's own copies */
    const char *method;             /* libmicrohttpd's, as long as the request lives */
    size_t discard_limit, dropped;  /* of a body that is not wanted */
    bool in_flight;                 /* counted */
    const char *raw_target; /* libmicrohttpd's own, for its place in the request line alone */
    char target[];
} exchange;

static void restart_deadline(exchange *x, size_t bytes)
{
    if (x->deadline != NULL) {
        deadline_restart(x->server->watch, x->deadline, bytes);
    }
}

/* ---- replies ---- */

/* The parts of a reply's body, held until libmicrohttpd is done with them. */
typedef struct sending {
    buffer *text, *data;
    api_context *ctx;
    size_t transit;
} sending;

static void sent(void *cls)
{
    sending *s = cls;
    atomic_fetch_sub(&s->ctx->transit_bytes, s->transit);
    buffer_drop(s->text);
    buffer_drop(s->data);
    free(s);
}

/* What comes back to the budget when a buffer is sent, and others may wait for: not the little that
 * a refusal takes, or the refusal after it would say that the server is busy. */
static size_t transit_of(const buffer *b)
{
    return b != NULL && b->capacity > BUFFER_MIN ? b->capacity : 0;
}

/* A response with the reply's body, whose buffers it takes. */
static struct MHD_Response *make_response(api_context *ctx, reply *r)
{
    struct MHD_IoVec parts[3];
    unsigned n = 0;
    if (r->text != NULL) {
        parts[n++] = (struct MHD_IoVec){r->text->data, r->text->length};
    }
    if (r->static_length > 0) {
        parts[n++] = (struct MHD_IoVec){r->static_text, r->static_length};
    }
    if (r->data != NULL && r->data_length > 0) {
        parts[n++] = (struct MHD_IoVec){r->data->data + r->data_offset, r->data_length};
    }
    sending *s = malloc(sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    const size_t transit = transit_of(r->text) + transit_of(r->data);
    *s = (sending){r->text, r->data, ctx, transit};
    atomic_fetch_add(&ctx->transit_bytes, transit);
    struct MHD_Response *response = n == 1
                                        ? MHD_create_response_from_buffer_with_free_callback_cls(
                                              parts[0].iov_len, (void *)parts[0].iov_base, sent, s)
                                        : MHD_create_response_from_iovec(parts, n, sent, s);
    if (response == NULL) {
        atomic_fetch_sub(&ctx->transit_bytes, transit);
        free(s);
        return NULL;
    }
    r->text = NULL;
    r->data = NULL;
    return response;
}

static void suspend_connection(void *connection)
{
    MHD_suspend_connection(connection);
}

static void resume_connection(void *connection)
{
    MHD_resume_connection(connection);
}

static ssize_t read_stream(void *cls, uint64_t position, char *to, size_t room)
{
    (void)position;
    const ssize_t n = http_stream_read(cls, to, room);
    return n < 0 ? MHD_CONTENT_READER_END_OF_STREAM : n;
}

static void end_stream(void *cls)
{
    http_stream_end(cls);
}

/* A response with the reply's listener, which it takes. */
static struct MHD_Response *make_stream(const exchange *x, reply *r)
{
    const http_connection connection = {x->connection, suspend_connection, resume_connection,
                                        x->server->watch, x->deadline};
    http_stream *s = http_stream_begin(r->stream, &connection);
    if (s == NULL) {
        return NULL;
    }
    r->stream = NULL;
    struct MHD_Response *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, s, end_stream);
    if (response == NULL) {
        http_stream_end(s);
    }
    return response;
}

/* Lets go of what the work needed and the reply does not: a slow reader pins nothing else. */
static void drop_request(exchange *x)
{
    body_drop(x->server->ctx, &x->request);
    instance_drop(x->request.instance);
    x->request.instance = NULL;
}

/* It is answered, or a stream: it no longer holds up the end of the server. */
static void leave_flight(exchange *x)
{
    if (x->in_flight) {
        x->in_flight = false;
        atomic_fetch_sub(&x->server->in_flight, 1);
    }
}

static enum MHD_Result queue_reply(exchange *x)
{
    reply *r = &x->reply;
    const bool streams = r->stream != NULL;
    drop_request(x);
    restart_deadline(x, reply_length(r));
    if (x->deadline != NULL) {
        deadline_reading(x->deadline, false);
    }
    struct MHD_Response *response = streams ? make_stream(x, r) : make_response(x->server->ctx, r);
    if (response == NULL) {
        return MHD_NO;
    }
    char seconds[16];
    reply_header headers[REPLY_MAX_HEADERS];
    const bool end = atomic_load(&x->server->ctx->draining);
    const size_t n = reply_headers(r, end, seconds, headers);
    for (size_t i = 0; i < n; i++) {
        (void)MHD_add_response_header(response, headers[i].name, headers[i].value);
    }
    log_write(LOG_DEBUG, "%s %s %d", x->method, x->target, r->status);
    const enum MHD_Result result = MHD_queue_response(x->connection, (unsigned)r->status, response);
    MHD_destroy_response(response);
    if (streams) {
        leave_flight(x);
    }
    return result;
}

/* ---- requests ---- */

static enum MHD_Result take_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                   size_t name_length, const char *value, size_t value_length)
{
    (void)kind;
    guard_take(cls, name, name_length, value, value_length);
    return MHD_YES;
}

/* Makes the reply to a request that is refused. */
static void reply_refusal(exchange *x, const problem *p)
{
    if (x->request.instance != NULL) {
        const optimizer_info info = instance_info(x->request.instance);
        api_etag(&info, x->reply.etag, sizeof x->reply.etag);
    }
    reply_problem(&x->reply, p, x->server->ctx->buffers);
    drop_request(x);
}

static void begin_reading(exchange *x)
{
    restart_deadline(x, 0);
    if (x->deadline != NULL) {
        deadline_reading(x->deadline, true);
    }
}

/* Refuses the request. A body that is still to come, and is not larger than any that is taken, is
 * read first and dropped: a client that is still sending would not see the reply. A client that
 * asked before sending is answered at once, and the connection ends: libmicrohttpd reads no further
 * after a reply to the first call. */
static enum MHD_Result refuse(exchange *x, const guard *g, const problem *p, bool close)
{
    const router_headers *h = &g->headers;
    const size_t max_body = x->server->ctx->config->max_body;
    reply_refusal(x, p);
    x->discard_limit = h->has_length && max_body > DISCARD_MAX ? max_body : DISCARD_MAX;
    const bool readable = !g->expects_continue && (!h->has_length || h->length <= x->discard_limit);
    if (!close && (!h->has_body || readable)) {
        x->state = EXCHANGE_REFUSED;
        begin_reading(x);
        return MHD_YES;
    }
    x->reply.close = true;
    return queue_reply(x);
}

/* libmicrohttpd ends the target at a NUL. In its buffer the version stands right behind the target:
 * where something else is between them, the request line was not what it seems. */
static bool target_is_whole(const exchange *x, const char *version)
{
    return (uintptr_t)version - (uintptr_t)x->raw_target == strlen(x->target) + 1;
}

/* The first call for a request: everything that can be refused from its headers. */
static enum MHD_Result begin(exchange *x, const char *method, const char *version)
{
    guard g;
    problem p;
    guard_begin(&g);
    (void)MHD_get_connection_values_n(x->connection, MHD_HEADER_KIND, take_header, &g);
    x->method = method;
    if (!guard_finish(&g, version)) {
        return refuse(x, &g, &g.problem, true);
    }
    if (!target_is_whole(x, version)) {
        problem_set(&p, PROBLEM_MALFORMED_REQUEST, "the request line has a NUL or spare spaces");
        return refuse(x, &g, &p, true);
    }
    if (g.headers.if_match != NULL) {
        x->if_match = strdup(g.headers.if_match);
        g.headers.if_match = x->if_match;
    }
    if (g.headers.if_none_match != NULL) {
        x->if_none_match = strdup(g.headers.if_none_match);
        g.headers.if_none_match = x->if_none_match;
    }
    if (!router_begin(x->server->ctx, method, x->target, &g.headers, &x->request, &p)) {
        return refuse(x, &g, &p, false);
    }
    if (g.headers.worker != NULL) {
        log_write(LOG_DEBUG, "worker %s: %s %s", g.headers.worker, method, x->target);
    }
    if (x->request.route->body != ROUTE_NO_BODY &&
        !body_begin(x->server->ctx, &g.headers, &x->request, &p)) {
        return refuse(x, &g, &p, false);
    }
    x->state = EXCHANGE_READING;
    x->in_flight = true;
    atomic_fetch_add(&x->server->in_flight, 1);
    begin_reading(x);
    return MHD_YES;
}

/* Takes a piece of the body. False: the client goes on and on, and is cut off. */
static bool take_body(exchange *x, const char *bytes, size_t length)
{
    problem p;
    if (x->deadline != NULL) {
        deadline_extend(x->deadline, length);
    }
    if (x->state == EXCHANGE_REFUSED || x->request.body == NULL) {
        x->dropped += length;
        return x->dropped <= x->discard_limit;
    }
    if (!body_take(x->server->ctx, &x->request, bytes, length, &p)) {
        reply_refusal(x, &p);
        x->reply.close = true;
        x->state = EXCHANGE_REFUSED;
        x->discard_limit = DISCARD_MAX;
    }
    return true;
}

/* The reply of a suspended connection is made. */
static void resume(exchange *x)
{
    http_server *s = x->server;
    x->state = EXCHANGE_DONE;
    atomic_fetch_add(&s->resuming, 1);
    MHD_resume_connection(x->connection); /* from here on the exchange may be gone, */
    atomic_fetch_sub(&s->resuming, 1);    /* and from here on the server */
}

static void answered(api_request *rq)
{
    resume((exchange *)((char *)rq - offsetof(exchange, request)));
}

static void run_job(job *j)
{
    exchange *x = (exchange *)j;
    http_server *s = x->server;
    strand *turn = router_strand(&x->request);
    instance *inst = x->request.instance;
    if (inst != NULL) {
        instance_hold(inst);
    }
    const bool waits = router_run(s->ctx, &x->request, &x->reply);
    if (turn != NULL) {
        strand_leave(s->jobs, turn); /* one that waits may be answered, and gone, from here on */
    }
    if (!waits) {
        resume(x);
    }
    instance_drop(inst);
}

/* The whole request is there. */
static enum MHD_Result work(exchange *x)
{
    http_server *s = x->server;
    strand *turn = router_strand(&x->request);
    if (x->deadline != NULL) {
        deadline_reading(x->deadline, false);
    }
    if (router_cost(&x->request) <= INLINE_MAX && !router_may_wait_for_disk(s->ctx, &x->request) &&
        (turn == NULL || strand_try_enter(turn))) {
        (void)router_run(s->ctx, &x->request, &x->reply);
        if (turn != NULL) {
            strand_leave(s->jobs, turn);
        }
        if (x->reply.wait == REPLY_READY) {
            x->state = EXCHANGE_DONE;
            return queue_reply(x);
        }
        x->reply.wait = REPLY_READY;
    }
    if (x->deadline != NULL) {
        deadline_pause(x->deadline);
    }
    x->state = EXCHANGE_WORKING;
    x->request.may_wait = true;
    x->request.reply = &x->reply;
    x->request.answered = answered;
    x->job.run = run_job;
    MHD_suspend_connection(x->connection);
    executor_submit(s->jobs, turn, &x->job);
    return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload_data,
                                  size_t *upload_size, void **request)
{
    (void)cls;
    (void)url;
    exchange *x = *request;
    if (x == NULL) {
        return MHD_NO; /* there was no memory for it */
    }
    if (x->state == EXCHANGE_NEW) {
        x->connection = connection;
        return begin(x, method, version);
    }
    if (*upload_size > 0) {
        const bool go_on = take_body(x, upload_data, *upload_size);
        *upload_size = 0;
        return go_on ? MHD_YES : MHD_NO;
    }
    return x->state == EXCHANGE_READING ? work(x) : queue_reply(x);
}

/* The request line is there: libmicrohttpd keeps what is returned for the request. */
static void *on_target(void *cls, const char *target, struct MHD_Connection *connection)
{
    http_server *s = cls;
    const size_t length = strlen(target);
    exchange *x = calloc(1, sizeof *x + length + 1);
    if (x == NULL) {
        return NULL;
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    x->server = s;
    x->deadline = info != NULL ? info->socket_context : NULL;
    x->raw_target = target;
    memcpy(x->target, target, length + 1);
    return x;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **request,
                         enum MHD_RequestTerminationCode how)
{
    (void)connection;
    (void)cls;
    exchange *x = *request;
    if (x == NULL) {
        return;
    }
    if (how != MHD_REQUEST_TERMINATED_COMPLETED_OK) {
        log_write(LOG_DEBUG, "%s: connection lost", x->target);
    }
    restart_deadline(x, 0);
    reply_drop(&x->reply);
    drop_request(x);
    leave_flight(x);
    free(x->if_match);
    free(x->if_none_match);
    free(x);
    *request = NULL;
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    http_server *s = cls;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        deadline_remove(s->watch, *context);
        return;
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    *context = info != NULL ? deadline_add(s->watch, info->connect_fd) : NULL;
}

/* Targets stay as they were sent; path.c decodes them. */
static size_t no_unescape(void *cls, struct MHD_Connection *connection, char *target)
{
    (void)cls;
    (void)connection;
    return strlen(target);
}

__attribute__((format(printf, 2, 0))) static void on_log(void *cls, const char *format,
                                                         va_list args)
{
    (void)cls;
    char line[512];
    (void)vsnprintf(line, sizeof line, format, args);
    line[strcspn(line, "\n")] = '\0';
    log_write(LOG_DEBUG, "libmicrohttpd: %s", line);
}

http_server *http_start(api_context *ctx, executor *jobs, int listen_socket, char *error,
                        size_t error_size)
{
    http_server *s = aligned_alloc(_Alignof(http_server), sizeof *s);
    if (s != NULL) {
        *s = (http_server){0};
        s->ctx = ctx;
        s->jobs = jobs;
        s->watch = deadline_watch_create(ctx->ticker, ctx->config->timeout);
    }
    if (s == NULL || s->watch == NULL) {
        (void)snprintf(error, error_size, "no memory for the HTTP server");
        goto failed;
    }
    const unsigned pool = ctx->config->threads > 1 ? ctx->config->threads : 0;
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG,
        0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, listen_socket, MHD_OPTION_THREAD_POOL_SIZE, pool,
        MHD_OPTION_CONNECTION_LIMIT, ctx->config->max_connections,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT,
        ctx->config->timeout, MHD_OPTION_URI_LOG_CALLBACK, on_target, s,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_NOTIFY_CONNECTION, on_connection,
        s, MHD_OPTION_UNESCAPE_CALLBACK, no_unescape, NULL, MHD_OPTION_END);
    if (s->daemon == NULL) {
        (void)snprintf(error, error_size, "libmicrohttpd does not start: %s", strerror(errno));
        goto failed;
    }
    return s;
failed:
    (void)close(listen_socket);
    deadline_watch_free(s != NULL ? s->watch : NULL);
    free(s);
    return NULL;
}

unsigned http_in_flight(http_server *s)
{
    return atomic_load(&s->in_flight);
}

void http_stop(http_server *s)
{
    const struct timespec tick = {.tv_nsec = RESUMING_TICK_MS * 1000000L};
    http_stream_end_all(s->ctx->streams);
    while (atomic_load(&s->resuming) > 0) { /* a reply may have been quicker than its job's end */
        (void)nanosleep(&tick, NULL);
    }
    MHD_stop_daemon(s->daemon);
    deadline_watch_free(s->watch);
    free(s);
}
