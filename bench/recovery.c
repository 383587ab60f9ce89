/* recovery.c: what does a snapshot cost the steps beside it, and how fast is a journal done again?
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "adam/optimizer.h"
#include "body.h"
#include "data_dir.h"
#include "journal.h"

#define REPLY_SLACK ((size_t)4096)
#define LARGE       ((size_t)64 << 20)
#define STEPS_APART 8 /* steps without a snapshot, before each one */
#define SNAPSHOTS   3
#define MAX_STEPS   256
#define FLOATS      ((size_t)1 << 20)
#define REPLAYED    512 /* steps of 4 MiB */
#define RECOVERIES  3
#define OPTIMIZER   "/v1/optimizers/bench"

typedef struct client {
    int socket;
    bench_body body;
    char *reply;
} client;

static client begin(unsigned port, size_t floats)
{
    client c = {.socket = bench_connect("127.0.0.1", port), .body = bench_body_make(floats)};
    c.reply = bench_map(c.body.length + REPLY_SLACK);
    (void)bench_request(c.socket, "PUT", OPTIMIZER, BENCH_SAFETENSORS, c.body.bytes, c.body.length,
                        c.reply, c.body.length + REPLY_SLACK, 201);
    return c;
}

static void end(client *c)
{
    (void)close(c->socket);
    bench_unmap(c->reply, c->body.length + REPLY_SLACK);
    bench_body_free(&c->body);
}

static double step(client *c)
{
    const double start = bench_now();
    (void)bench_request(c->socket, "POST", OPTIMIZER "/step", BENCH_SAFETENSORS, c->body.bytes,
                        c->body.length, c->reply, c->body.length + REPLY_SLACK, 200);
    return (bench_now() - start) * 1e3;
}

/* ---- snapshots ---- */

typedef struct snapshot {
    pthread_t thread;
    unsigned port;
    double ms;
    atomic_bool done;
} snapshot;

static void *take_snapshot(void *argument)
{
    static char reply[4096];
    snapshot *s = argument;
    const int socket = bench_connect("127.0.0.1", s->port);
    const double start = bench_now();
    (void)bench_request(socket, "POST", OPTIMIZER "/snapshot", "application/json", "", 0, reply,
                        sizeof reply, 200);
    s->ms = (bench_now() - start) * 1e3;
    (void)close(socket);
    atomic_store(&s->done, true);
    return NULL;
}

static void measure_snapshot(bench_table *t, const char *adamd, const char *directory)
{
    static const char *const extra[] = {"--journal", "off", "--snapshot-interval", "0", NULL};
    static double apart[MAX_STEPS];
    static double beside[MAX_STEPS];
    double took[SNAPSHOTS];
    size_t n_apart = 0;
    size_t n_beside = 0;
    bench_server server = bench_disk_server(adamd, directory, "snapshots", extra);
    client c = begin(server.port, LARGE);
    (void)step(&c);
    for (int i = 0; i < SNAPSHOTS; i++) {
        bench_disk_settle();
        for (int k = 0; k < STEPS_APART; k++) {
            apart[n_apart++] = step(&c);
        }
        snapshot s = {.port = server.port};
        if (pthread_create(&s.thread, NULL, take_snapshot, &s) != 0) {
            bench_fail("no thread");
        }
        while (!atomic_load(&s.done) && n_beside < MAX_STEPS) {
            beside[n_beside++] = step(&c);
        }
        pthread_join(s.thread, NULL);
        took[i] = s.ms;
    }
    const double median = bench_median(apart, n_apart);
    bench_table_add(t, "step of 64 M while a snapshot is written", bench_median(beside, n_beside),
                    "ms", "without", median, BENCH_AT_MOST, 2);
    bench_table_add(t, "the longest of them", beside[n_beside - 1], "ms", "without", median,
                    BENCH_NO_GOAL, 0);
    bench_table_add(t, "such a snapshot", bench_median(took, SNAPSHOTS), "ms", "a step", median,
                    BENCH_NO_GOAL, 0);
    end(&c);
    bench_server_kill(&server);
}

/* ---- recovery ---- */

/* MiB/s that the journal is read at, checksums and all. */
static double read_journal(const char *data_dir)
{
    char error[512];
    journal_record record;
    const double start = bench_now();
    journal_reader *r = journal_reader_open(data_dir, JOURNAL_FROM_FIRST, error, sizeof error);
    if (r == NULL) {
        bench_fail("%s", error);
    }
    journal_read_status st;
    while ((st = journal_read_next(r, &record)) == JOURNAL_READ) {
    }
    if (st == JOURNAL_BAD) {
        bench_fail("%s: %s", journal_reader_file(r), journal_reader_reason(r));
    }
    const double bytes = (double)journal_reader_done(r);
    journal_reader_close(r);
    return bytes / 0x1p20 / (bench_now() - start);
}

/* MiB/s of gradients that the core takes such steps with. */
static double step_alone(void)
{
    adam_error error = {0};
    adam_optimizer *o = NULL;
    adam_pool *pool = NULL;
    adam_tensor w = {.name = "w", .name_len = 1, .rank = 1, .shape = {FLOATS}};
    adam_group_spec group = {.params = &w, .n_params = 1};
    bench_body body = bench_body_make(FLOATS);
    adam_options_default(ADAM_ALGORITHM_ADAM, &group.options);
    if (adam_pool_create((unsigned)sysconf(_SC_NPROCESSORS_ONLN), &pool) != ADAM_OK ||
        adam_optimizer_create(ADAM_ALGORITHM_ADAM, &group, 1, NULL, &o, &error) != ADAM_OK) {
        bench_fail("no optimizer: %s", error.message);
    }
    w.data = body.bytes + BENCH_HEADER_BYTES;
    const adam_step_args args = {.grads = &w, .n_grads = 1, .pool = pool};
    const double start = bench_now();
    for (int i = 0; i < REPLAYED; i++) {
        if (adam_optimizer_step(o, &args, NULL, &error) != ADAM_OK) {
            bench_fail("%s", error.message);
        }
    }
    const double seconds = bench_now() - start;
    adam_optimizer_free(o);
    adam_pool_free(pool);
    bench_body_free(&body);
    return REPLAYED * 4 / seconds;
}

static void measure_recovery(bench_table *t, const char *adamd, const char *directory)
{
    static const char *const extra[] = {
        "--fsync", "never", "--journal-size", "68719476736", "--snapshot-interval", "0", NULL};
    char path[BENCH_PATH_SIZE + 16];
    double ours[RECOVERIES];
    double read[RECOVERIES];
    double kernel[RECOVERIES];
    (void)snprintf(path, sizeof path, "%s/recovery", directory);
    bench_server server = bench_disk_server(adamd, directory, "recovery", extra);
    client c = begin(server.port, FLOATS);
    for (int i = 0; i < REPLAYED; i++) {
        (void)step(&c);
    }
    end(&c);
    bench_server_kill(&server);
    bench_disk_settle();
    (void)read_journal(path); /* into the page cache */
    for (int i = 0; i < RECOVERIES; i++) {
        const double start = bench_now();
        server = bench_disk_server(adamd, directory, "recovery", extra);
        ours[i] = REPLAYED * 4 / (bench_now() - start);
        bench_server_kill(&server);
        read[i] = read_journal(path);
        kernel[i] = step_alone();
    }
    const double rate = bench_median(ours, RECOVERIES);
    const double reading = bench_median(read, RECOVERIES);
    const double stepping = bench_median(kernel, RECOVERIES);
    bench_table_add(t, "recovery of 512 steps of 1 M", rate, "MiB/s",
                    reading < stepping ? "reading the journal, the slower"
                                       : "the core's steps, the slower",
                    reading < stepping ? reading : stepping, BENCH_AT_LEAST, 0.5);
    bench_table_add(t, "the same", rate, "MiB/s",
                    reading < stepping ? "the core's steps" : "reading the journal",
                    reading < stepping ? stepping : reading, BENCH_NO_GOAL, 0);
}

int main(int argc, char **argv)
{
    const bench_options o = bench_options_read(argc, argv);
    char directory[BENCH_PATH_SIZE];
    bench_directory_make(o.adamd, directory);
    bench_table *t = bench_table_create();
    measure_snapshot(t, o.adamd, directory);
    measure_recovery(t, o.adamd, directory);
    bench_table_end(t, o.json);
    bench_directory_remove(directory);
    return 0;
}
