/* test_codec_tensors.c: codec_tensors.c and codec_numbers.c: the gradients of a JSON body, in
 * whichever way they were read, without gaps; tensors printed as lists. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec_numbers.h"
#include "codec_tensor_body.h"
#include "number.h"

#define BUDGET_BYTES ((size_t)64 << 20)
#include "budget.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* "a" [3], "b" [2, 2], "s" [], "e" [0, 2], all of a type. */
static adam_optimizer *make(adam_dtype dtype)
{
    adam_tensor params[] = {
        {.name = "a", .name_len = 1, .dtype = dtype, .rank = 1, .shape = {3}},
        {.name = "b", .name_len = 1, .dtype = dtype, .rank = 2, .shape = {2, 2}},
        {.name = "s", .name_len = 1, .dtype = dtype},
        {.name = "e", .name_len = 1, .dtype = dtype, .rank = 2, .shape = {0, 2}},
    };
    adam_group_spec group = {.params = params, .n_params = COUNT(params)};
    adam_optimizer *o = NULL;
    adam_error error;
    adam_options_default(ADAM_ALGORITHM_ADAM, &group.options);
    assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAM, &group, 1, NULL, &o, &error),
                     ADAM_OK);
    return o;
}

/* The values of tensor i, in double. */
static double value_of(const tensor_body *body, size_t i, size_t k)
{
    const adam_tensor *t = &body->tensors[i];
    return t->dtype == ADAM_FLOAT64 ? ((const double *)t->data)[k]
                                    : (double)((const float *)t->data)[k];
}

typedef struct expected {
    const char *json;
    size_t n; /* tensors */
    size_t numbers;
    double values[8];
    bool copied; /* also float32, which else stay where they were read */
} expected;

static const expected bodies[] = {
    {"{\"grads\": {\"a\": [1, 2, 3], \"b\": [[4, 5], [6, 7]]}}",
     2,
     7,
     {1, 2, 3, 4, 5, 6, 7},
     false},
    {"{\"grads\": {\"b\": [[4, 5], [6, 7]], \"a\": [1, 2, \"-Infinity\"]}}",
     2,
     7,
     {4, 5, 6, 7, 1, 2, -INFINITY},
     false},
    {"{\"param_groups\": [{\"betas\": [0.5, 0.25]}], \"grads\": {\"a\": [1, 2, 3]}}",
     1,
     3,
     {1, 2, 3},
     false},
    {"{\"grads\": {\"a\": [1, 2, 3]}, \"param_groups\": [{\"betas\": [0.5, 0.25]}]}",
     1,
     3,
     {1, 2, 3},
     false},
    {"{\"grads\": {\"a\": [1, 2, 3], \"s\": 8, \"b\": [[4, 5], [6, 7]]}}",
     3,
     8,
     {1, 2, 3, 8, 4, 5, 6, 7},
     true},
    {"{\"grads\": {\"a\": [1, 2, 3], \"s\": \"Infinity\"}}", 2, 4, {1, 2, 3, INFINITY}, true},
    {"{\"grads\": {\"e\": [], \"a\": [1, 2, 3]}}", 2, 3, {1, 2, 3}, false},
    {"{\"grads\": {\"e\": []}}", 1, 0, {0}, false},
    {"{\"grads\": {}}", 0, 0, {0}, true},
};

/* Whichever way the numbers were read: they are right, stand one behind the other, and nothing else
 * is in what becomes the reply. */
static void test_gradients(void **state)
{
    static const adam_dtype dtypes[] = {ADAM_FLOAT32, ADAM_FLOAT64};
    fixture *f = *state;
    for (size_t i = 0; i < COUNT(bodies) * COUNT(dtypes); i++) {
        const expected *want = &bodies[i / COUNT(dtypes)];
        const adam_dtype dtype = dtypes[i % COUNT(dtypes)];
        adam_optimizer *o = make(dtype);
        char copy[256];
        (void)strcpy(copy, want->json);
        const buffer sent = {.data = copy, .length = strlen(copy)};
        tensor_body body;
        codec_error error;
        if (tensor_body_read_json(f->pool, &sent, TENSOR_BODY_GRADS, o, &body, &error) !=
            CODEC_OK) {
            fail_msg("%s: %s", want->json, error.message);
        }
        assert_int_equal(body.n, want->n);
        assert_int_equal(body.data_length, want->numbers * adam_dtype_size(dtype));
        assert_true((body.data == json_floats(body.doc)) ==
                    (dtype == ADAM_FLOAT32 && !want->copied));
        const char *at = body.data->data + body.data_offset;
        size_t k = 0;
        for (size_t t = 0; t < body.n; t++) {
            uint64_t numel = 0;
            assert_true(adam_shape_numel(body.tensors[t].rank, body.tensors[t].shape, &numel));
            assert_int_equal(body.tensors[t].dtype, dtype);
            assert_ptr_equal(body.tensors[t].data, at);
            for (uint64_t e = 0; e < numel; e++) {
                assert_true(value_of(&body, t, e) == want->values[k++]);
            }
            at += numel * adam_dtype_size(dtype);
        }
        assert_int_equal(k, want->numbers);
        if (strstr(want->json, "betas") != NULL) {
            assert_true(body.overrides[0].betas[0] == 0.5 && body.overrides[0].betas[1] == 0.25);
        }
        tensor_body_drop(&body);
        adam_optimizer_free(o);
    }
}

/* What does not fit the parameter's type is named with its place. */
static void test_overflow(void **state)
{
    static const char json[] = "{\"grads\": {\"a\": [1, 2, 3], \"b\": [[4, 5], [-1e39 , 7]]}}";
    fixture *f = *state;
    adam_optimizer *o = make(ADAM_FLOAT32);
    char copy[sizeof json];
    memcpy(copy, json, sizeof json);
    const buffer sent = {.data = copy, .length = sizeof json - 1};
    tensor_body body;
    codec_error error;
    assert_int_equal(tensor_body_read_json(f->pool, &sent, TENSOR_BODY_GRADS, o, &body, &error),
                     CODEC_INVALID_VALUE);
    assert_string_equal(error.message,
                        "gradient of 'b' has -1e39 at element 2, which is out of the "
                        "range of float32");
    assert_string_equal(error.param, "b");
    tensor_body_drop(&body);
    adam_optimizer_free(o);
}

/* Lists of any length, around the number that is printed at once, of every type and alignment: the
 * text of each number, and room for all. */
static void test_printing(void **state)
{
    static const adam_dtype dtypes[] = {ADAM_FLOAT32, ADAM_FLOAT64, ADAM_BFLOAT16, ADAM_FLOAT16};
    fixture *f = *state;
    enum { MOST = 200 };
    char data[MOST * 8 + 1];
    double doubles[MOST];
    for (size_t i = 0; i < MOST; i++) {
        doubles[i] = (i % 2 ? -1 : 1) * ldexp(1.0 + (double)i / MOST, (int)(i % 40) - 20);
    }
    for (size_t i = 0; i < COUNT(dtypes) * MOST; i++) {
        const adam_dtype dtype = dtypes[i % COUNT(dtypes)];
        const uint64_t n = i / COUNT(dtypes);
        const size_t size = adam_dtype_size(dtype);
        adam_convert(dtype, data + 1, ADAM_FLOAT64, doubles, n);
        const adam_tensor list = {.dtype = dtype, .rank = 1, .shape = {n}, .data = data + 1};
        const adam_tensor rows = {.dtype = dtype, .rank = 2, .shape = {2, n / 2}, .data = data + 1};
        char expected_list[MOST * NUMBER_MAX_TEXT] = "[";
        char expected_rows[MOST * NUMBER_MAX_TEXT] = "[[";
        for (uint64_t k = 0; k < n; k++) {
            char number[NUMBER_MAX_TEXT];
            double value;
            float narrow;
            adam_convert(ADAM_FLOAT64, &value, dtype, data + 1 + k * size, 1);
            adam_convert(ADAM_FLOAT32, &narrow, dtype, data + 1 + k * size, 1);
            const size_t length = dtype == ADAM_FLOAT64 ? number_print_f64(value, number)
                                                        : number_print_any_f32(narrow, number);
            (void)snprintf(expected_list + strlen(expected_list), NUMBER_MAX_TEXT, "%s%.*s",
                           k > 0 ? ", " : "", (int)length, number);
            if (k < n / 2 * 2) {
                (void)snprintf(expected_rows + strlen(expected_rows), NUMBER_MAX_TEXT + 8, "%s%.*s",
                               k == n / 2 ? "], ["
                               : k > 0    ? ", "
                                          : "",
                               (int)length, number);
            }
        }
        (void)strcat(expected_list, "]");
        (void)strcat(expected_rows, "]]");
        text t = {.pool = f->pool};
        json_add_tensor(&t, &list);
        assert_int_equal(text_length(&t), strlen(expected_list));
        assert_memory_equal(t.buffer->data, expected_list, text_length(&t));
        text_drop(&t);
        if (n >= 2) {
            json_add_tensor(&t, &rows);
            assert_int_equal(text_length(&t), strlen(expected_rows));
            assert_memory_equal(t.buffer->data, expected_rows, text_length(&t));
            text_drop(&t);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_gradients, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overflow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_printing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
