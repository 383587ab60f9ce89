/* test_schedules.c: schedules over HTTP: where they are given, shown, replaced and ended. How rates
 * move is held to torch by tests/golden/test_schedules.c, and what arguments are refused by
 * tests/unit/test_schedule.c and test_codec_schedule.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

#define HALVE "{\"name\": \"StepLR\", \"step_size\": 1, \"gamma\": 0.5}"

static int clear(void **state)
{
    remove_all(*state);
    return 0;
}

static void step(peer *p, const char *name)
{
    (void)ask_json(p, "POST", at(name, "/step"), "{\"grads\": {\"w\": [1]}}");
    assert_status(p, 200);
}

static void assert_groups(peer *p, const char *name, const char *text)
{
    (void)get(p, at(name, "/param_groups"));
    assert_has(p, 200, text);
}

/* At the top level it is every group's, each with its own rate; a group's own goes before it, and
 * null there is none. It stands behind torch's keys, with its position. */
static void test_create(void **state)
{
    peer *p = *state;
    create(p, "a",
           "{\"schedule\": " HALVE ", \"param_groups\": ["
           "{\"params\": [{\"name\": \"w\", \"data\": [1]}], \"lr\": 0.5},"
           "{\"params\": [{\"name\": \"x\", \"data\": [1]}], \"schedule\": null, \"lr\": 0.25},"
           "{\"params\": [{\"name\": \"y\", \"data\": [1]}], \"lr\": 0.125, \"schedule\": "
           "{\"name\": \"ExponentialLR\", \"gamma\": 2}}]}");
    step(p, "a");
    assert_groups(p, "a",
                  "\"lr\": 0.25, \"betas\": [0.9, 0.999], \"eps\": 1e-08, \"weight_decay\": 0, "
                  "\"amsgrad\": false, \"maximize\": false, \"foreach\": null, \"capturable\": "
                  "false, \"differentiable\": false, \"fused\": null, \"initial_lr\": 0.5, "
                  "\"schedule\": {\"name\": \"StepLR\", \"step_size\": 1, \"gamma\": 0.5, "
                  "\"last_epoch\": 1}}");
    assert_groups(p, "a", "\"lr\": 0.25, ");
    assert_groups(p, "a", "\"fused\": null},");
    assert_groups(
        p, "a",
        "\"initial_lr\": 0.125, \"schedule\": {\"name\": \"ExponentialLR\", \"gamma\": 2, "
        "\"last_epoch\": 1}}]");
    step(p, "a");
    assert_groups(p, "a", "\"lr\": 0.125, ");
    assert_groups(p, "a", "\"lr\": 0.5, ");
}

/* In the short, the combined and the file form as well. */
static void test_forms(void **state)
{
    peer *p = *state;
    float w[] = {1};
    const adamd_tensor t = vector32("w", w, 1);
    create(p, "s", "{\"params\": {\"w\": [1]}, \"lr\": 0.5, \"schedule\": " HALVE "}");
    create(
        p, "c",
        "{\"params\": {\"w\": [1]}, \"defaults\": {\"lr\": 0.5}, \"param_groups\": [{\"params\": "
        "[\"w\"], \"schedule\": " HALVE "}]}");
    file f = file_of(&t, 1, "optimizer", "{\"defaults\": {\"lr\": 0.5}, \"schedule\": " HALVE "}");
    (void)ask_file(p, "PUT", at("f", ""), NULL, f);
    assert_status(p, 201);
    file_free(&f);
    for (size_t i = 0; i < 3; i++) {
        const char name[] = {"scf"[i], '\0'};
        assert_groups(p, name, "\"last_epoch\": 0}}]");
        step(p, name);
        assert_groups(p, name, "\"lr\": 0.25, ");
    }
}

/* A refused schedule creates nothing, and says which group it is of. */
static void test_refused(void **state)
{
    static const struct {
        const char *schedule;
        int status;
        const char *code, *member;
    } bad[] = {
        {"{\"name\": \"CyclicLR\", \"base_lr\": 1}", 422, "invalid-value", "CyclicLR"},
        {"{\"step_size\": 1}", 422, "invalid-value", "name"},
        {"{\"name\": \"StepLR\"}", 422, "invalid-value", "step_size"},
        {"{\"name\": \"StepLR\", \"step_size\": 1, \"step\": 1}", 400, "unknown-field", "step"},
        {"{\"name\": \"StepLR\", \"step_size\": \"1\"}", 422, "invalid-value", "step_size"},
        {"{\"name\": \"StepLR\", \"step_size\": 1.5}", 422, "invalid-value", "step_size"},
        {"{\"name\": \"StepLR\", \"step_size\": 0}", 422, "invalid-schedule", "step_size"},
        {"{\"name\": \"StepLR\", \"step_size\": 1, \"gamma\": -1}", 422, "invalid-schedule",
         "gamma"},
        {"{\"name\": \"StepLR\", \"step_size\": 1, \"last_epoch\": 3}", 422, "unsupported-option",
         "last_epoch"},
        {"{\"name\": \"ExponentialLR\"}", 422, "invalid-value", "gamma"},
        {"{\"name\": \"OneCycleLR\", \"max_lr\": 1}", 422, NULL, "total_steps"},
        {"{\"name\": \"SequentialLR\", \"schedulers\": [], \"milestones\": []}", 422, NULL, NULL},
        {"{\"name\": \"SequentialLR\", \"schedulers\": [" HALVE ", " HALVE "], \"milestones\": [5, "
         "6]}",
         422, NULL, "milestones"},
        {"[]", 422, "invalid-value", NULL},
        {"\"StepLR\"", 422, "invalid-value", NULL},
        {"true", 422, "invalid-value", NULL},
    };
    peer *p = *state;
    char body[512];
    create(p, "a", "{\"params\": {\"w\": [1]}}");
    char *before = state_of(p, "a");
    for (size_t i = 0; i < COUNT(bad) * 4; i++) {
        static const char *const shapes[] = {
            "{\"params\": {\"w\": [1]}, \"schedule\": %s}",
            "{\"params\": {\"w\": [1]}, \"param_groups\": [{\"params\": [\"w\"], \"schedule\": "
            "%s}]}",
            "{\"schedule\": %s}",
            "{\"params\": [{\"name\": \"x\", \"data\": [1]}], \"schedule\": %s}"};
        static const char *const methods[] = {"PUT", "PUT", "PATCH", "POST"};
        const size_t k = i / 4;
        const char *path = i % 4 < 2    ? at("b", "")
                           : i % 4 == 2 ? at("a", "/param_groups/0")
                                        : at("a", "/param_groups");
        (void)snprintf(body, sizeof body, shapes[i % 4], bad[k].schedule); // NOLINT: literals above
        (void)ask_json(p, methods[i % 4], path, body);
        if (bad[k].code != NULL) {
            assert_problem(p, bad[k].status, bad[k].code, bad[k].member);
        } else {
            assert_status(p, bad[k].status);
            assert_has(p, bad[k].status, bad[k].member != NULL ? bad[k].member : "schedule");
        }
    }
    assert_unchanged(p, "a", before);
    (void)get(p, at("b", ""));
    assert_problem(p, 404, "no-such-optimizer", NULL);
    (void)ask_json(p, "POST", at("a", "/step"),
                   "{\"grads\": {\"w\": [1]}, \"param_groups\": [{\"schedule\": " HALVE "}]}");
    assert_problem(p, 400, "unknown-field", "schedule"); /* a step changes rates, not schedules */
}

/* A group that is added has a schedule only if it carries one, and starts it then. */
static void test_added(void **state)
{
    peer *p = *state;
    create(p, "a", "{\"params\": {\"w\": [1]}, \"lr\": 0.5, \"schedule\": " HALVE "}");
    step(p, "a");
    (void)ask_json(p, "POST", at("a", "/param_groups"),
                   "{\"params\": [{\"name\": \"x\", \"data\": [1]}], \"lr\": 4}");
    assert_status(p, 201);
    (void)ask_json(
        p, "POST", at("a", "/param_groups"),
        "{\"params\": [{\"name\": \"y\", \"data\": [1]}], \"lr\": 8, \"schedule\": " HALVE "}");
    assert_status(p, 201);
    step(p, "a");
    assert_groups(p, "a", "\"lr\": 0.125, ");
    assert_groups(p, "a", "\"lr\": 4, ");
    assert_groups(p, "a", "\"fused\": null},");
    assert_groups(p, "a",
                  "\"initial_lr\": 8, \"schedule\": {\"name\": \"StepLR\", \"step_size\": 1, "
                  "\"gamma\": 0.5, \"last_epoch\": 1}}]");
}

/* PATCH replaces it whole, from the group's lr as patched; null takes it away and lr stays; without
 * one, a new lr is where the old schedule goes on. */
static void test_patch(void **state)
{
    peer *p = *state;
    create(p, "a", "{\"params\": {\"w\": [1]}, \"lr\": 0.5, \"schedule\": " HALVE "}");
    step(p, "a");
    (void)ask_json(p, "PATCH", at("a", "/param_groups/0"), "{\"lr\": 16}");
    assert_has(p, 200, "\"lr\": 16, ");
    assert_has(p, 200, "\"initial_lr\": 0.5, \"schedule\": {");
    step(p, "a");
    assert_groups(p, "a", "\"lr\": 8, ");
    (void)ask_json(p, "PATCH", at("a", "/param_groups/0"),
                   "{\"lr\": 2, \"schedule\": {\"name\": \"LinearLR\", \"start_factor\": 0.5, "
                   "\"total_iters\": 2}}");
    assert_has(p, 200,
               "\"initial_lr\": 2, \"schedule\": {\"name\": \"LinearLR\", \"start_factor\": 0.5, "
               "\"end_factor\": 1, \"total_iters\": 2, \"last_epoch\": 0}}");
    assert_has(p, 200, "\"lr\": 1, ");
    step(p, "a");
    assert_groups(p, "a", "\"lr\": 1.5, ");
    (void)ask_json(p, "PATCH", at("a", "/param_groups/0"), "{\"schedule\": null}");
    assert_has(p, 200, "\"lr\": 1.5, ");
    assert_has(p, 200, "\"fused\": null}");
    step(p, "a");
    assert_groups(p, "a", "\"lr\": 1.5, ");
    char *before = state_of(p, "a");
    (void)ask_json(p, "PATCH", at("a", "/param_groups/0"), "{\"lr\": -1, \"schedule\": " HALVE "}");
    assert_problem(p, 422, "invalid-option", NULL);
    (void)ask_json(p, "PATCH", at("a", "/param_groups/1"), "{\"schedule\": " HALVE "}");
    assert_problem(p, 404, "no-such-group", NULL);
    assert_unchanged(p, "a", before);
}

/* An lr that comes with the step is the step's, and the schedule moves from it. A skipped or
 * refused step moves nothing. */
static void test_step(void **state)
{
    peer *p = *state;
    create(p, "a",
           "{\"params\": {\"w\": [0]}, \"lr\": 0.5, \"nonfinite\": \"skip\", \"schedule\": " HALVE
           "}");
    (void)ask_json(p, "POST", at("a", "/step"),
                   "{\"grads\": {\"w\": [1]}, \"param_groups\": [{\"lr\": 8}]}");
    assert_has(p, 200, "\"params\": {\"w\": [-7.99999");
    assert_groups(p, "a", "\"lr\": 4, ");
    char *before = state_of(p, "a");
    (void)ask_json(p, "POST", at("a", "/step"),
                   "{\"grads\": {\"w\": [\"NaN\"]}, \"param_groups\": [{\"lr\": 1}]}");
    assert_has(p, 200, "\"skipped\": true");
    (void)ask_json(p, "POST", at("a", "/step"),
                   "{\"grads\": {\"w\": [\"NaN\"]}, \"nonfinite\": \"error\"}");
    assert_problem(p, 422, "non-finite", NULL);
    assert_unchanged(p, "a", before);
    assert_groups(p, "a", "\"last_epoch\": 1}");
}

/* Past the last step of a OneCycleLR the step is refused with nothing changed, also in a file and
 * where another group has it; another schedule, and it goes on. */
static void test_ended(void **state)
{
    peer *p = *state;
    float w[] = {1};
    const adamd_tensor t = vector32("w", w, 1);
    create(p, "a",
           "{\"param_groups\": [{\"params\": [{\"name\": \"w\", \"data\": [1]}]},"
           "{\"params\": [{\"name\": \"x\", \"data\": [1]}], \"schedule\": {\"name\": "
           "\"OneCycleLR\", \"max_lr\": 1, \"total_steps\": 2}}]}");
    step(p, "a");
    step(p, "a");
    char *before = state_of(p, "a");
    (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": {\"w\": [1]}}");
    assert_problem(p, 422, "schedule-ended", "OneCycleLR");
    file f = file_of(&t, 1, NULL, NULL);
    (void)ask_file(p, "POST", at("a", "/step"), NULL, f);
    assert_problem(p, 422, "schedule-ended", NULL);
    file_free(&f);
    (void)ask_json_with(p, "POST", at("a", "/step"), "Prefer: return=minimal",
                        "{\"grads\": {\"w\": [1]}}");
    assert_problem(p, 422, "schedule-ended", NULL);
    assert_unchanged(p, "a", before);
    (void)ask_json(p, "PATCH", at("a", "/param_groups/1"), "{\"schedule\": null}");
    assert_status(p, 200);
    step(p, "a");
}

/* A group's schedule is not part of `defaults`, nor of the optimizer's own settings. */
static void test_places(void **state)
{
    peer *p = *state;
    (void)ask_json(p, "PUT", at("a", ""),
                   "{\"params\": {\"w\": [1]}, \"param_groups\": [{\"params\": [\"w\"]}], "
                   "\"defaults\": {\"schedule\": " HALVE "}}");
    assert_problem(p, 400, "unknown-field", "schedule");
    create(p, "a", "{\"params\": {\"w\": [1]}, \"schedule\": null}");
    (void)ask_json(p, "PATCH", at("a", ""), "{\"schedule\": " HALVE "}");
    assert_problem(p, 400, "unknown-field", "schedule");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_create, clear),  cmocka_unit_test_setup(test_forms, clear),
        cmocka_unit_test_setup(test_refused, clear), cmocka_unit_test_setup(test_added, clear),
        cmocka_unit_test_setup(test_patch, clear),   cmocka_unit_test_setup(test_step, clear),
        cmocka_unit_test_setup(test_ended, clear),   cmocka_unit_test_setup(test_places, clear),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
