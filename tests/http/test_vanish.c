/* test_vanish.c: clients that go away in the middle: nothing is half done, nothing is kept. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "files.h"
#include "raw.h"

enum { N = 1 << 18 }; /* elements of a large optimizer, 1 MiB */

static const char *const options[] = {"--timeout", "1", NULL};

typedef struct fixture {
    peer p;
    int idle;   /* descriptors of the server without connections */
    file grads; /* of the large optimizer */
    char head[256];
} fixture;

static int setup(void **state)
{
    static fixture f;
    server s;
    server_start(&s, options);
    f.idle = server_descriptors(&s);
    peer_open(&f.p, s.url);
    f.p.server = s;
    create(&f.p, "small", "{\"params\": {\"w\": [1]}}");
    float *w = malloc(N * sizeof *w);
    assert_non_null(w);
    for (size_t i = 0; i < N; i++) {
        w[i] = 1;
    }
    const adamd_tensor t = vector32("w", w, N);
    f.grads = file_of(&t, 1, NULL, NULL);
    (void)ask_file(&f.p, "PUT", at("large", ""), NULL, f.grads);
    assert_status(&f.p, 201);
    free(w);
    (void)snprintf(f.head, sizeof f.head,
                   "POST /v1/optimizers/large/step HTTP/1.1\r\nHost: x\r\n"
                   "Content-Type: application/octet-stream\r\nContent-Length: %zu\r\n\r\n",
                   f.grads.length);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    file_free(&f->grads);
    peer_close(&f->p);
    server_stop(&f->p.server);
    return 0;
}

/* Closes, politely or with a reset. */
static void vanish(int socket, bool reset)
{
    if (reset) {
        const struct linger now_and_hard = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(socket, SOL_SOCKET, SO_LINGER, &now_and_hard, sizeof now_and_hard);
    }
    (void)close(socket);
}

static unsigned long used_bytes(peer *p)
{
    (void)get(p, "/");
    assert_status(p, 200);
    const char *found = strstr(body_of(p), "\"used_bytes\": ");
    assert_non_null(found);
    return strtoul(found + strlen("\"used_bytes\": "), NULL, 10);
}

/* Waits until the server has closed every connection but the peer's. */
static void wait_until_alone(fixture *f)
{
    raw_reply r;
    const double until = now() + RAW_SECONDS;
    raw_ask(&f->p.server, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
            &r); /* all before it are accepted */
    assert_int_equal(r.status, 200);
    while (server_descriptors(&f->p.server) > f->idle + 1) {
        assert_true(now() < until);
        sleep_ms(10);
    }
}

/* A request that breaks off anywhere has not happened. */
static void test_in_request(void **state)
{
    static const char request[] =
        "POST /v1/optimizers/small/step HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        "Content-Length: 21\r\n\r\n{\"grads\": {\"w\": [1]}}";
    static const char chunked[] =
        "POST /v1/optimizers/small/step HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n15\r\n{\"grads\": {\"w\": [1]}}\r\n0\r\n";
    fixture *f = *state;
    char *before = state_of(&f->p, "small");
    for (size_t cut = 0; cut + 1 < sizeof request; cut++) {
        const int socket = raw_connect(&f->p.server);
        assert_true(raw_send(socket, request, cut));
        vanish(socket, cut % 2);
    }
    for (size_t cut = sizeof chunked - 60; cut < sizeof chunked; cut++) {
        const int socket = raw_connect(&f->p.server);
        assert_true(raw_send(socket, chunked, cut));
        vanish(socket, cut % 2);
    }
    assert_unchanged(&f->p, "small", before);
}

/* Large bodies that break off are let go, with their memory: it is there for the next ones. */
static void test_in_large_body(void **state)
{
    enum { ROUNDS = 3, BODIES = 10 };
    fixture *f = *state;
    const unsigned long idle = used_bytes(&f->p);
    char *before = state_of(&f->p, "small");
    for (size_t i = 0; i < ROUNDS * BODIES; i++) {
        const int socket = raw_connect(&f->p.server);
        assert_true(raw_send_text(socket, f->head));
        assert_true(raw_send(socket, f->grads.bytes, f->grads.length * (i % BODIES) / BODIES));
        vanish(socket, i % 2);
        if (i % BODIES == BODIES - 1) {
            wait_until_alone(f);
            assert_true(used_bytes(&f->p) <=
                        idle + (BODIES + 1) * (unsigned long)f->grads.length * 9 / 8);
        }
    }
    (void)get(&f->p, at("large", ""));
    assert_has(&f->p, 200, "\"step\": 0, ");
    assert_unchanged(&f->p, "small", before);
}

/* All elements of the large optimizer are equal, as they are after whole steps. Its step. */
static unsigned whole_steps(fixture *f)
{
    unsigned step = 0;
    peer *p = &f->p;
    (void)get_with(p, at("large", "/params"), "Accept: application/octet-stream");
    assert_status(p, 200);
    const float *values = (const void *)(p->reply.body + p->reply.length - N * sizeof(float));
    assert_memory_equal(values, values + 1, (N - 1) * sizeof values[0]);
    const char *etag = adamd_response_header(&p->reply, "ETag", 0);
    assert_true(etag != NULL && sscanf(etag, "\"e%*u-s%u\"", &step) == 1);
    return step;
}

/* A client that has sent its whole step and does not wait for the reply: the step is taken whole or
 * not at all. */
static void test_in_step(void **state)
{
    enum { TRIES = 20 };
    fixture *f = *state;
    const unsigned before = whole_steps(f);
    for (size_t i = 0; i < TRIES; i++) {
        const int socket = raw_connect(&f->p.server);
        assert_true(raw_send_text(socket, f->head));
        assert_true(raw_send(socket, f->grads.bytes, f->grads.length));
        vanish(socket, i % 2);
    }
    (void)ask_file(&f->p, "POST", at("large", "/step"), NULL, f->grads);
    assert_status(&f->p, 200);
    const unsigned after = whole_steps(f);
    assert_true(after >= before + 1 && after <= before + 1 + TRIES);
}

/* A client that goes while its reply is sent takes nothing with it. */
static void test_in_reply(void **state)
{
    static const char *const requests[] = {
        "GET /v1/optimizers/large/params HTTP/1.1\r\nHost: x\r\nAccept: "
        "application/octet-stream\r\n\r\n",
        "GET /v1/optimizers/large/state_dict HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
    };
    fixture *f = *state;
    for (size_t i = 0; i < 20; i++) {
        char begin[100];
        const int socket = raw_connect(&f->p.server);
        struct pollfd wait = {.fd = socket, .events = POLLIN};
        assert_true(raw_send_text(socket, requests[i / 2 % COUNT(requests)]));
        assert_int_equal(poll(&wait, 1, RAW_SECONDS * 1000), 1);
        assert_true(recv(socket, begin, sizeof begin, 0) > 0);
        vanish(socket, i % 2);
    }
    (void)whole_steps(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_request),
        cmocka_unit_test(test_in_large_body),
        cmocka_unit_test(test_in_step),
        cmocka_unit_test(test_in_reply),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
