/* test_step_refused.c: steps that are refused. Each changes nothing and says what was wrong. */
#include "support.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Takes a step that must be refused with `want`; checks that nothing has changed, neither the
 * optimizer nor its memory. */
static void refuse(adam_optimizer *o, const adam_tensor *grads, size_t n, adam_status want,
                   adam_error *error)
{
    const adam_step_args args = {.grads = grads, .n_grads = n, .out = grads};
    adam_step_stats stats = {.step = 99};
    const image before = image_take(o);
    memset(error, 0xff, sizeof *error);
    assert_int_equal(adam_optimizer_step(o, &args, &stats, error), want);
    assert_int_equal(error->status, want);
    assert_true(strlen(error->message) > 0);
    assert_int_equal(stats.step, 99);
    assert_int_equal(adam_optimizer_step(o, &args, NULL, NULL), want); /* without an error too */
    assert_unchanged(before, o);
}

/* A step without gradients would count and do nothing. */
static void test_no_gradients(void **state)
{
    (void)state;
    adam_error error;
    adam_optimizer *o = make_small(NULL);
    refuse(o, NULL, 0, ADAM_EMPTY, &error);
    adam_optimizer_free(o);
}

/* A name that the optimizer does not have, first, last, or as one more than there are parameters:
 * it is the unknown name that is reported. */
static void test_unknown(void **state)
{
    (void)state;
    adam_error error;
    adam_optimizer *o = make_small(NULL);
    float zero = 0.0F;
    small_grads g;
    fill_small_grads(&g, 1);
    adam_tensor all[SMALL_PARAMS + 1];
    memcpy(all, g.tensors, sizeof g.tensors);
    all[SMALL_PARAMS] = vector_of("typo", ADAM_FLOAT32, 1, &zero);
    refuse(o, all + SMALL_PARAMS, 1, ADAM_UNKNOWN_PARAM, &error);
    assert_string_equal(error.param, "typo");
    refuse(o, all + 1, SMALL_PARAMS, ADAM_UNKNOWN_PARAM, &error);
    assert_string_equal(error.param, "typo");
    refuse(o, all, SMALL_PARAMS + 1, ADAM_UNKNOWN_PARAM, &error);
    assert_string_equal(error.param, "typo");
    adam_optimizer_free(o);
}

/* A name given twice, whatever lies between, and where there are more gradients than parameters. */
static void test_duplicate(void **state)
{
    (void)state;
    adam_error error;
    adam_optimizer *o = make_small(NULL);
    small_grads g;
    fill_small_grads(&g, 1);
    adam_tensor all[SMALL_PARAMS + 1];
    memcpy(all, g.tensors, sizeof g.tensors);
    all[SMALL_PARAMS] = g.tensors[1];
    refuse(o, all, SMALL_PARAMS + 1, ADAM_DUPLICATE_PARAM, &error);
    assert_string_equal(error.param, "b");
    all[3] = g.tensors[0];
    refuse(o, all, SMALL_PARAMS, ADAM_DUPLICATE_PARAM, &error);
    assert_string_equal(error.param, "a");
    adam_optimizer_free(o);
}

/* A shape that is not the parameter's, though the elements be as many; both shapes are told. */
static void test_shape(void **state)
{
    (void)state;
    adam_error error;
    adam_optimizer *o = make_small(NULL);
    small_grads g;
    fill_small_grads(&g, 1);
    g.tensors[1].rank = 1;
    g.tensors[1].shape[0] = 4;
    refuse(o, g.tensors, SMALL_PARAMS, ADAM_SHAPE_MISMATCH, &error);
    assert_string_equal(error.param, "b");
    assert_true(error.has_shapes);
    assert_false(error.has_index);
    assert_int_equal(error.expected_rank, 2);
    assert_int_equal(error.expected[0], 2);
    assert_int_equal(error.expected[1], 2);
    assert_int_equal(error.got_rank, 1);
    assert_int_equal(error.got[0], 4);
    assert_non_null(strstr(error.message, "[2, 2]"));
    assert_non_null(strstr(error.message, "[4]"));
    fill_small_grads(&g, 1);
    g.tensors[2].rank = 1; /* [1] for [] */
    g.tensors[2].shape[0] = 1;
    refuse(o, g.tensors, SMALL_PARAMS, ADAM_SHAPE_MISMATCH, &error);
    assert_int_equal(error.expected_rank, 0);
    assert_non_null(strstr(error.message, "expected []"));
    adam_optimizer_free(o);
}

/* The longest message there is: cut to its room, and still terminated. */
static void test_long_message(void **state)
{
    (void)state;
    adam_error error;
    adam_optimizer *o = NULL;
    char name[ADAM_MAX_NAME + 1] = "";
    memset(name, 'n', ADAM_MAX_NAME);
    adam_tensor t = shaped(name, ADAM_MAX_RANK, (uint64_t[]){9, 1, 1, 1, 1, 1, 1, 1});
    const adam_group_spec spec = {.options = {.lr = 0.1}, .params = &t, .n_params = 1};
    assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAM, &spec, 1, NULL, &o, NULL), ADAM_OK);
    for (int i = 0; i < ADAM_MAX_RANK; i++) {
        t.shape[i] = UINT64_MAX;
    }
    refuse(o, &t, 1, ADAM_SHAPE_MISMATCH, &error);
    assert_true(strlen(error.message) < sizeof error.message);
    assert_int_equal(strlen(error.param), ADAM_MAX_NAME);
    assert_int_equal(error.got[ADAM_MAX_RANK - 1], UINT64_MAX);
    adam_optimizer_free(o);
}

/* A gradient's name may be longer than any parameter's. It is cut in the message and in `param`,
 * but never inside a character: what comes out is UTF-8 if what went in was. */
static void test_long_unknown_name(void **state)
{
    (void)state;
    static const char *const characters[] = {"\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    adam_error error;
    char name[1024];
    adam_optimizer *o = make_small(NULL);
    for (size_t c = 0; c < COUNT(characters); c++) {
        for (size_t offset = 0; offset < 4; offset++) {
            memset(name, 'n', sizeof name);
            name[offset] = '\0';
            while (strlen(name) < 1000) {
                strcat(name, characters[c]);
            }
            const adam_tensor t = vector_of(name, ADAM_FLOAT32, 0, NULL);
            refuse(o, &t, 1, ADAM_UNKNOWN_PARAM, &error);
            assert_true(adam_utf8_valid(error.message, strlen(error.message)));
            assert_true(adam_utf8_valid(error.param, strlen(error.param)));
            assert_true(strlen(error.param) > ADAM_MAX_NAME - 4);
            assert_true(strlen(error.message) > sizeof error.message - 5);
            assert_memory_equal(error.param, name, strlen(error.param));
        }
    }
    adam_optimizer_free(o);
}

static adam_optimizer *make_long(adam_dtype dtype, size_t n)
{
    adam_optimizer *o = NULL;
    const adam_tensor params[2] = {vector_of("first", dtype, 2, NULL),
                                   vector_of("long", dtype, n, NULL)};
    const adam_group_spec spec = {.options = {.lr = 0.1}, .params = params, .n_params = 2};
    assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAM, &spec, 1, NULL, &o, NULL), ADAM_OK);
    return o;
}

/* A NaN or infinity anywhere refuses the step and is found at its first place, whether it is near
 * the beginning, at the edge of a chunk or last, and on a pool as without. */
static void test_non_finite(void **state)
{
    (void)state;
    enum { N = 5 * 16384 + 7 };
    static const size_t places[] = {0, 1, 7, 8, 16383, 16384, 40000, 5 * 16384, N - 1};
    static const double values[] = {NAN, INFINITY, -INFINITY};
    static const char *const words[] = {"NaN", "Infinity", "-Infinity"};
    float *grad = calloc(N, sizeof *grad);
    float two[2] = {FLT_MAX, -FLT_MIN / 2};
    adam_pool *pool = NULL;
    adam_error error;
    assert_non_null(grad);
    assert_int_equal(adam_pool_create(3, &pool), ADAM_OK);
    adam_optimizer *o = make_long(ADAM_FLOAT32, N);
    const adam_tensor grads[2] = {vector_of("long", ADAM_FLOAT32, N, grad),
                                  vector_of("first", ADAM_FLOAT32, 2, two)};
    for (size_t i = 0; i < COUNT(places); i++) {
        const size_t kind = i % COUNT(values);
        memset(grad, 0, N * sizeof *grad);
        grad[places[i]] = (float)values[kind];
        grad[N - 1] = places[i] < N - 1 ? NAN : grad[N - 1]; /* a later one does not count */
        refuse(o, grads, 2, ADAM_NON_FINITE, &error);
        assert_string_equal(error.param, "long");
        assert_true(error.has_index);
        assert_int_equal(error.index, places[i]);
        assert_non_null(strstr(error.message, words[kind]));
        const adam_step_args args = {.grads = grads, .n_grads = 2, .pool = pool};
        memset(&error, 0, sizeof error);
        assert_int_equal(adam_optimizer_step(o, &args, NULL, &error), ADAM_NON_FINITE);
        assert_int_equal(error.index, places[i]);
    }
    memset(grad, 0, N * sizeof *grad);
    const adam_step_args args = {.grads = grads, .n_grads = 2};
    assert_int_equal(adam_optimizer_step(o, &args, NULL, NULL),
                     ADAM_OK); /* the largest is finite */
    adam_optimizer_free(o);
    adam_pool_free(pool);
    free(grad);
}

/* The same in float64, where a number may be out of float32's range and finite. With two bad
 * parameters it is the first of the optimizer's that is named, whatever the order given. */
static void test_non_finite_f64(void **state)
{
    (void)state;
    double one[2] = {1e300, DBL_MAX};
    double two[3] = {1.0, -INFINITY, NAN};
    adam_error error;
    adam_optimizer *o = make_long(ADAM_FLOAT64, 3);
    const adam_tensor grads[2] = {vector_of("long", ADAM_FLOAT64, 3, two),
                                  vector_of("first", ADAM_FLOAT64, 2, one)};
    refuse(o, grads, 2, ADAM_NON_FINITE, &error);
    assert_string_equal(error.param, "long");
    assert_int_equal(error.index, 1);
    assert_non_null(strstr(error.message, "-Infinity"));
    one[1] = NAN;
    refuse(o, grads, 2, ADAM_NON_FINITE, &error);
    assert_string_equal(error.param, "first");
    assert_int_equal(error.index, 1);
    adam_optimizer_free(o);
}

/* A refused step leaves the caller's gradients as they were, though they would have been written
 * over. */
static void test_gradients_kept(void **state)
{
    (void)state;
    adam_error error;
    adam_optimizer *o = make_small(NULL);
    small_grads g;
    fill_small_grads(&g, 1);
    g.b[3] = NAN;
    const small_grads kept = g;
    refuse(o, g.tensors, SMALL_PARAMS, ADAM_NON_FINITE, &error);
    assert_memory_equal(g.a, kept.a, sizeof g.a);
    assert_memory_equal(g.b, kept.b, sizeof g.b);
    adam_optimizer_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_gradients),   cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_duplicate),      cmocka_unit_test(test_shape),
        cmocka_unit_test(test_long_message),   cmocka_unit_test(test_long_unknown_name),
        cmocka_unit_test(test_non_finite),     cmocka_unit_test(test_non_finite_f64),
        cmocka_unit_test(test_gradients_kept),
    };
    return cmocka_run_group_tests_name("step_refused", tests, NULL, NULL);
}
