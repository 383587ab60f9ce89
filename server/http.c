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
#include <unistd.h>

#include "deadline.h"
#include "guard.h"
#include "log.h"
#include "router.h"

/* Read buffer and header memory of a connection; half of it is the read buffer. */
#define CONNECTION_MEMORY ((size_t)32 << 10)
/* Work of more bytes than this goes to the executor. */
#define INLINE_MAX ((size_t)128 << 10)
/* A refused body of at most this many bytes is read and dropped, so that the client, still sending,
 * sees the reply. */
#define DISCARD_MAX ((size_t)16 << 20)
/* First buffer of a body whose length is not known. */
#define CHUNKED_FIRST ((size_t)64 << 10)

struct http_server {
    api_context *ctx;
    executor *jobs;
    struct MHD_Daemon *daemon;
    deadline_watch *watch;
    atomic_uint in_flight;
    atomic_size_t body_bytes; /* of bodies that are being received or worked on */
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
    char *if_match;     /* the request's own copy */
    const char *method; /* libmicrohttpd's, as long as the request lives */
    size_t body_limit, counted, dropped;
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
} sending;

static void sent(void *cls)
{
    sending *s = cls;
    buffer_drop(s->text);
    buffer_drop(s->data);
    free(s);
}

/* A response with the reply's body, whose buffers it takes. */
static struct MHD_Response *make_response(reply *r)
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
    *s = (sending){r->text, r->data};
    struct MHD_Response *response = n == 1
                                        ? MHD_create_response_from_buffer_with_free_callback_cls(
                                              parts[0].iov_len, (void *)parts[0].iov_base, sent, s)
                                        : MHD_create_response_from_iovec(parts, n, sent, s);
    if (response == NULL) {
        free(s);
        return NULL;
    }
    r->text = NULL;
    r->data = NULL;
    return response;
}

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
    if (value != NULL && value[0] != '\0') {
        (void)MHD_add_response_header(response, name, value);
    }
}

static enum MHD_Result queue_reply(exchange *x)
{
    reply *r = &x->reply;
    restart_deadline(x, reply_length(r));
    struct MHD_Response *response = make_response(r);
    if (response == NULL) {
        return MHD_NO;
    }
    char seconds[16];
    add_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, r->content_type);
    add_header(response, MHD_HTTP_HEADER_ETAG, r->etag);
    add_header(response, MHD_HTTP_HEADER_LOCATION, r->location);
    add_header(response, MHD_HTTP_HEADER_ALLOW, r->allow);
    if (r->retry_after > 0) {
        (void)snprintf(seconds, sizeof seconds, "%u", r->retry_after);
        add_header(response, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
    }
    if (r->minimal) {
        add_header(response, "Preference-Applied", "return=minimal");
    }
    if (r->close || atomic_load(&x->server->ctx->draining)) {
        add_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    }
    log_write(LOG_DEBUG, "%s %s %d", x->method, x->target, r->status);
    const enum MHD_Result result = MHD_queue_response(x->connection, (unsigned)r->status, response);
    MHD_destroy_response(response);
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
}

/* Refuses the request. A short body that is still to come is read first; a client that asked before
 * sending it is answered at once, and the connection ends: libmicrohttpd reads no further after a
 * reply to the first call. */
static enum MHD_Result refuse(exchange *x, const guard *g, const problem *p, bool close)
{
    const router_headers *h = &g->headers;
    reply_refusal(x, p);
    const bool readable = !g->expects_continue && (!h->has_length || h->length <= DISCARD_MAX);
    if (!close && (!h->has_body || readable)) {
        x->state = EXCHANGE_REFUSED;
        restart_deadline(x, h->has_body && !h->has_length ? DISCARD_MAX : (size_t)h->length);
        return MHD_YES;
    }
    x->reply.close = true;
    return queue_reply(x);
}

static bool get_body_buffer(exchange *x, const router_headers *h, problem *p)
{
    http_server *s = x->server;
    const size_t bytes = h->has_length ? (size_t)h->length : CHUNKED_FIRST;
    x->request.body = buffer_get(s->ctx->buffers, bytes);
    if (x->request.body != NULL) {
        x->counted = x->request.body->capacity;
        atomic_fetch_add(&s->body_bytes, x->counted);
        return true;
    }
    problem_set(p, atomic_load(&s->body_bytes) > 0 ? PROBLEM_BUSY : PROBLEM_OUT_OF_MEMORY,
                "no memory for a body of %zu bytes within the budget of %zu", bytes,
                memory_limit(s->ctx->memory));
    p->has_limit = true;
    p->limit_bytes = memory_limit(s->ctx->memory);
    return false;
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
    if (g.headers.if_match != NULL) {
        x->if_match = strdup(g.headers.if_match);
        g.headers.if_match = x->if_match;
    }
    if (!router_begin(x->server->ctx, method, x->target, &g.headers, &x->request, &p)) {
        return refuse(x, &g, &p, false);
    }
    if (g.headers.worker != NULL) {
        log_write(LOG_DEBUG, "worker %s: %s %s", g.headers.worker, method, x->target);
    }
    if (x->request.route->body != ROUTE_NO_BODY) {
        x->body_limit = router_body_limit(x->server->ctx, &x->request);
        if (!get_body_buffer(x, &g.headers, &p)) {
            return refuse(x, &g, &p, false);
        }
    }
    restart_deadline(x, g.headers.has_length ? (size_t)g.headers.length : x->body_limit);
    x->state = EXCHANGE_READING;
    return MHD_YES;
}

static void refuse_late(exchange *x, problem_code code, const char *detail)
{
    problem p;
    problem_set(&p, code, "%s", detail);
    p.has_limit = code == PROBLEM_BODY_TOO_LARGE;
    p.limit_bytes = x->body_limit;
    reply_refusal(x, &p);
    x->reply.close = true;
    x->state = EXCHANGE_REFUSED;
}

/* Gives the body, whose length was not announced, a larger buffer. */
static bool grow_body(exchange *x, size_t needed)
{
    buffer *old = x->request.body;
    size_t bytes = old->capacity * 2 > needed ? old->capacity * 2 : needed;
    buffer *bigger = buffer_get(x->server->ctx->buffers, bytes);
    if (bigger == NULL) {
        return false;
    }
    memcpy(bigger->data, old->data, old->length);
    bigger->length = old->length;
    atomic_fetch_add(&x->server->body_bytes, bigger->capacity - x->counted);
    x->counted = bigger->capacity;
    x->request.body = bigger;
    buffer_drop(old);
    return true;
}

/* Takes a piece of the body. False: the client goes on and on, and is cut off. */
static bool take_body(exchange *x, const char *bytes, size_t length)
{
    buffer *body = x->request.body;
    if (x->state == EXCHANGE_REFUSED || body == NULL) {
        x->dropped += length;
        return x->dropped <= DISCARD_MAX;
    }
    const size_t needed = body->length + length;
    if (needed > x->body_limit) {
        refuse_late(x, PROBLEM_BODY_TOO_LARGE, "the body is larger than is taken");
    } else if (needed > body->capacity && !grow_body(x, needed)) {
        const bool others = atomic_load(&x->server->body_bytes) > x->counted;
        refuse_late(x, others ? PROBLEM_BUSY : PROBLEM_OUT_OF_MEMORY,
                    "no memory for the body within the budget");
    } else {
        body = x->request.body;
        memcpy(body->data + body->length, bytes, length);
        body->length = needed;
    }
    return true;
}

static strand *strand_of(exchange *x)
{
    return x->request.instance != NULL ? &x->request.instance->strand : NULL;
}

static void run_job(job *j)
{
    exchange *x = (exchange *)j;
    http_server *s = x->server;
    router_run(s->ctx, &x->request, &x->reply);
    if (strand_of(x) != NULL) {
        strand_leave(s->jobs, strand_of(x));
    }
    x->state = EXCHANGE_DONE;
    MHD_resume_connection(x->connection); /* from here on the exchange may be gone */
}

/* The whole request is there. */
static enum MHD_Result work(exchange *x)
{
    http_server *s = x->server;
    strand *turn = strand_of(x);
    if (router_cost(&x->request) <= INLINE_MAX && (turn == NULL || strand_try_enter(turn))) {
        router_run(s->ctx, &x->request, &x->reply);
        if (turn != NULL) {
            strand_leave(s->jobs, turn);
        }
        x->state = EXCHANGE_DONE;
        return queue_reply(x);
    }
    if (x->deadline != NULL) {
        deadline_pause(x->deadline);
    }
    x->state = EXCHANGE_WORKING;
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
    memcpy(x->target, target, length + 1);
    atomic_fetch_add(&s->in_flight, 1);
    return x;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **request,
                         enum MHD_RequestTerminationCode how)
{
    (void)connection;
    http_server *s = cls;
    exchange *x = *request;
    if (x == NULL) {
        return;
    }
    if (how != MHD_REQUEST_TERMINATED_COMPLETED_OK) {
        log_write(LOG_DEBUG, "%s: connection lost", x->target);
    }
    restart_deadline(x, 0);
    reply_drop(&x->reply);
    buffer_drop(x->request.body);
    instance_drop(x->request.instance);
    atomic_fetch_sub(&s->body_bytes, x->counted);
    free(x->if_match);
    free(x);
    *request = NULL;
    atomic_fetch_sub(&s->in_flight, 1);
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
    http_server *s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->ctx = ctx;
        s->jobs = jobs;
        s->watch = deadline_watch_create(ctx->config->timeout);
    }
    if (s == NULL || s->watch == NULL) {
        (void)snprintf(error, error_size, "no memory or threads for the HTTP server");
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
    MHD_stop_daemon(s->daemon);
    deadline_watch_free(s->watch);
    free(s);
}
