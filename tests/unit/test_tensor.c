/* test_tensor.c: types, shapes and names of tensors. */
#include "support.h"

#include <string.h>

/* Sizes and names are what safetensors and torch call the two types. */
static void test_dtypes(void **state)
{
    (void)state;
    assert_int_equal(adam_dtype_size(ADAM_FLOAT32), 4);
    assert_int_equal(adam_dtype_size(ADAM_FLOAT64), 8);
    assert_string_equal(adam_dtype_name(ADAM_FLOAT32), "float32");
    assert_string_equal(adam_dtype_name(ADAM_FLOAT64), "float64");
}

/* A rank of 0 is one element, a 0 among the dimensions makes none. */
static void test_numel(void **state)
{
    (void)state;
    uint64_t n = 7;
    assert_true(adam_shape_numel(0, NULL, &n));
    assert_int_equal(n, 1);
    assert_true(adam_shape_numel(3, (uint64_t[]){2, 3, 4}, &n));
    assert_int_equal(n, 24);
    assert_true(adam_shape_numel(3, (uint64_t[]){5, 0, 4}, &n));
    assert_int_equal(n, 0);
    assert_true(adam_shape_numel(ADAM_MAX_RANK, (uint64_t[]){1, 1, 2, 1, 1, 3, 1, 1}, &n));
    assert_int_equal(n, 6);
}

/* The limits on rank and size hold at their edge, and no product wraps around below them. */
static void test_numel_limits(void **state)
{
    (void)state;
    const uint64_t limit = UINT64_C(1) << 53;
    const uint64_t wraps[] = {UINT64_C(1) << 32, UINT64_C(1) << 32};
    uint64_t nine[ADAM_MAX_RANK + 1];
    uint64_t n = 7;
    for (size_t i = 0; i < COUNT(nine); i++) {
        nine[i] = 1;
    }
    assert_true(adam_shape_numel(1, &limit, &n));
    assert_int_equal(n, limit);
    assert_false(adam_shape_numel(1, (uint64_t[]){limit + 1}, &n));
    assert_false(adam_shape_numel(2, (uint64_t[]){limit, 2}, &n));
    assert_false(adam_shape_numel(2, wraps, &n));
    assert_false(adam_shape_numel(1, (uint64_t[]){UINT64_MAX}, &n));
    assert_false(adam_shape_numel(3, (uint64_t[]){UINT64_MAX, UINT64_MAX, UINT64_MAX}, &n));
    assert_false(adam_shape_numel(ADAM_MAX_RANK + 1, nine, &n));
    assert_false(adam_shape_numel(-1, nine, &n));
}

/* An absurd shape stays absurd beside a 0, so that no later product of its dimensions overflows. */
static void test_numel_zero_does_not_excuse(void **state)
{
    (void)state;
    uint64_t n;
    assert_false(adam_shape_numel(2, (uint64_t[]){0, UINT64_MAX}, &n));
    assert_false(adam_shape_numel(3, (uint64_t[]){UINT64_C(1) << 40, 0, UINT64_C(1) << 40}, &n));
}

/* Shapes are equal when rank and every dimension are; [1] is not []. */
static void test_shape_equal(void **state)
{
    (void)state;
    const uint64_t a[] = {2, 3};
    assert_true(adam_shape_equal(2, a, 2, (uint64_t[]){2, 3}));
    assert_false(adam_shape_equal(2, a, 2, (uint64_t[]){3, 2}));
    assert_false(adam_shape_equal(2, a, 1, a));
    assert_false(adam_shape_equal(0, a, 1, (uint64_t[]){1}));
    assert_true(adam_shape_equal(0, NULL, 0, NULL));
}

/* RFC 3629's table, at both ends of every row: a malformed name would break every JSON reply. */
static void test_utf8(void **state)
{
    (void)state;
    static const char *const good[] = {
        "",
        "weight",
        "\x7f",
        "\xc2\x80",
        "\xdf\xbf",
        "\xe0\xa0\x80",
        "\xec\xbf\xbf",
        "\xed\x80\x80",
        "\xed\x9f\xbf",
        "\xee\x80\x80",
        "\xef\xbf\xbf",
        "\xf0\x90\x80\x80",
        "\xf1\x80\x80\x80",
        "\xf4\x8f\xbf\xbf",
        "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80z",
    };
    static const char *const bad[] = {
        "\x80",             /* continuation alone */
        "\xbf",             /* */
        "\xc0\x80",         /* overlong NUL */
        "\xc1\xbf",         /* overlong */
        "\xe0\x9f\xbf",     /* overlong */
        "\xf0\x8f\xbf\xbf", /* overlong */
        "\xed\xa0\x80",     /* surrogate */
        "\xed\xbf\xbf",     /* surrogate */
        "\xf4\x90\x80\x80", /* past U+10FFFF */
        "\xf5\x80\x80\x80", /* */
        "\xff",             /* */
        "\xfe",             /* */
        "\xc2",             /* cut short */
        "\xe2\x82",         /* */
        "\xf0\x9f\x98",     /* */
        "\xc2\x41",         /* not a continuation */
        "\xe2\x41\x80",     /* */
        "\xe2\x82\x41",     /* */
        "\xf0\x9f\x98\x41", /* */
        "ok\xc2",           /* at the end of good text */
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        assert_true(adam_utf8_valid(good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (adam_utf8_valid(bad[i], strlen(bad[i]))) {
            fail_msg("malformed text %zu was taken as UTF-8", i);
        }
    }
    assert_true(adam_utf8_valid("a\0b", 3)); /* NUL is UTF-8; names refuse it themselves */
    assert_true(adam_utf8_valid(NULL, 0));
}

/* A sequence is judged by the length given, never by what lies behind it. */
static void test_utf8_respects_length(void **state)
{
    (void)state;
    assert_false(adam_utf8_valid("\xe2\x82\xac", 2));
    assert_true(adam_utf8_valid("a\xe2\x82\xac", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dtypes),
        cmocka_unit_test(test_numel),
        cmocka_unit_test(test_numel_limits),
        cmocka_unit_test(test_numel_zero_does_not_excuse),
        cmocka_unit_test(test_shape_equal),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_utf8_respects_length),
    };
    return cmocka_run_group_tests_name("tensor", tests, NULL, NULL);
}
