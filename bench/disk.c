/* disk.c: what does a step cost that is kept on disk, beside one that is not, and beside the sync
 * of its bytes? All by turns, on the same disk. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "body.h"
#include "data_dir.h"
#include "load.h"

#define FLOATS       ((size_t)1 << 20)
#define REPLY_SLACK  ((size_t)4096)
#define ROUNDS       ((size_t)150)
#define WARM_UP      ((size_t)5)
#define PAUSE        0.02 /* seconds between steps, for the disk to keep up */
#define SMALL_FLOATS ((size_t)256)
#define CLIENTS      ((size_t)16)
#define LOAD_ROUNDS  9
#define LOAD_SECONDS 0.5
#define FILE_BYTES   ((size_t)64 << 20)
#define STEP_FACTOR  1.3 /* a step that is kept beside one that is not */

/* ---- large steps ---- */

/* FILLER: another one in memory. */
typedef enum which { MEMORY, NEVER, EVERYSEC, ALWAYS, FILLER, SERVERS } which;

static const char *const policies[SERVERS] = {NULL, "never", "everysec", "always", NULL};

typedef struct large {
    bench_server server[SERVERS];
    int socket[SERVERS];
    bench_body body;
    char *reply;
    int file; /* for the sync alone */
    size_t used;
    const char *directory;
} large;

static void open_file(large *l)
{
    char path[BENCH_PATH_SIZE + 16];
    (void)snprintf(path, sizeof path, "%s/alone", l->directory);
    if (l->file >= 0) {
        (void)close(l->file);
    }
    l->file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    l->used = 0;
    /* like a segment of the journal */
    if (l->file < 0 || posix_fallocate(l->file, 0, FILE_BYTES) != 0 || fsync(l->file) != 0) {
        bench_fail("%s: %s", path, strerror(errno));
    }
}

/* Milliseconds that fdatasync takes for the bytes of a step, after they were written to the page
 * cache. */
static double sync_alone(large *l)
{
    const size_t bytes = 4 * FLOATS;
    if (l->used + bytes > FILE_BYTES) {
        open_file(l);
    }
    if (pwrite(l->file, l->body.bytes + BENCH_HEADER_BYTES, bytes, (off_t)l->used) !=
        (ssize_t)bytes) {
        bench_fail("writing a file: %s", strerror(errno));
    }
    l->used += bytes;
    const double start = bench_now();
    if (fdatasync(l->file) != 0) {
        bench_fail("fdatasync: %s", strerror(errno));
    }
    return (bench_now() - start) * 1e3;
}

static double step(large *l, which w)
{
    const double start = bench_now();
    (void)bench_request(l->socket[w], "POST", "/v1/optimizers/bench/step", BENCH_SAFETENSORS,
                        l->body.bytes, l->body.length, l->reply, l->body.length + REPLY_SLACK, 200);
    return (bench_now() - start) * 1e3;
}

static void begin_large(large *l, const char *adamd, const char *directory)
{
    *l = (large){.body = bench_body_make(FLOATS), .file = -1, .directory = directory};
    l->reply = bench_map(l->body.length + REPLY_SLACK);
    for (int w = 0; w < SERVERS; w++) {
        const char *const extra[] = {"--fsync", policies[w], NULL};
        l->server[w] = policies[w] == NULL
                           ? bench_server_start(adamd, NULL)
                           : bench_disk_server(adamd, directory, policies[w], extra);
        l->socket[w] = bench_connect("127.0.0.1", l->server[w].port);
        (void)bench_request(l->socket[w], "PUT", "/v1/optimizers/bench", BENCH_SAFETENSORS,
                            l->body.bytes, l->body.length, l->reply, l->body.length + REPLY_SLACK,
                            201);
    }
    open_file(l);
}

static void end_large(large *l)
{
    for (int w = 0; w < SERVERS; w++) {
        (void)close(l->socket[w]);
        bench_server_stop(&l->server[w]);
    }
    (void)close(l->file);
    bench_unmap(l->reply, l->body.length + REPLY_SLACK);
    bench_body_free(&l->body);
}

/* Lets the disk keep up; steps on another server keep the cores as busy as they are without it. */
static void let_pass(large *l, double seconds)
{
    const double until = bench_now() + seconds;
    while (bench_now() < until) {
        (void)step(l, FILLER);
    }
}

/* A step of each server in turn, with a while before it; the first of them changes. Times in ms, of
 * ROUNDS each; those of the sync alone too, where `syncs` is not NULL. */
static void take_turns(large *l, const which *servers, size_t n, double (*times)[ROUNDS],
                       double *syncs)
{
    for (size_t i = 0; i < ROUNDS + WARM_UP; i++) {
        double ms[SERVERS];
        for (size_t k = 0; k < n; k++) {
            const size_t at = (i + k) % n;
            let_pass(l, PAUSE);
            ms[at] = step(l, servers[at]);
        }
        let_pass(l, PAUSE);
        const double alone = syncs != NULL ? sync_alone(l) : 0;
        for (size_t k = 0; k < n && i >= WARM_UP; k++) {
            times[k][i - WARM_UP] = ms[k];
        }
        if (syncs != NULL && i >= WARM_UP) {
            syncs[i - WARM_UP] = alone;
        }
    }
}

static void measure_large(bench_table *t, const char *adamd, const char *directory)
{
    static const which without_sync[] = {MEMORY, NEVER, EVERYSEC};
    static const which with_sync[] = {MEMORY, ALWAYS};
    static double times[SERVERS][ROUNDS];
    static double syncs[ROUNDS];
    large l;
    begin_large(&l, adamd, directory);
    take_turns(&l, without_sync, 3, times, NULL);
    double memory = bench_median(times[0], ROUNDS);
    bench_table_add(t, "step of 1 M, --fsync never", bench_median(times[1], ROUNDS), "ms",
                    "in memory only", memory, BENCH_AT_MOST, STEP_FACTOR);
    bench_table_add(t, "step of 1 M, --fsync everysec", bench_median(times[2], ROUNDS), "ms",
                    "in memory only", memory, BENCH_AT_MOST, STEP_FACTOR);
    take_turns(&l, with_sync, 2, times, syncs);
    memory = bench_median(times[0], ROUNDS);
    const double alone = bench_median(syncs, ROUNDS);
    bench_table_add(t, "step of 1 M, --fsync always", bench_median(times[1], ROUNDS), "ms",
                    "1.3 times in memory, and fdatasync alone", STEP_FACTOR * memory + alone,
                    BENCH_AT_MOST, 1);
    bench_table_add(t, "fdatasync of 4 MiB", alone, "ms", "a step in memory only", memory,
                    BENCH_NO_GOAL, 0);
    end_large(&l);
}

/* ---- many that wait for the disk ---- */

static bench_load_request make_step(size_t optimizer, const bench_body *body)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/v1/optimizers/m%zu/step", optimizer);
    return bench_load_make("POST", path, BENCH_SAFETENSORS, body->bytes, body->length);
}

static void measure_crowd(bench_table *t, const char *adamd, const char *directory)
{
    static const char *const extra[] = {"--fsync", "always", NULL};
    bench_body body = bench_body_make(SMALL_FLOATS);
    bench_load_request own[CLIENTS];
    bench_load_request same[CLIENTS];
    double one[LOAD_ROUNDS];
    double many[LOAD_ROUNDS];
    double shared[LOAD_ROUNDS];
    char reply[4096];
    bench_server server = bench_disk_server(adamd, directory, "crowd", extra);
    const int s = bench_connect("127.0.0.1", server.port);
    for (size_t i = 0; i < CLIENTS; i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "/v1/optimizers/m%zu", i);
        (void)bench_request(s, "PUT", path, BENCH_SAFETENSORS, body.bytes, body.length, reply,
                            sizeof reply, 201);
        own[i] = make_step(i, &body);
        same[i] = own[0];
    }
    (void)close(s);
    for (size_t i = 0; i < LOAD_ROUNDS; i++) {
        one[i] = bench_load_run(server.port, own, 1, 1, LOAD_SECONDS, 0).rate;
        many[i] = bench_load_run(server.port, own, CLIENTS, CLIENTS, LOAD_SECONDS, 0).rate;
        shared[i] = bench_load_run(server.port, same, CLIENTS, CLIENTS, LOAD_SECONDS, 0).rate;
    }
    const double alone = bench_median(one, LOAD_ROUNDS);
    bench_table_add(t, "16 clients on 16 optimizers of 256, --fsync always",
                    bench_median(many, LOAD_ROUNDS), "1/s", "one client", alone, BENCH_AT_LEAST, 5);
    bench_table_add(t, "16 clients on one optimizer of 256, --fsync always",
                    bench_median(shared, LOAD_ROUNDS), "1/s", "one client", alone, BENCH_AT_LEAST,
                    5);
    for (size_t i = 0; i < CLIENTS; i++) {
        bench_load_free(&own[i]);
    }
    bench_server_stop(&server);
    bench_body_free(&body);
}

int main(int argc, char **argv)
{
    const bench_options o = bench_options_read(argc, argv);
    char directory[BENCH_PATH_SIZE];
    bench_directory_make(o.adamd, directory);
    bench_table *t = bench_table_create();
    bench_disk_settle();
    measure_large(t, o.adamd, directory);
    bench_disk_settle();
    measure_crowd(t, o.adamd, directory);
    bench_table_end(t, o.json);
    bench_directory_remove(directory);
    return 0;
}
