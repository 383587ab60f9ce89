/* test_async.c: steps of gradients that may be some steps old: how old they are, how old they may
 * be, and what their age does to them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rounds.h"

static const char *const one = "{\"grads\": {\"w\": [1]}}";

static int clear(void **state)
{
    remove_all(*state);
    return 0;
}

/* An optimizer that does not move, and whose exp_avg is the last gradient. */
static void create_async(peer *p, const char *members)
{
    char json[256];
    (void)snprintf(json, sizeof json,
                   "{\"params\": {\"w\": [1]}, \"lr\": 0, \"betas\": [0, 0.5], \"aggregation\": "
                   "{\"mode\": \"async\", %s}}",
                   members);
    create(p, "a", json);
}

static void step_on(peer *p, const char *based_on, const char *json)
{
    char line[64];
    (void)snprintf(line, sizeof line, "Adam-Based-On: %s", based_on);
    (void)ask_json_with(p, "POST", at("a", "/step"), line, json);
}

static void test_staleness(void **state)
{
    peer *p = *state;
    create_async(p, "\"max_staleness\": 2");
    (void)get(p, at("a", ""));
    assert_has(
        p, 200,
        "\"aggregation\": {\"mode\": \"async\", \"max_staleness\": 2, \"damping\": \"none\"}");
    for (unsigned i = 1; i <= 3; i++) { /* 0, 1 and 2 steps old */
        step_on(p, "0", one);
        assert_status(p, 200);
        assert_step_of(p, "a", i);
    }
    char *before = state_of(p, "a");
    step_on(p, "0", one);
    assert_problem(p, 409, "stale", "\"step\": 3");
    assert_has(p, 409, "\"based_on\": 0, \"max_staleness\": 2");
    assert_unchanged(p, "a", before);
    step_on(p, "3", one);
    assert_status(p, 200);
}

/* A gradient says what it is of, and not of what is still to come. */
static void test_bad(void **state)
{
    static const char *const bad[] = {
        "-1", "1.0", "1e0", "x", "18446744073709551616", "9007199254740993", "+1"};
    peer *p = *state;
    create_async(p, "\"max_staleness\": 9007199254740992");
    char *before = state_of(p, "a");
    (void)ask_json(p, "POST", at("a", "/step"), one);
    assert_problem(p, 400, "malformed-request", "\"header\": \"Adam-Based-On\"");
    step_on(p, "1", one);
    assert_problem(p, 422, "invalid-value", "\"header\": \"Adam-Based-On\"");
    step_on(p, "9007199254740992", one);
    assert_problem(p, 422, "invalid-value", "\"step\": 0");
    for (size_t i = 0; i < COUNT(bad); i++) {
        step_on(p, bad[i], one);
        assert_problem(p, 400, "malformed-request", "\"header\": \"Adam-Based-On\"");
    }
    (void)ask_json_with(p, "PUT", at("a", "/params"), "Adam-Based-On: 0",
                        "{\"params\": {\"w\": [1]}}");
    assert_problem(p, 400, "malformed-request", "\"header\": \"Adam-Based-On\"");
    assert_unchanged(p, "a", before);
}

/* An If-Match says it too; its epoch must be the current one. */
static void test_if_match(void **state)
{
    peer *p = *state;
    char line[128];
    create_async(p, "\"max_staleness\": 1");
    (void)get(p, at("a", ""));
    (void)snprintf(line, sizeof line, "If-Match: %s", adamd_response_header(&p->reply, "ETag", 0));
    for (unsigned i = 1; i <= 2; i++) {
        (void)ask_json_with(p, "POST", at("a", "/step"), line, one);
        assert_status(p, 200);
    }
    (void)ask_json_with(p, "POST", at("a", "/step"), line, one);
    assert_problem(p, 409, "stale", "\"based_on\": 0, \"max_staleness\": 1");
    (void)ask_json(p, "PUT", at("a", "/params"), "{\"params\": {\"w\": [2]}}");
    (void)snprintf(line, sizeof line, "If-Match: %s", adamd_response_header(&p->reply, "ETag", 0));
    char *digit = strstr(line, "\"e") + 2;
    *digit = *digit == '9' ? '1' : (char)(*digit + 1);
    char *before = state_of(p, "a");
    (void)ask_json_with(p, "POST", at("a", "/step"), line, one);
    assert_problem(p, 412, "precondition-failed", "\"header\": \"If-Match\"");
    (void)ask_json_with(p, "POST", at("a", "/step"), "If-Match: *", one);
    assert_problem(p, 400, "malformed-request", "\"header\": \"Adam-Based-On\"");
    static const char *const forms[] = {"%s-s1",    "%s-s1-x\"", "%s-s+1\"", "%s-s 1\"",
                                        "%s-s01\"", "W/%s-s1\"", "%s-s9\"",  "nonsense"};
    char tag[96];
    (void)get(p, at("a", ""));
    (void)snprintf(tag, sizeof tag, "%s", adamd_response_header(&p->reply, "ETag", 0));
    *strstr(tag, "-s") = '\0';
    for (size_t i = 0; i < COUNT(forms); i++) { /* nothing that only resembles a tag */
        const size_t n = (size_t)snprintf(line, sizeof line, "If-Match: ");
        const char *after = strstr(forms[i], "%s");
        (void)snprintf(line + n, sizeof line - n, "%.*s%s%s",
                       after != NULL ? (int)(after - forms[i]) : 0, forms[i],
                       after != NULL ? tag : "", after != NULL ? after + 2 : forms[i]);
        (void)ask_json_with(p, "POST", at("a", "/step"), line, one);
        assert_problem(p, strchr(line, '"') == strrchr(line, '"') ? 400 : 412,
                       strchr(line, '"') == strrchr(line, '"') ? "malformed-request"
                                                               : "precondition-failed",
                       "\"header\": \"If-Match\"");
    }
    assert_unchanged(p, "a", before);
    (void)snprintf(line, sizeof line, "If-Match: \"x\", %s-s1\"", tag);
    (void)ask_json_with(p, "POST", at("a", "/step"), line, one);
    assert_status(p, 200);
}

/* Damped, a gradient counts the less the older it is: 1 / (1 + staleness). */
static void test_damping(void **state)
{
    static const char *const expected[] = {"6", "3", "2", "1.5"};
    peer *p = *state;
    create_async(p, "\"max_staleness\": 9, \"damping\": \"inverse\"");
    for (size_t i = 0; i < COUNT(expected); i++) {
        char text[64];
        step_on(p, "0", "{\"grads\": {\"w\": [6]}}");
        assert_status(p, 200);
        (void)get(p, at("a", "/state/w?data=all"));
        (void)snprintf(text, sizeof text, "\"data\": [%s]}, \"exp_avg_sq\"", expected[i]);
        assert_has(p, 200, text);
    }
    /* beside a scale of the step's own */
    step_on(p, "3", "{\"grads\": {\"w\": [12]}, \"grad_scale\": 3}");
    (void)get(p, at("a", "/state/w?data=all"));
    assert_has(p, 200, "\"data\": [2]}, \"exp_avg_sq\"");
}

/* A repeat is not older than its first request was. */
static void test_key(void **state)
{
    static const char *const headers[] = {"Content-Type: application/json", "Idempotency-Key: k",
                                          "Adam-Based-On: 0", NULL};
    static const char *const other[] = {"Content-Type: application/json", "Idempotency-Key: l",
                                        "Adam-Based-On: 0", NULL};
    peer *p = *state;
    create_async(p, "\"max_staleness\": 0");
    for (int again = 0; again < 2; again++) {
        (void)ask(p, "POST", at("a", "/step"), headers, one, strlen(one));
        assert_has(p, 200, "{\"step\": 1, ");
        assert_header(p, "Idempotent-Replayed", again ? "true" : NULL);
    }
    (void)ask(p, "POST", at("a", "/step"), other, one, strlen(one));
    assert_problem(p, 409, "stale", NULL);
}

/* Workers that take turns: each is told how stale it was. */
static void test_workers(void **state)
{
    static const char *const line[] = {"Content-Type: application/json", "Adam-Worker: x",
                                       "Adam-Based-On: 0", "Adam-Weight: 2.5", NULL};
    peer *p = *state;
    create_async(p, "\"max_staleness\": 1");
    for (int i = 0; i < 3; i++) {
        (void)ask(p, "POST", at("a", "/step"), line, one, strlen(one));
        assert_status(p, i < 2 ? 200 : 409);
    }
    (void)get(p, at("a", "/workers"));
    assert_has(p, 200,
               "\"steps\": 2, \"weight\": 2.5, \"staleness\": {\"last\": 1, \"max\": 1}, "
               "\"nonfinite\": 0, \"consecutive_nonfinite\": 0, \"quarantined\": false, "
               "\"refused\": {\"stale\": 1}, \"last_refusal\": {\"time\": ");
}

/* In the other modes what it is based on is noted, and must not be of the future. */
static void test_immediate(void **state)
{
    peer *p = *state;
    create(p, "a", "{\"params\": {\"w\": [1]}}");
    for (int i = 0; i < 3; i++) {
        step_on(p, "0", one);
        assert_status(p, 200);
    }
    step_on(p, "4", one);
    assert_problem(p, 422, "invalid-value", "\"step\": 3");
    assert_step_of(p, "a", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_staleness, clear), cmocka_unit_test_setup(test_bad, clear),
        cmocka_unit_test_setup(test_if_match, clear),  cmocka_unit_test_setup(test_damping, clear),
        cmocka_unit_test_setup(test_key, clear),       cmocka_unit_test_setup(test_workers, clear),
        cmocka_unit_test_setup(test_immediate, clear),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
