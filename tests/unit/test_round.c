/* test_round.c: gradients that are held: kept in order, found, taken out, and reduced by worker
 * whatever the order in which they came. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adam/adam.h"
#include "round.h"

#define BUDGET_BYTES ((size_t)8 << 20)
#include "budget.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* "a" float32 [3], "b" float64 [2], "c" float32 []. */
static adam_optimizer *make_optimizer(void)
{
    static float a[] = {1, 2, 3};
    static double b[] = {10, 20};
    static float c[] = {5};
    adam_tensor params[] = {{.name = "a", .name_len = 1, .rank = 1, .shape = {3}, .data = a},
                            {.name = "b", .name_len = 1, .rank = 1, .shape = {2}, .data = b},
                            {.name = "c", .name_len = 1, .rank = 0, .data = c}};
    params[0].dtype = ADAM_FLOAT32;
    params[1].dtype = ADAM_FLOAT64;
    params[2].dtype = ADAM_FLOAT32;
    adam_group_spec group = {.params = params, .n_params = COUNT(params)};
    adam_optimizer *o = NULL;
    adam_error error;
    adam_options_default(ADAM_ALGORITHM_ADAM, &group.options);
    if (adam_optimizer_create(ADAM_ALGORITHM_ADAM, &group, 1, NULL, &o, &error) != ADAM_OK) {
        fail_msg("%s", error.message);
    }
    return o;
}

/* Adds what a worker sent as JSON. */
static contribution *add(fixture *f, const adam_optimizer *o, worker_round *r, const char *worker,
                         double weight, const char *json)
{
    tensor_body body;
    codec_error error;
    buffer *b = buffer_get(f->pool, strlen(json));
    assert_non_null(b);
    memcpy(b->data, json, strlen(json));
    b->length = strlen(json);
    if (tensor_body_read_json(f->pool, b, TENSOR_BODY_GRADS, o, &body, &error) != CODEC_OK) {
        fail_msg("%s: %s", json, error.message);
    }
    contribution *c = contribution_create(f->memory, &body, b, worker, NULL, weight);
    assert_non_null(c);
    tensor_body_drop(&body); /* which it has not any more */
    buffer_drop(b);          /* which it holds */
    round_add(r, c);
    return c;
}

static void test_list(void **state)
{
    fixture *f = *state;
    adam_optimizer *o = make_optimizer();
    worker_round r = {0};
    contribution *all[4];
    static const char *const names[] = {"z", "", "a", "m"};
    for (size_t i = 0; i < COUNT(all); i++) {
        all[i] = add(f, o, &r, names[i][0] != '\0' ? names[i] : NULL, 1, "{\"grads\": {\"c\": 1}}");
        (void)snprintf(all[i]->key, sizeof all[i]->key, "k%zu", i);
    }
    assert_int_equal(r.n, 4);
    assert_ptr_equal(r.first, all[0]);
    assert_ptr_equal(round_find_worker(&r, "a"), all[2]);
    assert_null(round_find_worker(&r, "b"));
    assert_ptr_equal(round_find_key(&r, "k3"), all[3]);
    assert_null(round_find_key(&r, "k"));
    round_remove(&r, all[3]); /* the last, the first, one between */
    assert_ptr_equal(r.last, all[2]);
    round_remove(&r, all[0]);
    assert_ptr_equal(r.first, all[1]);
    contribution *last = add(f, o, &r, "y", 1, "{\"grads\": {\"c\": 1}}");
    round_remove(&r, all[2]);
    assert_int_equal(r.n, 2);
    assert_true(r.first == all[1] && r.first->next == last && r.last == last);
    round_clear(&r);
    assert_true(r.n == 0 && r.first == NULL && r.last == NULL);
    contribution *only = add(f, o, &r, "y", 1, "{\"grads\": {\"c\": 1}}");
    round_remove(&r, only);
    assert_true(r.n == 0 && r.first == NULL && r.last == NULL);
    adam_optimizer_free(o);
}

static void test_same_params(void **state)
{
    static const struct {
        const char *other;
        bool same;
    } table[] = {{"{\"grads\": {\"a\": [4, 5, 6], \"b\": [7, 8]}}", true},
                 {"{\"grads\": {\"b\": [7, 8], \"a\": [4, 5, 6]}}", true},
                 {"{\"grads\": {\"a\": [4, 5, 6]}}", false},
                 {"{\"grads\": {\"a\": [4, 5, 6], \"c\": 7}}", false},
                 {"{\"grads\": {\"c\": 4, \"b\": [4, 5], \"a\": [4, 5, 6]}}", false}};
    fixture *f = *state;
    adam_optimizer *o = make_optimizer();
    worker_round r = {0};
    const contribution *first =
        add(f, o, &r, "x", 1, "{\"grads\": {\"a\": [1, 2, 3], \"b\": [1, 2]}}");
    for (size_t i = 0; i < COUNT(table); i++) {
        const contribution *c = add(f, o, &r, "y", 1, table[i].other);
        assert_int_equal(round_same_params(&first->body, &c->body), table[i].same);
        assert_int_equal(round_same_params(&c->body, &first->body), table[i].same);
    }
    round_clear(&r);
    adam_optimizer_free(o);
}

static const adam_tensor *find(const reduced *out, const char *name)
{
    for (size_t i = 0; i < out->n; i++) {
        if (out->tensors[i].name_len == 1 && out->tensors[i].name[0] == name[0]) {
            return &out->tensors[i];
        }
    }
    fail_msg("no %s", name);
    return NULL;
}

/* The union of what was sent, each over those who sent it; the same for every order. */
static void test_reduce(void **state)
{
    static const char *const workers[] = {"x", "y", "z"};
    static const double weights[] = {1, 3, 0.1};
    static const char *const sent[] = {"{\"grads\": {\"a\": [1, 2, 3], \"b\": [0.1, 2]}}",
                                       "{\"grads\": {\"a\": [0.1, 0.2, 1e9]}}",
                                       "{\"grads\": {\"b\": [0.3, 4], \"a\": [1e-9, 7, -1e9]}}"};
    static const size_t orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                       {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    fixture *f = *state;
    adam_optimizer *o = make_optimizer();
    for (size_t i = 0; i < COUNT(orders) * 2; i++) {
        const bool from_weights = i >= COUNT(orders);
        const size_t *order = orders[i % COUNT(orders)];
        worker_round r = {0};
        reduced out;
        for (size_t k = 0; k < 3; k++) {
            (void)add(f, o, &r, workers[order[k]], weights[order[k]], sent[order[k]]);
        }
        assert_true(round_reduce(&r, o, from_weights, ADAM_REDUCE_WEIGHTED, NULL, f->pool, &out));
        assert_string_equal(r.first->worker, "x");
        assert_string_equal(r.last->worker, "z");
        assert_int_equal(out.n, 2);
        const float *a = find(&out, "a")->data;
        const double *b = find(&out, "b")->data;
        const float at = from_weights ? 2 : 0;
        const float sign = from_weights ? -1 : 1;
        volatile float s = sign * (2 - at);
        s = s + 3 * (sign * (0.2F - at));
        volatile float part = 0.1F * (sign * (7 - at));
        s = s + part;
        assert_true(a[1] == s / (float)(1 + 3 + 0.1));
        const double two = from_weights ? 20 : 0;
        volatile double d = sign * (2 - two);
        volatile double last = 0.1 * (sign * (4 - two));
        d = d + last;
        assert_true(b[1] == d / (1 + 0.1));
        assert_int_equal((uintptr_t)b % sizeof(double), 0);
        reduced_drop(&out);
        round_clear(&r);
    }
    adam_optimizer_free(o);
}

/* Among contributions of one name, or of none, the first is the first. */
static void test_ties(void **state)
{
    fixture *f = *state;
    adam_optimizer *o = make_optimizer();
    worker_round r = {0};
    reduced out;
    (void)add(f, o, &r, "x", 1, "{\"grads\": {\"c\": 1e8}}");
    (void)add(f, o, &r, "x", 1, "{\"grads\": {\"c\": 1}}");
    (void)add(f, o, &r, NULL, 1, "{\"grads\": {\"c\": -1e8}}");
    (void)add(f, o, &r, NULL, 1, "{\"grads\": {\"c\": 3}}");
    assert_true(round_reduce(&r, o, false, ADAM_REDUCE_SUM, NULL, f->pool, &out));
    volatile float s = -1e8F;
    s = s + 3;
    s = s + 1e8F;
    s = s + 1;
    assert_true(*(const float *)find(&out, "c")->data == s);
    reduced_drop(&out);
    round_clear(&r);
    adam_optimizer_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_same_params),
        cmocka_unit_test(test_reduce),
        cmocka_unit_test(test_ties),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
