/* kernel_scalar.c: the reference kernel, in plain C. The others must give its bits.
 *
 * fma() and fmaf() are correctly rounded everywhere, with or without the instruction. Streams may
 * be unaligned, so elements are read and written by memcpy. */
#include <math.h>
#include <string.h>

#include "kernel.h"

#define REAL    float
#define NAME(x) x##_f32
#define FMA     fmaf
#define SQRT    sqrtf
#include "kernel_scalar_body.h"

#define REAL    double
#define NAME(x) x##_f64
#define FMA     fma
#define SQRT    sqrt
#include "kernel_scalar_body.h"

const adam_kernel adam_kernel_scalar = {
    .name = "scalar",
    .step_f32 = step_f32,
    .step_f64 = step_f64,
    .norms_f32 = norms_f32,
    .norms_f64 = norms_f64,
    .nonfinite_f32 = nonfinite_f32,
    .nonfinite_f64 = nonfinite_f64,
    .reduce_f32 = reduce_f32,
    .reduce_f64 = reduce_f64,
};
