/* test_buffers.c: a group of buffers, whose parameters take what a step has for them as their new
 * value; beside a group that is trained, which must not notice. And bias_correction. */
#include "quartet.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define W    20001 /* trained; over two chunks */
#define MEAN 16390

/* "w" is trained; with `buffers`, "mean" (float32) and "var" (float64) beside it are not. */
static adam_optimizer *make(bool buffers)
{
    static float w[W];
    fill_random(ADAM_FLOAT32, w, W, 1);
    const adam_tensor trained = vector_of("w", ADAM_FLOAT32, W, w);
    const adam_tensor rest[] = {vector_of("mean", ADAM_FLOAT32, MEAN, NULL),
                                vector_of("var", ADAM_FLOAT64, 5, NULL)};
    adam_group_spec groups[] = {{.params = &trained, .n_params = 1},
                                {.params = rest, .n_params = 2}};
    for (int i = 0; i < 2; i++) {
        adam_options_default(ADAM_ALGORITHM_ADAMW, &groups[i].options);
        groups[i].options.weight_decay = 0.25;
        groups[i].options.maximize = true;
        groups[i].options.amsgrad = true;
    }
    groups[1].options.buffers = true;
    adam_optimizer *o = NULL;
    assert_int_equal(
        adam_optimizer_create(ADAM_ALGORITHM_ADAMW, groups, buffers ? 2 : 1, NULL, &o, NULL),
        ADAM_OK);
    return o;
}

/* What a step sends: the gradient of "w", and values for the others. */
typedef struct sent {
    float w[W], mean[MEAN];
    double var[5];
    adam_tensor tensors[3];
} sent;

static sent *fill_sent(uint64_t seed)
{
    static sent s;
    fill_random(ADAM_FLOAT32, s.w, W, seed);
    fill_random(ADAM_FLOAT32, s.mean, MEAN, seed + 1);
    fill_random(ADAM_FLOAT64, s.var, 5, seed + 2);
    s.tensors[0] = vector_of("w", ADAM_FLOAT32, W, s.w);
    s.tensors[1] = vector_of("var", ADAM_FLOAT64, 5, s.var);
    s.tensors[2] = vector_of("mean", ADAM_FLOAT32, MEAN, s.mean);
    return &s;
}

static bool all_zero(const void *data, size_t bytes)
{
    const char *at = data;
    return bytes == 0 || (at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0);
}

/* The buffers have the values that were sent, moments of zero and so many steps. */
static void assert_buffers(const adam_optimizer *o, const sent *s, uint64_t steps)
{
    const adam_param_view mean = adam_optimizer_param(o, 1);
    const adam_param_view var = adam_optimizer_param(o, 2);
    assert_memory_equal(mean.tensor.data, s->mean, sizeof s->mean);
    assert_memory_equal(var.tensor.data, s->var, sizeof s->var);
    assert_true(all_zero(mean.exp_avg, sizeof s->mean));
    assert_true(all_zero(mean.exp_avg_sq, sizeof s->mean));
    assert_true(all_zero(var.exp_avg, sizeof s->var));
    assert_true(all_zero(var.exp_avg_sq, sizeof s->var));
    assert_int_equal(mean.step, steps);
    assert_int_equal(var.step, steps);
}

/* The trained group steps as it does without the other: scaling and clipping see its gradients
 * alone and do not touch the values; its norms are its own. */
static void test_beside_trained(void **state)
{
    adam_optimizer *o = make(true);
    adam_optimizer *twin = make(false);
    adam_pool *pool = NULL;
    (void)state;
    assert_int_equal(adam_pool_create(2, &pool), ADAM_OK);
    adam_grad_options options = grad_defaults();
    options.grad_scale = 4.0;
    options.max_grad_norm = 0.5;
    options.clip_value = 0.001;
    assert_int_equal(adam_optimizer_set_grad_options(o, &options, NULL), ADAM_OK);
    assert_int_equal(adam_optimizer_set_grad_options(twin, &options, NULL), ADAM_OK);
    for (uint64_t step = 1; step <= 3; step++) {
        sent *s = fill_sent(10 * step);
        adam_step_stats stats[2];
        adam_group_stats groups[2];
        adam_step_plan *plan = NULL;
        adam_step_args args = {.grads = s->tensors, .n_grads = 3, .pool = pool};
        assert_int_equal(adam_step_prepare(o, &args, &plan, NULL), ADAM_OK);
        adam_step_apply(plan, &stats[0], groups);
        args.n_grads = 1;
        assert_int_equal(adam_optimizer_step(twin, &args, &stats[1], NULL), ADAM_OK);
        const adam_param_view w = adam_optimizer_param(o, 0);
        const adam_param_view same = adam_optimizer_param(twin, 0);
        assert_memory_equal(w.tensor.data, same.tensor.data, sizeof s->w);
        assert_memory_equal(w.exp_avg, same.exp_avg, sizeof s->w);
        assert_true(stats[0].clip_coef < 1.0 && stats[0].clip_coef == stats[1].clip_coef);
        assert_true(stats[0].grad_norm == stats[1].grad_norm);
        assert_true(groups[1].grad_norm == 0.0);
        assert_buffers(o, s, step);
    }
    adam_pool_free(pool);
    adam_optimizer_free(o);
    adam_optimizer_free(twin);
}

/* Norms of the values and of their change; the values go to `out`, in its type. */
static void test_norms_and_out(void **state)
{
    (void)state;
    adam_optimizer *o = make(true);
    sent *s = fill_sent(5);
    double values = 0.0;
    float out[MEAN];
    adam_tensor places[] = {s->tensors[1], vector_of("mean", ADAM_FLOAT32, MEAN, out)};
    for (size_t i = 0; i < MEAN; i++) {
        values += (double)s->mean[i] * (double)s->mean[i];
    }
    for (size_t i = 0; i < 5; i++) {
        values += s->var[i] * s->var[i];
    }
    const adam_step_args args = {.grads = s->tensors + 1, .n_grads = 2, .out = places};
    adam_step_stats stats;
    assert_int_equal(adam_optimizer_step(o, &args, &stats, NULL), ADAM_OK);
    assert_float_equal(stats.param_norm, sqrt(values), 1e-9);
    assert_float_equal(stats.update_norm, sqrt(values), 1e-9); /* from zero */
    assert_true(stats.grad_norm == 0.0);
    assert_memory_equal(out, s->mean, sizeof out);
    assert_buffers(o, s, 1);
    assert_int_equal(adam_optimizer_step(o, &args, &stats, NULL), ADAM_OK);
    assert_true(stats.update_norm == 0.0);
    assert_int_equal(adam_optimizer_step_count(o), 2);
    adam_optimizer_free(o);
}

/* Values of another type are converted; where they do not fit they are refused as values. */
static void test_types(void **state)
{
    (void)state;
    adam_optimizer *o = make(true);
    double mean[MEAN];
    const adam_tensor t = vector_of("mean", ADAM_FLOAT64, MEAN, mean);
    const adam_step_args args = {.grads = &t, .n_grads = 1};
    fill_random(ADAM_FLOAT64, mean, MEAN, 3);
    adam_step_stats stats;
    assert_int_equal(adam_optimizer_step(o, &args, &stats, NULL), ADAM_OK);
    assert_int_equal(stats.converted, 1);
    const float *now = adam_optimizer_param(o, 1).tensor.data;
    for (size_t i = 0; i < MEAN; i++) {
        assert_true(now[i] == (float)mean[i]);
    }
    image before = image_take(o);
    adam_error error;
    mean[16385] = 1e300;
    assert_int_equal(adam_optimizer_step(o, &args, &stats, &error), ADAM_NON_FINITE);
    assert_string_equal(error.message,
                        "value of 'mean' is 1e+300, too large for float32 once converted, at "
                        "element 16385 (row-major), expected finite numbers");
    assert_unchanged(before, o);
    adam_optimizer_free(o);
}

/* Values are looked at as gradients are, but for grad_scale, which they do not have. */
static void test_nonfinite(void **state)
{
    (void)state;
    adam_optimizer *o = make(true);
    sent *s = fill_sent(5);
    const adam_step_args args = {.grads = s->tensors, .n_grads = 3};
    adam_grad_options options = grad_defaults();
    adam_step_stats stats;
    adam_error error;
    options.grad_scale = 0x1p-20;
    s->mean[3] = 0x1p120F; /* a gradient would be infinite once divided */
    assert_int_equal(adam_optimizer_set_grad_options(o, &options, NULL), ADAM_OK);
    assert_int_equal(adam_optimizer_step(o, &args, &stats, NULL), ADAM_OK);
    image before = image_take(o);
    s->var[2] = (double)NAN;
    assert_int_equal(adam_optimizer_step(o, &args, &stats, &error), ADAM_NON_FINITE);
    assert_non_null(strstr(error.message, "value of 'var' is NaN at element 2 "));
    assert_unchanged(before, o);
    options.nonfinite = ADAM_NONFINITE_SKIP;
    assert_int_equal(adam_optimizer_set_grad_options(o, &options, NULL), ADAM_OK);
    before = image_take(o);
    assert_int_equal(adam_optimizer_step(o, &args, &stats, NULL), ADAM_OK);
    assert_true(stats.skipped && isfinite(stats.grad_norm) && isfinite(stats.param_norm));
    assert_unchanged(before, o);
    options.nonfinite = ADAM_NONFINITE_APPLY;
    options.max_grad_norm = 1.0; /* which a NaN among the values does not reach */
    assert_int_equal(adam_optimizer_set_grad_options(o, &options, NULL), ADAM_OK);
    assert_int_equal(adam_optimizer_step(o, &args, &stats, NULL), ADAM_OK);
    assert_true(isfinite(stats.clip_coef) && isnan(stats.param_norm));
    assert_buffers(o, s, 2);
    adam_optimizer_free(o);
}

/* A schedule runs on, without effect on the values. */
static void test_schedule(void **state)
{
    (void)state;
    adam_optimizer *o = make(true);
    _Alignas(adam_schedule) char room[sizeof(adam_schedule) + sizeof(adam_scheduler)] = {0};
    adam_schedule *schedule = (adam_schedule *)(void *)room;
    const adam_options options = adam_optimizer_group(o, 1).options;
    schedule->n = 1;
    adam_scheduler_default(ADAM_EXPONENTIAL_LR, &schedule->at[0]);
    schedule->at[0].exponential.gamma = 0.5;
    assert_int_equal(adam_optimizer_set_schedule(o, 1, &options, schedule, NULL), ADAM_OK);
    sent *s = fill_sent(5);
    const adam_step_args args = {.grads = s->tensors, .n_grads = 3};
    assert_int_equal(adam_optimizer_step(o, &args, NULL, NULL), ADAM_OK);
    assert_true(adam_optimizer_group(o, 1).options.lr == options.lr * 0.5);
    assert_buffers(o, s, 1);
    adam_optimizer_free(o);
}

/* What a group is, it stays: by no way can it be changed, and nothing else changes then. */
static void test_for_good(void **state)
{
    (void)state;
    adam_optimizer *o = make(true);
    sent *s = fill_sent(5);
    adam_error error;
    for (size_t i = 0; i < 2; i++) {
        adam_options groups[2] = {adam_optimizer_group(o, 0).options,
                                  adam_optimizer_group(o, 1).options};
        groups[i].buffers = !groups[i].buffers;
        const adam_step_args args = {.grads = s->tensors, .n_grads = 3, .groups = groups};
        image before = image_take(o);
        assert_int_equal(adam_optimizer_set_options(o, i, &groups[i], &error), ADAM_INVALID_OPTION);
        assert_non_null(strstr(error.message, i == 0
                                                  ? "buffers of param group 0 cannot become true"
                                                  : "buffers of param group 1 cannot become fa"));
        assert_int_equal(adam_optimizer_set_schedule(o, i, &groups[i], NULL, &error),
                         ADAM_INVALID_OPTION);
        assert_int_equal(adam_optimizer_step(o, &args, NULL, &error), ADAM_INVALID_OPTION);
        adam_param_state params[3];
        for (size_t k = 0; k < 3; k++) {
            const adam_param_view p = adam_optimizer_param(o, k);
            params[k] =
                (adam_param_state){p.tensor, p.step, p.exp_avg, p.exp_avg_sq, p.max_exp_avg_sq};
        }
        const adam_state_dict d = {
            .groups = groups, .n_groups = 2, .params = params, .n_params = 3};
        assert_int_equal(adam_optimizer_load_state(o, &d, &error), ADAM_STATE_MISMATCH);
        assert_non_null(strstr(error.message, i == 0 ? "buffers of param group 0 is true, expected "
                                                       "false"
                                                     : "buffers of param group 1 is false, "
                                                       "expected true"));
        assert_unchanged(before, o);
    }
    adam_optimizer_free(o);
}

/* Without bias correction the moments are used as they are, in every step. */
static void test_bias_correction(void **state)
{
    (void)state;
    double p = 1.0;
    const adam_tensor t = vector_of("w", ADAM_FLOAT64, 1, &p);
    adam_group_spec group = {.params = &t, .n_params = 1};
    adam_options_default(ADAM_ALGORITHM_ADAM, &group.options);
    assert_true(group.options.bias_correction && !group.options.buffers);
    group.options.bias_correction = false;
    adam_optimizer *o = NULL;
    assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAM, &group, 1, NULL, &o, NULL),
                     ADAM_OK);
    double m = 0.0;
    double v = 0.0;
    const double w = 1.0 - 0.9;
    for (int step = 1; step <= 20; step++) {
        double g = 0.5 - 0.3 * step;
        const adam_tensor grad = vector_of("w", ADAM_FLOAT64, 1, &g);
        const adam_step_args args = {.grads = &grad, .n_grads = 1};
        assert_int_equal(adam_optimizer_step(o, &args, NULL, NULL), ADAM_OK);
        m = fma(w, g - m, m);
        v = fma((1.0 - 0.999) * g, g, v * 0.999);
        p = p + (-1e-3 * m) / (sqrt(v) + 1e-8);
        assert_memory_equal(adam_optimizer_param(o, 0).tensor.data, &p, sizeof p);
    }
    adam_optimizer_free(o);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beside_trained),  cmocka_unit_test(test_norms_and_out),
        cmocka_unit_test(test_types),           cmocka_unit_test(test_nonfinite),
        cmocka_unit_test(test_schedule),        cmocka_unit_test(test_for_good),
        cmocka_unit_test(test_bias_correction),
    };
    return cmocka_run_group_tests_name("buffers", tests, NULL, NULL);
}

int main(void)
{
    return run_on_kernel(run);
}
