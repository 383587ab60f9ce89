/* test_events.c: GET events: steps as they come, and what is said to those who come back. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "peer.h"
#include "sse.h"

#define CREATION "{\"params\": {\"w\": [1]}, \"lr\": 0}"
#define STEP     "{\"grads\": {\"w\": [1]}}"

static const char *const options[] = {"--history", "5", NULL};

static int setup(void **state)
{
    server s;
    peer *p = malloc(sizeof *p);
    assert_non_null(p);
    server_start(&s, options);
    peer_open(p, s.url);
    p->server = s;
    *state = p;
    return 0;
}

static void step(peer *p, const char *name, int times)
{
    for (int i = 0; i < times; i++) {
        (void)ask_json(p, "POST", at(name, "/step"), STEP);
        assert_status(p, 200);
    }
}

static void open_stream(sse *e, peer *p, const char *name, const char *lines)
{
    sse_open(e, &p->server, name, lines);
    assert_int_equal(e->status, 200);
    assert_non_null(strstr(e->head, "\r\nContent-Type: text/event-stream\r\n"));
    assert_next(e, "retry: 3000");
}

/* Each step is an event: its id is the step, its data what the history says of it. */
static void test_steps(void **state)
{
    peer *p = *state;
    sse e;
    create(p, "steps", CREATION);
    step(p, "steps", 1); /* before the stream: not in it */
    open_stream(&e, p, "steps", "");
    assert_non_null(strstr(e.head, "\r\nCache-Control: no-store\r\n"));
    assert_non_null(strstr(e.head, "\r\nConnection: close\r\n"));
    for (unsigned long i = 2; i < 12; i++) {
        char expected[2048];
        (void)ask_json_with(p, "POST", at("steps", "/step"), "Adam-Worker: me", STEP);
        assert_status(p, 200);
        (void)get(p, at("steps", "/history?last=1"));
        assert_status(p, 200);
        const char *record = strchr(body_of(p), '\n') + 2;
        (void)snprintf(expected, sizeof expected, "id: %lu\nevent: step\ndata: %.*s", i,
                       (int)(strlen(record) - strlen("]}\n")), record);
        const char *event = sse_next(&e);
        assert_non_null(event);
        assert_string_equal(event, expected);
    }
    sse_close(&e);
}

/* A client that names the last event that it had gets what came after it. */
static void test_resume(void **state)
{
    static const struct {
        const char *line;
        unsigned long first; /* 0: nothing yet */
    } cases[] = {{"Last-Event-ID: 0\r\n", 1},
                 {"last-event-id: 2\r\n", 3},
                 {"Last-Event-ID: 3\r\n", 4},
                 {"Last-Event-ID: 4\r\n", 0}};
    peer *p = *state;
    sse e[COUNT(cases)];
    create(p, "resume", CREATION);
    open_stream(&e[0], p, "resume", cases[0].line); /* there is nothing yet, and nothing is lost */
    sse_close(&e[0]);
    step(p, "resume", 4);
    for (size_t i = 0; i < COUNT(cases); i++) {
        open_stream(&e[i], p, "resume", cases[i].line);
        for (unsigned long n = cases[i].first; n > 0 && n <= 4; n++) {
            assert_step(&e[i], n);
        }
    }
    step(p, "resume", 1);
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_step(&e[i], 5);
        sse_close(&e[i]);
    }
}

/* Where not all that came after it is left, or it never was, that is said first. */
static void test_gap(void **state)
{
    static const char *const ids[] = {"0", "1", "9", "9007199254740992"};
    peer *p = *state;
    sse e;
    create(p, "gap", CREATION);
    open_stream(&e, p, "gap", "Last-Event-ID: 3\r\n"); /* of one that is no more, perhaps */
    assert_next(&e, "event: gap\ndata: {\"last_event_id\": 3, \"first_step\": null}");
    step(p, "gap", 1);
    assert_step(&e, 1);
    sse_close(&e); /* before the others, which a slow listener would be passed by */
    step(p, "gap", 6);
    for (size_t i = 0; i < COUNT(ids); i++) {
        char line[64];
        char expected[128];
        (void)snprintf(line, sizeof line, "Last-Event-ID: %s\r\n", ids[i]);
        (void)snprintf(expected, sizeof expected,
                       "event: gap\ndata: {\"last_event_id\": %s, \"first_step\": 3}", ids[i]);
        open_stream(&e, p, "gap", line);
        assert_next(&e, expected);
        for (unsigned long n = 3; n <= 7; n++) {
            assert_step(&e, n);
        }
        sse_close(&e);
    }
    open_stream(&e, p, "gap", "Last-Event-ID: 2\r\n"); /* 3 is the first left: no gap */
    assert_step(&e, 3);
    sse_close(&e);
}

/* A state that was loaded is where the client is, though no step led there. */
static void test_after_load(void **state)
{
    peer *p = *state;
    sse e;
    create(p, "loaded", CREATION);
    step(p, "loaded", 2);
    (void)get(p, at("loaded", "/state_dict"));
    char *text = strdup(body_of(p));
    assert_non_null(text);
    create(p, "fresh", CREATION);
    (void)ask_json(p, "PUT", at("fresh", "/state_dict?load=everything"), text);
    assert_empty(p, 204);
    free(text);
    open_stream(&e, p, "fresh", "Last-Event-ID: 2\r\n");
    step(p, "fresh", 1);
    assert_step(&e, 3);
    sse_close(&e);
}

/* A step that was left out has no id of its own: who comes back is told of it again. */
static void test_skipped(void **state)
{
    peer *p = *state;
    sse e;
    create(p, "skipped", "{\"params\": {\"w\": [1]}, \"lr\": 0, \"nonfinite\": \"skip\"}");
    open_stream(&e, p, "skipped", "");
    step(p, "skipped", 1);
    (void)ask_json(p, "POST", at("skipped", "/step"), "{\"grads\": {\"w\": [\"NaN\"]}}");
    assert_status(p, 200);
    step(p, "skipped", 1);
    for (int i = 0; i < 2; i++) {
        if (i == 0) {
            assert_step(&e, 1);
        }
        assert_next(&e, "event: skipped\ndata: {\"step\": 1, \"time\": \"");
        assert_step(&e, 2);
        sse_close(&e);
        if (i == 0) {
            open_stream(&e, p, "skipped", "Last-Event-ID: 1\r\n");
        }
    }
}

/* What is refused, and with which words; and where the header means nothing. */
static void test_refusals(void **state)
{
    static const char *const wrong[] = {"x", "-1", "1.5", "\"3\"", "9007199254740993", "1 2"};
    peer *p = *state;
    create(p, "wrong", CREATION);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        char line[64];
        (void)snprintf(line, sizeof line, "Last-Event-ID: %s", wrong[i]);
        (void)get_with(p, at("wrong", "/events"), line);
        assert_problem(p, 400, "malformed-request", "\"header\": \"Last-Event-ID\"");
        (void)get_with(p, at("wrong", ""), line);
        assert_status(p, 200);
    }
    raw_reply r;
    raw_ask(&p->server,
            "GET /v1/optimizers/wrong/events HTTP/1.1\r\nHost: x\r\nLast-Event-ID:\r\n\r\n", &r);
    assert_raw_problem(&r, 400, "malformed-request", "\"header\": \"Last-Event-ID\"");
    raw_ask_closing(&p->server,
                    "GET /v1/optimizers/wrong/events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 1\r\n"
                    "Last-Event-ID: 1\r\n\r\n",
                    &r);
    assert_raw_problem(&r, 400, "malformed-request", "\"header\": \"Last-Event-ID\"");
    (void)get_with(p, at("wrong", "/events"), "Accept: application/json, text/html");
    assert_problem(p, 406, "not-acceptable", "text/event-stream");
    (void)get_with(p, at("wrong", "/events"), "Accept: application/*");
    assert_problem(p, 406, "not-acceptable", NULL);
    (void)get(p, at("wrong", "/events?last=1"));
    assert_problem(p, 400, "invalid-query", NULL);
    (void)get(p, at("nobody", "/events"));
    assert_problem(p, 404, "no-such-optimizer", NULL);
    (void)ask_json(p, "POST", at("wrong", "/events"), "{}");
    assert_problem(p, 405, "method-not-allowed", NULL);
    assert_header(p, "Allow", "GET, HEAD");
    (void)get_with(p, at("wrong", "/events"), "If-Match: \"e0-s0\"");
    assert_problem(p, 412, "precondition-failed", NULL);
}

/* The ways to ask for it. */
static void test_accept(void **state)
{
    static const char *const lines[] = {
        "Accept: text/event-stream\r\n", "Accept: */*\r\n", "Accept: text/*\r\n",
        "Accept: application/json;q=1, text/event-stream;q=0.1\r\n"};
    peer *p = *state;
    create(p, "accept", CREATION);
    for (size_t i = 0; i < COUNT(lines); i++) {
        sse e;
        open_stream(&e, p, "accept", lines[i]);
        step(p, "accept", 1);
        assert_step(&e, i + 1);
        sse_close(&e);
    }
}

/* HEAD says what GET would, and that is all. */
static void test_head(void **state)
{
    peer *p = *state;
    create(p, "head", CREATION);
    (void)ask(p, "HEAD", at("head", "/events"), NULL, NULL, 0);
    assert_empty(p, 200);
    assert_header(p, "Content-Type", "text/event-stream");
    raw_reply r;
    raw_ask_closing(&p->server, "HEAD /v1/optimizers/head/events HTTP/1.1\r\nHost: x\r\n\r\n", &r);
    assert_int_equal(r.status, 200);
}

/* To a client of HTTP/1.0 the stream comes as it is, up to the end of the connection. */
static void test_http_1_0(void **state)
{
    peer *p = *state;
    sse e;
    create(p, "old", CREATION);
    sse_open_with(&e, &p->server, "GET /v1/optimizers/old/events HTTP/1.0\r\n\r\n");
    assert_int_equal(e.status, 200);
    assert_false(e.chunked);
    assert_next(&e, "retry: 3000");
    for (unsigned long n = 1; n <= 20; n++) {
        step(p, "old", 1);
        assert_step(&e, n);
    }
    (void)ask(p, "DELETE", at("old", ""), NULL, NULL, 0);
    assert_next(&e, "event: removed\ndata: {}");
    assert_ended(&e);
    sse_close(&e);
}

/* With the optimizer, its streams end, after all that was before. */
static void test_removed(void **state)
{
    enum { STREAMS = 10 };
    peer *p = *state;
    sse e[STREAMS];
    create(p, "removed", CREATION);
    for (int i = 0; i < STREAMS; i++) {
        open_stream(&e[i], p, "removed", "");
    }
    step(p, "removed", 2);
    (void)ask(p, "DELETE", at("removed", ""), NULL, NULL, 0);
    assert_empty(p, 204);
    create(p, "removed", CREATION); /* another one, of the same name */
    step(p, "removed", 1);
    for (int i = 0; i < STREAMS; i++) {
        assert_step(&e[i], 1);
        assert_step(&e[i], 2);
        assert_next(&e[i], "event: removed\ndata: {}");
        assert_ended(&e[i]);
        sse_close(&e[i]);
    }
}

/* An idle stream outlives the timeout of requests, and is sent a comment now and then. */
static void test_heartbeat(void **state)
{
    static const char *const short_lived[] = {"--heartbeat", "1", "--timeout", "1", NULL};
    (void)state;
    server s;
    peer p;
    sse e;
    server_start(&s, short_lived);
    peer_open(&p, s.url);
    p.server = s;
    create(&p, "a", CREATION);
    open_stream(&e, &p, "a", "");
    for (int i = 0; i < 3; i++) {
        assert_next(&e, ": heartbeat");
    }
    peer_close(&p); /* its own connection has been idle for too long */
    peer_open(&p, s.url);
    step(&p, "a", 1);
    const char *event;
    do {
        event = sse_next(&e);
        assert_non_null(event);
    } while (strcmp(event, ": heartbeat") == 0);
    assert_memory_equal(event, "id: 1\n", 6);
    sse_close(&e);
    peer_close(&p);
    server_stop(&s);
}

/* When the server ends, streams end first and properly, and hold up nothing: not those that are
 * idle, and not one whose client takes nothing. */
static void test_drain(void **state)
{
    enum { STREAMS = 20 };
    (void)state;
    server s;
    peer p;
    sse e[STREAMS];
    sse last;
    server_start(&s, NULL);
    peer_open(&p, s.url);
    p.server = s;
    create(&p, "a", CREATION);
    for (int i = 0; i < STREAMS; i++) {
        open_stream(&e[i], &p, "a", "");
    }
    sse_open(&last, &s, "a", ""); /* which has just begun */
    step(&p, "a", 1);
    assert_int_equal(kill(s.pid, SIGTERM), 0);
    for (int i = 0; i < STREAMS; i++) {
        assert_step(&e[i], 1);
        assert_ended(&e[i]);
        sse_close(&e[i]);
    }
    sse_close(&last);
    peer_close(&p);
    server_join(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),     cmocka_unit_test(test_resume),
        cmocka_unit_test(test_gap),       cmocka_unit_test(test_after_load),
        cmocka_unit_test(test_skipped),   cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_accept),    cmocka_unit_test(test_head),
        cmocka_unit_test(test_http_1_0),  cmocka_unit_test(test_removed),
        cmocka_unit_test(test_heartbeat), cmocka_unit_test(test_drain),
    };
    return cmocka_run_group_tests(tests, setup, peer_and_server_end);
}
