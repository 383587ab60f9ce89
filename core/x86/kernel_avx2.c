/* kernel_avx2.c: the vector operations of AVX2 and FMA for kernel_body.h. Doubles go in pairs of
 * registers, so that a vector is 8 elements for both types. */
#include <immintrin.h>
#include <string.h>

#include "../kernel.h"

typedef __m256 vec_f32;
typedef struct {
    __m256d a, b;
} vec_f64;
static inline vec_f32 set1_f32(float x)
{
    return _mm256_set1_ps(x);
}
static inline vec_f32 load_f32(const void *p)
{
    return _mm256_loadu_ps(p);
}
static inline void store_f32(void *p, vec_f32 a)
{
    _mm256_storeu_ps(p, a);
}
/* Parts go through a padded block: the address of a masked-off element is never touched. */
static inline vec_f32 load_part_f32(const void *p, size_t n)
{
    float block[8] = {0};
    memcpy(block, p, n * sizeof *block);
    return _mm256_loadu_ps(block);
}
static inline void store_part_f32(void *p, vec_f32 a, size_t n)
{
    float block[8];
    _mm256_storeu_ps(block, a);
    memcpy(p, block, n * sizeof *block);
}
static inline vec_f32 add_f32(vec_f32 a, vec_f32 b)
{
    return _mm256_add_ps(a, b);
}
static inline vec_f32 sub_f32(vec_f32 a, vec_f32 b)
{
    return _mm256_sub_ps(a, b);
}
static inline vec_f32 mul_f32(vec_f32 a, vec_f32 b)
{
    return _mm256_mul_ps(a, b);
}
static inline vec_f32 div_f32(vec_f32 a, vec_f32 b)
{
    return _mm256_div_ps(a, b);
}
static inline vec_f32 fma_f32(vec_f32 a, vec_f32 b, vec_f32 c)
{
    return _mm256_fmadd_ps(a, b, c);
}
static inline vec_f32 fnma_f32(vec_f32 a, vec_f32 b, vec_f32 c)
{
    return _mm256_fnmadd_ps(a, b, c);
}
static inline vec_f32 unless_nan_f32(vec_f32 a, vec_f32 b)
{
    return _mm256_blendv_ps(a, b, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}
static inline vec_f32 sqrt_f32(vec_f32 a)
{
    return _mm256_sqrt_ps(a);
}
static inline vec_f32 xor_f32(vec_f32 a, vec_f32 b)
{
    return _mm256_xor_ps(a, b);
}
static inline vec_f32 max_f32(vec_f32 a, vec_f32 b)
{
    /* max_ps gives b where either is NaN, so only a NaN in a is left to keep */
    return _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}
static inline vec_f32 abs_f32(vec_f32 a)
{
    return _mm256_andnot_ps(set1_f32(-0.0F), a);
}
/* min and max give their second operand where either is NaN */
static inline vec_f32 clamp_f32(vec_f32 a, vec_f32 low, vec_f32 high)
{
    return _mm256_max_ps(low, _mm256_min_ps(high, a));
}
static inline unsigned nonfinite_lanes_f32(vec_f32 a)
{
    const vec_f32 magnitude = _mm256_andnot_ps(set1_f32(-0.0F), a);
    return (unsigned)_mm256_movemask_ps(
        _mm256_cmp_ps(magnitude, set1_f32(__builtin_inff()), _CMP_NLT_UQ));
}

static inline vec_f64 set1_f64(double x)
{
    return (vec_f64){_mm256_set1_pd(x), _mm256_set1_pd(x)};
}
static inline vec_f64 load_f64(const void *p)
{
    const char *bytes = p;
    return (vec_f64){_mm256_loadu_pd((const void *)bytes),
                     _mm256_loadu_pd((const void *)(bytes + 32))};
}
static inline void store_f64(void *p, vec_f64 x)
{
    char *bytes = p;
    _mm256_storeu_pd((void *)bytes, x.a);
    _mm256_storeu_pd((void *)(bytes + 32), x.b);
}
static inline vec_f64 load_part_f64(const void *p, size_t n)
{
    double block[8] = {0};
    memcpy(block, p, n * sizeof *block);
    return load_f64(block);
}
static inline void store_part_f64(void *p, vec_f64 x, size_t n)
{
    double block[8];
    store_f64(block, x);
    memcpy(p, block, n * sizeof *block);
}
static inline vec_f64 add_f64(vec_f64 x, vec_f64 y)
{
    return (vec_f64){_mm256_add_pd(x.a, y.a), _mm256_add_pd(x.b, y.b)};
}
static inline vec_f64 sub_f64(vec_f64 x, vec_f64 y)
{
    return (vec_f64){_mm256_sub_pd(x.a, y.a), _mm256_sub_pd(x.b, y.b)};
}
static inline vec_f64 mul_f64(vec_f64 x, vec_f64 y)
{
    return (vec_f64){_mm256_mul_pd(x.a, y.a), _mm256_mul_pd(x.b, y.b)};
}
static inline vec_f64 div_f64(vec_f64 x, vec_f64 y)
{
    return (vec_f64){_mm256_div_pd(x.a, y.a), _mm256_div_pd(x.b, y.b)};
}
static inline vec_f64 fma_f64(vec_f64 x, vec_f64 y, vec_f64 z)
{
    return (vec_f64){_mm256_fmadd_pd(x.a, y.a, z.a), _mm256_fmadd_pd(x.b, y.b, z.b)};
}
static inline vec_f64 fnma_f64(vec_f64 x, vec_f64 y, vec_f64 z)
{
    return (vec_f64){_mm256_fnmadd_pd(x.a, y.a, z.a), _mm256_fnmadd_pd(x.b, y.b, z.b)};
}
static inline __m256d unless_nan_half_f64(__m256d a, __m256d b)
{
    return _mm256_blendv_pd(a, b, _mm256_cmp_pd(a, a, _CMP_UNORD_Q));
}
static inline vec_f64 unless_nan_f64(vec_f64 x, vec_f64 y)
{
    return (vec_f64){unless_nan_half_f64(x.a, y.a), unless_nan_half_f64(x.b, y.b)};
}
static inline vec_f64 sqrt_f64(vec_f64 x)
{
    return (vec_f64){_mm256_sqrt_pd(x.a), _mm256_sqrt_pd(x.b)};
}
static inline vec_f64 xor_f64(vec_f64 x, vec_f64 y)
{
    return (vec_f64){_mm256_xor_pd(x.a, y.a), _mm256_xor_pd(x.b, y.b)};
}
static inline __m256d max_half_f64(__m256d a, __m256d b)
{
    return _mm256_blendv_pd(_mm256_max_pd(a, b), a, _mm256_cmp_pd(a, a, _CMP_UNORD_Q));
}
static inline vec_f64 max_f64(vec_f64 x, vec_f64 y)
{
    return (vec_f64){max_half_f64(x.a, y.a), max_half_f64(x.b, y.b)};
}
static inline vec_f64 abs_f64(vec_f64 x)
{
    const __m256d sign = _mm256_set1_pd(-0.0);
    return (vec_f64){_mm256_andnot_pd(sign, x.a), _mm256_andnot_pd(sign, x.b)};
}
static inline vec_f64 clamp_f64(vec_f64 x, vec_f64 low, vec_f64 high)
{
    return (vec_f64){_mm256_max_pd(low.a, _mm256_min_pd(high.a, x.a)),
                     _mm256_max_pd(low.b, _mm256_min_pd(high.b, x.b))};
}
static inline unsigned nonfinite_half_f64(__m256d a)
{
    return (unsigned)_mm256_movemask_pd(
        _mm256_cmp_pd(a, _mm256_set1_pd(__builtin_inf()), _CMP_NLT_UQ));
}
static inline unsigned nonfinite_lanes_f64(vec_f64 x)
{
    const vec_f64 magnitude = abs_f64(x);
    return nonfinite_half_f64(magnitude.a) | nonfinite_half_f64(magnitude.b) << 4;
}

/* ADAM_KERNEL_LANES of double. */
typedef struct accum {
    __m256d a, b, c, d;
} accum;

static inline __attribute__((always_inline)) accum accum_load(const double *lane)
{
    return (accum){_mm256_loadu_pd(lane), _mm256_loadu_pd(lane + 4), _mm256_loadu_pd(lane + 8),
                   _mm256_loadu_pd(lane + 12)};
}
static inline __attribute__((always_inline)) double accum_total(accum sum)
{
    double lane[ADAM_KERNEL_LANES];
    _mm256_storeu_pd(lane, sum.a);
    _mm256_storeu_pd(lane + 4, sum.b);
    _mm256_storeu_pd(lane + 8, sum.c);
    _mm256_storeu_pd(lane + 12, sum.d);
    return adam_kernel_add_lanes(lane);
}
static inline __attribute__((always_inline)) accum add_squares_f32(accum sum, const void *numbers)
{
    const float *x = numbers;
    const __m256d a = _mm256_cvtps_pd(_mm_loadu_ps(x));
    const __m256d b = _mm256_cvtps_pd(_mm_loadu_ps(x + 4));
    const __m256d c = _mm256_cvtps_pd(_mm_loadu_ps(x + 8));
    const __m256d d = _mm256_cvtps_pd(_mm_loadu_ps(x + 12));
    return (accum){_mm256_fmadd_pd(a, a, sum.a), _mm256_fmadd_pd(b, b, sum.b),
                   _mm256_fmadd_pd(c, c, sum.c), _mm256_fmadd_pd(d, d, sum.d)};
}
static inline __attribute__((always_inline)) accum add_squares_f64(accum sum, const void *numbers)
{
    const double *x = numbers;
    const __m256d a = _mm256_loadu_pd(x);
    const __m256d b = _mm256_loadu_pd(x + 4);
    const __m256d c = _mm256_loadu_pd(x + 8);
    const __m256d d = _mm256_loadu_pd(x + 12);
    return (accum){_mm256_fmadd_pd(a, a, sum.a), _mm256_fmadd_pd(b, b, sum.b),
                   _mm256_fmadd_pd(c, c, sum.c), _mm256_fmadd_pd(d, d, sum.d)};
}

#define REAL    float
#define NAME(x) x##_f32
#define WIDTH   8
#include "kernel_body.h"

#define REAL    double
#define NAME(x) x##_f64
#define WIDTH   8
#include "kernel_body.h"

const adam_kernel adam_kernel_avx2 = {
    .name = "avx2",
    .step_f32 = step_f32,
    .step_f64 = step_f64,
    .norms_f32 = norms_f32,
    .norms_f64 = norms_f64,
    .nonfinite_f32 = nonfinite_f32,
    .nonfinite_f64 = nonfinite_f64,
    .reduce_f32 = reduce_f32,
    .reduce_f64 = reduce_f64,
};
