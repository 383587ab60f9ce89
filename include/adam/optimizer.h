/* optimizer.h: Adam and AdamW over named parameters, in param groups, as torch.optim has them.
 *
 * Algorithms: Kingma & Ba 2015 (Adam, Algorithm 1), Reddi et al. 2018 (amsgrad), Loshchilov &
 * Hutter 2019 (AdamW). Bits: PyTorch 2.x on CPU with foreach=False, fused=False; see
 * docs/numerics.md.
 *
 * Threads: an optimizer is not locked. Calls that take it as const may run at the same time as each
 * other; a call that takes it as non-const must run alone on it. Different optimizers are
 * independent. Nothing here reads or writes files, prints, or ends the process. */
#ifndef ADAM_OPTIMIZER_H
#define ADAM_OPTIMIZER_H

#include "adam/pool.h"
#include "adam/status.h"
#include "adam/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum adam_algorithm { ADAM_ALGORITHM_ADAM, ADAM_ALGORITHM_ADAMW } adam_algorithm;

/* "adam", "adamw". */
const char *adam_algorithm_name(adam_algorithm algorithm);

/* torch's `foreach` and `fused`: None or False. They decide nothing here and are kept so that
 * param_groups read back as they were written. */
typedef enum adam_flag { ADAM_FLAG_NONE, ADAM_FLAG_FALSE } adam_flag;

/* The hyperparameters of a param group, with torch's names. */
typedef struct adam_options {
    double lr;           /* learning rate, finite, >= 0 */
    double betas[2];     /* decay of exp_avg and exp_avg_sq, each in [0, 1) */
    double eps;          /* added to the denominator, finite, >= 0 */
    double weight_decay; /* L2 penalty (Adam) or decoupled decay (AdamW), finite, >= 0 */
    bool amsgrad;        /* normalise by the maximum of exp_avg_sq so far */
    bool maximize;       /* ascend instead of descend */
    adam_flag foreach, fused;
} adam_options;

/* torch's defaults: lr 0.001, betas (0.9, 0.999), eps 1e-08, weight_decay 0 (AdamW: 0.01). */
void adam_options_default(adam_algorithm algorithm, adam_options *options);

/* ADAM_INVALID_OPTION where a value is out of the range given above. */
adam_status adam_options_check(const adam_options *options, adam_error *error);

/* Where an optimizer's memory comes from. `alloc` gives zeroed memory, aligned to 64 bytes, or
 * NULL; `release` gets the same size back. Both may be called from any thread. */
typedef struct adam_allocator {
    void *(*alloc)(void *context, size_t bytes);
    void (*release)(void *context, void *memory, size_t bytes);
    void *context;
} adam_allocator;

/* A group to create. `params[i].data` holds the initial values, or is NULL: zeros. All of it is
 * copied. */
typedef struct adam_group_spec {
    adam_options options;
    const adam_tensor *params;
    size_t n_params;
} adam_group_spec;

typedef struct adam_optimizer adam_optimizer;

/* Creates an optimizer with exp_avg and exp_avg_sq at zero and every step count at 0.
 * `allocator` NULL: the C library's. On success *optimizer is the caller's, to be freed with
 * adam_optimizer_free. Errors: INVALID_OPTION, INVALID_NAME (empty, over ADAM_MAX_NAME, not UTF-8,
 * or with a NUL), DUPLICATE_PARAM, TOO_LARGE, EMPTY (no group), NO_MEMORY. */
adam_status adam_optimizer_create(adam_algorithm algorithm, const adam_group_spec *groups,
                                  size_t n_groups, const adam_allocator *allocator,
                                  adam_optimizer **optimizer, adam_error *error);

/* Frees it with all its state. NULL is allowed. */
void adam_optimizer_free(adam_optimizer *optimizer);

/* torch's add_param_group: appends a group. Indices of parameters and groups stay as they are.
 * Errors as at creation; on an error nothing has changed. */
adam_status adam_optimizer_add_group(adam_optimizer *optimizer, const adam_group_spec *group,
                                     adam_error *error);

/* Replaces the hyperparameters of one group from the next step on. Errors: NO_SUCH_GROUP,
 * INVALID_OPTION, STATE_MISMATCH (amsgrad switched on after a parameter of the group took its first
 * step without it; torch raises KeyError there), NO_MEMORY. On an error nothing has changed. */
adam_status adam_optimizer_set_options(adam_optimizer *optimizer, size_t group,
                                       const adam_options *options, adam_error *error);

adam_algorithm adam_optimizer_algorithm(const adam_optimizer *optimizer);
size_t adam_optimizer_group_count(const adam_optimizer *optimizer);
size_t adam_optimizer_param_count(const adam_optimizer *optimizer);
/* Steps taken by the optimizer as a whole; each parameter has a count of its own. */
uint64_t adam_optimizer_step_count(const adam_optimizer *optimizer);
/* Elements of all parameters. */
uint64_t adam_optimizer_numel(const adam_optimizer *optimizer);
/* Bytes the optimizer holds, its own structures included. */
size_t adam_optimizer_bytes(const adam_optimizer *optimizer);

/* A group, as it is now. Its parameters are those at first_param .. first_param + n_params - 1. */
typedef struct adam_group_view {
    adam_options options;
    size_t first_param, n_params;
} adam_group_view;

/* group < adam_optimizer_group_count. */
adam_group_view adam_optimizer_group(const adam_optimizer *optimizer, size_t group);

/* A parameter, as it is now. The pointers are the optimizer's and hold until its next change. */
typedef struct adam_param_view {
    adam_tensor tensor; /* name (terminated), dtype, shape; data: the values */
    uint64_t numel;
    size_t group;
    uint64_t step;          /* steps this parameter took part in */
    const void *exp_avg;    /* first moment, numel elements of the tensor's dtype */
    const void *exp_avg_sq; /* second moment */
    /* Maximum of it. NULL unless amsgrad is or was on, and where the parameter's first step was
     * taken without it. */
    const void *max_exp_avg_sq;
} adam_param_view;

/* param < adam_optimizer_param_count. */
adam_param_view adam_optimizer_param(const adam_optimizer *optimizer, size_t param);

/* Index of a parameter by name. False where there is none. */
bool adam_optimizer_find(const adam_optimizer *optimizer, const char *name, size_t name_len,
                         size_t *param);

/* Overwrites the values of all parameters; moments and step counts stay. `params` names each
 * parameter once, in any order. Errors: UNKNOWN_PARAM, DUPLICATE_PARAM, MISSING_PARAM,
 * SHAPE_MISMATCH, DTYPE_MISMATCH, NO_MEMORY; nothing has changed then. */
adam_status adam_optimizer_set_params(adam_optimizer *optimizer, const adam_tensor *params,
                                      size_t n_params, adam_error *error);

/* The whole state of one parameter, to be restored. max_exp_avg_sq is NULL where it has none. */
typedef struct adam_param_state {
    adam_tensor tensor; /* name, dtype, shape; data: the values */
    uint64_t step;      /* <= the optimizer's step */
    const void *exp_avg, *exp_avg_sq, *max_exp_avg_sq;
} adam_param_state;

/* A whole state_dict: options of every group in order, state of every parameter in any order. */
typedef struct adam_state_dict {
    uint64_t step; /* <= ADAM_MAX_STEP */
    const adam_options *groups;
    size_t n_groups;
    const adam_param_state *params;
    size_t n_params;
} adam_state_dict;

#define ADAM_MAX_STEP (UINT64_C(1) << 53)

/* Makes the optimizer what `state` says. Errors: those of adam_optimizer_set_params,
 * INVALID_OPTION, STATE_MISMATCH (number of groups, step counts, max_exp_avg_sq missing with
 * amsgrad); nothing has changed then. */
adam_status adam_optimizer_load_state(adam_optimizer *optimizer, const adam_state_dict *state,
                                      adam_error *error);

/* One step. */
typedef struct adam_step_args {
    const adam_tensor
        *grads; /* gradients by name; a parameter without one is left out of the step */
    size_t n_grads;
    /* NULL, or new options for every group in order, applied with the step; they stay. */
    const adam_options *groups;
    /* Write each updated parameter over its gradient, in grads[i].data. */
    bool params_into_grads;
    adam_pool *pool; /* NULL: the calling thread alone */
} adam_step_args;

/* What a step did. Norms are L2, over all elements that took part. Summed in double, in an order
 * that depends on nothing but the sizes. */
typedef struct adam_step_stats {
    uint64_t step;      /* the optimizer's step count after it */
    double grad_norm;   /* of the gradients as given */
    double param_norm;  /* of the parameters after the step */
    double update_norm; /* of the change of the parameters */
    double clip_coef;   /* what the gradients were multiplied with: 1 */
} adam_step_stats;

typedef struct adam_step_plan adam_step_plan;

/* Checks a step whole and gets everything it needs, without changing anything. On success *plan is
 * the caller's: hand it to adam_step_apply or adam_step_discard before any other change of the
 * optimizer; `args->grads` and the data behind it must stay until then. Errors: EMPTY (no
 * gradient), UNKNOWN_PARAM, DUPLICATE_PARAM, SHAPE_MISMATCH, DTYPE_MISMATCH, NON_FINITE (with the
 * first index), INVALID_OPTION, STATE_MISMATCH, NO_MEMORY. */
adam_status adam_step_prepare(adam_optimizer *optimizer, const adam_step_args *args,
                              adam_step_plan **plan, adam_error *error);

/* Takes the step; cannot fail. Frees the plan. `stats` may be NULL. */
void adam_step_apply(adam_step_plan *plan, adam_step_stats *stats);

/* Frees a plan that is not wanted; nothing has changed. NULL is allowed. */
void adam_step_discard(adam_step_plan *plan);

/* Prepare and apply at once. */
adam_status adam_optimizer_step(adam_optimizer *optimizer, const adam_step_args *args,
                                adam_step_stats *stats, adam_error *error);

/* Name of the kernel in use: "scalar", "avx2", "avx512". Chosen once for the process, the fastest
 * that the processor has; the environment variable ADAM_KERNEL picks one by name. */
const char *adam_kernel_name(void);

/* ADAM_UNSUPPORTED_OPTION where ADAM_KERNEL names a kernel that does not exist or that the
 * processor cannot run. adam_optimizer_create makes the same check. */
adam_status adam_kernel_check(adam_error *error);

#ifdef __cplusplus
}
#endif
#endif
