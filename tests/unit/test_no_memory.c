/* test_no_memory.c: every call that takes memory, with each of its requests refused in turn. The
 * call answers NO_MEMORY, nothing has changed, and nothing leaks. */
#include "support.h"

#include <stdlib.h>
#include <string.h>

/* Calls `act` with no memory from its k-th request on, for k = 1, 2, ... until it succeeds. It must
 * have failed at least `at_least` times. Returns with the heap willing again. */
static void fail_each(adam_optimizer *o, heap *h,
                      adam_status (*act)(adam_optimizer *, adam_error *), size_t at_least)
{
    for (size_t k = 1;; k++) {
        adam_error error = {0};
        const size_t live_blocks = h->live_blocks;
        const size_t live_bytes = h->live_bytes;
        const image before = image_take(o);
        h->fail_at = h->requests + k;
        const adam_status st = act(o, &error);
        h->fail_at = 0;
        if (st == ADAM_OK) {
            assert_true(k > at_least);
            free(before.bytes);
            return;
        }
        assert_int_equal(st, ADAM_NO_MEMORY);
        assert_int_equal(error.status, ADAM_NO_MEMORY);
        assert_non_null(strstr(error.message, "memory"));
        assert_int_equal(h->live_blocks, live_blocks);
        assert_int_equal(h->live_bytes, live_bytes);
        assert_unchanged(before, o);
        assert_true(k < 1000);
    }
}

/* Runs one call on an optimizer that has stepped, and on a twin with all the memory it wants: in
 * the end they are the same, so failing left nothing behind that shows later. */
static void check(adam_status (*act)(adam_optimizer *, adam_error *), size_t at_least)
{
    heap h = {0};
    const adam_allocator allocator = heap_allocator(&h);
    adam_optimizer *o = make_small(&allocator);
    adam_optimizer *twin = make_small(NULL);
    small_grads g;
    fill_small_grads(&g, 1);
    const adam_step_args only_c = {.grads = &g.tensors[2], .n_grads = 1};
    assert_int_equal(adam_optimizer_step(o, &only_c, NULL, NULL), ADAM_OK);
    assert_int_equal(adam_optimizer_step(twin, &only_c, NULL, NULL), ADAM_OK);
    fail_each(o, &h, act, at_least);
    assert_int_equal(act(twin, NULL), ADAM_OK);
    assert_same(o, twin);
    assert_int_equal(adam_optimizer_bytes(o), h.live_bytes);
    step_small(o, 8);
    step_small(twin, 8);
    assert_same(o, twin);
    adam_optimizer_free(o);
    adam_optimizer_free(twin);
    assert_int_equal(h.live_blocks, 0);
    assert_int_equal(h.live_bytes, 0);
}

static adam_options options_of(double lr)
{
    adam_options options;
    adam_options_default(ADAM_ALGORITHM_ADAM, &options);
    options.lr = lr;
    options.amsgrad = true;
    return options;
}

/* Creation, with amsgrad so that every kind of block is asked for. There is no optimizer then. */
static void test_create(void **state)
{
    (void)state;
    const adam_tensor params[] = {vector_of("a", ADAM_FLOAT32, 30, NULL),
                                  vector_of("b", ADAM_FLOAT64, 3, NULL)};
    const adam_group_spec groups[] = {
        {.options = options_of(0.1), .params = params, .n_params = 1},
        {.options = options_of(0.2), .params = params + 1, .n_params = 1},
    };
    for (size_t k = 1;; k++) {
        heap h = {.fail_at = k};
        const adam_allocator allocator = heap_allocator(&h);
        adam_error error = {0};
        adam_optimizer *o = NULL;
        const adam_status st =
            adam_optimizer_create(ADAM_ALGORITHM_ADAM, groups, 2, &allocator, &o, &error);
        if (st == ADAM_OK) {
            assert_true(k > 6);
            adam_optimizer_free(o);
            assert_int_equal(h.live_blocks, 0);
            return;
        }
        assert_int_equal(st, ADAM_NO_MEMORY);
        assert_int_equal(error.status, ADAM_NO_MEMORY);
        assert_null(o);
        assert_int_equal(h.live_blocks, 0);
        assert_int_equal(h.live_bytes, 0);
    }
}

static adam_status add_group(adam_optimizer *o, adam_error *error)
{
    const adam_tensor params[] = {vector_of("aa", ADAM_FLOAT32, 30, NULL),
                                  vector_of("0", ADAM_FLOAT64, 3, NULL)};
    const adam_group_spec spec = {.options = options_of(0.1), .params = params, .n_params = 2};
    return adam_optimizer_add_group(o, &spec, error);
}

static void test_add_group(void **state)
{
    (void)state;
    check(add_group, 4);
}

static adam_status set_options(adam_optimizer *o, adam_error *error)
{
    const adam_options options = options_of(0.7);
    return adam_optimizer_set_options(o, 0, &options, error);
}

static void test_set_options(void **state)
{
    (void)state;
    check(set_options, 1);
}

static adam_status step(adam_optimizer *o, adam_error *error)
{
    small_grads g, kept;
    fill_small_grads(&g, 3);
    fill_small_grads(&kept, 3);
    const adam_options groups[2] = {options_of(0.7), options_of(0.8)};
    const adam_step_args args = {
        .grads = g.tensors, .n_grads = SMALL_PARAMS, .groups = groups, .out = g.tensors};
    const adam_status st = adam_optimizer_step(o, &args, NULL, error);
    if (st != ADAM_OK) {
        assert_memory_equal(g.a, kept.a, sizeof g.a);
        assert_memory_equal(g.b, kept.b, sizeof g.b);
    }
    return st;
}

static void test_step(void **state)
{
    (void)state;
    check(step, 5);
}

/* With everything that a step may do about gradients: norms for clipping, conversion on both ways,
 * a schedule that moves. */
static adam_status step_with_care(adam_optimizer *o, adam_error *error)
{
    small_grads g;
    double wide[3];
    uint16_t halves[3];
    adam_grad_options options;
    fill_small_grads(&g, 3);
    adam_convert(ADAM_FLOAT64, wide, ADAM_FLOAT32, g.a, 3);
    adam_tensor out[SMALL_PARAMS];
    memcpy(out, g.tensors, sizeof out);
    g.tensors[0].dtype = ADAM_FLOAT64;
    g.tensors[0].data = wide;
    out[0].dtype = ADAM_BFLOAT16;
    out[0].data = halves;
    adam_grad_options_default(&options);
    options.grad_scale = 3.0;
    options.max_grad_norm = 0.5;
    options.clip_value = 0.125;
    options.nonfinite = ADAM_NONFINITE_SKIP;
    const adam_options groups[2] = {options_of(0.7), options_of(0.8)};
    const adam_step_args args = {.grads = g.tensors,
                                 .n_grads = SMALL_PARAMS,
                                 .groups = groups,
                                 .out = out,
                                 .grad_options = &options};
    return adam_optimizer_step(o, &args, NULL, error);
}

static void test_step_with_care(void **state)
{
    (void)state;
    check(step_with_care, 5);
}

/* A schedule in place of one that is there. */
static adam_status set_schedule(adam_optimizer *o, adam_error *error)
{
    union {
        adam_schedule schedule;
        unsigned char bytes[sizeof(adam_schedule) + sizeof(adam_scheduler)];
    } room = {.schedule = {.n = 1}};
    adam_scheduler_default(ADAM_EXPONENTIAL_LR, &room.schedule.at[0]);
    room.schedule.at[0].exponential.gamma = 0.5;
    const adam_options options = options_of(0.7);
    return adam_optimizer_set_schedule(o, 0, &options, &room.schedule, error);
}

static void test_set_schedule(void **state)
{
    (void)state;
    check(set_schedule, 2);
}

/* What is prepared has all its memory: applying it asks for none, so it cannot fail. */
static void test_apply_needs_none(void **state)
{
    (void)state;
    heap h = {0};
    const adam_allocator allocator = heap_allocator(&h);
    adam_optimizer *o = make_small(&allocator);
    small_grads g;
    adam_step_plan *plan = NULL;
    fill_small_grads(&g, 3);
    const adam_options groups[2] = {options_of(0.7), options_of(0.8)};
    const adam_step_args args = {.grads = g.tensors, .n_grads = SMALL_PARAMS, .groups = groups};
    assert_int_equal(adam_step_prepare(o, &args, &plan, NULL), ADAM_OK);
    const size_t requests = h.requests;
    h.fail_at = 1;
    adam_step_apply(plan, NULL, NULL);
    assert_int_equal(h.requests, requests);
    assert_int_equal(adam_optimizer_step_count(o), 1);
    adam_optimizer_free(o);
    assert_int_equal(h.live_blocks, 0);
}

static adam_status set_params(adam_optimizer *o, adam_error *error)
{
    small_grads v;
    fill_small_grads(&v, 3);
    return adam_optimizer_set_params(o, v.tensors, SMALL_PARAMS, error);
}

static void test_set_params(void **state)
{
    (void)state;
    check(set_params, 1);
}

/* A state that brings a maximum for group 0 too, so that its block is asked for. */
static adam_status load_state(adam_optimizer *o, adam_error *error)
{
    small_grads v[4];
    adam_param_state params[SMALL_PARAMS];
    for (uint64_t i = 0; i < 4; i++) {
        fill_small_grads(&v[i], 30 + i);
    }
    for (size_t i = 0; i < SMALL_PARAMS; i++) {
        params[i] = (adam_param_state){.tensor = v[0].tensors[i],
                                       .step = i,
                                       .exp_avg = v[1].tensors[i].data,
                                       .exp_avg_sq = v[2].tensors[i].data,
                                       .max_exp_avg_sq = v[3].tensors[i].data};
    }
    const adam_options groups[2] = {options_of(0.7), options_of(0.8)};
    const adam_state_dict d = {
        .step = 9, .groups = groups, .n_groups = 2, .params = params, .n_params = SMALL_PARAMS};
    return adam_optimizer_load_state(o, &d, error);
}

static void test_load_state(void **state)
{
    (void)state;
    check(load_state, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create),           cmocka_unit_test(test_add_group),
        cmocka_unit_test(test_set_options),      cmocka_unit_test(test_step),
        cmocka_unit_test(test_set_params),       cmocka_unit_test(test_load_state),
        cmocka_unit_test(test_apply_needs_none), cmocka_unit_test(test_step_with_care),
        cmocka_unit_test(test_set_schedule),
    };
    return cmocka_run_group_tests_name("no_memory", tests, NULL, NULL);
}
