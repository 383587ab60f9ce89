/* test_gradient_types.c: gradients and outputs of other types than their parameters', and the norms
 * of each group. */
#include "quartet.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TYPES 4

static const adam_dtype *const stored[] = {quartet_f32, quartet_f64, quartet_mixed};

/* Settings that take every way through a step. */
static adam_grad_options settings(size_t i)
{
    adam_grad_options options = grad_defaults();
    if (i % 3 != 0) {
        options.grad_scale = 3.0;
        options.max_grad_norm = 0.5;
        options.nonfinite = i % 3 == 1 ? ADAM_NONFINITE_SKIP : ADAM_NONFINITE_APPLY;
    }
    return options;
}

static bool same(double a, double b)
{
    uint64_t left, right;
    memcpy(&left, &a, sizeof left);
    memcpy(&right, &b, sizeof right);
    return left == right;
}

static void assert_same_stats(const adam_step_stats *a, const adam_step_stats *b)
{
    assert_int_equal(a->step, b->step);
    assert_true(same(a->grad_norm, b->grad_norm) && same(a->param_norm, b->param_norm) &&
                same(a->update_norm, b->update_norm) && same(a->clip_coef, b->clip_coef));
    assert_int_equal(a->skipped, b->skipped);
    assert_int_equal(a->converted, b->converted);
}

/* ---- gradients in ---- */

/* A gradient of another type gives the bits, the norms and the coefficient that converting it first
 * would give, with one thread or several. */
static void test_converted_first(void **state)
{
    (void)state;
    adam_pool *pool = NULL;
    assert_int_equal(adam_pool_create(3, &pool), ADAM_OK);
    for (size_t k = 0; k < COUNT(stored) * TYPES; k++) {
        const adam_dtype *types = stored[k / TYPES];
        adam_dtype sent[QUARTET];
        size_t differ = 0;
        for (size_t t = 0; t < QUARTET; t++) {
            sent[t] = (adam_dtype)((k + t) % TYPES);
            differ += sent[t] != types[t];
        }
        adam_optimizer *o = quartet_optimizer(types, NULL);
        adam_optimizer *threads = quartet_optimizer(types, NULL);
        adam_optimizer *twin = quartet_optimizer(types, NULL);
        for (size_t i = 0; i < 6; i++) {
            const adam_grad_options options = settings(i);
            quartet g = quartet_make(sent, 30 + i);
            quartet first = quartet_convert(&g, types);
            const adam_step_stats stats = quartet_step(o, &g, &options, NULL);
            const adam_step_stats pooled = quartet_step(threads, &g, &options, pool);
            adam_step_stats plain = quartet_step(twin, &first, &options, NULL);
            assert_int_equal(plain.converted, 0);
            plain.converted = differ;
            assert_same_stats(&stats, &plain);
            assert_same_stats(&pooled, &plain);
            quartet_drop(&g);
            quartet_drop(&first);
        }
        assert_same(o, twin);
        assert_same(threads, twin);
        adam_optimizer_free(o);
        adam_optimizer_free(threads);
        adam_optimizer_free(twin);
    }
    adam_pool_free(pool);
}

/* At odd addresses, as they may lie in a body. */
static void test_unaligned(void **state)
{
    (void)state;
    adam_optimizer *o = quartet_optimizer(quartet_f32, NULL);
    adam_optimizer *twin = quartet_optimizer(quartet_f32, NULL);
    static const adam_dtype sent[QUARTET] = {ADAM_BFLOAT16, ADAM_FLOAT16, ADAM_FLOAT64,
                                             ADAM_FLOAT32};
    quartet g = quartet_make(sent, 31);
    quartet odd = g;
    for (size_t t = 0; t < QUARTET; t++) {
        const size_t bytes = quartet_sizes[t] * adam_dtype_size(sent[t]);
        char *room = malloc(bytes + 1);
        assert_non_null(room);
        memcpy(room + 1, g.tensors[t].data, bytes);
        odd.tensors[t].data = room + 1;
    }
    const adam_grad_options options = settings(1);
    (void)quartet_step(o, &odd, &options, NULL);
    (void)quartet_step(twin, &g, &options, NULL);
    assert_same(o, twin);
    for (size_t t = 0; t < QUARTET; t++) {
        free((char *)odd.tensors[t].data - 1);
    }
    quartet_drop(&g);
    adam_optimizer_free(o);
    adam_optimizer_free(twin);
}

/* Parameters given in 16 bits are kept as float32, with the same values. */
static void test_create_from_halves(void **state)
{
    (void)state;
    static const adam_dtype halves[QUARTET] = {ADAM_BFLOAT16, ADAM_FLOAT16, ADAM_FLOAT16,
                                               ADAM_BFLOAT16};
    quartet narrow = quartet_make(halves, 1);
    quartet wide = quartet_convert(&narrow, quartet_f32);
    adam_optimizer *made[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++) {
        adam_group_spec spec = {.params = i ? wide.tensors : narrow.tensors, .n_params = QUARTET};
        adam_options_default(ADAM_ALGORITHM_ADAM, &spec.options);
        assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAM, &spec, 1, NULL, &made[i], NULL),
                         ADAM_OK);
    }
    assert_int_equal(adam_optimizer_param(made[0], 0).tensor.dtype, ADAM_FLOAT32);
    assert_same(made[0], made[1]);
    adam_optimizer_free(made[0]);
    adam_optimizer_free(made[1]);
    quartet_drop(&narrow);
    quartet_drop(&wide);
}

/* ---- parameters out ---- */

/* In any type, at any alignment: what converting the updated parameters afterwards gives. */
static void test_out(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT(stored) * TYPES; k++) {
        const adam_dtype *types = stored[k / TYPES];
        adam_dtype out_types[QUARTET];
        adam_tensor outs[QUARTET];
        for (size_t t = 0; t < QUARTET; t++) {
            out_types[t] = (adam_dtype)((k + t) % TYPES);
        }
        adam_optimizer *o = quartet_optimizer(types, NULL);
        quartet g = quartet_make(quartet_f32, 32);
        quartet out = quartet_room(quartet_f64);
        for (size_t t = 0; t < QUARTET; t++) {
            outs[t] = out.tensors[t];
            outs[t].dtype = out_types[t];
            outs[t].data = (char *)outs[t].data + (out_types[t] == ADAM_FLOAT64 ? 0 : 1);
        }
        const adam_grad_options options = settings(k);
        const adam_step_args args = {
            .grads = g.tensors, .n_grads = QUARTET, .out = outs, .grad_options = &options};
        assert_int_equal(adam_optimizer_step(o, &args, NULL, NULL), ADAM_OK);
        for (size_t t = 0; t < QUARTET; t++) {
            const adam_param_view p = adam_optimizer_param(o, t);
            const size_t bytes = p.numel * adam_dtype_size(out_types[t]);
            char *want = malloc(bytes);
            assert_non_null(want);
            adam_convert(out_types[t], want, p.tensor.dtype, p.tensor.data, p.numel);
            assert_memory_equal(outs[t].data, want, bytes);
            free(want);
        }
        quartet_drop(&g);
        quartet_drop(&out);
        adam_optimizer_free(o);
    }
}

/* ---- norms of groups ---- */

static double square_sum(const quartet *q, size_t tensor)
{
    double sum = 0;
    for (size_t i = 0; i < quartet_sizes[tensor]; i++) {
        sum += quartet_get(q, tensor, i) * quartet_get(q, tensor, i);
    }
    return sum;
}

static quartet params_of(const adam_optimizer *o, const adam_dtype *types)
{
    quartet q = quartet_room(types);
    for (size_t t = 0; t < QUARTET; t++) {
        const adam_param_view p = adam_optimizer_param(o, t);
        memcpy(q.tensors[t].data, p.tensor.data, p.numel * adam_dtype_size(types[t]));
    }
    return q;
}

static void assert_near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-12 * fabs(want))) {
        fail_msg("got %.17g, expected about %.17g", got, want);
    }
}

static void step_stats(adam_optimizer *o, const quartet *grads, const adam_grad_options *options,
                       adam_pool *pool, adam_step_stats *stats, adam_group_stats *groups)
{
    adam_step_plan *plan = NULL;
    const adam_step_args args = {
        .grads = grads->tensors, .n_grads = QUARTET, .grad_options = options, .pool = pool};
    assert_int_equal(adam_step_prepare(o, &args, &plan, NULL), ADAM_OK);
    adam_step_apply(plan, stats, groups);
}

/* Each group's norms are those of its gradients (unscaled, not clipped), of its parameters and of
 * their change; together they make the step's. */
static void test_group_norms(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT(stored); k++) {
        const adam_dtype *types = stored[k];
        adam_optimizer *o = quartet_optimizer(types, NULL);
        quartet before = params_of(o, types);
        quartet g = quartet_make(types, 33);
        adam_grad_options options = grad_defaults();
        options.grad_scale = 4.0;
        options.max_grad_norm = 0.01;
        adam_step_stats stats;
        adam_group_stats groups[2];
        step_stats(o, &g, &options, NULL, &stats, groups);
        quartet after = params_of(o, types);
        for (size_t t = 0; t < QUARTET; t++) {
            for (size_t i = 0; i < quartet_sizes[t]; i++) {
                quartet_set(&before, t, i, quartet_get(&after, t, i) - quartet_get(&before, t, i));
            }
        }
        double grad = 0, param = 0, update = 0;
        for (size_t group = 0; group < 2; group++) {
            const size_t t = 2 * group;
            assert_near(groups[group].grad_norm,
                        sqrt(square_sum(&g, t) + square_sum(&g, t + 1)) / 4.0);
            assert_near(groups[group].param_norm,
                        sqrt(square_sum(&after, t) + square_sum(&after, t + 1)));
            assert_near(groups[group].update_norm,
                        sqrt(square_sum(&before, t) + square_sum(&before, t + 1)));
            grad += groups[group].grad_norm * groups[group].grad_norm;
            param += groups[group].param_norm * groups[group].param_norm;
            update += groups[group].update_norm * groups[group].update_norm;
        }
        assert_near(stats.grad_norm, sqrt(grad));
        assert_near(stats.param_norm, sqrt(param));
        assert_near(stats.update_norm, sqrt(update));
        quartet_drop(&before);
        quartet_drop(&after);
        quartet_drop(&g);
        adam_optimizer_free(o);
    }
}

/* The same bits of every norm for any number of threads, converted or not, and for a step that is
 * skipped, too. */
static void test_group_norms_same(void **state)
{
    (void)state;
    static const adam_dtype halves[QUARTET] = {ADAM_BFLOAT16, ADAM_BFLOAT16, ADAM_FLOAT16,
                                               ADAM_FLOAT16};
    static const unsigned threads[] = {0, 1, 2, 7};
    for (int skipped = 0; skipped < 2; skipped++) {
        quartet narrow = quartet_make(halves, 34);
        if (skipped) {
            quartet_set(&narrow, 2, 3, INFINITY);
        }
        quartet wide = quartet_convert(&narrow, quartet_mixed);
        adam_grad_options options = settings(1);
        adam_step_stats stats[2 * COUNT(threads)];
        adam_group_stats groups[2 * COUNT(threads)][2];
        for (size_t i = 0; i < 2 * COUNT(threads); i++) {
            adam_pool *pool = NULL;
            if (threads[i / 2] > 0) {
                assert_int_equal(adam_pool_create(threads[i / 2], &pool), ADAM_OK);
            }
            adam_optimizer *o = quartet_optimizer(quartet_mixed, NULL);
            step_stats(o, i % 2 ? &wide : &narrow, &options, pool, &stats[i], groups[i]);
            assert_int_equal(stats[i].converted, i % 2 ? 0 : QUARTET);
            stats[i].converted = 0;
            assert_int_equal(stats[i].skipped, skipped);
            assert_same_stats(&stats[i], &stats[0]);
            assert_memory_equal(groups[i], groups[0], sizeof groups[i]);
            adam_pool_free(pool);
            adam_optimizer_free(o);
        }
        quartet_drop(&narrow);
        quartet_drop(&wide);
    }
}

/* A group without a gradient in the step has norms of 0. */
static void test_group_without_gradient(void **state)
{
    (void)state;
    adam_optimizer *o = quartet_optimizer(quartet_f32, NULL);
    quartet g = quartet_make(quartet_f32, 35);
    adam_step_plan *plan = NULL;
    adam_group_stats groups[2];
    memset(groups, 0x5a, sizeof groups);
    const adam_step_args args = {.grads = &g.tensors[2], .n_grads = 1};
    assert_int_equal(adam_step_prepare(o, &args, &plan, NULL), ADAM_OK);
    adam_step_apply(plan, NULL, groups);
    const adam_group_stats none = {0};
    assert_memory_equal(&groups[0], &none, sizeof none);
    assert_near(groups[1].grad_norm, sqrt(square_sum(&g, 2)));
    quartet_drop(&g);
    adam_optimizer_free(o);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_converted_first),
        cmocka_unit_test(test_unaligned),
        cmocka_unit_test(test_create_from_halves),
        cmocka_unit_test(test_out),
        cmocka_unit_test(test_group_norms),
        cmocka_unit_test(test_group_norms_same),
        cmocka_unit_test(test_group_without_gradient),
    };
    return cmocka_run_group_tests_name("gradient_types", tests, NULL, NULL);
}

int main(void)
{
    return run_on_kernel(run);
}
