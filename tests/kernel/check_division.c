/* check_division.c: the kernels divide by the root of the second bias correction without a divider
 * (core/x86/kernel_body.h); here that quotient, rounded once, is held against the scalar kernel's
 * division, over divisors and roots of every kind. A step from p = 0 with exp_avg = -1, which the
 * gradient -1 leaves as it is, and eps = 0 writes the reciprocal of the quotient: for the half of
 * quotients below the root of 2 in their binade, one unit in the last place always shows. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kernel.h"
#include "random_real.h"

#define N        4096
#define DIVISORS 2000

static unsigned char p[2][N * sizeof(double)], m[N * sizeof(double)], v[N * sizeof(double)];
static unsigned char squares[N * sizeof(double)], grad[N * sizeof(double)];
static size_t failures;

static void put(bool f64, unsigned char *stream, size_t i, double x)
{
    const float single = (float)x;
    memcpy(stream + i * (f64 ? sizeof x : sizeof single), f64 ? (void *)&x : (void *)&single,
           f64 ? sizeof x : sizeof single);
}

/* Every bit pattern of a second moment that the contract allows, and the ends of them. */
static void fill_squares(bool f64)
{
    const uint64_t infinity = bits_of_infinity(f64);
    const uint64_t ends[] = {0, 1, infinity - 1, infinity, infinity + 1};
    const size_t size = f64 ? sizeof(double) : sizeof(float);
    for (size_t i = 0; i < N; i++) {
        const uint64_t bits = i < 5 ? ends[i] : random_bits() % infinity;
        memcpy(squares + i * size, &bits, size); /* little-endian */
    }
}

/* The corrections that betas and step counts give, and numbers beside powers of two. */
static double random_divisor(bool f64)
{
    static const double betas2[] = {0.999, 0.9, 0.5, 0.99, 0.9999999, 1.0 - 0x1p-53};
    const double ulp = f64 ? 0x1p-53 : 0x1p-24;
    const double t = 1.0 + (double)random_below(100000);
    switch (random_below(4)) {
    case 0: return pow(1.0 - pow(betas2[random_below(6)], t), 0.5);
    case 1: return ldexp(1.0 - ulp * (double)(1 + random_below(64)), -(int)random_below(26));
    case 2: return ldexp(1.0 + 2 * ulp * (double)random_below(64), -1 - (int)random_below(26));
    default:
        return ldexp(1.0 + (double)(random_bits() >> 11) * 0x1p-53, -1 - (int)random_below(26));
    }
}

static void step(const adam_kernel *kernel, bool f64, double divisor, unsigned char *out)
{
    const adam_scalars scalars = {.lerp_weight = 0.1,
                                  .beta2 = 1.0,
                                  .one_minus_beta2 = 0.0,
                                  .decay = 1.0,
                                  .bias2_sqrt = divisor,
                                  .minus_step_size = -1.0};
    adam_sums sums;
    for (size_t i = 0; i < N; i++) {
        put(f64, out, i, 0.0);
        put(f64, m, i, -1.0);
        put(f64, grad, i, -1.0);
    }
    memcpy(v, squares, sizeof v);
    const adam_streams streams = {.p = out, .m = m, .v = v, .grad = grad};
    (f64 ? kernel->step_f64 : kernel->step_f32)(&scalars, &streams, N, &sums);
}

static void check(const adam_kernel *kernel, bool f64)
{
    const size_t size = f64 ? sizeof(double) : sizeof(float);
    for (int round = 0; round < DIVISORS; round++) {
        const double divisor = random_divisor(f64);
        if (round % 16 == 0) {
            fill_squares(f64);
        }
        step(&adam_kernel_scalar, f64, divisor, p[0]);
        step(kernel, f64, divisor, p[1]);
        for (size_t i = 0; i < N; i++) {
            const bool nan = i == 4; /* its bits may differ */
            if (!nan && memcmp(p[0] + i * size, p[1] + i * size, size) != 0 && failures++ < 20) {
                printf("FAILED %s %s: element %zu, divisor %a\n", kernel->name, f64 ? "f64" : "f32",
                       i, divisor);
            }
        }
    }
}

int main(void)
{
    const char *given = getenv("ADAM_TEST_SEED");
    const uint64_t seed =
        given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) << 20 ^ (uint64_t)getpid();
    random_seed(seed);
    printf("ADAM_TEST_SEED=%" PRIu64 "\n", seed);
    const char *name;
    const adam_kernel *kernel = adam_kernel_at(1, &name);
    for (size_t i = 2; name != NULL; kernel = adam_kernel_at(i++, &name)) {
        if (kernel != NULL) {
            check(kernel, false);
            check(kernel, true);
        }
    }
    printf("%zu failed\n", failures);
    return failures == 0 ? 0 : 1;
}
