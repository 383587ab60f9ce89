/* kernel_scalar_body.h: the reference for one type. Included by kernel_scalar.c with REAL, NAME,
 * FMA and SQRT defined; undefines them. No include guard: it is included once for each type. */

static REAL NAME(get)(const void *stream, size_t i)
{
    REAL x;
    memcpy(&x, (const char *)stream + i * sizeof x, sizeof x);
    return x;
}

static void NAME(put)(void *stream, size_t i, REAL x)
{
    memcpy((char *)stream + i * sizeof x, &x, sizeof x);
}

static void NAME(step)(const adam_scalars *s, const adam_streams *t, size_t n, adam_sums *sums)
{
    const REAL w = (REAL)s->lerp_weight;
    const REAL w_minus_1 = w - (REAL)1;
    const REAL beta2 = (REAL)s->beta2;
    const REAL one_minus_beta2 = (REAL)s->one_minus_beta2;
    const REAL bias2_sqrt = (REAL)s->bias2_sqrt;
    const REAL eps = (REAL)s->eps;
    const REAL minus_step_size = (REAL)s->minus_step_size;
    const REAL unscale = s->changes_grad ? (REAL)s->unscale : (REAL)1;
    const REAL clip_coef = (REAL)s->clip_coef;
    const REAL clip_value = (REAL)s->clip_value;
    double grad_lane[ADAM_KERNEL_LANES] = {0};
    double param_lane[ADAM_KERNEL_LANES] = {0};
    double update_lane[ADAM_KERNEL_LANES] = {0};

    for (size_t i = 0; i < n; i++) {
        const REAL raw = NAME(get)(t->grad, i) * unscale;
        const REAL old = NAME(get)(t->p, i);
        REAL g = raw;
        if (s->changes_grad) {
            g = g * clip_coef;
            g = g > clip_value ? clip_value : g < -clip_value ? -clip_value : g;
        }
        g = s->maximize ? -g : g;
        REAL p = old;
        REAL m = NAME(get)(t->m, i);
        REAL v = NAME(get)(t->v, i);
        if (s->has_l2) {
            g = FMA(p, (REAL)s->l2, g);
        }
        if (s->has_decay) {
            p = p * (REAL)s->decay;
        }
        /* lerp, as the vector path of at::native::lerp computes it: from the nearer end */
        const REAL d = g - m;
        m = w < (REAL)0.5 ? FMA(w, d, m) : FMA(w_minus_1, d, g);
        v = FMA(one_minus_beta2 * g, g, v * beta2);
        REAL second = v;
        if (t->vmax != NULL) {
            REAL vmax = NAME(get)(t->vmax, i);
            /* as torch.maximum: a NaN stays, and of two zeros it is v that is taken */
            vmax = v >= vmax || isnan(v) ? v : vmax;
            NAME(put)(t->vmax, i, vmax);
            second = vmax;
        }
        const REAL denom = SQRT(second) / bias2_sqrt + eps;
        p = p + (minus_step_size * m) / denom;
        NAME(put)(t->p, i, p);
        NAME(put)(t->m, i, m);
        NAME(put)(t->v, i, v);
        if (t->out != NULL) {
            NAME(put)(t->out, i, p);
        }
        const size_t lane = i % ADAM_KERNEL_LANES;
        const double moved = (double)(p - old);
        grad_lane[lane] = fma((double)raw, (double)raw, grad_lane[lane]);
        param_lane[lane] = fma((double)p, (double)p, param_lane[lane]);
        update_lane[lane] = fma(moved, moved, update_lane[lane]);
    }
    sums->grad = adam_kernel_add_lanes(grad_lane);
    sums->param = adam_kernel_add_lanes(param_lane);
    sums->update = adam_kernel_add_lanes(update_lane);
}

static void NAME(norms)(const void *data, size_t n, double scale, adam_norms *norms)
{
    double lane[ADAM_KERNEL_LANES] = {0};
    REAL largest = 0;
    for (size_t i = 0; i < n; i++) {
        const REAL x = NAME(get)(data, i) * (REAL)scale;
        const REAL magnitude = x < 0 ? -x : x;
        lane[i % ADAM_KERNEL_LANES] = fma((double)x, (double)x, lane[i % ADAM_KERNEL_LANES]);
        largest = magnitude > largest || isnan(magnitude) ? magnitude : largest;
    }
    norms->squares = adam_kernel_add_lanes(lane);
    norms->largest = (double)largest;
}

static size_t NAME(nonfinite)(const void *data, size_t n, double scale)
{
    size_t i = 0;
    while (i < n && isfinite(NAME(get)(data, i) * (REAL)scale)) {
        i++;
    }
    return i;
}

static void NAME(reduce)(const adam_terms *t, void *sum, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        REAL s = t->continues ? NAME(get)(sum, i) : (REAL)0;
        for (size_t k = 0; k < t->n; k++) {
            REAL x = NAME(get)(t->x[k], i);
            x = t->base != NULL ? NAME(get)(t->base, i) - x : x;
            x = t->weighted ? (REAL)t->weight[k] * x : x;
            s = k > 0 || t->continues ? s + x : x;
        }
        NAME(put)(sum, i, t->divides ? s / (REAL)t->divisor : s);
    }
}

#undef REAL
#undef NAME
#undef FMA
#undef SQRT
