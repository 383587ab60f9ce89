/* convert.c: between the four types of numbers, rounding once. Knows no tensors.
 *
 * Formats: IEEE 754-2019 binary16, binary32 and binary64; bfloat16 is the upper half of a binary32.
 * The loops are written so that a compiler can make vectors of them: no branch depends on a value.
 */
#include <string.h>

#include "adam/tensor.h"

#define BLOCK 256 /* elements that go through a buffer on the stack */

#define F32_INFINITY  UINT32_C(0x7f800000)
#define F32_MAGNITUDE UINT32_C(0x7fffffff)
#define F16_INFINITY  UINT32_C(0x7c00)
#define F16_QUIET     UINT32_C(0x0200)
#define F16_TOO_LARGE UINT32_C(0x47800000) /* 2^16 as a float: the first that is out of range */
#define F16_NORMAL    UINT32_C(0x38800000) /* 2^-14: the least normal */
#define F16_REBIAS    UINT32_C(0x38000000) /* (127 - 15) << 23 */
#define HALF_BITS     UINT32_C(0x3f000000) /* 0.5F, whose last place is 2^-24 */

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* ---- to float ---- */

static float from_bfloat16(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

static float from_float16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000U) << 16;
    const uint32_t exponent = h & F16_INFINITY;
    const uint32_t fraction = h & 0x03ffU;
    const uint32_t normal = ((exponent | fraction) << 13) + F16_REBIAS;
    const uint32_t special = F32_INFINITY | fraction << 13;
    const uint32_t denormal = bits_of((float)fraction * 0x1p-24F);
    const uint32_t magnitude = exponent == 0              ? denormal
                               : exponent == F16_INFINITY ? special
                                                          : normal;
    return float_of(sign | magnitude);
}

/* ---- from float ---- */

static uint16_t to_bfloat16(float x)
{
    const uint32_t bits = bits_of(x);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    const uint32_t nan = bits >> 16 | 0x0040;
    return (uint16_t)((bits & F32_MAGNITUDE) > F32_INFINITY ? nan : rounded);
}

static uint16_t to_float16(float x)
{
    const uint32_t bits = bits_of(x);
    const uint32_t sign = bits >> 16 & 0x8000;
    const uint32_t magnitude = bits & F32_MAGNITUDE;
    const uint32_t normal = (magnitude + 0xfff + (magnitude >> 13 & 1) - F16_REBIAS) >> 13;
    /* adding 0.5 rounds to its last place, which is that of a denormal */
    const uint32_t denormal = bits_of(float_of(magnitude) + 0.5F) - HALF_BITS;
    const uint32_t nan = F16_INFINITY | F16_QUIET | (magnitude >> 13 & 0x03ff);
    const uint32_t finite = magnitude < F16_NORMAL ? denormal : normal;
    const uint32_t large = magnitude > F32_INFINITY ? nan : F16_INFINITY;
    return (uint16_t)(sign | (magnitude < F16_TOO_LARGE ? finite : large));
}

/* A double as the float next to it towards zero, with its last bit set where it was not exact
 * ("rounding to odd"): rounding that once more, to fewer bits, is as rounding the double once.
 * Boldo & Melquiond, "When double rounding is odd", 2005. */
static float to_odd_float(double x)
{
    const float nearest = (float)x;
    const uint32_t bits = bits_of(nearest);
    const double back = (double)nearest;
    const bool exact = !(back < x) && !(back > x); /* a NaN too */
    const bool beyond = x < 0 ? back < x : back > x;
    const uint32_t truncated = bits - (uint32_t)beyond;
    return float_of(exact ? bits : truncated | 1U);
}

/* ---- many ---- */

/* Up to BLOCK elements of any type but float64, to floats. */
static void read_floats(float *out, adam_dtype from, const char *in, size_t n)
{
    uint16_t halves[BLOCK];
    if (from == ADAM_FLOAT32) {
        memcpy(out, in, n * sizeof *out);
        return;
    }
    memcpy(halves, in, n * sizeof *halves);
    if (from == ADAM_BFLOAT16) {
        for (size_t i = 0; i < n; i++) {
            out[i] = from_bfloat16(halves[i]);
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            out[i] = from_float16(halves[i]);
        }
    }
}

static void write_floats(adam_dtype to, char *out, const float *in, size_t n)
{
    uint16_t halves[BLOCK];
    if (to == ADAM_FLOAT32) {
        memcpy(out, in, n * sizeof *in);
        return;
    }
    if (to == ADAM_BFLOAT16) {
        for (size_t i = 0; i < n; i++) {
            halves[i] = to_bfloat16(in[i]);
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            halves[i] = to_float16(in[i]);
        }
    }
    memcpy(out, halves, n * sizeof *halves);
}

static void convert_block(adam_dtype to, char *out, adam_dtype from, const char *in, size_t n)
{
    float floats[BLOCK];
    double doubles[BLOCK];
    if (from == ADAM_FLOAT64) {
        memcpy(doubles, in, n * sizeof *doubles);
        if (to == ADAM_FLOAT32) {
            for (size_t i = 0; i < n; i++) {
                floats[i] = (float)doubles[i];
            }
        } else {
            for (size_t i = 0; i < n; i++) {
                floats[i] = to_odd_float(doubles[i]);
            }
        }
        write_floats(to, out, floats, n);
        return;
    }
    read_floats(floats, from, in, n);
    if (to != ADAM_FLOAT64) {
        write_floats(to, out, floats, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        doubles[i] = (double)floats[i];
    }
    memcpy(out, doubles, n * sizeof *doubles);
}

void adam_convert(adam_dtype to, void *out, adam_dtype from, const void *in, size_t n)
{
    const size_t to_size = adam_dtype_size(to);
    const size_t from_size = adam_dtype_size(from);
    if (to == from && n > 0) {
        memcpy(out, in, n * to_size);
        return;
    }
    char *at = out;
    const char *source = in;
    for (size_t done = 0; done < n; done += BLOCK) {
        const size_t count = n - done < BLOCK ? n - done : BLOCK;
        convert_block(to, at + done * to_size, from, source + done * from_size, count);
    }
}
