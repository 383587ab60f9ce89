/* test_history.c: GET history: the last steps, as they were taken. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "peer.h"

#define STEP "{\"grads\": {\"a\": [3], \"b\": [4]}}"

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

static void make(peer *p, const char *name)
{
    create(p, name,
           "{\"param_groups\": [{\"params\": [{\"name\": \"a\", \"data\": [1]}], \"lr\": 0},"
           " {\"params\": [{\"name\": \"b\", \"data\": [2]}], \"lr\": 0}]}");
}

static void step(peer *p, const char *name, const char *header, const char *json)
{
    (void)ask_json_with(p, "POST", at(name, "/step"), header, json);
    assert_status(p, 200);
}

/* Cuts the times out, after a look at their form: they are of today. */
static void cut_times(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0';) {
        if (strncmp(from, "\"time\":\"", 8) == 0) {
            const char *t = from + 8;
            assert_true(strlen(t) > 26 && t[4] == '-' && t[7] == '-' && t[10] == 'T' &&
                        t[13] == ':' && t[16] == ':' && t[19] == '.' && t[23] == 'Z');
            assert_true(strtol(t, NULL, 10) >= 2024);
            from = t + 26;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
}

/* Asserts that the reply is this, but for the times. */
static void assert_records(const peer *p, const char *json)
{
    assert_status(p, 200);
    assert_header(p, "Content-Type", JSON_TYPE);
    char *got = flatten(body_of(p));
    char *expected = flatten(json);
    cut_times(got);
    got[strcspn(got, "\n")] = '\0';
    assert_string_equal(got, expected);
    free(got);
    free(expected);
}

/* The steps with all that is known of them: workers, norms of all and of each group, and the lr
 * that each group had. */
static void test_steps(void **state)
{
    peer *p = *state;
    make(p, "steps");
    (void)get(p, at("steps", "/history"));
    assert_json(p, 200, "{\"history\": []}");
    step(p, "steps", "Adam-Worker: w1", STEP);
    step(p, "steps", NULL, "{\"grads\": {\"a\": [0]}, \"param_groups\": [{}, {\"lr\": 0.5}]}");
    (void)get(p, at("steps", "/history"));
    assert_records(
        p,
        "{\"history\": ["
        "{\"step\": 1, \"worker\": \"w1\", \"skipped\": false, \"grad_norm\": 5, "
        "\"param_norm\": 2.23606797749979, \"update_norm\": 0, \"clip_coef\": 1, \"param_groups\": "
        "["
        "{\"lr\": 0, \"grad_norm\": 3, \"param_norm\": 1, \"update_norm\": 0, \"clip_coef\": 1},"
        "{\"lr\": 0, \"grad_norm\": 4, \"param_norm\": 2, \"update_norm\": 0, \"clip_coef\": 1}]},"
        "{\"step\": 2, \"worker\": null, \"skipped\": false, \"grad_norm\": 0, \"param_norm\": 1, "
        "\"update_norm\": 0, \"clip_coef\": 1, \"param_groups\": ["
        "{\"lr\": 0, \"grad_norm\": 0, \"param_norm\": 1, \"update_norm\": 0, \"clip_coef\": 1},"
        "{\"lr\": 0.5, \"grad_norm\": 0, \"param_norm\": 0, \"update_norm\": 0, \"clip_coef\": 1}"
        "]}]}");
}

/* The lr that a step was taken with, not the one that a schedule has moved on to. */
static void test_schedule(void **state)
{
    peer *p = *state;
    create(p, "scheduled",
           "{\"params\": {\"w\": [1]}, \"lr\": 0.5, "
           "\"schedule\": {\"name\": \"StepLR\", \"step_size\": 1, \"gamma\": 0.5}}");
    for (int i = 0; i < 3; i++) {
        step(p, "scheduled", NULL, "{\"grads\": {\"w\": [1]}}");
    }
    (void)get(p, at("scheduled", "/history"));
    char *text = flatten(body_of(p));
    const char *found = text;
    static const char *const rates[] = {"\"lr\":0.5,", "\"lr\":0.25,", "\"lr\":0.125,"};
    for (size_t i = 0; i < COUNT(rates); i++) {
        found = strstr(found, "\"lr\":");
        assert_non_null(found);
        assert_memory_equal(found, rates[i], strlen(rates[i]));
        found++;
    }
    free(text);
    (void)get(p, at("scheduled", "/changes")); /* and that is no change */
    assert_json(p, 200, "{\"changes\": []}");
}

/* A step that is left out is on record, and said to be; so are norms that are no numbers. */
static void test_skipped(void **state)
{
    peer *p = *state;
    create(p, "skipped", "{\"params\": {\"w\": [1]}, \"lr\": 0, \"nonfinite\": \"skip\"}");
    step(p, "skipped", NULL, "{\"grads\": {\"w\": [\"Infinity\"]}}");
    step(p, "skipped", NULL, "{\"grads\": {\"w\": [2]}}");
    (void)get(p, at("skipped", "/history"));
    assert_has(p, 200, "\"skipped\": true, \"grad_norm\": \"Infinity\", \"param_norm\": 1, ");
    assert_has(p, 200, "{\"history\": [{\"step\": 0, ");
    assert_has(p, 200, "{\"step\": 1, ");
}

/* Refused steps are not steps. */
static void test_refused(void **state)
{
    peer *p = *state;
    make(p, "refused");
    (void)ask_json(p, "POST", at("refused", "/step"), "{\"grads\": {\"a\": [1, 2]}}");
    assert_problem(p, 422, "shape-mismatch", NULL);
    (void)get(p, at("refused", "/history"));
    assert_json(p, 200, "{\"history\": []}");
}

static void assert_first_and_count(const peer *p, unsigned first, unsigned count)
{
    char begin[64];
    unsigned n = 0;
    (void)snprintf(begin, sizeof begin, "{\"history\": [\n {\"step\": %u, ", first);
    assert_status(p, 200);
    assert_memory_equal(body_of(p), begin, strlen(begin));
    for (const char *c = body_of(p); (c = strstr(c, "\n {\"step\": ")) != NULL; n++) {
        c += strlen("\n {\"step\": ");
        assert_int_equal(strtoul(c, NULL, 10), first + n);
    }
    assert_int_equal(n, count);
}

/* The last ones, oldest first, a line each, and no more than --history. */
static void test_last(void **state)
{
    peer *p = *state;
    make(p, "last");
    for (int i = 0; i < 3; i++) {
        step(p, "last", NULL, STEP);
    }
    (void)get(p, at("last", "/history?last=5"));
    assert_first_and_count(p, 1, 3);
    for (int i = 3; i < 12; i++) {
        step(p, "last", NULL, STEP);
    }
    (void)get(p, at("last", "/history"));
    assert_first_and_count(p, 8, 5);
    (void)get(p, at("last", "/history?last=5"));
    assert_first_and_count(p, 8, 5);
    (void)get(p, at("last", "/history?last=2"));
    assert_first_and_count(p, 11, 2);
    (void)get(p, at("last", "/history?last=1"));
    assert_first_and_count(p, 12, 1);
    const char *etag = adamd_response_header(&p->reply, "ETag", 0);
    assert_non_null(etag);
    assert_non_null(strstr(etag, "-s12\""));
    (void)ask(p, "HEAD", at("last", "/history"), NULL, NULL, 0);
    assert_empty(p, 200);
}

/* What `last` may be, and what else there is not. */
static void test_refusals(void **state)
{
    static const char *const wrong[] = {"0", "6", "-1", "1.5",
                                        "x", "",  "+1", "18446744073709551617"};
    peer *p = *state;
    make(p, "wrong");
    for (size_t i = 0; i < COUNT(wrong); i++) {
        char rest[64];
        (void)snprintf(rest, sizeof rest, "/history?last=%s", wrong[i]);
        (void)get(p, at("wrong", rest));
        assert_problem(p, 400, "invalid-query", NULL);
        assert_has(p, 400, "from 1 to 5");
    }
    (void)get(p, at("wrong", "/history?first=1"));
    assert_problem(p, 400, "invalid-query", NULL);
    (void)get(p, at("wrong", "/history?last=1&last=2"));
    assert_problem(p, 400, "invalid-query", NULL);
    (void)get(p, at("nobody", "/history"));
    assert_problem(p, 404, "no-such-optimizer", NULL);
    (void)get_with(p, at("wrong", "/history"), "Accept: text/event-stream");
    assert_problem(p, 406, "not-acceptable", NULL);
    (void)ask_json(p, "PUT", at("wrong", "/history"), "{}");
    assert_problem(p, 405, "method-not-allowed", NULL);
    assert_header(p, "Allow", "GET, HEAD");
}

/* Groups may become more while the history goes on. */
static void test_groups_grow(void **state)
{
    peer *p = *state;
    make(p, "grow");
    step(p, "grow", NULL, STEP);
    (void)ask_json(p, "POST", at("grow", "/param_groups"),
                   "{\"params\": [{\"name\": \"c\", \"data\": [1]}], \"lr\": 0.125}");
    assert_status(p, 201);
    step(p, "grow", NULL, STEP);
    (void)get(p, at("grow", "/history?last=1"));
    assert_has(p, 200, "{\"lr\": 0.125, \"grad_norm\": 0, ");
    (void)get(p, at("grow", "/history"));
    assert_first_and_count(p, 1, 2);
}

/* A removed optimizer takes its history with it; one of the same name begins anew. */
static void test_removed(void **state)
{
    peer *p = *state;
    make(p, "again");
    step(p, "again", NULL, STEP);
    (void)ask(p, "DELETE", at("again", ""), NULL, NULL, 0);
    assert_empty(p, 204);
    make(p, "again");
    (void)get(p, at("again", "/history"));
    assert_json(p, 200, "{\"history\": []}");
}

/* With next to no memory, steps are taken all the same, and the last ones are there. */
static void test_little_memory(void **state)
{
    static const char *const little[] = {"--max-memory", "1M", "--history", "1000000", NULL};
    (void)state;
    server s;
    peer p;
    server_start(&s, little);
    peer_open(&p, s.url);
    make(&p, "a");
    for (int i = 0; i < 8000; i++) {
        (void)ask_json_with(&p, "POST", at("a", "/step"), "Prefer: return=minimal", STEP);
        assert_status(&p, 204);
    }
    (void)get(&p, at("a", "/history?last=3"));
    assert_first_and_count(&p, 7998, 3);
    (void)get(&p, at("a", "/params"));
    assert_status(&p, 200);
    peer_close(&p);
    server_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),         cmocka_unit_test(test_schedule),
        cmocka_unit_test(test_skipped),       cmocka_unit_test(test_refused),
        cmocka_unit_test(test_last),          cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_groups_grow),   cmocka_unit_test(test_removed),
        cmocka_unit_test(test_little_memory),
    };
    return cmocka_run_group_tests(tests, setup, peer_and_server_end);
}
