/* test_table.c: table.c: entries are found by name whatever else is added or removed, and where
 * there is no memory to grow. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "table.h"

#define N 20000

typedef struct record {
    table_entry entry;
    char name[16];
    bool there;
} record;

static void check(const table *t, record *all)
{
    for (size_t i = 0; i < N; i++) {
        table_entry *e = table_find(t, all[i].name);
        assert_ptr_equal(e, all[i].there ? &all[i].entry : NULL);
    }
}

static void fill(memory *m)
{
    record *all = calloc(N, sizeof *all);
    assert_non_null(all);
    table t;
    size_t count = 0;
    table_init(&t, m);
    assert_int_equal(table_bytes(&t), 0);
    for (size_t i = 0; i < N; i++) {
        (void)snprintf(all[i].name, sizeof all[i].name, "name-%zu", i);
    }
    for (unsigned round = 0; round < 4; round++) {
        for (size_t i = 0; i < N; i++) {
            if ((i * 2654435761U >> 7) % 4 == round) {
                continue;
            }
            if (all[i].there) {
                table_remove(&t, &all[i].entry);
            } else {
                table_add(&t, &all[i].entry, all[i].name);
            }
            all[i].there = !all[i].there;
            count += all[i].there ? 1 : (size_t)-1;
        }
        assert_int_equal(t.count, count);
        check(&t, all);
    }
    for (size_t i = 0; i < N; i++) {
        if (all[i].there) {
            table_remove(&t, &all[i].entry);
        }
    }
    assert_int_equal(table_bytes(&t), 0);
    assert_int_equal(memory_used(m), 0);
    free(all);
}

static void test_find(void **state)
{
    (void)state;
    memory *m = memory_create((size_t)1 << 20);
    fill(m);
    memory_free(m);
}

/* The chains grow until there is no memory, and then just become longer. */
static void test_no_memory(void **state)
{
    (void)state;
    memory *m = memory_create((size_t)16 << 10);
    fill(m);
    memory_free(m);
}

/* Entries come off a queue from the oldest on, and from anywhere within. */
static void test_queue(void **state)
{
    (void)state;
    table_entry e[5];
    table_queue q = {NULL, NULL};
    for (size_t i = 0; i < 5; i++) {
        queue_push(&q, &e[i]);
    }
    queue_unlink(&q, &e[2]);
    queue_unlink(&q, &e[4]);
    queue_unlink(&q, &e[0]);
    queue_push(&q, &e[2]);
    static const size_t left[] = {1, 3, 2};
    for (size_t i = 0; i < 3; i++) {
        assert_ptr_equal(q.oldest, &e[left[i]]);
        queue_unlink(&q, q.oldest);
    }
    assert_null(q.oldest);
    assert_null(q.newest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_find),
                                       cmocka_unit_test(test_no_memory),
                                       cmocka_unit_test(test_queue)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
