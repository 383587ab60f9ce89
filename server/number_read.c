/* number_read.c: the short way from text to float32 and float64, for numbers of up to 18 digits
 * that are not at the ends of the range. number.cpp reads the others.
 *
 * The digits make a whole number m < 2^63, the point and the exponent a power of ten 10^e. So
 * m * 10^e takes at most three roundings in double: of m, of the power, and of the product or
 * quotient. Where m <= 2^53 and |e| <= 22, the first two are none: that is a float64, rounded once.
 * For a float32 all three are allowed, where the last rounding, to float, cannot see them: together
 * they are less than 4 units in the last place of the double, so the true value lies on the same
 * side of every midpoint of two floats as the double, unless that is as near to one. */
#include <stdint.h>
#include <string.h>

#include "number.h"

#define MOST_DIGITS    18 /* of m, so that it is below 2^63 */
#define MOST_EXPONENT  44
#define EXACT_EXPONENT 22 /* 5^22 < 2^53 */

static const double powers[MOST_EXPONENT + 1] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14,
    1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28, 1e29,
    1e30, 1e31, 1e32, 1e33, 1e34, 1e35, 1e36, 1e37, 1e38, 1e39, 1e40, 1e41, 1e42, 1e43, 1e44};
static const uint32_t whole_powers[8] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000};

/* A number of the text: +-mantissa * 10^exponent, where `small`. */
typedef struct decimal {
    uint64_t mantissa;
    int exponent; /* |exponent| <= MOST_EXPONENT */
    bool negative;
    bool small; /* it has few enough digits and a small enough exponent */
} decimal;

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The eight digits, or what they are less '0', in a little-endian word: the first is lowest. Pairs,
 * then fours, then all are joined. */
static uint64_t eight_digits(uint64_t x)
{
    x = x * 10 + (x >> 8);
    const uint64_t pairs = UINT64_C(0x000000ff000000ff);
    return ((x & pairs) * UINT64_C(0x000f424000000064) +
            ((x >> 16) & pairs) * UINT64_C(0x0000271000000001)) >>
           32;
}

/* Appends the digits at `at` to *mantissa; returns where they end. Eight at a time: a byte that is
 * no digit gets its highest bit set, and whatever the sum carries goes to bytes after it. */
static inline const char *take_digits(const char *at, const char *end, uint64_t *mantissa)
{
    while (end - at >= 8) {
        uint64_t x;
        memcpy(&x, at, sizeof x);
        x ^= UINT64_C(0x3030303030303030);
        const uint64_t others =
            (x | (x + UINT64_C(0x7676767676767676))) & UINT64_C(0x8080808080808080);
        if (others == 0) {
            *mantissa = *mantissa * 100000000 + eight_digits(x);
            at += 8;
            continue;
        }
        const unsigned bits = (unsigned)__builtin_ctzll(others) & ~7U; /* of digits */
        if (bits > 0) {
            *mantissa = *mantissa * whole_powers[bits / 8] + eight_digits(x << (64 - bits));
        }
        return at + bits / 8;
    }
    while (at < end && is_digit(*at)) {
        *mantissa = *mantissa * 10 + (uint64_t)(*at++ - '0');
    }
    return at;
}

/* After the 'e'. */
static const char *take_exponent(const char *at, const char *end, decimal *d)
{
    const bool negative = at < end && *at == '-';
    at += at < end && (*at == '-' || *at == '+');
    const char *first = at;
    int exponent = 0;
    for (; at < end && is_digit(*at); at++) {
        exponent = exponent > MOST_EXPONENT ? exponent : exponent * 10 + (*at - '0');
    }
    d->exponent += negative ? -exponent : exponent;
    d->small = d->small && d->exponent <= MOST_EXPONENT && d->exponent >= -MOST_EXPONENT;
    return at > first ? at : NULL;
}

/* Whether the digits from `first` to `end`, with a point perhaps, are few: but for zeros before
 * them. */
static bool few_digits(const char *first, const char *end)
{
    while (first < end && (*first == '0' || *first == '.')) {
        first++;
    }
    return end - first <= MOST_DIGITS;
}

/* Returns where the number ends, or NULL where there is none. */
static inline __attribute__((always_inline)) const char *scan(const char *at, const char *end,
                                                              decimal *d)
{
    d->negative = *at == '-';
    at += d->negative;
    const char *first = at;
    if (at == end || !is_digit(*at)) {
        return NULL;
    }
    d->mantissa = (uint64_t)(*at++ - '0');
    d->exponent = 0;
    if (at < end && is_digit(*at)) {
        if (d->mantissa == 0) {
            return NULL;
        }
        at = take_digits(at, end, &d->mantissa);
    }
    if (at < end && *at == '.') {
        const char *point = ++at;
        at = take_digits(at, end, &d->mantissa);
        if (at == point) {
            return NULL;
        }
        d->exponent = at - point <= MOST_EXPONENT ? -(int)(at - point) : -MOST_EXPONENT - 1;
    }
    d->small =
        (at - first <= MOST_DIGITS || few_digits(first, at)) && d->exponent >= -MOST_EXPONENT;
    if (at < end && (*at == 'e' || *at == 'E')) {
        at = take_exponent(at + 1, end, d);
    }
    return at;
}

/* mantissa * 10^exponent. */
static double scaled(const decimal *d)
{
    const double m = (double)(int64_t)d->mantissa;
    return d->exponent < 0 ? m / powers[-d->exponent] : m * powers[d->exponent];
}

/* Whether rounding a double that is less than 4 units off to float gives what rounding the true
 * value would: within the normal numbers of float, whose 24 bits leave the lower 29 of 53, and not
 * near to the middle between two of them. */
static bool rounds_surely(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint64_t middle = UINT64_C(1) << 28;
    const uint64_t low = bits & (2 * middle - 1);
    return value >= 0x1p-126 && value < 0x1p127 && low - (middle - 4) > 8;
}

/* The value of the number at `text`, which ends at `at`; returns that, or NULL where it overflows.
 */
static inline const char *round_f32(const decimal *d, const char *text, const char *at,
                                    float *value)
{
    if (d->small) {
        const double wide = scaled(d);
        if (d->mantissa == 0 || rounds_surely(wide)) {
            *value = (float)(d->negative ? -wide : wide);
            return at;
        }
    }
    return number_take_any_f32(text, at, value);
}

static const char *after_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r')) {
        at++;
    }
    return at;
}

const char *number_scan_f32(const char *text, const char *end, float *values, size_t room,
                            number_run *run)
{
    *run = (number_run){.fits = true};
    const char *at = text;
    for (;;) {
        decimal d;
        const char *after = scan(at, end, &d);
        if (after == NULL) {
            return NULL;
        }
        if (run->n < room && round_f32(&d, at, after, &values[run->n]) == NULL) {
            run->fits = false;
        }
        run->n++;
        at = after_space(after, end);
        if (at == end || *at != ',') {
            return after;
        }
        at = after_space(at + 1, end);
        if (at == end || (*at != '-' && !is_digit(*at))) {
            return after;
        }
    }
}

const char *number_take_f32(const char *text, const char *end, float *value)
{
    decimal d;
    const char *at = scan(text, end, &d);
    return at != NULL ? round_f32(&d, text, at, value) : NULL;
}

const char *number_take_f64(const char *text, const char *end, double *value)
{
    decimal d;
    const char *at = scan(text, end, &d);
    if (at != NULL && d.small && d.mantissa <= UINT64_C(1) << 53 && d.exponent <= EXACT_EXPONENT &&
        d.exponent >= -EXACT_EXPONENT) {
        const double magnitude = scaled(&d);
        *value = d.negative ? -magnitude : magnitude;
        return at;
    }
    return at != NULL ? number_take_any_f64(text, at, value) : NULL;
}

bool number_read_f32(const char *digits, size_t length, float *value)
{
    return number_take_f32(digits, digits + length, value) == digits + length;
}

bool number_read_f64(const char *digits, size_t length, double *value)
{
    return number_take_f64(digits, digits + length, value) == digits + length;
}
