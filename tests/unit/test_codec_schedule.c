/* test_codec_schedule.c: schedules in JSON: read with torch's names and defaults, printed with
 * their position, refused with what was expected. tests/golden/test_schedules.c reads many more. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adam/optimizer.h"
#include "codec_schedule.h"

#define BUDGET_BYTES ((size_t)16 << 20)
#include "budget.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static codec_status read_text(fixture *f, const char *json, bool position, buffer **room,
                              adam_schedule **schedule, codec_error *error)
{
    json_doc *doc = NULL;
    assert_int_equal(json_parse(f->pool, json, strlen(json), &doc, error), CODEC_OK);
    const codec_status st = schedule_read(f->pool, doc, json_root(doc), "param group 1", position,
                                          room, schedule, error);
    json_free(doc);
    return st;
}

static void assert_printed(fixture *f, const adam_schedule *schedule, const char *json)
{
    text t = {.pool = f->pool};
    schedule_add(&t, schedule);
    text_add(&t, "", 1);
    assert_false(t.failed);
    assert_string_equal(t.buffer->data, json);
    text_drop(&t);
}

/* Reads a schedule, starts it at lr 0.5, and asserts how it is printed; reads that again. */
static void assert_read(fixture *f, const char *json, const char *printed)
{
    buffer *room;
    adam_schedule *schedule;
    codec_error error;
    adam_error why;
    adam_options options;
    adam_options_default(ADAM_ALGORITHM_ADAM, &options);
    options.lr = 0.5;
    if (read_text(f, json, false, &room, &schedule, &error) != CODEC_OK) {
        fail_msg("%s: %s", json, error.message);
    }
    if (adam_schedule_check(schedule, &why) != ADAM_OK) {
        fail_msg("%s: %s", json, why.message);
    }
    adam_schedule_start(schedule, &options);
    assert_printed(f, schedule, printed);
    buffer_drop(room);
    assert_int_equal(read_text(f, printed, true, &room, &schedule, &error), CODEC_OK);
    assert_int_equal(adam_schedule_check(schedule, &why), ADAM_OK);
    assert_printed(f, schedule, printed);
    buffer_drop(room);
}

/* Every kind with what it must have: the rest is torch's default, in torch's order. */
static void test_defaults(void **state)
{
    static const char *const cases[][2] = {
        {"{\"name\": \"ConstantLR\"}", "{\"name\": \"ConstantLR\", \"factor\": 0.3333333333333333, "
                                       "\"total_iters\": 5, \"last_epoch\": 0}"},
        {"{\"name\": \"LinearLR\"}",
         "{\"name\": \"LinearLR\", \"start_factor\": 0.3333333333333333, \"end_factor\": 1, "
         "\"total_iters\": 5, \"last_epoch\": 0}"},
        {"{\"name\": \"StepLR\", \"step_size\": 30}",
         "{\"name\": \"StepLR\", \"step_size\": 30, \"gamma\": 0.1, \"last_epoch\": 0}"},
        {"{\"name\": \"MultiStepLR\", \"milestones\": [80, 30, 30]}",
         "{\"name\": \"MultiStepLR\", \"milestones\": [80, 30, 30], \"gamma\": 0.1, "
         "\"last_epoch\": 0}"},
        {"{\"name\": \"MultiStepLR\", \"milestones\": []}",
         "{\"name\": \"MultiStepLR\", \"milestones\": [], \"gamma\": 0.1, \"last_epoch\": 0}"},
        {"{\"name\": \"ExponentialLR\", \"gamma\": 0.9}",
         "{\"name\": \"ExponentialLR\", \"gamma\": 0.9, \"last_epoch\": 0}"},
        {"{\"name\": \"PolynomialLR\"}",
         "{\"name\": \"PolynomialLR\", \"total_iters\": 5, \"power\": 1, \"last_epoch\": 0}"},
        {"{\"name\": \"CosineAnnealingLR\", \"T_max\": 100}",
         "{\"name\": \"CosineAnnealingLR\", \"T_max\": 100, \"eta_min\": 0, \"last_epoch\": 0}"},
        {"{\"name\": \"CosineAnnealingWarmRestarts\", \"T_0\": 10}",
         "{\"name\": \"CosineAnnealingWarmRestarts\", \"T_0\": 10, \"T_mult\": 1, \"eta_min\": 0, "
         "\"last_epoch\": 0, \"T_cur\": 0, \"T_i\": 10}"},
        {"{\"name\": \"OneCycleLR\", \"max_lr\": 0.1, \"total_steps\": 100}",
         "{\"name\": \"OneCycleLR\", \"max_lr\": 0.1, \"total_steps\": 100, \"pct_start\": 0.3, "
         "\"anneal_strategy\": \"cos\", \"cycle_momentum\": true, \"base_momentum\": 0.85, "
         "\"max_momentum\": 0.95, \"div_factor\": 25, \"final_div_factor\": 10000, "
         "\"three_phase\": false, \"last_epoch\": 0}"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_read(*state, cases[i][0], cases[i][1]);
    }
}

/* Every argument given; a length that is null is not given. */
static void test_arguments(void **state)
{
    assert_read(*state,
                "{\"three_phase\": true, \"final_div_factor\": 3, \"div_factor\": 2.5, "
                "\"max_momentum\": 0.8, \"base_momentum\": 0.7, \"cycle_momentum\": false, "
                "\"anneal_strategy\": \"linear\", \"pct_start\": 0.4, \"steps_per_epoch\": 10, "
                "\"epochs\": 3, \"total_steps\": null, \"max_lr\": 1, \"name\": \"OneCycleLR\"}",
                "{\"name\": \"OneCycleLR\", \"max_lr\": 1, \"epochs\": 3, \"steps_per_epoch\": 10, "
                "\"pct_start\": 0.4, \"anneal_strategy\": \"linear\", \"cycle_momentum\": false, "
                "\"base_momentum\": 0.7, \"max_momentum\": 0.8, \"div_factor\": 2.5, "
                "\"final_div_factor\": 3, \"three_phase\": true, \"last_epoch\": 0}");
    assert_read(*state,
                "{\"name\": \"SequentialLR\", \"milestones\": [5], \"schedulers\": "
                "[{\"name\": \"LinearLR\"}, {\"name\": \"CosineAnnealingWarmRestarts\", "
                "\"T_0\": 9, \"T_mult\": 2, \"eta_min\": 0.001}]}",
                "{\"name\": \"SequentialLR\", \"schedulers\": [{\"name\": \"LinearLR\", "
                "\"start_factor\": 0.3333333333333333, \"end_factor\": 1, \"total_iters\": 5, "
                "\"last_epoch\": 0, \"base_lr\": 0.5}, {\"name\": \"CosineAnnealingWarmRestarts\", "
                "\"T_0\": 9, \"T_mult\": 2, \"eta_min\": 0.001, \"last_epoch\": -1, \"T_cur\": 0, "
                "\"T_i\": 9, \"base_lr\": 0.5}], \"milestones\": [5], \"last_epoch\": 0}");
}

/* A schedule in a state_dict stands where it says. */
static void test_position(void **state)
{
    static const char json[] =
        "{\"name\": \"CosineAnnealingWarmRestarts\", \"T_0\": 10, \"T_mult\": 2, \"eta_min\": 0, "
        "\"last_epoch\": 45, \"T_cur\": 15, \"T_i\": 40}";
    buffer *room;
    adam_schedule *schedule;
    codec_error error;
    assert_int_equal(read_text(*state, json, true, &room, &schedule, &error), CODEC_OK);
    assert_int_equal(schedule->n, 1);
    assert_int_equal(schedule->at[0].last_epoch, 45);
    assert_int_equal(schedule->at[0].T_cur, 15);
    assert_int_equal(schedule->at[0].T_i, 40);
    assert_true(schedule->initial_lr == 0);
    assert_printed(*state, schedule, json);
    buffer_drop(room);
}

static void assert_refused(fixture *f, const char *json, bool position, codec_status status,
                           const char *message)
{
    buffer *room = NULL;
    adam_schedule *schedule = NULL;
    codec_error error;
    const codec_status st = read_text(f, json, position, &room, &schedule, &error);
    if (st != status || strstr(error.message, message) == NULL) {
        fail_msg("%s: status %d, '%s'; expected %d and '%s'", json, (int)st,
                 st == CODEC_OK ? "" : error.message, (int)status, message);
    }
    assert_null(room);
    assert_null(schedule);
}

/* A message names the schedule, its group, the argument and what was expected. */
static void test_refused(void **state)
{
    static const char names[] =
        "ConstantLR, LinearLR, StepLR, MultiStepLR, ExponentialLR, PolynomialLR, "
        "CosineAnnealingLR, CosineAnnealingWarmRestarts, OneCycleLR, SequentialLR";
    static const struct {
        const char *json;
        codec_status status;
        const char *message;
    } cases[] = {
        {"7", CODEC_INVALID_VALUE, "schedule of param group 1 is a number, expected an object"},
        {"\"StepLR\"", CODEC_INVALID_VALUE, "schedule of param group 1 is a string"},
        {"{}", CODEC_INVALID_VALUE, "schedule of param group 1: name is missing"},
        {"{\"name\": 3}", CODEC_INVALID_VALUE, "name is a number, expected one of Con"},
        {"{\"name\": \"LambdaLR\"}", CODEC_INVALID_VALUE, names},
        {"{\"name\": \"stepLR\"}", CODEC_INVALID_VALUE, "name is 'stepLR', expected one of"},
        {"{\"name\": \"StepLR\"}", CODEC_INVALID_VALUE,
         "StepLR of param group 1: step_size is missing"},
        {"{\"name\": \"StepLR\", \"step_size\": 1.5}", CODEC_INVALID_VALUE, "whole number"},
        {"{\"name\": \"StepLR\", \"step_size\": -3}", CODEC_INVALID_VALUE, "whole number"},
        {"{\"name\": \"StepLR\", \"step_size\": \"30\"}", CODEC_INVALID_VALUE,
         "StepLR of param group 1: step_size is a string, expected a whole number"},
        {"{\"name\": \"StepLR\", \"step_size\": null}", CODEC_INVALID_VALUE, "step_size is null"},
        {"{\"name\": \"StepLR\", \"step_size\": 9007199254740993}", CODEC_INVALID_VALUE, "2^53"},
        {"{\"name\": \"StepLR\", \"step_size\": 3, \"gamma\": [0.1]}", CODEC_INVALID_VALUE,
         "gamma is a list of numbers, expected a number"},
        {"{\"name\": \"ExponentialLR\", \"gamma\": 1e999}", CODEC_INVALID_VALUE,
         "out of the range"},
        {"{\"name\": \"StepLR\", \"step_size\": 3, \"factor\": 1}", CODEC_UNKNOWN_FIELD,
         "unknown argument 'factor'; known are step_size, gamma"},
        {"{\"name\": \"StepLR\", \"step_size\": 3, \"base_lr\": 1}", CODEC_UNKNOWN_FIELD,
         "base_lr"},
        {"{\"name\": \"StepLR\", \"step_size\": 3, \"verbose\": false}", CODEC_UNSUPPORTED_OPTION,
         "verbose asks for printing"},
        {"{\"name\": \"StepLR\", \"step_size\": 3, \"last_epoch\": -1}", CODEC_UNSUPPORTED_OPTION,
         "last_epoch is where a schedule stands"},
        {"{\"name\": \"CosineAnnealingWarmRestarts\", \"T_0\": 3, \"T_cur\": 0}",
         CODEC_UNSUPPORTED_OPTION, "T_cur is where"},
        {"{\"name\": \"MultiStepLR\", \"milestones\": 3}", CODEC_INVALID_VALUE,
         "milestones is expected as a list of at most 64 whole numbers"},
        {"{\"name\": \"MultiStepLR\", \"milestones\": [[3]]}", CODEC_INVALID_VALUE, "a list of at"},
        {"{\"name\": \"MultiStepLR\", \"milestones\": [-3]}", CODEC_INVALID_VALUE, "a list of at"},
        {"{\"name\": \"OneCycleLR\", \"total_steps\": 3}", CODEC_INVALID_VALUE,
         "max_lr is missing"},
        {"{\"name\": \"OneCycleLR\", \"max_lr\": [0.1, 0.2], \"total_steps\": 3}",
         CODEC_INVALID_VALUE, "max_lr is a list of numbers, expected a number"},
        {"{\"name\": \"OneCycleLR\", \"max_lr\": 1, \"total_steps\": 0}", CODEC_INVALID_VALUE,
         "total_steps is 0, expected a whole number >= 1, or null"},
        {"{\"name\": \"OneCycleLR\", \"max_lr\": 1, \"total_steps\": 9, \"three_phase\": 0}",
         CODEC_INVALID_VALUE, "three_phase is a number, expected true or false"},
        {"{\"name\": \"OneCycleLR\", \"max_lr\": 1, \"anneal_strategy\": \"sin\"}",
         CODEC_INVALID_VALUE, "anneal_strategy is 'sin', expected \"cos\" or \"linear\""},
        {"{\"name\": \"OneCycleLR\", \"max_lr\": 1, \"anneal_strategy\": 1}", CODEC_INVALID_VALUE,
         "anneal_strategy is a number"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_refused(*state, cases[i].json, false, cases[i].status, cases[i].message);
    }
}

/* What is wrong inside of a SequentialLR is named by its place. */
static void test_sequence_refused(void **state)
{
    static const struct {
        const char *schedulers;
        codec_status status;
        const char *message;
    } cases[] = {
        {"{}", CODEC_INVALID_VALUE, "schedulers is expected as a list of 1 to 16 schedules"},
        {"[]", CODEC_INVALID_VALUE, "schedulers is expected as a list of 1 to 16 schedules"},
        {"[{\"name\": \"LinearLR\"}, 3]", CODEC_INVALID_VALUE,
         "schedulers[1] of SequentialLR of param group 1 is a number"},
        {"[{\"name\": \"StepLR\"}]", CODEC_INVALID_VALUE,
         "StepLR, schedulers[0] of SequentialLR of param group 1: step_size is missing"},
        {"[{\"name\": \"LinearLR\", \"base_lr\": 1}]", CODEC_UNSUPPORTED_OPTION,
         "base_lr is where"},
        {"[{\"name\": \"SequentialLR\", \"schedulers\": [], \"milestones\": []}]",
         CODEC_INVALID_VALUE, "a SequentialLR cannot stand in another"},
    };
    char json[512];
    for (size_t i = 0; i < COUNT(cases); i++) {
        (void)snprintf(json, sizeof json,
                       "{\"name\": \"SequentialLR\", \"milestones\": [], \"schedulers\": %s}",
                       cases[i].schedulers);
        assert_refused(*state, json, false, cases[i].status, cases[i].message);
    }
    assert_refused(*state, "{\"name\": \"SequentialLR\", \"schedulers\": [{}]}", false,
                   CODEC_INVALID_VALUE, "SequentialLR of param group 1: milestones is missing");
}

/* 16 schedulers are taken, and no more. */
static void test_limit(void **state)
{
    for (int n = ADAM_MAX_SCHEDULERS; n <= ADAM_MAX_SCHEDULERS + 1; n++) {
        char json[2048] = "{\"name\": \"SequentialLR\", \"milestones\": [], \"schedulers\": [";
        buffer *room;
        adam_schedule *schedule;
        codec_error error;
        for (int i = 0; i < n; i++) {
            const size_t length = strlen(json);
            (void)snprintf(json + length, sizeof json - length, "%s{\"name\": \"ConstantLR\"}",
                           i > 0 ? ", " : "");
        }
        strncat(json, "]}", 3);
        if (n > ADAM_MAX_SCHEDULERS) {
            assert_refused(*state, json, false, CODEC_LIMIT, "17 schedulers, expected at most 16");
        } else {
            assert_int_equal(read_text(*state, json, false, &room, &schedule, &error), CODEC_OK);
            assert_int_equal(schedule->n, 1 + n);
            buffer_drop(room);
        }
    }
}

/* A position that is not whole is refused: it would be guessed otherwise. */
static void test_position_refused(void **state)
{
    static const char *const cases[][2] = {
        {"\"StepLR\", \"step_size\": 3", "last_epoch is expected"},
        {"\"StepLR\", \"step_size\": 3, \"last_epoch\": 1.5", "last_epoch is expected"},
        {"\"StepLR\", \"step_size\": 3, \"last_epoch\": -2", "last_epoch is expected"},
        {"\"StepLR\", \"step_size\": 3, \"last_epoch\": null", "last_epoch is expected"},
        {"\"StepLR\", \"step_size\": 3, \"last_epoch\": 1e30", "last_epoch is expected"},
        {"\"CosineAnnealingWarmRestarts\", \"T_0\": 3, \"last_epoch\": 1, \"T_i\": 3",
         "T_cur is missing"},
        {"\"CosineAnnealingWarmRestarts\", \"T_0\": 3, \"last_epoch\": 1, \"T_cur\": 1",
         "T_i is missing"},
        {"\"SequentialLR\", \"milestones\": [], \"schedulers\": [{\"name\": \"LinearLR\", "
         "\"last_epoch\": 0}], \"last_epoch\": 0",
         "LinearLR, schedulers[0] of SequentialLR of param group 1: base_lr is missing"},
    };
    char json[512];
    for (size_t i = 0; i < COUNT(cases); i++) {
        (void)snprintf(json, sizeof json, "{\"name\": %s}", cases[i][0]);
        assert_refused(*state, json, true, CODEC_INVALID_VALUE, cases[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_arguments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_position, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sequence_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_position_refused, setup, teardown),
    };
    return cmocka_run_group_tests_name("codec_schedule", tests, NULL, NULL);
}
