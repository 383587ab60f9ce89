/* test_state.c: overwriting parameters, and whole states out of one optimizer into another. */
#include "support.h"

#include <stdlib.h>
#include <string.h>

/* ---- set_params ---- */

/* All values change, in any order of names; moments and counts stay. */
static void test_set_params(void **state)
{
    (void)state;
    adam_optimizer *o = make_small(NULL);
    step_small(o, 1);
    small_grads values;
    fill_small_grads(&values, 77);
    float avg[3];
    memcpy(avg, adam_optimizer_param(o, 0).exp_avg, sizeof avg);
    adam_tensor turned[SMALL_PARAMS];
    for (size_t i = 0; i < SMALL_PARAMS; i++) {
        turned[i] = values.tensors[SMALL_PARAMS - 1 - i];
    }
    assert_int_equal(adam_optimizer_set_params(o, turned, SMALL_PARAMS, NULL), ADAM_OK);
    const adam_param_view a = adam_optimizer_param(o, 0);
    assert_memory_equal(a.tensor.data, values.a, sizeof values.a);
    assert_memory_equal(adam_optimizer_param(o, 1).tensor.data, values.b, sizeof values.b);
    assert_memory_equal(adam_optimizer_param(o, 2).tensor.data, values.c, sizeof values.c);
    assert_memory_equal(a.exp_avg, avg, sizeof avg);
    assert_int_equal(a.step, 1);
    assert_int_equal(adam_optimizer_step_count(o), 1);
    adam_optimizer_free(o);
}

static void refuse_params(adam_optimizer *o, const adam_tensor *params, size_t n, adam_status want,
                          const char *named)
{
    adam_error error;
    const image before = image_take(o);
    assert_int_equal(adam_optimizer_set_params(o, params, n, &error), want);
    assert_int_equal(error.status, want);
    assert_string_equal(error.param, named);
    assert_int_equal(adam_optimizer_set_params(o, params, n, NULL), want);
    assert_unchanged(before, o);
}

/* Every parameter once, each with its own shape and type: anything else names the culprit. */
static void test_set_params_refused(void **state)
{
    (void)state;
    adam_optimizer *o = make_small(NULL);
    step_small(o, 1);
    small_grads v;
    adam_tensor five[SMALL_PARAMS + 1];
    fill_small_grads(&v, 5);
    refuse_params(o, v.tensors, SMALL_PARAMS - 1, ADAM_MISSING_PARAM, "d");
    refuse_params(o, v.tensors + 1, SMALL_PARAMS - 1, ADAM_MISSING_PARAM, "a");
    refuse_params(o, NULL, 0, ADAM_MISSING_PARAM, "a");
    memcpy(five, v.tensors, sizeof v.tensors);
    five[SMALL_PARAMS] = v.tensors[2];
    refuse_params(o, five, SMALL_PARAMS + 1, ADAM_DUPLICATE_PARAM, "c");
    five[SMALL_PARAMS].name = "x";
    refuse_params(o, five, SMALL_PARAMS + 1, ADAM_UNKNOWN_PARAM, "x");
    v.tensors[3].shape[0] = 1;
    refuse_params(o, v.tensors, SMALL_PARAMS, ADAM_SHAPE_MISMATCH, "d");
    v.tensors[1].dtype = ADAM_FLOAT32;
    refuse_params(o, v.tensors, SMALL_PARAMS, ADAM_DTYPE_MISMATCH, "b");
    adam_optimizer_free(o);
}

/* An optimizer without parameters has nothing to overwrite, and that succeeds. */
static void test_no_params(void **state)
{
    (void)state;
    adam_optimizer *o = NULL;
    const adam_group_spec group = {.options = {.lr = 0.1}};
    assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAM, &group, 1, NULL, &o, NULL),
                     ADAM_OK);
    assert_int_equal(adam_optimizer_set_params(o, NULL, 0, NULL), ADAM_OK);
    const adam_state_dict empty = {.step = 5, .groups = &group.options, .n_groups = 1};
    assert_int_equal(adam_optimizer_load_state(o, &empty, NULL), ADAM_OK);
    assert_int_equal(adam_optimizer_step_count(o), 5);
    adam_optimizer_free(o);
}

/* ---- load_state ---- */

/* A state dict of views into an optimizer of SMALL_PARAMS parameters, in reverse order. */
typedef struct dict {
    adam_options groups[2];
    adam_param_state params[SMALL_PARAMS];
    adam_state_dict state;
} dict;

static void dict_of(const adam_optimizer *o, dict *d)
{
    for (size_t i = 0; i < 2; i++) {
        d->groups[i] = adam_optimizer_group(o, i).options;
    }
    for (size_t i = 0; i < SMALL_PARAMS; i++) {
        const adam_param_view p = adam_optimizer_param(o, SMALL_PARAMS - 1 - i);
        d->params[i] = (adam_param_state){.tensor = p.tensor,
                                          .step = p.step,
                                          .exp_avg = p.exp_avg,
                                          .exp_avg_sq = p.exp_avg_sq,
                                          .max_exp_avg_sq = p.max_exp_avg_sq};
    }
    d->state = (adam_state_dict){.step = adam_optimizer_step_count(o),
                                 .groups = d->groups,
                                 .n_groups = 2,
                                 .params = d->params,
                                 .n_params = SMALL_PARAMS};
}

/* An optimizer with counts that differ, changed options and amsgrad resting in group 1. */
static adam_optimizer *make_worn(void)
{
    adam_optimizer *o = make_small(NULL);
    small_grads g;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        fill_small_grads(&g, seed);
        const adam_step_args args = {.grads = g.tensors, .n_grads = seed == 2 ? 1 : SMALL_PARAMS};
        assert_int_equal(adam_optimizer_step(o, &args, NULL, NULL), ADAM_OK);
    }
    adam_options options = adam_optimizer_group(o, 1).options;
    options.lr = 0.02;
    options.amsgrad = false;
    assert_int_equal(adam_optimizer_set_options(o, 1, &options, NULL), ADAM_OK);
    return o;
}

/* What was saved and loaded goes on as if it had never stopped, to the bit. */
static void test_round_trip(void **state)
{
    (void)state;
    dict d;
    adam_optimizer *from = make_worn();
    adam_optimizer *to = make_small(NULL);
    step_small(to, 99); /* something to forget */
    dict_of(from, &d);
    assert_int_equal(adam_optimizer_load_state(to, &d.state, NULL), ADAM_OK);
    assert_same(from, to);
    for (uint64_t seed = 10; seed < 20; seed++) {
        step_small(from, seed);
        step_small(to, seed);
        assert_same(from, to);
    }
    adam_optimizer_free(from);
    adam_optimizer_free(to);
}

/* max_exp_avg_sq comes and goes with the state, and the memory for it too. */
static void test_max_comes_and_goes(void **state)
{
    (void)state;
    heap h = {0};
    const adam_allocator allocator = heap_allocator(&h);
    dict d;
    adam_optimizer *with = make_small(&allocator);
    adam_optimizer *from = make_worn();
    const size_t bytes = adam_optimizer_bytes(with);
    dict_of(from, &d);
    for (size_t i = 0; i < SMALL_PARAMS; i++) {
        d.params[i].max_exp_avg_sq = NULL;
    }
    assert_int_equal(adam_optimizer_load_state(with, &d.state, NULL), ADAM_OK);
    assert_null(adam_optimizer_param(with, 2).max_exp_avg_sq);
    assert_true(adam_optimizer_bytes(with) < bytes);
    assert_int_equal(adam_optimizer_bytes(with), h.live_bytes);
    dict_of(from, &d);
    assert_int_equal(adam_optimizer_load_state(with, &d.state, NULL), ADAM_OK);
    assert_non_null(adam_optimizer_param(with, 2).max_exp_avg_sq);
    assert_int_equal(adam_optimizer_bytes(with), bytes);
    assert_same(from, with);
    adam_optimizer_free(with);
    adam_optimizer_free(from);
    assert_int_equal(h.live_blocks, 0);
}

/* Within a group some may have a maximum and some none: those that began without amsgrad. One that
 * has not stepped may still begin with it. */
static void test_max_of_some(void **state)
{
    (void)state;
    dict d;
    adam_error error;
    adam_optimizer *o = make_small(NULL);
    adam_optimizer *from = make_worn();
    step_small(o, 99); /* something to forget */
    dict_of(from, &d);
    d.params[0].max_exp_avg_sq = NULL; /* "d" */
    assert_int_equal(adam_optimizer_load_state(o, &d.state, NULL), ADAM_OK);
    assert_null(adam_optimizer_param(o, 3).max_exp_avg_sq);
    const adam_param_view c = adam_optimizer_param(o, 2);
    assert_memory_equal(c.max_exp_avg_sq, adam_optimizer_param(from, 2).max_exp_avg_sq,
                        c.numel * adam_dtype_size(c.tensor.dtype));
    adam_options options = adam_optimizer_group(o, 1).options;
    options.amsgrad = true;
    assert_int_equal(adam_optimizer_set_options(o, 1, &options, &error), ADAM_STATE_MISMATCH);
    assert_string_equal(error.param, "d");

    d.params[0].step = 0;
    assert_int_equal(adam_optimizer_load_state(o, &d.state, NULL), ADAM_OK);
    assert_null(adam_optimizer_param(o, 3).max_exp_avg_sq);
    assert_int_equal(adam_optimizer_set_options(o, 1, &options, NULL), ADAM_OK);
    const adam_param_view p = adam_optimizer_param(o, 3);
    assert_non_null(p.max_exp_avg_sq);
    for (uint64_t i = 0; i < p.numel * adam_dtype_size(p.tensor.dtype); i++) {
        assert_int_equal(((const char *)p.max_exp_avg_sq)[i], 0);
    }
    step_small(o, 5);
    adam_optimizer_free(o);
    adam_optimizer_free(from);
}

/* The largest counts there are load, and the next step is taken from them. */
static void test_largest_step(void **state)
{
    (void)state;
    dict d;
    adam_optimizer *o = make_worn();
    adam_optimizer *to = make_small(NULL);
    dict_of(o, &d);
    d.state.step = ADAM_MAX_STEP - 1;
    d.params[0].step = ADAM_MAX_STEP - 1;
    assert_int_equal(adam_optimizer_load_state(to, &d.state, NULL), ADAM_OK);
    step_small(to, 1);
    assert_int_equal(adam_optimizer_step_count(to), ADAM_MAX_STEP);
    small_grads grads;
    fill_small_grads(&grads, 1);
    const adam_step_args args = {.grads = grads.tensors, .n_grads = SMALL_PARAMS};
    assert_int_equal(adam_optimizer_step(to, &args, NULL, NULL), ADAM_TOO_LARGE);
    assert_int_equal(adam_optimizer_step_count(to), ADAM_MAX_STEP);
    adam_optimizer_free(o);
    adam_optimizer_free(to);
}

/* The count of skipped steps is loaded where it is given, and else stays. */
static void test_skipped(void **state)
{
    (void)state;
    dict d;
    adam_optimizer *o = make_worn();
    adam_optimizer *to = make_small(NULL);
    const uint64_t skipped = 17;
    dict_of(o, &d);
    d.state.skipped = &skipped;
    assert_int_equal(adam_optimizer_load_state(to, &d.state, NULL), ADAM_OK);
    assert_int_equal(adam_optimizer_skipped_count(to), 17);
    d.state.skipped = NULL;
    assert_int_equal(adam_optimizer_load_state(to, &d.state, NULL), ADAM_OK);
    assert_int_equal(adam_optimizer_skipped_count(to), 17);
    adam_optimizer_free(o);
    adam_optimizer_free(to);
}

static void refuse_state(const dict *d, adam_status want, const char *named)
{
    adam_error error;
    adam_optimizer *o = make_small(NULL);
    step_small(o, 99);
    const image before = image_take(o);
    assert_int_equal(adam_optimizer_load_state(o, &d->state, &error), want);
    assert_int_equal(error.status, want);
    assert_string_equal(error.param, named);
    assert_true(strlen(error.message) > 0);
    assert_int_equal(adam_optimizer_load_state(o, &d->state, NULL), want);
    assert_unchanged(before, o);
    adam_optimizer_free(o);
}

/* Names, shapes and types, as for set_params. params[3] of the dict is "a", [0] is "d". */
static void test_load_refused_params(void **state)
{
    (void)state;
    dict d;
    adam_optimizer *from = make_worn();
    dict_of(from, &d);
    d.state.n_params--;
    refuse_state(&d, ADAM_MISSING_PARAM, "a");
    dict_of(from, &d);
    d.params[0] = d.params[1];
    refuse_state(&d, ADAM_DUPLICATE_PARAM, "c");
    dict_of(from, &d);
    d.params[0].tensor.name = "x";
    refuse_state(&d, ADAM_UNKNOWN_PARAM, "x");
    dict_of(from, &d);
    d.params[3].tensor.shape[0]++;
    refuse_state(&d, ADAM_SHAPE_MISMATCH, "a");
    dict_of(from, &d);
    d.params[3].tensor.dtype = ADAM_FLOAT64;
    refuse_state(&d, ADAM_DTYPE_MISMATCH, "a");
    adam_optimizer_free(from);
}

/* Groups, counts, moments and options that do not fit together. */
static void test_load_refused_state(void **state)
{
    (void)state;
    dict d;
    adam_optimizer *from = make_worn();
    dict_of(from, &d);
    d.state.n_groups = 1;
    refuse_state(&d, ADAM_STATE_MISMATCH, "");
    dict_of(from, &d);
    d.state.step = ADAM_MAX_STEP + 1;
    refuse_state(&d, ADAM_STATE_MISMATCH, "");
    dict_of(from, &d);
    d.params[3].step = d.state.step + 1;
    refuse_state(&d, ADAM_STATE_MISMATCH, "a");
    dict_of(from, &d);
    d.params[3].exp_avg = NULL;
    refuse_state(&d, ADAM_STATE_MISMATCH, "a");
    dict_of(from, &d);
    d.params[3].exp_avg_sq = NULL;
    refuse_state(&d, ADAM_STATE_MISMATCH, "a");
    dict_of(from, &d);
    d.groups[0].amsgrad = true; /* "a" and "b" have no maximum */
    refuse_state(&d, ADAM_STATE_MISMATCH, "a");
    dict_of(from, &d);
    d.groups[1].amsgrad = true;
    d.params[0].max_exp_avg_sq = NULL; /* "c" has one, "d" of the same group has none */
    refuse_state(&d, ADAM_STATE_MISMATCH, "d");
    dict_of(from, &d);
    d.groups[1].betas[0] = 1.0;
    refuse_state(&d, ADAM_INVALID_OPTION, "");
    adam_optimizer_free(from);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_params),         cmocka_unit_test(test_set_params_refused),
        cmocka_unit_test(test_no_params),          cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_max_comes_and_goes), cmocka_unit_test(test_largest_step),
        cmocka_unit_test(test_max_of_some),        cmocka_unit_test(test_load_refused_params),
        cmocka_unit_test(test_load_refused_state), cmocka_unit_test(test_skipped),
    };
    return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
