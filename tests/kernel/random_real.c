/* random_real.c: see random_real.h. */
#include "random_real.h"

static uint64_t state;

void random_seed(uint64_t seed)
{
    state = seed;
}

uint64_t random_bits(void)
{
    uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

size_t random_below(size_t limit)
{
    return (size_t)(random_bits() % limit);
}

uint64_t random_real(bool f64, bool wild, bool positive)
{
    const unsigned mantissa_bits = f64 ? 52 : 23;
    const unsigned bias = f64 ? 1023 : 127;
    const uint64_t r = random_bits();
    const uint64_t spread = r >> 8;
    const uint64_t sign = positive || (r & 64) == 0 ? 0 : bits_of_sign(f64);
    const uint64_t mantissa = random_bits() >> (64 - mantissa_bits);
    uint64_t exponent;
    switch (r % 16) {
    case 0: return sign;                                /* zero */
    case 1: return sign | mantissa;                     /* denormal */
    case 2: exponent = 1 + spread % 40; break;          /* nearly */
    case 3: exponent = bias - 60 + spread % 120; break; /* far apart */
    case 4: exponent = wild ? spread % (2 * bias + 2) : bias; break;
    case 5:
        if (wild) { /* infinity, or a NaN */
            return sign | bits_of_infinity(f64) | (r & 128 ? mantissa : 0);
        }
        exponent = bias - 1;
        break;
    default: exponent = bias - 10 + spread % 20; break;
    }
    return sign | exponent << mantissa_bits | mantissa;
}
