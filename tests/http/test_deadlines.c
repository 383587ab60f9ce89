/* test_deadlines.c: clients that take their time. Each is cut off, however it goes about it, and
 * holds up nobody else. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.h"
#include "raw.h"

#define SECONDS 10 /* within which a connection must be closed "at all"; the timeout is 1 */

#define STEP "POST /v1/optimizers/a/step HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

/* A client that sends its text, then one byte again and again, or nothing more where it is 0. */
typedef struct sloth {
    const char *what, *text;
    char again;
    int socket;
    bool closed;
} sloth;

/* Whether the server has closed; takes what it sends. */
static bool is_closed(int socket)
{
    char bytes[4096];
    struct pollfd wait = {.fd = socket, .events = POLLIN};
    while (poll(&wait, 1, 0) > 0) {
        if (recv(socket, bytes, sizeof bytes, 0) <= 0) {
            return true;
        }
    }
    return false;
}

/* Slow senders of a line, a header, bodies with and without a length, and those that fall silent,
 * are all closed, while others are served. */
static void test_slow(void **state)
{
    static const char *const options[] = {"--timeout", "1", "--max-json-body", "1000", NULL};
    sloth all[] = {
        {"says nothing", "", 0, 0, false},
        {"sends its target slowly", "GET /", 'a', 0, false},
        {"sends its header slowly", "GET /livez HTTP/1.1\r\nHost: x\r\nX: ", 'a', 0, false},
        {"stops in its header", "GET /livez HTTP/1.1\r\nHost:", 0, 0, false},
        {"sends its body slowly", STEP "Content-Length: 900\r\n\r\n{", ' ', 0, false},
        {"stops in its body", STEP "Content-Length: 900\r\n\r\n{", 0, 0, false},
        {"sends a chunk slowly", STEP "Transfer-Encoding: chunked\r\n\r\n300\r\n{", ' ', 0, false},
        {"stops before a chunk", STEP "Transfer-Encoding: chunked\r\n\r\n", 0, 0, false},
        {"sends slowly what is refused", STEP "Content-Length: 5000\r\n\r\n", ' ', 0, false},
        {"does not send what was asked for",
         STEP "Expect: 100-continue\r\nContent-Length: 9\r\n\r\n", 0, 0, false},
        {"stays after its reply", "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 0, 0, false},
    };
    (void)state;
    server s;
    peer p;
    server_start(&s, options);
    peer_open(&p, s.url);
    create(&p, "a", "{\"params\": {\"w\": [1]}}");
    char *before = state_of(&p, "a");
    for (size_t i = 0; i < COUNT(all); i++) {
        all[i].socket = raw_connect(&s);
        assert_true(raw_send_text(all[i].socket, all[i].text));
    }
    size_t open = COUNT(all);
    const double until = now() + SECONDS;
    while (open > 0 && now() < until) {
        (void)get(&p, "/livez");
        assert_status(&p, 200);
        for (size_t i = 0; i < COUNT(all); i++) {
            if (!all[i].closed && all[i].again != 0) {
                (void)raw_send(all[i].socket, &all[i].again, 1);
            }
            if (!all[i].closed && is_closed(all[i].socket)) {
                all[i].closed = true;
                open--;
            }
        }
        sleep_ms(100);
    }
    for (size_t i = 0; i < COUNT(all); i++) {
        if (!all[i].closed) {
            fail_msg("a client that %s is still connected", all[i].what);
        }
        (void)close(all[i].socket);
    }
    assert_unchanged(&p, "a", before);
    peer_close(&p);
    server_stop(&s);
}

/* More of them than are looked at in one go, each with a byte for libmicrohttpd's own clock: all
 * are closed. */
static void test_many_slow(void **state)
{
    enum { MANY = 600 };
    static const char *const options[] = {"--timeout", "1", NULL};
    static int sockets[MANY];
    (void)state;
    server s;
    server_start(&s, options);
    for (int i = 0; i < MANY; i++) {
        sockets[i] = raw_connect(&s);
        assert_true(raw_send_text(sockets[i], "GET /livez HTTP/1.1\r\nHost: x\r\nX: "));
    }
    int open = MANY;
    const double until = now() + SECONDS;
    while (open > 0 && now() < until) {
        for (int i = 0; i < MANY; i++) {
            if (sockets[i] >= 0 && (!raw_send(sockets[i], "a", 1) || is_closed(sockets[i]))) {
                (void)close(sockets[i]);
                sockets[i] = -1;
                open--;
            }
        }
        sleep_ms(50);
    }
    assert_int_equal(open, 0);
    server_stop(&s);
}

/* A client that does not take its reply is left. */
static void test_reader_that_stops(void **state)
{
    static const char *const options[] = {"--timeout", "1", NULL};
    (void)state;
    server s;
    peer p;
    server_start(&s, options);
    const int idle = server_descriptors(&s);
    peer_open(&p, s.url);
    create(&p, "large", "{\"params\": {\"w\": {\"shape\": [16777216]}}}");
    peer_close(&p);
    const int socket = raw_connect(&s);
    assert_true(raw_send_text(socket, "GET /v1/optimizers/large/params HTTP/1.1\r\nHost: x\r\n"
                                      "Accept: application/octet-stream\r\n\r\n"));
    struct pollfd first = {.fd = socket, .events = POLLIN};
    assert_int_equal(poll(&first, 1, SECONDS * 1000), 1);
    const double until = now() + SECONDS;
    while (server_descriptors(&s) > idle && now() < until) {
        sleep_ms(50);
    }
    assert_int_equal(server_descriptors(&s), idle);
    (void)close(socket);
    server_stop(&s);
}

/* The time is a request's, not a connection's. */
static void test_long_connection(void **state)
{
    static const char *const options[] = {"--timeout", "4", NULL};
    (void)state;
    server s;
    peer p;
    raw_reply r;
    server_start(&s, options);
    peer_open(&p, s.url);
    create(&p, "a", "{\"params\": {\"w\": [1]}, \"lr\": 0}");
    const int socket = raw_connect(&s);
    for (int i = 0; i < 3; i++) { /* each well within the timeout, together beyond it */
        assert_true(
            raw_send_text(socket, STEP "Content-Length: 21\r\n\r\n{\"grads\": {\"w\": [1]"));
        sleep_ms(1500);
        assert_true(raw_send_text(socket, "}}"));
        raw_read(socket, &r);
        assert_int_equal(r.status, 200);
    }
    (void)close(socket);
    peer_close(&p);
    server_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slow),
        cmocka_unit_test(test_many_slow),
        cmocka_unit_test(test_reader_that_stops),
        cmocka_unit_test(test_long_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
