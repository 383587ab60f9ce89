/* test_pull.c: parameters that are asked for when they have changed: If-None-Match, and ?wait=. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rounds.h"

static const char *const one = "{\"grads\": {\"w\": [1]}}";

static int clear(void **state)
{
    remove_all(*state);
    create(*state, "a", "{\"params\": {\"w\": [1, 2]}, \"lr\": 0}");
    create(*state, "b", "{\"params\": {\"w\": [1]}, \"lr\": 0}");
    return 0;
}

static void none_match(peer *p, char *line, size_t size)
{
    (void)get(p, at("a", ""));
    (void)snprintf(line, size, "If-None-Match: %s", adamd_response_header(&p->reply, "ETag", 0));
}

static void step(peer *p, const char *name)
{
    (void)ask_json(p, "POST", at(name, "/step"), "{\"grads\": {\"w\": [1, 1]}}");
    assert_status(p, 200);
}

static void test_if_none_match(void **state)
{
    peer *p = *state;
    char line[128];
    char list[160];
    none_match(p, line, sizeof line);
    (void)snprintf(list, sizeof list, "If-None-Match: \"x\", %s, \"y\"", strchr(line, '"'));
    const char *const there[] = {line, list, "If-None-Match: *"};
    for (size_t i = 0; i < COUNT(there); i++) {
        (void)get_with(p, at("a", "/params"), there[i]);
        assert_empty(p, 304);
        assert_header(p, "ETag", strchr(line, '"'));
        (void)get_with(p, at("a", "/params?dtype=f64"), there[i]);
        assert_empty(p, 304);
    }
    static const char *const other[] = {"If-None-Match: \"x\"", "If-None-Match: \"e1-s77\""};
    for (size_t i = 0; i < COUNT(other); i++) {
        (void)get_with(p, at("a", "/params"), other[i]);
        assert_json(p, 200, "{\"step\": 0, \"params\": {\"w\": [1, 2]}}");
    }
    step(p, "a");
    (void)get_with(p, at("a", "/params"), line);
    assert_json(p, 200, "{\"step\": 1, \"params\": {\"w\": [1, 2]}}");
    none_match(p, line, sizeof line);
    (void)ask_json(p, "PUT", at("a", "/params"), "{\"params\": {\"w\": [3, 4]}}");
    (void)get_with(p, at("a", "/params"), line);
    assert_json(p, 200, "{\"step\": 1, \"params\": {\"w\": [3, 4]}}");
}

static void test_bad_wait(void **state)
{
    static const char *const bad[] = {"wait=0", "wait=301", "wait=-1",      "wait=1.5",
                                      "wait=",  "wait=x",   "wait=1&wait=1"};
    peer *p = *state;
    char rest[64];
    for (size_t i = 0; i < COUNT(bad); i++) {
        (void)snprintf(rest, sizeof rest, "/params?%s", bad[i]);
        (void)get(p, at("a", rest));
        assert_problem(p, 400, "invalid-query", NULL);
    }
    (void)get(p, at("a", "?wait=1"));
    assert_problem(p, 400, "invalid-query", NULL);
}

/* At the end of the wait: 304 to who has the parameters, else the parameters. */
static void test_end_of_wait(void **state)
{
    peer *p = *state;
    char line[128];
    none_match(p, line, sizeof line);
    double begin = now();
    (void)get_with(p, at("a", "/params?wait=1"), line);
    assert_empty(p, 304);
    assert_header(p, "ETag", strchr(line, '"'));
    assert_true(now() - begin >= 0.99 && now() - begin < 5);
    begin = now();
    (void)get(p, at("a", "/params?wait=1"));
    assert_json(p, 200, "{\"step\": 0, \"params\": {\"w\": [1, 2]}}");
    assert_true(now() - begin >= 0.99 && now() - begin < 5);
    begin = now();
    (void)get_with(p, at("a", "/params?wait=300"), "If-None-Match: \"other\"");
    assert_json(p, 200, "{\"step\": 0, \"params\": {\"w\": [1, 2]}}");
    assert_true(now() - begin < 5); /* at once */
}

/* Whatever changes the step or the epoch answers all who wait, and nobody at another optimizer. */
static void test_changes(void **state)
{
    static const char *const methods[] = {"POST", "PUT", "POST"};
    static const char *const paths[] = {"/step", "/params", "/param_groups"};
    static const char *const bodies[] = {"{\"grads\": {\"w\": [1, 1]}}",
                                         "{\"params\": {\"w\": [3, 4]}}",
                                         "{\"params\": [{\"name\": \"z\", \"data\": [5]}]}"};
    static const char *const expected[] = {
        "{\"step\": 1, \"params\": {\"w\": [1, 2]}}", "{\"step\": 1, \"params\": {\"w\": [3, 4]}}",
        "{\"step\": 1, \"params\": {\"w\": [3, 4], \"z\": [5]}}"};
    peer *p = *state;
    raw_reply r;
    const int other = begin_get(&p->server, at("b", "/params?wait=2"), "");
    for (size_t i = 0; i < COUNT(paths); i++) {
        int sockets[4];
        char line[128];
        none_match(p, line, sizeof line - 2);
        (void)strcat(line, "\r\n");
        sockets[0] = begin_get(&p->server, at("a", "/params?wait=300"), "");
        sockets[1] = begin_get(&p->server, at("a", "/params?wait=300"), line);
        sockets[2] = begin_get(&p->server, at("a", "/params?wait=300"), "If-None-Match: *\r\n");
        sockets[3] = begin_get(&p->server, at("a", "/params?wait=300&dtype=f64"), line);
        for (size_t k = 0; k < COUNT(sockets); k++) {
            assert_true(is_silent(sockets[k], 50));
        }
        (void)ask_json(p, "PATCH", at("a", "/param_groups/0"), "{\"lr\": 0.0}"); /* not this */
        (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": {\"w\": [1]}}");
        assert_status(p, 422); /* nor a refused step */
        assert_true(is_silent(sockets[0], 50));
        (void)ask_json(p, methods[i], at("a", paths[i]), bodies[i]);
        assert_true(p->reply.status < 300);
        for (size_t k = 0; k < COUNT(sockets); k++) {
            end_with(sockets[k], &r, 200);
            assert_text(r.body, expected[i]);
            assert_non_null(strstr(r.text, "\r\nETag: \"e"));
        }
    }
    end_with(other, &r, 200);
    assert_text(r.body, "{\"step\": 0, ");
}

/* The steps of rounds and of buffers are steps; what is held is none. */
static void test_rounds(void **state)
{
    peer *p = *state;
    raw_reply r;
    (void)ask_json(p, "PATCH", at("b", ""),
                   "{\"aggregation\": {\"mode\": \"buffered\", \"size\": 2}}");
    int pull = begin_get(&p->server, at("b", "/params?wait=300"), "");
    assert_true(is_silent(pull, 50));
    (void)ask_json(p, "POST", at("b", "/step"), one);
    assert_status(p, 202);
    assert_true(is_silent(pull, 50));
    (void)ask_json(p, "POST", at("b", "/step"), one);
    assert_status(p, 200);
    end_with(pull, &r, 200);
    assert_text(r.body, "{\"step\": 1, ");
    (void)ask_json(p, "PATCH", at("b", ""),
                   "{\"aggregation\": {\"mode\": \"sync\", \"workers\": 2, \"quorum\": 1, "
                   "\"timeout_ms\": 200}}");
    assert_status(p, 200);
    pull = begin_get(&p->server, at("b", "/params?wait=300"), "");
    assert_true(is_silent(pull, 50));
    const int alone = begin_worker(&p->server, "b", "x", one); /* which the time closes */
    end_with(pull, &r, 200);
    assert_text(r.body, "{\"step\": 2, ");
    end_with(alone, &r, 200);
}

/* The optimizer is removed, and another has its name at once. */
static void test_removed(void **state)
{
    peer *p = *state;
    const int pull = begin_get(&p->server, at("a", "/params?wait=300"), "");
    assert_true(is_silent(pull, 50));
    (void)ask(p, "DELETE", at("a", ""), NULL, NULL, 0);
    create(p, "a", "{\"params\": {\"w\": [9]}}");
    end_refused(pull, 404, "no-such-optimizer", NULL);
}

/* Those that wait hold no thread: many of them, on few threads, hold up nobody, whether they are
 * still there when the answer comes or not. */
static void test_many(void **state)
{
    enum { MANY = 200 };
    static const char *const options[] = {"--threads", "2", NULL};
    (void)state;
    peer p;
    raw_reply r;
    int sockets[MANY];
    serve(&p, options);
    create(&p, "a", "{\"params\": {\"w\": [1, 2]}, \"lr\": 0}");
    for (unsigned i = 1; i <= 3; i++) {
        for (size_t k = 0; k < MANY; k++) {
            sockets[k] =
                begin_get(&p.server, at("a", k % 2 ? "/params?wait=300" : "/params?wait=3"),
                          k % 3 ? "" : "If-None-Match: *\r\n");
        }
        sleep_ms(50);
        for (size_t k = 0; k < MANY; k += 5) {
            (void)close(sockets[k]);
        }
        step(&p, "a");
        const double begin = now();
        for (size_t k = 0; k < MANY; k++) {
            if (k % 5 != 0) {
                end_with(sockets[k], &r, 200);
            }
        }
        assert_true(now() - begin < 10);
        assert_step_of(&p, "a", i);
    }
    serve_end(&p);
}

/* Waiting is not being slow: --timeout is for those who keep the server waiting. */
static void test_longer_than_timeout(void **state)
{
    static const char *const options[] = {"--timeout", "1", NULL};
    (void)state;
    peer p;
    raw_reply r;
    serve(&p, options);
    create(&p, "a",
           "{\"params\": {\"w\": [1]}, \"lr\": 0, \"aggregation\": {\"mode\": \"sync\", "
           "\"workers\": 2}}");
    const int pull = begin_get(&p.server, at("a", "/params?wait=20"), "");
    const int worker = begin_worker(&p.server, "a", "x", one);
    sleep_ms(2500);
    peer_close(&p); /* whose connection was idle for too long */
    const server s = p.server;
    peer_open(&p, s.url);
    p.server = s;
    end_with(begin_worker(&p.server, "a", "y", one), &r, 200);
    end_with(worker, &r, 200);
    end_with(pull, &r, 200);
    serve_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_if_none_match, clear),
        cmocka_unit_test_setup(test_bad_wait, clear),
        cmocka_unit_test_setup(test_end_of_wait, clear),
        cmocka_unit_test_setup(test_changes, clear),
        cmocka_unit_test_setup(test_rounds, clear),
        cmocka_unit_test_setup(test_removed, clear),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_longer_than_timeout),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
