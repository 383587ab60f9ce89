/* step_internal.h: a step between its check and its end. For the files of the core that take part.
 */
#ifndef ADAM_CORE_STEP_INTERNAL_H
#define ADAM_CORE_STEP_INTERNAL_H

#include <stdatomic.h>

#include "kernel.h"
#include "optimizer_internal.h"

/* Elements of a chunk: the unit of work and of summation. Changing it changes the norms' last bits.
 */
#define ADAM_STEP_CHUNK ((uint64_t)16384)

/* A gradient and the parameter it belongs to. */
typedef struct adam_step_entry {
    adam_param *param;
    const char *grad;
    char *out; /* NULL: none */
    adam_dtype grad_dtype, out_dtype;
    bool buffer;        /* `grad` is its new value */
    size_t first_chunk; /* of the step */
    size_t scalars;     /* index */
} adam_step_entry;

struct adam_step_plan {
    adam_optimizer *optimizer;
    adam_allocator scratch; /* where its memory comes from, but for max_blocks */
    const adam_kernel *kernel;
    adam_pool *pool;
    const adam_options *groups; /* copy of the overrides, or NULL */
    adam_block *max_blocks;     /* one for each group, where there are overrides */
    adam_grad_options grad_options;
    double unscale, clip_coef; /* what gradients are multiplied with */
    bool skipped;
    size_t converted;
    size_t n_entries, n_scalars, n_chunks;
    adam_step_entry *entries; /* in the order of the parameters */
    adam_scalars *scalars;
    adam_sums *sums;   /* one for each chunk */
    adam_norms *norms; /* one for each chunk, where the gradients are clipped by norm */
    adam_block entries_block, chunks_block, groups_block;
    atomic_size_t bad_chunk; /* lowest chunk seen with a NaN or infinity */
};

/* Where a chunk lies: its entry, its first element there, and its elements. */
typedef struct adam_step_span {
    const adam_step_entry *entry;
    uint64_t first;
    size_t n;
    bool f64;
} adam_step_span;

/* Room for a chunk in the parameter's type, where its gradient has another. */
typedef struct adam_step_room {
    _Alignas(64) char bytes[ADAM_STEP_CHUNK * sizeof(double)];
} adam_step_room;

static inline size_t adam_step_chunks(uint64_t numel)
{
    return (size_t)((numel + ADAM_STEP_CHUNK - 1) / ADAM_STEP_CHUNK);
}

adam_step_span adam_step_find_span(const adam_step_plan *plan, size_t chunk);
/* Runs fn over all chunks, on the pool where there are enough of them. */
void adam_step_each_chunk(adam_step_plan *plan, void (*fn)(void *plan, size_t chunk));
/* Where the chunk begins in a stream of its parameter; NULL stays NULL. */
void *adam_step_at(const adam_step_span *span, void *stream);

/* ---- step_stats.c ---- */

/* Adds the sums of the chunks of each parameter, then of the parameters, in order, of each group
 * (into `groups`, unless that is NULL) and of all. */
adam_group_stats adam_step_collect(const adam_step_plan *plan, adam_group_stats *groups);

/* ---- gradient.c ---- */

static inline bool adam_step_converts(const adam_step_entry *entry)
{
    return entry->grad_dtype != entry->param->tensor.dtype;
}
/* The gradient of a chunk, in its own type. */
const void *adam_step_gradient(const adam_step_span *span);
/* The same in the parameter's type, by way of `room`. */
const void *adam_step_convert_gradient(const adam_step_span *span, adam_step_room *room);

/* Looks at the gradients as the plan's options say: refuses them, or sets plan->skipped, unscale
 * and clip_coef. */
adam_status adam_step_check_gradients(adam_step_plan *plan, adam_error *error);
/* In place of a step that is left out: the sums, and the parameters to where they go. */
void adam_step_skip(adam_step_plan *plan);

/* ---- step_buffers.c ---- */

/* Gives a chunk of a buffer its new value; sets its sums. */
void adam_step_set_buffer(adam_step_plan *plan, size_t chunk, const adam_step_span *span);

#endif
