/* gradient.c: what is done about gradients before a step: converting, unscaling, the policy for
 * non-finite ones, and the coefficient of clipping. The kernel then applies factor and clipping. */
#include <math.h>
#include <stdio.h>

#include "error.h"
#include "step_internal.h"

/* What clip_grad_norm_ adds to the total norm. */
#define CLIP_EPSILON 1e-6

const void *adam_step_gradient(const adam_step_span *s)
{
    return s->entry->grad + s->first * adam_dtype_size(s->entry->grad_dtype);
}

const void *adam_step_convert_gradient(const adam_step_span *s, adam_step_room *room)
{
    adam_convert(s->entry->param->tensor.dtype, room->bytes, s->entry->grad_dtype,
                 adam_step_gradient(s), s->n);
    return room->bytes;
}

/* What the numbers that came are multiplied with: values of buffers are taken as they are. */
static double factor(const adam_step_plan *plan, const adam_step_span *s)
{
    return s->entry->buffer ? 1.0 : plan->unscale;
}

/* ---- norms ---- */

static void measure(const adam_step_plan *plan, const adam_step_span *s, const void *data,
                    double scale, adam_norms *norms)
{
    adam_kernel_norms_fn *fn = s->f64 ? plan->kernel->norms_f64 : plan->kernel->norms_f32;
    fn(data, s->n, scale, norms);
}

static __attribute__((noinline)) void measure_converted(const adam_step_plan *plan,
                                                        const adam_step_span *s, adam_norms *norms)
{
    adam_step_room room;
    measure(plan, s, adam_step_convert_gradient(s, &room), plan->unscale, norms);
}

static void measure_gradient(const adam_step_plan *plan, const adam_step_span *s, adam_norms *norms)
{
    if (adam_step_converts(s->entry)) {
        measure_converted(plan, s, norms);
    } else {
        measure(plan, s, adam_step_gradient(s), plan->unscale, norms);
    }
}

static void measure_chunk(void *context, size_t chunk)
{
    adam_step_plan *plan = context;
    const adam_step_span s = adam_step_find_span(plan, chunk);
    if (s.entry->buffer) {
        plan->norms[chunk] = (adam_norms){0};
    } else {
        measure_gradient(plan, &s, &plan->norms[chunk]);
    }
}

/* The norm over all gradients, as clip_grad_norm_ has it. Squares are added for each parameter,
 * then over the parameters, in order. */
static double total_norm(const adam_step_plan *plan)
{
    double squares = 0;
    double largest = 0;
    for (size_t i = 0; i < plan->n_entries; i++) {
        const adam_step_entry *e = &plan->entries[i];
        const size_t end = e->first_chunk + adam_step_chunks(e->param->numel);
        double own = 0;
        for (size_t c = e->first_chunk; c < end; c++) {
            own += plan->norms[c].squares;
            largest = fmax(largest, plan->norms[c].largest);
            if (isnan(plan->norms[c].largest)) {
                return NAN;
            }
        }
        squares += own;
    }
    return plan->grad_options.norm_type == ADAM_NORM_INF ? largest : sqrt(squares);
}

static bool any_float64(const adam_step_plan *plan)
{
    for (size_t i = 0; i < plan->n_entries; i++) {
        const adam_step_entry *e = &plan->entries[i];
        if (!e->buffer && e->param->tensor.dtype == ADAM_FLOAT64) {
            return true;
        }
    }
    return false;
}

/* torch computes max_norm / (total_norm + 1e-6) on a tensor, in its type: as a reciprocal and a
 * product, each rounded (Tensor.__rtruediv__). A NaN stays one. */
static double coefficient(double max_norm, double norm, bool f64)
{
    if (f64) {
        const double coef = 1.0 / (norm + CLIP_EPSILON) * max_norm;
        return coef > 1.0 ? 1.0 : coef;
    }
    const float inverse = 1.0F / ((float)norm + (float)CLIP_EPSILON);
    const float coef = inverse * (float)max_norm;
    return coef > 1.0F ? 1.0 : (double)coef;
}

static adam_status clip(adam_step_plan *plan, adam_error *error)
{
    const adam_grad_options *g = &plan->grad_options;
    adam_step_each_chunk(plan, measure_chunk);
    const bool f64 = any_float64(plan);
    const double norm = f64 ? total_norm(plan) : (double)(float)total_norm(plan);
    if (g->error_if_nonfinite && !isfinite(norm)) {
        return adam_error_set(
            error, ADAM_NON_FINITE,
            "the total norm of order %s of the gradients is %s, so they cannot be "
            "clipped, and error_if_nonfinite is true",
            g->norm_type == ADAM_NORM_INF ? "inf" : "2", isnan(norm) ? "NaN" : "Infinity");
    }
    plan->clip_coef = coefficient(g->max_grad_norm, norm, f64);
    return ADAM_OK;
}

/* ---- non-finite gradients ---- */

static size_t find_nonfinite(const adam_step_plan *plan, const adam_step_span *s, const void *data)
{
    return s->f64 ? plan->kernel->nonfinite_f64(data, s->n, factor(plan, s))
                  : plan->kernel->nonfinite_f32(data, s->n, factor(plan, s));
}

static __attribute__((noinline)) size_t find_nonfinite_converted(const adam_step_plan *plan,
                                                                 const adam_step_span *s)
{
    adam_step_room room;
    return find_nonfinite(plan, s, adam_step_convert_gradient(s, &room));
}

/* Index in the chunk of the first element that is not finite, or its length. */
static size_t first_nonfinite(const adam_step_plan *plan, const adam_step_span *s)
{
    return adam_step_converts(s->entry) ? find_nonfinite_converted(plan, s)
                                        : find_nonfinite(plan, s, adam_step_gradient(s));
}

static void scan_chunk(void *context, size_t chunk)
{
    adam_step_plan *plan = context;
    const adam_step_span s = adam_step_find_span(plan, chunk);
    if (first_nonfinite(plan, &s) == s.n) {
        return;
    }
    size_t lowest = atomic_load(&plan->bad_chunk);
    while (chunk < lowest && !atomic_compare_exchange_weak(&plan->bad_chunk, &lowest, chunk)) {
    }
}

/* Names the first element that is not finite, which lies in `chunk`. */
static adam_status refuse(const adam_step_plan *plan, size_t chunk, adam_error *error)
{
    const adam_step_span s = adam_step_find_span(plan, chunk);
    const size_t at = first_nonfinite(plan, &s);
    const adam_tensor *t = &s.entry->param->tensor;
    const char *data = adam_step_gradient(&s);
    double value;
    adam_convert(ADAM_FLOAT64, &value, s.entry->grad_dtype,
                 data + at * adam_dtype_size(s.entry->grad_dtype), 1);
    const uint64_t index = s.first + at;
    char text[160];
    if (isfinite(value)) { /* it was while it was sent */
        float single;
        adam_convert(ADAM_FLOAT32, &single, ADAM_FLOAT64, &value, 1);
        const bool fits = t->dtype == ADAM_FLOAT64 || (isfinite(single) && !s.entry->buffer);
        (void)snprintf(text, sizeof text, "%s, too large for %s once %s,", ADAM_DIGITS(value),
                       adam_dtype_name(t->dtype), fits ? "divided by grad_scale" : "converted");
    } else {
        (void)snprintf(text, sizeof text, "%s",
                       isnan(value) ? "NaN"
                       : value > 0  ? "Infinity"
                                    : "-Infinity");
    }
    adam_error_set(error, ADAM_NON_FINITE,
                   "%s of '%s' is %s at element %llu (row-major), expected finite numbers",
                   s.entry->buffer ? "value" : "gradient", t->name, text,
                   (unsigned long long)index);
    adam_error_param(error, t->name, t->name_len);
    if (error != NULL) {
        error->has_index = true;
        error->index = index;
    }
    return ADAM_NON_FINITE;
}

adam_status adam_step_check_gradients(adam_step_plan *plan, adam_error *error)
{
    const adam_grad_options *g = &plan->grad_options;
    plan->clip_coef = 1.0;
    plan->unscale = adam_grad_unscale(g);
    if (g->nonfinite != ADAM_NONFINITE_APPLY) {
        atomic_store(&plan->bad_chunk, plan->n_chunks);
        adam_step_each_chunk(plan, scan_chunk);
        const size_t chunk = atomic_load(&plan->bad_chunk);
        plan->skipped = chunk < plan->n_chunks;
        if (plan->skipped && g->nonfinite == ADAM_NONFINITE_ERROR) {
            return refuse(plan, chunk, error);
        }
    }
    const bool clips = isfinite(g->max_grad_norm) && !plan->skipped;
    return clips ? clip(plan, error) : ADAM_OK;
}

/* ---- a step that is left out ---- */

static void skip_chunk(void *context, size_t chunk)
{
    adam_step_plan *plan = context;
    const adam_step_span s = adam_step_find_span(plan, chunk);
    const adam_step_entry *e = s.entry;
    const adam_tensor *t = &e->param->tensor;
    const void *param = adam_step_at(&s, t->data);
    adam_norms grad = {0};
    adam_norms own;
    if (!e->buffer) {
        measure_gradient(plan, &s, &grad);
    }
    measure(plan, &s, param, 1.0, &own);
    plan->sums[chunk] = (adam_sums){.grad = grad.squares, .param = own.squares};
    if (e->out != NULL) {
        adam_convert(e->out_dtype, e->out + s.first * adam_dtype_size(e->out_dtype), t->dtype,
                     param, s.n);
    }
}

void adam_step_skip(adam_step_plan *plan)
{
    adam_step_each_chunk(plan, skip_chunk);
}
