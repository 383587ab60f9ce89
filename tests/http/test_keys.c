/* test_keys.c: Idempotency-Key: a step that is sent again is taken once, and answered as the first
 * time; what is no repeat is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rounds.h"

static const char *const one = "{\"grads\": {\"w\": [1]}}";
static const char *const two = "{\"grads\": {\"w\": [2]}}";

static int clear(void **state)
{
    remove_all(*state);
    create(*state, "a", "{\"params\": {\"v\": [7], \"w\": [1]}, \"lr\": 0.5}");
    return 0;
}

static void step_key(peer *p, const char *name, const char *key, const char *json)
{
    char line[256];
    (void)snprintf(line, sizeof line, "Idempotency-Key: %s", key);
    (void)ask_json_with(p, "POST", at(name, "/step"), line, json);
}

/* The same status, step and statistics; the parameters as they are now. */
static void test_repeat(void **state)
{
    peer *p = *state;
    step_key(p, "a", "k1", one);
    assert_status(p, 200);
    assert_header(p, "Idempotent-Replayed", NULL);
    char *first = strdup(body_of(p));
    assert_non_null(first);
    step_key(p, "a", "k1", one);
    assert_status(p, 200);
    assert_string_equal(body_of(p), first);
    assert_header(p, "Idempotent-Replayed", "true");
    step_key(p, "a", "k2", one);
    assert_has(p, 200, "{\"step\": 2, \"params\": {\"w\": [5.9604645e-08]}");
    step_key(p, "a", "k1", one);
    assert_has(p, 200, "{\"step\": 1, \"params\": {\"w\": [5.9604645e-08]}");
    assert_has(p, 200, strstr(first, "\"stats\""));
    assert_header(p, "Idempotent-Replayed", "true");
    const char *etag = adamd_response_header(&p->reply, "ETag", 0);
    assert_non_null(etag);
    assert_non_null(strstr(etag, "-s2\"")); /* the parameters are of */
    assert_step_of(p, "a", 2);
    free(first);
}

/* A repeat may want another form than the first request. */
static void test_forms(void **state)
{
    static const char *const minimal[] = {"Content-Type: application/json", "Idempotency-Key: k",
                                          "Prefer: return=minimal", NULL};
    static const char *const tensors[] = {"Content-Type: application/json", "Idempotency-Key: k",
                                          "Accept: application/vnd.safetensors", NULL};
    peer *p = *state;
    (void)ask(p, "POST", at("a", "/step"), minimal, one, strlen(one));
    assert_empty(p, 204);
    step_key(p, "a", "k", one);
    assert_has(p, 200,
               "{\"step\": 1, \"params\": {\"w\": [0.50000006]}, \"stats\": {\"grad_norm\": 1, ");
    (void)ask(p, "POST", at("a", "/step"), tensors, one, strlen(one));
    assert_status(p, 200);
    assert_metadata(p, "step", "1");
    assert_metadata(p, "grad_norm", "1");
    (void)ask(p, "POST", at("a", "/step?dtype=f64"), tensors, one, strlen(one));
    assert_status(p, 200);
    char *header = header_text(p);
    assert_non_null(strstr(header, "\"F64\""));
    free(header);
    (void)ask(p, "POST", at("a", "/step"), minimal, one, strlen(one));
    assert_empty(p, 204);
    assert_header(p, "Idempotent-Replayed", "true");
    assert_step_of(p, "a", 1);
}

/* A key belongs to one body, and to one optimizer. */
static void test_other_body(void **state)
{
    peer *p = *state;
    create(p, "b", "{\"params\": {\"w\": [1]}}");
    step_key(p, "a", "k", one);
    assert_status(p, 200);
    char *before = state_of(p, "a");
    step_key(p, "a", "k", two);
    assert_problem(p, 422, "key-reused", "\"header\": \"Idempotency-Key\"");
    step_key(p, "a", "k", "{\"grads\": {\"w\": [1]}} ");
    assert_problem(p, 422, "key-reused", NULL);
    assert_unchanged(p, "a", before);
    step_key(p, "b", "k", two);
    assert_has(p, 200, "{\"step\": 1, ");
    assert_header(p, "Idempotent-Replayed", NULL);
}

/* A refused request has changed nothing, so its repeat is tried anew, also with another body. */
static void test_refused(void **state)
{
    peer *p = *state;
    step_key(p, "a", "k", "{\"grads\": {\"x\": [1]}}");
    assert_problem(p, 422, "unknown-param", NULL);
    step_key(p, "a", "k", "{\"grads\": {\"w\": [\"NaN\"]}}");
    assert_problem(p, 422, "non-finite", NULL);
    step_key(p, "a", "k", one);
    assert_status(p, 200);
    assert_header(p, "Idempotent-Replayed", NULL);
    assert_step_of(p, "a", 1);
}

static void test_bad_keys(void **state)
{
    static const char *const grads[] = {"Content-Type: application/json", "Idempotency-Key: k",
                                        NULL};
    peer *p = *state;
    raw_reply r;
    char line[256];
    char key[130];
    memset(key, 'k', sizeof key);
    key[128] = '\0';
    step_key(p, "a", key, one);
    assert_status(p, 200);
    memset(key, 'k', sizeof key - 1);
    key[129] = '\0';
    step_key(p, "a", key, one);
    assert_problem(p, 400, "malformed-request", "\"header\": \"Idempotency-Key\"");
    static const char *const bad[] = {"", "a b", "\xc3\xa9", "\x7f", "a\tb"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        (void)snprintf(line, sizeof line, "Idempotency-Key: %s\r\n", bad[i]);
        end_request(begin_step(&p->server, "a", line, one), &r);
        assert_raw_problem(&r, 400, "malformed-request", NULL);
    }
    end_request(begin_step(&p->server, "a", "Idempotency-Key: 1\r\nIdempotency-Key: 2\r\n", one),
                &r);
    assert_int_equal(r.status, 400);
    assert_step_of(p, "a", 1);
    (void)ask(p, "PUT", at("a", "/params"), grads, "{\"params\": {\"w\": [1]}}", 22);
    assert_problem(p, 400, "malformed-request", "\"header\": \"Idempotency-Key\"");
    (void)get_with(p, at("a", ""), "Idempotency-Key: k");
    assert_problem(p, 400, "malformed-request", "\"header\": \"Idempotency-Key\"");
}

/* The tag held for the first request; its step is why it does not for the repeat. */
static void test_if_match(void **state)
{
    peer *p = *state;
    char tag[128];
    (void)get(p, at("a", ""));
    (void)snprintf(tag, sizeof tag, "If-Match: %s", adamd_response_header(&p->reply, "ETag", 0));
    for (int again = 0; again < 2; again++) {
        const char *const headers[] = {"Content-Type: application/json", "Idempotency-Key: k", tag,
                                       NULL};
        (void)ask(p, "POST", at("a", "/step"), headers, one, strlen(one));
        assert_has(p, 200, "{\"step\": 1, \"params\": {\"w\": [0.50000006]}");
        assert_header(p, "Idempotent-Replayed", again ? "true" : NULL);
    }
    const char *const other[] = {"Content-Type: application/json", "Idempotency-Key: l", tag, NULL};
    (void)ask(p, "POST", at("a", "/step"), other, one, strlen(one));
    assert_problem(p, 412, "precondition-failed", "\"header\": \"If-Match\"");
    assert_step_of(p, "a", 1);
}

/* The client is gone before the answer: the step is taken, and its repeat is none. */
static void test_lost_reply(void **state)
{
    peer *p = *state;
    for (unsigned i = 1; i <= 20; i++) {
        char line[64];
        raw_reply r;
        char text[32];
        (void)snprintf(line, sizeof line, "Idempotency-Key: lost%u\r\n", i);
        (void)close(begin_step(&p->server, "a", line, one));
        end_with(begin_step(&p->server, "a", line, one), &r, 200);
        (void)snprintf(text, sizeof text, "{\"step\": %u,", i);
        assert_text(r.body, text);
        sleep_ms(5); /* where the first was the later */
        assert_step_of(p, "a", i);
    }
}

/* ---- in rounds ---- */

/* A repeat that comes while the first waits gets the same answer, when there is one. */
static void test_wait_along(void **state)
{
    peer *p = *state;
    raw_reply r;
    int sockets[4];
    static const char *const line = "Adam-Worker: x\r\nIdempotency-Key: k\r\n";
    (void)ask_json(p, "PATCH", at("a", ""),
                   "{\"aggregation\": {\"mode\": \"sync\", \"workers\": 2}}");
    assert_status(p, 200);
    for (size_t i = 0; i < 4; i++) {
        sockets[i] = begin_step(&p->server, "a", line, one);
        char text[32];
        (void)snprintf(text, sizeof text, "\"waiting\": %zu", i + 1);
        wait_for_round(p, "a", text);
    }
    wait_for_held(p, "a", 1);
    end_refused(begin_step(&p->server, "a", line, two), 422, "key-reused", NULL);
    (void)close(sockets[0]); /* whoever is gone */
    end_with(begin_worker(&p->server, "a", "y", one), &r, 200);
    for (size_t i = 1; i < 4; i++) {
        end_with(sockets[i], &r, 200);
        assert_text(r.body, "{\"step\": 1, \"params\": {\"w\": [0.50000006]}");
        assert_non_null(strstr(r.text, "\r\nIdempotent-Replayed: true\r\n"));
    }
    end_with(begin_step(&p->server, "a", line, one), &r, 200); /* and later */
    assert_text(r.body, "{\"step\": 1, \"params\": {\"w\": [0.50000006]}");
    assert_non_null(strstr(r.text, "\r\nIdempotent-Replayed: true\r\n"));
    wait_for_round(p, "a", "\"open\": false");
    assert_step_of(p, "a", 1);
}

/* A key can be used again where nothing came of its round. */
static void test_dropped_round(void **state)
{
    peer *p = *state;
    raw_reply r;
    static const char *const line = "Adam-Worker: x\r\nIdempotency-Key: k\r\n";
    (void)ask_json(p, "PATCH", at("a", ""),
                   "{\"aggregation\": {\"mode\": \"sync\", \"workers\": 2}}");
    const int first = begin_step(&p->server, "a", line, one);
    wait_for_held(p, "a", 1);
    const int along = begin_step(&p->server, "a", line, one);
    wait_for_round(p, "a", "\"waiting\": 2");
    (void)ask(p, "DELETE", at("a", "/round"), NULL, NULL, 0);
    assert_empty(p, 204);
    end_refused(first, 409, "round-ended", "\"step\": 0");
    end_refused(along, 409, "round-ended", "\"step\": 0");
    const int again = begin_step(&p->server, "a", line, two);
    wait_for_held(p, "a", 1);
    end_with(begin_worker(&p->server, "a", "y", one), &r, 200);
    end_with(again, &r, 200);
    assert_null(strstr(r.text, "Idempotent-Replayed"));
}

/* A gradient that is held in a buffer is held once. */
static void test_buffered(void **state)
{
    peer *p = *state;
    (void)ask_json(p, "PATCH", at("a", ""),
                   "{\"aggregation\": {\"mode\": \"buffered\", \"size\": 2}}");
    assert_status(p, 200);
    for (int again = 0; again < 3; again++) {
        step_key(p, "a", "k", one);
        assert_has(p, 202, "{\"step\": 0, \"params\": {\"w\": [1]}, ");
        assert_has(p, 202, "\"pending\": 1}");
        assert_header(p, "Idempotent-Replayed", again > 0 ? "true" : NULL);
    }
    for (int again = 0; again < 2; again++) {
        step_key(p, "a", "l", one);
        assert_has(p, 200, "{\"step\": 1, \"params\": {\"w\": [0.50000006]}, ");
        assert_header(p, "Idempotent-Replayed", again > 0 ? "true" : NULL);
    }
    step_key(p, "a", "k", one); /* as it was answered; the parameters as they are */
    assert_has(p, 202, "{\"step\": 0, \"params\": {\"w\": [0.50000006]}, ");
    assert_has(p, 202, "\"pending\": 1}");
    assert_step_of(p, "a", 1);
}

/* ---- how long they are kept ---- */

/* Beyond the limit the oldest goes: then a repeat is a step of its own. */
static void test_limit(void **state)
{
    static const char *const options[] = {"--idempotency-keys", "2", NULL};
    static const char *const none[] = {"--idempotency-keys", "0", NULL};
    (void)state;
    peer p;
    serve(&p, options);
    create(&p, "a", "{\"params\": {\"w\": [1]}}");
    static const char *const keys[] = {"1", "2", "1", "2", "3", "2", "1"};
    static const char *const replayed[] = {NULL, NULL, "true", "true", NULL, "true", NULL};
    for (size_t i = 0; i < COUNT(keys); i++) {
        step_key(&p, "a", keys[i], one);
        assert_status(&p, 200);
        assert_header(&p, "Idempotent-Replayed", replayed[i]);
    }
    assert_step_of(&p, "a", 4);
    serve_end(&p);
    serve(&p, none);
    create(&p, "a", "{\"params\": {\"w\": [1]}}");
    for (unsigned i = 1; i < 4; i++) {
        step_key(&p, "a", "k", one);
        assert_header(&p, "Idempotent-Replayed", NULL);
        assert_step_of(&p, "a", i);
    }
    serve_end(&p);
}

static void test_ttl(void **state)
{
    static const char *const options[] = {"--idempotency-ttl", "1", NULL};
    (void)state;
    peer p;
    serve(&p, options);
    create(&p, "a", "{\"params\": {\"w\": [1]}}");
    step_key(&p, "a", "k", one);
    step_key(&p, "a", "k", one);
    assert_header(&p, "Idempotent-Replayed", "true");
    sleep_ms(1100);
    step_key(&p, "a", "k", two);
    assert_has(&p, 200, "{\"step\": 2, ");
    assert_header(&p, "Idempotent-Replayed", NULL);
    serve_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_repeat, clear),
        cmocka_unit_test_setup(test_forms, clear),
        cmocka_unit_test_setup(test_other_body, clear),
        cmocka_unit_test_setup(test_refused, clear),
        cmocka_unit_test_setup(test_bad_keys, clear),
        cmocka_unit_test_setup(test_if_match, clear),
        cmocka_unit_test_setup(test_lost_reply, clear),
        cmocka_unit_test_setup(test_wait_along, clear),
        cmocka_unit_test_setup(test_dropped_round, clear),
        cmocka_unit_test_setup(test_buffered, clear),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_ttl),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
