/* test_changes.c: GET changes: what was changed between steps, and from what to what. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "peer.h"

#define CREATION "{\"params\": {\"w\": [1]}, \"lr\": 0.5}"
#define STEP     "{\"grads\": {\"w\": [1]}}"

/* Asserts that these are all the changes, each without its time: NULL-terminated. */
static void assert_changes(peer *p, const char *name, const char *const *lines)
{
    (void)get(p, at(name, "/changes"));
    assert_status(p, 200);
    char *text = flatten(body_of(p));
    const char *at_line = text + strlen("{\"changes\":[");
    for (size_t i = 0; lines[i] != NULL; i++) {
        char *line = flatten(lines[i]);
        assert_memory_equal(at_line, "{\"time\":\"20", 11);
        at_line += strlen("{\"time\":\"2026-11-24T18:20:00.123Z\",");
        if (strncmp(at_line, line, strlen(line)) != 0) {
            fail_msg("expected %s, got %s", line, at_line);
        }
        at_line += strlen(line);
        at_line += strncmp(at_line, "},", 2) == 0 ? 2 : 1;
        free(line);
    }
    assert_string_equal(at_line, "]}\n");
    free(text);
}

static void step(peer *p, const char *name, const char *json)
{
    (void)ask_json(p, "POST", at(name, "/step"), json);
    assert_status(p, 200);
}

static void patch(peer *p, const char *path, const char *json)
{
    (void)ask_json(p, "PATCH", path, json);
    assert_status(p, 200);
}

/* Hyperparameters, by PATCH and with a step: those that did change. */
static void test_hyperparameters(void **state)
{
    static const char *const none[] = {NULL};
    static const char *const lines[] = {
        "\"step\": 0, \"what\": \"param_groups[0].betas\", \"from\": [0.9, 0.999], "
        "\"to\": [0.5, 0.75]",
        "\"step\": 0, \"what\": \"param_groups[0].weight_decay\", \"from\": 0, \"to\": 0.25",
        "\"step\": 1, \"what\": \"param_groups[0].lr\", \"from\": 0.5, \"to\": 0.125",
        "\"step\": 2, \"what\": \"param_groups[0].maximize\", \"from\": false, \"to\": true", NULL};
    peer *p = *state;
    create(p, "a", CREATION);
    assert_changes(p, "a", none);
    patch(p, at("a", "/param_groups/0"), "{\"betas\": [0.5, 0.75], \"weight_decay\": 0.25}");
    patch(p, at("a", "/param_groups/0"), "{\"lr\": 0.5}");
    step(p, "a", STEP);
    step(p, "a", "{\"grads\": {\"w\": [1]}, \"param_groups\": [{\"lr\": 0.125, \"eps\": 1e-8}]}");
    step(p, "a", "{\"grads\": {\"w\": [1]}, \"param_groups\": [{\"maximize\": true}]}");
    assert_changes(p, "a", lines);
}

/* What was refused has changed nothing. */
static void test_refused(void **state)
{
    static const char *const none[] = {NULL};
    peer *p = *state;
    create(p, "refused", CREATION);
    (void)ask_json(p, "PATCH", at("refused", "/param_groups/0"), "{\"lr\": -1}");
    assert_problem(p, 422, "invalid-option", NULL);
    (void)ask_json(p, "POST", at("refused", "/step"),
                   "{\"grads\": {\"w\": [1, 2]}, \"param_groups\": [{\"lr\": 1}]}");
    assert_problem(p, 422, "shape-mismatch", NULL);
    (void)ask_json(p, "PUT", at("refused", "/params"), "{\"params\": {}}");
    assert_problem(p, 422, "missing-param", NULL);
    assert_changes(p, "refused", none);
}

/* A step that is left out changes nothing either. */
static void test_skipped(void **state)
{
    static const char *const none[] = {NULL};
    peer *p = *state;
    create(p, "skipped", CREATION);
    step(p, "skipped",
         "{\"grads\": {\"w\": [\"NaN\"]}, \"nonfinite\": \"skip\", "
         "\"param_groups\": [{\"lr\": 1}]}");
    (void)get(p, at("skipped", "/param_groups"));
    assert_has(p, 200, "\"lr\": 0.5, ");
    assert_changes(p, "skipped", none);
}

/* What rewrites history, or adds to the optimizer. */
static void test_rewritten(void **state)
{
    static const char *const lines[] = {
        "\"step\": 1, \"what\": \"params\", \"from\": null, \"to\": null",
        "\"step\": 2, \"what\": \"param_groups[1]\", \"from\": null, \"to\": {\"params\": 2, "
        "\"lr\": 0.25, \"betas\": [0.9, 0.999], \"eps\": 1e-08, \"weight_decay\": 0, "
        "\"amsgrad\": false, \"maximize\": false, \"foreach\": null, \"capturable\": false, "
        "\"differentiable\": false, \"fused\": null}",
        NULL};
    static const char *const load[] = {
        "\"step\": 1, \"what\": \"state_dict\", \"from\": {\"step\": 3}, \"to\": {\"step\": 1}",
        "\"step\": 1, \"what\": \"params\", \"from\": null, \"to\": null", /* alone */
        NULL};
    peer *p = *state;
    create(p, "r", CREATION);
    step(p, "r", STEP);
    (void)ask_json(p, "PUT", at("r", "/params"), "{\"params\": {\"w\": [5]}}");
    assert_empty(p, 204);
    step(p, "r", STEP);
    (void)ask_json(p, "POST", at("r", "/param_groups"),
                   "{\"params\": [{\"name\": \"b\", \"shape\": [2]}, {\"name\": \"c\", \"data\": "
                   "1}], \"lr\": 0.25}");
    assert_status(p, 201);
    assert_changes(p, "r", lines);

    create(p, "loaded", CREATION);
    step(p, "loaded", STEP);
    (void)get(p, at("loaded", "/state_dict"));
    char *state_dict = strdup(body_of(p));
    assert_non_null(state_dict);
    step(p, "loaded", STEP);
    step(p, "loaded", STEP);
    (void)ask_json(p, "PUT", at("loaded", "/state_dict?load=everything"), state_dict);
    assert_empty(p, 204);
    (void)ask_json(p, "PUT", at("loaded", "/state_dict?load=params"), state_dict);
    assert_empty(p, 204);
    free(state_dict);
    assert_changes(p, "loaded", load);
}

/* What is done with gradients, and schedules. */
static void test_settings(void **state)
{
    static const char *const lines[] = {
        "\"step\": 0, \"what\": \"nonfinite\", \"from\": \"error\", \"to\": \"apply\"",
        "\"step\": 0, \"what\": \"max_grad_norm\", \"from\": null, \"to\": 2",
        "\"step\": 0, \"what\": \"max_grad_norm\", \"from\": 2, \"to\": null",
        "\"step\": 1, \"what\": \"param_groups[0].schedule\", \"from\": null, \"to\": "
        "{\"name\": \"StepLR\", \"step_size\": 1, \"gamma\": 0.5, \"last_epoch\": 0}",
        "\"step\": 2, \"what\": \"param_groups[0].schedule\", \"from\": "
        "{\"name\": \"StepLR\", \"step_size\": 1, \"gamma\": 0.5, \"last_epoch\": 1}, \"to\": null",
        NULL};
    peer *p = *state;
    create(p, "s", CREATION);
    patch(p, at("s", ""), "{\"max_grad_norm\": 2, \"nonfinite\": \"apply\"}");
    patch(p, at("s", ""), "{\"max_grad_norm\": null}");
    step(p, "s", "{\"grads\": {\"w\": [1]}, \"clip_value\": 1}"); /* for one step: no change */
    patch(p, at("s", "/param_groups/0"),
          "{\"schedule\": {\"name\": \"StepLR\", \"step_size\": 1, "
          "\"gamma\": 0.5}}");
    step(p, "s", STEP);
    patch(p, at("s", "/param_groups/0"), "{\"schedule\": null}");
    assert_changes(p, "s", lines);
}

/* The last ones, and at most 1000. */
static void test_last(void **state)
{
    static const char *const wrong[] = {"0", "1001", "x"};
    peer *p = *state;
    create(p, "last", CREATION);
    for (int i = 0; i < 1100; i++) {
        char json[64];
        (void)snprintf(json, sizeof json, "{\"lr\": %d}", i + 1);
        patch(p, at("last", "/param_groups/0"), json);
    }
    (void)get(p, at("last", "/changes?last=2"));
    assert_has(p, 200, "\"from\": 1098, \"to\": 1099},");
    assert_has(p, 200, "\"from\": 1099, \"to\": 1100}]}");
    assert_null(strstr(body_of(p), "1097"));
    (void)get(p, at("last", "/changes"));
    assert_has(p, 200, "{\"changes\": [\n {\"time\": ");
    size_t n = 0;
    for (const char *c = body_of(p); (c = strstr(c, "\n {\"time\": ")) != NULL; n++) {
        c++;
    }
    assert_int_equal(n, 1000);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        char rest[64];
        (void)snprintf(rest, sizeof rest, "/changes?last=%s", wrong[i]);
        (void)get(p, at("last", rest));
        assert_problem(p, 400, "invalid-query", NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hyperparameters), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_skipped),         cmocka_unit_test(test_rewritten),
        cmocka_unit_test(test_settings),        cmocka_unit_test(test_last),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
