/* kernel_body.h: the step for one instruction set and type, written once over a few vector
 * operations. Included with NAME(x) (adds the type's suffix), REAL and WIDTH (elements of a vector)
 * defined; undefines them. No include guard: it is included once for each type.
 *
 * The including file defines, for NAME(vec) of WIDTH elements: set1, load, store, load_part and
 * store_part (the first n elements, n < WIDTH; the rest reads as 0), keep_part (zero but the first
 * n), add, sub, mul, div, fma (a*b+c), sqrt, xor, abs, max (a NaN in either stays; of two zeros the
 * second), clamp (x, low, high; a NaN stays), and square_add, which adds squares to an accum of 8
 * lanes of double. With ADAM_KERNEL_WITHOUT_SUMS nothing is summed: bench/ shows with it what the
 * sums cost. */

#ifdef ADAM_KERNEL_WITHOUT_SUMS
#define SUM(sum, x) (sum)
#else
#define SUM(sum, x) NAME(square_add)(sum, x)
#endif

typedef struct {
    NAME(vec) w, w_minus_1, beta2, one_minus_beta2, l2, decay, bias2_sqrt, eps, minus_step_size;
    NAME(vec) sign, unscale, clip_coef, clip_low, clip_high;
    bool far, has_l2, has_decay, amsgrad, changes_grad;
} NAME(constants);

/* One vector of every stream, and what the sums need of it. */
typedef struct {
    NAME(vec) p, m, v, vmax, grad, update;
} NAME(elements);

static inline __attribute__((always_inline)) void NAME(advance)(const NAME(constants) * c,
                                                                NAME(elements) * e)
{
    NAME(vec) g = e->grad;
    NAME(vec) p = e->p;
    if (c->changes_grad) {
        e->grad = NAME(mul)(g, c->unscale);
        g = NAME(clamp)(NAME(mul)(e->grad, c->clip_coef), c->clip_low, c->clip_high);
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
    const NAME(vec) denom = NAME(add)(NAME(div)(NAME(sqrt)(second), c->bias2_sqrt), c->eps);
    p = NAME(add)(p, NAME(div)(NAME(mul)(c->minus_step_size, e->m), denom));
    e->update = NAME(sub)(p, e->p);
    e->p = p;
}

static NAME(constants) NAME(make_constants)(const adam_scalars *s, const adam_streams *t)
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
        .eps = NAME(set1)((REAL)s->eps),
        .minus_step_size = NAME(set1)((REAL)s->minus_step_size),
        .sign = NAME(set1)(s->maximize ? (REAL)-0.0 : (REAL)0.0),
        .unscale = NAME(set1)((REAL)s->unscale),
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

static void NAME(step)(const adam_scalars *s, const adam_streams *t, size_t n, adam_sums *sums)
{
    const NAME(constants) c = NAME(make_constants)(s, t);
    REAL *p = t->p;
    REAL *m = t->m;
    REAL *v = t->v;
    REAL *vmax = t->vmax;
    const char *grad = t->grad;
    char *out = t->out;
    accum grad_sum = accum_zero();
    accum param_sum = accum_zero();
    accum update_sum = accum_zero();
    NAME(elements) e;
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        e.p = NAME(load)(p + i);
        e.m = NAME(load)(m + i);
        e.v = NAME(load)(v + i);
        e.grad = NAME(load)(grad + i * sizeof(REAL));
        e.vmax = c.amsgrad ? NAME(load)(vmax + i) : e.v;
        NAME(advance)(&c, &e);
        NAME(store)(p + i, e.p);
        NAME(store)(m + i, e.m);
        NAME(store)(v + i, e.v);
        if (c.amsgrad) {
            NAME(store)(vmax + i, e.vmax);
        }
        if (out != NULL) {
            NAME(store)(out + i * sizeof(REAL), e.p);
        }
        grad_sum = SUM(grad_sum, e.grad);
        param_sum = SUM(param_sum, e.p);
        update_sum = SUM(update_sum, e.update);
    }
    if (i < n) {
        const size_t left = n - i;
        e.p = NAME(load_part)(p + i, left);
        e.m = NAME(load_part)(m + i, left);
        e.v = NAME(load_part)(v + i, left);
        e.grad = NAME(load_part)(grad + i * sizeof(REAL), left);
        e.vmax = c.amsgrad ? NAME(load_part)(vmax + i, left) : e.v;
        NAME(advance)(&c, &e);
        NAME(store_part)(p + i, e.p, left);
        NAME(store_part)(m + i, e.m, left);
        NAME(store_part)(v + i, e.v, left);
        if (c.amsgrad) {
            NAME(store_part)(vmax + i, e.vmax, left);
        }
        if (out != NULL) {
            NAME(store_part)(out + i * sizeof(REAL), e.p, left);
        }
        grad_sum = SUM(grad_sum, e.grad);
        param_sum = SUM(param_sum, NAME(keep_part)(e.p, left));
        update_sum = SUM(update_sum, NAME(keep_part)(e.update, left));
    }
    sums->grad = accum_total(grad_sum);
    sums->param = accum_total(param_sum);
    sums->update = accum_total(update_sum);
}

static void NAME(norms)(const void *data, size_t n, double scale, adam_norms *norms)
{
    const char *bytes = data;
    const NAME(vec) factor = NAME(set1)((REAL)scale);
    NAME(vec) largest = NAME(set1)((REAL)0);
    accum squares = accum_zero();
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        const NAME(vec) x = NAME(mul)(NAME(load)(bytes + i * sizeof(REAL)), factor);
        squares = NAME(square_add)(squares, x);
        largest = NAME(max)(largest, NAME(abs)(x));
    }
    if (i < n) {
        const NAME(vec) x = NAME(mul)(NAME(load_part)(bytes + i * sizeof(REAL), n - i), factor);
        squares = NAME(square_add)(squares, x);
        largest = NAME(max)(largest, NAME(abs)(x));
    }
    REAL lane[WIDTH];
    NAME(store)(lane, largest);
    REAL most = 0;
    for (int k = 0; k < WIDTH; k++) {
        most = lane[k] > most || lane[k] != lane[k] ? lane[k] : most; /* a NaN stays */
    }
    norms->squares = accum_total(squares);
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

#undef REAL
#undef NAME
#undef WIDTH
#undef SUM
