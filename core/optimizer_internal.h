/* optimizer_internal.h: what an optimizer is made of. For the files of the core alone. */
#ifndef ADAM_CORE_OPTIMIZER_INTERNAL_H
#define ADAM_CORE_OPTIMIZER_INTERNAL_H

#include "adam/optimizer.h"

/* Memory of an optimizer's allocator, with its size. */
typedef struct adam_block {
    void *memory;
    size_t bytes;
} adam_block;

typedef struct adam_param {
    adam_tensor tensor; /* name in its group's block, terminated; data: the values */
    void *exp_avg, *exp_avg_sq;
    void *max_exp_avg_sq; /* NULL: it has none */
    uint64_t numel, step;
    size_t group;
} adam_param;

typedef struct adam_group {
    adam_options options;
    size_t first_param, n_params;
    adam_block state;          /* values, exp_avg, exp_avg_sq and names of its parameters */
    adam_block max_exp_avg_sq; /* empty until amsgrad is switched on */
    adam_block schedule;       /* an adam_schedule, or empty */
} adam_group;

struct adam_optimizer {
    adam_allocator allocator;
    adam_algorithm algorithm;
    adam_grad_options grad_options;
    uint64_t step, skipped, numel;
    size_t bytes; /* held from the allocator */
    adam_group *groups;
    size_t n_groups;
    adam_param *params;
    size_t n_params;
    size_t *by_name; /* indices of params, sorted by name */
    adam_block groups_block, params_block, by_name_block;
};

/* Zeroed memory, counted in optimizer->bytes. 0 bytes give an empty block. False: none left. */
bool adam_block_get(adam_optimizer *optimizer, size_t bytes, adam_block *block);
void adam_block_put(adam_optimizer *optimizer, adam_block *block);

/* Appends groups with their parameters, all or none. */
adam_status adam_optimizer_append_groups(adam_optimizer *optimizer, const adam_group_spec *groups,
                                         size_t n_groups, adam_error *error);
/* Fills by_name; ADAM_DUPLICATE_PARAM where a name comes twice. */
adam_status adam_optimizer_sort_names(adam_optimizer *optimizer, adam_error *error);

/* Whether `options` may replace those of `group`, and the block that amsgrad then needs (empty
 * where it needs none), to be handed to adam_group_apply_options or adam_block_put. */
adam_status adam_group_prepare_options(adam_optimizer *optimizer, size_t group,
                                       const adam_options *options, adam_block *block,
                                       adam_error *error);
void adam_group_apply_options(adam_optimizer *optimizer, size_t group, const adam_options *options,
                              const adam_block *block);

/* Bytes of the max_exp_avg_sq block of a group, never 0; giving each of its parameters that has
 * none its place in that block, at zero; and giving the block back. */
size_t adam_group_max_bytes(const adam_optimizer *optimizer, size_t group);
void adam_group_place_max(adam_optimizer *optimizer, size_t group);
void adam_group_drop_max(adam_optimizer *optimizer, size_t group);

/* Finds the parameter that `tensor` names and holds its shape against it. `what` begins the
 * message, as in "gradient of 'w' has shape ...". */
adam_status adam_optimizer_match_shape(const adam_optimizer *optimizer, const adam_tensor *tensor,
                                       const char *what, size_t *param, adam_error *error);
/* The same, and its dtype. */
adam_status adam_optimizer_match(const adam_optimizer *optimizer, const adam_tensor *tensor,
                                 const char *what, size_t *param, adam_error *error);

/* What gradients are multiplied with, a float32 (torch.amp.GradScaler keeps its scale in one, too).
 */
double adam_grad_unscale(const adam_grad_options *options);

/* NULL: it has none. */
static inline adam_schedule *adam_group_schedule(const adam_group *group)
{
    return group->schedule.memory;
}
/* Takes `options` to what a step of the schedule makes of them, the schedule staying where it is.
 * False where that is not finite. */
bool adam_schedule_peek(const adam_schedule *schedule, adam_options *options);
/* A copy of `schedule` in a block of its own; empty for NULL. */
adam_status adam_schedule_copy(adam_optimizer *optimizer, const adam_schedule *schedule,
                               adam_block *block, adam_error *error);
/* The same, checked, rewound and started, which may change `options`, those of the group. */
adam_status adam_group_start_schedule(adam_optimizer *optimizer, size_t group,
                                      const adam_schedule *given, adam_options *options,
                                      adam_block *block, adam_error *error);

/* One bit for each parameter, to see a name that comes twice. */
static inline size_t adam_marks_bytes(size_t n_params)
{
    return (n_params + 7) / 8;
}
static inline bool adam_mark_once(unsigned char *marks, size_t param)
{
    const unsigned char bit = (unsigned char)(1U << (param % 8));
    const bool first = (marks[param / 8] & bit) == 0;
    marks[param / 8] |= bit;
    return first;
}

#endif
