/* test_store.c: snapshots, rollback and forks over HTTP: what is refused, and who notices. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crowd.h"
#include "rounds.h"

#define ONE "{\"grads\": {\"w\": [1, -1]}}"

static char directory[] = "/tmp/adamd-store-XXXXXX";

static int begin(void **state)
{
    static peer p;
    assert_non_null(mkdtemp(directory));
    const char *const options[] = {"--data-dir", directory, NULL};
    serve(&p, options);
    *state = &p;
    return 0;
}

static void remove_directory(const char *path)
{
    char command[64];
    (void)snprintf(command, sizeof command, "rm -r %s", path);
    assert_int_equal(system(command), 0); // NOLINT(cert-env33-c): the directory is the test's own
}

static int end(void **state)
{
    serve_end(*state);
    remove_directory(directory);
    return 0;
}

static int clear(void **state)
{
    peer *p = *state;
    remove_all(p);
    create(p, "a", "{\"params\": {\"w\": [1, 2]}, \"lr\": 0.1}");
    for (int i = 0; i < 3; i++) {
        (void)ask_json(p, "POST", at("a", "/step"), ONE);
        assert_status(p, 200);
    }
    return 0;
}

static int ask_snapshot(peer *p, const char *name)
{
    return ask(p, "POST", at(name, "/snapshot"), NULL, NULL, 0);
}

/* ---- refusals ---- */

/* Without a data directory none of them can be had, and the server goes on. */
static void test_no_directory(void **state)
{
    (void)state;
    peer p;
    serve(&p, NULL);
    create(&p, "a", "{\"params\": {\"w\": [1, 2]}}");
    char *before = state_of(&p, "a");
    (void)ask_snapshot(&p, "a");
    assert_problem(&p, 409, "no-data-dir", NULL);
    (void)ask_json(&p, "POST", at("a", "/rollback"), "{\"step\": 0}");
    assert_problem(&p, 409, "no-data-dir", NULL);
    (void)ask_json(&p, "POST", at("a", "/fork"), "{\"name\": \"b\"}");
    assert_problem(&p, 409, "no-data-dir", NULL);
    (void)get(&p, "/readyz");
    assert_status(&p, 200);
    assert_unchanged(&p, "a", before);
    serve_end(&p);
}

typedef struct refusal {
    const char *body;
    int status;
    const char *code;
} refusal;

static void assert_refused(peer *p, const char *rest, const refusal *all, size_t n)
{
    char *before = state_of(p, "a");
    for (size_t i = 0; i < n; i++) {
        (void)ask_json(p, "POST", at("a", rest), all[i].body);
        assert_problem(p, all[i].status, all[i].code, NULL);
    }
    assert_unchanged(p, "a", before);
    (void)get(p, OPTIMIZERS);
    assert_has(p, 200, "\"next\": null");
    (void)get(p, at("b", ""));
    assert_problem(p, 404, "no-such-optimizer", NULL);
}

static void test_bad_rollback(void **state)
{
    static const refusal all[] = {
        {"", 400, "malformed-json"},
        {"{\"step\": 1", 400, "malformed-json"},
        {"[1]", 422, "invalid-value"},
        {"null", 422, "invalid-value"},
        {"{}", 422, "invalid-value"},
        {"{\"step\": null}", 422, "invalid-value"},
        {"{\"step\": \"1\"}", 422, "invalid-value"},
        {"{\"step\": -1}", 422, "invalid-value"},
        {"{\"step\": 1.5}", 422, "invalid-value"},
        {"{\"step\": [1]}", 422, "invalid-value"},
        {"{\"step\": 18446744073709551616}", 422, "invalid-value"},
        {"{\"step\": 1, \"name\": \"b\"}", 400, "unknown-field"},
        {"{\"Step\": 1}", 400, "unknown-field"},
        {"{\"step\": 1, \"step\": 1}", 400, "malformed-json"},
        {"{\"step\": 4}", 409, "no-such-step"}, /* still to come */
        {"{\"step\": 9007199254740991}", 409, "no-such-step"},
    };
    assert_refused(*state, "/rollback", all, COUNT(all));
}

static void test_bad_fork(void **state)
{
    static const refusal all[] = {
        {"{}", 422, "invalid-name"},
        {"{\"step\": 1}", 422, "invalid-name"},
        {"{\"name\": 1}", 422, "invalid-name"},
        {"{\"name\": \"\"}", 422, "invalid-name"},
        {"{\"name\": \".b\"}", 422, "invalid-name"},
        {"{\"name\": \"../b\"}", 422, "invalid-name"},
        {"{\"name\": \"b/c\"}", 422, "invalid-name"},
        {"{\"name\": \"b\", \"step\": \"1\"}", 422, "invalid-value"},
        {"{\"name\": \"b\", \"lr\": 1}", 400, "unknown-field"},
        {"{\"name\": \"b\", \"step\": 4}", 409, "no-such-step"},
        {"{\"name\": \"a\"}", 409, "name-taken"},
        {"{\"name\": \"a\", \"step\": 77}", 409, "name-taken"},
    };
    assert_refused(*state, "/fork", all, COUNT(all));
}

/* What the headers and the path decide. */
static void test_bad_requests(void **state)
{
    static const char *const rests[] = {"/snapshot", "/rollback", "/fork"};
    peer *p = *state;
    char rest[32];
    for (size_t i = 0; i < COUNT(rests); i++) {
        const char *body = i == 0 ? "" : i == 1 ? "{\"step\": 1}" : "{\"name\": \"b\"}";
        (void)get(p, at("a", rests[i]));
        assert_problem(p, 405, "method-not-allowed", NULL);
        assert_header(p, "Allow", "POST");
        (void)ask_json(p, "POST", at("none", rests[i]), body);
        assert_problem(p, 404, "no-such-optimizer", NULL);
        (void)snprintf(rest, sizeof rest, "%s?step=1", rests[i]);
        (void)ask_json(p, "POST", at("a", rest), body);
        assert_problem(p, 400, "invalid-query", NULL);
        if (i > 0) {
            (void)ask_json_with(p, "POST", at("a", rests[i]), "If-Match: \"e0-s0\"", body);
            assert_problem(p, 412, "precondition-failed", NULL);
            (void)ask_json_with(p, "POST", at("a", rests[i]), "Idempotency-Key: k", body);
            assert_problem(p, 400, "malformed-request", "Idempotency-Key");
            (void)ask_tensors(p, "POST", at("a", rests[i]), NULL, "x", 1);
            assert_problem(p, 415, "unsupported-media-type", NULL);
        }
    }
    (void)ask_json(p, "POST", at("a", "/snapshot"), "{}");
    assert_problem(p, 400, "malformed-request", NULL);
    assert_step_of(p, "a", 3);
}

/* ---- what they do ---- */

/* A fork has its own name, place, epoch and ETag. */
static void test_fork(void **state)
{
    peer *p = *state;
    char fork_tag[64];
    (void)ask_json(p, "POST", at("a", "/fork"), "{\"name\": \"b\", \"step\": 2}");
    assert_has(p, 201, "{\"name\": \"b\", \"algorithm\": \"adam\", \"step\": 2,");
    assert_header(p, "Location", "/v1/optimizers/b");
    (void)snprintf(fork_tag, sizeof fork_tag, "%s", adamd_response_header(&p->reply, "ETag", 0));
    (void)get(p, at("b", ""));
    assert_header(p, "ETag", fork_tag);
    (void)ask_json(p, "POST", at("b", "/step"), ONE);
    assert_status(p, 200);
    char *here = digest_of(p, "a");
    char *there = digest_of(p, "b");
    assert_string_equal(here, there);
    free(here);
    free(there);
    (void)get(p, at("a", "/changes"));
    assert_json(p, 200, "{\"changes\": []}");
}

/* There and back; where a step was twice, as it was the last time. */
static void test_rollback(void **state)
{
    peer *p = *state;
    char *third = digest_of(p, "a");
    (void)ask_json(p, "POST", at("a", "/rollback"), "{\"step\": 1}");
    assert_has(p, 200, "{\"name\": \"a\", \"algorithm\": \"adam\", \"step\": 1,");
    (void)get(p, at("a", "/changes"));
    assert_has(p, 200, "\"what\": \"rollback\", \"from\": {\"step\": 3}, \"to\": {\"step\": 1}");
    for (int i = 0; i < 2; i++) {
        (void)ask_json(p, "POST", at("a", "/step"), ONE);
        assert_status(p, 200);
    }
    char *again = digest_of(p, "a");
    assert_string_equal(third, again);
    free(third);
    free(again);
    (void)ask_json(p, "POST", at("a", "/rollback"), "{\"step\": 0}");
    assert_has(p, 200, "\"step\": 0,");
    (void)get(p, at("a", "/params"));
    assert_json(p, 200, "{\"step\": 0, \"params\": {\"w\": [1, 2]}}");
    (void)ask_json(p, "POST", at("a", "/rollback"), "{\"step\": 2}"); /* forwards */
    assert_has(p, 200, "\"step\": 2,");
}

/* Gradients that are held are not of the optimizer that it is then. */
static void test_round_ends(void **state)
{
    peer *p = *state;
    create(p, "s",
           "{\"params\": {\"w\": [1, 2]}, \"aggregation\": "
           "{\"mode\": \"sync\", \"workers\": 2}}");
    const int first = begin_worker(&p->server, "s", "x", ONE);
    wait_for_held(p, "s", 1);
    (void)ask_json(p, "POST", at("s", "/rollback"), "{\"step\": 9}");
    assert_problem(p, 409, "no-such-step", NULL);
    assert_true(is_silent(first, 50)); /* nothing has happened to the round */
    (void)ask_json(p, "POST", at("s", "/rollback"), "{\"step\": 0}");
    assert_status(p, 200);
    end_refused(first, 409, "round-ended", "\"step\": 0");
    wait_for_held(p, "s", 0);
    create(p, "h",
           "{\"params\": {\"w\": [1, 2]}, \"aggregation\": "
           "{\"mode\": \"buffered\", \"size\": 2}}");
    (void)ask_json(p, "POST", at("h", "/step"), ONE);
    assert_status(p, 202);
    (void)ask_json(p, "POST", at("h", "/rollback"), "{\"step\": 0}");
    assert_status(p, 200);
    wait_for_held(p, "h", 0);
}

static void test_pulls_wake(void **state)
{
    peer *p = *state;
    raw_reply r;
    const int with = begin_get(&p->server, at("a", "/params?wait=60"), "If-None-Match: *\r\n");
    const int without = begin_get(&p->server, at("a", "/params?wait=60"), "");
    assert_true(is_silent(with, 100));
    (void)ask_json(p, "POST", at("a", "/rollback"), "{\"step\": 0}");
    assert_status(p, 200);
    end_with(with, &r, 200);
    assert_text(r.body, "{\"step\": 0, \"params\": {\"w\": [1, 2]}}");
    end_with(without, &r, 200);
    assert_text(r.body, "{\"step\": 0, \"params\": {\"w\": [1, 2]}}");
}

/* ---- many at once ---- */

enum { CLIENTS = 16, ROUNDS = 8 };

static void ask_snapshots(worker *w)
{
    for (int i = 0; i < ROUNDS && !worker_failed(w); i++) {
        const bool steps = i % 2 == 1;
        const int status = steps
                               ? worker_ask_json(w, "POST", at("a", "/step"), ONE)
                               : worker_ask(w, "POST", "/v1/optimizers/a/snapshot", NULL, NULL, 0);
        if (status != 200) {
            worker_fail(w, "status %d: %s", status, (const char *)w->reply.body);
        }
    }
}

static void test_many(void **state)
{
    peer *p = *state;
    worker workers[CLIENTS] = {0};
    for (size_t i = 0; i < CLIENTS; i++) {
        workers[i].run = ask_snapshots;
    }
    crowd_run(p->server.url, workers, CLIENTS);
    assert_step_of(p, "a", 3 + CLIENTS * ROUNDS / 2);
    (void)ask_snapshot(p, "a");
    assert_has(p, 200, "{\"step\": 67, \"lsn\": ");
}

static void ask_while_removed(worker *w)
{
    for (int i = 0; i < ROUNDS && !worker_failed(w); i++) {
        int status;
        if (w->index == 0) {
            status = worker_ask(w, "DELETE", "/v1/optimizers/a", NULL, NULL, 0);
            status = status == 204 || status == 404 ? 200 : status;
        } else if (w->index == 1) {
            status = worker_ask_json(w, "PUT", "/v1/optimizers/a", "{\"params\": {\"w\": [1, 2]}}");
            status = status == 201 || status == 409 ? 200 : status;
        } else {
            status = worker_ask(w, "POST", "/v1/optimizers/a/snapshot", NULL, NULL, 0);
            status = status == 404 ? 200 : status;
        }
        if (status != 200) {
            worker_fail(w, "status %d: %s", status, (const char *)w->reply.body);
        }
    }
}

/* A snapshot of what goes meanwhile is made, or there is nothing to make one of. */
static void test_removed_meanwhile(void **state)
{
    peer *p = *state;
    worker workers[CLIENTS] = {0};
    for (size_t i = 0; i < CLIENTS; i++) {
        workers[i].run = ask_while_removed;
    }
    crowd_run(p->server.url, workers, CLIENTS);
    (void)get(p, "/readyz");
    assert_status(p, 200);
}

/* ---- the journal's length ---- */

enum { ELEMENTS = 2 << 20, LONG_STEPS = 20 }; /* 8 MiB a step, more than two segments */

/* An optimizer at rest does not hold on to the journal that others make long. */
static void test_journal_goes(void **state)
{
    const char *const options[] = {"--data-dir", "", "--journal-size", "1M", NULL};
    char own[] = "/tmp/adamd-store-XXXXXX";
    char path[128];
    const char *list[COUNT(options)];
    (void)state;
    peer p;
    assert_non_null(mkdtemp(own));
    memcpy(list, options, sizeof options);
    list[1] = own;
    serve(&p, list);
    create(&p, "rests", "{\"params\": {\"w\": [1, 2]}}");
    (void)snprintf(path, sizeof path, "{\"params\": {\"w\": {\"shape\": [%d]}}}", ELEMENTS);
    create(&p, "steps", path);
    const size_t length = 128 + sizeof(float) * ELEMENTS;
    char *body = calloc(1, length);
    assert_non_null(body);
    memset(body, ' ', 128);
    memcpy(body, "\x78\0\0\0\0\0\0", 8);
    const int n = snprintf(path, sizeof path,
                           "{\"w\":{\"dtype\":\"F32\",\"shape\":[%d],\"data_offsets\":[0,%zu]}}",
                           ELEMENTS, length - 128);
    memcpy(body + 8, path, (size_t)n);
    const char *const headers[] = {"Content-Type: " SAFETENSORS_TYPE, "Prefer: return=minimal",
                                   NULL};
    for (int i = 0; i < LONG_STEPS; i++) {
        (void)ask(&p, "POST", at("steps", "/step"), headers, body, length);
        assert_status(&p, 204);
    }
    (void)snprintf(path, sizeof path, "%s/journal/%016x.log", own, 0U);
    for (int i = 0; i < 200 && access(path, F_OK) == 0; i++) {
        sleep_ms(100);
    }
    assert_int_not_equal(access(path, F_OK), 0);
    (void)ask_json(&p, "POST", at("steps", "/rollback"), "{\"step\": 0}");
    assert_problem(&p, 409, "no-such-step", NULL);
    free(body);
    serve_end(&p);
    remove_directory(own);
}

/* ---- the directory ---- */

/* It is one server's at a time; who only looks at it is refused as well. */
static void test_lock(void **state)
{
    const char *const lists[][6] = {{"--data-dir", directory, "--port", "0"},
                                    {"--data-dir", directory, "--check"}};
    peer *p = *state;
    char pid[32];
    run r;
    (void)snprintf(pid, sizeof pid, "process %ld\n", (long)p->server.pid);
    for (size_t i = 0; i < COUNT(lists); i++) {
        server_run(lists[i], NULL, &r);
        assert_int_equal(r.status, 2);
        assert_non_null(strstr(r.err, pid));
        assert_string_equal(r.out, "");
    }
}

/* --check and --replay make nothing, and need something. */
static void test_nothing_there(void **state)
{
    static const char *const lists[][6] = {{"--data-dir", "/tmp/adamd-store-none", "--check"},
                                           {"--data-dir", "/tmp/adamd-store-none", "--replay", "a"},
                                           {"--data-dir", "/dev/null", "--port", "0"},
                                           {"--data-dir", "/tmp", "--check", "--replay", "a"}};
    (void)state;
    run r;
    for (size_t i = 0; i < COUNT(lists); i++) {
        server_run(lists[i], NULL, &r);
        assert_int_equal(r.status, 2);
        assert_int_equal(strncmp(r.err, "adamd: ", 7), 0);
    }
    assert_int_not_equal(access("/tmp/adamd-store-none", F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_directory),
        cmocka_unit_test_setup(test_bad_rollback, clear),
        cmocka_unit_test_setup(test_bad_fork, clear),
        cmocka_unit_test_setup(test_bad_requests, clear),
        cmocka_unit_test_setup(test_fork, clear),
        cmocka_unit_test_setup(test_rollback, clear),
        cmocka_unit_test_setup(test_round_ends, clear),
        cmocka_unit_test_setup(test_pulls_wake, clear),
        cmocka_unit_test_setup(test_many, clear),
        cmocka_unit_test_setup(test_removed_meanwhile, clear),
        cmocka_unit_test_setup(test_lock, clear),
        cmocka_unit_test(test_nothing_there),
        cmocka_unit_test(test_journal_goes),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
