/* random_real.h: random bits and the numbers that the kernels' check feeds them. */
#ifndef ADAM_TEST_RANDOM_REAL_H
#define ADAM_TEST_RANDOM_REAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void random_seed(uint64_t seed);
uint64_t random_bits(void);
size_t random_below(size_t limit);

/* The bits of one number. Tame: finite, of very different magnitudes, with zeros and denormals
 * among them. Wild: infinities, NaNs and whole ranges of exponents too. */
uint64_t random_real(bool f64, bool wild, bool positive);

/* The bits of infinity: every exponent bit. */
static inline uint64_t bits_of_infinity(bool f64)
{
    return f64 ? UINT64_C(0x7ff) << 52 : UINT64_C(0xff) << 23;
}

static inline uint64_t bits_of_sign(bool f64)
{
    return f64 ? UINT64_C(1) << 63 : UINT64_C(1) << 31;
}

#endif
