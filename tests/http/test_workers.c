/* test_workers.c: what is known of each worker, and the quarantine of those that send nothing but
 * NaN. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rounds.h"

static const char *const one = "{\"grads\": {\"w\": [1]}}";
static const char *const nan_grad = "{\"grads\": {\"w\": [\"NaN\"]}}";

static int clear(void **state)
{
    remove_all(*state);
    create(*state, "a", "{\"params\": {\"w\": [1]}, \"lr\": 0}");
    return 0;
}

static void step_as(peer *p, const char *worker, const char *json)
{
    char line[256];
    (void)snprintf(line, sizeof line, "Adam-Worker: %s", worker);
    (void)ask_json_with(p, "POST", at("a", "/step"), line, json);
}

static void assert_workers(peer *p, const char *text)
{
    (void)get(p, at("a", "/workers"));
    assert_has(p, 200, text);
}

/* By name, with what became of what they sent. */
static void test_listed(void **state)
{
    peer *p = *state;
    (void)get(p, at("a", "/workers"));
    assert_json(p, 200, "{\"workers\": [], \"gone\": 0}");
    (void)ask_json(p, "POST", at("a", "/step"), one); /* nobody's */
    step_as(p, "y", one);
    step_as(p, "x", one);
    step_as(p, "x", one);
    step_as(p, "x", "{\"grads\": {\"v\": [1]}}");
    assert_problem(p, 422, "unknown-param", NULL);
    step_as(p, "x", "{\"grads\": ");
    assert_problem(p, 400, "malformed-json", NULL);
    assert_workers(p, "{\"workers\": [{\"name\": \"x\", \"first_seen\": \"2");
    assert_workers(p,
                   "\"steps\": 2, \"weight\": 1, \"staleness\": null, \"nonfinite\": 0, "
                   "\"consecutive_nonfinite\": 0, \"quarantined\": false, \"refused\": "
                   "{\"malformed-json\": 1, \"unknown-param\": 1}, \"last_refusal\": {\"time\": ");
    assert_workers(p, "\"code\": \"malformed-json\"}}, {\"name\": \"y\", ");
    (void)get_with(p, at("a", "/params"), "Adam-Worker: reader"); /* which sends no gradients */
    (void)get(p, at("a", "/workers"));
    assert_null(strstr(body_of(p), "reader"));
}

/* A worker has a name, or none; what is neither is refused, and listed nowhere. */
static void test_bad_names(void **state)
{
    static const char *const bad[] = {"", "a b", "\xff\xfe", "\xc3\xa9", "\x7f"};
    peer *p = *state;
    char name[130];
    char *before = state_of(p, "a");
    for (size_t i = 0; i <= COUNT(bad); i++) {
        memset(name, 'n', sizeof name - 1);
        name[sizeof name - 1] = '\0';
        end_refused(begin_worker(&p->server, "a", i < COUNT(bad) ? bad[i] : name, one), 400,
                    "malformed-request", NULL);
    }
    (void)get(p, at("a", "/workers"));
    assert_json(p, 200, "{\"workers\": [], \"gone\": 0}");
    assert_unchanged(p, "a", before);
    step_as(p, "\"\\{}", one);
    assert_workers(p, "{\"name\": \"\\\"\\\\{}\", ");
}

static void test_bad_weights(void **state)
{
    static const char *const bad[] = {"0",     "-1",   "NaN",    "nan",  "inf",  "Infinity",
                                      "1e400", "-0.0", "1e-400", "1e39", "0x10", "1,5",
                                      "1 2",   "x",    "",       "+"};
    static const char *const good[] = {"1", "0.5", "1e30", "1e-30", "12345678901234567890", "1E2"};
    peer *p = *state;
    char lines[96];
    raw_reply r;
    char *before = state_of(p, "a");
    for (size_t i = 0; i < COUNT(bad); i++) {
        (void)snprintf(lines, sizeof lines, "Adam-Weight: %s\r\n", bad[i]);
        end_refused(begin_step(&p->server, "a", lines, one), 400, "malformed-request",
                    "\"header\": \"Adam-Weight\"");
    }
    assert_unchanged(p, "a", before);
    for (size_t i = 0; i < COUNT(good); i++) {
        (void)snprintf(lines, sizeof lines, "Adam-Weight: %s\r\n", good[i]);
        end_with(begin_step(&p->server, "a", lines, one), &r, 200);
    }
    (void)get_with(p, at("a", "/params"), "Adam-Weight: 1");
    assert_problem(p, 400, "malformed-request", "\"header\": \"Adam-Weight\"");
}

/* ---- quarantine ---- */

/* So many in a row, and the worker is refused until it is let in again; others are not. */
static void test_quarantine(void **state)
{
    peer *p = *state;
    (void)ask_json(p, "PATCH", at("a", ""), "{\"max_consecutive_nonfinite\": 2}");
    assert_has(p, 200, "\"max_consecutive_nonfinite\": 2");
    step_as(p, "x", nan_grad);
    assert_problem(p, 422, "non-finite", "\"worker\": \"x\"");
    step_as(p, "x", one); /* ends the row */
    assert_status(p, 200);
    for (int i = 0; i < 2; i++) {
        step_as(p, "x", nan_grad);
        assert_problem(p, 422, "non-finite", NULL);
    }
    char *before = state_of(p, "a");
    step_as(p, "x", one);
    assert_problem(p, 403, "quarantined", "\"worker\": \"x\"");
    step_as(p, "x", nan_grad);
    assert_problem(p, 403, "quarantined", NULL);
    assert_unchanged(p, "a", before);
    assert_workers(p, "\"nonfinite\": 3, \"consecutive_nonfinite\": 2, \"quarantined\": true, "
                      "\"refused\": {\"non-finite\": 3, \"quarantined\": 2}, ");
    step_as(p, "y", one);
    assert_status(p, 200);
    (void)get_with(p, at("a", "/params"), "Adam-Worker: x"); /* it may read */
    assert_status(p, 200);
    (void)ask(p, "DELETE", at("a", "/workers/x"), NULL, NULL, 0);
    assert_empty(p, 204);
    step_as(p, "x", one);
    assert_status(p, 200);
    (void)ask(p, "DELETE", at("a", "/workers/nobody"), NULL, NULL, 0);
    assert_problem(p, 404, "no-such-worker", "\"worker\": \"nobody\"");
}

/* A skipped or applied NaN counts as well as a refused one. */
static void test_skipped(void **state)
{
    static const char *const ways[] = {"skip", "apply"};
    peer *p = *state;
    for (size_t i = 0; i < COUNT(ways); i++) {
        char json[128];
        (void)snprintf(json, sizeof json,
                       "{\"nonfinite\": \"%s\", \"max_consecutive_nonfinite\": 2}", ways[i]);
        (void)ask_json(p, "PATCH", at("a", ""), json);
        for (int k = 0; k < 2; k++) {
            step_as(p, ways[i], nan_grad);
            assert_status(p, 200);
        }
        step_as(p, ways[i], one);
        assert_problem(p, 403, "quarantined", NULL);
    }
    assert_workers(p, "\"steps\": 0"); /* of "skip" */
}

/* In a round the one that sent the NaN is blamed, and nobody else. */
static void test_in_rounds(void **state)
{
    peer *p = *state;
    raw_reply r;
    (void)ask_json(p, "PATCH", at("a", ""),
                   "{\"max_consecutive_nonfinite\": 1, \"nonfinite\": \"skip\", \"aggregation\": "
                   "{\"mode\": \"sync\", \"workers\": 2}}");
    const int first = begin_worker(&p->server, "a", "good", one);
    wait_for_held(p, "a", 1);
    end_with(begin_worker(&p->server, "a", "bad", nan_grad), &r, 200);
    assert_text(r.body, "\"skipped\": true");
    end_with(first, &r, 200);
    end_refused(begin_worker(&p->server, "a", "bad", one), 403, "quarantined", NULL);
    wait_for_round(p, "a", "\"open\": false");
    const int again = begin_worker(&p->server, "a", "good", one);
    wait_for_held(p, "a", 1);
    (void)ask(p, "DELETE", at("a", "/workers/bad"), NULL, NULL, 0);
    end_with(begin_worker(&p->server, "a", "bad", one), &r, 200);
    end_with(again, &r, 200);
    assert_text(r.body, "\"skipped\": false");
}

/* ---- time ---- */

/* Who was not seen for the time is forgotten, and counted. */
static void test_gone(void **state)
{
    static const char *const options[] = {"--worker-ttl", "1", NULL};
    (void)state;
    peer p;
    serve(&p, options);
    create(&p, "a", "{\"params\": {\"w\": [1]}, \"lr\": 0}");
    step_as(&p, "x", one);
    step_as(&p, "y", one);
    step_as(&p, "z", "{\"grads\": {\"v\": [1]}}"); /* never took part */
    sleep_ms(700);
    step_as(&p, "y", one);
    sleep_ms(500);
    assert_workers(&p, "{\"workers\": [{\"name\": \"y\", ");
    assert_workers(&p, "\"last_refusal\": null}], \"gone\": 1}");
    step_as(&p, "x", one);
    assert_workers(&p, "\"gone\": 0}");
    serve_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_listed, clear),
        cmocka_unit_test_setup(test_bad_names, clear),
        cmocka_unit_test_setup(test_bad_weights, clear),
        cmocka_unit_test_setup(test_quarantine, clear),
        cmocka_unit_test_setup(test_skipped, clear),
        cmocka_unit_test_setup(test_in_rounds, clear),
        cmocka_unit_test(test_gone),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
