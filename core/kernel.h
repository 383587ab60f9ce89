/* kernel.h: the inner loops, one table for each instruction set. Knows numbers, not optimizers.
 *
 * A kernel is a table of functions. All tables give the same bits: each operation of
 * docs/numerics.md is rounded once, in the order written there, and tails take the vector path. */
#ifndef ADAM_CORE_KERNEL_H
#define ADAM_CORE_KERNEL_H

#include <stdbool.h>
#include <stddef.h>

/* Sums of squares are kept in this many lanes of double, element i in lane i mod 16, and then added
 * as a tree (adam_kernel_add_lanes): the same on every instruction set. With fewer, sums wait
 * for those before them. */
#define ADAM_KERNEL_LANES 16

/* What a step needs beside the tensors, in double; a kernel rounds each once to its type. */
typedef struct adam_scalars {
    double lerp_weight;     /* 1 - beta1 */
    double beta2;           /* beta2 */
    double one_minus_beta2; /* 1 - beta2 */
    double l2;              /* weight_decay of Adam; 0: none */
    double decay;           /* 1 - lr * weight_decay of AdamW; 1: none */
    double bias2_sqrt;      /* sqrt(1 - beta2^t), 1e-8 to 1 */
    double eps;             /* eps */
    double minus_step_size; /* -(lr / (1 - beta1^t)) */
    bool has_l2, has_decay; /* whether `l2`, `decay` are applied at all */
    bool maximize;          /* negate the gradient */
    bool changes_grad;      /* whether the next three are applied at all, in this order */
    double unscale;         /* the gradient is multiplied with this; 1: none */
    double clip_coef;       /* and with this; 1: none */
    double clip_value;      /* and held between minus this and this; infinity: none */
} adam_scalars;

/* n elements of each stream. vmax NULL: no amsgrad. out NULL: the updated parameters go to p alone;
 * else there too, and out may be grad. grad and out may be unaligned, the others are not. */
typedef struct adam_streams {
    void *p, *m, *v, *vmax;
    const void *grad;
    void *out;
} adam_streams;

/* Sums of squares over a chunk: of the gradient once unscaled, of the new parameters, of their
 * change. */
typedef struct adam_sums {
    double grad, param, update;
} adam_sums;

/* Of a chunk of numbers, each multiplied with `scale`: the sum of squares and the largest magnitude
 * (NaN where there is one). */
typedef struct adam_norms {
    double squares, largest;
} adam_norms;

/* Of so many sources a reduction reads an element before it goes to the next element. */
#define ADAM_KERNEL_TERMS ((size_t)8)

/* What is added to a sum, in order: x[k], or base - x[k], times weight[k] where it is weighted,
 * each operation rounded. Everything may be unaligned, and x[0] may be the sum itself. */
typedef struct adam_terms {
    const void *x[ADAM_KERNEL_TERMS];
    double weight[ADAM_KERNEL_TERMS]; /* a kernel rounds it once to its type, as the divisor */
    size_t n;                         /* 1 to ADAM_KERNEL_TERMS */
    const void *base;                 /* NULL: none */
    bool weighted;
    bool continues; /* the sum has begun: the first term is added to it, not put in its place */
    bool divides;   /* the sum is divided in the end */
    double divisor;
} adam_terms;

typedef void adam_kernel_step_fn(const adam_scalars *scalars, const adam_streams *streams, size_t n,
                                 adam_sums *sums);
typedef void adam_kernel_norms_fn(const void *data, size_t n, double scale, adam_norms *norms);
/* Index of the first number that, multiplied with `scale`, is a NaN or infinity, or n. */
typedef size_t adam_kernel_nonfinite_fn(const void *data, size_t n, double scale);
/* Adds the terms to n sums. */
typedef void adam_kernel_reduce_fn(const adam_terms *terms, void *sum, size_t n);

typedef struct adam_kernel {
    const char *name;
    adam_kernel_step_fn *step_f32, *step_f64;
    adam_kernel_norms_fn *norms_f32, *norms_f64;
    adam_kernel_nonfinite_fn *nonfinite_f32, *nonfinite_f64;
    adam_kernel_reduce_fn *reduce_f32, *reduce_f64;
} adam_kernel;

extern const adam_kernel adam_kernel_scalar;
#if defined(__x86_64__)
extern const adam_kernel adam_kernel_avx2;
extern const adam_kernel adam_kernel_avx512;
#endif

/* The kernel of this process: the fastest that runs here, or the one that ADAM_KERNEL names. */
const adam_kernel *adam_kernel_get(void);

/* The kernel at place `index` if the processor runs it, slowest first; NULL where there is none
 * (left). *name is set while there is a kernel at that place, whether it runs or not. */
const adam_kernel *adam_kernel_at(size_t index, const char **name);

static inline double adam_kernel_add_lanes(const double lane[ADAM_KERNEL_LANES])
{
    double sum[ADAM_KERNEL_LANES];
    for (int i = 0; i < ADAM_KERNEL_LANES; i++) {
        sum[i] = lane[i];
    }
    for (int n = ADAM_KERNEL_LANES / 2; n > 0; n /= 2) {
        for (int i = 0; i < n; i++) {
            sum[i] += sum[i + n];
        }
    }
    return sum[0];
}

#endif
