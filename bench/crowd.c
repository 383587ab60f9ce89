/* crowd.c: do many clients and many optimizers get in each other's way? 32 clients beside one,
 * small steps beside a large one, 10 000 optimizers beside 10. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "body.h"
#include "load.h"

#define CLIENTS     ((size_t)32)
#define CROWD_N     ((size_t)64 << 10) /* parameters of each of their optimizers */
#define LARGE_N     ((size_t)64 << 20)
#define SMALL_N     ((size_t)256)
#define SMALL       ((size_t)4) /* connections that take small steps, each with its optimizer */
#define SMALL_PAUSE 2e-3
#define MANY        ((size_t)10000)
#define FEW         ((size_t)10)
#define MANY_N      ((size_t)100)
#define MANY_MORE   ((size_t)4 << 10) /* bytes of an optimizer beside its numbers */
#define ROUNDS      5
#define SECONDS     0.5
#define ROOM        ((size_t)4096) /* of a path, of a short reply */

static void path_of(char *out, const char *kind, size_t index, const char *rest)
{
    (void)snprintf(out, ROOM, "/v1/optimizers/%s%zu%s", kind, index, rest);
}

/* Optimizers kind0, kind1, ... of n parameters each. */
static void create(unsigned port, const char *kind, size_t count, size_t n)
{
    bench_body body = bench_body_make(n);
    char path[ROOM];
    char reply[ROOM];
    const int s = bench_connect("127.0.0.1", port);
    for (size_t i = 0; i < count; i++) {
        path_of(path, kind, i, "");
        (void)bench_request(s, "PUT", path, BENCH_SAFETENSORS, body.bytes, body.length, reply, ROOM,
                            201);
    }
    (void)close(s);
    bench_body_free(&body);
}

/* A step of n parameters for each of them. */
static bench_load_request *make_steps(const char *kind, size_t count, size_t n)
{
    bench_load_request *steps = calloc(count, sizeof *steps);
    bench_body body = bench_body_make(n);
    char path[ROOM];
    if (steps == NULL) {
        bench_fail("no memory");
    }
    for (size_t i = 0; i < count; i++) {
        path_of(path, kind, i, "/step");
        steps[i] = bench_load_make("POST", path, BENCH_SAFETENSORS, body.bytes, body.length);
    }
    bench_body_free(&body);
    return steps;
}

static void free_steps(bench_load_request *steps, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bench_load_free(&steps[i]);
    }
    free(steps);
}

/* ---- 32 clients ---- */

typedef struct share {
    unsigned port;
    const bench_load_request *steps;
    size_t n;
    double rate;
} share;

static void *run_share(void *argument)
{
    share *s = argument;
    s->rate = bench_load_run(s->port, s->steps, s->n, s->n, SECONDS, 0).rate;
    return NULL;
}

/* The rate of all clients, which are shared out to as many threads as there are cores. */
static double run_crowd(unsigned port, const bench_load_request *steps, size_t cores)
{
    pthread_t threads[64];
    share shares[64];
    const size_t n = cores < 64 ? cores : 64;
    double rate = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t first = CLIENTS * i / n;
        shares[i] = (share){port, steps + first, CLIENTS * (i + 1) / n - first, 0};
        if (pthread_create(&threads[i], NULL, run_share, &shares[i]) != 0) {
            bench_fail("no thread");
        }
    }
    for (size_t i = 0; i < n; i++) {
        (void)pthread_join(threads[i], NULL);
        rate += shares[i].rate;
    }
    return rate;
}

/* One client and its server take turns, so that they keep one core busy between them. It is
 * measured with one optimizer, which the caches hold, and with all 32, which they do not. */
static void measure_crowd(bench_table *t, const char *adamd)
{
    const size_t cores = (size_t)sysconf(_SC_NPROCESSORS_ONLN);
    bench_server server = bench_server_start(adamd, NULL);
    double alone[ROUNDS];
    double around[ROUNDS];
    double together[ROUNDS];
    char peer[64];
    create(server.port, "c", CLIENTS, CROWD_N);
    bench_load_request *steps = make_steps("c", CLIENTS, CROWD_N);
    for (int i = 0; i < ROUNDS; i++) {
        alone[i] = bench_load_run(server.port, steps, 1, 1, SECONDS, 0).rate * (double)cores;
        around[i] = bench_load_run(server.port, steps, CLIENTS, 1, SECONDS, 0).rate * (double)cores;
        together[i] = run_crowd(server.port, steps, cores);
    }
    const double rate = bench_median(together, ROUNDS);
    (void)snprintf(peer, sizeof peer, "one client's rate x %zu cores", cores);
    bench_table_add(t, "32 clients, each a step of 64 K", rate, "1/s", peer,
                    bench_median(alone, ROUNDS), BENCH_AT_LEAST, 0.9);
    (void)snprintf(peer, sizeof peer, "one, around all 32, x %zu cores", cores);
    bench_table_add(t, "32 clients, each a step of 64 K", rate, "1/s", peer,
                    bench_median(around, ROUNDS), BENCH_NO_GOAL, 0);
    free_steps(steps, CLIENTS);
    bench_server_stop(&server);
}

/* ---- beside a large step ---- */

/* A process of its own that takes large steps until it is killed. */
static pid_t start_large(unsigned port)
{
    const pid_t pid = fork();
    if (pid == 0) {
        bench_body body = bench_body_make(LARGE_N);
        char *reply = bench_map(body.length + ROOM);
        const int s = bench_connect("127.0.0.1", port);
        for (;;) {
            (void)bench_request(s, "POST", "/v1/optimizers/l0/step", BENCH_SAFETENSORS, body.bytes,
                                body.length, reply, body.length + ROOM, 200);
        }
    }
    return pid;
}

static void create_large(unsigned port)
{
    bench_body body = bench_body_make(LARGE_N);
    char reply[ROOM];
    const int s = bench_connect("127.0.0.1", port);
    (void)bench_request(s, "PUT", "/v1/optimizers/l0", BENCH_SAFETENSORS, body.bytes, body.length,
                        reply, ROOM, 201);
    (void)close(s);
    bench_body_free(&body);
}

static double small_p99(unsigned port, const bench_load_request *steps)
{
    return bench_load_run(port, steps, SMALL, SMALL, 1.0, SMALL_PAUSE).p99 * 1e3;
}

/* Beside it, the same on a server that has nothing to do with the large steps: what is lost there
 * is lost to the system, whose cores the large client and its server keep busy. */
static void measure_neighbours(bench_table *t, const char *adamd)
{
    static const char name[] = "p99 of a step of 256 beside steps of 64 M";
    bench_server server = bench_server_start(adamd, NULL);
    bench_server other = bench_server_start(adamd, NULL);
    double idle[ROUNDS];
    double beside[ROUNDS];
    double apart[ROUNDS];
    create(server.port, "s", SMALL, SMALL_N);
    create(other.port, "s", SMALL, SMALL_N);
    create_large(server.port);
    bench_load_request *steps = make_steps("s", SMALL, SMALL_N);
    for (int i = 0; i < ROUNDS; i++) {
        idle[i] = small_p99(server.port, steps);
        const pid_t large = start_large(server.port);
        (void)sleep(1); /* it makes its body */
        beside[i] = small_p99(server.port, steps);
        apart[i] = small_p99(other.port, steps);
        (void)kill(large, SIGKILL);
        (void)waitpid(large, NULL, 0);
    }
    const double p99 = bench_median(beside, ROUNDS);
    bench_table_add(t, name, p99, "ms", "the same, idle", bench_median(idle, ROUNDS), BENCH_AT_MOST,
                    5.0);
    bench_table_add(t, name, p99, "ms", "the same on another server", bench_median(apart, ROUNDS),
                    BENCH_NO_GOAL, 0);
    free_steps(steps, SMALL);
    bench_server_stop(&server);
    bench_server_stop(&other);
}

/* ---- many optimizers ---- */

static double median_time(unsigned port, const bench_load_request *request)
{
    return bench_load_run(port, request, 1, 1, SECONDS, 0).p50 * 1e6;
}

static void measure_many(bench_table *t, const char *adamd)
{
    bench_server few = bench_server_start(adamd, NULL);
    bench_server many = bench_server_start(adamd, NULL);
    create(few.port, "m", FEW, MANY_N);
    create(many.port, "m", 1, MANY_N); /* what the first one takes is the server's own */
    const size_t before = bench_memory(many.pid);
    create(many.port, "n", MANY - FEW, MANY_N);
    create(many.port, "m0x", FEW - 1, MANY_N);
    const double each = (double)(bench_memory(many.pid) - before) / (double)(MANY - 1);

    bench_load_request page = bench_load_make("GET", "/v1/optimizers?limit=10", NULL, NULL, 0);
    bench_load_request *step = make_steps("m", 1, MANY_N);
    double list[2][ROUNDS];
    double steps[2][ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        list[0][i] = median_time(few.port, &page);
        list[1][i] = median_time(many.port, &page);
        steps[0][i] = median_time(few.port, step);
        steps[1][i] = median_time(many.port, step);
    }
    bench_table_add(t, "a page of 10 of 10 000 optimizers", bench_median(list[1], ROUNDS), "us",
                    "of 10", bench_median(list[0], ROUNDS), BENCH_AT_MOST, 1.2);
    bench_table_add(t, "a step of one of 10 000 optimizers", bench_median(steps[1], ROUNDS), "us",
                    "of 10", bench_median(steps[0], ROUNDS), BENCH_AT_MOST, 1.2);
    bench_table_add(t, "memory of one of 10 000 optimizers of 100", each, "B",
                    "12 bytes a parameter + 4 KiB", 12.0 * (double)MANY_N + (double)MANY_MORE,
                    BENCH_AT_MOST, 1.0);
    bench_load_free(&page);
    free_steps(step, 1);
    bench_server_stop(&few);
    bench_server_stop(&many);
}

int main(int argc, char **argv)
{
    const bench_options o = bench_options_read(argc, argv);
    bench_table *t = bench_table_create();
    measure_crowd(t, o.adamd);
    measure_neighbours(t, o.adamd);
    measure_many(t, o.adamd);
    bench_table_end(t, o.json);
    return 0;
}
