/* test_schedule.c: learning-rate schedules: what is refused, and where one ends. Their bits are
 * held to torch's by tests/golden/test_schedules.c. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Room for a schedule of any size. */
typedef union room {
    adam_schedule schedule;
    unsigned char bytes[sizeof(adam_schedule) + (2 + ADAM_MAX_SCHEDULERS) * sizeof(adam_scheduler)];
} room;

/* A scheduler with torch's defaults, and a value for what has none. */
static adam_scheduler one(adam_scheduler_kind kind)
{
    adam_scheduler s;
    adam_scheduler_default(kind, &s);
    switch (kind) {
    case ADAM_STEP_LR: s.step.step_size = 30; break;
    case ADAM_EXPONENTIAL_LR: s.exponential.gamma = 0.9; break;
    case ADAM_COSINE_ANNEALING_LR: s.cosine.T_max = 10; break;
    case ADAM_COSINE_ANNEALING_WARM_RESTARTS: s.warm_restarts.T_0 = 10; break;
    case ADAM_ONE_CYCLE_LR:
        s.one_cycle.max_lr = 0.1;
        s.one_cycle.total_steps = 10;
        break;
    default: break;
    }
    return s;
}

static adam_schedule *put(room *r, adam_scheduler s)
{
    memset(r, 0, sizeof *r);
    r->schedule.n = 1;
    r->schedule.at[0] = s;
    adam_schedule_rewind(&r->schedule);
    return &r->schedule;
}

/* A SequentialLR, each of its schedulers 5 steps after the one before. */
static adam_schedule *put_sequence(room *r, const adam_scheduler *children, size_t n)
{
    memset(r, 0, sizeof *r);
    adam_schedule *schedule = &r->schedule;
    adam_scheduler_default(ADAM_SEQUENTIAL_LR, &schedule->at[0]);
    schedule->n = 1 + n;
    for (size_t i = 0; i < n; i++) {
        schedule->at[1 + i] = children[i];
        if (i > 0 && i < ADAM_MAX_SCHEDULERS) {
            schedule->at[0].sequential.milestones[i - 1] = 5 * i;
            schedule->at[0].sequential.n_milestones = i;
        }
    }
    adam_schedule_rewind(schedule);
    return schedule;
}

static adam_options start(adam_schedule *schedule)
{
    adam_options options;
    adam_error error;
    adam_options_default(ADAM_ALGORITHM_ADAM, &options);
    options.lr = 0.1;
    if (adam_schedule_check(schedule, &error) != ADAM_OK) {
        fail_msg("%s", error.message);
    }
    adam_schedule_start(schedule, &options);
    assert_int_equal(adam_schedule_check(schedule, NULL), ADAM_OK);
    return options;
}

static void assert_refused(const adam_schedule *schedule, const char *text)
{
    adam_error error;
    memset(&error, 0xff, sizeof error);
    if (adam_schedule_check(schedule, &error) != ADAM_INVALID_SCHEDULE) {
        fail_msg("taken, though %s", text);
    }
    assert_int_equal(error.status, ADAM_INVALID_SCHEDULE);
    if (strstr(error.message, text) == NULL) {
        fail_msg("'%s' does not say '%s'", error.message, text);
    }
    assert_false(error.has_index || error.has_shapes);
    assert_int_equal(adam_schedule_check(schedule, NULL), ADAM_INVALID_SCHEDULE);
}

/* The steps that a schedule takes until it refuses one, saying `text`. */
static int steps_until_ended(adam_schedule *schedule, const char *text)
{
    adam_options options = start(schedule);
    adam_error error;
    int steps = 0;
    while (adam_schedule_can_step(schedule, &error) == ADAM_OK) {
        assert_true(steps < 1000);
        adam_schedule_step(schedule, &options);
        steps++;
    }
    assert_int_equal(error.status, ADAM_SCHEDULE_ENDED);
    if (strstr(error.message, text) == NULL) {
        fail_msg("'%s' does not say '%s'", error.message, text);
    }
    assert_int_equal(adam_schedule_can_step(schedule, NULL), ADAM_SCHEDULE_ENDED);
    return steps;
}

/* Each kind has torch's name; what torch has no default for must be given. */
static void test_kinds(void **state)
{
    static const char *const missing[ADAM_SCHEDULER_KINDS] = {
        [ADAM_STEP_LR] = "step_size",         [ADAM_EXPONENTIAL_LR] = "gamma",
        [ADAM_COSINE_ANNEALING_LR] = "T_max", [ADAM_COSINE_ANNEALING_WARM_RESTARTS] = "T_0",
        [ADAM_ONE_CYCLE_LR] = "max_lr",       [ADAM_SEQUENTIAL_LR] = "0 schedulers",
    };
    room r;
    (void)state;
    for (int k = 0; k < ADAM_SCHEDULER_KINDS; k++) {
        const adam_scheduler_kind kind = (adam_scheduler_kind)k;
        adam_scheduler s;
        adam_scheduler_default(kind, &s);
        assert_int_equal(s.kind, kind);
        put(&r, s);
        if (missing[k] != NULL) {
            assert_refused(&r.schedule, missing[k]);
            assert_refused(&r.schedule, adam_scheduler_name(kind));
        } else {
            (void)start(&r.schedule);
        }
    }
    assert_string_equal(adam_scheduler_name(ADAM_STEP_LR), "StepLR");
    put(&r, one(ADAM_STEP_LR))->at[0].kind = ADAM_SCHEDULER_KINDS;
    assert_refused(&r.schedule, "no such kind");
}

/* Numbers outside of what torch takes, or that make torch divide by zero, and non-finite ones. */
static void test_numbers(void **state)
{
    static const struct {
        adam_scheduler_kind kind;
        const char *name;
        size_t offset;
        double wrong[4];
    } cases[] = {
#define AT(member) offsetof(adam_scheduler, member)
        {ADAM_CONSTANT_LR, "factor", AT(constant.factor), {-0.1, 1.1, NAN, INFINITY}},
        {ADAM_LINEAR_LR, "start_factor", AT(linear.start_factor), {0, 1.1, NAN, -1}},
        {ADAM_LINEAR_LR, "end_factor", AT(linear.end_factor), {-0.1, 1.1, NAN, INFINITY}},
        {ADAM_STEP_LR, "gamma", AT(step.gamma), {-0.1, -INFINITY, NAN, INFINITY}},
        {ADAM_MULTI_STEP_LR, "gamma", AT(multi_step.gamma), {-0.1, -INFINITY, NAN, INFINITY}},
        {ADAM_EXPONENTIAL_LR, "gamma", AT(exponential.gamma), {-0.1, -INFINITY, NAN, INFINITY}},
        {ADAM_POLYNOMIAL_LR, "power", AT(polynomial.power), {NAN, -INFINITY, NAN, INFINITY}},
        {ADAM_COSINE_ANNEALING_LR, "eta_min", AT(cosine.eta_min), {-1e-9, NAN, INFINITY, -1}},
        {ADAM_COSINE_ANNEALING_WARM_RESTARTS,
         "eta_min",
         AT(warm_restarts.eta_min),
         {-1e-9, NAN, INFINITY, -1}},
        {ADAM_ONE_CYCLE_LR, "max_lr", AT(one_cycle.max_lr), {-0.1, NAN, INFINITY, -1}},
        {ADAM_ONE_CYCLE_LR, "pct_start", AT(one_cycle.pct_start), {-0.1, 1.1, NAN, INFINITY}},
        {ADAM_ONE_CYCLE_LR, "base_momentum", AT(one_cycle.base_momentum), {-0.1, 1, NAN, INFINITY}},
        {ADAM_ONE_CYCLE_LR, "max_momentum", AT(one_cycle.max_momentum), {-0.1, 1, NAN, INFINITY}},
        {ADAM_ONE_CYCLE_LR, "div_factor", AT(one_cycle.div_factor), {0, -1, NAN, INFINITY}},
        {ADAM_ONE_CYCLE_LR,
         "final_div_factor",
         AT(one_cycle.final_div_factor),
         {0, -1, NAN, 1e-320}},
    };
    room r;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int k = 0; k < 4; k++) {
            put(&r, one(cases[i].kind));
            memcpy((char *)&r.schedule.at[0] + cases[i].offset, &cases[i].wrong[k], sizeof(double));
            assert_refused(&r.schedule, cases[i].name);
            assert_refused(&r.schedule, adam_scheduler_name(cases[i].kind));
        }
    }
    put(&r, one(ADAM_STEP_LR))->initial_lr = NAN;
    assert_refused(&r.schedule, "initial_lr");
}

/* Counts of 0 where torch divides by them, and counts over the limit. */
static void test_counts(void **state)
{
    static const struct {
        adam_scheduler_kind kind;
        const char *name;
        size_t offset;
        uint64_t least, most;
    } cases[] = {
        {ADAM_CONSTANT_LR, "total_iters", AT(constant.total_iters), 0, ADAM_MAX_SCHEDULE_STEP},
        {ADAM_LINEAR_LR, "total_iters", AT(linear.total_iters), 0, ADAM_MAX_SCHEDULE_STEP},
        {ADAM_STEP_LR, "step_size", AT(step.step_size), 1, ADAM_MAX_SCHEDULE_STEP},
        {ADAM_POLYNOMIAL_LR, "total_iters", AT(polynomial.total_iters), 0, ADAM_MAX_SCHEDULE_STEP},
        {ADAM_COSINE_ANNEALING_LR, "T_max", AT(cosine.T_max), 1, ADAM_MAX_SCHEDULE_STEP},
        {ADAM_COSINE_ANNEALING_WARM_RESTARTS, "T_0", AT(warm_restarts.T_0), 1,
         ADAM_MAX_SCHEDULE_STEP},
        {ADAM_COSINE_ANNEALING_WARM_RESTARTS, "T_mult", AT(warm_restarts.T_mult), 1,
         ADAM_MAX_T_MULT},
        {ADAM_ONE_CYCLE_LR, "total_steps", AT(one_cycle.total_steps), 1, ADAM_MAX_SCHEDULE_STEP},
#undef AT
    };
    room r;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const uint64_t values[4] = {cases[i].least, cases[i].most, cases[i].most + 1,
                                    cases[i].least - 1};
        for (int k = 0; k < (cases[i].least > 0 ? 4 : 3); k++) {
            put(&r, one(cases[i].kind));
            memcpy((char *)&r.schedule.at[0] + cases[i].offset, &values[k], sizeof values[k]);
            adam_schedule_rewind(&r.schedule);
            if (k < 2) {
                (void)start(&r.schedule);
            } else {
                assert_refused(&r.schedule, cases[i].name);
            }
        }
    }
}

/* A MultiStepLR at its limit, past it, and with a power of gamma at which torch overflows. */
static void test_milestones(void **state)
{
    room r;
    adam_scheduler s = one(ADAM_MULTI_STEP_LR);
    (void)state;
    s.multi_step.n_milestones = ADAM_MAX_MILESTONES;
    s.multi_step.milestones[3] = ADAM_MAX_SCHEDULE_STEP;
    (void)start(put(&r, s));
    s.multi_step.gamma = 1e6; /* 63 milestones are 0 */
    assert_refused(put(&r, s), "stands 63 times");
    s.multi_step.gamma = 0.5;
    s.multi_step.milestones[3]++;
    assert_refused(put(&r, s), "milestones[3]");
    s.multi_step.n_milestones = ADAM_MAX_MILESTONES + 1;
    assert_refused(put(&r, s), "at most 64");
}

/* OneCycleLR's length is given one way, and its phases are of some length. */
static void test_one_cycle(void **state)
{
    room r;
    adam_scheduler s = one(ADAM_ONE_CYCLE_LR);
    (void)state;
    s.one_cycle.epochs = 2;
    assert_refused(put(&r, s), "either total_steps");
    s.one_cycle.total_steps = 0;
    assert_refused(put(&r, s), "either total_steps");
    s.one_cycle.steps_per_epoch = 5;
    (void)start(put(&r, s));
    s.one_cycle.total_steps = 10;
    assert_refused(put(&r, s), "either total_steps");
    s.one_cycle.total_steps = 0;
    s.one_cycle.epochs = ADAM_MAX_SCHEDULE_STEP;
    assert_refused(put(&r, s), "steps_per_epoch 5");
    s = one(ADAM_ONE_CYCLE_LR);
    s.one_cycle.pct_start = 0.1;
    assert_refused(put(&r, s), "pct_start");
    s.one_cycle.anneal_strategy = (adam_anneal)2;
    assert_refused(put(&r, s), "anneal_strategy");
}

/* A SequentialLR: how many, how many milestones, which ones. */
static void test_sequence(void **state)
{
    room r;
    adam_scheduler children[ADAM_MAX_SCHEDULERS + 1];
    (void)state;
    for (size_t i = 0; i <= ADAM_MAX_SCHEDULERS; i++) {
        children[i] = one((adam_scheduler_kind)(i % ADAM_SEQUENTIAL_LR));
    }
    for (size_t n = 1; n <= ADAM_MAX_SCHEDULERS; n++) {
        (void)start(put_sequence(&r, children, n));
        assert_int_equal(adam_schedule_bytes(&r.schedule), adam_schedule_bytes_of(1 + n));
    }
    assert_refused(put_sequence(&r, children, ADAM_MAX_SCHEDULERS + 1), "17 schedulers");
    put_sequence(&r, children, 3)->at[0].sequential.n_milestones = 1;
    assert_refused(&r.schedule, "1 milestones for 3 schedulers");
    put_sequence(&r, children, 3)->at[0].sequential.milestones[1] = ADAM_MAX_SCHEDULE_STEP + 1;
    assert_refused(&r.schedule, "milestones[1]");
    put_sequence(&r, children, 3)->at[3].step.step_size = 0;
    assert_refused(&r.schedule, "SequentialLR: schedulers[2], StepLR: step_size is 0");
    put_sequence(&r, children, 3)->at[2].linear.total_iters = 0;
    assert_refused(&r.schedule, "schedulers[1], LinearLR: total_iters is 0");
    put_sequence(&r, children, 3)->at[1] = one(ADAM_SEQUENTIAL_LR);
    assert_refused(&r.schedule, "cannot stand in another");
    put_sequence(&r, children, 3)->at[2].base_lr = NAN;
    assert_refused(&r.schedule, "base_lr");
    put(&r, children[0])->n = 2;
    assert_refused(&r.schedule, "expected 1");
    r.schedule.n = 0;
    assert_refused(&r.schedule, "without a scheduler");
}

/* Milestones that no schedulers belong to: rewinding, which comes before the check, must not take
 * them for places. The schedule lies in memory of its own, where a sanitizer sees it. */
static void test_too_many_milestones(void **state)
{
    const size_t bytes = adam_schedule_bytes_of(2);
    adam_schedule *schedule = calloc(1, bytes);
    (void)state;
    assert_non_null(schedule);
    schedule->n = 2;
    adam_scheduler_default(ADAM_SEQUENTIAL_LR, &schedule->at[0]);
    schedule->at[1] = one(ADAM_STEP_LR);
    for (size_t n = 1; n < 1000; n = n * 2 + 1) {
        schedule->at[0].sequential.n_milestones = n;
        adam_schedule_rewind(schedule);
        assert_refused(schedule, "milestones for 1 schedulers, expected one less");
    }
    free(schedule);
}

/* A position that steps cannot lead to is refused. */
static void test_positions(void **state)
{
    room r;
    adam_schedule *s = put(&r, one(ADAM_STEP_LR));
    (void)state;
    s->at[0].last_epoch = -1;
    assert_refused(s, "last_epoch is -1");
    s->at[0].last_epoch = (int64_t)ADAM_MAX_SCHEDULE_STEP + 1;
    assert_refused(s, "last_epoch");
    s = put(&r, one(ADAM_ONE_CYCLE_LR));
    s->at[0].last_epoch = 11;
    assert_refused(s, "last_epoch is 11, expected 0 to 10");

    s = put(&r, one(ADAM_COSINE_ANNEALING_WARM_RESTARTS));
    s->at[0].warm_restarts.T_mult = 2;
    adam_options options = start(s);
    for (int step = 0; step < 45; step++) {
        adam_schedule_step(s, &options);
        assert_int_equal(adam_schedule_check(s, NULL), ADAM_OK);
    }
    assert_int_equal(s->at[0].T_cur, 15); /* after cycles of 10 and 20 */
    assert_int_equal(s->at[0].T_i, 40);
    s->at[0].T_cur = 16;
    assert_refused(s, "T_cur is 16 and T_i is 40, expected 15 and 40 at last_epoch 45");
    s->at[0].T_cur = 15;
    s->at[0].T_i = 0;
    assert_refused(s, "T_i is 0");

    const adam_scheduler children[2] = {one(ADAM_LINEAR_LR), one(ADAM_COSINE_ANNEALING_LR)};
    s = put_sequence(&r, children, 2);
    options = start(s);
    s->at[0].last_epoch = 5; /* its second scheduler has begun then */
    assert_refused(s, "schedulers[1], CosineAnnealingLR: last_epoch is -1, expected 0 to 5");
    s->at[2].last_epoch = 6;
    assert_refused(s, "expected 0 to 5");
}

/* OneCycleLR takes its total_steps and no more, as torch does. A SequentialLR may go on after it.
 */
static void test_one_cycle_ends(void **state)
{
    room r;
    const adam_scheduler children[2] = {one(ADAM_ONE_CYCLE_LR), one(ADAM_EXPONENTIAL_LR)};
    (void)state;
    put(&r, children[0]);
    assert_int_equal(steps_until_ended(&r.schedule, "all of its 10 steps"), 10);
    put_sequence(&r, children, 2)->at[0].sequential.milestones[0] = 12;
    assert_int_equal(steps_until_ended(&r.schedule, "schedulers[0], OneCycleLR"), 10);
    put_sequence(&r, children, 2)->at[0].sequential.milestones[0] = 11;
    adam_options options = start(&r.schedule);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(adam_schedule_can_step(&r.schedule, NULL), ADAM_OK);
        adam_schedule_step(&r.schedule, &options);
    }
    adam_scheduler all = children[0]; /* the second phase has no length: torch divides by it */
    all.one_cycle.pct_start = 1;
    put(&r, all);
    assert_int_equal(steps_until_ended(&r.schedule, "divides by zero"), 9);
}

/* Where torch divides by zero there is no next rate. */
static void test_divided_by_zero(void **state)
{
    room r;
    adam_scheduler s = one(ADAM_CONSTANT_LR);
    (void)state;
    s.constant.factor = 0;
    assert_int_equal(steps_until_ended(put(&r, s), "ConstantLR: at its step 5"), 4);
    s = one(ADAM_POLYNOMIAL_LR);
    s.polynomial.power = -1;
    assert_int_equal(steps_until_ended(put(&r, s), "PolynomialLR: at its step 5"), 4);
}

/* A schedule is plain memory: a copy goes its own way, from where it was copied. */
static void test_copy(void **state)
{
    room r, copy;
    const adam_scheduler children[3] = {
        one(ADAM_LINEAR_LR), one(ADAM_COSINE_ANNEALING_WARM_RESTARTS), one(ADAM_MULTI_STEP_LR)};
    adam_schedule *s = put_sequence(&r, children, 3);
    (void)state;
    adam_options options = start(s);
    for (int i = 0; i < 7; i++) {
        adam_schedule_step(s, &options);
    }
    memcpy(&copy, s, adam_schedule_bytes(s));
    adam_options other = options;
    for (int i = 0; i < 7; i++) {
        adam_schedule_step(s, &options);
    }
    assert_int_equal(copy.schedule.at[0].last_epoch, 7);
    for (int i = 0; i < 7; i++) {
        adam_schedule_step(&copy.schedule, &other);
    }
    assert_true(other.lr == options.lr);
    assert_memory_equal(&copy, s, adam_schedule_bytes(s));
}

/* A schedule changes lr, OneCycleLR with momentum beta1 too, and nothing else of the options. */
static void test_changes(void **state)
{
    (void)state;
    for (int k = 0; k < ADAM_SEQUENTIAL_LR; k++) {
        room r;
        adam_options before, after;
        adam_options_default(ADAM_ALGORITHM_ADAMW, &before);
        before.lr = 0.1;
        before.amsgrad = true;
        after = before;
        put(&r, one((adam_scheduler_kind)k));
        adam_schedule_start(&r.schedule, &after);
        for (int i = 0; i < 5; i++) {
            adam_schedule_step(&r.schedule, &after);
        }
        assert_true((after.betas[0] != before.betas[0]) == (k == ADAM_ONE_CYCLE_LR));
        before.lr = after.lr;
        before.betas[0] = after.betas[0];
        assert_memory_equal(&before, &after, sizeof before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_milestones),
        cmocka_unit_test(test_one_cycle),
        cmocka_unit_test(test_sequence),
        cmocka_unit_test(test_too_many_milestones),
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_one_cycle_ends),
        cmocka_unit_test(test_divided_by_zero),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_changes),
    };
    return cmocka_run_group_tests_name("schedule", tests, NULL, NULL);
}
