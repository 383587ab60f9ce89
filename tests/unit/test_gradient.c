/* test_gradient.c: unscaling, the policies for gradients that are not finite, and clipping. Each is
 * held against a step whose gradients were prepared here, one operation after the other. */
#include "quartet.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- what prepared gradients are ---- */

/* Multiplies every gradient with `factor`, rounded to its type first. */
static void multiply(quartet *g, double factor)
{
    for (size_t t = 0; t < QUARTET; t++) {
        for (size_t i = 0; i < quartet_sizes[t]; i++) {
            if (g->tensors[t].dtype == ADAM_FLOAT64) {
                quartet_set(g, t, i, quartet_get(g, t, i) * factor);
            } else {
                quartet_set(g, t, i, (double)((float)quartet_get(g, t, i) * (float)factor));
            }
        }
    }
}

static void clamp(quartet *g, double limit)
{
    for (size_t t = 0; t < QUARTET; t++) {
        for (size_t i = 0; i < quartet_sizes[t]; i++) {
            const double x = quartet_get(g, t, i);
            quartet_set(g, t, i, x > limit ? limit : x < -limit ? -limit : x);
        }
    }
}

static double largest(const quartet *g)
{
    double most = 0;
    for (size_t t = 0; t < QUARTET; t++) {
        for (size_t i = 0; i < quartet_sizes[t]; i++) {
            most = fmax(most, fabs(quartet_get(g, t, i)));
        }
    }
    return most;
}

/* torch.nn.utils.clip_grad_norm_'s coefficient, in the type of its total norm: the reciprocal, then
 * the product. */
static double coefficient(double max_norm, double norm, bool f64)
{
    if (f64) {
        const double inverse = 1.0 / (norm + 1e-6);
        return fmin(inverse * max_norm, 1.0);
    }
    const float sum = (float)norm + (float)1e-6;
    const float inverse = 1.0F / sum;
    return (double)fminf(inverse * (float)max_norm, 1.0F);
}

/* Steps one optimizer with `options` and gradients as they come, three times, and another with
 * gradients that `prepare` has made ready. Their bits must be the same. */
typedef void prepare_fn(quartet *g, const adam_grad_options *options, double norm, bool f64,
                        double *clip_coef);

static void compare(const adam_dtype *types, const adam_grad_options *options, prepare_fn *prepare)
{
    adam_optimizer *o = quartet_optimizer(types, NULL);
    adam_optimizer *twin = quartet_optimizer(types, NULL);
    const bool f64 = types != quartet_f32;
    for (uint64_t seed = 10; seed < 13; seed++) {
        quartet g = quartet_make(types, seed);
        const adam_step_stats stats = quartet_step(o, &g, options, NULL);
        double coef = 1.0;
        prepare(&g, options, stats.grad_norm, f64, &coef);
        (void)quartet_step(twin, &g, NULL, NULL);
        assert_same(o, twin);
        assert_true(stats.clip_coef >= coef && stats.clip_coef <= coef);
        assert_false(stats.skipped);
        quartet_drop(&g);
    }
    adam_optimizer_free(o);
    adam_optimizer_free(twin);
}

static const adam_dtype *const kinds[] = {quartet_f32, quartet_f64, quartet_mixed};

/* ---- unscaling ---- */

static void unscale(quartet *g, const adam_grad_options *options, double norm, bool f64,
                    double *coef)
{
    (void)norm, (void)f64, (void)coef;
    multiply(g, (double)(float)(1.0 / (double)(float)options->grad_scale));
}

/* A product with float32(1 / scale), also where the gradient is float64: torch keeps the inverse
 * scale in a float32 tensor. A division by 3 would give other bits. */
static void test_scale(void **state)
{
    (void)state;
    static const double scales[] = {3.0, 65536.0, 0.1, 1.0, 1e-30, 8e37, 16777217.0};
    for (size_t k = 0; k < COUNT(kinds); k++) {
        for (size_t i = 0; i < COUNT(scales); i++) {
            adam_grad_options options = grad_defaults();
            options.grad_scale = scales[i];
            options.nonfinite = ADAM_NONFINITE_APPLY;
            compare(kinds[k], &options, unscale);
        }
    }
    float g = 10.0F, p = 0.0F;
    adam_optimizer *o = NULL;
    adam_step_stats stats;
    const adam_tensor grad = vector_of("w", ADAM_FLOAT32, 1, &g);
    const adam_tensor param = vector_of("w", ADAM_FLOAT32, 1, &p);
    adam_group_spec spec = {.params = &param, .n_params = 1};
    adam_options_default(ADAM_ALGORITHM_ADAM, &spec.options);
    spec.options.betas[0] = 0.0;
    adam_grad_options options = grad_defaults();
    options.grad_scale = 3.0;
    assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAM, &spec, 1, NULL, &o, NULL), ADAM_OK);
    const adam_step_args args = {.grads = &grad, .n_grads = 1, .grad_options = &options};
    assert_int_equal(adam_optimizer_step(o, &args, &stats, NULL), ADAM_OK);
    const float want = 10.0F * 0x1.555556p-2F; /* float32(1/3) */
    assert_memory_equal(adam_optimizer_param(o, 0).exp_avg, &want, sizeof want);
    assert_true(stats.grad_norm >= (double)want && stats.grad_norm <= (double)want);
    adam_optimizer_free(o);
}

/* ---- clipping ---- */

static void clip(quartet *g, const adam_grad_options *options, double norm, bool f64, double *coef)
{
    if (options->norm_type == ADAM_NORM_INF) {
        norm = largest(g);
    }
    *coef = coefficient(options->max_grad_norm, norm, f64);
    multiply(g, *coef);
}

/* Of norms 2 and infinity, over all groups and parameters; float64 decides the coefficient's type.
 * A limit above the norm changes nothing, one of 0 leaves no gradient. */
static void test_clip_norm(void **state)
{
    (void)state;
    static const double limits[] = {0.0, 1e-30, 0.1, 0.7, 1.9, 150.0, 1e4, 1e300};
    for (size_t k = 0; k < COUNT(kinds); k++) {
        for (size_t i = 0; i < COUNT(limits) * 2; i++) {
            adam_grad_options options = grad_defaults();
            options.max_grad_norm = limits[i / 2];
            options.norm_type = i % 2 ? ADAM_NORM_INF : ADAM_NORM_2;
            compare(kinds[k], &options, clip);
        }
    }
}

static void clip_values(quartet *g, const adam_grad_options *options, double norm, bool f64,
                        double *coef)
{
    (void)norm, (void)f64, (void)coef;
    clamp(g, options->clip_value);
}

static void test_clip_value(void **state)
{
    (void)state;
    static const double limits[] = {0.001, 0.5, 1.0, 1.999, 100.0, 1e300};
    for (size_t k = 0; k < COUNT(kinds); k++) {
        for (size_t i = 0; i < COUNT(limits); i++) {
            adam_grad_options options = grad_defaults();
            options.clip_value = limits[i];
            compare(kinds[k], &options, clip_values);
        }
    }
}

static void all(quartet *g, const adam_grad_options *options, double norm, bool f64, double *coef)
{
    unscale(g, options, norm, f64, coef);
    clip(g, options, norm, f64, coef);
    clamp(g, options->clip_value);
}

/* Unscaled, then clipped by norm, then by value. With any two of them exchanged some bits differ.
 */
static void test_order(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT(kinds); k++) {
        adam_grad_options options = grad_defaults();
        options.grad_scale = 0.003;
        options.max_grad_norm = 100.0;
        options.clip_value = 0.5;
        compare(kinds[k], &options, all);
        options.norm_type = ADAM_NORM_INF;
        options.max_grad_norm = 1.0;
        compare(kinds[k], &options, all);
    }
}

/* ---- settings ---- */

static const struct {
    double grad_scale, max_grad_norm, clip_value;
    bool good;
    const char *name;
} ranges[] = {
    {1, INFINITY, INFINITY, true, NULL},
    {1e-38, 0, 1e-300, true, NULL},
    {0x1p126, 1e300, DBL_MAX, true, NULL},
    {0, 1, 1, false, "grad_scale"},
    {-1, 1, 1, false, "grad_scale"},
    {NAN, 1, 1, false, "grad_scale"},
    {INFINITY, 1, 1, false, "grad_scale"},
    {0x1p127, 1, 1, false, "grad_scale"},
    {0x1.000001p-128, 1, 1, false, "grad_scale"},
    {1e-300, 1, 1, false, "grad_scale"},
    {1, -1, 1, false, "max_grad_norm"},
    {1, NAN, 1, false, "max_grad_norm"},
    {1, -INFINITY, 1, false, "max_grad_norm"},
    {1, 1, 0, false, "clip_value"},
    {1, 1, -1, false, "clip_value"},
    {1, 1, NAN, false, "clip_value"},
};

/* Out of range, they are refused by name, as the optimizer's own and for one step, and nothing has
 * changed. 2^-128 (1 + 2^-24) has a finite inverse in double, but none that is a float32's. */
static void test_ranges(void **state)
{
    (void)state;
    adam_optimizer *o = make_small(NULL);
    for (size_t i = 0; i < COUNT(ranges); i++) {
        adam_error error = {0};
        small_grads g;
        fill_small_grads(&g, 3);
        adam_grad_options options = grad_defaults();
        options.grad_scale = ranges[i].grad_scale;
        options.max_grad_norm = ranges[i].max_grad_norm;
        options.clip_value = ranges[i].clip_value;
        const adam_status want = ranges[i].good ? ADAM_OK : ADAM_INVALID_OPTION;
        assert_int_equal(adam_grad_options_check(&options, &error), want);
        if (ranges[i].good) {
            continue;
        }
        assert_memory_equal(error.message, ranges[i].name, strlen(ranges[i].name));
        const image before = image_take(o);
        const adam_step_args args = {
            .grads = g.tensors, .n_grads = SMALL_PARAMS, .grad_options = &options};
        assert_int_equal(adam_optimizer_step(o, &args, NULL, &error), ADAM_INVALID_OPTION);
        assert_int_equal(adam_optimizer_set_grad_options(o, &options, &error), ADAM_INVALID_OPTION);
        assert_unchanged(before, o);
    }
    adam_optimizer_free(o);
}

/* A step's settings are its own; without them the optimizer's hold, and stay. */
static void test_own_settings(void **state)
{
    (void)state;
    adam_optimizer *o = quartet_optimizer(quartet_f32, NULL);
    adam_optimizer *twin = quartet_optimizer(quartet_f32, NULL);
    quartet g = quartet_make(quartet_f32, 10);
    adam_grad_options own = grad_defaults();
    adam_grad_options other = grad_defaults();
    own.max_grad_norm = 0.25;
    own.norm_type = ADAM_NORM_INF;
    other.clip_value = 0.125;
    assert_int_equal(adam_optimizer_set_grad_options(o, &own, NULL), ADAM_OK);
    (void)quartet_step(o, &g, NULL, NULL);
    (void)quartet_step(twin, &g, &own, NULL);
    (void)quartet_step(o, &g, &other, NULL);
    (void)quartet_step(twin, &g, &other, NULL);
    const adam_grad_options now = adam_optimizer_grad_options(o);
    assert_true(now.max_grad_norm < 0.26 && now.norm_type == ADAM_NORM_INF);
    assert_true(isinf(now.clip_value));
    (void)quartet_step(o, &g, NULL, NULL);
    (void)quartet_step(twin, &g, &own, NULL);
    assert_int_equal(adam_optimizer_set_grad_options(twin, &own, NULL), ADAM_OK);
    assert_same(o, twin);
    adam_optimizer_free(o);
    adam_optimizer_free(twin);
    quartet_drop(&g);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scale),      cmocka_unit_test(test_clip_norm),
        cmocka_unit_test(test_clip_value), cmocka_unit_test(test_order),
        cmocka_unit_test(test_ranges),     cmocka_unit_test(test_own_settings),
    };
    return cmocka_run_group_tests_name("gradient", tests, NULL, NULL);
}

int main(void)
{
    return run_on_kernel(run);
}
