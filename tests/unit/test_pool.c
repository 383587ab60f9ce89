/* test_pool.c: steps on threads. The number of threads shows in no bit, and a pool serves many
 * callers at once. */
#include "support.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Sizes around a chunk (16384 elements) and well above the few chunks that use a pool. */
static const struct {
    const char *name;
    adam_dtype dtype;
    uint64_t n;
} big[] = {
    {"a", ADAM_FLOAT32, 100003}, {"b", ADAM_FLOAT64, 16384}, {"c", ADAM_FLOAT32, 0},
    {"d", ADAM_FLOAT32, 16385},  {"e", ADAM_FLOAT64, 40001}, {"f", ADAM_FLOAT32, 1},
    {"g", ADAM_FLOAT64, 0},
};
#define BIG COUNT(big)

/* Gradients (or values) of all parameters; the caller's, to be freed with free_big. */
static void fill_big(adam_tensor tensors[BIG], uint64_t seed)
{
    for (size_t i = 0; i < BIG; i++) {
        void *data = malloc(big[i].n * adam_dtype_size(big[i].dtype) + 1);
        assert_non_null(data);
        fill_random(big[i].dtype, data, big[i].n, seed * BIG + i);
        tensors[i] = vector_of(big[i].name, big[i].dtype, big[i].n, data);
    }
}

static void free_big(adam_tensor tensors[BIG])
{
    for (size_t i = 0; i < BIG; i++) {
        free(tensors[i].data);
    }
}

static adam_optimizer *make_big(uint64_t seed)
{
    adam_optimizer *o = NULL;
    adam_tensor values[BIG];
    fill_big(values, seed);
    adam_group_spec spec = {.params = values, .n_params = BIG};
    adam_options_default(ADAM_ALGORITHM_ADAMW, &spec.options);
    spec.options.amsgrad = true;
    assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAMW, &spec, 1, NULL, &o, NULL),
                     ADAM_OK);
    free_big(values);
    return o;
}

#define STEPS 3

/* Takes STEPS steps of its own optimizer. No assertions: it runs in threads, too. */
typedef struct run {
    adam_optimizer *optimizer;
    adam_tensor (*grads)[BIG]; /* STEPS of them, only read */
    adam_pool *pool;
    adam_step_stats stats[STEPS];
    adam_status status;
} run;

static void *run_steps(void *argument)
{
    run *r = argument;
    for (size_t i = 0; i < STEPS && r->status == ADAM_OK; i++) {
        const adam_step_args args = {.grads = r->grads[i], .n_grads = BIG, .pool = r->pool};
        r->status = adam_optimizer_step(r->optimizer, &args, &r->stats[i], NULL);
    }
    return NULL;
}

static adam_tensor (*make_grads(void))[BIG]
{
    adam_tensor(*grads)[BIG] = malloc(STEPS * sizeof *grads);
    assert_non_null(grads);
    for (size_t i = 0; i < STEPS; i++) {
        fill_big(grads[i], 100 + i);
    }
    return grads;
}

static void free_grads(adam_tensor (*grads)[BIG])
{
    for (size_t i = 0; i < STEPS; i++) {
        free_big(grads[i]);
    }
    free(grads);
}

/* 1 to 1024 threads, and nothing else. */
static void test_limits(void **state)
{
    (void)state;
    adam_pool *pool = NULL;
    assert_int_equal(adam_pool_create(0, &pool), ADAM_INVALID_OPTION);
    assert_int_equal(adam_pool_create(1025, &pool), ADAM_INVALID_OPTION);
    assert_null(pool);
    assert_int_equal(adam_pool_create(1, &pool), ADAM_OK);
    adam_pool_free(pool);
    adam_pool_free(NULL);
}

/* The same bits of parameters, moments and norms without a pool and with 1, 2 and 5 threads. */
static void test_same_bits(void **state)
{
    (void)state;
    static const unsigned threads[] = {1, 2, 5};
    adam_tensor(*grads)[BIG] = make_grads();
    run alone = {.optimizer = make_big(1), .grads = grads};
    (void)run_steps(&alone);
    assert_int_equal(alone.status, ADAM_OK);
    assert_true(alone.stats[0].grad_norm > 0.0 && alone.stats[0].update_norm > 0.0);
    for (size_t i = 0; i < COUNT(threads); i++) {
        run r = {.optimizer = make_big(1), .grads = grads};
        assert_int_equal(adam_pool_create(threads[i], &r.pool), ADAM_OK);
        (void)run_steps(&r);
        assert_int_equal(r.status, ADAM_OK);
        assert_memory_equal(r.stats, alone.stats, sizeof r.stats);
        assert_same(r.optimizer, alone.optimizer);
        adam_pool_free(r.pool);
        adam_optimizer_free(r.optimizer);
    }
    adam_optimizer_free(alone.optimizer);
    free_grads(grads);
}

/* The sum of squares as docs/numerics.md has it: 16 lanes of fma in a chunk of 16384 elements,
 * added as a tree; chunks in order; then parameters in order. */
static double sum_of_squares(const adam_tensor *t)
{
    double sum = 0.0;
    for (size_t start = 0; start < t->shape[0]; start += 16384) {
        double lane[16] = {0};
        for (size_t i = start; i < start + 16384 && i < t->shape[0]; i++) {
            const double x = t->dtype == ADAM_FLOAT64 ? ((const double *)t->data)[i]
                                                      : (double)((const float *)t->data)[i];
            lane[i % 16] = fma(x, x, lane[i % 16]);
        }
        for (size_t half = 8; half > 0; half /= 2) {
            for (size_t k = 0; k < half; k++) {
                lane[k] += lane[k + half];
            }
        }
        sum += lane[0];
    }
    return sum;
}

/* The norms have a defined order of summation, written here a second time: a change of it would
 * change recorded histories in their last bits. */
static void test_norm_order(void **state)
{
    (void)state;
    adam_tensor(*grads)[BIG] = make_grads();
    run r = {.optimizer = make_big(1), .grads = grads};
    (void)run_steps(&r);
    assert_int_equal(r.status, ADAM_OK);
    for (size_t step = 0; step < STEPS; step++) {
        double sum = 0.0;
        for (size_t i = 0; i < BIG; i++) {
            sum += sum_of_squares(&grads[step][i]);
        }
        const double norm = sqrt(sum);
        assert_memory_equal(&r.stats[step].grad_norm, &norm, sizeof norm);
    }
    double sum = 0.0;
    for (size_t i = 0; i < BIG; i++) {
        const adam_param_view p = adam_optimizer_param(r.optimizer, i);
        sum += sum_of_squares(&p.tensor);
    }
    const double norm = sqrt(sum);
    assert_memory_equal(&r.stats[STEPS - 1].param_norm, &norm, sizeof norm);
    adam_optimizer_free(r.optimizer);
    free_grads(grads);
}

/* Many callers on one pool, more than it has threads: each finishes with the bits it has alone. */
static void test_many_callers(void **state)
{
    (void)state;
    enum { CALLERS = 8 };
    pthread_t threads[CALLERS];
    run runs[CALLERS];
    adam_pool *pool = NULL;
    adam_tensor(*grads)[BIG] = make_grads();
    assert_int_equal(adam_pool_create(3, &pool), ADAM_OK);
    for (size_t i = 0; i < CALLERS; i++) {
        runs[i] = (run){.optimizer = make_big(i), .grads = grads, .pool = pool};
        assert_int_equal(pthread_create(&threads[i], NULL, run_steps, &runs[i]), 0);
    }
    for (size_t i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    for (size_t i = 0; i < CALLERS; i++) {
        run alone = {.optimizer = make_big(i), .grads = grads};
        (void)run_steps(&alone);
        assert_int_equal(runs[i].status, ADAM_OK);
        assert_memory_equal(runs[i].stats, alone.stats, sizeof alone.stats);
        assert_same(runs[i].optimizer, alone.optimizer);
        adam_optimizer_free(alone.optimizer);
        adam_optimizer_free(runs[i].optimizer);
    }
    adam_pool_free(pool);
    free_grads(grads);
}

/* A pool can be ended and made again between two steps, and ended without ever being used. */
static void test_comes_and_goes(void **state)
{
    (void)state;
    adam_tensor(*grads)[BIG] = make_grads();
    for (unsigned i = 0; i < 20; i++) {
        adam_pool *pool = NULL;
        assert_int_equal(adam_pool_create(1 + i % 5, &pool), ADAM_OK);
        if (i % 10 == 0) {
            run r = {.optimizer = make_big(i), .grads = grads, .pool = pool};
            (void)run_steps(&r);
            assert_int_equal(r.status, ADAM_OK);
            adam_optimizer_free(r.optimizer);
        }
        adam_pool_free(pool);
    }
    free_grads(grads);
}

/* The new parameters go into the gradients' memory on threads as well. */
static void test_out_over_grads(void **state)
{
    (void)state;
    adam_pool *pool = NULL;
    adam_tensor grads[BIG];
    adam_optimizer *o = make_big(1);
    fill_big(grads, 100);
    assert_int_equal(adam_pool_create(4, &pool), ADAM_OK);
    const adam_step_args args = {.grads = grads, .n_grads = BIG, .out = grads, .pool = pool};
    assert_int_equal(adam_optimizer_step(o, &args, NULL, NULL), ADAM_OK);
    for (size_t i = 0; i < BIG; i++) {
        assert_memory_equal(grads[i].data, adam_optimizer_param(o, i).tensor.data,
                            big[i].n * adam_dtype_size(big[i].dtype));
    }
    adam_pool_free(pool);
    adam_optimizer_free(o);
    free_big(grads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),         cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_norm_order),     cmocka_unit_test(test_many_callers),
        cmocka_unit_test(test_comes_and_goes), cmocka_unit_test(test_out_over_grads),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
