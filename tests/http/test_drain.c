/* test_drain.c: SIGTERM and SIGINT: what is under way is finished, nothing new is begun. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "raw.h"

#define STEP                                             \
    "POST /v1/optimizers/a/step HTTP/1.1\r\nHost: x\r\n" \
    "Adam-Worker: slow\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n{\"grads\":"
#define STEP_REST " {\"w\": [1]}}"

static const char *const verbose[] = {"--log-level", "debug", NULL};

/* Waits until the server has begun the request of worker "slow", as its log says. */
static void wait_until_begun(const server *s)
{
    const double until = now() + RAW_SECONDS;
    for (bool begun = false; !begun;) {
        char *log = server_log(s);
        begun = strstr(log, "worker slow: ") != NULL;
        free(log);
        assert_true(now() < until);
        sleep_ms(5);
    }
}

/* Asks until the server says that it drains. */
static void wait_until_draining(peer *p)
{
    const double until = now() + RAW_SECONDS;
    while (get(p, "/readyz") == 200 && now() < until) {
        sleep_ms(5);
    }
    assert_problem(p, 503, "draining", NULL);
    assert_header(p, "Retry-After", "1");
    assert_header(p, "Connection", "close");
}

/* While a slow request is in flight, the server says on other connections that it is not ready, and
 * refuses what is new; the request is answered as if nothing were, and then the server ends. */
static void drain_with(int signal)
{
    server s;
    peer p;
    raw_reply r;
    server_start(&s, verbose);
    peer_open(&p, s.url);
    create(&p, "a", "{\"params\": {\"w\": [1]}, \"lr\": 0}");
    const int slow = raw_connect(&s);
    const int idle = raw_connect(&s);
    assert_true(raw_send_text(idle, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"));
    raw_read(idle, &r);
    assert_int_equal(r.status, 200);
    assert_true(raw_send_text(slow, STEP));
    wait_until_begun(&s);
    assert_int_equal(kill(s.pid, signal), 0);
    wait_until_draining(&p);
    assert_true(raw_send_text(idle, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"));
    raw_read(idle, &r);
    assert_raw_problem(&r, 503, "draining", NULL);
    (void)get(&p, "/livez"); /* alive it is */
    assert_json(&p, 200, "{\"status\": \"ok\"}");
    assert_header(&p, "Connection", "close");
    (void)get(&p, at("a", ""));
    assert_problem(&p, 503, "draining", NULL);
    (void)ask_json(&p, "POST", at("a", "/step"), "{\"grads\": {\"w\": [1]}}");
    assert_problem(&p, 503, "draining", NULL);
    assert_true(raw_send_text(slow, STEP_REST));
    raw_read(slow, &r);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body, "{\"step\": 1, \"params\": {\"w\": [1]}"));
    assert_true(raw_closed_within(slow, RAW_SECONDS));
    (void)close(slow);
    (void)close(idle);
    peer_close(&p);
    server_join(&s);
}

/* What an orchestrator sends. */
static void test_sigterm(void **state)
{
    (void)state;
    drain_with(SIGTERM);
}

/* What a terminal sends. */
static void test_sigint(void **state)
{
    (void)state;
    drain_with(SIGINT);
}

/* A large step that is being worked on, its connection suspended, is answered too. */
static void test_large_step(void **state)
{
    enum { N = 2000000 };
    (void)state;
    server s;
    peer p;
    raw_reply r;
    server_start(&s, verbose);
    peer_open(&p, s.url);
    create(&p, "a", "{\"params\": {\"w\": {\"shape\": [2000000]}}}");
    float *w = calloc(N, sizeof *w);
    assert_non_null(w);
    const adamd_tensor t = vector32("w", w, N);
    file f = file_of(&t, 1, NULL, NULL);
    char head[256];
    (void)snprintf(head, sizeof head,
                   "POST /v1/optimizers/a/step HTTP/1.1\r\nHost: x\r\nPrefer: return=minimal\r\n"
                   "Adam-Worker: slow\r\n"
                   "Content-Type: application/octet-stream\r\nContent-Length: %zu\r\n\r\n",
                   f.length);
    const int socket = raw_connect(&s);
    assert_true(raw_send_text(socket, head));
    assert_true(raw_send(socket, f.bytes, f.length - 1));
    wait_until_begun(&s);
    assert_true(raw_send(socket, f.bytes + f.length - 1, 1));
    assert_int_equal(kill(s.pid, SIGTERM), 0);
    raw_read(socket, &r);
    assert_int_equal(r.status, 204);
    assert_non_null(strstr(r.text, "-s1\"\r\n"));
    (void)close(socket);
    free(w);
    file_free(&f);
    peer_close(&p);
    server_join(&s);
}

/* The signal comes when a reply is there that was made on another thread, which still has to leave
 * libmicrohttpd: nothing that it needs there may be taken down before. */
static void test_end_behind_reply(void **state)
{
    static const char *const options[] = {"--threads", "1", NULL};
    static const char *const late[] = {"LD_PRELOAD=" LATE_WAKE, NULL};
    (void)state;
    if (strlen(LATE_WAKE) == 0) {
        skip(); /* under a sanitizer, whose own library has to be the first */
    }
    server s;
    peer p;
    raw_reply r;
    server_start_in(&s, options, late);
    peer_open(&p, s.url);
    create(&p, "a", "{\"params\": {\"w\": {\"shape\": [400000]}}}");
    const int socket = raw_connect(&s);
    assert_true(raw_send_text(socket, "GET /v1/optimizers/a/digest HTTP/1.1\r\nHost: x\r\n\r\n"));
    sleep_ms(200);
    (void)get(&p, "/livez"); /* libmicrohttpd looks, and finds the reply too */
    raw_read(socket, &r);
    assert_int_equal(r.status, 200);
    (void)close(socket);
    peer_close(&p);
    server_stop(&s);
}

/* A second signal does not wait for those who never finish. */
static void test_second_signal(void **state)
{
    (void)state;
    server s;
    peer p;
    server_start(&s, verbose);
    peer_open(&p, s.url);
    create(&p, "a", "{\"params\": {\"w\": [1]}, \"lr\": 0}");
    const int slow = raw_connect(&s);
    assert_true(raw_send_text(slow, STEP));
    wait_until_begun(&s);
    assert_int_equal(kill(s.pid, SIGTERM), 0);
    wait_until_draining(&p);
    assert_int_equal(kill(s.pid, SIGINT), 0);
    assert_int_equal(server_wait(&s), 1);
    (void)close(slow);
    peer_close(&p);
}

/* Nor does the server wait for longer than a request may take. */
static void test_drain_has_an_end(void **state)
{
    static const char *const options[] = {"--timeout", "2", "--log-level", "debug", NULL};
    (void)state;
    server s;
    server_start(&s, options);
    const int slow = raw_connect(&s);
    assert_true(raw_send_text(slow, "PUT /v1/optimizers/a HTTP/1.1\r\nHost: x\r\n"
                                    "Adam-Worker: slow\r\n"
                                    "Content-Type: application/json\r\n"
                                    "Content-Length: 16000000\r\n\r\n"));
    wait_until_begun(&s);
    assert_int_equal(kill(s.pid, SIGTERM), 0);
    static char much[64 << 10]; /* for which a request gets a second more */
    memset(much, ' ', sizeof much);
    for (int i = 0; i < 40; i++) {
        (void)raw_send(slow, much, sizeof much);
        sleep_ms(100);
    }
    assert_int_equal(server_wait(&s), 1);
    (void)close(slow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sigterm),       cmocka_unit_test(test_sigint),
        cmocka_unit_test(test_large_step),    cmocka_unit_test(test_end_behind_reply),
        cmocka_unit_test(test_second_signal), cmocka_unit_test(test_drain_has_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
