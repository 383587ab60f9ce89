/* test_conversions.c: adam_convert against torch.Tensor.to, from conversions.txt.
 * make_conversions.py makes that file and says what it holds; the numbers are made here by the same
 * rules. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "adam/adam.h"
#include "numbers.h"

#define N 65536

static adam_dtype dtype_of(const char *name)
{
    for (int i = 0; i < 4; i++) {
        if (strcmp(name, adam_dtype_name((adam_dtype)i)) == 0) {
            return (adam_dtype)i;
        }
    }
    fail_msg("type '%s'", name);
    return ADAM_FLOAT32;
}

/* numbers() of make_conversions.py. */
static void fill(adam_dtype dtype, char *out)
{
    for (uint64_t i = 0; i < N; i++) {
        const uint64_t bits = mix(i | (uint64_t)dtype << 40);
        uint64_t word = i;
        if (dtype == ADAM_FLOAT32) {
            word = ((bits >> 1) % 256) << 23 | bits >> 41 | (bits & 1) << 31;
        } else if (dtype == ADAM_FLOAT64) {
            word = ((bits >> 1) % 320 + 1023 - 160) << 52 | bits >> 12 | bits << 63;
            word = (word | UINT64_C(1) << 29) & ~(UINT64_C(1) << 28);
        }
        char *at = out + i * adam_dtype_size(dtype);
        double value;
        memcpy(at, &word, adam_dtype_size(dtype)); /* the low bytes: this is a little-endian test */
        adam_convert(ADAM_FLOAT64, &value, dtype, at, 1);
        if (value != value) { /* no NaN */
            memset(at, 0, adam_dtype_size(dtype));
        }
    }
}

static void test_torch(void **state)
{
    (void)state;
    static char in[N * 8], out[N * 8];
    char from[16], to[16];
    uint64_t want;
    unsigned pairs = 0;
    FILE *file = fopen(CONVERSIONS_FILE, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "#%*[^\n]"), 0);
    for (; fscanf(file, " %15s %15s %" SCNx64, from, to, &want) == 3; pairs++) {
        fill(dtype_of(from), in);
        adam_convert(dtype_of(to), out, dtype_of(from), in, N);
        if (fnv1a(FNV_START, out, N * adam_dtype_size(dtype_of(to))) != want) {
            fail_msg("%s to %s differs from torch", from, to);
        }
    }
    assert_int_equal(pairs, 16);
    (void)fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_torch)};
    return cmocka_run_group_tests_name("conversions", tests, NULL, NULL);
}
