/* test_step_schedule.c: schedules of groups, moved by the optimizer's steps. How rates move is held
 * to torch by tests/golden/test_schedules.c. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Room for a schedule of one scheduler. */
typedef union single {
    adam_schedule schedule;
    unsigned char bytes[sizeof(adam_schedule) + sizeof(adam_scheduler)];
} single;

static const adam_schedule *halving(single *s, uint64_t every)
{
    memset(s, 0, sizeof *s);
    s->schedule.n = 1;
    adam_scheduler_default(ADAM_STEP_LR, &s->schedule.at[0]);
    s->schedule.at[0].step.step_size = every;
    s->schedule.at[0].step.gamma = 0.5;
    return &s->schedule;
}

static const adam_schedule *one_cycle(single *s, uint64_t total)
{
    memset(s, 0, sizeof *s);
    s->schedule.n = 1;
    adam_scheduler_default(ADAM_ONE_CYCLE_LR, &s->schedule.at[0]);
    s->schedule.at[0].one_cycle.max_lr = 0.5;
    s->schedule.at[0].one_cycle.total_steps = total;
    return &s->schedule;
}

static void set_schedule(adam_optimizer *o, size_t group, const adam_schedule *schedule)
{
    adam_error error;
    const adam_options options = adam_optimizer_group(o, group).options;
    if (adam_optimizer_set_schedule(o, group, &options, schedule, &error) != ADAM_OK) {
        fail_msg("set_schedule: %s", error.message);
    }
}

static void assert_lr(const adam_optimizer *o, size_t group, double lr)
{
    const double got = adam_optimizer_group(o, group).options.lr;
    if (!(got >= lr && got <= lr)) {
        fail_msg("lr of group %zu is %.17g, expected %.17g", group, got, lr);
    }
}

static adam_status step_with(adam_optimizer *o, const adam_options *overrides,
                             adam_nonfinite nonfinite, bool bad, adam_error *error)
{
    small_grads g;
    fill_small_grads(&g, 7);
    g.a[1] = bad ? NAN : g.a[1];
    adam_grad_options options;
    adam_grad_options_default(&options);
    options.nonfinite = nonfinite;
    const adam_step_args args = {
        .grads = g.tensors, .n_grads = SMALL_PARAMS, .groups = overrides, .grad_options = &options};
    return adam_optimizer_step(o, &args, NULL, error);
}

/* Once a step, after it: the step itself uses the rate from before. Each group has its own; a group
 * without a gradient moves as well, since torch's scheduler knows nothing of gradients. */
static void test_once_a_step(void **state)
{
    (void)state;
    single s;
    adam_optimizer *o = make_small(NULL);
    adam_optimizer *twin = make_small(NULL);
    set_schedule(o, 1, halving(&s, 2));
    const double rates[] = {0.1, 0.1, 0.05, 0.05, 0.025};
    for (size_t i = 0; i < COUNT(rates); i++) {
        assert_lr(o, 0, 0.1);
        assert_lr(o, 1, rates[i]);
        assert_int_equal(adam_optimizer_group(o, 1).schedule->at[0].last_epoch, i);
        adam_options by_hand = adam_optimizer_group(twin, 1).options;
        by_hand.lr = rates[i];
        assert_int_equal(adam_optimizer_set_options(twin, 1, &by_hand, NULL), ADAM_OK);
        step_small(o, i);
        step_small(twin, i);
        for (size_t k = 0; k < SMALL_PARAMS; k++) {
            const adam_param_view a = adam_optimizer_param(o, k);
            assert_memory_equal(a.tensor.data, adam_optimizer_param(twin, k).tensor.data,
                                a.numel * adam_dtype_size(a.tensor.dtype));
        }
    }
    small_grads g;
    fill_small_grads(&g, 9);
    const adam_step_args only_a = {.grads = g.tensors, .n_grads = 1};
    assert_lr(o, 1, 0.025);
    assert_int_equal(adam_optimizer_step(o, &only_a, NULL, NULL), ADAM_OK);
    assert_lr(o, 1, 0.0125);
    adam_optimizer_free(o);
    adam_optimizer_free(twin);
}

/* Not where the step was skipped, refused or discarded. */
static void test_not_a_step(void **state)
{
    (void)state;
    single s;
    adam_optimizer *o = make_small(NULL);
    set_schedule(o, 0, halving(&s, 1));
    const image before = image_take(o);
    assert_int_equal(step_with(o, NULL, ADAM_NONFINITE_SKIP, true, NULL), ADAM_OK);
    assert_int_equal(adam_optimizer_skipped_count(o), 1);
    assert_int_equal(step_with(o, NULL, ADAM_NONFINITE_ERROR, true, NULL), ADAM_NON_FINITE);
    small_grads g;
    fill_small_grads(&g, 9);
    adam_step_plan *plan = NULL;
    const adam_step_args args = {.grads = g.tensors, .n_grads = SMALL_PARAMS};
    assert_int_equal(adam_step_prepare(o, &args, &plan, NULL), ADAM_OK);
    adam_step_discard(plan);
    assert_unchanged(before, o);
    assert_int_equal(step_with(o, NULL, ADAM_NONFINITE_APPLY, true, NULL), ADAM_OK);
    assert_lr(o, 0, 0.05);
    adam_optimizer_free(o);
}

/* An lr that comes with the step is used by it, and the schedule goes on from there. */
static void test_override(void **state)
{
    (void)state;
    single s;
    adam_optimizer *o = make_small(NULL);
    set_schedule(o, 0, halving(&s, 1));
    adam_options overrides[2] = {adam_optimizer_group(o, 0).options,
                                 adam_optimizer_group(o, 1).options};
    overrides[0].lr = 8.0;
    assert_int_equal(step_with(o, overrides, ADAM_NONFINITE_ERROR, false, NULL), ADAM_OK);
    assert_lr(o, 0, 4.0);
    adam_options by_hand = overrides[0];
    by_hand.lr = 3.0;
    assert_int_equal(adam_optimizer_set_options(o, 0, &by_hand, NULL), ADAM_OK);
    assert_non_null(adam_optimizer_group(o, 0).schedule);
    step_small(o, 1);
    assert_lr(o, 0, 1.5);
    adam_optimizer_free(o);
}

/* Past its end (torch raises) the step is refused and nothing has changed, in whichever group. */
static void test_ended(void **state)
{
    (void)state;
    single s;
    adam_optimizer *o = make_small(NULL);
    set_schedule(o, 1, one_cycle(&s, 3));
    step_small(o, 1);
    step_small(o, 2);
    step_small(o, 3); /* torch's fourth scheduler.step() raises */
    for (int i = 0; i < 3; i++) {
        adam_error error = {0};
        const image before = image_take(o);
        const adam_status st = step_with(o, NULL, (adam_nonfinite)i, false, &error);
        assert_int_equal(st, ADAM_SCHEDULE_ENDED);
        assert_int_equal(error.status, ADAM_SCHEDULE_ENDED);
        assert_non_null(strstr(error.message, "OneCycleLR"));
        assert_unchanged(before, o);
    }
    set_schedule(o, 1, NULL);
    step_small(o, 4);
    adam_optimizer_free(o);
}

/* A step that would leave an infinite rate behind, which no state_dict takes back, is refused; and
 * so is a schedule that begins with one. */
static void test_infinite(void **state)
{
    (void)state;
    single s;
    adam_error error = {0};
    adam_optimizer *o = make_small(NULL);
    halving(&s, 1);
    s.schedule.at[0].step.gamma = 1e300;
    set_schedule(o, 0, &s.schedule);
    step_small(o, 1);
    const image before = image_take(o);
    assert_int_equal(step_with(o, NULL, ADAM_NONFINITE_ERROR, false, &error), ADAM_SCHEDULE_ENDED);
    assert_non_null(strstr(error.message, "param group 0: the learning rate after this step"));
    adam_scheduler_default(ADAM_COSINE_ANNEALING_WARM_RESTARTS, &s.schedule.at[0]);
    s.schedule.at[0].warm_restarts.T_0 = 10;
    adam_options options = adam_optimizer_group(o, 0).options;
    options.lr = 1e308;
    assert_int_equal(adam_optimizer_set_schedule(o, 0, &options, &s.schedule, &error),
                     ADAM_INVALID_SCHEDULE);
    assert_unchanged(before, o);
    options.lr = 1.0;
    assert_int_equal(adam_optimizer_set_options(o, 0, &options, NULL), ADAM_OK);
    adam_optimizer_free(o);
}

/* set_schedule: options and schedule change together or not at all; a new one starts anew; none
 * leaves the rate where it is. */
static void test_set(void **state)
{
    (void)state;
    single s;
    adam_optimizer *o = make_small(NULL);
    adam_options options = adam_optimizer_group(o, 0).options;
    adam_error error = {0};
    options.lr = 0.75;
    image before = image_take(o);
    (void)halving(&s, 0); /* step_size is at least 1 */
    assert_int_equal(adam_optimizer_set_schedule(o, 0, &options, &s.schedule, &error),
                     ADAM_INVALID_SCHEDULE);
    assert_non_null(strstr(error.message, "step_size"));
    assert_int_equal(adam_optimizer_set_schedule(o, 9, &options, halving(&s, 1), &error),
                     ADAM_NO_SUCH_GROUP);
    options.lr = -1;
    assert_int_equal(adam_optimizer_set_schedule(o, 0, &options, halving(&s, 1), &error),
                     ADAM_INVALID_OPTION);
    assert_unchanged(before, o);
    step_small(o, 1);
    before = image_take(o);
    options.lr = 0.75;
    options.amsgrad = true; /* cannot be switched on any more */
    assert_int_equal(adam_optimizer_set_schedule(o, 0, &options, halving(&s, 1), &error),
                     ADAM_STATE_MISMATCH);
    assert_unchanged(before, o);
    options.amsgrad = false;
    s.schedule.at[0].last_epoch = 5; /* its position is ignored */
    s.schedule.initial_lr = 99;
    assert_int_equal(adam_optimizer_set_schedule(o, 0, &options, &s.schedule, &error), ADAM_OK);
    const adam_schedule *now = adam_optimizer_group(o, 0).schedule;
    assert_lr(o, 0, 0.75);
    assert_int_equal(now->at[0].last_epoch, 0);
    assert_true(now->initial_lr > 0.74 && now->initial_lr < 0.76);
    step_small(o, 2);
    options.lr = adam_optimizer_group(o, 0).options.lr;
    assert_int_equal(adam_optimizer_set_schedule(o, 0, &options, NULL, &error), ADAM_OK);
    assert_null(adam_optimizer_group(o, 0).schedule);
    assert_lr(o, 0, 0.375);
    step_small(o, 3);
    assert_lr(o, 0, 0.375);
    adam_optimizer_free(o);
}

/* At creation and with an added group; a OneCycleLR sets the rate and beta1 of the first step. */
static void test_create(void **state)
{
    (void)state;
    single s;
    const adam_tensor w = vector_of("w", ADAM_FLOAT32, 2, NULL);
    const adam_tensor x = vector_of("x", ADAM_FLOAT32, 2, NULL);
    adam_group_spec spec = {.schedule = halving(&s, 1), .params = &w, .n_params = 1};
    adam_options_default(ADAM_ALGORITHM_ADAM, &spec.options);
    adam_optimizer *o = NULL;
    adam_error error = {0};
    s.schedule.at[0].step.gamma = -1;
    assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAM, &spec, 1, NULL, &o, &error),
                     ADAM_INVALID_SCHEDULE);
    s.schedule.at[0].step.gamma = 0.5;
    assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAM, &spec, 1, NULL, &o, NULL), ADAM_OK);
    spec.params = &x;
    const image before = image_take(o);
    spec.schedule = one_cycle(&s, 0);
    assert_int_equal(adam_optimizer_add_group(o, &spec, &error), ADAM_INVALID_SCHEDULE);
    assert_unchanged(before, o);
    spec.schedule = one_cycle(&s, 10);
    assert_int_equal(adam_optimizer_add_group(o, &spec, NULL), ADAM_OK);
    assert_lr(o, 0, 0.001);
    assert_true(fabs(adam_optimizer_group(o, 1).options.lr - 0.5 / 25.0) < 1e-15);
    assert_true(adam_optimizer_group(o, 1).options.betas[0] > 0.949);
    float g[2] = {1, 1};
    const adam_tensor grad = vector_of("w", ADAM_FLOAT32, 2, g);
    const adam_step_args args = {.grads = &grad, .n_grads = 1};
    assert_int_equal(adam_optimizer_step(o, &args, NULL, NULL), ADAM_OK);
    assert_lr(o, 0, 0.0005);
    assert_true(adam_optimizer_group(o, 1).options.lr > 0.021);
    adam_optimizer_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_once_a_step), cmocka_unit_test(test_not_a_step),
        cmocka_unit_test(test_override),    cmocka_unit_test(test_ended),
        cmocka_unit_test(test_infinite),    cmocka_unit_test(test_set),
        cmocka_unit_test(test_create),
    };
    return cmocka_run_group_tests_name("step_schedule", tests, NULL, NULL);
}
