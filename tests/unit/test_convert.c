/* test_convert.c: adam_convert between the four types. The reference here computes in whole numbers
 * and exact doubles; it shares no trick with core/convert.c. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PATTERNS 65536 /* of a 16-bit format */

/* A 16-bit format: bits of its fraction, exponents of its least and largest normal numbers. */
typedef struct format {
    adam_dtype dtype;
    int fraction, least, most;
} format;
static const format formats[] = {{ADAM_BFLOAT16, 7, -126, 127}, {ADAM_FLOAT16, 10, -14, 15}};

/* The number that a pattern stands for; NaN for any NaN. */
static double decode(const format *f, unsigned pattern)
{
    const unsigned exponent = pattern >> f->fraction & ((1U << (15 - f->fraction)) - 1);
    const unsigned fraction = pattern & ((1U << f->fraction) - 1);
    const double sign = (pattern & 0x8000) != 0 ? -1.0 : 1.0;
    if ((int)exponent == f->most - f->least + 2) {
        return fraction != 0 ? NAN : sign * INFINITY;
    }
    const unsigned hidden = exponent != 0 ? 1U << f->fraction : 0;
    const int scale = (exponent != 0 ? (int)exponent - 1 : 0) + f->least - f->fraction;
    return sign * ldexp((double)(hidden + fraction), scale);
}

/* The pattern of the number next to x, ties to even. x is no NaN. */
static unsigned encode(const format *f, double x)
{
    const unsigned sign = signbit(x) ? 0x8000 : 0;
    const unsigned infinity = (unsigned)(f->most - f->least + 2) << f->fraction;
    const double magnitude = fabs(x);
    if (magnitude == 0.0) {
        return sign;
    }
    if (isinf(magnitude)) {
        return sign | infinity;
    }
    const int exponent = ilogb(magnitude) < f->least ? f->least : ilogb(magnitude);
    /* in units of the last place, which every double has in full: the scaling is exact */
    const double units = ldexp(magnitude, f->fraction - exponent);
    uint64_t whole = (uint64_t)units;
    const double rest = units - (double)whole;
    whole += rest > 0.5 || (rest >= 0.5 && whole % 2 == 1);
    if (ldexp((double)whole, exponent - f->fraction) >= ldexp(1.0, f->most + 1)) {
        return sign | infinity;
    }
    /* the units of the next binade begin where these end, so a carry needs nothing */
    return sign | (((unsigned)(exponent - f->least) << f->fraction) + (unsigned)whole);
}

static bool same_double(double a, double b)
{
    uint64_t left, right;
    memcpy(&left, &a, sizeof left);
    memcpy(&right, &b, sizeof right);
    return left == right;
}

/* ---- from 16 bits ---- */

/* Every pattern to float32 and float64, which are exact, and back to itself. A NaN stays one. */
static void test_every_pattern(void **state)
{
    (void)state;
    static uint16_t patterns[PATTERNS];
    static uint16_t back[PATTERNS];
    static float floats[PATTERNS];
    static double doubles[PATTERNS];
    for (size_t i = 0; i < PATTERNS; i++) {
        patterns[i] = (uint16_t)i;
    }
    for (size_t k = 0; k < COUNT(formats); k++) {
        const format *f = &formats[k];
        adam_convert(ADAM_FLOAT32, floats, f->dtype, patterns, PATTERNS);
        adam_convert(ADAM_FLOAT64, doubles, f->dtype, patterns, PATTERNS);
        for (unsigned i = 0; i < PATTERNS; i++) {
            const double want = decode(f, i);
            const bool right =
                isnan(want) ? isnan(floats[i]) && isnan(doubles[i])
                            : same_double((double)floats[i], want) && same_double(doubles[i], want);
            if (!right) {
                fail_msg("%s %04x became %a and %a, expected %a", adam_dtype_name(f->dtype), i,
                         (double)floats[i], doubles[i], want);
            }
        }
        for (int wide = 0; wide < 2; wide++) {
            adam_convert(f->dtype, back, wide ? ADAM_FLOAT64 : ADAM_FLOAT32,
                         wide ? (void *)doubles : (void *)floats, PATTERNS);
            for (unsigned i = 0; i < PATTERNS; i++) {
                const bool right = isnan(decode(f, i)) ? isnan(decode(f, back[i])) : back[i] == i;
                if (!right) {
                    fail_msg("%s %04x came back from %s as %04x", adam_dtype_name(f->dtype), i,
                             wide ? "float64" : "float32", back[i]);
                }
            }
        }
    }
}

/* Every pattern of the one 16-bit type to the other rounds once as well. */
static void test_between_halves(void **state)
{
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        const format *from = &formats[k];
        const format *to = &formats[1 - k];
        for (unsigned i = 0; i < PATTERNS; i++) {
            const uint16_t in = (uint16_t)i;
            uint16_t out;
            adam_convert(to->dtype, &out, from->dtype, &in, 1);
            const double x = decode(from, i);
            if (isnan(x) ? !isnan(decode(to, out)) : out != encode(to, x)) {
                fail_msg("%s %04x became %04x", adam_dtype_name(from->dtype), i, out);
            }
        }
    }
}

/* ---- to 16 bits ---- */

static void check_narrowing(adam_dtype from, const void *in, double x)
{
    for (size_t k = 0; k < COUNT(formats); k++) {
        uint16_t out;
        adam_convert(formats[k].dtype, &out, from, in, 1);
        if (isnan(x) ? !isnan(decode(&formats[k], out)) : out != encode(&formats[k], x)) {
            fail_msg("%s %a became %s %04x, expected %04x", adam_dtype_name(from), x,
                     adam_dtype_name(formats[k].dtype), out, isnan(x) ? 0 : encode(&formats[k], x));
        }
    }
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state ^ *state >> 29;
}

/* Fractions of `bits` bits that are a tie, next to one, or at an end, for any place to round at;
 * and random ones. Returns how many. */
static size_t fractions(unsigned bits, uint64_t *out)
{
    uint64_t state = bits;
    size_t n = 0;
    const uint64_t mask = (UINT64_C(1) << bits) - 1;
    for (unsigned place = 0; place < bits; place++) {
        const uint64_t tie = UINT64_C(1) << place;
        const uint64_t upper = ~(tie * 2 - 1);
        for (uint64_t k = 0; k < 4; k++) { /* what stands above the tie: even, odd, all, anything */
            const uint64_t above = k == 0 ? 0 : k == 1 ? tie * 2 : k == 2 ? upper : upper / 3;
            out[n++] = ((above & upper) + tie - 1) & mask;
            out[n++] = ((above & upper) + tie) & mask;
            out[n++] = ((above & upper) + tie + 1) & mask;
        }
    }
    for (int i = 0; i < 100; i++) {
        out[n++] = next_random(&state) & mask;
    }
    return n;
}
#define MAX_FRACTIONS (12 * 52 + 100)

/* All exponents of float32 times many fractions, of both signs: normal, denormal, infinite, NaN. */
static void test_from_float32(void **state)
{
    (void)state;
    static uint64_t fraction[MAX_FRACTIONS];
    const size_t n = fractions(23, fraction);
    for (uint32_t exponent = 0; exponent < 512; exponent++) { /* and its sign */
        for (size_t i = 0; i < n; i++) {
            const uint32_t bits = exponent << 23 | (uint32_t)fraction[i];
            float x;
            double wide;
            memcpy(&x, &bits, sizeof x);
            check_narrowing(ADAM_FLOAT32, &x, (double)x);
            adam_convert(ADAM_FLOAT64, &wide, ADAM_FLOAT32, &x, 1);
            assert_true(isnan(x) ? isnan(wide) : same_double(wide, (double)x));
        }
    }
}

/* The same of float64: every exponent that the narrow types have, and some beyond each end. */
static void test_from_float64(void **state)
{
    (void)state;
    static uint64_t fraction[MAX_FRACTIONS];
    const size_t n = fractions(52, fraction);
    for (uint64_t exponent = 0; exponent < 4096; exponent++) { /* and its sign */
        const uint64_t field = exponent % 2048;
        if (field != 0 && field != 2047 && (field < 1023 - 155 || field > 1023 + 132)) {
            continue;
        }
        for (size_t i = 0; i < n; i++) {
            const uint64_t bits = exponent << 52 | fraction[i];
            double x;
            float narrow;
            memcpy(&x, &bits, sizeof x);
            check_narrowing(ADAM_FLOAT64, &x, x);
            adam_convert(ADAM_FLOAT32, &narrow, ADAM_FLOAT64, &x, 1);
            const float want = (float)x;
            assert_true(isnan(x) ? isnan(narrow) : same_double((double)narrow, (double)want));
        }
    }
}

static unsigned narrowed(adam_dtype to, double x)
{
    uint16_t out;
    adam_convert(to, &out, ADAM_FLOAT64, &x, 1);
    return out;
}

/* A float64 just off a tie: by way of float32 it would land on the tie and go the other way. */
static void test_rounds_once(void **state)
{
    (void)state;
    const double above = 1.0 + 0x1p-40;
    const double below = 1.0 - 0x1p-40;
    assert_int_equal(narrowed(ADAM_FLOAT16, (1.0 + 0x1p-11) * above), 0x3c01);
    assert_int_equal(narrowed(ADAM_FLOAT16, (1.0 + 0x3p-11) * below), 0x3c01);
    assert_int_equal(narrowed(ADAM_FLOAT16, 0x1p-25 * above), 0x0001);
    assert_int_equal(narrowed(ADAM_FLOAT16, -0x1p-25), 0x8000);
    assert_int_equal(narrowed(ADAM_FLOAT16, 65520.0), 0x7c00);
    assert_int_equal(narrowed(ADAM_FLOAT16, 65520.0 * below), 0x7bff);
    assert_int_equal(narrowed(ADAM_BFLOAT16, (1.0 + 0x1p-8) * above), 0x3f81);
    assert_int_equal(narrowed(ADAM_BFLOAT16, (1.0 + 0x3p-8) * below), 0x3f81);
    assert_int_equal(narrowed(ADAM_BFLOAT16, 0x1p-134), 0x0000);
    assert_int_equal(narrowed(ADAM_BFLOAT16, 0x1p-134 * above), 0x0001);
    assert_int_equal(narrowed(ADAM_BFLOAT16, 0x1.ffp127), 0x7f80);
    assert_int_equal(narrowed(ADAM_BFLOAT16, 0x1.ffp127 * below), 0x7f7f);
    assert_int_equal(narrowed(ADAM_BFLOAT16, 1e300), 0x7f80);
    assert_int_equal(narrowed(ADAM_BFLOAT16, -1e-300), 0x8000);
}

/* NaNs stay NaNs and come out quiet, also those whose set bits are all cut off. */
static void test_nan(void **state)
{
    (void)state;
    static const uint32_t singles[] = {0x7f800001, 0xff800001, 0x7fc00000, 0x7fffffff, 0x7f801000};
    static const uint64_t doubles[] = {UINT64_C(0x7ff0000000000001), UINT64_C(0xfff0000000000001),
                                       UINT64_C(0x7ff8000000000000), UINT64_C(0x7ff0000020000000)};
    for (size_t k = 0; k < COUNT(formats); k++) {
        const unsigned quiet = (unsigned)((formats[k].most - formats[k].least + 2) * 2 + 1)
                               << (formats[k].fraction - 1);
        uint16_t out;
        for (size_t i = 0; i < COUNT(singles); i++) {
            adam_convert(formats[k].dtype, &out, ADAM_FLOAT32, &singles[i], 1);
            assert_int_equal(out & quiet, quiet);
            assert_int_equal(out >> 15, singles[i] >> 31);
        }
        for (size_t i = 0; i < COUNT(doubles); i++) {
            adam_convert(formats[k].dtype, &out, ADAM_FLOAT64, &doubles[i], 1);
            assert_int_equal(out & quiet, quiet);
            assert_int_equal(out >> 15, doubles[i] >> 63);
        }
    }
}

/* ---- many ---- */

/* Any number of elements, at any alignment, gives what one at a time gives and touches nothing
 * beside them. */
static void test_lengths(void **state)
{
    (void)state;
    enum { MOST = 1000 };
    static const size_t lengths[] = {0, 1, 255, 256, 257, MOST};
    static double source[MOST];
    static char in[MOST * 8 + 8], out[MOST * 8 + 8], one[8];
    fill_random(ADAM_FLOAT64, source, MOST, 5);
    for (unsigned pair = 0; pair < 16; pair++) {
        const adam_dtype from = (adam_dtype)(pair / 4);
        const adam_dtype to = (adam_dtype)(pair % 4);
        const size_t from_size = adam_dtype_size(from);
        const size_t to_size = adam_dtype_size(to);
        for (size_t k = 0; k < COUNT(lengths) * 8; k++) {
            const size_t n = lengths[k / 8];
            char *at = in + k % 8;
            char *end = out + 7 - k % 8;
            adam_convert(from, at, ADAM_FLOAT64, source, n);
            memset(out, 0x5a, sizeof out);
            adam_convert(to, end, from, at, n);
            for (size_t i = 0; i < n; i++) {
                adam_convert(to, one, from, at + i * from_size, 1);
                assert_memory_equal(end + i * to_size, one, to_size);
            }
            for (const char *c = out; c < out + sizeof out; c++) {
                assert_true((c >= end && c < end + n * to_size) || *c == 0x5a);
            }
        }
    }
    adam_convert(ADAM_FLOAT32, NULL, ADAM_FLOAT64, NULL, 0);
    adam_convert(ADAM_FLOAT32, NULL, ADAM_FLOAT32, NULL, 0);
}

/* A type to itself is a copy, NaN payloads included. */
static void test_same_type(void **state)
{
    (void)state;
    static const uint64_t words[] = {UINT64_C(0x7ff0000000000001), UINT64_C(0x7f8000017f800001)};
    for (unsigned t = 0; t < 4; t++) {
        uint64_t copy[2] = {0};
        adam_convert((adam_dtype)t, copy, (adam_dtype)t, words,
                     sizeof words / adam_dtype_size((adam_dtype)t));
        assert_memory_equal(copy, words, sizeof words);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_pattern), cmocka_unit_test(test_between_halves),
        cmocka_unit_test(test_from_float32),  cmocka_unit_test(test_from_float64),
        cmocka_unit_test(test_rounds_once),   cmocka_unit_test(test_nan),
        cmocka_unit_test(test_lengths),       cmocka_unit_test(test_same_type),
    };
    return cmocka_run_group_tests_name("convert", tests, NULL, NULL);
}
