/* test_overrides.c: options that change with a step or between two, amsgrad among them. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Options of both groups as they are now. */
static void options_now(const adam_optimizer *o, adam_options out[2])
{
    for (size_t i = 0; i < 2; i++) {
        out[i] = adam_optimizer_group(o, i).options;
    }
}

static adam_status step_with(adam_optimizer *o, uint64_t seed, const adam_options *groups,
                             adam_error *error)
{
    small_grads g;
    fill_small_grads(&g, seed);
    const adam_step_args args = {.grads = g.tensors, .n_grads = SMALL_PARAMS, .groups = groups};
    return adam_optimizer_step(o, &args, NULL, error);
}

/* Overrides hold for their own step and stay: the same as set_options before it, as when a torch
 * scheduler writes group["lr"]. */
static void test_applied_and_stay(void **state)
{
    (void)state;
    adam_optimizer *with = make_small(NULL);
    adam_optimizer *before = make_small(NULL);
    adam_options groups[2];
    options_now(with, groups);
    groups[0].lr = 0.03;
    groups[0].weight_decay = 0.1;
    groups[1].maximize = true;
    groups[1].betas[0] = 0.4;
    groups[1].fused = ADAM_FLAG_FALSE;
    assert_int_equal(step_with(with, 1, groups, NULL), ADAM_OK);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(adam_optimizer_set_options(before, i, &groups[i], NULL), ADAM_OK);
    }
    step_small(before, 1);
    assert_same(with, before);
    assert_true(adam_optimizer_group(with, 0).options.lr == 0.03);
    step_small(with, 2);
    step_small(before, 2);
    assert_same(with, before);
    adam_optimizer_free(with);
    adam_optimizer_free(before);
}

/* The caller's array is copied when the step is prepared. */
static void test_copied(void **state)
{
    (void)state;
    adam_optimizer *o = make_small(NULL);
    adam_options groups[2];
    small_grads g;
    options_now(o, groups);
    fill_small_grads(&g, 1);
    groups[0].lr = 0.03;
    const adam_step_args args = {.grads = g.tensors, .n_grads = SMALL_PARAMS, .groups = groups};
    adam_step_plan *plan = NULL;
    assert_int_equal(adam_step_prepare(o, &args, &plan, NULL), ADAM_OK);
    groups[0].lr = 99.0;
    adam_step_apply(plan, NULL, NULL);
    assert_true(adam_optimizer_group(o, 0).options.lr == 0.03);
    adam_optimizer_free(o);
}

/* One wrong group among the overrides refuses the whole step and changes nothing in any group. */
static void test_wrong(void **state)
{
    (void)state;
    heap h = {0};
    const adam_allocator allocator = heap_allocator(&h);
    adam_optimizer *o = make_small(&allocator);
    const size_t live = h.live_blocks;
    adam_options groups[2];
    adam_error error;
    options_now(o, groups);
    groups[0].lr = 0.03;
    groups[0].amsgrad = true; /* its block is given back */
    groups[1].eps = -1.0;
    const image before = image_take(o);
    assert_int_equal(step_with(o, 1, groups, &error), ADAM_INVALID_OPTION);
    assert_non_null(strstr(error.message, "eps"));
    groups[1].eps = NAN;
    assert_int_equal(step_with(o, 1, groups, NULL), ADAM_INVALID_OPTION);
    assert_unchanged(before, o);
    assert_int_equal(h.live_blocks, live);
    adam_optimizer_free(o);
}

/* Where a schedule has taken lr below 0, the other options can be changed all the same, and lr to
 * what it may be; the schedule goes only together with such an lr. torch looks at no range there.
 */
static void test_below_zero(void **state)
{
    (void)state;
    adam_optimizer *o = make_small(NULL);
    adam_schedule *s = calloc(1, adam_schedule_bytes_of(1));
    adam_options groups[2];
    adam_error error;
    assert_non_null(s);
    s->n = 1;
    adam_scheduler_default(ADAM_ONE_CYCLE_LR, &s->at[0]);
    s->at[0].one_cycle.max_lr = 0.1;
    s->at[0].one_cycle.total_steps = 3;
    s->at[0].one_cycle.anneal_strategy = ADAM_ANNEAL_LINEAR;
    options_now(o, groups);
    assert_int_equal(adam_optimizer_set_schedule(o, 0, &groups[0], s, &error), ADAM_OK);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        step_small(o, seed);
    }
    options_now(o, groups);
    assert_true(groups[0].lr < 0.0);
    groups[0].eps = 0.5;
    assert_int_equal(adam_optimizer_set_options(o, 0, &groups[0], &error), ADAM_OK);
    assert_true(adam_optimizer_group(o, 0).options.eps == 0.5);
    const image before = image_take(o);
    assert_int_equal(adam_optimizer_set_schedule(o, 0, &groups[0], NULL, &error),
                     ADAM_INVALID_OPTION);
    groups[0].lr /= 2.0;
    assert_int_equal(adam_optimizer_set_options(o, 0, &groups[0], &error), ADAM_INVALID_OPTION);
    assert_unchanged(before, o);
    groups[0].lr = 0.01;
    assert_int_equal(adam_optimizer_set_schedule(o, 0, &groups[0], NULL, &error), ADAM_OK);
    free(s);
    adam_optimizer_free(o);
}

/* Good overrides beside a bad gradient change nothing either. */
static void test_bad_gradient(void **state)
{
    (void)state;
    adam_optimizer *o = make_small(NULL);
    adam_options groups[2];
    small_grads g;
    options_now(o, groups);
    fill_small_grads(&g, 1);
    g.c[0] = INFINITY;
    groups[0].lr = 0.03;
    groups[0].amsgrad = true;
    const adam_step_args args = {.grads = g.tensors, .n_grads = SMALL_PARAMS, .groups = groups};
    const image before = image_take(o);
    assert_int_equal(adam_optimizer_step(o, &args, NULL, NULL), ADAM_NON_FINITE);
    assert_unchanged(before, o);
    adam_optimizer_free(o);
}

/* amsgrad may be switched on until the first step, by set_options or with that step itself; it is
 * then as if it had been on from the start. */
static void test_amsgrad_on_before_first_step(void **state)
{
    (void)state;
    adam_optimizer *set = make_small(NULL);
    adam_optimizer *with = make_small(NULL);
    adam_options groups[2];
    options_now(set, groups);
    groups[0].amsgrad = true;
    assert_int_equal(adam_optimizer_set_options(set, 0, &groups[0], NULL), ADAM_OK);
    assert_non_null(adam_optimizer_param(set, 0).max_exp_avg_sq);
    assert_non_null(adam_optimizer_param(set, 1).max_exp_avg_sq);
    step_small(set, 1);
    assert_int_equal(step_with(with, 1, groups, NULL), ADAM_OK);
    assert_same(set, with);
    const adam_param_view a = adam_optimizer_param(set, 0);
    assert_memory_equal(a.max_exp_avg_sq, a.exp_avg_sq, 3 * sizeof(float)); /* the first maximum */
    adam_optimizer_free(set);
    adam_optimizer_free(with);
}

/* After a step without it there is no maximum to go on from: torch raises KeyError, here it is
 * refused. A group whose parameters have not stepped may still have it. */
static void test_amsgrad_on_too_late(void **state)
{
    (void)state;
    adam_optimizer *o = make_small(NULL);
    adam_options groups[2];
    adam_error error;
    small_grads g;
    options_now(o, groups);
    groups[0].amsgrad = true;
    fill_small_grads(&g, 1);
    const adam_step_args only_c = {.grads = &g.tensors[2], .n_grads = 1};
    assert_int_equal(adam_optimizer_step(o, &only_c, NULL, NULL), ADAM_OK);
    assert_int_equal(adam_optimizer_set_options(o, 0, &groups[0], NULL), ADAM_OK);
    groups[0].amsgrad = false;
    assert_int_equal(adam_optimizer_set_options(o, 0, &groups[0], NULL), ADAM_OK);
    adam_optimizer_free(o);

    o = make_small(NULL);
    const adam_step_args only_b = {.grads = &g.tensors[1], .n_grads = 1};
    assert_int_equal(adam_optimizer_step(o, &only_b, NULL, NULL), ADAM_OK);
    groups[0].amsgrad = true;
    const image before = image_take(o);
    assert_int_equal(adam_optimizer_set_options(o, 0, &groups[0], &error), ADAM_STATE_MISMATCH);
    assert_string_equal(error.param, "b");
    assert_int_equal(step_with(o, 2, groups, &error), ADAM_STATE_MISMATCH);
    assert_string_equal(error.param, "b");
    assert_unchanged(before, o);
    adam_optimizer_free(o);
}

/* Switched off, the maximum stays and rests; switched on again, it goes on from where it was. As
 * torch, whose state keeps the key. */
static void test_amsgrad_off_and_on(void **state)
{
    (void)state;
    adam_optimizer *o = make_small(NULL);
    adam_options options = adam_optimizer_group(o, 1).options;
    step_small(o, 1);
    const float rest = *(const float *)adam_optimizer_param(o, 2).max_exp_avg_sq;
    options.amsgrad = false;
    assert_int_equal(adam_optimizer_set_options(o, 1, &options, NULL), ADAM_OK);
    step_small(o, 2);
    assert_true(*(const float *)adam_optimizer_param(o, 2).max_exp_avg_sq == rest);
    options.amsgrad = true;
    assert_int_equal(adam_optimizer_set_options(o, 1, &options, NULL), ADAM_OK);
    step_small(o, 3);
    const adam_param_view c = adam_optimizer_param(o, 2);
    const float now = *(const float *)c.exp_avg_sq;
    assert_true(*(const float *)c.max_exp_avg_sq == (now > rest ? now : rest));
    adam_optimizer_free(o);
}

/* A parameter whose first step comes while amsgrad rests has no maximum from then on, whatever the
 * others of its group have: torch raises KeyError for it. */
static void test_amsgrad_rests_at_first_step(void **state)
{
    (void)state;
    adam_optimizer *o = make_small(NULL);
    adam_options groups[2];
    adam_error error;
    small_grads g;
    fill_small_grads(&g, 1);
    const adam_step_args only_c = {.grads = &g.tensors[2], .n_grads = 1};
    assert_int_equal(adam_optimizer_step(o, &only_c, NULL, NULL), ADAM_OK);
    options_now(o, groups);
    groups[1].amsgrad = false;
    assert_int_equal(adam_optimizer_set_options(o, 1, &groups[1], NULL), ADAM_OK);
    assert_null(adam_optimizer_param(o, 3).max_exp_avg_sq);
    step_small(o, 2); /* the first of "d" */
    assert_non_null(adam_optimizer_param(o, 2).max_exp_avg_sq);
    assert_null(adam_optimizer_param(o, 3).max_exp_avg_sq);
    groups[1].amsgrad = true;
    const image before = image_take(o);
    assert_int_equal(adam_optimizer_set_options(o, 1, &groups[1], &error), ADAM_STATE_MISMATCH);
    assert_string_equal(error.param, "d");
    assert_int_equal(step_with(o, 3, groups, &error), ADAM_STATE_MISMATCH);
    assert_unchanged(before, o);
    adam_optimizer_free(o);
}

/* The maximum never falls: a small gradient after a large one is divided by the large one's root.
 */
static void test_amsgrad_maximum(void **state)
{
    (void)state;
    adam_optimizer *o = make_small(NULL);
    float grads[] = {8.0F, 0.0F, 0.0F, 0.0F};
    float largest = 0.0F;
    for (size_t i = 0; i < COUNT(grads); i++) {
        adam_tensor grad = shaped("c", 0, NULL);
        grad.data = &grads[i];
        const adam_step_args args = {.grads = &grad, .n_grads = 1};
        assert_int_equal(adam_optimizer_step(o, &args, NULL, NULL), ADAM_OK);
        const adam_param_view c = adam_optimizer_param(o, 2);
        const float max = *(const float *)c.max_exp_avg_sq;
        largest = i == 0 ? max : largest;
        assert_true(max == largest);
        assert_true(i == 0 || *(const float *)c.exp_avg_sq < max);
    }
    adam_optimizer_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_applied_and_stay),
        cmocka_unit_test(test_copied),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_below_zero),
        cmocka_unit_test(test_bad_gradient),
        cmocka_unit_test(test_amsgrad_on_before_first_step),
        cmocka_unit_test(test_amsgrad_on_too_late),
        cmocka_unit_test(test_amsgrad_off_and_on),
        cmocka_unit_test(test_amsgrad_rests_at_first_step),
        cmocka_unit_test(test_amsgrad_maximum),
    };
    return cmocka_run_group_tests_name("overrides", tests, NULL, NULL);
}
