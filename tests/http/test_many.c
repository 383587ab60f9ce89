/* test_many.c: a thousand optimizers side by side, and several clients that create the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crowd.h"

enum { OPTIMIZERS_COUNT = 1000, PARAMS = 100, CLIENTS = 4, JSON_SIZE = 64 << 10 };

static char creation[JSON_SIZE], step[JSON_SIZE];

/* {"what": {"p000": 1, ...}} */
static void fill(char *out, const char *what)
{
    size_t n = (size_t)snprintf(out, JSON_SIZE, "{\"%s\": {", what);
    for (int i = 0; i < PARAMS; i++) {
        n += (size_t)snprintf(out + n, JSON_SIZE - n, "%s\"p%03d\": %d", i > 0 ? ", " : "", i,
                              i + 1);
    }
    (void)snprintf(out + n, JSON_SIZE - n, "}}");
}

/* Creates a share of the optimizers and takes a step with each of them. */
static void make_share(worker *w)
{
    for (size_t i = w->index; i < OPTIMIZERS_COUNT && !worker_failed(w); i += CLIENTS) {
        char path[64];
        (void)snprintf(path, sizeof path, OPTIMIZERS "/o%04zu", i);
        const int created = worker_ask_json(w, "PUT", path, creation);
        (void)strcat(path, "/step");
        const int stepped = worker_ask_json(w, "POST", path, step);
        if (created != 201 || stepped != 200 || worker_step(w) != 1) {
            worker_fail(w, "%s: PUT %d, POST %d", path, created, stepped);
        }
    }
}

/* All are there, once each, in order, with a step of their own, however many go on a page. */
static void test_thousand(void **state)
{
    static const unsigned pages[] = {100, 1000, 33};
    peer *p = *state;
    worker workers[CLIENTS] = {0};
    fill(creation, "params");
    fill(step, "grads");
    for (size_t i = 0; i < CLIENTS; i++) {
        workers[i].run = make_share;
    }
    crowd_run(p->server.url, workers, CLIENTS);
    for (size_t k = 0; k < COUNT(pages); k++) {
        char path[128];
        unsigned n = 0;
        (void)snprintf(path, sizeof path, OPTIMIZERS "?limit=%u", pages[k]);
        for (bool more = true; more;) {
            unsigned on_page = 0;
            (void)get(p, path);
            assert_status(p, 200);
            for (const char *c = body_of(p); (c = strstr(c, "{\"name\": \"")) != NULL; on_page++) {
                char expected[128];
                (void)snprintf(expected, sizeof expected,
                               "{\"name\": \"o%04u\", \"algorithm\": \"adam\", \"step\": 1, ", n++);
                assert_memory_equal(c, expected, strlen(expected));
                c += strlen(expected);
            }
            assert_true(on_page <= pages[k] && on_page > 0);
            const char *next = strstr(body_of(p), "\"next\": \"");
            more = next != NULL;
            if (more) {
                assert_int_equal(on_page, pages[k]);
                (void)snprintf(path, sizeof path, OPTIMIZERS "?limit=%u&after=%.5s", pages[k],
                               next + strlen("\"next\": \""));
            }
        }
        assert_int_equal(n, OPTIMIZERS_COUNT);
    }
    (void)get(p, "/");
    assert_has(p, 200, "\"optimizers\": 1000, ");
}

/* Several clients create one name: one of them does. */
static void create_same(worker *w)
{
    atomic_uint *created = w->context;
    for (int i = 0; i < 100 && !worker_failed(w); i++) {
        char path[64];
        (void)snprintf(path, sizeof path, OPTIMIZERS "/same%d", i);
        const int status = worker_ask_json(w, "PUT", path, "{\"params\": {\"w\": [1]}}");
        if (status == 201) {
            atomic_fetch_add(created, 1);
        } else if (status != 409) {
            worker_fail(w, "status %d", status);
        }
    }
}

/* Of three that create each of 100 names, one succeeds. */
static void test_create_at_once(void **state)
{
    peer *p = *state;
    static atomic_uint created;
    atomic_store(&created, 0);
    worker workers[] = {{.run = create_same, .context = &created},
                        {.run = create_same, .context = &created},
                        {.run = create_same, .context = &created}};
    crowd_run(p->server.url, workers, COUNT(workers));
    assert_int_equal(atomic_load(&created), 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_thousand),
                                       cmocka_unit_test(test_create_at_once)};
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
