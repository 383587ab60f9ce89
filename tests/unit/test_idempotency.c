/* test_idempotency.c: idempotency.c: a key is known while its request is under way and for its time
 * after; it takes no more than its limits, and gives all back. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdio.h>
#include <string.h>

#define MIB          ((size_t)1 << 20)
#define BUDGET_BYTES (8 * MIB)
#include "budget.h"
#include "idempotency.h"

static int64_t now;

static int64_t now_ms(void)
{
    return now;
}

/* Keys that are kept for 10 seconds. */
static idempotency *begin(memory *m, size_t most)
{
    idempotency *k = idempotency_create(m, most, 10);
    assert_non_null(k);
    idempotency_set_clock(k, now_ms);
    return k;
}

static const char *name_of(size_t i)
{
    static char name[32];
    (void)snprintf(name, sizeof name, "key-%zu", i);
    return name;
}

static void answer(idempotency *k, size_t i)
{
    const adam_step_stats stats = {.step = i, .grad_norm = (double)i};
    assert_true(idempotency_begin(k, name_of(i), (fingerprint){i, ~i}, 0));
    idempotency_end(k, name_of(i), 200, 0, &stats, NULL);
}

static bool has(idempotency *k, size_t i)
{
    const key_record *r = idempotency_find(k, name_of(i));
    if (r != NULL) {
        assert_true(r->body.low == i && r->body.high == ~i && r->stats.step == i);
    }
    return r != NULL;
}

static void test_record(void **state)
{
    fixture *f = *state;
    idempotency *k = begin(f->memory, 10);
    const adam_group_stats groups[] = {{1, 2, 3}, {4, 5, 6}};
    const adam_step_stats stats = {.step = 7, .grad_norm = 8, .clip_coef = 0.5, .skipped = true};
    char key[IDEMPOTENCY_MAX_KEY + 1];
    memset(key, '~', sizeof key - 1);
    key[sizeof key - 1] = '\0';

    assert_null(idempotency_find(k, key));
    assert_true(idempotency_begin(k, key, (fingerprint){1, 2}, 2));
    const key_record *r = idempotency_find(k, key);
    assert_non_null(r);
    assert_true(r->pending && fingerprint_same(r->body, (fingerprint){1, 2}));

    idempotency_end(k, key, 202, 3, &stats, groups);
    r = idempotency_find(k, key);
    assert_non_null(r);
    assert_false(r->pending);
    assert_true(r->status == 202 && r->held == 3 && r->n_groups == 2);
    assert_true(fingerprint_same(r->body, (fingerprint){1, 2}));
    assert_true(r->stats.step == 7 && r->stats.grad_norm == 8 && r->stats.clip_coef == 0.5 &&
                r->stats.skipped);
    assert_memory_equal(r->groups, groups, sizeof groups);

    key[0] = '!'; /* another key */
    assert_null(idempotency_find(k, key));
    idempotency_free(k);
}

/* A refusal frees its key, and pushes no other out. */
static void test_abort(void **state)
{
    fixture *f = *state;
    idempotency *k = begin(f->memory, 1);
    answer(k, 1);
    for (size_t i = 2; i < 10; i++) {
        assert_true(idempotency_begin(k, name_of(i), (fingerprint){i, ~i}, 5));
        idempotency_abort(k, name_of(i));
        assert_null(idempotency_find(k, name_of(i)));
    }
    idempotency_abort(k, name_of(1)); /* answered: it stays */
    idempotency_abort(k, "unknown");
    assert_true(has(k, 1));
    assert_int_equal(idempotency_count(k), 1);
    idempotency_free(k);
}

/* Time begins with the answer; a pending key has no age. */
static void test_age(void **state)
{
    fixture *f = *state;
    idempotency *k = begin(f->memory, 1000);
    now = 5;
    assert_true(idempotency_begin(k, "pending", (fingerprint){0, 0}, 0));
    assert_true(idempotency_begin(k, name_of(0), (fingerprint){0, ~(uint64_t)0}, 0));
    now = 100000;
    idempotency_end(k, name_of(0), 200, 0, &(adam_step_stats){.step = 0}, NULL);
    now += 9999;
    assert_true(has(k, 0));
    now += 1;
    assert_false(has(k, 0));
    assert_true(idempotency_find(k, "pending")->pending);

    for (size_t i = 1; i <= 500; i++) {
        answer(k, i);
        now++;
    }
    now += 9600; /* 101 of them are too old: whichever is asked for first, and nothing younger */
    for (size_t i = 500; i >= 1; i--) {
        assert_int_equal(has(k, i), i > 101);
    }
    assert_int_equal(idempotency_count(k), 400);
    now += 100000;
    for (size_t i = 0; i < 100; i++) {
        assert_null(idempotency_find(k, "none"));
    }
    assert_int_equal(idempotency_count(k), 1);
    idempotency_free(k);
}

/* The oldest answer goes, never a pending key. */
static void test_most(void **state)
{
    fixture *f = *state;
    idempotency *k = begin(f->memory, 100);
    assert_true(idempotency_begin(k, "pending", (fingerprint){0, 0}, 0));
    for (size_t i = 1; i <= 1000; i++) {
        answer(k, i);
        assert_int_equal(idempotency_count(k), (i < 100 ? i : 100) + 1);
    }
    for (size_t i = 1; i <= 1000; i++) {
        assert_int_equal(has(k, i), i > 900);
    }
    assert_true(idempotency_find(k, "pending")->pending);
    idempotency_free(k);

    k = begin(f->memory, 0);
    const size_t empty = idempotency_bytes(k);
    assert_true(empty < 512);
    for (size_t i = 1; i <= 100; i++) {
        assert_true(idempotency_begin(k, name_of(i), (fingerprint){i, ~i}, 0));
    }
    assert_int_equal(idempotency_count(k), 100);
    for (size_t i = 1; i <= 100; i++) {
        idempotency_end(k, name_of(i), 200, 0, &(adam_step_stats){.step = i}, NULL);
        assert_false(has(k, i));
    }
    assert_int_equal(idempotency_count(k), 0);
    assert_int_equal(idempotency_bytes(k), empty);
    idempotency_free(k);
}

/* Without memory there is no new key, and those that are there stay. */
static void test_memory(void **state)
{
    fixture *f = *state;
    idempotency *k = begin(f->memory, (size_t)-1);
    size_t n = 0;
    while (idempotency_begin(k, name_of(n), (fingerprint){n, ~n}, 100)) {
        idempotency_end(k, name_of(n), 200, 0, &(adam_step_stats){.step = n}, NULL);
        n++;
    }
    assert_true(n > 2000);
    assert_int_equal(idempotency_count(k), n);
    assert_true(idempotency_bytes(k) <= memory_used(f->memory));
    assert_true(idempotency_bytes(k) >= memory_used(f->memory) / 10 * 9);
    for (size_t i = 0; i < n; i++) {
        assert_true(has(k, i));
    }
    idempotency_free(k);
    assert_int_equal(memory_used(f->memory), 0);

    void *rest = memory_get(f->memory, BUDGET_BYTES - 64);
    assert_null(idempotency_create(f->memory, 10, 10));
    memory_put(f->memory, rest, BUDGET_BYTES - 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_record), cmocka_unit_test(test_abort),
                                       cmocka_unit_test(test_age), cmocka_unit_test(test_most),
                                       cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
