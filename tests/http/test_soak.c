/* test_soak.c: small requests on many kept connections while large ones suspend theirs. Guards
 * against connections that libmicrohttpd forgets while another one is suspended: each request must
 * get its answer, and small ones must get theirs while a large one is worked on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crowd.h"
#include "files.h"

enum {
    LARGE = 1 << 20,
    LARGE_CLIENTS = 2,
    LARGE_STEPS = 12,
    SMALL_CLIENTS = 24,
    SMALL_OPTIMIZERS = 8
};

typedef struct soak {
    file grads;
    atomic_uint large_left; /* clients with large steps that are not done */
    atomic_uint small;      /* small requests that were answered */
} soak;

static void step_large(worker *w)
{
    static const char *const headers[] = {"Content-Type: application/octet-stream", NULL};
    soak *s = w->context;
    char path[64];
    (void)snprintf(path, sizeof path, OPTIMIZERS "/large%zu/step", w->index);
    for (long i = 1; i <= LARGE_STEPS && !worker_failed(w); i++) {
        const int status = worker_ask(w, "POST", path, headers, s->grads.bytes, s->grads.length);
        if (status != 200 || worker_step(w) != i) {
            worker_fail(w, "status %d at step %ld", status, i);
        }
    }
    atomic_fetch_sub(&s->large_left, 1);
}

static void step_small(worker *w)
{
    soak *s = w->context;
    char path[64];
    (void)snprintf(path, sizeof path, OPTIMIZERS "/small%zu/step", w->index % SMALL_OPTIMIZERS);
    for (unsigned i = 0; atomic_load(&s->large_left) > 0 && !worker_failed(w); i++) {
        const int status = i % 4 == 3
                               ? worker_ask(w, "GET", OPTIMIZERS "?limit=2", NULL, NULL, 0)
                               : worker_ask_json(w, "POST", path, "{\"grads\": {\"w\": [1, 2]}}");
        if (status != 200) {
            worker_fail(w, "status %d", status);
        }
        if (i > 0 && w->reply.new_connections != 0) {
            worker_fail(w, "its connection was not kept");
        }
        atomic_fetch_add(&s->small, 1);
    }
}

static void soak_server(const char *const *options, size_t large_clients, size_t small_clients)
{
    static soak s;
    server adamd;
    peer p;
    worker workers[LARGE_CLIENTS + SMALL_CLIENTS] = {0};
    char name[32];
    float *w = calloc(LARGE, sizeof *w);
    assert_non_null(w);
    const adamd_tensor t = vector32("w", w, LARGE);
    s.grads = file_of(&t, 1, NULL, NULL);
    atomic_store(&s.large_left, (unsigned)large_clients);
    atomic_store(&s.small, 0);
    server_start(&adamd, options);
    peer_open(&p, adamd.url);
    for (size_t i = 0; i < large_clients; i++) {
        (void)snprintf(name, sizeof name, "large%zu", i);
        create(&p, name, "{\"params\": {\"w\": {\"shape\": [1048576]}}}");
        workers[i] = (worker){.run = step_large, .context = &s};
    }
    for (size_t i = 0; i < SMALL_OPTIMIZERS; i++) {
        (void)snprintf(name, sizeof name, "small%zu", i);
        create(&p, name, "{\"params\": {\"w\": [1, 2]}}");
    }
    for (size_t i = 0; i < small_clients; i++) {
        workers[large_clients + i] = (worker){.run = step_small, .context = &s};
    }
    crowd_run(adamd.url, workers, large_clients + small_clients);
    const unsigned large = (unsigned)large_clients * LARGE_STEPS;
    print_message("%u small requests beside %u large steps\n", atomic_load(&s.small), large);
    assert_true(atomic_load(&s.small) > 3 * large);
    peer_close(&p);
    server_stop(&adamd);
    file_free(&s.grads);
    free(w);
}

/* Many connections on the server's own number of threads. */
static void test_many_connections(void **state)
{
    (void)state;
    soak_server(NULL, LARGE_CLIENTS, SMALL_CLIENTS);
}

/* All on one thread, where a forgotten connection has no other to be woken by: with one neighbour,
 * and with several. */
static void test_one_thread(void **state)
{
    static const char *const options[] = {"--threads", "1", NULL};
    (void)state;
    soak_server(options, 1, 1);
    soak_server(options, 2, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_connections),
        cmocka_unit_test(test_one_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
