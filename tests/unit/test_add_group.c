/* test_add_group.c: groups that come later, and finding parameters by name. */
#include "support.h"

#include <string.h>

static adam_group_spec group_of(const adam_tensor *params, size_t n)
{
    adam_group_spec spec = {.params = params, .n_params = n};
    adam_options_default(ADAM_ALGORITHM_ADAM, &spec.options);
    return spec;
}

/* A new group stands last; everything before it keeps its place, values, moments and counts. */
static void test_indices_stay(void **state)
{
    (void)state;
    heap h = {0};
    const adam_allocator allocator = heap_allocator(&h);
    adam_optimizer *o = make_small(&allocator);
    adam_optimizer *plain = make_small(NULL);
    step_small(o, 1);
    step_small(plain, 1);
    float late[2] = {1.5F, -2.5F};
    const adam_tensor params[] = {vector_of("aa", ADAM_FLOAT32, 2, late),
                                  vector_of("0", ADAM_FLOAT64, 1, NULL)};
    const adam_group_spec spec = group_of(params, 2);
    assert_int_equal(adam_optimizer_add_group(o, &spec, NULL), ADAM_OK);
    assert_int_equal(adam_optimizer_group_count(o), 3);
    assert_int_equal(adam_optimizer_param_count(o), SMALL_PARAMS + 2);
    assert_int_equal(adam_optimizer_numel(o), 8 + 3);
    for (size_t i = 0; i < SMALL_PARAMS; i++) {
        const adam_param_view now = adam_optimizer_param(o, i);
        const adam_param_view then = adam_optimizer_param(plain, i);
        const size_t bytes = now.numel * adam_dtype_size(now.tensor.dtype);
        assert_string_equal(now.tensor.name, then.tensor.name);
        assert_int_equal(now.step, 1);
        assert_memory_equal(now.tensor.data, then.tensor.data, bytes);
        assert_memory_equal(now.exp_avg, then.exp_avg, bytes);
        assert_memory_equal(now.exp_avg_sq, then.exp_avg_sq, bytes);
    }
    const adam_param_view added = adam_optimizer_param(o, SMALL_PARAMS);
    assert_string_equal(added.tensor.name, "aa");
    assert_int_equal(added.group, 2);
    assert_int_equal(added.step, 0);
    assert_memory_equal(added.tensor.data, late, sizeof late);
    assert_int_equal(adam_optimizer_group(o, 2).first_param, SMALL_PARAMS);
    assert_int_equal(adam_optimizer_bytes(o), h.live_bytes);
    adam_optimizer_free(o);
    adam_optimizer_free(plain);
    assert_int_equal(h.live_blocks, 0);
}

/* The old parameters step on as if nothing had been added, and the new ones start at step 1. */
static void test_steps_go_on(void **state)
{
    (void)state;
    adam_optimizer *o = make_small(NULL);
    adam_optimizer *plain = make_small(NULL);
    step_small(o, 1);
    step_small(plain, 1);
    float value = 3.0F;
    float grad = 0.5F;
    const adam_tensor param = vector_of("late", ADAM_FLOAT32, 1, &value);
    const adam_group_spec spec = group_of(&param, 1);
    assert_int_equal(adam_optimizer_add_group(o, &spec, NULL), ADAM_OK);
    small_grads g;
    fill_small_grads(&g, 2);
    adam_tensor all[SMALL_PARAMS + 1];
    memcpy(all, g.tensors, sizeof g.tensors);
    all[SMALL_PARAMS] = vector_of("late", ADAM_FLOAT32, 1, &grad);
    const adam_step_args args = {.grads = all, .n_grads = SMALL_PARAMS + 1};
    assert_int_equal(adam_optimizer_step(o, &args, NULL, NULL), ADAM_OK);
    step_small(plain, 2);
    for (size_t i = 0; i < SMALL_PARAMS; i++) {
        const adam_param_view p = adam_optimizer_param(o, i);
        assert_memory_equal(p.tensor.data, adam_optimizer_param(plain, i).tensor.data,
                            p.numel * adam_dtype_size(p.tensor.dtype));
        assert_int_equal(p.step, 2);
    }
    assert_int_equal(adam_optimizer_param(o, SMALL_PARAMS).step, 1);
    adam_optimizer_free(o);
    adam_optimizer_free(plain);
}

/* Whatever is wrong with a group, the optimizer is as it was. */
static void test_refused(void **state)
{
    (void)state;
    heap h = {0};
    const adam_allocator allocator = heap_allocator(&h);
    adam_optimizer *o = make_small(&allocator);
    step_small(o, 1);
    const image before = image_take(o);
    adam_error error;
    const adam_tensor taken[] = {vector_of("new", ADAM_FLOAT32, 1, NULL),
                                 vector_of("c", ADAM_FLOAT32, 1, NULL)};
    const adam_tensor twice[] = {vector_of("new", ADAM_FLOAT32, 1, NULL),
                                 vector_of("new", ADAM_FLOAT32, 1, NULL)};
    const adam_tensor nameless[] = {vector_of("new", ADAM_FLOAT32, 1, NULL),
                                    vector_of("", ADAM_FLOAT32, 1, NULL)};
    const adam_tensor huge[] = {vector_of("new", ADAM_FLOAT32, 1, NULL),
                                vector_of("huge", ADAM_FLOAT32, UINT64_MAX, NULL)};
    adam_group_spec spec = group_of(taken, 2);
    assert_int_equal(adam_optimizer_add_group(o, &spec, &error), ADAM_DUPLICATE_PARAM);
    assert_string_equal(error.param, "c");
    spec = group_of(twice, 2);
    assert_int_equal(adam_optimizer_add_group(o, &spec, &error), ADAM_DUPLICATE_PARAM);
    assert_string_equal(error.param, "new");
    spec = group_of(nameless, 2);
    assert_int_equal(adam_optimizer_add_group(o, &spec, &error), ADAM_INVALID_NAME);
    spec = group_of(huge, 2);
    assert_int_equal(adam_optimizer_add_group(o, &spec, &error), ADAM_TOO_LARGE);
    assert_string_equal(error.param, "huge");
    spec = group_of(taken, 1);
    spec.options.lr = -1.0;
    assert_int_equal(adam_optimizer_add_group(o, &spec, &error), ADAM_INVALID_OPTION);
    spec.options.amsgrad = true; /* with a block of its own to give back */
    spec.options.lr = 1.0;
    spec.params = twice;
    spec.n_params = 2;
    assert_int_equal(adam_optimizer_add_group(o, &spec, NULL), ADAM_DUPLICATE_PARAM);
    assert_unchanged(before, o);
    adam_optimizer_free(o);
    assert_int_equal(h.live_blocks, 0);
}

/* Names are found by their bytes, whole, whatever their order of creation; nothing else is. */
static void test_find(void **state)
{
    (void)state;
    static const char *const names[] = {"m", "z", "a", "aa", "\xc3\xa4", "Z", "a.b", "a-b", "ab"};
    adam_tensor params[COUNT(names)];
    adam_error error;
    adam_optimizer *o = NULL;
    for (size_t i = 0; i < COUNT(names); i++) {
        params[i] = vector_of(names[i], ADAM_FLOAT32, 1, NULL);
    }
    const adam_group_spec spec = group_of(params, COUNT(names));
    assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAM, &spec, 1, NULL, &o, &error),
                     ADAM_OK);
    for (size_t i = 0; i < COUNT(names); i++) {
        size_t found = SIZE_MAX;
        assert_true(adam_optimizer_find(o, names[i], strlen(names[i]), &found));
        assert_int_equal(found, i);
    }
    size_t untouched = 77;
    assert_false(adam_optimizer_find(o, "aaa", 3, &untouched));
    assert_false(adam_optimizer_find(o, "", 0, &untouched));
    assert_false(adam_optimizer_find(o, "zz", 2, &untouched));
    assert_false(adam_optimizer_find(o, "a\0", 2, &untouched)); /* a name ends at its length */
    assert_false(adam_optimizer_find(o, "\xff", 1, &untouched));
    assert_int_equal(untouched, 77);
    assert_true(adam_optimizer_find(o, "aaa", 2, &untouched)); /* "aa" */
    assert_int_equal(untouched, 3);
    adam_optimizer_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_indices_stay),
        cmocka_unit_test(test_steps_go_on),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_find),
    };
    return cmocka_run_group_tests_name("add_group", tests, NULL, NULL);
}
