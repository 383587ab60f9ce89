/* step_buffers.c: a step of parameters that are not trained: they take the value that came. */
#include <string.h>

#include "step_internal.h"

static adam_norms measure(const adam_step_plan *plan, const adam_step_span *s, const void *data)
{
    adam_norms norms;
    adam_kernel_norms_fn *fn = s->f64 ? plan->kernel->norms_f64 : plan->kernel->norms_f32;
    fn(data, s->n, 1.0, &norms);
    return norms;
}

/* Makes the numbers at `old` what was added to them to come to those at `now`. */
static void subtract(const adam_step_plan *plan, const adam_step_span *s, void *old,
                     const void *now)
{
    const adam_terms terms = {.x = {old}, .n = 1, .base = now};
    (s->f64 ? plan->kernel->reduce_f64 : plan->kernel->reduce_f32)(&terms, old, s->n);
}

void adam_step_set_buffer(adam_step_plan *plan, size_t chunk, const adam_step_span *s)
{
    const adam_step_entry *e = s->entry;
    const adam_dtype dtype = e->param->tensor.dtype;
    void *param = adam_step_at(s, e->param->tensor.data);
    adam_step_room change;
    memcpy(change.bytes, param, s->n * adam_dtype_size(dtype));
    adam_convert(dtype, param, e->grad_dtype, adam_step_gradient(s), s->n);
    subtract(plan, s, change.bytes, param);
    plan->sums[chunk] = (adam_sums){.param = measure(plan, s, param).squares,
                                    .update = measure(plan, s, change.bytes).squares};
    if (e->out != NULL) {
        adam_convert(e->out_dtype, e->out + s->first * adam_dtype_size(e->out_dtype), dtype, param,
                     s->n);
    }
}
