/* step.c: one step of the optimizer. Checks whole, then applies what cannot fail. The arithmetic
 * on elements is the kernel's; the scalars, computed in double, are made here. */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "kernel.h"
#include "optimizer_internal.h"
#include "pool_run.h"

/* Elements of a chunk: the unit of work and of summation. Changing it changes the norms' last bits.
 */
#define CHUNK ((uint64_t)16384)
/* A step of fewer chunks than this is not worth waking threads for. */
#define POOL_MIN_CHUNKS 4

/* A gradient and the parameter it belongs to. */
typedef struct entry {
    adam_param *param;
    void *grad;
    size_t first_chunk; /* of the step */
    size_t scalars;     /* index */
} entry;

struct adam_step_plan {
    adam_optimizer *optimizer;
    const adam_kernel *kernel;
    adam_pool *pool;
    const adam_options *groups; /* copy of the overrides, or NULL */
    adam_block *max_blocks;     /* one for each group, where there are overrides */
    bool params_into_grads;
    size_t n_entries, n_scalars, n_chunks;
    entry *entries;
    adam_scalars *scalars;
    adam_sums *sums; /* one for each chunk */
    adam_block entries_block, chunks_block, groups_block;
    atomic_size_t bad_chunk; /* lowest chunk seen with a NaN or infinity */
};

static size_t chunk_count(uint64_t numel)
{
    return (size_t)((numel + CHUNK - 1) / CHUNK);
}

/* The entry that chunk `item` of the step belongs to. Entries without elements have no chunk. */
static const entry *find_entry(const adam_step_plan *plan, size_t item)
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

/* Where chunk `item` lies: its entry, the byte offset in each stream, and its elements. */
typedef struct span {
    const entry *entry;
    size_t offset, n;
    bool f64;
} span;

static span find_span(const adam_step_plan *plan, size_t item)
{
    const entry *e = find_entry(plan, item);
    const uint64_t first = (item - e->first_chunk) * CHUNK;
    const uint64_t left = e->param->numel - first;
    return (span){
        .entry = e,
        .offset = first * adam_dtype_size(e->param->tensor.dtype),
        .n = (size_t)(left < CHUNK ? left : CHUNK),
        .f64 = e->param->tensor.dtype == ADAM_FLOAT64,
    };
}

static void *at(void *stream, size_t offset)
{
    return stream == NULL ? NULL : (char *)stream + offset;
}

/* ---- check ---- */

static size_t first_nonfinite(const adam_step_plan *plan, const span *s)
{
    const void *grad = (const char *)s->entry->grad + s->offset;
    return s->f64 ? plan->kernel->nonfinite_f64(grad, s->n)
                  : plan->kernel->nonfinite_f32(grad, s->n);
}

static void scan_chunk(void *context, size_t item)
{
    adam_step_plan *plan = context;
    const span s = find_span(plan, item);
    if (first_nonfinite(plan, &s) == s.n) {
        return;
    }
    size_t lowest = atomic_load(&plan->bad_chunk);
    while (item < lowest && !atomic_compare_exchange_weak(&plan->bad_chunk, &lowest, item)) {
    }
}

static adam_pool *pool_for(const adam_step_plan *plan)
{
    return plan->n_chunks >= POOL_MIN_CHUNKS ? plan->pool : NULL;
}

static adam_status check_finite(adam_step_plan *plan, adam_error *error)
{
    atomic_store(&plan->bad_chunk, plan->n_chunks);
    adam_pool_run(pool_for(plan), plan->n_chunks, scan_chunk, plan);
    const size_t item = atomic_load(&plan->bad_chunk);
    if (item == plan->n_chunks) {
        return ADAM_OK;
    }
    const span s = find_span(plan, item);
    const size_t at_element = first_nonfinite(plan, &s);
    const char *grad = (const char *)s.entry->grad + s.offset;
    double value = 0.0;
    if (s.f64) {
        memcpy(&value, grad + at_element * sizeof value, sizeof value);
    } else {
        float single;
        memcpy(&single, grad + at_element * sizeof single, sizeof single);
        value = single;
    }
    const uint64_t index = (item - s.entry->first_chunk) * CHUNK + at_element;
    const adam_tensor *t = &s.entry->param->tensor;
    adam_error_set(error, ADAM_NON_FINITE,
                   "gradient of '%s' is %s at element %llu (row-major), expected finite numbers",
                   t->name,
                   isnan(value) ? "NaN"
                   : value > 0  ? "Infinity"
                                : "-Infinity",
                   (unsigned long long)index);
    adam_error_param(error, t->name, t->name_len);
    if (error != NULL) {
        error->has_index = true;
        error->index = index;
    }
    return ADAM_NON_FINITE;
}

static int compare_entries(const void *a, const void *b)
{
    const adam_param *x = ((const entry *)a)->param;
    const adam_param *y = ((const entry *)b)->param;
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
        adam_status st = adam_optimizer_match(o, t, "gradient", &param, error);
        if (st != ADAM_OK) {
            return st;
        }
        if (!adam_mark_once(marks, param)) {
            adam_error_set(error, ADAM_DUPLICATE_PARAM, "gradient of '%.*s' is given twice",
                           (int)t->name_len, t->name);
            adam_error_param(error, t->name, t->name_len);
            return ADAM_DUPLICATE_PARAM;
        }
        plan->entries[i] = (entry){.param = &o->params[param], .grad = t->data};
        sorted = sorted && (i == 0 || plan->entries[i - 1].param < plan->entries[i].param);
    }
    if (!sorted) {
        qsort(plan->entries, args->n_grads, sizeof *plan->entries, compare_entries);
    }
    for (size_t i = 0; i < args->n_grads; i++) {
        plan->entries[i].first_chunk = plan->n_chunks;
        plan->n_chunks += chunk_count(plan->entries[i].param->numel);
    }
    return ADAM_OK;
}

/* Parameters of one group at one step count share their scalars. Numbers them. */
static void number_scalars(adam_step_plan *plan)
{
    for (size_t i = 0; i < plan->n_entries; i++) {
        entry *e = &plan->entries[i];
        const adam_param *before = i > 0 ? e[-1].param : NULL;
        if (before == NULL || before->group != e->param->group || before->step != e->param->step) {
            plan->n_scalars++;
        }
        e->scalars = plan->n_scalars - 1;
    }
}

/* ---- prepare ---- */

/* Checks the overrides and gets what they need. */
static adam_status prepare_overrides(adam_step_plan *plan, const adam_options *groups,
                                     adam_error *error)
{
    adam_optimizer *o = plan->optimizer;
    const size_t n = o->n_groups;
    const size_t bytes = n * (sizeof(adam_options) + sizeof(adam_block));
    if (!adam_block_get(o, bytes, &plan->groups_block)) {
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
    const size_t entry_bytes = n * sizeof(entry) + adam_marks_bytes(o->n_params);
    if (!adam_block_get(o, entry_bytes, &plan->entries_block)) {
        return adam_error_no_memory(error, entry_bytes);
    }
    plan->entries = plan->entries_block.memory;
    plan->n_entries = n;
    adam_status st = match_gradients(plan, args, (unsigned char *)(plan->entries + n), error);
    if (st == ADAM_OK) {
        st = check_finite(plan, error);
    }
    if (st == ADAM_OK && args->groups != NULL) {
        st = prepare_overrides(plan, args->groups, error);
    }
    if (st != ADAM_OK) {
        return st;
    }
    number_scalars(plan);
    const size_t chunk_bytes =
        plan->n_scalars * sizeof(adam_scalars) + plan->n_chunks * sizeof(adam_sums);
    if (!adam_block_get(o, chunk_bytes, &plan->chunks_block)) {
        return adam_error_no_memory(error, chunk_bytes);
    }
    plan->scalars = plan->chunks_block.memory;
    plan->sums = (adam_sums *)(plan->scalars + plan->n_scalars);
    return ADAM_OK;
}

adam_status adam_step_prepare(adam_optimizer *o, const adam_step_args *args, adam_step_plan **out,
                              adam_error *error)
{
    adam_block own;
    if (!adam_block_get(o, sizeof(adam_step_plan), &own)) {
        (void)adam_error_no_memory(error, sizeof(adam_step_plan));
        return ADAM_NO_MEMORY;
    }
    adam_step_plan *plan = own.memory;
    plan->optimizer = o;
    plan->kernel = adam_kernel_get();
    plan->pool = args->pool;
    plan->params_into_grads = args->params_into_grads;
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
    adam_block_put(o, &plan->groups_block);
    adam_block_put(o, &plan->chunks_block);
    adam_block_put(o, &plan->entries_block);
    adam_block own = {plan, sizeof *plan};
    adam_block_put(o, &own);
}

/* ---- apply ---- */

/* The scalars of a parameter's step number `t`, in the order of torch's _single_tensor_adam. */
static adam_scalars make_scalars(adam_algorithm algorithm, const adam_options *g, uint64_t t)
{
    const double step = (double)t;
    const double bias1 = 1.0 - pow(g->betas[0], step);
    const double bias2 = 1.0 - pow(g->betas[1], step);
    const bool decays = g->weight_decay != 0.0;
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
    };
}

static void step_chunk(void *context, size_t item)
{
    adam_step_plan *plan = context;
    const span s = find_span(plan, item);
    const adam_param *p = s.entry->param;
    const bool amsgrad = plan->optimizer->groups[p->group].options.amsgrad;
    void *grad = at(s.entry->grad, s.offset);
    const adam_streams streams = {
        .p = at(p->tensor.data, s.offset),
        .m = at(p->exp_avg, s.offset),
        .v = at(p->exp_avg_sq, s.offset),
        .vmax = amsgrad ? at(p->max_exp_avg_sq, s.offset) : NULL,
        .grad = grad,
        .out = plan->params_into_grads ? grad : NULL,
    };
    adam_kernel_step_fn *step = s.f64 ? plan->kernel->step_f64 : plan->kernel->step_f32;
    step(&plan->scalars[s.entry->scalars], &streams, s.n, &plan->sums[item]);
}

/* Adds the chunks of each parameter, then the parameters, in order. */
static adam_sums add_sums(const adam_step_plan *plan)
{
    adam_sums total = {0};
    for (size_t i = 0; i < plan->n_entries; i++) {
        const entry *e = &plan->entries[i];
        adam_sums own = {0};
        const size_t end = e->first_chunk + chunk_count(e->param->numel);
        for (size_t c = e->first_chunk; c < end; c++) {
            own.grad += plan->sums[c].grad;
            own.param += plan->sums[c].param;
            own.update += plan->sums[c].update;
        }
        total.grad += own.grad;
        total.param += own.param;
        total.update += own.update;
    }
    return total;
}

void adam_step_apply(adam_step_plan *plan, adam_step_stats *stats)
{
    adam_optimizer *o = plan->optimizer;
    for (size_t i = 0; plan->groups != NULL && i < o->n_groups; i++) {
        adam_group_apply_options(o, i, &plan->groups[i], &plan->max_blocks[i]);
        plan->max_blocks[i] = (adam_block){0};
    }
    for (size_t i = 0; i < plan->n_entries; i++) {
        const entry *e = &plan->entries[i];
        if (e->param->step == 0 && !o->groups[e->param->group].options.amsgrad) {
            e->param->max_exp_avg_sq =
                NULL; /* as in torch, it begins with the first step or never */
        }
        e->param->step++;
        if (i == 0 || e[-1].scalars != e->scalars) {
            plan->scalars[e->scalars] =
                make_scalars(o->algorithm, &o->groups[e->param->group].options, e->param->step);
        }
    }
    adam_pool_run(pool_for(plan), plan->n_chunks, step_chunk, plan);
    o->step++;
    if (stats != NULL) {
        const adam_sums sums = add_sums(plan);
        *stats = (adam_step_stats){
            .step = o->step,
            .grad_norm = sqrt(sums.grad),
            .param_norm = sqrt(sums.param),
            .update_norm = sqrt(sums.update),
            .clip_coef = 1.0,
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
        adam_step_apply(plan, stats);
    }
    return st;
}
