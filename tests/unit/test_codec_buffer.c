/* test_codec_buffer.c: buffer.c: buffers are reused, stay within the budget, and go back. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"

#define MIB          ((size_t)1 << 20)
#define BUDGET_BYTES (16 * MIB)
#include "budget.h"

#define KIB ((size_t)1 << 10)

/* A buffer has what was asked for, empty, and can be written to its end. */
static void test_get(void **state)
{
    static const size_t sizes[] = {0, 1, 4096, 4097, MIB - 1, MIB, MIB + 1, 3 * MIB};
    fixture *f = *state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        buffer *b = buffer_get(f->pool, sizes[i]);
        assert_non_null(b);
        assert_true(b->capacity >= sizes[i]);
        assert_int_equal(b->length, 0);
        memset(b->data, 0xa5, b->capacity);
        b->length = b->capacity;
        buffer_drop(b);
    }
    buffer_drop(NULL);
}

/* The next one of about that size is the same memory; a much smaller wish does not take it. */
static void test_reuse(void **state)
{
    fixture *f = *state;
    buffer *large = buffer_get(f->pool, 2 * MIB);
    assert_non_null(large);
    const char *data = large->data;
    large->length = 5;
    buffer_drop(large);
    const size_t used = memory_used(f->memory);
    buffer *small = buffer_get(f->pool, MIB);
    assert_ptr_not_equal(small->data, data);
    buffer *again = buffer_get(f->pool, 2 * MIB - 100 * KIB);
    assert_ptr_equal(again->data, data);
    assert_int_equal(again->length, 0);
    assert_int_equal(memory_used(f->memory), used + small->capacity);
    buffer_drop(small);
    buffer_drop(again);
}

/* It stays until the last one who holds it lets go. */
static void test_holds(void **state)
{
    fixture *f = *state;
    buffer *b = buffer_get(f->pool, 2 * MIB);
    assert_ptr_equal(buffer_hold(b), b);
    buffer_drop(b);
    buffer *other = buffer_get(f->pool, 2 * MIB);
    assert_ptr_not_equal(other->data, b->data); /* it is still held */
    memset(b->data, 1, b->capacity);
    buffer_drop(other);
    buffer_drop(b);
}

/* The budget ends somewhere; what is kept for reuse is given up for a buffer of another size. */
static void test_budget(void **state)
{
    fixture *f = *state;
    buffer *held[16];
    size_t n = 0;
    assert_null(buffer_get(f->pool, 17 * MIB));
    assert_null(buffer_get(f->pool, SIZE_MAX));
    assert_null(buffer_get(f->pool, SIZE_MAX - 64 * KIB));
    while ((held[n] = buffer_get(f->pool, 3 * MIB)) != NULL) {
        n++;
    }
    assert_int_equal(n, 5);
    assert_true(memory_used(f->memory) <= memory_limit(f->memory));
    while (n > 0) {
        buffer_drop(held[--n]);
    }
    assert_true(memory_used(f->memory) > 0); /* some are kept */
    buffer *whole = buffer_get(f->pool, 15 * MIB);
    assert_non_null(whole);
    buffer_drop(whole);
}

/* At most a quarter of the budget is kept. */
static void test_kept(void **state)
{
    fixture *f = *state;
    buffer *held[5];
    for (size_t i = 0; i < 5; i++) {
        held[i] = buffer_get(f->pool, 3 * MIB);
        assert_non_null(held[i]);
    }
    for (size_t i = 0; i < 5; i++) {
        buffer_drop(held[i]);
    }
    assert_true(memory_used(f->memory) <= memory_limit(f->memory) / 4);
}

/* A buffer that nobody wants between two trims goes at the second; one that is used stays. */
static void test_trim(void **state)
{
    fixture *f = *state;
    buffer *idle = buffer_get(f->pool, MIB);
    buffer *busy = buffer_get(f->pool, 2 * MIB);
    const size_t busy_bytes = busy->capacity;
    buffer_drop(idle);
    buffer_drop(busy);
    const size_t before = memory_used(f->memory);
    buffer_pool_trim(f->pool);
    assert_int_equal(memory_used(f->memory), before);
    busy = buffer_get(f->pool, 2 * MIB);
    buffer_drop(busy);
    buffer_pool_trim(f->pool);
    assert_int_equal(memory_used(f->memory), busy_bytes);
    buffer_pool_trim(f->pool);
    buffer_pool_trim(f->pool);
    assert_int_equal(memory_used(f->memory), 0);
}

/* Text grows as it must, keeps what it has, and fails for good where the budget ends. */
static void test_text(void **state)
{
    fixture *f = *state;
    text t = {.pool = f->pool};
    char line[32];
    size_t length = 0;
    assert_int_equal(text_length(&t), 0);
    for (int i = 0; i < 20000; i++) {
        const int n = snprintf(line, sizeof line, "%d;", i);
        if (i % 2) {
            text_add(&t, line, (size_t)n);
        } else {
            text_add_format(&t, "%d;", i);
        }
        length += (size_t)n;
    }
    text_add_string(&t, "end");
    assert_int_equal(text_length(&t), length + 3);
    const char *at = t.buffer->data;
    for (int i = 0; i < 20000; i++) {
        const int n = snprintf(line, sizeof line, "%d;", i);
        assert_memory_equal(at, line, (size_t)n);
        at += n;
    }
    assert_non_null(text_reserve(&t, MIB));
    assert_null(text_reserve(&t, 16 * MIB));
    assert_true(t.failed);
    text_add_string(&t, "more");
    assert_true(t.failed);
    assert_int_equal(text_length(&t), length + 3);
    text_drop(&t);
    assert_null(t.buffer);
}

static void *churn(void *argument)
{
    fixture *f = argument;
    unsigned seed = 7;
    for (int i = 0; i < 3000; i++) {
        seed = seed * 1103515245 + 12345;
        buffer *b = buffer_get(f->pool, (seed >> 8) % (2 * MIB));
        if (b != NULL) {
            b->data[0] = b->data[b->capacity - 1] = (char)i;
            buffer_drop(buffer_hold(b));
            buffer_drop(b);
        }
        if (i % 100 == 0) {
            buffer_pool_trim(f->pool);
        }
    }
    return NULL;
}

/* Several threads at once, over the budget now and then; teardown finds every byte given back. */
static void test_threads(void **state)
{
    pthread_t threads[8];
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, churn, *state), 0);
    }
    for (size_t i = 0; i < 8; i++) {
        (void)pthread_join(threads[i], NULL);
    }
}

/* Blocks of every small size at once, wherever the heap begins them, and of sizes about that from
 * which memory is mapped: aligned, whole, apart, and given back. */
static void test_memory(void **state)
{
    enum { SMALL = 700, MAPPED = 128 << 10, SIZES = SMALL + 4 };
    fixture *f = *state;
    unsigned char *blocks[SIZES];
    size_t sizes[SIZES];
    for (size_t i = 0; i < SIZES; i++) {
        sizes[i] = i < SMALL ? i : MAPPED - 2 + (i - SMALL);
        blocks[i] =
            i % 2 ? memory_get(f->memory, sizes[i]) : memory_get_zeroed(f->memory, sizes[i]);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 64, 0);
        for (size_t k = 0; i % 2 == 0 && k < sizes[i]; k++) {
            assert_int_equal(blocks[i][k], 0);
        }
        memset(blocks[i], (int)(i % 251), sizes[i]);
    }
    for (size_t i = 0; i < SIZES; i++) {
        for (size_t k = 0; k < sizes[i]; k++) {
            assert_int_equal(blocks[i][k], i % 251);
        }
        memory_put(f->memory, blocks[i], sizes[i]);
    }
    memory_put(f->memory, NULL, 0);
    assert_int_equal(memory_used(f->memory), 0);
    assert_null(memory_get(f->memory, SIZE_MAX));
    assert_null(memory_get_zeroed(f->memory, SIZE_MAX - 64));
}

/* Threads that have let go of many of the smallest buffers, and wait. */
#define CROWD ((size_t)100)

typedef struct crowd {
    buffer_pool *pool;
    pthread_barrier_t full, end;
} crowd;

static void *fill_own(void *argument)
{
    crowd *c = argument;
    buffer *held[16];
    for (size_t i = 0; i < 16; i++) {
        held[i] = buffer_get(c->pool, 1);
    }
    for (size_t i = 0; i < 16; i++) {
        buffer_drop(held[i]);
    }
    (void)pthread_barrier_wait(&c->full);
    (void)pthread_barrier_wait(&c->end);
    return NULL;
}

/* What threads keep for themselves nobody else can have: it is little, of any number of threads. */
static void test_own_share(void **state)
{
    fixture *f = *state;
    pthread_t threads[CROWD];
    crowd c = {.pool = f->pool};
    assert_int_equal(pthread_barrier_init(&c.full, NULL, CROWD + 1), 0);
    assert_int_equal(pthread_barrier_init(&c.end, NULL, CROWD + 1), 0);
    for (size_t i = 0; i < CROWD; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, fill_own, &c), 0);
    }
    (void)pthread_barrier_wait(&c.full);
    buffer_pool_reclaim(f->pool, SIZE_MAX);
    const size_t kept = memory_used(f->memory);
    buffer *most = buffer_get(f->pool, memory_limit(f->memory) / 10 * 9);
    (void)pthread_barrier_wait(&c.end);
    for (size_t i = 0; i < CROWD; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    pthread_barrier_destroy(&c.full);
    pthread_barrier_destroy(&c.end);
    assert_in_range(kept, 1, memory_limit(f->memory) / 15);
    assert_non_null(most);
    buffer_drop(most);
}

static void *drop_all(void *argument)
{
    buffer **held = argument;
    for (size_t i = 0; held[i] != NULL; i++) {
        buffer_drop(held[i]);
    }
    return NULL;
}

/* A buffer may be let go by another thread than the one that took it; what that one kept comes back
 * when it ends. */
static void test_own_elsewhere(void **state)
{
    fixture *f = *state;
    buffer *held[101] = {NULL};
    for (int round = 0; round < 3; round++) {
        pthread_t thread;
        for (size_t i = 0; i < 100; i++) {
            held[i] = buffer_get(f->pool, 1);
            memset(held[i]->data, round, held[i]->capacity);
        }
        assert_int_equal(pthread_create(&thread, NULL, drop_all, held), 0);
        (void)pthread_join(thread, NULL);
    }
    buffer_pool_reclaim(f->pool, SIZE_MAX);
    assert_int_equal(memory_used(f->memory), 0);
}

/* A thread's own buffers go back to the pool they are from, of two. */
static void test_own_two_pools(void **state)
{
    fixture *f = *state;
    memory *m = memory_create(BUDGET_BYTES);
    buffer_pool *other = buffer_pool_create(m);
    for (int round = 0; round < 3; round++) {
        buffer *a = buffer_get(f->pool, 1);
        buffer *b = buffer_get(other, 1);
        assert_ptr_not_equal(a->data, b->data);
        buffer_drop(round == 1 ? b : a);
        buffer_drop(round == 1 ? a : b);
        if (round == 1) {
            buffer_pool_reclaim(f->pool, SIZE_MAX);
            assert_int_equal(memory_used(f->memory), 0);
            assert_true(memory_used(m) > 0);
        }
    }
    buffer_pool_free(other);
    assert_int_equal(memory_used(m), 0);
    memory_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_get, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reuse, setup, teardown),
        cmocka_unit_test_setup_teardown(test_holds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_budget, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_trim, setup, teardown),
        cmocka_unit_test_setup_teardown(test_text, setup, teardown),
        cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_own_share, setup, teardown),
        cmocka_unit_test_setup_teardown(test_own_elsewhere, setup, teardown),
        cmocka_unit_test_setup_teardown(test_own_two_pools, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
