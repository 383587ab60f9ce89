/* kernel_avx512.c: the vector operations of AVX-512F for kernel_body.h. */
#include <immintrin.h>
#include <string.h>

#include "../kernel.h"

typedef __m512 vec_f32;
typedef __m512d vec_f64;
static inline __mmask16 part_f32(size_t n)
{
    return (__mmask16)((1U << n) - 1);
}
static inline vec_f32 set1_f32(float x)
{
    return _mm512_set1_ps(x);
}
static inline vec_f32 load_f32(const void *p)
{
    return _mm512_loadu_ps(p);
}
static inline void store_f32(void *p, vec_f32 a)
{
    _mm512_storeu_ps(p, a);
}
static inline vec_f32 load_part_f32(const void *p, size_t n)
{
    return _mm512_maskz_loadu_ps(part_f32(n), p);
}
static inline void store_part_f32(void *p, vec_f32 a, size_t n)
{
    _mm512_mask_storeu_ps(p, part_f32(n), a);
}
static inline vec_f32 add_f32(vec_f32 a, vec_f32 b)
{
    return _mm512_add_ps(a, b);
}
static inline vec_f32 sub_f32(vec_f32 a, vec_f32 b)
{
    return _mm512_sub_ps(a, b);
}
static inline vec_f32 mul_f32(vec_f32 a, vec_f32 b)
{
    return _mm512_mul_ps(a, b);
}
static inline vec_f32 div_f32(vec_f32 a, vec_f32 b)
{
    return _mm512_div_ps(a, b);
}
static inline vec_f32 fma_f32(vec_f32 a, vec_f32 b, vec_f32 c)
{
    return _mm512_fmadd_ps(a, b, c);
}
static inline vec_f32 fnma_f32(vec_f32 a, vec_f32 b, vec_f32 c)
{
    return _mm512_fnmadd_ps(a, b, c);
}
static inline vec_f32 unless_nan_f32(vec_f32 a, vec_f32 b)
{
    return _mm512_mask_mov_ps(a, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), b);
}
static inline vec_f32 sqrt_f32(vec_f32 a)
{
    return _mm512_sqrt_ps(a);
}
static inline vec_f32 xor_f32(vec_f32 a, vec_f32 b)
{
    return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
static inline vec_f32 max_f32(vec_f32 a, vec_f32 b)
{
    /* max_ps gives b where either is NaN, so only a NaN in a is left to keep */
    return _mm512_mask_mov_ps(_mm512_max_ps(a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a);
}
static inline vec_f32 abs_f32(vec_f32 a)
{
    return _mm512_abs_ps(a);
}
/* min and max give their second operand where either is NaN */
static inline vec_f32 clamp_f32(vec_f32 a, vec_f32 low, vec_f32 high)
{
    return _mm512_max_ps(low, _mm512_min_ps(high, a));
}
static inline unsigned nonfinite_lanes_f32(vec_f32 a)
{
    return _mm512_cmp_ps_mask(abs_f32(a), set1_f32(__builtin_inff()), _CMP_NLT_UQ);
}

static inline __mmask8 part_f64(size_t n)
{
    return (__mmask8)((1U << n) - 1);
}
static inline vec_f64 set1_f64(double x)
{
    return _mm512_set1_pd(x);
}
static inline vec_f64 load_f64(const void *p)
{
    return _mm512_loadu_pd(p);
}
static inline void store_f64(void *p, vec_f64 a)
{
    _mm512_storeu_pd(p, a);
}
static inline vec_f64 load_part_f64(const void *p, size_t n)
{
    return _mm512_maskz_loadu_pd(part_f64(n), p);
}
static inline void store_part_f64(void *p, vec_f64 a, size_t n)
{
    _mm512_mask_storeu_pd(p, part_f64(n), a);
}
static inline vec_f64 add_f64(vec_f64 a, vec_f64 b)
{
    return _mm512_add_pd(a, b);
}
static inline vec_f64 sub_f64(vec_f64 a, vec_f64 b)
{
    return _mm512_sub_pd(a, b);
}
static inline vec_f64 mul_f64(vec_f64 a, vec_f64 b)
{
    return _mm512_mul_pd(a, b);
}
static inline vec_f64 div_f64(vec_f64 a, vec_f64 b)
{
    return _mm512_div_pd(a, b);
}
static inline vec_f64 fma_f64(vec_f64 a, vec_f64 b, vec_f64 c)
{
    return _mm512_fmadd_pd(a, b, c);
}
static inline vec_f64 fnma_f64(vec_f64 a, vec_f64 b, vec_f64 c)
{
    return _mm512_fnmadd_pd(a, b, c);
}
static inline vec_f64 unless_nan_f64(vec_f64 a, vec_f64 b)
{
    return _mm512_mask_mov_pd(a, _mm512_cmp_pd_mask(a, a, _CMP_UNORD_Q), b);
}
static inline vec_f64 sqrt_f64(vec_f64 a)
{
    return _mm512_sqrt_pd(a);
}
static inline vec_f64 xor_f64(vec_f64 a, vec_f64 b)
{
    return _mm512_castsi512_pd(_mm512_xor_si512(_mm512_castpd_si512(a), _mm512_castpd_si512(b)));
}
static inline vec_f64 max_f64(vec_f64 a, vec_f64 b)
{
    return _mm512_mask_mov_pd(_mm512_max_pd(a, b), _mm512_cmp_pd_mask(a, a, _CMP_UNORD_Q), a);
}
static inline vec_f64 abs_f64(vec_f64 a)
{
    return _mm512_abs_pd(a);
}
static inline vec_f64 clamp_f64(vec_f64 a, vec_f64 low, vec_f64 high)
{
    return _mm512_max_pd(low, _mm512_min_pd(high, a));
}
static inline unsigned nonfinite_lanes_f64(vec_f64 a)
{
    return _mm512_cmp_pd_mask(abs_f64(a), set1_f64(__builtin_inf()), _CMP_NLT_UQ);
}

/* ADAM_KERNEL_LANES of double. */
typedef struct accum {
    __m512d a, b;
} accum;

static inline __attribute__((always_inline)) accum accum_load(const double *lane)
{
    return (accum){_mm512_loadu_pd(lane), _mm512_loadu_pd(lane + 8)};
}
static inline __attribute__((always_inline)) double accum_total(accum sum)
{
    double lane[ADAM_KERNEL_LANES];
    _mm512_storeu_pd(lane, sum.a);
    _mm512_storeu_pd(lane + 8, sum.b);
    return adam_kernel_add_lanes(lane);
}
static inline __attribute__((always_inline)) accum add_squares_f32(accum sum, const void *numbers)
{
    const float *x = numbers;
    const __m512d a = _mm512_cvtps_pd(_mm256_loadu_ps(x));
    const __m512d b = _mm512_cvtps_pd(_mm256_loadu_ps(x + 8));
    return (accum){_mm512_fmadd_pd(a, a, sum.a), _mm512_fmadd_pd(b, b, sum.b)};
}
static inline __attribute__((always_inline)) accum add_squares_f64(accum sum, const void *numbers)
{
    const double *x = numbers;
    const __m512d a = _mm512_loadu_pd(x);
    const __m512d b = _mm512_loadu_pd(x + 8);
    return (accum){_mm512_fmadd_pd(a, a, sum.a), _mm512_fmadd_pd(b, b, sum.b)};
}

#define REAL    float
#define NAME(x) x##_f32
#define WIDTH   16
#include "kernel_body.h"

#define REAL    double
#define NAME(x) x##_f64
#define WIDTH   8
#include "kernel_body.h"

const adam_kernel adam_kernel_avx512 = {
    .name = "avx512",
    .step_f32 = step_f32,
    .step_f64 = step_f64,
    .norms_f32 = norms_f32,
    .norms_f64 = norms_f64,
    .nonfinite_f32 = nonfinite_f32,
    .nonfinite_f64 = nonfinite_f64,
    .reduce_f32 = reduce_f32,
    .reduce_f64 = reduce_f64,
};
