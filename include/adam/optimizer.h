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
#include "adam/schedule.h"
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

/* The hyperparameters of a param group, with torch's names. Begin with adam_options_default. */
typedef struct adam_options {
    double lr;           /* learning rate, finite, >= 0 */
    double betas[2];     /* decay of exp_avg and exp_avg_sq, each in [0, 1) */
    double eps;          /* added to the denominator, finite, >= 0 */
    double weight_decay; /* L2 penalty (Adam) or decoupled decay (AdamW), finite, >= 0 */
    bool amsgrad;        /* normalise by the maximum of exp_avg_sq so far */
    bool maximize;       /* ascend instead of descend */
    adam_flag foreach, fused;
    /* adamd's own, beside torch's. bias_correction, as in NVIDIA apex's FusedAdam: false makes both
     * bias corrections 1 (Reddi et al. 2021, "Adaptive Federated Optimization", Algorithm 2). */
    bool bias_correction;
    /* The parameters are running statistics, which are not trained: what a step has for one is not
     * its gradient but its new value. It counts as a step and leaves the moments at zero; no other
     * option of the group has an effect, nor have grad_scale and clipping. Set when the group is
     * made, and then for good. */
    bool buffers;
} adam_options;

/* torch's defaults: lr 0.001, betas (0.9, 0.999), eps 1e-08, weight_decay 0 (AdamW: 0.01); with
 * bias correction, no buffers. */
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
 * copied. Parameters given as BFLOAT16 or FLOAT16 become FLOAT32, with the same values. */
typedef struct adam_group_spec {
    adam_options options;
    const adam_schedule *schedule; /* NULL: none; starts from options.lr, its position is ignored */
    const adam_tensor *params;
    size_t n_params;
} adam_group_spec;

typedef struct adam_optimizer adam_optimizer;

/* What to do about a gradient that is NaN or infinite. */
typedef enum adam_nonfinite {
    ADAM_NONFINITE_ERROR, /* refuse the step */
    ADAM_NONFINITE_SKIP,  /* leave the whole step out and count it, as torch.amp.GradScaler.step */
    ADAM_NONFINITE_APPLY, /* step with it, as torch.optim.Adam */
} adam_nonfinite;

typedef enum adam_norm { ADAM_NORM_2, ADAM_NORM_INF } adam_norm;

/* What is done with the gradients of a step before it, in this order. */
typedef struct adam_grad_options {
    /* The loss was multiplied with this: gradients are multiplied with float32(1 / grad_scale)
     * (torch.amp.GradScaler.unscale_). > 0, its inverse a normal float32; 1: none. */
    double grad_scale;
    adam_nonfinite nonfinite; /* looked at after unscaling */
    /* torch.nn.utils.clip_grad_norm_ over all gradients of the step: max_norm, finite, >= 0, or
     * INFINITY: none; norm_type; error_if_nonfinite. */
    double max_grad_norm;
    adam_norm norm_type;
    bool error_if_nonfinite;
    double clip_value; /* torch.nn.utils.clip_grad_value_: finite, > 0, or INFINITY: none */
} adam_grad_options;

/* grad_scale 1, nonfinite ERROR, no clipping. */
void adam_grad_options_default(adam_grad_options *options);

/* ADAM_INVALID_OPTION where a value is out of the range given above. */
adam_status adam_grad_options_check(const adam_grad_options *options, adam_error *error);

/* Creates an optimizer with exp_avg and exp_avg_sq at zero and every step count at 0.
 * `allocator` NULL: the C library's. On success *optimizer is the caller's, to be freed with
 * adam_optimizer_free. Errors: INVALID_OPTION, INVALID_NAME (empty, over ADAM_MAX_NAME, not UTF-8,
 * or with a NUL), DUPLICATE_PARAM, INVALID_SCHEDULE, TOO_LARGE, EMPTY (no group), NO_MEMORY. */
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
 * INVALID_OPTION (`buffers` changed, too), STATE_MISMATCH (amsgrad switched on where a parameter of
 * the group took its first step without it and so has no max_exp_avg_sq; torch raises KeyError
 * there), NO_MEMORY. On an error nothing has changed. An lr or beta1 that the group's schedule has
 * taken out of its range may stay as it is. */
adam_status adam_optimizer_set_options(adam_optimizer *optimizer, size_t group,
                                       const adam_options *options, adam_error *error);

/* Replaces the schedule of one group, NULL: by none. A new one starts from options->lr, which
 * replaces the options as well. Errors: those of adam_optimizer_set_options, INVALID_SCHEDULE. */
adam_status adam_optimizer_set_schedule(adam_optimizer *optimizer, size_t group,
                                        const adam_options *options, const adam_schedule *schedule,
                                        adam_error *error);

/* Replaces what is done with gradients, from the next step on. Errors: INVALID_OPTION. */
adam_status adam_optimizer_set_grad_options(adam_optimizer *optimizer,
                                            const adam_grad_options *options, adam_error *error);
adam_grad_options adam_optimizer_grad_options(const adam_optimizer *optimizer);

adam_algorithm adam_optimizer_algorithm(const adam_optimizer *optimizer);
size_t adam_optimizer_group_count(const adam_optimizer *optimizer);
size_t adam_optimizer_param_count(const adam_optimizer *optimizer);
/* Steps taken by the optimizer as a whole; each parameter has a count of its own. */
uint64_t adam_optimizer_step_count(const adam_optimizer *optimizer);
/* Steps left out for non-finite gradients since it was created. */
uint64_t adam_optimizer_skipped_count(const adam_optimizer *optimizer);
/* Elements of all parameters. */
uint64_t adam_optimizer_numel(const adam_optimizer *optimizer);
/* Bytes the optimizer holds, its own structures included. */
size_t adam_optimizer_bytes(const adam_optimizer *optimizer);

/* A group, as it is now. Its parameters are those at first_param .. first_param + n_params - 1. */
typedef struct adam_group_view {
    adam_options options;
    const adam_schedule *schedule; /* NULL: none; the optimizer's, until its next change */
    size_t first_param, n_params;
} adam_group_view;

/* group < adam_optimizer_group_count. */
adam_group_view adam_optimizer_group(const adam_optimizer *optimizer, size_t group);

/* A parameter, as it is now. The pointers are the optimizer's and hold until its next change. */
typedef struct adam_param_view {
    adam_tensor tensor; /* name (terminated), dtype, shape; data: the values */
    uint64_t numel;
    size_t group;
    uint64_t step;              /* steps this parameter took part in */
    const void *exp_avg;        /* first moment, numel elements of the tensor's dtype */
    const void *exp_avg_sq;     /* second moment */
    const void *max_exp_avg_sq; /* maximum of it; NULL where amsgrad was off at its first step */
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
    uint64_t step;                         /* <= ADAM_MAX_STEP */
    const adam_grad_options *grad_options; /* NULL: they stay as they are */
    const uint64_t *skipped;               /* steps left out; NULL: it stays as it is */
    const adam_options *groups;
    const adam_schedule *const *schedules; /* of each group, or NULL, with their positions; NULL:
                                              none has one */
    size_t n_groups;
    const adam_param_state *params;
    size_t n_params;
} adam_state_dict;

#define ADAM_MAX_STEP (UINT64_C(1) << 53)

/* Makes the optimizer what `state` says. Errors: those of adam_optimizer_set_params,
 * INVALID_OPTION, INVALID_SCHEDULE, STATE_MISMATCH (number of groups, another `buffers`, step
 * counts, max_exp_avg_sq missing with amsgrad), NO_MEMORY; nothing has changed then. */
adam_status adam_optimizer_load_state(adam_optimizer *optimizer, const adam_state_dict *state,
                                      adam_error *error);

/* One step. */
typedef struct adam_step_args {
    /* Gradients (in a group of buffers: values) by name, of any dtype: another than the parameter's
     * is converted first (adam_convert). A parameter without one is left out of the step. */
    const adam_tensor *grads;
    size_t n_grads;
    /* NULL, or for each gradient where its updated parameter is written, too: `dtype` (any) and
     * `data`. The data may be the gradient's own where both have the same dtype, and overlaps
     * nothing else. */
    const adam_tensor *out;
    /* NULL, or new options for every group in order, applied with the step; they stay. */
    const adam_options *groups;
    const adam_grad_options *grad_options; /* for this step; NULL: the optimizer's */
    adam_pool *pool;                       /* NULL: the calling thread alone */
    const adam_allocator *scratch; /* for what lives until the step's end; NULL: the optimizer's */
} adam_step_args;

/* Norms are L2, over the elements that took part. Summed in double, in an order that depends on
 * nothing but the sizes. */
typedef struct adam_group_stats {
    double grad_norm;   /* of the gradients, unscaled but not clipped; buffers have none */
    double param_norm;  /* of the parameters after the step */
    double update_norm; /* of the change of the parameters */
} adam_group_stats;

/* What a step did, all groups together. */
typedef struct adam_step_stats {
    uint64_t step;      /* the optimizer's step count after it */
    double grad_norm;   /* as of a group */
    double param_norm;  /* as of a group */
    double update_norm; /* as of a group */
    double clip_coef;   /* what clip_grad_norm_ multiplied the gradients with; 1: nothing */
    bool skipped;       /* it was left out: nothing has changed */
    size_t converted;   /* gradients whose dtype was not their parameter's */
} adam_step_stats;

typedef struct adam_step_plan adam_step_plan;

/* Checks a step whole and gets everything it needs, without changing anything. On success *plan is
 * the caller's: hand it to adam_step_apply or adam_step_discard before any other change of the
 * optimizer; `args->grads` and the data behind it must stay until then. Errors: EMPTY (no
 * gradient), UNKNOWN_PARAM, DUPLICATE_PARAM, SHAPE_MISMATCH, NON_FINITE (with the first index, or
 * for the total norm, without one), INVALID_OPTION, STATE_MISMATCH, SCHEDULE_ENDED (a schedule is
 * at its end, or would take the rate to infinity), NO_MEMORY. */
adam_status adam_step_prepare(adam_optimizer *optimizer, const adam_step_args *args,
                              adam_step_plan **plan, adam_error *error);

/* Takes the step, and then a step of every group's schedule; cannot fail. Frees the plan. `stats`
 * may be NULL, and so may `groups`, which gets the norms of each group in order. Where the step is
 * skipped, the parameters are still written to `out`, as they are. */
void adam_step_apply(adam_step_plan *plan, adam_step_stats *stats, adam_group_stats *groups);

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
