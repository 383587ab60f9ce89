/* test_listeners.c: many streams of events, slow ones, and ones that go away: steps go on as if
 * they were not there. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crowd.h"
#include "sse.h"

#define CREATION "{\"params\": {\"w\": [1]}, \"lr\": 0}"
#define STEP     "{\"grads\": {\"w\": [1]}}"

static void step(peer *p, const char *name, int times)
{
    for (int i = 0; i < times; i++) {
        (void)ask_json_with(p, "POST", at(name, "/step"), "Prefer: return=minimal", STEP);
        assert_status(p, 204);
    }
}

static void start(peer *p, const char *const *options)
{
    server s;
    server_start(&s, options);
    peer_open(p, s.url);
    p->server = s;
    create(p, "a", CREATION);
}

static void stop(peer *p)
{
    server s = p->server;
    peer_close(p);
    server_stop(&s);
}

static void wait_for_descriptors(const peer *p, int most)
{
    const double until = now() + RAW_SECONDS;
    while (server_descriptors(&p->server) > most) {
        if (now() >= until) {
            fail_msg("the server has %d descriptors, expected at most %d",
                     server_descriptors(&p->server), most);
        }
        sleep_ms(10);
    }
}

/* Each of 200 listeners gets every step. */
static void test_many(void **state)
{
    enum { LISTENERS = 200, STEPS = 50 };
    static sse all[LISTENERS];
    (void)state;
    peer p;
    start(&p, NULL);
    for (int i = 0; i < LISTENERS; i++) {
        sse_open(&all[i], &p.server, "a", "");
        assert_next(&all[i], "retry: ");
    }
    step(&p, "a", STEPS);
    for (int i = 0; i < LISTENERS; i++) {
        for (unsigned long n = 1; n <= STEPS; n++) {
            assert_step(&all[i], n);
        }
    }
    step(&p, "a", 1);
    for (int i = 0; i < LISTENERS; i++) {
        assert_step(&all[i], STEPS + 1);
        sse_close(&all[i]);
    }
    stop(&p);
}

/* A client that does not read is cut off when the history has passed it by; the steps do not wait,
 * nor do other listeners. Many groups make the events large, so that sockets are full soon. */
static void test_slow(void **state)
{
    enum { GROUPS = 500, STEPS = 400 };
    static const char *const options[] = {"--history", "10", NULL};
    static char json[GROUPS * 64];
    (void)state;
    peer p;
    sse slow;
    sse quick;
    start(&p, options);
    size_t n = (size_t)snprintf(json, sizeof json, "{\"param_groups\": [");
    for (int i = 0; i < GROUPS; i++) {
        n += (size_t)snprintf(json + n, sizeof json - n,
                              "%s{\"params\": [{\"name\": \"%s%d\", \"data\": 1}]}",
                              i > 0 ? ", " : "", i > 0 ? "p" : "w", i);
    }
    (void)snprintf(json + n, sizeof json - n, "]}");
    create(&p, "large", json);
    sse_open(&slow, &p.server, "large", "");
    sse_open(&quick, &p.server, "large", "");
    assert_next(&quick, "retry: ");
    const int both = server_descriptors(&p.server);
    for (unsigned long i = 1; i <= STEPS; i++) {
        (void)ask_json_with(&p, "POST", at("large", "/step"), "Prefer: return=minimal",
                            "{\"grads\": {\"w0\": 1}}");
        assert_status(&p, 204);
        assert_step(&quick, i);
    }
    wait_for_descriptors(&p, both - 1);
    (void)ask_json(&p, "POST", at("large", "/step"), "{\"grads\": {\"w0\": 1}}");
    assert_status(&p, 200);
    assert_step(&quick, STEPS + 1);
    sse_close(&slow);
    sse_close(&quick);
    stop(&p);
}

/* And when the server ends, such a client holds it up no more than any other. */
static void test_drain_with_slow(void **state)
{
    enum { STEPS = 30000 };
    static const char *const options[] = {"--history", "100000", NULL};
    (void)state;
    peer p;
    start(&p, options);
    step(&p, "a", STEPS);
    const int small = 4096;
    const int socket = raw_connect(&p.server);
    assert_int_equal(setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
    assert_true(raw_send_text(socket, "GET /v1/optimizers/a/events HTTP/1.1\r\nHost: x\r\n"
                                      "Last-Event-ID: 0\r\n\r\n"));
    char begin[16];
    assert_true(recv(socket, begin, sizeof begin, MSG_WAITALL) > 0);
    stop(&p); /* asserts that it ends, with 0 */
    (void)close(socket);
}

/* Listeners that go, politely or not, are let go of soon, without a step or a heartbeat that would
 * show it; steps while they go are taken. */
static void test_vanish(void **state)
{
    enum { LISTENERS = 60 };
    static const char *const options[] = {"--heartbeat", "3600", NULL};
    static sse all[LISTENERS];
    (void)state;
    peer p;
    start(&p, options);
    const int alone = server_descriptors(&p.server);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < LISTENERS; i++) {
            sse_open(&all[i], &p.server, "a", "");
            if (i % 2 == 0) {
                assert_next(&all[i], "retry: ");
            }
        }
        for (int i = 0; i < LISTENERS; i++) {
            if (i % 3 == 0) {
                const struct linger hard = {.l_onoff = 1, .l_linger = 0};
                (void)setsockopt(all[i].socket, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
            }
            sse_close(&all[i]);
            if (round > 0 && i % 10 == 0) {
                step(&p, "a", 1);
            }
        }
        wait_for_descriptors(&p, alone);
    }
    step(&p, "a", 1);
    stop(&p);
}

/* Streams count as connections: over the limit, who comes waits until one ends. */
static void test_limit(void **state)
{
    static const char *const options[] = {"--threads", "1", "--max-connections", "3", NULL};
    (void)state;
    peer p;
    sse first;
    sse second;
    raw_reply r;
    start(&p, options);
    sse_open(&first, &p.server, "a", "");
    assert_next(&first, "retry: ");
    sse_open(&second, &p.server, "a", "");
    assert_next(&second, "retry: ");
    const int third = raw_connect(&p.server); /* waits: two streams and the peer */
    assert_true(raw_send_text(third, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"));
    step(&p, "a", 1);
    assert_step(&first, 1);
    assert_step(&second, 1);
    sse_close(&first);
    raw_read(third, &r);
    assert_int_equal(r.status, 200);
    (void)close(third);
    sse_close(&second);
    stop(&p);
}

typedef struct crowd {
    peer *p;
    atomic_uint stepping;
} crowd;

/* Takes steps on an optimizer of its own. */
static void take_steps(worker *w)
{
    crowd *c = w->context;
    char path[64];
    (void)snprintf(path, sizeof path, OPTIMIZERS "/%s/step", w->index == 0 ? "a" : "b");
    for (int i = 0; i < 1500 && !worker_failed(w); i++) {
        if (worker_ask_json(w, "POST", path, STEP) != 200) {
            worker_fail(w, "step %d: status %ld", i, w->reply.status);
        }
    }
    atomic_fetch_sub(&c->stepping, 1);
}

/* Opens streams and reads a few events from each, until the steps are over. */
static void listen_and_go(worker *w)
{
    crowd *c = w->context;
    for (unsigned i = 0; atomic_load(&c->stepping) > 0 && !worker_failed(w); i++) {
        char request[256];
        char text[4096];
        (void)snprintf(request, sizeof request,
                       "GET /v1/optimizers/%s/events HTTP/1.1\r\nHost: x\r\n%s\r\n",
                       i % 2 == 0 ? "a" : "b", i % 3 == 0 ? "Last-Event-ID: 0\r\n" : "");
        const int socket = raw_connect(&c->p->server);
        if (!raw_send_text(socket, request)) {
            worker_fail(w, "the server closed");
        }
        for (unsigned k = 0; k < i % 7; k++) {
            if (recv(socket, text, sizeof text, 0) <= 0) {
                break;
            }
        }
        (void)close(socket);
    }
}

/* Listeners come and go in the midst of steps: every step is answered, nothing is left behind. */
static void test_soak(void **state)
{
    static const char *const options[] = {"--heartbeat", "1", NULL}; /* when the steps are over */
    (void)state;
    peer p;
    start(&p, options);
    create(&p, "b", CREATION);
    crowd c = {.p = &p};
    atomic_store(&c.stepping, 2);
    worker workers[] = {{.run = take_steps, .context = &c},
                        {.run = take_steps, .context = &c},
                        {.run = listen_and_go, .context = &c},
                        {.run = listen_and_go, .context = &c},
                        {.run = listen_and_go, .context = &c}};
    crowd_run(p.server.url, workers, COUNT(workers));
    (void)get(&p, at("a", ""));
    assert_has(&p, 200, "\"step\": 1500, ");
    stop(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_slow),
        cmocka_unit_test(test_drain_with_slow),
        cmocka_unit_test(test_vanish),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_soak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
