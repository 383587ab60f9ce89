/* test_number_ways.c: the short ways of number_read.c and number_print.c give what <charconv> and
 * the C library give, which round correctly, also where a second rounding would show. With two
 * arguments, every float32 between those powers of 2 is printed and read, both signs: -127 128 are
 * all there are, and take minutes. */
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

/* ---- printing ---- */

/* The text is that of <charconv>, and reads back to the same bits. */
static void check_print(uint32_t bits)
{
    const float value = float_of(bits);
    char text[NUMBER_MAX_TEXT];
    char any[NUMBER_MAX_TEXT];
    float read;
    const size_t length = number_print_f32(value, text);
    const size_t any_length = number_print_any_f32(value, any);
    if (length > NUMBER_MAX_F32 || length != any_length || memcmp(text, any, length) != 0) {
        fail_msg("%a is printed as %.*s, by <charconv> as %.*s", (double)value, (int)length, text,
                 (int)any_length, any);
    }
    if (isfinite(value) && (number_take_f32(text, text + length, &read) != text + length ||
                            memcmp(&read, &value, sizeof read) != 0)) {
        fail_msg("%.*s, printed for %a, reads as %a", (int)length, text, (double)value,
                 (double)read);
    }
}

/* Every 1999th float32, and those around each power of two, where the interval of what reads back
 * changes. */
static void test_printing(void **state)
{
    (void)state;
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += 1999) {
        check_print((uint32_t)bits);
    }
    for (uint32_t power = 0; power < 512; power++) {
        for (uint32_t i = 0; i < 64; i++) {
            check_print((power << 23) + i);
            check_print((power << 23) - 1 - i);
        }
    }
}

/* Numbers of few digits, which lose the zeros at their end. */
static void test_printing_short(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        for (int places = 0; places < 18; places += 2) {
            const float value = (float)(i / pow(10, places));
            uint32_t bits;
            memcpy(&bits, &value, sizeof bits);
            check_print(bits);
        }
        check_print((uint32_t)0x4b000000 + (uint32_t)i); /* whole numbers from 2^23 */
    }
}

/* A list is its numbers with ", " between them. */
static void test_printing_list(void **state)
{
    (void)state;
    enum { MOST = 130 };
    float values[MOST];
    char text[MOST * (NUMBER_MAX_F32 + 2) + NUMBER_MAX_TEXT];
    uint64_t seed = 1;
    for (size_t n = 0; n <= MOST; n++) {
        char expected[sizeof text];
        size_t length = 0;
        for (size_t i = 0; i < n; i++) {
            values[i] = i % 3 > 0 ? float_of((uint32_t)next_random(&seed)) : -1234567900000000.0F;
            memcpy(expected + length, ", ", 2);
            length += i > 0 ? 2 : 0;
            length += number_print_any_f32(values[i], expected + length);
        }
        assert_int_equal(number_print_list_f32(values, n, text), length);
        assert_memory_equal(text, expected, length);
    }
}

/* ---- reading ---- */

/* Both types are read as <charconv> and the C library read them, to the end of the number and no
 * further. */
static void check_read(const char *number)
{
    char text[256];
    const int length = snprintf(text, sizeof text, "%s, 12345678", number);
    const char *end = text + length;
    const char *after = text + strlen(number);
    float f = 1;
    float f_any = 1;
    double d = 1;
    double d_any = 1;
    const float f_c = strtof(number, NULL);
    const double d_c = strtod(number, NULL);
    const char *f_end = number_take_f32(text, end, &f);
    const char *d_end = number_take_f64(text, end, &d);
    const bool f_ok = isfinite(f_c);
    const bool d_ok = isfinite(d_c);
    if (f_end != (f_ok ? after : NULL) || d_end != (d_ok ? after : NULL) ||
        number_take_any_f32(text, end, &f_any) != f_end ||
        number_take_any_f64(text, end, &d_any) != d_end) {
        fail_msg("%s: reading ends elsewhere", number);
    }
    if (f_ok && (memcmp(&f, &f_c, sizeof f) != 0 || memcmp(&f, &f_any, sizeof f) != 0)) {
        fail_msg("%s: read as %a, by C as %a", number, (double)f, (double)f_c);
    }
    if (d_ok && (memcmp(&d, &d_c, sizeof d) != 0 || memcmp(&d, &d_any, sizeof d) != 0)) {
        fail_msg("%s: read as %a, by C as %a", number, d, d_c);
    }
}

static size_t random_digits(uint64_t *seed, char *out, uint64_t most)
{
    const uint64_t n = next_random(seed) % most + 1;
    for (uint64_t i = 0; i < n; i++) {
        out[i] = (char)('0' + next_random(seed) % 10);
    }
    return n;
}

/* Texts on both sides of what the short way takes: up to 22 digits, leading zeros, exponents to
 * +-60, some beyond float32. */
static void test_reading(void **state)
{
    (void)state;
    uint64_t seed = 2;
    for (int i = 0; i < 300000; i++) {
        char text[128];
        size_t n = 0;
        const uint64_t form = next_random(&seed);
        if (form % 2 > 0) {
            text[n++] = '-';
        }
        if (form / 2 % 4 > 0) {
            text[n++] = '0';
        } else {
            text[n] = (char)('1' + form / 8 % 9);
            n += 1 + random_digits(&seed, text + n + 1, 12);
        }
        if (form / 128 % 8 > 0) {
            text[n++] = '.';
            for (uint64_t zeros = form / 1024 % 8 == 0 ? form / 8192 % 30 : 0; zeros > 0; zeros--) {
                text[n++] = '0';
            }
            n += random_digits(&seed, text + n, form / 128 % 2 > 0 ? 10 : 20);
        }
        text[n] = '\0';
        if (form >> 32 & 1) {
            (void)snprintf(text + n, sizeof text - n, "%c%s%d", form >> 33 & 1 ? 'e' : 'E',
                           form >> 34 & 1   ? "-"
                           : form >> 35 & 1 ? "+"
                                            : "",
                           (int)((form >> 36) % 60));
        }
        check_read(text);
    }
}

/* The whole number written with its point `places` from the end. */
static void check_read_shifted(uint64_t whole, unsigned places)
{
    char digits[64];
    char text[80];
    const int n =
        snprintf(digits, sizeof digits, "%0*llu", (int)places + 1, (unsigned long long)whole);
    const int before = n - (int)places;
    (void)snprintf(text, sizeof text, places > 0 ? "%.*s.%s" : "%.*s", before, digits,
                   digits + before);
    check_read(text);
    (void)snprintf(text, sizeof text, "%llue-%u", (unsigned long long)whole, places);
    check_read(text);
}

/* The middle of two floats, exactly where 18 digits can say it, and one digit off: whole numbers
 * above 2^24, binary fractions below, and the nearest decimals elsewhere. */
static void test_reading_middles(void **state)
{
    (void)state;
    uint64_t seed = 3;
    for (int i = 0; i < 10000; i++) {
        const uint64_t middle = (next_random(&seed) % (1U << 23) + (1U << 23)) * 2 + 1;
        for (unsigned up = 0; up < 35; up += 1 + i % 3) {
            for (int off = -1; off <= 1; off++) {
                check_read_shifted((middle << up) + (uint64_t)(int64_t)off, 0);
            }
        }
        uint64_t power = 1;
        for (unsigned down = 1; down <= 10; down++) {
            power *= 5; /* middle / 2^down = middle * 5^down / 10^down */
            for (int off = -1; off <= 1; off++) {
                check_read_shifted(middle * power + (uint64_t)(int64_t)off, down);
            }
        }
    }
    for (int i = 0; i < 100000; i++) {
        const float low = float_of((uint32_t)next_random(&seed) & 0x7fffffff);
        const double middle = ((double)low + (double)nextafterf(low, INFINITY)) / 2;
        if (isfinite(middle)) {
            char text[64];
            (void)snprintf(text, sizeof text, "%.*e", 15 + i % 4, middle);
            check_read(text);
        }
    }
}

/* The ends of what the short way takes for a float64: whole numbers of 53 bits, powers of 22. */
static void test_reading_wide(void **state)
{
    (void)state;
    uint64_t seed = 4;
    for (int i = 0; i < 10000; i++) {
        const uint64_t whole = (UINT64_C(1) << 53) - 4 + next_random(&seed) % 9;
        char text[64];
        for (int e = -24; e <= 24; e += 1 + i % 7) {
            (void)snprintf(text, sizeof text, "%llue%d", (unsigned long long)(whole >> i % 40), e);
            check_read(text);
        }
    }
}

/* ---- runs ---- */

/* A run ends after the last number that has no other behind it; what has no room is checked. The
 * text ends where its memory does. */
static void test_runs(void **state)
{
    static const struct {
        const char *text;
        size_t length, n; /* n 0: refused */
        bool fits;
    } cases[] = {
        {"1", 1, 1, true},
        {"1,2 , 3]", 7, 3, true},
        {"-0.5\t,\n1e3 ]", 10, 2, true},
        {"1, 2, \"NaN\"", 4, 2, true},
        {"1, [2]", 1, 1, true},
        {"1,]", 1, 1, true},
        {"1,", 1, 1, true},
        {"12345678.12345678, 1", 20, 2, true},
        {"1e39, 2", 7, 2, false},
        {"1, 02", 0, 0, true},
        {"1, -", 0, 0, true},
        {"1, 2.", 0, 0, true},
        {"1.e5", 0, 0, true},
        {"1e", 0, 0, true},
        {"1e+", 0, 0, true},
        {"-", 0, 0, true},
        {"--1", 0, 0, true},
        {"-.5", 0, 0, true},
        {"+1", 0, 0, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t room = 0; room < 4; room++) {
            const size_t length = strlen(cases[i].text);
            char *text = malloc(length);
            float values[4] = {7, 7, 7, 7};
            number_run run;
            assert_non_null(text);
            memcpy(text, cases[i].text, length);
            const char *end = number_scan_f32(text, text + length, values, room, &run);
            if (cases[i].n == 0) {
                assert_null(end);
            } else {
                assert_ptr_equal(end, text + cases[i].length);
                assert_int_equal(run.n, cases[i].n);
                assert_true(run.fits == cases[i].fits || room == 0);
            }
            for (size_t k = room; k < 4; k++) {
                assert_true(values[k] == 7); /* nothing is written beyond the room */
            }
            free(text);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        const uint32_t first = (uint32_t)(strtol(argv[1], NULL, 10) + 127) << 23;
        const uint32_t last = (uint32_t)(strtol(argv[2], NULL, 10) + 127) << 23;
        for (uint32_t bits = first; bits < last; bits++) {
            check_print(bits);
            check_print(bits | UINT32_C(1) << 31);
        }
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_printing),
        cmocka_unit_test(test_printing_short),
        cmocka_unit_test(test_printing_list),
        cmocka_unit_test(test_reading),
        cmocka_unit_test(test_reading_middles),
        cmocka_unit_test(test_reading_wide),
        cmocka_unit_test(test_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
