/* number_print.c: the short way from float32 to its shortest digits, for what parameters and
 * moments mostly are, from 2^-66 to 2^27. number.cpp prints the others, to the same text.
 *
 * It is Schubfach (Giulietti, "The Schubfach way to render doubles", 2020). A float c * 2^q, c of
 * 24 bits, reads back from any number between the midpoints to its neighbours, (c - 1/2) * 2^q and
 * (c + 1/2) * 2^q. Take 10^k <= 2^q < 10^(k+1). The midpoints are less than 10^(k+1) apart, so at
 * most one multiple of it lies between them: that is the shortest, once without the zeros at its
 * end. Otherwise a multiple of 10^k does, and the nearest is taken. Here -27 <= k <= 0, so that
 * 10^-k = 5^-k * 2^-k has a 5^-k of at most 63 bits, and no product below is rounded. */
#include <stdint.h>
#include <string.h>

#include "number.h"

#define MOST_POWER 27
#define ZEROS      UINT64_C(0x3030303030303030) /* the text "00000000" */
#define DIGITS     9                            /* that a float32 needs at most */

/* 5^i, shifted up to 64 bits, */
static const uint64_t fives[MOST_POWER + 1] = {
    0x8000000000000000, 0xa000000000000000, 0xc800000000000000, 0xfa00000000000000,
    0x9c40000000000000, 0xc350000000000000, 0xf424000000000000, 0x9896800000000000,
    0xbebc200000000000, 0xee6b280000000000, 0x9502f90000000000, 0xba43b74000000000,
    0xe8d4a51000000000, 0x9184e72a00000000, 0xb5e620f480000000, 0xe35fa931a0000000,
    0x8e1bc9bf04000000, 0xb1a2bc2ec5000000, 0xde0b6b3a76400000, 0x8ac7230489e80000,
    0xad78ebc5ac620000, 0xd8d726b7177a8000, 0x878678326eac9000, 0xa968163f0a57b400,
    0xd3c21bcecceda100, 0x84595161401484a0, 0xa56fa5b99019a5c8, 0xcecb8f27f4200f3a};
/* and by how much. */
static const int8_t five_shifts[MOST_POWER + 1] = {63, 61, 59, 57, 54, 52, 50, 47, 45, 43,
                                                   40, 38, 36, 33, 31, 29, 26, 24, 22, 19,
                                                   17, 15, 12, 10, 8,  5,  3,  1};

/* The upper half of a product, rounded to odd: the lowest bit says too that something was cut off,
 * so that it compares with even numbers as the product does. */
static uint64_t scale(uint64_t five, uint64_t x)
{
    const unsigned __int128 product = (unsigned __int128)five * x;
    return (uint64_t)(product >> 64) | ((uint64_t)product != 0);
}

/* The digits of c * 2^q as a whole number of 7 to 9 digits, times 10^k. */
static uint32_t shortest(uint32_t c, int q, int k)
{
    const uint64_t five = fives[-k];
    const int shift = q - k + 64 - five_shifts[-k];
    /* all times 4 / 10^k; a midpoint itself reads as c where c is even */
    const uint32_t odd = c & 1;
    const uint64_t value = scale(five, (uint64_t)(4 * c) << shift);
    const uint64_t low = scale(five, (uint64_t)(4 * c - 2) << shift) + odd;
    const uint64_t high = scale(five, (uint64_t)(4 * c + 2) << shift) - odd;
    const uint64_t s = value / 4;
    const uint64_t tens = s / 10;
    const bool below = low <= 40 * tens;
    const bool above = 40 * tens + 40 <= high;
    const uint64_t up = value + (s & 1) > 4 * s + 2; /* to even from the middle */
    return (uint32_t)(below != above ? 10 * (tens + above) : s + up);
}

/* Eight digits of x < 10^8 as text, in a little-endian word. Halves are split in all fields at
 * once: 10486 / 2^20 is 1/100 for up to four digits, 103 / 2^10 is 1/10 for two. */
static uint64_t eight_digits(uint32_t x)
{
    uint64_t fields = x / 10000 | (uint64_t)(x % 10000) << 32;
    uint64_t upper = (fields * 10486 >> 20) & UINT64_C(0x0000007f0000007f);
    fields = upper | (fields - upper * 100) << 16;
    upper = (fields * 103 >> 10) & UINT64_C(0x000f000f000f000f);
    return (upper | (fields - upper * 10) << 8) | ZEROS;
}

static void put(char *to, uint64_t eight)
{
    memcpy(to, &eight, sizeof eight);
}

/* The digit `first` and the eight of `rest`, n of which count and the others are 0; the point
 * stands after the first, times 10^exponent, which is below 10^9. The layout is number.cpp's. */
static size_t lay_out(char first, uint64_t rest, int n, int exponent, char *out)
{
    if (exponent < -4) {
        out[0] = first;
        out[1] = '.';
        put(out + 2, rest);
        char *o = out + (n > 1 ? n + 1 : 1);
        o[0] = 'e';
        o[1] = '-';
        o[2] = (char)('0' + -exponent / 10);
        o[3] = (char)('0' + -exponent % 10);
        return (size_t)(o + 4 - out);
    }
    if (exponent < 0) {
        put(out, ZEROS);
        out[1] = '.';
        out[1 - exponent] = first;
        put(out + 2 - exponent, rest);
        return 1 + (size_t)-exponent + (size_t)n;
    }
    out[0] = first;
    put(out + 1, rest);
    if (n <= exponent + 1) {
        return (size_t)exponent + 1;
    }
    out[exponent + 1] = '.';
    put(out + exponent + 2, rest >> 8 * exponent);
    return (size_t)n + 1;
}

static inline size_t print(float value, char *out)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t fraction = bits & 0x7fffff;
    const int q = (int)(bits >> 23 & 0xff) - 150;
    const int k = (q * 1262611) >> 22; /* floor(log10(2^q)) */
    /* but for powers of 2, whose neighbour below is only half as far */
    if (fraction == 0 || k > 0 || k < -MOST_POWER) {
        return number_print_any_f32(value, out);
    }
    uint32_t digits = shortest(fraction | UINT32_C(1) << 23, q, k);
    int exponent = k + DIGITS - 1;
    while (digits < 100000000) {
        digits *= 10;
        exponent--;
    }
    const char first = (char)('0' + digits / 100000000);
    const uint64_t rest = eight_digits(digits % 100000000);
    const int n = rest == ZEROS ? 1 : DIGITS - (int)((unsigned)__builtin_clzll(rest ^ ZEROS) / 8);
    out[0] = '-';
    const size_t sign = bits >> 31;
    return sign + lay_out(first, rest, n, exponent, out + sign);
}

size_t number_print_f32(float value, char out[NUMBER_MAX_TEXT])
{
    return print(value, out);
}

size_t number_print_list_f32(const float *values, size_t n, char *out)
{
    char *to = out;
    for (size_t i = 0; i < n; i++) {
        if (i > 0) {
            *to++ = ',';
            *to++ = ' ';
        }
        to += print(values[i], to);
    }
    return (size_t)(to - out);
}
