/* kernel_body.h: the step for one instruction set and type, written once over a few vector
 * operations. Included with NAME(x) (adds the type's suffix), REAL and WIDTH (elements of a vector)
 * defined; undefines them. No include guard: it is included once for each type.
 *
 * The including file defines, for NAME(vec) of WIDTH elements: set1, load, store, load_part and
 * store_part (the first n elements, n < WIDTH; the rest reads as 0), add, sub, mul, div,
 * fma (a*b+c), fnma (c-a*b), sqrt, xor, abs, max (a NaN in either stays; of two zeros the second),
 * clamp (x, low, high; a NaN stays), unless_nan (a, or b where a is a NaN), nonfinite_lanes; and
 * an accum of ADAM_KERNEL_LANES, accum_load, accum_total, and add_squares of as many numbers.
 * With ADAM_KERNEL_WITHOUT_SUMS nothing is summed: bench/ shows with it what the sums cost. */

/* Elements between those that are stepped and those whose results are summed, from the first cache:
 * at once, the sums would wait in the processor's queues for roots and quotients, and hold up what
 * is behind them. */
#define BEHIND ((size_t)256)
#define UNIT   ((size_t)ADAM_KERNEL_LANES) /* elements of a turn of the loop */

/* Bytes that are asked for before their turn: the processor's own prefetching stops at the end of a
 * page, and so many streams make it stop often. Measured: 2 KiB, half of one. */
#define AHEAD ((size_t)2048)
#define LINE  ((size_t)64)

#ifdef ADAM_KERNEL_WITHOUT_SUMS
#define SUMS false
#else
#define SUMS true
#endif

typedef struct {
    NAME(vec) w, w_minus_1, beta2, one_minus_beta2, l2, decay, bias2_sqrt, bias2_sqrt_inverse;
    NAME(vec) eps, minus_step_size;
    NAME(vec) sign, unscale, clip_coef, clip_low, clip_high;
    bool far, has_l2, has_decay, amsgrad, changes_grad;
} NAME(constants);

/* One vector of every stream, and what the sums need of it. */
typedef struct {
    NAME(vec) p, m, v, vmax, grad, update;
} NAME(elements);

/* root / c->bias2_sqrt, rounded once, without the divider, which the root and the other quotient
 * keep busy: with the reciprocal of the divisor rounded to nearest, one product and two fused
 * corrections give the correctly rounded quotient (Markstein 1990; Brisebarre, Muller and Raina
 * 2004), if nothing overflows or underflows on the way. Nothing does: a root of a number of the
 * type is 0, infinite, or far from the ends of its range, and the divisor is between 1e-8 and 1. Of
 * an infinite root the corrections make a NaN; the product alone is right then. docs/numerics.md.
 */
static inline __attribute__((always_inline)) NAME(vec)
    NAME(over_bias2_sqrt)(const NAME(constants) * c, NAME(vec) root)
{
    const NAME(vec) near = NAME(mul)(root, c->bias2_sqrt_inverse);
    const NAME(vec) rest = NAME(fnma)(near, c->bias2_sqrt, root);
    return NAME(unless_nan)(NAME(fma)(rest, c->bias2_sqrt_inverse, near), near);
}

static inline __attribute__((always_inline)) void NAME(advance)(const NAME(constants) * c,
                                                                NAME(elements) * e)
{
    NAME(vec) g = e->grad;
    NAME(vec) p = e->p;
    if (c->changes_grad) {
        g = NAME(mul)(NAME(mul)(g, c->unscale), c->clip_coef);
        g = NAME(clamp)(g, c->clip_low, c->clip_high);
    }
    g = NAME(xor)(g, c->sign);
    if (c->has_l2) {
        g = NAME(fma)(p, c->l2, g);
    }
    if (c->has_decay) {
        p = NAME(mul)(p, c->decay);
    }
    const NAME(vec) d = NAME(sub)(g, e->m);
    e->m = c->far ? NAME(fma)(c->w_minus_1, d, g) : NAME(fma)(c->w, d, e->m);
    e->v = NAME(fma)(NAME(mul)(c->one_minus_beta2, g), g, NAME(mul)(e->v, c->beta2));
    NAME(vec) second = e->v;
    if (c->amsgrad) {
        e->vmax = NAME(max)(e->vmax, e->v);
        second = e->vmax;
    }
    const NAME(vec) denom = NAME(add)(NAME(over_bias2_sqrt)(c, NAME(sqrt)(second)), c->eps);
    p = NAME(add)(p, NAME(div)(NAME(mul)(c->minus_step_size, e->m), denom));
    e->update = NAME(sub)(p, e->p);
    e->p = p;
}

static inline NAME(constants) NAME(make_constants)(const adam_scalars *s, const adam_streams *t)
{
    const REAL w = (REAL)s->lerp_weight;
    return (NAME(constants)){
        .w = NAME(set1)(w),
        .w_minus_1 = NAME(set1)(w - (REAL)1),
        .beta2 = NAME(set1)((REAL)s->beta2),
        .one_minus_beta2 = NAME(set1)((REAL)s->one_minus_beta2),
        .l2 = NAME(set1)((REAL)s->l2),
        .decay = NAME(set1)((REAL)s->decay),
        .bias2_sqrt = NAME(set1)((REAL)s->bias2_sqrt),
        .bias2_sqrt_inverse = NAME(set1)((REAL)1 / (REAL)s->bias2_sqrt),
        .eps = NAME(set1)((REAL)s->eps),
        .minus_step_size = NAME(set1)((REAL)s->minus_step_size),
        .sign = NAME(set1)(s->maximize ? (REAL)-0.0 : (REAL)0.0),
        .unscale = NAME(set1)(s->changes_grad ? (REAL)s->unscale : (REAL)1),
        .clip_coef = NAME(set1)((REAL)s->clip_coef),
        .clip_low = NAME(set1)(-(REAL)s->clip_value),
        .clip_high = NAME(set1)((REAL)s->clip_value),
        .far = !(w < (REAL)0.5),
        .has_l2 = s->has_l2,
        .has_decay = s->has_decay,
        .amsgrad = t->vmax != NULL,
        .changes_grad = s->changes_grad,
    };
}

/* Steps one vector, the elements from i on, and keeps its change. */
static inline __attribute__((always_inline)) void
NAME(step_vector)(const NAME(constants) * c, const adam_streams *t, size_t i, REAL *update)
{
    REAL *p = (REAL *)t->p + i;
    REAL *m = (REAL *)t->m + i;
    REAL *v = (REAL *)t->v + i;
    REAL *vmax = c->amsgrad ? (REAL *)t->vmax + i : v;
    NAME(elements) e = {.p = NAME(load)(p), .m = NAME(load)(m), .v = NAME(load)(v)};
    e.grad = NAME(load)((const char *)t->grad + i * sizeof(REAL));
    e.vmax = c->amsgrad ? NAME(load)(vmax) : e.v;
    NAME(advance)(c, &e);
    NAME(store)(p, e.p);
    NAME(store)(m, e.m);
    NAME(store)(v, e.v);
    NAME(store)(update, e.update);
    if (c->amsgrad) {
        NAME(store)(vmax, e.vmax);
    }
    if (t->out != NULL) {
        NAME(store)((char *)t->out + i * sizeof(REAL), e.p);
    }
}

/* The same for the last n elements, n < WIDTH. */
static inline void NAME(step_part)(const NAME(constants) * c, const adam_streams *t, size_t i,
                                   size_t n, REAL *update)
{
    REAL *p = (REAL *)t->p + i;
    REAL *m = (REAL *)t->m + i;
    REAL *v = (REAL *)t->v + i;
    REAL *vmax = c->amsgrad ? (REAL *)t->vmax + i : v;
    NAME(elements)
    e = {.p = NAME(load_part)(p, n), .m = NAME(load_part)(m, n), .v = NAME(load_part)(v, n)};
    e.grad = NAME(load_part)((const char *)t->grad + i * sizeof(REAL), n);
    e.vmax = c->amsgrad ? NAME(load_part)(vmax, n) : e.v;
    NAME(advance)(c, &e);
    NAME(store_part)(p, e.p, n);
    NAME(store_part)(m, e.m, n);
    NAME(store_part)(v, e.v, n);
    NAME(store_part)(update, e.update, n);
    if (c->amsgrad) {
        NAME(store_part)(vmax, e.vmax, n);
    }
    if (t->out != NULL) {
        NAME(store_part)((char *)t->out + i * sizeof(REAL), e.p, n);
    }
}

/* Adds the squares of the n numbers x, n < ADAM_KERNEL_LANES. */
static inline accum NAME(add_rest)(accum sum, const void *x, size_t n)
{
    REAL rest[ADAM_KERNEL_LANES] = {0};
    memcpy(rest, x, n * sizeof(REAL));
    return NAME(add_squares)(sum, rest);
}

/* n gradients, n <= UNIT, multiplied with `factor`; 0 behind them. */
static inline __attribute__((always_inline)) void NAME(scale)(const char *x, size_t n,
                                                              NAME(vec) factor, REAL *scaled)
{
    for (size_t k = 0; k < UNIT; k += WIDTH) {
        const char *at = x + k * sizeof(REAL);
        const NAME(vec) raw = k + WIDTH <= n ? NAME(load)(at)
                              : k < n        ? NAME(load_part)(at, n - k)
                                             : NAME(set1)((REAL)0);
        NAME(store)(scaled + k, NAME(mul)(raw, factor));
    }
}

/* Of n gradients, n <= UNIT, once unscaled. They wait for nothing, and may soon be overwritten. */
static inline __attribute__((always_inline)) accum
NAME(add_gradients)(accum sum, const NAME(constants) * c, const adam_streams *t, size_t i, size_t n)
{
    const char *at = (const char *)t->grad + i * sizeof(REAL);
    if (c->changes_grad || n < UNIT) {
        REAL scaled[UNIT];
        NAME(scale)(at, n, c->unscale, scaled);
        return NAME(add_squares)(sum, scaled);
    }
    return NAME(add_squares)(sum, at);
}

static inline __attribute__((always_inline)) void NAME(prefetch)(const NAME(constants) * c,
                                                                 const adam_streams *t, size_t i)
{
    for (size_t k = 0; k < UNIT * sizeof(REAL); k += LINE) {
        const size_t at = i * sizeof(REAL) + AHEAD + k;
        __builtin_prefetch((const char *)t->p + at);
        __builtin_prefetch((const char *)t->m + at);
        __builtin_prefetch((const char *)t->v + at);
        __builtin_prefetch((const char *)t->grad + at);
        if (c->amsgrad) {
            __builtin_prefetch((const char *)t->vmax + at);
        }
    }
}

/* Inlined for each kind of step, with the kind's flags known in the loop. */
static inline __attribute__((always_inline)) void
NAME(step_all)(NAME(constants) c, const adam_streams *t, size_t n, adam_sums *sums)
{
    static const double zero[ADAM_KERNEL_LANES];
    _Alignas(64) REAL kept[BEHIND]; /* changes of the last elements, i at i % BEHIND */
    accum grad = accum_load(zero);
    accum param = accum_load(zero);
    accum update = accum_load(zero);
    size_t i = 0;
    for (; i + UNIT <= n; i += UNIT) {
        REAL *own = kept + i % BEHIND;
        NAME(prefetch)(&c, t, i);
        if (SUMS && i >= BEHIND) {
            param = NAME(add_squares)(param, (const REAL *)t->p + i - BEHIND);
            update = NAME(add_squares)(update, own);
        }
        if (SUMS) {
            grad = NAME(add_gradients)(grad, &c, t, i, UNIT);
        }
#pragma GCC unroll 2
        for (size_t k = 0; k < UNIT; k += WIDTH) {
            NAME(step_vector)(&c, t, i + k, own + k);
        }
    }
    if (SUMS) {
        for (size_t k = i > BEHIND ? i - BEHIND : 0; k < i; k += UNIT) {
            param = NAME(add_squares)(param, (const REAL *)t->p + k);
            update = NAME(add_squares)(update, kept + k % BEHIND);
        }
    }
    if (SUMS && i < n) {
        grad = NAME(add_gradients)(grad, &c, t, i, n - i);
    }
    for (; i + WIDTH <= n; i += WIDTH) {
        NAME(step_vector)(&c, t, i, kept + i % UNIT);
    }
    if (i < n) {
        NAME(step_part)(&c, t, i, n - i, kept + i % UNIT);
    }
    if (SUMS && n % UNIT > 0) {
        param = NAME(add_rest)(param, (const REAL *)t->p + n / UNIT * UNIT, n % UNIT);
        update = NAME(add_rest)(update, kept, n % UNIT);
    }
    sums->grad = accum_total(grad);
    sums->param = accum_total(param);
    sums->update = accum_total(update);
}

/* The common kinds have loops of their own, a sixth faster than the one that asks each time. */
static void NAME(step)(const adam_scalars *s, const adam_streams *t, size_t n, adam_sums *sums)
{
    NAME(constants) c = NAME(make_constants)(s, t);
    if (c.far || c.has_l2 || c.changes_grad) {
        NAME(step_all)(c, t, n, sums);
        return;
    }
    c.far = c.has_l2 = c.changes_grad = false;
    if (!c.amsgrad && !c.has_decay) {
        c.amsgrad = c.has_decay = false;
        NAME(step_all)(c, t, n, sums);
    } else if (!c.amsgrad) {
        c.amsgrad = false;
        c.has_decay = true;
        NAME(step_all)(c, t, n, sums);
    } else if (!c.has_decay) {
        c.amsgrad = true;
        c.has_decay = false;
        NAME(step_all)(c, t, n, sums);
    } else {
        c.amsgrad = c.has_decay = true;
        NAME(step_all)(c, t, n, sums);
    }
}

/* The larger of each lane and the magnitude of the number there; a NaN stays. */
static inline __attribute__((always_inline)) NAME(vec)
    NAME(largest_of)(NAME(vec) largest, const REAL *x)
{
    for (size_t k = 0; k < UNIT; k += WIDTH) {
        largest = NAME(max)(largest, NAME(abs)(NAME(load)(x + k)));
    }
    return largest;
}

static void NAME(norms)(const void *data, size_t n, double scale, adam_norms *norms)
{
    static const double zero[ADAM_KERNEL_LANES];
    const char *bytes = data;
    const NAME(vec) factor = NAME(set1)((REAL)scale);
    NAME(vec) largest = NAME(set1)((REAL)0);
    accum sum = accum_load(zero);
    _Alignas(64) REAL scaled[UNIT];
    size_t i = 0;
    for (; i + UNIT <= n; i += UNIT) {
        NAME(scale)(bytes + i * sizeof(REAL), UNIT, factor, scaled);
        largest = NAME(largest_of)(largest, scaled);
        sum = NAME(add_squares)(sum, scaled);
    }
    if (i < n) {
        NAME(scale)(bytes + i * sizeof(REAL), n - i, factor, scaled);
        largest = NAME(largest_of)(largest, scaled);
        sum = NAME(add_squares)(sum, scaled);
    }
    REAL each[WIDTH];
    NAME(store)(each, largest);
    REAL most = 0;
    for (int k = 0; k < WIDTH; k++) {
        most = each[k] > most || each[k] != each[k] ? each[k] : most; /* a NaN stays */
    }
    norms->squares = accum_total(sum);
    norms->largest = (double)most;
}

static size_t NAME(nonfinite)(const void *data, size_t n, double scale)
{
    const char *bytes = data;
    const NAME(vec) factor = NAME(set1)((REAL)scale);
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        unsigned bad =
            NAME(nonfinite_lanes)(NAME(mul)(NAME(load)(bytes + i * sizeof(REAL)), factor));
        if (bad != 0) {
            return i + (size_t)__builtin_ctz(bad);
        }
    }
    if (i < n) {
        unsigned bad = NAME(nonfinite_lanes)(
            NAME(mul)(NAME(load_part)(bytes + i * sizeof(REAL), n - i), factor));
        if (bad != 0) {
            return i + (size_t)__builtin_ctz(bad);
        }
    }
    return n;
}

#include "reduce_body.h"

#undef REAL
#undef NAME
#undef WIDTH
#undef AHEAD
#undef BEHIND
#undef LINE
#undef SUMS
#undef UNIT
