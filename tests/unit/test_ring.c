/* test_ring.c: ring.c: the last records are kept, whole and in order, whatever their lengths, and
 * within all limits. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdlib.h>
#include <string.h>

#include "ring.h"

#define MIB ((size_t)1 << 20)

/* The length of the record at a place, and what it is filled with. */
static size_t length_at(uint64_t place, size_t most)
{
    return (size_t)(place * 2654435761U % (most + 1));
}

static void add(ring *r, size_t most)
{
    const uint64_t place = r->next;
    const size_t length = length_at(place, most);
    unsigned char *to = ring_add(r, length);
    assert_non_null(to);
    assert_int_equal((uintptr_t)to % 8, 0);
    memset(to, (int)(place % 251), length);
}

static void check_record(const unsigned char *bytes, size_t length, uint64_t place, size_t most)
{
    assert_int_equal(length, length_at(place, most));
    for (size_t i = 0; i < length; i++) {
        assert_int_equal(bytes[i], place % 251);
    }
}

/* Every record that is said to be there is, one at a time and copied in rows. */
static void check_all(const ring *r, size_t most)
{
    static _Alignas(8) char copy[8 << 10];
    size_t length;
    for (uint64_t place = r->first; place < r->next; place++) {
        const void *bytes = ring_at(r, place, &length);
        check_record(bytes, length, place, most);
    }
    for (uint64_t place = r->first; place < r->next;) {
        size_t needed;
        const size_t n = ring_copy(r, place, copy, sizeof copy, &needed);
        assert_int_equal(needed, ring_copied_bytes(length_at(place, most)));
        const char *at = copy;
        assert_true(n > 0);
        for (size_t i = 0; i < n; i++) {
            const void *bytes = ring_copied(&at, &length);
            check_record(bytes, length, place++, most);
        }
        assert_true((size_t)(at - copy) <= sizeof copy);
    }
}

/* Growth from nothing, and then a window of max_records that moves on. */
static void test_grows_and_wraps(void **state)
{
    static const size_t counts[] = {1, 2, 10, 1000};
    (void)state;
    memory *m = memory_create(16 * MIB);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        ring r;
        size_t most_bytes = 0;
        ring_init(&r, m, counts[i], 8 * MIB);
        assert_int_equal(memory_used(m), 0);
        for (size_t n = 1; n <= 3 * counts[i] + 100; n++) {
            add(&r, 200);
            assert_int_equal(r.next, n);
            assert_int_equal(r.next - r.first, n < counts[i] ? n : counts[i]);
            most_bytes = r.bytes > most_bytes ? r.bytes : most_bytes;
            if (n % 97 == 0 || n < 20) {
                check_all(&r, 200);
            }
        }
        /* what is kept, a piece that is being filled and one that is being left */
        assert_true(most_bytes <= counts[i] * 120 + 3 * RING_PIECE_MAX);
        ring_clear(&r);
        assert_int_equal(memory_used(m), 0);
    }
    memory_free(m);
}

/* A few records cost little. */
static void test_begins_small(void **state)
{
    (void)state;
    memory *m = memory_create(16 * MIB);
    ring r;
    ring_init(&r, m, 1000000, 8 * MIB);
    add(&r, 0);
    assert_true(memory_used(m) <= RING_PIECE_MIN + 128);
    for (int i = 0; i < 1000; i++) {
        add(&r, 0);
        assert_true(r.bytes <= RING_PIECE_MIN || r.bytes <= 4 * 8 * (size_t)r.next);
    }
    ring_clear(&r);
    memory_free(m);
}

/* The bytes are capped, whatever the number of records; a record may be larger than a piece. */
static void test_bytes_are_capped(void **state)
{
    (void)state;
    memory *m = memory_create(16 * MIB);
    ring r;
    ring_init(&r, m, 1000000, MIB);
    for (int i = 0; i < 500; i++) {
        memset(ring_add(&r, 100000), 1, 100000);
        assert_true(r.bytes <= MIB);
        assert_true(r.next - r.first >= (i < 9 ? (uint64_t)i + 1 : 9));
    }
    for (int i = 0; i < 100000; i++) {
        assert_non_null(ring_add(&r, 24));
        assert_true(r.bytes <= MIB);
    }
    assert_true(r.next - r.first > MIB / 64);
    assert_null(ring_add(&r, MIB)); /* with what stands before it, it is over the cap */
    assert_int_equal(r.first, r.next);
    ring_clear(&r);
    assert_int_equal(memory_used(m), 0);
    memory_free(m);
}

static unsigned asked;

static void on_pressure(void *context, size_t wanted)
{
    (void)context;
    (void)wanted;
    asked++;
}

/* Where the budget has nothing to spare, what is there is used again: nobody is asked to give
 * anything back, and a part of the budget stays with the others. */
static void test_without_memory(void **state)
{
    (void)state;
    memory *m = memory_create(MIB);
    memory_on_pressure(m, on_pressure, NULL);
    ring r;
    ring_init(&r, m, 1000000, 8 * MIB);
    for (int i = 0; i < 100000; i++) {
        add(&r, 100);
        assert_true(memory_used(m) <= MIB - MIB / RING_SPARE_DIV);
    }
    assert_true(r.next - r.first > 5000);
    check_all(&r, 100);
    ring_clear(&r);

    void *others = memory_get(m, MIB - 4096); /* now one piece, and no other */
    assert_non_null(others);
    for (int i = 0; i < 1000; i++) {
        add(&r, 100);
        assert_true(r.next > r.first);
        check_all(&r, 100);
    }
    assert_true(r.bytes <= RING_PIECE_MIN);
    ring_clear(&r);
    void *rest = memory_get(m, 3500); /* and now none at all */
    assert_non_null(rest);
    for (uint64_t n = r.next + 1; n < 2000; n++) {
        assert_null(ring_add(&r, 100));
        assert_int_equal(r.next, n); /* its place is known to be gone */
        assert_int_equal(r.first, n);
    }
    memory_put(m, rest, 3500);
    add(&r, 100); /* and it is as if nothing had been */
    check_all(&r, 100);
    ring_clear(&r);
    memory_put(m, others, MIB - 4096);
    assert_int_equal(asked, 0);
    memory_free(m);
}

/* Long and short records in turn, at the cap: pieces of other sizes take each other's place. */
static void test_lengths_change(void **state)
{
    (void)state;
    memory *m = memory_create(16 * MIB);
    ring r;
    ring_init(&r, m, 300, MIB / 4);
    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < 400; i++) {
            const size_t length = round % 2 == 0 ? 40 : 5000;
            unsigned char *to = ring_add(&r, length);
            assert_non_null(to);
            memset(to, (int)(r.next % 251), length);
            assert_true(r.bytes <= MIB / 4);
        }
        for (uint64_t place = r.first; place < r.next; place++) {
            size_t length;
            const unsigned char *bytes = ring_at(&r, place, &length);
            assert_int_equal(bytes[0], (place + 1) % 251);
            assert_int_equal(bytes[length - 1], (place + 1) % 251);
        }
    }
    ring_clear(&r);
    assert_int_equal(memory_used(m), 0);
    memory_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grows_and_wraps),  cmocka_unit_test(test_begins_small),
        cmocka_unit_test(test_bytes_are_capped), cmocka_unit_test(test_without_memory),
        cmocka_unit_test(test_lengths_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
