/* step.c: one step of the optimizer. Checks whole, then applies what cannot fail. The arithmetic
 * on elements is the kernel's; the scalars, computed in double, are made here. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "pool_run.h"
#include "step_internal.h"

/* A step of fewer chunks than this is not worth waking threads for. */
#define POOL_MIN_CHUNKS 16

/* The entry that chunk `item` of the step belongs to. Entries without elements have no chunk. */
static const adam_step_entry *find_entry(const adam_step_plan *plan, size_t item)
{
    size_t low = 0;
    size_t high = plan->n_entries;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (plan->entries[middle].first_chunk <= item) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return &plan->entries[low];
}

adam_step_span adam_step_find_span(const adam_step_plan *plan, size_t item)
{
    const adam_step_entry *e = find_entry(plan, item);
    const uint64_t first = (item - e->first_chunk) * ADAM_STEP_CHUNK;
    const uint64_t left = e->param->numel - first;
    return (adam_step_span){
        .entry = e,
        .first = first,
        .n = (size_t)(left < ADAM_STEP_CHUNK ? left : ADAM_STEP_CHUNK),
        .f64 = e->param->tensor.dtype == ADAM_FLOAT64,
    };
}

void *adam_step_at(const adam_step_span *s, void *stream)
{
    const size_t size = s->f64 ? sizeof(double) : sizeof(float);
    return stream == NULL ? NULL : (char *)stream + s->first * size;
}

void adam_step_each_chunk(adam_step_plan *plan, void (*fn)(void *, size_t))
{
    adam_pool *pool = plan->n_chunks >= POOL_MIN_CHUNKS ? plan->pool : NULL;
    adam_pool_run(pool, plan->n_chunks, fn, plan);
}

/* ---- prepare ---- */

/* Zeroed memory until the end of the step. False: none left. */
static bool scratch_get(const adam_step_plan *plan, size_t bytes, adam_block *block)
{
    *block = (adam_block){plan->scratch.alloc(plan->scratch.context, bytes), bytes};
    return block->memory != NULL;
}

static void scratch_put(const adam_allocator *scratch, const adam_block *block)
{
    if (block->memory != NULL) {
        scratch->release(scratch->context, block->memory, block->bytes);
    }
}

static int compare_entries(const void *a, const void *b)
{
    const adam_param *x = ((const adam_step_entry *)a)->param;
    const adam_param *y = ((const adam_step_entry *)b)->param;
    return (x > y) - (x < y);
}

/* Resolves the gradients' names into entries, in the order of the parameters. */
static adam_status match_gradients(adam_step_plan *plan, const adam_step_args *args,
                                   unsigned char *marks, adam_error *error)
{
    adam_optimizer *o = plan->optimizer;
    bool sorted = true;
    for (size_t i = 0; i < args->n_grads; i++) {
        const adam_tensor *t = &args->grads[i];
        size_t param;
        adam_status st = adam_optimizer_match_shape(o, t, "gradient", &param, error);
        if (st != ADAM_OK) {
            return st;
        }
        if (!adam_mark_once(marks, param)) {
            adam_error_set(error, ADAM_DUPLICATE_PARAM, "gradient of '%.*s' is given twice",
                           (int)t->name_len, t->name);
            adam_error_param(error, t->name, t->name_len);
            return ADAM_DUPLICATE_PARAM;
        }
        const adam_tensor *out = args->out != NULL ? &args->out[i] : NULL;
        plan->entries[i] = (adam_step_entry){
            .param = &o->params[param],
            .grad = t->data,
            .grad_dtype = t->dtype,
            .out = out != NULL ? out->data : NULL,
            .out_dtype = out != NULL ? out->dtype : t->dtype,
            .buffer = o->groups[o->params[param].group].options.buffers,
        };
        plan->converted += adam_step_converts(&plan->entries[i]);
        sorted = sorted && (i == 0 || plan->entries[i - 1].param < plan->entries[i].param);
    }
    if (!sorted) {
        qsort(plan->entries, args->n_grads, sizeof *plan->entries, compare_entries);
    }
    for (size_t i = 0; i < args->n_grads; i++) {
        plan->entries[i].first_chunk = plan->n_chunks;
        plan->n_chunks += adam_step_chunks(plan->entries[i].param->numel);
    }
    return ADAM_OK;
}

/* Parameters of one group at one step count share their scalars. Numbers them. */
static void number_scalars(adam_step_plan *plan)
{
    for (size_t i = 0; i < plan->n_entries; i++) {
        adam_step_entry *e = &plan->entries[i];
        const adam_param *before = i > 0 ? e[-1].param : NULL;
        if (before == NULL || before->group != e->param->group || before->step != e->param->step) {
            plan->n_scalars++;
        }
        e->scalars = plan->n_scalars - 1;
    }
}

/* Checks the overrides and gets what they need. */
static adam_status prepare_overrides(adam_step_plan *plan, const adam_options *groups,
                                     adam_error *error)
{
    adam_optimizer *o = plan->optimizer;
    const size_t n = o->n_groups;
    const size_t bytes = n * (sizeof(adam_options) + sizeof(adam_block));
    if (!scratch_get(plan, bytes, &plan->groups_block)) {
        return adam_error_no_memory(error, bytes);
    }
    adam_options *copy = plan->groups_block.memory;
    memcpy(copy, groups, n * sizeof *copy);
    plan->groups = copy;
    plan->max_blocks = (adam_block *)(copy + n);
    for (size_t i = 0; i < n; i++) {
        adam_status st = adam_group_prepare_options(o, i, &groups[i], &plan->max_blocks[i], error);
        if (st != ADAM_OK) {
            return st;
        }
    }
    return ADAM_OK;
}

/* Whether every schedule can take its step, to a rate that can be saved and restored: torch goes on
 * with an infinite one, and every parameter is lost with the next step. */
static adam_status check_schedules(const adam_step_plan *plan, adam_error *error)
{
    const adam_optimizer *o = plan->optimizer;
    for (size_t i = 0; i < o->n_groups; i++) {
        const adam_schedule *schedule = adam_group_schedule(&o->groups[i]);
        adam_options next = plan->groups != NULL ? plan->groups[i] : o->groups[i].options;
        if (schedule == NULL) {
            continue;
        }
        adam_status st = adam_schedule_can_step(schedule, error);
        if (st == ADAM_OK && !adam_schedule_peek(schedule, &next)) {
            st = adam_error_set(error, ADAM_SCHEDULE_ENDED,
                                "the learning rate after this step would be %s; give the group "
                                "another schedule or null, with an lr",
                                ADAM_DIGITS(next.lr));
        }
        if (st != ADAM_OK) {
            adam_error_in_group(error, i);
            return st;
        }
    }
    return ADAM_OK;
}

static adam_status prepare(adam_step_plan *plan, const adam_step_args *args, adam_error *error)
{
    adam_optimizer *o = plan->optimizer;
    const size_t n = args->n_grads;
    if (o->step >= ADAM_MAX_STEP) {
        return adam_error_set(error, ADAM_TOO_LARGE, "the optimizer has taken 2^53 steps");
    }
    if (n == 0) {
        return adam_error_set(error, ADAM_EMPTY, "a step needs at least one gradient");
    }
    const size_t entry_bytes = n * sizeof(adam_step_entry) + adam_marks_bytes(o->n_params);
    if (!scratch_get(plan, entry_bytes, &plan->entries_block)) {
        return adam_error_no_memory(error, entry_bytes);
    }
    plan->entries = plan->entries_block.memory;
    plan->n_entries = n;
    adam_status st = match_gradients(plan, args, (unsigned char *)(plan->entries + n), error);
    if (st == ADAM_OK && args->groups != NULL) {
        st = prepare_overrides(plan, args->groups, error);
    }
    if (st == ADAM_OK) {
        st = adam_grad_options_check(&plan->grad_options, error);
    }
    if (st == ADAM_OK) {
        st = check_schedules(plan, error);
    }
    if (st != ADAM_OK) {
        return st;
    }
    number_scalars(plan);
    const size_t n_norms = isfinite(plan->grad_options.max_grad_norm) ? plan->n_chunks : 0;
    const size_t chunk_bytes = plan->n_scalars * sizeof(adam_scalars) +
                               plan->n_chunks * sizeof(adam_sums) + n_norms * sizeof(adam_norms);
    if (!scratch_get(plan, chunk_bytes, &plan->chunks_block)) {
        return adam_error_no_memory(error, chunk_bytes);
    }
    plan->scalars = plan->chunks_block.memory;
    plan->sums = (adam_sums *)(plan->scalars + plan->n_scalars);
    plan->norms = (adam_norms *)(plan->sums + plan->n_chunks);
    return adam_step_check_gradients(plan, error);
}

adam_status adam_step_prepare(adam_optimizer *o, const adam_step_args *args, adam_step_plan **out,
                              adam_error *error)
{
    const adam_allocator scratch = args->scratch != NULL ? *args->scratch : o->allocator;
    adam_step_plan *plan = scratch.alloc(scratch.context, sizeof *plan);
    if (plan == NULL) {
        (void)adam_error_no_memory(error, sizeof *plan);
        return ADAM_NO_MEMORY;
    }
    plan->optimizer = o;
    plan->scratch = scratch;
    plan->kernel = adam_kernel_get();
    plan->pool = args->pool;
    plan->grad_options = args->grad_options != NULL ? *args->grad_options : o->grad_options;
    adam_status st = prepare(plan, args, error);
    if (st != ADAM_OK) {
        adam_step_discard(plan);
        return st;
    }
    *out = plan;
    return ADAM_OK;
}

void adam_step_discard(adam_step_plan *plan)
{
    if (plan == NULL) {
        return;
    }
    adam_optimizer *o = plan->optimizer;
    for (size_t i = 0; plan->max_blocks != NULL && i < o->n_groups; i++) {
        adam_block_put(o, &plan->max_blocks[i]);
    }
    const adam_allocator scratch = plan->scratch;
    const adam_block own = {plan, sizeof *plan};
    scratch_put(&scratch, &plan->groups_block);
    scratch_put(&scratch, &plan->chunks_block);
    scratch_put(&scratch, &plan->entries_block);
    scratch_put(&scratch, &own);
}

/* ---- apply ---- */

/* The scalars of a parameter's step number `t`, in the order of torch's _single_tensor_adam. */
static adam_scalars make_scalars(const adam_step_plan *plan, const adam_options *g, uint64_t t)
{
    const adam_algorithm algorithm = plan->optimizer->algorithm;
    const double step = (double)t;
    const double bias1 = g->bias_correction ? 1.0 - pow(g->betas[0], step) : 1.0;
    const double bias2 = g->bias_correction ? 1.0 - pow(g->betas[1], step) : 1.0;
    const bool decays = g->weight_decay != 0.0;
    const double clip_value = plan->grad_options.clip_value;
    return (adam_scalars){
        .lerp_weight = 1.0 - g->betas[0],
        .beta2 = g->betas[1],
        .one_minus_beta2 = 1.0 - g->betas[1],
        .l2 = g->weight_decay,
        .decay = 1.0 - g->lr * g->weight_decay,
        .bias2_sqrt = pow(bias2, 0.5), /* Python's ** 0.5, which is not always sqrt() */
        .eps = g->eps,
        .minus_step_size = -(g->lr / bias1),
        .has_l2 = decays && algorithm == ADAM_ALGORITHM_ADAM,
        .has_decay = decays && algorithm == ADAM_ALGORITHM_ADAMW,
        .maximize = g->maximize,
        .changes_grad = plan->unscale != 1.0 || plan->clip_coef != 1.0 || isfinite(clip_value),
        .unscale = plan->unscale,
        .clip_coef = plan->clip_coef,
        .clip_value = clip_value,
    };
}

static void run_kernel(adam_step_plan *plan, size_t item, const adam_step_span *s, const void *grad)
{
    const adam_step_entry *e = s->entry;
    const adam_param *p = e->param;
    const adam_dtype dtype = p->tensor.dtype;
    const bool amsgrad = plan->optimizer->groups[p->group].options.amsgrad;
    const bool direct = e->out != NULL && e->out_dtype == dtype;
    const adam_streams streams = {
        .p = adam_step_at(s, p->tensor.data),
        .m = adam_step_at(s, p->exp_avg),
        .v = adam_step_at(s, p->exp_avg_sq),
        .vmax = amsgrad ? adam_step_at(s, p->max_exp_avg_sq) : NULL,
        .grad = grad,
        .out = direct ? adam_step_at(s, e->out) : NULL,
    };
    adam_kernel_step_fn *step = s->f64 ? plan->kernel->step_f64 : plan->kernel->step_f32;
    step(&plan->scalars[e->scalars], &streams, s->n, &plan->sums[item]);
    if (e->out != NULL && !direct) {
        adam_convert(e->out_dtype, e->out + s->first * adam_dtype_size(e->out_dtype), dtype,
                     streams.p, s->n);
    }
}

static __attribute__((noinline)) void run_kernel_converted(adam_step_plan *plan, size_t item,
                                                           const adam_step_span *s)
{
    adam_step_room room;
    run_kernel(plan, item, s, adam_step_convert_gradient(s, &room));
}

static void step_chunk(void *context, size_t item)
{
    adam_step_plan *plan = context;
    const adam_step_span s = adam_step_find_span(plan, item);
    if (s.entry->buffer) {
        adam_step_set_buffer(plan, item, &s);
    } else if (adam_step_converts(s.entry)) {
        run_kernel_converted(plan, item, &s);
    } else {
        run_kernel(plan, item, &s, adam_step_gradient(&s));
    }
}

/* Changes everything that the step changes, but for the optimizer's own step count. */
static void apply(adam_step_plan *plan)
{
    adam_optimizer *o = plan->optimizer;
    for (size_t i = 0; plan->groups != NULL && i < o->n_groups; i++) {
        adam_group_apply_options(o, i, &plan->groups[i], &plan->max_blocks[i]);
        plan->max_blocks[i] = (adam_block){0};
    }
    for (size_t i = 0; i < plan->n_entries; i++) {
        const adam_step_entry *e = &plan->entries[i];
        const adam_options *options = &o->groups[e->param->group].options;
        e->param->step++;
        if (e->param->step == 1 && !options->amsgrad) {
            e->param->max_exp_avg_sq = NULL; /* as torch, which makes the state at the first step */
        }
        if (i == 0 || e[-1].scalars != e->scalars) {
            plan->scalars[e->scalars] = make_scalars(plan, options, e->param->step);
        }
    }
    adam_step_each_chunk(plan, step_chunk);
    for (size_t i = 0; i < o->n_groups; i++) {
        if (adam_group_schedule(&o->groups[i]) != NULL) {
            adam_schedule_step(adam_group_schedule(&o->groups[i]), &o->groups[i].options);
        }
    }
}

/* ---- both halves ---- */

void adam_step_apply(adam_step_plan *plan, adam_step_stats *stats, adam_group_stats *groups)
{
    adam_optimizer *o = plan->optimizer;
    if (plan->skipped) {
        adam_step_skip(plan);
        o->skipped++;
    } else {
        apply(plan);
        o->step++;
    }
    const adam_group_stats total = adam_step_collect(plan, groups);
    if (stats != NULL) {
        *stats = (adam_step_stats){
            .step = o->step,
            .grad_norm = total.grad_norm,
            .param_norm = total.param_norm,
            .update_norm = total.update_norm,
            .clip_coef = plan->clip_coef,
            .skipped = plan->skipped,
            .converted = plan->converted,
        };
    }
    adam_step_discard(plan);
}

adam_status adam_optimizer_step(adam_optimizer *o, const adam_step_args *args,
                                adam_step_stats *stats, adam_error *error)
{
    adam_step_plan *plan = NULL;
    adam_status st = adam_step_prepare(o, args, &plan, error);
    if (st == ADAM_OK) {
        adam_step_apply(plan, stats, NULL);
    }
    return st;
}
