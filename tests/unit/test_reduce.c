/* test_reduce.c: gradients of several workers made one. Each reduction against operations written
 * one by one, in the order that docs/numerics.md gives. */
#include "quartet.h"

#include <stdlib.h>
#include <string.h>

#define MAX_SOURCES 40
#define MAX_N       20000

static const adam_dtype dtypes[] = {ADAM_FLOAT32, ADAM_FLOAT64, ADAM_BFLOAT16, ADAM_FLOAT16};

/* Sources of an item, each at an odd address. */
typedef struct sources {
    adam_source at[MAX_SOURCES];
    char *memory[MAX_SOURCES];
    size_t n;
} sources;

/* Random numbers of `dtype`, or with `mixed` of all types in turn. */
static sources make_sources(size_t n, size_t numel, adam_dtype dtype, bool mixed)
{
    sources s = {.n = n};
    float *numbers = malloc(numel * sizeof *numbers + 1);
    for (size_t k = 0; k < n; k++) {
        const adam_dtype own = mixed ? dtypes[k % COUNT(dtypes)] : dtype;
        s.memory[k] = malloc(numel * sizeof(double) + 1);
        assert_non_null(s.memory[k]);
        fill_random(ADAM_FLOAT32, numbers, numel, 77 * n + k);
        adam_convert(own, s.memory[k] + 1, ADAM_FLOAT32, numbers, numel);
        s.at[k] = (adam_source){s.memory[k] + 1, own, 0.1 + 1.7 * (double)(k % 5)};
    }
    free(numbers);
    return s;
}

static void free_sources(sources *s)
{
    for (size_t k = 0; k < s->n; k++) {
        free(s->memory[k]);
    }
}

static float source_float(const adam_source *s, size_t i)
{
    float x;
    adam_convert(ADAM_FLOAT32, &x, s->dtype, (const char *)s->data + i * adam_dtype_size(s->dtype),
                 1);
    return x;
}

static double source_double(const adam_source *s, size_t i)
{
    double x;
    adam_convert(ADAM_FLOAT64, &x, s->dtype, (const char *)s->data + i * adam_dtype_size(s->dtype),
                 1);
    return x;
}

static double weights_of(const adam_reduce_item *item)
{
    double weights = 0.0;
    for (size_t k = 0; k < item->n; k++) {
        weights += item->sources[k].weight;
    }
    return weights;
}

static float expected_float(const adam_reduce_item *item, size_t i)
{
    float sum = 0.0F;
    for (size_t k = 0; k < item->n; k++) {
        float x = source_float(&item->sources[k], i);
        if (item->base != NULL) {
            x = ((const float *)item->base)[i] - x;
        }
        if (item->n == 1) {
            return x;
        }
        if (item->reduction == ADAM_REDUCE_WEIGHTED) {
            x = (float)item->sources[k].weight * x;
        }
        sum = k == 0 ? x : sum + x;
    }
    return item->reduction == ADAM_REDUCE_MEAN       ? sum / (float)item->n
           : item->reduction == ADAM_REDUCE_WEIGHTED ? sum / (float)weights_of(item)
                                                     : sum;
}

static double expected_double(const adam_reduce_item *item, size_t i)
{
    double sum = 0.0;
    for (size_t k = 0; k < item->n; k++) {
        double x = source_double(&item->sources[k], i);
        if (item->base != NULL) {
            x = ((const double *)item->base)[i] - x;
        }
        if (item->n == 1) {
            return x;
        }
        if (item->reduction == ADAM_REDUCE_WEIGHTED) {
            x = item->sources[k].weight * x;
        }
        sum = k == 0 ? x : sum + x;
    }
    return item->reduction == ADAM_REDUCE_MEAN       ? sum / (double)item->n
           : item->reduction == ADAM_REDUCE_WEIGHTED ? sum / weights_of(item)
                                                     : sum;
}

static void assert_reduced(const adam_reduce_item *item)
{
    for (size_t i = 0; i < item->numel; i++) {
        const float single = expected_float(item, i);
        const double both = expected_double(item, i);
        if (item->dtype == ADAM_FLOAT32) {
            assert_memory_equal((const char *)item->out + i * sizeof single, &single,
                                sizeof single);
        } else {
            assert_memory_equal((const char *)item->out + i * sizeof both, &both, sizeof both);
        }
    }
}

static const adam_reduction reductions[] = {ADAM_REDUCE_MEAN, ADAM_REDUCE_SUM,
                                            ADAM_REDUCE_WEIGHTED};

/* Every reduction, type, with and without a base, of few and many sources, over chunks and tails.
 */
static void check_all(bool mixed)
{
    static const size_t sizes[] = {0, 1, 31, 5000};
    static const size_t counts[] = {1, 2, 8, 9, 33};
    double base[5000];
    double out[5000];
    for (size_t c = 0; c < COUNT(sizes) * COUNT(counts) * 3 * 2 * 2; c++) {
        const adam_dtype dtype = dtypes[c % 2];
        adam_reduce_item item = {.out = out,
                                 .dtype = dtype,
                                 .reduction = reductions[c / 2 % 3],
                                 .base = c / 6 % 2 != 0 ? base : NULL,
                                 .numel = sizes[c / 12 % COUNT(sizes)],
                                 .n = counts[c / 12 / COUNT(sizes)]};
        sources s = make_sources(item.n, item.numel, dtype, mixed);
        item.sources = s.at;
        fill_random(dtype, base, item.numel, 5);
        adam_reduce(&item, 1, NULL);
        assert_reduced(&item);
        free_sources(&s);
    }
}

static void test_reductions(void **state)
{
    (void)state;
    check_all(false);
}

/* Sources of other types are converted first, with one rounding. */
static void test_types(void **state)
{
    (void)state;
    check_all(true);
}

/* Where the order matters, it is that of the sources: (1 + 2^-24) + 2^-24 is 1, and the other way
 * round it is not. */
static void test_order(void **state)
{
    (void)state;
    float one = 1.0F;
    float small = 0x1p-24F;
    adam_source s[3] = {
        {&one, ADAM_FLOAT32, 1.0}, {&small, ADAM_FLOAT32, 1.0}, {&small, ADAM_FLOAT32, 1.0}};
    float out;
    const adam_reduce_item item = {.out = &out,
                                   .dtype = ADAM_FLOAT32,
                                   .numel = 1,
                                   .sources = s,
                                   .n = 3,
                                   .reduction = ADAM_REDUCE_SUM};
    adam_reduce(&item, 1, NULL);
    assert_true(out == 1.0F);
    s[0].data = &small;
    s[2].data = &one;
    adam_reduce(&item, 1, NULL);
    assert_true(out == 1.0F + 0x1p-23F);
}

/* One source alone is taken as it is: 3 * 0.1 / 3 would be another number. */
static void test_alone(void **state)
{
    (void)state;
    float numbers[] = {0.1F, -0.0F, 3.3e-39F, 0.7F};
    for (size_t r = 0; r < COUNT(reductions); r++) {
        float out[4];
        const adam_source s = {numbers, ADAM_FLOAT32, 3.1};
        const adam_reduce_item item = {.out = out,
                                       .dtype = ADAM_FLOAT32,
                                       .numel = 4,
                                       .sources = &s,
                                       .n = 1,
                                       .reduction = reductions[r]};
        adam_reduce(&item, 1, NULL);
        assert_memory_equal(out, numbers, sizeof out);
    }
}

/* The result may take the place of the first source. */
static void test_in_place(void **state)
{
    (void)state;
    enum { N = 5000 };
    static float want[N];
    sources s = make_sources(11, N, ADAM_FLOAT32, false);
    adam_reduce_item item = {.out = want,
                             .dtype = ADAM_FLOAT32,
                             .numel = N,
                             .sources = s.at,
                             .n = s.n,
                             .reduction = ADAM_REDUCE_WEIGHTED};
    adam_reduce(&item, 1, NULL);
    item.out = s.memory[0] + 1;
    adam_reduce(&item, 1, NULL);
    assert_memory_equal(item.out, want, sizeof want);
    free_sources(&s);
}

/* Items of all sizes at once, on a pool and on one thread: the same bits, each item's own. */
static void test_pool(void **state)
{
    (void)state;
    enum { ITEMS = 300, SOURCES = 3 };
    static adam_reduce_item items[ITEMS];
    static sources s[ITEMS];
    adam_pool *pool = NULL;
    assert_int_equal(adam_pool_create(3, &pool), ADAM_OK);
    for (size_t i = 0; i < ITEMS; i++) {
        const size_t numel = i % 7 == 0 ? MAX_N : i % 5 == 0 ? 0 : i;
        s[i] = make_sources(SOURCES, numel, ADAM_FLOAT32, i % 3 == 0);
        items[i] = (adam_reduce_item){.out = malloc(MAX_N * sizeof(float)),
                                      .dtype = ADAM_FLOAT32,
                                      .numel = numel,
                                      .sources = s[i].at,
                                      .n = SOURCES,
                                      .reduction = reductions[i % 3]};
        assert_non_null(items[i].out);
    }
    for (size_t n = 0; n <= ITEMS; n += 100) {
        for (size_t i = 0; i < ITEMS; i++) {
            memset(items[i].out, 0x55, MAX_N * sizeof(float));
        }
        adam_reduce(items, n, n == 200 ? NULL : pool);
        for (size_t i = 0; i < n; i++) {
            assert_reduced(&items[i]);
        }
    }
    for (size_t i = 0; i < ITEMS; i++) {
        free_sources(&s[i]);
        free(items[i].out);
    }
    adam_pool_free(pool);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reductions), cmocka_unit_test(test_types),
        cmocka_unit_test(test_order),      cmocka_unit_test(test_alone),
        cmocka_unit_test(test_in_place),   cmocka_unit_test(test_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return run_on_kernel(run);
}
