/* test_fingerprint.c: fingerprint.c: the same bytes have the same, other bytes another. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdlib.h>
#include <string.h>

#include "fingerprint.h"

#define LENGTH ((size_t)1 << 20)

/* What xxhsum -H2 says: whichever instruction set is picked, and on whichever machine. */
static void test_known(void **state)
{
    (void)state;
    const fingerprint none = fingerprint_of("", 0);
    assert_true(none.high == 0x99aa06d3014798d8 && none.low == 0x6001c324468d497f);
    char *bytes = calloc(1, LENGTH);
    assert_non_null(bytes);
    for (size_t i = 0; i < LENGTH; i++) {
        bytes[i] = (char)(i * 31 >> 3);
    }
    const fingerprint long_one = fingerprint_of(bytes, LENGTH);
    assert_true(long_one.high == 0x135c08fedebdb806 && long_one.low == 0x4fab25ccb172d564);
    free(bytes);
}

/* A bit anywhere, or a byte more, makes another. */
static void test_told_apart(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 8, 16, 100, 240, 241, 1000, 4099};
    char bytes[5000];
    memset(bytes, 'x', sizeof bytes);
    for (size_t n = 0; n < sizeof lengths / sizeof lengths[0]; n++) {
        const size_t length = lengths[n];
        const fingerprint first = fingerprint_of(bytes, length);
        assert_true(fingerprint_same(first, fingerprint_of(bytes, length)));
        assert_false(fingerprint_same(first, fingerprint_of(bytes, length + 1)));
        for (size_t i = 0; i < length; i++) {
            bytes[i] ^= 4;
            assert_false(fingerprint_same(first, fingerprint_of(bytes, length)));
            bytes[i] ^= 4;
        }
    }
}

static void test_seed(void **state)
{
    (void)state;
    const uint64_t seed = fingerprint_seed();
    assert_int_not_equal(seed, fingerprint_seed());
    assert_int_equal(fingerprint_hash("key", 3, seed), fingerprint_hash("key", 3, seed));
    assert_int_not_equal(fingerprint_hash("key", 3, seed), fingerprint_hash("key", 3, seed + 1));
    assert_int_not_equal(fingerprint_hash("key", 3, seed), fingerprint_hash("kez", 3, seed));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_known),
                                       cmocka_unit_test(test_told_apart),
                                       cmocka_unit_test(test_seed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
