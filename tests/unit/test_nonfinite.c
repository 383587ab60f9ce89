/* test_nonfinite.c: gradients that are NaN or infinite, under each policy: refused, left out, or
 * stepped with. */
#include "quartet.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static adam_grad_options policy(adam_nonfinite nonfinite)
{
    adam_grad_options options = grad_defaults();
    options.nonfinite = nonfinite;
    return options;
}

/* ---- error ---- */

/* Where the bad numbers are, of which type, and what is said about the first. */
static const struct {
    adam_dtype type; /* of all gradients */
    double scale;
    struct {
        size_t tensor, index;
        double value;
    } bad[3];
    size_t n;
    const char *param, *text;
    uint64_t index;
} refused[] = {
    {ADAM_FLOAT32,
     1,
     {{2, 7, NAN}},
     1,
     "c",
     "gradient of 'c' is NaN at element 7 (row-major), ",
     7},
    {ADAM_FLOAT32, 1, {{1, 0, INFINITY}}, 1, "b", "is Infinity at element 0 ", 0},
    {ADAM_FLOAT64, 8, {{1, 4, -INFINITY}}, 1, "b", "is -Infinity at element 4 ", 4},
    {ADAM_BFLOAT16, 1, {{0, 40002, NAN}}, 1, "a", "is NaN at element 40002 ", 40002},
    {ADAM_FLOAT16, 1, {{3, 16384, 1e9}}, 1, "d", "is Infinity at element 16384 ", 16384},
    /* the first of several, over chunks and parameters */
    {ADAM_FLOAT32,
     1,
     {{3, 19999, NAN}, {0, 39000, NAN}, {0, 20000, INFINITY}},
     3,
     "a",
     "is Infinity at element 20000 ",
     20000},
    /* finite as they were sent, and not as the parameter's type or once unscaled */
    {ADAM_FLOAT64,
     1,
     {{0, 3, 1e300}},
     1,
     "a",
     "is 1e+300, too large for float32 "
     "once converted, at element 3 ",
     3},
    {ADAM_FLOAT32,
     0.25,
     {{2, 32, 2e38}},
     1,
     "c",
     "too large for float32 once divided by grad_scale, "
     "at element 32 ",
     32},
    {ADAM_FLOAT64,
     0.25,
     {{3, 5, DBL_MAX}},
     1,
     "d",
     "too large for float64 once divided by "
     "grad_scale, at element 5 ",
     5},
};

/* The first bad element, in the order of the parameters, is named; nothing has changed, whatever
 * the number of threads. The last two parameters of group 1 are given first. */
static void test_error(void **state)
{
    (void)state;
    adam_optimizer *o = quartet_optimizer(quartet_mixed, NULL);
    adam_pool *pool = NULL;
    assert_int_equal(adam_pool_create(3, &pool), ADAM_OK);
    for (size_t i = 0; i < COUNT(refused) * 2; i++) {
        const size_t k = i / 2;
        const adam_dtype types[] = {refused[k].type, refused[k].type, refused[k].type,
                                    refused[k].type};
        quartet g = quartet_make(types, 20);
        for (size_t j = 0; j < refused[k].n; j++) {
            quartet_set(&g, refused[k].bad[j].tensor, refused[k].bad[j].index,
                        refused[k].bad[j].value);
        }
        adam_grad_options options = grad_defaults();
        options.grad_scale = refused[k].scale;
        options.max_grad_norm = 1.0;
        options.clip_value = 1.0; /* which would have made it finite, but comes after */
        const adam_tensor swapped[] = {g.tensors[3], g.tensors[2], g.tensors[0], g.tensors[1]};
        quartet out = quartet_room(quartet_f32);
        const adam_tensor outs[] = {out.tensors[3], out.tensors[2], out.tensors[0], out.tensors[1]};
        quartet untouched = quartet_room(quartet_f32);
        const adam_step_args args = {.grads = swapped,
                                     .n_grads = QUARTET,
                                     .out = outs,
                                     .grad_options = &options,
                                     .pool = i % 2 ? pool : NULL};
        adam_error error = {0};
        const image before = image_take(o);
        assert_int_equal(adam_optimizer_step(o, &args, NULL, &error), ADAM_NON_FINITE);
        assert_unchanged(before, o);
        if (strstr(error.message, refused[k].text) == NULL) {
            fail_msg("case %zu: %s", k, error.message);
        }
        assert_string_equal(error.param, refused[k].param);
        assert_true(error.has_index && error.index == refused[k].index);
        for (size_t t = 0; t < QUARTET; t++) {
            assert_memory_equal(out.tensors[t].data, untouched.tensors[t].data,
                                quartet_sizes[t] * sizeof(float));
        }
        quartet_drop(&g);
        quartet_drop(&out);
        quartet_drop(&untouched);
    }
    assert_int_equal(adam_optimizer_skipped_count(o), 0);
    adam_pool_free(pool);
    adam_optimizer_free(o);
}

/* ---- skip ---- */

static adam_options options_of(double lr)
{
    adam_options options;
    adam_options_default(ADAM_ALGORITHM_ADAMW, &options);
    options.lr = lr;
    return options;
}

/* A skipped step changes nothing but the count of skipped ones, not even what its overrides ask
 * for. It says so, gives norms of what is there, and hands out the parameters as they are. */
static void test_skip(void **state)
{
    (void)state;
    static const double bad[] = {NAN, INFINITY, -INFINITY, 1e300};
    static const adam_dtype out_types[] = {ADAM_FLOAT32, ADAM_FLOAT64, ADAM_BFLOAT16, ADAM_FLOAT16};
    adam_optimizer *o = quartet_optimizer(quartet_mixed, NULL);
    adam_optimizer *twin = quartet_optimizer(quartet_mixed, NULL);
    quartet good = quartet_make(quartet_mixed, 21);
    const adam_step_stats first = quartet_step(o, &good, NULL, NULL);
    (void)quartet_step(twin, &good, NULL, NULL);
    const adam_options overrides[] = {options_of(9), options_of(8)};
    adam_grad_options options = policy(ADAM_NONFINITE_SKIP);
    options.max_grad_norm = 1.0;
    for (size_t i = 0; i < COUNT(bad); i++) {
        quartet g = quartet_make(quartet_f64, 22);
        quartet_set(&g, 0, 30000, bad[i]);
        quartet out = quartet_room(out_types);
        const adam_step_args args = {.grads = g.tensors,
                                     .n_grads = QUARTET,
                                     .out = out.tensors,
                                     .groups = overrides,
                                     .grad_options = &options};
        adam_step_stats stats;
        const image before = image_take(o);
        assert_int_equal(adam_optimizer_step(o, &args, &stats, NULL), ADAM_OK);
        assert_unchanged(before, o);
        assert_int_equal(adam_optimizer_skipped_count(o), i + 1);
        assert_true(stats.skipped && stats.step == 1 && stats.converted == 2);
        assert_true(stats.update_norm == 0.0 && stats.clip_coef == 1.0);
        assert_false(isfinite(stats.grad_norm));
        assert_true(stats.param_norm >= first.param_norm && stats.param_norm <= first.param_norm);
        for (size_t t = 0; t < QUARTET; t++) {
            const adam_param_view p = adam_optimizer_param(o, t);
            const size_t bytes = p.numel * adam_dtype_size(out_types[t]);
            char *want = malloc(bytes);
            assert_non_null(want);
            adam_convert(out_types[t], want, p.tensor.dtype, p.tensor.data, p.numel);
            assert_memory_equal(out.tensors[t].data, want, bytes);
            free(want);
        }
        quartet_drop(&g);
        quartet_drop(&out);
    }
    /* a good step with that policy is a step, and the next one goes on */
    const adam_grad_options skip = policy(ADAM_NONFINITE_SKIP);
    assert_false(quartet_step(o, &good, &skip, NULL).skipped);
    (void)quartet_step(twin, &good, NULL, NULL);
    assert_same(o, twin);
    assert_int_equal(adam_optimizer_skipped_count(o), COUNT(bad));
    quartet_drop(&good);
    adam_optimizer_free(o);
    adam_optimizer_free(twin);
}

/* Over the gradients themselves: the parameters stand where the bad gradients were. */
static void test_skip_over_grads(void **state)
{
    (void)state;
    adam_optimizer *o = quartet_optimizer(quartet_mixed, NULL);
    quartet g = quartet_make(quartet_mixed, 23);
    quartet_set(&g, 3, 0, NAN);
    const adam_grad_options skip = policy(ADAM_NONFINITE_SKIP);
    adam_pool *pool = NULL;
    assert_int_equal(adam_pool_create(2, &pool), ADAM_OK);
    const adam_step_args args = {.grads = g.tensors,
                                 .n_grads = QUARTET,
                                 .out = g.tensors,
                                 .grad_options = &skip,
                                 .pool = pool};
    assert_int_equal(adam_optimizer_step(o, &args, NULL, NULL), ADAM_OK);
    for (size_t t = 0; t < QUARTET; t++) {
        const adam_param_view p = adam_optimizer_param(o, t);
        assert_memory_equal(g.tensors[t].data, p.tensor.data,
                            p.numel * adam_dtype_size(p.tensor.dtype));
    }
    adam_pool_free(pool);
    adam_optimizer_free(o);
    quartet_drop(&g);
}

/* ---- apply ---- */

/* Stepped with: the element becomes NaN, as in torch.optim, and no other differs from where its
 * gradient was another number. */
static void test_apply(void **state)
{
    (void)state;
    const adam_grad_options apply = policy(ADAM_NONFINITE_APPLY);
    adam_optimizer *o = quartet_optimizer(quartet_f32, NULL);
    adam_optimizer *twin = quartet_optimizer(quartet_f32, NULL);
    quartet g = quartet_make(quartet_f32, 24);
    (void)quartet_step(twin, &g, NULL, NULL);
    quartet_set(&g, 0, 17, NAN);
    const adam_step_stats stats = quartet_step(o, &g, &apply, NULL);
    assert_true(isnan(stats.grad_norm) && isnan(stats.param_norm) && !stats.skipped);
    for (size_t t = 0; t < QUARTET; t++) {
        const char *got = adam_optimizer_param(o, t).tensor.data;
        const char *want = adam_optimizer_param(twin, t).tensor.data;
        const size_t bytes = quartet_sizes[t] * sizeof(float);
        const size_t bad = 17 * sizeof(float);
        float value;
        memcpy(&value, got + bad, sizeof value);
        if (t > 0) {
            assert_memory_equal(got, want, bytes);
            continue;
        }
        assert_true(isnan(value));
        assert_memory_equal(got, want, bad);
        assert_memory_equal(got + bad + 4, want + bad + 4, bytes - bad - 4);
    }
    assert_int_equal(adam_optimizer_skipped_count(o), 0);
    adam_optimizer_free(o);
    adam_optimizer_free(twin);
    quartet_drop(&g);
}

/* An infinite total norm makes a coefficient of 0, a NaN one of NaN, as in torch;
 * error_if_nonfinite refuses both, and says which norm, of which order. It can be infinite where
 * every gradient is finite. */
static void test_total_norm(void **state)
{
    (void)state;
    static const struct {
        double first, second, coef;
        adam_norm norm;
        const char *text; /* NULL: not refused */
    } cases[] = {
        {NAN, 1, NAN, ADAM_NORM_2, "order 2 of the gradients is NaN"},
        {NAN, INFINITY, NAN, ADAM_NORM_INF, "order inf of the gradients is NaN"},
        {-INFINITY, 1, 0, ADAM_NORM_2, "order 2 of the gradients is Infinity"},
        {1, -INFINITY, 0, ADAM_NORM_INF, "order inf of the gradients is Infinity"},
        {3e38, -3e38, 0, ADAM_NORM_2, "order 2 of the gradients is Infinity"},
        {3e38, -3e38, 1, ADAM_NORM_INF, NULL},
    };
    adam_optimizer *o = quartet_optimizer(quartet_f32, NULL);
    for (size_t i = 0; i < COUNT(cases); i++) {
        quartet g = quartet_make(quartet_f32, 25);
        quartet_set(&g, 1, 2, cases[i].first);
        quartet_set(&g, 3, 19999, cases[i].second);
        adam_grad_options options = policy(ADAM_NONFINITE_APPLY);
        options.max_grad_norm = FLT_MAX;
        options.norm_type = cases[i].norm;
        options.error_if_nonfinite = true;
        const adam_step_args args = {
            .grads = g.tensors, .n_grads = QUARTET, .grad_options = &options};
        adam_error error = {0};
        if (cases[i].text != NULL) {
            const image before = image_take(o);
            assert_int_equal(adam_optimizer_step(o, &args, NULL, &error), ADAM_NON_FINITE);
            assert_non_null(strstr(error.message, cases[i].text));
            assert_false(error.has_index);
            assert_string_equal(error.param, "");
            assert_unchanged(before, o);
            options.error_if_nonfinite = false;
        }
        adam_optimizer *fresh = quartet_optimizer(quartet_f32, NULL);
        const double coef = quartet_step(fresh, &g, &options, NULL).clip_coef;
        assert_true(isnan(cases[i].coef) ? isnan(coef) : fabs(coef - cases[i].coef) < 1e-6);
        adam_optimizer_free(fresh);
        quartet_drop(&g);
    }
    adam_optimizer_free(o);
}

/* Clipping by value takes infinities to its limit, where the policy lets them come that far. */
static void test_clip_infinity(void **state)
{
    (void)state;
    adam_optimizer *o = quartet_optimizer(quartet_f64, NULL);
    adam_optimizer *twin = quartet_optimizer(quartet_f64, NULL);
    quartet g = quartet_make(quartet_f64, 26);
    adam_grad_options options = policy(ADAM_NONFINITE_APPLY);
    options.clip_value = 3.0;
    quartet_set(&g, 2, 5, 3.0);
    (void)quartet_step(twin, &g, NULL, NULL);
    quartet_set(&g, 2, 5, INFINITY);
    (void)quartet_step(o, &g, &options, NULL);
    assert_same(o, twin);
    options.nonfinite = ADAM_NONFINITE_SKIP;
    assert_true(quartet_step(o, &g, &options, NULL).skipped);
    adam_optimizer_free(o);
    adam_optimizer_free(twin);
    quartet_drop(&g);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error),           cmocka_unit_test(test_skip),
        cmocka_unit_test(test_skip_over_grads), cmocka_unit_test(test_apply),
        cmocka_unit_test(test_total_norm),      cmocka_unit_test(test_clip_infinity),
    };
    return cmocka_run_group_tests_name("nonfinite", tests, NULL, NULL);
}

int main(void)
{
    return run_on_kernel(run);
}
