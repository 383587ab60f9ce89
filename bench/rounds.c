/* rounds.c: what does a round of many workers cost beside moving its bytes? */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "body.h"
#include "harness.h"

#define WAITING        ((size_t)1000) /* workers of the large round */
#define WAITING_FLOATS ((size_t)1024)
#define WAITING_ROUNDS 30
#define MAX_THREADS    4 /* of a server with --threads 1, whoever waits */
#define WORKERS        ((size_t)8)
#define FLOATS         ((size_t)1 << 20)
#define ROUNDS         40
#define WARM_UP        3
#define REPLY_SLACK    ((size_t)4096)

/* ---- requests ---- */

/* One worker: its connection, and its request. */
typedef struct worker {
    int socket;
    char *request;
    size_t length, left; /* left: bytes of the reply that are still to come */
} worker;

static void make_request(worker *w, const char *path, size_t place, const bench_body *body)
{
    w->request = malloc(512 + body->length);
    if (w->request == NULL) {
        bench_fail("no memory");
    }
    const int n = sprintf(w->request,
                          "POST %s/step HTTP/1.1\r\nHost: bench\r\nAdam-Worker: w%06zu\r\n"
                          "Content-Type: " BENCH_SAFETENSORS "\r\nContent-Length: %zu\r\n\r\n",
                          path, place, body->length);
    memcpy(w->request + n, body->bytes, body->length);
    w->length = (size_t)n + body->length;
}

static void create(unsigned port, const char *path, const bench_body *body, size_t workers)
{
    char patch[256];
    char *reply = bench_map(body->length + REPLY_SLACK);
    const int s = bench_connect("127.0.0.1", port);
    const int n = snprintf(patch, sizeof patch,
                           "{\"aggregation\": {\"mode\": \"sync\", \"workers\": %zu}}", workers);
    (void)bench_request(s, "PUT", path, BENCH_SAFETENSORS, body->bytes, body->length, reply,
                        body->length + REPLY_SLACK, 201);
    (void)bench_request(s, "PATCH", path, "application/json", patch, (size_t)n, reply,
                        body->length + REPLY_SLACK, 200);
    (void)close(s);
    bench_unmap(reply, body->length + REPLY_SLACK);
}

/* Asks until the round has that many gradients. */
static void await_gradients(int socket, const char *path, size_t wanted)
{
    char target[128];
    static char reply[1 << 16];
    size_t have = 0;
    (void)snprintf(target, sizeof target, "%s/round", path);
    while (have < wanted) {
        const bench_reply r = bench_request(socket, "GET", target, "application/json", "", 0, reply,
                                            sizeof reply - 1, 200);
        reply[r.length] = '\0';
        const char *at = strstr(reply, "\"gradients\": ");
        have = at != NULL ? strtoul(at + 13, NULL, 10) : 0;
    }
}

/* ---- 1000 that wait ---- */

/* The length of a whole reply, which begins with these bytes. */
static size_t whole_length(const char *bytes)
{
    const char *end = strstr(bytes, "\r\n\r\n");
    const char *length = strstr(bytes, "Content-Length:");
    if (strncmp(bytes, "HTTP/1.1 200", 12) != 0 || end == NULL || length == NULL) {
        bench_fail("a reply that is not expected: %.400s", bytes);
    }
    return (size_t)(end + 4 - bytes) + strtoul(length + 15, NULL, 10);
}

/* Takes the replies of all workers. `bytes` of each, or as many as its header says. Returns the
 * length of the last one. */
static size_t take_replies(int epoll, worker *workers, size_t bytes)
{
    static char into[1 << 16];
    size_t done = 0;
    size_t length = bytes;
    for (size_t i = 0; i < WAITING; i++) {
        workers[i].left = SIZE_MAX;
    }
    while (done < WAITING) {
        struct epoll_event events[64];
        const int got = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < got; i++) {
            worker *w = events[i].data.ptr;
            const ssize_t n = recv(w->socket, into, sizeof into - 1, MSG_DONTWAIT);
            if (n <= 0) {
                bench_fail("a connection ended");
            }
            if (w->left == SIZE_MAX) {
                into[n] = '\0';
                length = bytes > 0 ? bytes : whole_length(into);
                w->left = length;
            }
            w->left -= (size_t)n;
            done += w->left == 0;
        }
    }
    return length;
}

static void watch(int epoll, worker *w)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = w};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, w->socket, &event) != 0) {
        bench_fail("epoll: %s", strerror(errno));
    }
}

/* A process that writes `bytes` to each of its ends when a byte comes on `go`. */
static pid_t start_writer(const int *ends, const int go[2], size_t bytes)
{
    const pid_t pid = fork();
    if (pid == 0) {
        char *reply = bench_map(bytes);
        char byte;
        (void)close(go[1]);
        while (read(go[0], &byte, 1) == 1) {
            for (size_t i = 0; i < WAITING; i++) {
                bench_send(ends[i], reply, bytes);
            }
        }
        _exit(0);
    }
    return pid;
}

/* Pairs of TCP sockets. */
static void connect_pairs(worker *workers, int *ends)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || listen(listener, 1024) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
        bench_fail("no listening socket: %s", strerror(errno));
    }
    for (size_t i = 0; i < WAITING; i++) {
        workers[i].socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(workers[i].socket, (struct sockaddr *)&address, length) != 0) {
            bench_fail("connecting: %s", strerror(errno));
        }
        ends[i] = accept(listener, NULL, NULL);
    }
    (void)close(listener);
}

static unsigned threads_of(pid_t pid)
{
    char path[64];
    char line[256];
    unsigned threads = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "Threads:", 8) == 0) {
            threads = (unsigned)strtoul(line + 8, NULL, 10);
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return threads;
}

/* All workers but the last send their gradients, and wait. Returns the server's threads then. */
static unsigned open_round(int asking, const char *path, const worker *workers, pid_t server)
{
    for (size_t i = 0; i + 1 < WAITING; i++) {
        bench_send(workers[i].socket, workers[i].request, workers[i].length);
    }
    await_gradients(asking, path, WAITING - 1);
    return threads_of(server);
}

/* From the gradient that closes the round until all have their replies. */
static double close_round(int epoll, worker *workers, size_t *length)
{
    const double start = bench_now();
    bench_send(workers[WAITING - 1].socket, workers[WAITING - 1].request,
               workers[WAITING - 1].length);
    *length = take_replies(epoll, workers, 0);
    return bench_now() - start;
}

static void measure_waiting(bench_table *t, const char *adamd)
{
    static worker workers[WAITING];
    static worker others[WAITING];
    static int ends[WAITING];
    const char *path = "/v1/optimizers/crowd";
    const char *const extra[] = {"--threads", "1", "--max-connections", "2048", NULL};
    double ours[WAITING_ROUNDS];
    double theirs[WAITING_ROUNDS];
    bench_body body = bench_body_make(WAITING_FLOATS);
    bench_server server = bench_server_start(adamd, extra);
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    const int other_epoll = epoll_create1(EPOLL_CLOEXEC);
    create(server.port, path, &body, WAITING);
    for (size_t i = 0; i < WAITING; i++) {
        workers[i].socket = bench_connect("127.0.0.1", server.port);
        make_request(&workers[i], path, i, &body);
        watch(epoll, &workers[i]);
    }
    const int asking = bench_connect("127.0.0.1", server.port);
    size_t length = 0;
    int go[2];
    unsigned threads = open_round(asking, path, workers, server.pid);
    (void)close_round(epoll, workers, &length);
    connect_pairs(others, ends);
    if (pipe(go) != 0) {
        bench_fail("pipe: %s", strerror(errno));
    }
    const size_t written = length; /* it differs by the digits of the norms */
    const pid_t writer = start_writer(ends, go, written);
    for (size_t i = 0; i < WAITING; i++) {
        (void)close(ends[i]);
        watch(other_epoll, &others[i]);
    }
    for (size_t i = 0; i < WAITING_ROUNDS; i++) {
        const unsigned now = open_round(asking, path, workers, server.pid);
        threads = now > threads ? now : threads;
        ours[i] = close_round(epoll, workers, &length) * 1e3;
        const double start = bench_now();
        (void)!write(go[1], "g", 1);
        (void)take_replies(other_epoll, others, written);
        theirs[i] = (bench_now() - start) * 1e3;
    }
    bench_table_add(t, "closing a round that 1000 workers wait for",
                    bench_median(ours, WAITING_ROUNDS), "ms", "writing 1000 such replies",
                    bench_median(theirs, WAITING_ROUNDS), BENCH_AT_MOST, 2);
    bench_table_add(t, "threads while they wait", threads, "", "the limit of the issue",
                    MAX_THREADS, BENCH_AT_MOST, 1);
    (void)close(go[1]);
    (void)close(go[0]);
    (void)waitpid(writer, NULL, 0);
    for (size_t i = 0; i < WAITING; i++) {
        (void)close(workers[i].socket);
        (void)close(others[i].socket);
        free(workers[i].request);
    }
    (void)close(asking);
    bench_server_stop(&server);
    bench_body_free(&body);
}

/* ---- eight large gradients ---- */

static void measure_large(bench_table *t, const char *adamd)
{
    worker workers[WORKERS];
    const char *path = "/v1/optimizers/large";
    double ours[ROUNDS];
    double theirs[ROUNDS];
    bench_body body = bench_body_make(FLOATS);
    char *reply = bench_map(body.length + REPLY_SLACK);
    pid_t echo_pid;
    const int echo = bench_echo_start(body.length, &echo_pid);
    bench_server server = bench_server_start(adamd, NULL);
    create(server.port, path, &body, WORKERS);
    for (size_t i = 0; i < WORKERS; i++) {
        workers[i].socket = bench_connect("127.0.0.1", server.port);
        make_request(&workers[i], path, i, &body);
    }
    for (size_t k = 0; k < ROUNDS + WARM_UP; k++) {
        const double start = bench_now();
        for (size_t i = 0; i < WORKERS; i++) {
            bench_send(echo, body.bytes, body.length);
            bench_receive(echo, reply, body.length);
        }
        const double middle = bench_now();
        for (size_t i = 0; i < WORKERS; i++) {
            bench_send(workers[i].socket, workers[i].request, workers[i].length);
        }
        for (size_t i = 0; i < WORKERS; i++) {
            const ssize_t n = recv(workers[i].socket, reply, 1024, MSG_PEEK | MSG_WAITALL);
            reply[n > 0 ? n : 0] = '\0';
            bench_receive(workers[i].socket, reply, whole_length(reply));
        }
        if (k >= WARM_UP) {
            theirs[k - WARM_UP] = (middle - start) * 1e3;
            ours[k - WARM_UP] = (bench_now() - middle) * 1e3;
        }
    }
    bench_table_add(t, "a round of 8 gradients of 1 M", bench_median(ours, ROUNDS), "ms",
                    "8 raw TCP echoes of the bytes", bench_median(theirs, ROUNDS), BENCH_AT_MOST,
                    1.3);
    for (size_t i = 0; i < WORKERS; i++) {
        (void)close(workers[i].socket);
        free(workers[i].request);
    }
    (void)close(echo);
    (void)waitpid(echo_pid, NULL, 0);
    bench_server_stop(&server);
    bench_unmap(reply, body.length + REPLY_SLACK);
    bench_body_free(&body);
}

int main(int argc, char **argv)
{
    const bench_options o = bench_options_read(argc, argv);
    const struct rlimit files = {8192, 8192};
    (void)setrlimit(RLIMIT_NOFILE, &files);
    bench_table *t = bench_table_create();
    measure_waiting(t, o.adamd);
    measure_large(t, o.adamd);
    bench_table_end(t, o.json);
    return 0;
}
