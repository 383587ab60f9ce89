/* test_create.c: what an optimizer is made from, and what is refused. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static adam_options defaults(void)
{
    adam_options options;
    adam_options_default(ADAM_ALGORITHM_ADAM, &options);
    return options;
}

/* Creates from one group; on an error checks that there is no optimizer and no memory out. */
static adam_status create(const adam_tensor *params, size_t n, adam_optimizer **o,
                          adam_error *error)
{
    static heap h;
    h = (heap){0};
    const adam_allocator allocator = heap_allocator(&h);
    const adam_group_spec group = {.options = defaults(), .params = params, .n_params = n};
    *o = NULL;
    const adam_status st =
        adam_optimizer_create(ADAM_ALGORITHM_ADAM, &group, 1, &allocator, o, error);
    if (st == ADAM_OK) {
        assert_non_null(*o);
        assert_int_equal(adam_optimizer_bytes(*o), h.live_bytes);
    } else {
        assert_null(*o);
        assert_int_equal(h.live_blocks, 0);
        assert_int_equal(error->status, st);
        assert_true(strlen(error->message) > 0);
    }
    return st;
}

static adam_status create_named(const char *name, size_t length)
{
    adam_error error;
    adam_optimizer *o;
    const adam_tensor t = {.name = name, .name_len = length};
    const adam_status st = create(&t, 1, &o, &error);
    if (st == ADAM_OK) {
        const adam_param_view p = adam_optimizer_param(o, 0);
        assert_int_equal(p.tensor.name_len, length);
        assert_memory_equal(p.tensor.name, name, length);
        assert_int_equal(p.tensor.name[length], 0);
    }
    adam_optimizer_free(o);
    return st;
}

/* A name has 1 to 512 bytes of UTF-8 without NUL; it is copied and terminated. */
static void test_names(void **state)
{
    (void)state;
    char longest[ADAM_MAX_NAME + 1];
    memset(longest, 'n', sizeof longest);
    assert_int_equal(create_named("w", 1), ADAM_OK);
    assert_int_equal(create_named("layer.0/µ weight", strlen("layer.0/µ weight")), ADAM_OK);
    assert_int_equal(create_named(longest, ADAM_MAX_NAME), ADAM_OK);
    assert_int_equal(create_named(longest, ADAM_MAX_NAME + 1), ADAM_INVALID_NAME);
    assert_int_equal(create_named("", 0), ADAM_INVALID_NAME);
    assert_int_equal(create_named("a\xff", 2), ADAM_INVALID_NAME);
    assert_int_equal(create_named("\xed\xa0\x80", 3), ADAM_INVALID_NAME);
    assert_int_equal(create_named("a\0b", 3), ADAM_INVALID_NAME);
    assert_int_equal(create_named("a\0", 2), ADAM_INVALID_NAME);
    /* cut in the middle of a character, with the rest of it behind the end */
    assert_int_equal(create_named("\xe2\x82\xac", 2), ADAM_INVALID_NAME);
}

/* No two parameters share a name, within a group or between groups; the error says which name. */
static void test_duplicates(void **state)
{
    (void)state;
    adam_error error;
    adam_optimizer *o = NULL;
    const adam_tensor twice[] = {vector_of("x", ADAM_FLOAT32, 1, NULL),
                                 vector_of("w", ADAM_FLOAT32, 1, NULL),
                                 vector_of("w", ADAM_FLOAT64, 2, NULL)};
    assert_int_equal(create(twice, 3, &o, &error), ADAM_DUPLICATE_PARAM);
    assert_string_equal(error.param, "w");
    const adam_group_spec groups[] = {
        {.options = defaults(), .params = twice, .n_params = 2},
        {.options = defaults(), .params = twice + 2, .n_params = 1},
    };
    assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAM, groups, 2, NULL, &o, &error),
                     ADAM_DUPLICATE_PARAM);
    assert_string_equal(error.param, "w");
    assert_null(o);
    /* a prefix is another name */
    const adam_tensor prefix[] = {vector_of("w", ADAM_FLOAT32, 1, NULL),
                                  vector_of("w.", ADAM_FLOAT32, 1, NULL)};
    assert_int_equal(create(prefix, 2, &o, &error), ADAM_OK);
    adam_optimizer_free(o);
}

/* A scalar has one element, rank 8 is the most, and rank 9 is refused by name. */
static void test_ranks(void **state)
{
    (void)state;
    adam_error error;
    adam_optimizer *o;
    const adam_tensor scalar = shaped("s", 0, NULL);
    assert_int_equal(create(&scalar, 1, &o, &error), ADAM_OK);
    assert_int_equal(adam_optimizer_param(o, 0).numel, 1);
    assert_int_equal(adam_optimizer_param(o, 0).tensor.rank, 0);
    adam_optimizer_free(o);

    adam_tensor most = shaped("w", ADAM_MAX_RANK, (uint64_t[]){1, 2, 1, 3, 1, 2, 1, 2});
    assert_int_equal(create(&most, 1, &o, &error), ADAM_OK);
    assert_int_equal(adam_optimizer_param(o, 0).numel, 24);
    assert_memory_equal(adam_optimizer_param(o, 0).tensor.shape, most.shape, sizeof most.shape);
    adam_optimizer_free(o);

    most.rank = ADAM_MAX_RANK + 1;
    assert_int_equal(create(&most, 1, &o, &error), ADAM_TOO_LARGE);
    assert_string_equal(error.param, "w");
}

/* Shapes whose elements or bytes overflow are refused; nothing is allocated by a wrapped size. */
static void test_too_large(void **state)
{
    (void)state;
    adam_error error;
    adam_optimizer *o;
    static const uint64_t shapes[][2] = {
        {UINT64_C(1) << 32, UINT64_C(1) << 32},
        {(UINT64_C(1) << 53) + 1, 1},
        {UINT64_MAX, UINT64_MAX},
        {0, UINT64_MAX},
    };
    for (size_t i = 0; i < COUNT(shapes); i++) {
        const adam_tensor t = shaped("w", 2, shapes[i]);
        assert_int_equal(create(&t, 1, &o, &error), ADAM_TOO_LARGE);
        assert_string_equal(error.param, "w");
    }
    /* each within the limit, together past what a size can say */
    adam_tensor many[32];
    char names[COUNT(many)][8];
    for (size_t i = 0; i < COUNT(many); i++) {
        (void)snprintf(names[i], sizeof names[i], "w%zu", i);
        many[i] = shaped(names[i], 1, (uint64_t[]){UINT64_C(1) << 53});
        many[i].dtype = ADAM_FLOAT64;
    }
    assert_int_equal(create(many, COUNT(many), &o, &error), ADAM_NO_MEMORY);
}

/* Tensors without elements are parameters like others, alone too. */
static void test_empty_tensors(void **state)
{
    (void)state;
    adam_error error;
    adam_optimizer *o;
    const adam_tensor empty[] = {shaped("a", 1, (uint64_t[]){0}),
                                 shaped("b", 3, (uint64_t[]){4, 0, 2})};
    assert_int_equal(create(empty, 2, &o, &error), ADAM_OK);
    assert_int_equal(adam_optimizer_numel(o), 0);
    assert_int_equal(adam_optimizer_param(o, 1).numel, 0);
    assert_int_equal(adam_optimizer_param(o, 1).tensor.rank, 3);
    adam_options amsgrad = defaults();
    amsgrad.amsgrad = true;
    assert_int_equal(adam_optimizer_set_options(o, 0, &amsgrad, &error), ADAM_OK);
    assert_non_null(adam_optimizer_param(o, 1).max_exp_avg_sq);
    adam_optimizer_free(o);
}

/* An optimizer without a group is nothing to work on; one whose only group is empty may be filled
 * later, as a client may add groups. */
static void test_no_params(void **state)
{
    (void)state;
    adam_error error;
    adam_optimizer *o = NULL;
    size_t found;
    assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAM, NULL, 0, NULL, &o, &error),
                     ADAM_EMPTY);
    assert_null(o);
    assert_int_equal(create(NULL, 0, &o, &error), ADAM_OK);
    assert_int_equal(adam_optimizer_param_count(o), 0);
    assert_int_equal(adam_optimizer_group_count(o), 1);
    assert_false(adam_optimizer_find(o, "w", 1, &found));
    adam_optimizer_free(o);
    adam_optimizer_free(NULL);
}

/* Values are copied bit for bit, whatever they are and wherever they lie; without data they are
 * zeros. Moments and counts start at zero. */
static void test_initial_state(void **state)
{
    (void)state;
    adam_error error;
    adam_optimizer *o;
    unsigned char bits[1 + 5 * sizeof(float)] = {0}; /* at an odd address */
    const uint32_t values[] = {0x80000000, 0x00000001, 0x7fc12345, 0xff800000, 0x3f800000};
    memcpy(bits + 1, values, sizeof values);
    const adam_tensor params[] = {vector_of("w", ADAM_FLOAT32, 5, bits + 1),
                                  vector_of("z", ADAM_FLOAT64, 9, NULL)};
    const double zeros[9] = {0};
    assert_int_equal(create(params, 2, &o, &error), ADAM_OK);
    memset(bits, 0xff, sizeof bits); /* the caller's again */
    const adam_param_view w = adam_optimizer_param(o, 0);
    assert_memory_equal(w.tensor.data, values, sizeof values);
    assert_memory_equal(w.exp_avg, zeros, sizeof values);
    assert_memory_equal(w.exp_avg_sq, zeros, sizeof values);
    assert_null(w.max_exp_avg_sq);
    assert_int_equal(w.step, 0);
    const adam_param_view z = adam_optimizer_param(o, 1);
    assert_memory_equal(z.tensor.data, zeros, sizeof zeros);
    assert_int_equal(z.numel, 9);
    assert_int_equal(adam_optimizer_numel(o), 14);
    assert_int_equal(adam_optimizer_step_count(o), 0);
    adam_optimizer_free(o);
}

/* Groups keep their order, their options and their parameters' places. */
static void test_views(void **state)
{
    (void)state;
    adam_optimizer *o = make_small(NULL);
    assert_int_equal(adam_optimizer_algorithm(o), ADAM_ALGORITHM_ADAM);
    assert_int_equal(adam_optimizer_group_count(o), 2);
    assert_int_equal(adam_optimizer_param_count(o), SMALL_PARAMS);
    const adam_group_view second = adam_optimizer_group(o, 1);
    assert_int_equal(second.first_param, 2);
    assert_int_equal(second.n_params, 2);
    assert_true(second.options.amsgrad);
    assert_string_equal(adam_optimizer_param(o, 2).tensor.name, "c");
    assert_int_equal(adam_optimizer_param(o, 2).group, 1);
    assert_non_null(adam_optimizer_param(o, 2).max_exp_avg_sq);
    assert_null(adam_optimizer_param(o, 0).max_exp_avg_sq);
    adam_optimizer_free(o);
}

/* ADAM_MAX_GROUPS groups are taken, one more is not, at creation and when added. */
static void test_max_groups(void **state)
{
    (void)state;
    adam_error error;
    adam_optimizer *o = NULL;
    adam_group_spec *groups = calloc(ADAM_MAX_GROUPS + 1, sizeof *groups);
    assert_non_null(groups);
    for (size_t i = 0; i <= ADAM_MAX_GROUPS; i++) {
        groups[i].options = defaults();
    }
    assert_int_equal(
        adam_optimizer_create(ADAM_ALGORITHM_ADAM, groups, ADAM_MAX_GROUPS + 1, NULL, &o, &error),
        ADAM_TOO_LARGE);
    assert_null(o);
    assert_int_equal(
        adam_optimizer_create(ADAM_ALGORITHM_ADAM, groups, ADAM_MAX_GROUPS, NULL, &o, &error),
        ADAM_OK);
    assert_int_equal(adam_optimizer_add_group(o, groups, &error), ADAM_TOO_LARGE);
    assert_int_equal(adam_optimizer_group_count(o), ADAM_MAX_GROUPS);
    adam_optimizer_free(o);
    free(groups);
}

/* ADAM_MAX_PARAMS parameters are taken and all found; one more is not. */
static void test_max_params(void **state)
{
    (void)state;
    enum { NAME = 8 };
    adam_error error;
    adam_optimizer *o;
    adam_tensor *params = calloc(ADAM_MAX_PARAMS + 1, sizeof *params);
    char *names = malloc((size_t)(ADAM_MAX_PARAMS + 1) * NAME);
    assert_non_null(params);
    assert_non_null(names);
    for (size_t i = 0; i <= ADAM_MAX_PARAMS; i++) {
        (void)snprintf(names + i * NAME, NAME, "%07zu", i * 7919 % (ADAM_MAX_PARAMS + 1));
        params[i] = (adam_tensor){.name = names + i * NAME, .name_len = NAME - 1, .rank = 0};
    }
    assert_int_equal(create(params, ADAM_MAX_PARAMS + 1, &o, &error), ADAM_TOO_LARGE);
    assert_int_equal(create(params, ADAM_MAX_PARAMS, &o, &error), ADAM_OK);
    for (size_t i = 0; i < ADAM_MAX_PARAMS; i++) {
        size_t found = SIZE_MAX;
        assert_true(adam_optimizer_find(o, params[i].name, NAME - 1, &found) && found == i);
    }
    const adam_group_spec one = {
        .options = defaults(), .params = params + ADAM_MAX_PARAMS, .n_params = 1};
    assert_int_equal(adam_optimizer_add_group(o, &one, &error), ADAM_TOO_LARGE);
    const adam_group_spec none = {.options = defaults()};
    assert_int_equal(adam_optimizer_add_group(o, &none, &error), ADAM_OK);
    assert_int_equal(adam_optimizer_param_count(o), ADAM_MAX_PARAMS);
    adam_optimizer_free(o);
    free(params);
    free(names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),         cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_ranks),         cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_empty_tensors), cmocka_unit_test(test_no_params),
        cmocka_unit_test(test_initial_state), cmocka_unit_test(test_views),
        cmocka_unit_test(test_max_groups),    cmocka_unit_test(test_max_params),
    };
    return cmocka_run_group_tests_name("create", tests, NULL, NULL);
}
