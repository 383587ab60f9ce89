/* test_codec_numbers.c: number.cpp: numbers printed in their shortest digits and read, rounded
 * once. Held against the C library, which rounds correctly. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bits.h"
#include "number.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static double double_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Significant digits of a printed number. */
static int digits_of(const char *text)
{
    int n = 0;
    int zeros = 0; /* at the end, so far */
    for (const char *c = text; *c != '\0' && *c != 'e'; c++) {
        if (*c >= '0' && *c <= '9' && (n > 0 || *c != '0')) {
            n++;
            zeros = *c == '0' ? zeros + 1 : 0;
        }
    }
    return n - zeros;
}

/* The fewest digits with which the C library prints a number that reads back. */
static int fewest_digits(double value, bool wide)
{
    char text[64];
    for (int precision = 1; precision < 17; precision++) {
        (void)snprintf(text, sizeof text, "%.*e", precision - 1, value);
        if (wide ? strtod(text, NULL) == value : strtof(text, NULL) == (float)value) {
            return digits_of(text);
        }
    }
    return 17;
}

static void assert_printed_f32(float value)
{
    char text[NUMBER_MAX_TEXT + 1];
    float read = 1;
    text[number_print_f32(value, text)] = '\0';
    const float by_c = strtof(text, NULL);
    if (memcmp(&by_c, &value, sizeof value) != 0 || !number_read_f32(text, strlen(text), &read) ||
        memcmp(&read, &value, sizeof value) != 0) {
        fail_msg("%a is printed as %s, which reads as %a, and here as %a", (double)value, text,
                 (double)by_c, (double)read);
    }
    if (value != 0 && digits_of(text) > fewest_digits(value, false)) {
        fail_msg("%.9g is printed as %s", (double)value, text);
    }
}

static void assert_printed_f64(double value)
{
    char text[NUMBER_MAX_TEXT + 1];
    double read = 1;
    text[number_print_f64(value, text)] = '\0';
    const double by_c = strtod(text, NULL);
    if (memcmp(&by_c, &value, sizeof value) != 0 || !number_read_f64(text, strlen(text), &read) ||
        memcmp(&read, &value, sizeof value) != 0) {
        fail_msg("%a is printed as %s, which reads as %a, and here as %a", value, text, by_c, read);
    }
    if (value != 0 && digits_of(text) > fewest_digits(value, true)) {
        fail_msg("%.17g is printed as %s", value, text);
    }
}

/* Random bit patterns read back from their print with the same bits, here and in C; no shorter
 * print does. */
static void test_random_bits(void **state)
{
    (void)state;
    uint64_t seed = 2;
    for (int i = 0; i < 30000; i++) {
        const uint64_t bits = next_random(&seed);
        if (isfinite(float_of((uint32_t)bits))) {
            assert_printed_f32(float_of((uint32_t)bits));
        }
        if (isfinite(double_of(bits))) {
            assert_printed_f64(double_of(bits));
        }
        assert_printed_f32(float_of((uint32_t)bits & 0x807fffff)); /* denormal */
        assert_printed_f64(double_of(bits & UINT64_C(0x800fffffffffffff)));
        const double tame = (double)(int64_t)bits * 0x1p-60; /* as parameters are */
        assert_printed_f32((float)tame);
        assert_printed_f64(tame);
    }
    for (int e = -1074; e < 1024; e++) {
        assert_printed_f64(ldexp(1, e));
    }
    for (int e = -149; e < 128; e++) {
        assert_printed_f32(ldexpf(1, e));
    }
}

/* Python's layout, but for a whole number's ".0". */
static void test_layout(void **state)
{
    static const struct {
        double value;
        const char *wide, *narrow;
    } cases[] = {
        {0, "0", "0"},
        {-0.0, "-0.0", "-0.0"},
        {1, "1", "1"},
        {-1, "-1", "-1"},
        {0.1, "0.1", "0.1"},
        {100, "100", "100"},
        {123456, "123456", "123456"},
        {1.5, "1.5", "1.5"},
        {0.0001, "0.0001", "0.0001"},
        {0.00001, "1e-05", "1e-05"},
        {1.5e-5, "1.5e-05", "1.5e-05"},
        {1e15, "1000000000000000", "1000000000000000"},
        {1e16, "1e+16", "1e+16"},
        {1.25e16, "1.25e+16", "1.25e+16"},
        {1e100, "1e+100", NULL},
        {1.7976931348623157e308, "1.7976931348623157e+308", NULL},
        {5e-324, "5e-324", NULL},
        {-2.2250738585072014e-308, "-2.2250738585072014e-308", NULL},
        {0x1p-149, "1.401298464324817e-45", "1e-45"},
        {0x1.fffffep127, "3.4028234663852886e+38", "3.4028235e+38"},
        {NAN, "\"NaN\"", "\"NaN\""},
        {INFINITY, "\"Infinity\"", "\"Infinity\""},
        {-INFINITY, "\"-Infinity\"", "\"-Infinity\""},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[NUMBER_MAX_TEXT + 1];
        text[number_print_f64(cases[i].value, text)] = '\0';
        assert_string_equal(text, cases[i].wide);
        if (cases[i].narrow != NULL) {
            text[number_print_f32((float)cases[i].value, text)] = '\0';
            assert_string_equal(text, cases[i].narrow);
        }
    }
}

/* Asserts that both readers agree with the C library. */
static void assert_read(const char *text)
{
    const size_t length = strlen(text);
    float f = 1;
    double d = 1;
    const float f_c = strtof(text, NULL);
    const double d_c = strtod(text, NULL);
    const bool f_ok = number_read_f32(text, length, &f);
    const bool d_ok = number_read_f64(text, length, &d);
    if (f_ok != (bool)isfinite(f_c) || d_ok != (bool)isfinite(d_c)) {
        fail_msg("%.60s (%zu bytes): read %d %d, by C %g %g", text, length, f_ok, d_ok, (double)f_c,
                 d_c);
    }
    if ((f_ok && memcmp(&f, &f_c, sizeof f) != 0) || (d_ok && memcmp(&d, &d_c, sizeof d) != 0)) {
        fail_msg("%.60s (%zu bytes): read %a %a, by C %a %a", text, length, (double)f, d,
                 (double)f_c, d_c);
    }
}

/* Decimal texts of any length and size are rounded once, to nearest even. */
static void test_reading(void **state)
{
    (void)state;
    uint64_t seed = 3;
    for (int i = 0; i < 30000; i++) {
        char text[128] = "";
        size_t n = (size_t)snprintf(text, sizeof text, "%s%d", i % 2 ? "-" : "",
                                    (int)(next_random(&seed) % 10));
        if (i % 3 > 0) {
            text[n++] = '.';
            for (uint64_t k = next_random(&seed) % 40 + 1; k > 0; k--) {
                text[n++] = (char)('0' + next_random(&seed) % 10);
            }
        }
        if (i % 4 > 0) {
            const int most = i % 4 == 1 ? 5 : i % 4 == 2 ? 50 : 350;
            (void)snprintf(text + n, sizeof text - n, "%c%s%d", i % 5 ? 'e' : 'E', i % 7 ? "" : "+",
                           (int)(next_random(&seed) % (unsigned)most));
            if (i % 7 > 3) {
                (void)snprintf(text + n, sizeof text - n, "e-%d",
                               (int)(next_random(&seed) % (unsigned)most));
            }
        }
        assert_read(text);
    }
}

/* Halfway between two floats, exactly and a digit off, where a second rounding would show. */
static void test_halfway(void **state)
{
    (void)state;
    uint64_t seed = 4;
    for (int i = 0; i < 5000; i++) {
        const float low = float_of((uint32_t)next_random(&seed) & 0x7fffffff);
        const double middle = ((double)low + (double)nextafterf(low, INFINITY)) / 2;
        if (!isfinite(low) || !isfinite((float)middle)) {
            continue;
        }
        char text[256];
        (void)snprintf(text, sizeof text, "%.160e", middle);
        assert_read(text);
        char *mark = strchr(text, 'e');
        mark[-1] = '1'; /* just above */
        assert_read(text);
        (void)snprintf(text, sizeof text, "%.17g", middle);
        if (strpbrk(text, "en") == NULL || strchr(text, 'e') != NULL) {
            assert_read(text);
        }
    }
}

/* Numbers far too large or small, told apart by their value and not by how they are written. */
static void test_extremes(void **state)
{
    static const char *const plain[] = {"3.4028235677973366e38",
                                        "3.4028235677973365e38",
                                        "3.4028236e38",
                                        "1e39",
                                        "1e308",
                                        "1.8e308",
                                        "1.7976931348623159e308",
                                        "1e309",
                                        "1e999",
                                        "-1e999",
                                        "1e99999999999999999999",
                                        "1e-45",
                                        "7e-46",
                                        "7.1e-46",
                                        "1e-46",
                                        "1e-300",
                                        "4e-324",
                                        "2.5e-324",
                                        "2.4e-324",
                                        "1e-999",
                                        "-1e-999",
                                        "1e-99999999999999999999",
                                        "0",
                                        "-0",
                                        "0.0",
                                        "-0.0e5",
                                        "0e999999",
                                        "0e-999999",
                                        "-0e999999",
                                        "0e99999999999999999999",
                                        "0.000e400",
                                        "0.1e309",
                                        "0.01e309",
                                        "0.0000000001e319"};
    static const struct {
        const char *before;
        size_t zeros;
        const char *after;
    } long_ones[] = {{"0.", 400, "1"},       {"0.", 400, "1e401"},  {"0.", 6000, "1"},
                     {"-0.", 6000, "1"},     {"0.", 6000, "1e+5"},  {"0.", 6000, "1e6001"},
                     {"0.", 6000, "1e7000"}, {"1", 400, ""},        {"1", 400, "e-400"},
                     {"1", 6000, ""},        {"-1", 6000, ""},      {"1", 6000, "e-10"},
                     {"1", 6000, "e-6000"},  {"1", 6000, "e-7000"}, {"1", 6000, ".5"},
                     {"0.", 7000, ""},       {"0.", 7000, "e+9"}};
    (void)state;
    for (size_t i = 0; i < COUNT(plain); i++) {
        assert_read(plain[i]);
    }
    for (size_t i = 0; i < COUNT(long_ones); i++) {
        char text[8192] = "";
        (void)strcpy(text, long_ones[i].before);
        memset(text + strlen(text), '0', long_ones[i].zeros);
        (void)strcat(text, long_ones[i].after);
        assert_read(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_bits), cmocka_unit_test(test_layout),
        cmocka_unit_test(test_reading),     cmocka_unit_test(test_halfway),
        cmocka_unit_test(test_extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
