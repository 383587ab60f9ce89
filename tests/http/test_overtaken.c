/* test_overtaken.c: requests that others overtake between their header and the end of their body:
 * what was true of the optimizer then is looked at again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "peer.h"
#include "raw.h"

static int clear(void **state)
{
    remove_all(*state);
    create(*state, "a", "{\"params\": {\"w\": [1]}, \"lr\": 0}");
    return 0;
}

/* A step whose header the server has taken: it has asked for the body. */
static int begin_step(peer *p, const char *header)
{
    char text[512];
    char got[26] = "";
    const int socket = raw_connect(&p->server);
    (void)snprintf(text, sizeof text,
                   "POST /v1/optimizers/a/step HTTP/1.1\r\nHost: x\r\n%s"
                   "Content-Type: application/json\r\nExpect: 100-continue\r\n"
                   "Content-Length: 21\r\n\r\n",
                   header);
    assert_true(raw_send_text(socket, text));
    for (size_t n = 0; n + 1 < sizeof got; n++) {
        assert_int_equal(read(socket, got + n, 1), 1);
    }
    assert_string_equal(got, "HTTP/1.1 100 Continue\r\n\r\n");
    return socket;
}

static void end_step(int socket, raw_reply *r)
{
    assert_true(raw_send_text(socket, "{\"grads\": {\"w\": [1]}}"));
    raw_read(socket, r);
    (void)close(socket);
}

/* Undisturbed, such a step is a step. */
static void test_undisturbed(void **state)
{
    raw_reply r;
    end_step(begin_step(*state, ""), &r);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body, "{\"step\": 1, "));
}

/* A step on an optimizer that is removed meanwhile finds none, also where another has its name by
 * then, which it leaves alone. */
static void test_removed(void **state)
{
    peer *p = *state;
    raw_reply r;
    for (int again = 0; again < 2; again++) {
        const int socket = begin_step(p, "");
        (void)ask(p, "DELETE", at("a", ""), NULL, NULL, 0);
        assert_empty(p, 204);
        if (again) {
            create(p, "a", "{\"params\": {\"w\": [1]}, \"lr\": 0}");
        }
        end_step(socket, &r);
        assert_raw_problem(&r, 404, "no-such-optimizer", NULL);
        assert_null(strstr(r.text, "\r\nETag: "));
        if (again) {
            (void)get(p, at("a", ""));
            assert_has(p, 200, "\"step\": 0, ");
        } else {
            create(p, "a", "{\"params\": {\"w\": [1]}, \"lr\": 0}");
        }
    }
}

/* Of two steps on the same tag, the second finds that it does not hold any more. */
static void test_if_match(void **state)
{
    peer *p = *state;
    raw_reply r;
    char line[96];
    char expected[96];
    (void)get(p, at("a", ""));
    (void)snprintf(line, sizeof line, "If-Match: %s\r\n",
                   adamd_response_header(&p->reply, "ETag", 0));
    const int socket = begin_step(p, line);
    (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": {\"w\": [1]}}");
    assert_status(p, 200);
    (void)snprintf(expected, sizeof expected, "\r\nETag: %s\r\n",
                   adamd_response_header(&p->reply, "ETag", 0));
    end_step(socket, &r);
    assert_raw_problem(&r, 412, "precondition-failed", "\"header\": \"If-Match\"");
    assert_non_null(strstr(r.text, expected));
    (void)get(p, at("a", ""));
    assert_has(p, 200, "\"step\": 1, ");
}

/* A name that is free when a creation begins may be taken when it is whole. */
static void test_name_taken(void **state)
{
    peer *p = *state;
    raw_reply r;
    const int socket = raw_connect(&p->server);
    char got[26] = "";
    assert_true(raw_send_text(socket, "PUT /v1/optimizers/new HTTP/1.1\r\nHost: x\r\n"
                                      "Content-Type: application/json\r\n"
                                      "Expect: 100-continue\r\nContent-Length: 22\r\n\r\n"));
    for (size_t n = 0; n + 1 < sizeof got; n++) {
        assert_int_equal(read(socket, got + n, 1), 1);
    }
    create(p, "new", "{\"params\": {\"v\": [2]}}");
    char *before = state_of(p, "new");
    assert_true(raw_send_text(socket, "{\"params\": {\"w\": [1]}}"));
    raw_read(socket, &r);
    assert_raw_problem(&r, 409, "name-taken", NULL);
    assert_null(strstr(r.text, "\r\nLocation: "));
    (void)close(socket);
    assert_unchanged(p, "new", before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_undisturbed, clear),
        cmocka_unit_test_setup(test_removed, clear),
        cmocka_unit_test_setup(test_if_match, clear),
        cmocka_unit_test_setup(test_name_taken, clear),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
