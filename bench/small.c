/* small.c: what does a small request cost beside libmicrohttpd's hello world? 16 keep-alive
 * connections, each with an optimizer of its own; the two servers take turns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "body.h"
#include "load.h"

#define CONNECTIONS ((size_t)16)
#define FLOATS      ((size_t)256)
#define ROUNDS      15
#define SECONDS     0.25
#define PATH_SIZE   64
#define JSON_SIZE   (FLOATS * 16 + 64)

typedef struct question {
    const char *name;
    const char *method, *path, *type; /* type NULL: no body */
    double target;
} question;

static const question questions[] = {
    {"step of 256 floats, safetensors, 16 clients", "POST", "/step", BENCH_SAFETENSORS, 0.7},
    {"step of 256 floats, JSON, 16 clients", "POST", "/step", "application/json", 0.4},
    {"GET param_groups of 8 floats, 16 clients", "GET", "/param_groups", NULL, 0.6},
};
#define QUESTIONS (sizeof questions / sizeof questions[0])

/* A step as JSON, in numbers as Python prints float32 gradients. */
static size_t make_json(char *out)
{
    size_t n = (size_t)snprintf(out, JSON_SIZE, "{\"grads\": {\"w\": [");
    for (size_t i = 0; i < FLOATS; i++) {
        n += (size_t)snprintf(out + n, JSON_SIZE - n, "%s%.9g", i > 0 ? ", " : "",
                              (double)((float)(i % 100 + 1) * 1.37e-3F - 0.05F));
    }
    return n + (size_t)snprintf(out + n, JSON_SIZE - n, "]}}");
}

static bench_load_request make_request(const question *q, size_t client)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "/v1/optimizers/%s%zu%s", q->type != NULL ? "m" : "s", client,
                   q->path);
    if (q->type == NULL) {
        return bench_load_make(q->method, path, NULL, NULL, 0);
    }
    if (strcmp(q->type, BENCH_SAFETENSORS) == 0) {
        bench_body body = bench_body_make(FLOATS);
        const bench_load_request r =
            bench_load_make(q->method, path, q->type, body.bytes, body.length);
        bench_body_free(&body);
        return r;
    }
    char json[JSON_SIZE];
    const size_t length = make_json(json);
    return bench_load_make(q->method, path, q->type, json, length);
}

static void create(unsigned port, const char *prefix, size_t floats)
{
    bench_body body = bench_body_make(floats);
    char reply[4096];
    const int s = bench_connect("127.0.0.1", port);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        char path[PATH_SIZE];
        (void)snprintf(path, sizeof path, "/v1/optimizers/%s%zu", prefix, i);
        (void)bench_request(s, "PUT", path, BENCH_SAFETENSORS, body.bytes, body.length, reply,
                            sizeof reply, 201);
    }
    (void)close(s);
    bench_body_free(&body);
}

static void measure(bench_table *t, const question *q, unsigned adamd, unsigned hello)
{
    double ours[ROUNDS];
    double theirs[ROUNDS];
    bench_load_request asked[CONNECTIONS];
    bench_load_request greeting = bench_load_make("GET", "/", NULL, NULL, 0);
    bench_load_request greetings[CONNECTIONS];
    for (size_t i = 0; i < CONNECTIONS; i++) {
        asked[i] = make_request(q, i);
        greetings[i] = greeting;
    }
    for (int i = 0; i < ROUNDS; i++) {
        theirs[i] = bench_load_run(hello, greetings, CONNECTIONS, CONNECTIONS, SECONDS, 0).rate;
        ours[i] = bench_load_run(adamd, asked, CONNECTIONS, CONNECTIONS, SECONDS, 0).rate;
    }
    bench_table_add(t, q->name, bench_median(ours, ROUNDS), "1/s", "libmicrohttpd's hello world",
                    bench_median(theirs, ROUNDS), BENCH_AT_LEAST, q->target);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        bench_load_free(&asked[i]);
    }
    bench_load_free(&greeting);
}

int main(int argc, char **argv)
{
    const bench_options o = bench_options_read(argc, argv);
    char threads[16];
    char hello_path[4096];
    (void)snprintf(threads, sizeof threads, "%ld", sysconf(_SC_NPROCESSORS_ONLN));
    bench_beside(argv[0], "bench_hello", hello_path, sizeof hello_path);
    const char *const hello_argv[] = {hello_path, threads, NULL};
    bench_server hello = bench_spawn(hello_argv);
    bench_server adamd = bench_server_start(o.adamd, NULL);
    create(adamd.port, "m", FLOATS);
    create(adamd.port, "s", 8);
    bench_table *t = bench_table_create();
    for (size_t i = 0; i < QUESTIONS; i++) {
        measure(t, &questions[i], adamd.port, hello.port);
    }
    bench_table_end(t, o.json);
    bench_server_stop(&adamd);
    bench_server_stop(&hello);
    return 0;
}
