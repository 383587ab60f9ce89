/* test_step.c: steps that succeed. Their bits are test_golden's and check_kernels' business. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* An optimizer of one float64 vector "w". */
static adam_optimizer *make_vector(adam_algorithm algorithm, const adam_options *options,
                                   double *values, size_t n)
{
    adam_optimizer *o = NULL;
    const adam_tensor param = vector_of("w", ADAM_FLOAT64, n, values);
    const adam_group_spec spec = {.options = *options, .params = &param, .n_params = 1};
    assert_int_equal(adam_optimizer_create(algorithm, &spec, 1, NULL, &o, NULL), ADAM_OK);
    return o;
}

static adam_options options_of(double lr)
{
    adam_options options;
    adam_options_default(ADAM_ALGORITHM_ADAM, &options);
    options.lr = lr;
    return options;
}

static void assert_near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-12 * (1.0 + fabs(want)))) {
        fail_msg("got %.17g, expected about %.17g", got, want);
    }
}

/* Kingma & Ba, Algorithm 1, written out: three steps of one element, by hand. */
static void test_algorithm(void **state)
{
    (void)state;
    const double lr = 0.1, b1 = 0.9, b2 = 0.999, eps = 1e-8;
    const double grads[] = {0.3, -2.0, 0.001};
    double p = 1.5, m = 0.0, v = 0.0;
    const adam_options options = options_of(lr);
    adam_optimizer *o = make_vector(ADAM_ALGORITHM_ADAM, &options, &p, 1);
    for (int t = 1; t <= 3; t++) {
        double g = grads[t - 1];
        m = b1 * m + (1 - b1) * g;
        v = b2 * v + (1 - b2) * g * g;
        p -= lr * (m / (1 - pow(b1, t))) / (sqrt(v / (1 - pow(b2, t))) + eps);
        const adam_tensor grad = vector_of("w", ADAM_FLOAT64, 1, &g);
        const adam_step_args args = {.grads = &grad, .n_grads = 1};
        assert_int_equal(adam_optimizer_step(o, &args, NULL, NULL), ADAM_OK);
        const adam_param_view now = adam_optimizer_param(o, 0);
        assert_near(*(const double *)now.tensor.data, p);
        assert_near(*(const double *)now.exp_avg, m);
        assert_near(*(const double *)now.exp_avg_sq, v);
        assert_int_equal(now.step, t);
        assert_int_equal(adam_optimizer_step_count(o), t);
    }
    adam_optimizer_free(o);
}

/* Weight decay: a penalty in the gradient for Adam, a shrinking of the parameter for AdamW. A first
 * step moves by lr against the sign of the gradient, whatever its size. */
static void test_weight_decay(void **state)
{
    (void)state;
    adam_options options = options_of(0.1);
    options.weight_decay = 0.5;
    for (int i = 0; i < 2; i++) {
        double p = 2.0;
        double g = -0.25; /* with the penalty 0.75: the sign turns */
        const adam_algorithm algorithm = i ? ADAM_ALGORITHM_ADAMW : ADAM_ALGORITHM_ADAM;
        adam_optimizer *o = make_vector(algorithm, &options, &p, 1);
        const adam_tensor grad = vector_of("w", ADAM_FLOAT64, 1, &g);
        const adam_step_args args = {.grads = &grad, .n_grads = 1};
        assert_int_equal(adam_optimizer_step(o, &args, NULL, NULL), ADAM_OK);
        const double got = *(const double *)adam_optimizer_param(o, 0).tensor.data;
        const double want = i ? 2.0 * (1 - 0.1 * 0.5) + 0.1 : 2.0 - 0.1;
        assert_true(fabs(got - want) < 1e-7); /* eps */
        adam_optimizer_free(o);
    }
}

/* A parameter without a gradient keeps its bits, moments and count, as where torch's grad is None;
 * the optimizer's own count goes on. */
static void test_partial(void **state)
{
    (void)state;
    adam_optimizer *o = make_small(NULL);
    step_small(o, 1);
    small_grads g;
    fill_small_grads(&g, 2);
    const adam_param_view before[2] = {adam_optimizer_param(o, 0), adam_optimizer_param(o, 2)};
    float a[3], a_avg[3], a_sq[3];
    memcpy(a, before[0].tensor.data, sizeof a);
    memcpy(a_avg, before[0].exp_avg, sizeof a);
    memcpy(a_sq, before[0].exp_avg_sq, sizeof a);
    const adam_step_args args = {.grads = &g.tensors[1], .n_grads = 1}; /* "b" alone */
    assert_int_equal(adam_optimizer_step(o, &args, NULL, NULL), ADAM_OK);
    const adam_param_view skipped = adam_optimizer_param(o, 0);
    assert_memory_equal(skipped.tensor.data, a, sizeof a);
    assert_memory_equal(skipped.exp_avg, a_avg, sizeof a);
    assert_memory_equal(skipped.exp_avg_sq, a_sq, sizeof a);
    assert_int_equal(skipped.step, 1);
    assert_int_equal(adam_optimizer_param(o, 1).step, 2);
    assert_int_equal(adam_optimizer_param(o, 2).step, 1);
    assert_int_equal(adam_optimizer_step_count(o), 2);
    adam_optimizer_free(o);
}

/* A parameter that misses a step goes on with its own count: its next step is the one that it would
 * have taken alone. */
static void test_counts_are_per_parameter(void **state)
{
    (void)state;
    adam_optimizer *both = make_small(NULL);
    adam_optimizer *alone = make_small(NULL);
    small_grads g;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        fill_small_grads(&g, seed);
        const bool skips_a = seed % 2 == 0;
        const adam_step_args args = {.grads = g.tensors + (skips_a ? 1 : 0),
                                     .n_grads = (size_t)(skips_a ? 1 : 2)};
        assert_int_equal(adam_optimizer_step(both, &args, NULL, NULL), ADAM_OK);
        if (!skips_a) {
            const adam_step_args a = {.grads = g.tensors, .n_grads = 1};
            assert_int_equal(adam_optimizer_step(alone, &a, NULL, NULL), ADAM_OK);
        }
    }
    assert_int_equal(adam_optimizer_param(both, 0).step, 3);
    assert_int_equal(adam_optimizer_param(both, 1).step, 5);
    assert_memory_equal(adam_optimizer_param(both, 0).tensor.data,
                        adam_optimizer_param(alone, 0).tensor.data, 3 * sizeof(float));
    adam_optimizer_free(both);
    adam_optimizer_free(alone);
}

/* Names are identity: the order of the gradients changes nothing, not even the norms' last bits. */
static void test_order(void **state)
{
    (void)state;
    adam_optimizer *forward = make_small(NULL);
    adam_optimizer *backward = make_small(NULL);
    small_grads g;
    adam_step_stats stats[2];
    for (uint64_t seed = 1; seed <= 3; seed++) {
        fill_small_grads(&g, seed);
        const adam_step_args args = {.grads = g.tensors, .n_grads = SMALL_PARAMS};
        assert_int_equal(adam_optimizer_step(forward, &args, &stats[0], NULL), ADAM_OK);
        adam_tensor turned[SMALL_PARAMS];
        for (size_t i = 0; i < SMALL_PARAMS; i++) {
            turned[i] = g.tensors[SMALL_PARAMS - 1 - i];
        }
        const adam_step_args other = {.grads = turned, .n_grads = SMALL_PARAMS};
        assert_int_equal(adam_optimizer_step(backward, &other, &stats[1], NULL), ADAM_OK);
        assert_int_equal(stats[0].step, stats[1].step);
        assert_memory_equal(&stats[0].grad_norm, &stats[1].grad_norm, sizeof(double));
        assert_memory_equal(&stats[0].param_norm, &stats[1].param_norm, sizeof(double));
        assert_memory_equal(&stats[0].update_norm, &stats[1].update_norm, sizeof(double));
    }
    assert_same(forward, backward);
    adam_optimizer_free(forward);
    adam_optimizer_free(backward);
}

/* torch takes the root of the second bias correction with Python's ** 0.5, which is pow(), and
 * pow() is now and then another double than sqrt(): at beta2 = 0.5 first in step 53. */
static void test_bias_root(void **state)
{
    (void)state;
    double zero = 0.0, one = 1.0;
    adam_options options = {.lr = 1.0, .betas = {0.0, 0.5}, .bias_correction = true};
    adam_optimizer *o = make_vector(ADAM_ALGORITHM_ADAM, &options, &zero, 1);
    const adam_tensor tensor = vector_of("w", ADAM_FLOAT64, 1, &zero);
    const adam_param_state param = {
        .tensor = tensor, .step = 52, .exp_avg = &one, .exp_avg_sq = &one};
    const adam_state_dict dict = {
        .step = 52, .groups = &options, .n_groups = 1, .params = &param, .n_params = 1};
    assert_int_equal(adam_optimizer_load_state(o, &dict, NULL), ADAM_OK);
    const adam_tensor grad = vector_of("w", ADAM_FLOAT64, 1, &one);
    const adam_step_args args = {.grads = &grad, .n_grads = 1};
    assert_int_equal(adam_optimizer_step(o, &args, NULL, NULL), ADAM_OK);
    volatile double half = 0.5; /* keeps the compiler from making a sqrt() of it */
    const double want = -1.0 / (1.0 / pow(1.0 - pow(half, 53.0), half));
    assert_memory_equal(adam_optimizer_param(o, 0).tensor.data, &want, sizeof want);
    adam_optimizer_free(o);
}

/* The norms are over what took part: gradients as given (before maximize and weight decay),
 * parameters afterwards, and their change. */
static void test_stats(void **state)
{
    (void)state;
    double values[2] = {0.0, 0.0};
    double g[2] = {3.0, -4.0};
    adam_options options = options_of(0.5);
    options.maximize = true;
    options.weight_decay = 0.25;
    options.eps = 0.0;
    adam_optimizer *o = make_vector(ADAM_ALGORITHM_ADAM, &options, values, 2);
    const adam_tensor grad = vector_of("w", ADAM_FLOAT64, 2, g);
    const adam_step_args args = {.grads = &grad, .n_grads = 1};
    adam_step_stats stats;
    assert_int_equal(adam_optimizer_step(o, &args, &stats, NULL), ADAM_OK);
    const double *p = adam_optimizer_param(o, 0).tensor.data;
    assert_near(p[0], 0.5); /* uphill */
    assert_near(p[1], -0.5);
    assert_int_equal(stats.step, 1);
    assert_true(stats.grad_norm == 5.0);
    assert_near(stats.param_norm, sqrt(0.5));
    assert_near(stats.update_norm, sqrt(0.5));
    assert_true(stats.clip_coef == 1.0);
    adam_optimizer_free(o);
}

/* With out = grads: the gradients' memory holds the new parameters afterwards, at any alignment,
 * and the step is the same; without it the gradients are only read. */
static void test_out_over_grads(void **state)
{
    (void)state;
    adam_optimizer *into = make_small(NULL);
    adam_optimizer *plain = make_small(NULL);
    small_grads g, kept;
    fill_small_grads(&g, 9);
    fill_small_grads(&kept, 9);
    unsigned char odd[1 + sizeof g.b];
    memcpy(odd + 1, g.b, sizeof g.b);
    g.tensors[1].data = odd + 1;
    const adam_step_args args = {.grads = g.tensors, .n_grads = SMALL_PARAMS, .out = g.tensors};
    assert_int_equal(adam_optimizer_step(into, &args, NULL, NULL), ADAM_OK);
    const adam_step_args only_read = {.grads = kept.tensors, .n_grads = SMALL_PARAMS};
    small_grads again;
    fill_small_grads(&again, 9);
    assert_int_equal(adam_optimizer_step(plain, &only_read, NULL, NULL), ADAM_OK);
    assert_memory_equal(kept.a, again.a, sizeof kept.a);
    assert_memory_equal(kept.b, again.b, sizeof kept.b);
    assert_same(into, plain);
    assert_memory_equal(g.a, adam_optimizer_param(into, 0).tensor.data, sizeof g.a);
    assert_memory_equal(odd + 1, adam_optimizer_param(into, 1).tensor.data, sizeof g.b);
    assert_memory_equal(g.c, adam_optimizer_param(into, 2).tensor.data, sizeof g.c);
    adam_optimizer_free(into);
    adam_optimizer_free(plain);
}

/* A plan that is dropped leaves no trace, in the optimizer, in the gradients or in memory; the same
 * step can then be taken. */
static void test_discard(void **state)
{
    (void)state;
    heap h = {0};
    const adam_allocator allocator = heap_allocator(&h);
    adam_optimizer *o = make_small(&allocator);
    adam_optimizer *plain = make_small(NULL);
    const size_t live = h.live_blocks;
    adam_options overrides[2] = {options_of(0.7), options_of(0.8)};
    small_grads g, kept;
    fill_small_grads(&g, 4);
    kept = g;
    const adam_step_args args = {
        .grads = g.tensors, .n_grads = SMALL_PARAMS, .groups = overrides, .out = g.tensors};
    overrides[0].amsgrad = true;
    const image before = image_take(o);
    adam_step_plan *plan = NULL;
    assert_int_equal(adam_step_prepare(o, &args, &plan, NULL), ADAM_OK);
    adam_step_discard(plan);
    assert_unchanged(before, o);
    assert_memory_equal(g.a, kept.a, sizeof g.a);
    assert_int_equal(h.live_blocks, live);
    adam_step_discard(NULL);
    step_small(o, 4);
    step_small(plain, 4);
    assert_same(o, plain);
    adam_optimizer_free(o);
    adam_optimizer_free(plain);
    assert_int_equal(h.live_blocks, 0);
}

/* Between prepare and apply nothing has changed, so a journal can be written there. */
static void test_prepare_changes_nothing(void **state)
{
    (void)state;
    adam_optimizer *o = make_small(NULL);
    adam_optimizer *plain = make_small(NULL);
    small_grads g;
    fill_small_grads(&g, 4);
    adam_step_plan *plan = NULL;
    const adam_step_args args = {.grads = g.tensors, .n_grads = SMALL_PARAMS};
    assert_int_equal(adam_step_prepare(o, &args, &plan, NULL), ADAM_OK);
    for (size_t i = 0; i < SMALL_PARAMS; i++) {
        const adam_param_view now = adam_optimizer_param(o, i);
        assert_int_equal(now.step, 0);
        assert_memory_equal(now.tensor.data, adam_optimizer_param(plain, i).tensor.data,
                            now.numel * adam_dtype_size(now.tensor.dtype));
    }
    assert_int_equal(adam_optimizer_step_count(o), 0);
    adam_step_apply(plan, NULL, NULL);
    step_small(plain, 4);
    assert_same(o, plain);
    adam_optimizer_free(o);
    adam_optimizer_free(plain);
}

/* A step of empty tensors alone counts and moves nothing. */
static void test_empty_tensor(void **state)
{
    (void)state;
    adam_optimizer *o = make_small(NULL);
    const adam_tensor grad = vector_of("d", ADAM_FLOAT32, 0, NULL);
    const adam_step_args args = {.grads = &grad, .n_grads = 1, .out = &grad};
    adam_step_stats stats;
    assert_int_equal(adam_optimizer_step(o, &args, &stats, NULL), ADAM_OK);
    assert_int_equal(stats.step, 1);
    assert_true(stats.grad_norm == 0.0 && stats.param_norm == 0.0 && stats.update_norm == 0.0);
    assert_int_equal(adam_optimizer_param(o, 3).step, 1);
    assert_int_equal(adam_optimizer_param(o, 0).step, 0);
    adam_optimizer_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_algorithm),    cmocka_unit_test(test_weight_decay),
        cmocka_unit_test(test_partial),      cmocka_unit_test(test_counts_are_per_parameter),
        cmocka_unit_test(test_order),        cmocka_unit_test(test_bias_root),
        cmocka_unit_test(test_stats),        cmocka_unit_test(test_out_over_grads),
        cmocka_unit_test(test_discard),      cmocka_unit_test(test_prepare_changes_nothing),
        cmocka_unit_test(test_empty_tensor),
    };
    return cmocka_run_group_tests_name("step", tests, NULL, NULL);
}
