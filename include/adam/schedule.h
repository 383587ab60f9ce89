/* schedule.h: learning-rate schedules, as torch.optim.lr_scheduler has them.
 *
 * A schedule belongs to one param group and changes its learning rate (OneCycleLR: beta1 too) after
 * each step of the optimizer. Bits: PyTorch 2.x, whose recursive forms go on from the group's
 * current lr, so that a rate changed by hand goes on as it does there; see docs/schedules.md.
 *
 * A schedule is plain memory without pointers: copy it with memcpy, adam_schedule_bytes long. */
#ifndef ADAM_SCHEDULE_H
#define ADAM_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adam/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct adam_options; /* optimizer.h */

#define ADAM_MAX_SCHEDULERS    16                  /* that follow each other in a SequentialLR */
#define ADAM_MAX_MILESTONES    64                  /* of a MultiStepLR */
#define ADAM_MAX_SCHEDULE_STEP (UINT64_C(1) << 53) /* any count of steps in an argument */
#define ADAM_MAX_T_MULT        1024

typedef enum adam_scheduler_kind {
    ADAM_CONSTANT_LR,
    ADAM_LINEAR_LR,
    ADAM_STEP_LR,
    ADAM_MULTI_STEP_LR,
    ADAM_EXPONENTIAL_LR,
    ADAM_POLYNOMIAL_LR,
    ADAM_COSINE_ANNEALING_LR,
    ADAM_COSINE_ANNEALING_WARM_RESTARTS,
    ADAM_ONE_CYCLE_LR,
    ADAM_SEQUENTIAL_LR,
    ADAM_SCHEDULER_KINDS
} adam_scheduler_kind;

typedef enum adam_anneal { ADAM_ANNEAL_COS, ADAM_ANNEAL_LINEAR } adam_anneal;

/* The arguments of each kind, with torch's names. Counts are steps, at most
 * ADAM_MAX_SCHEDULE_STEP; numbers are finite. */
typedef struct adam_constant_lr {
    double factor; /* in [0, 1] */
    uint64_t total_iters;
} adam_constant_lr;

typedef struct adam_linear_lr {
    double start_factor; /* in (0, 1] */
    double end_factor;   /* in [0, 1] */
    uint64_t total_iters;
} adam_linear_lr;

typedef struct adam_step_lr {
    uint64_t step_size; /* >= 1 */
    double gamma;       /* >= 0 */
} adam_step_lr;

typedef struct adam_multi_step_lr {
    double gamma; /* >= 0 */
    size_t n_milestones;
    uint64_t milestones[ADAM_MAX_MILESTONES]; /* in any order; one that stands twice counts twice */
} adam_multi_step_lr;

typedef struct adam_exponential_lr {
    double gamma; /* >= 0 */
} adam_exponential_lr;

typedef struct adam_polynomial_lr {
    uint64_t total_iters;
    double power;
} adam_polynomial_lr;

typedef struct adam_cosine_annealing_lr {
    uint64_t T_max; /* >= 1 */
    double eta_min; /* >= 0 */
} adam_cosine_annealing_lr;

typedef struct adam_cosine_annealing_warm_restarts {
    uint64_t T_0;    /* >= 1 */
    uint64_t T_mult; /* 1 to ADAM_MAX_T_MULT */
    double eta_min;  /* >= 0 */
} adam_cosine_annealing_warm_restarts;

typedef struct adam_one_cycle_lr {
    double max_lr;                    /* >= 0 */
    uint64_t total_steps;             /* 0: epochs * steps_per_epoch, which are 0 otherwise */
    uint64_t epochs, steps_per_epoch; /* both or neither */
    double pct_start;                 /* in [0, 1] */
    adam_anneal anneal_strategy;
    bool cycle_momentum;
    double base_momentum, max_momentum;  /* each in [0, 1) */
    double div_factor, final_div_factor; /* > 0 */
    bool three_phase;
} adam_one_cycle_lr;

typedef struct adam_sequential_lr {
    size_t n_milestones; /* one less than schedulers */
    uint64_t milestones[ADAM_MAX_SCHEDULERS - 1];
} adam_sequential_lr;

/* One scheduler: what it is, and where it stands. */
typedef struct adam_scheduler {
    adam_scheduler_kind kind;
    union {
        adam_constant_lr constant;
        adam_linear_lr linear;
        adam_step_lr step;
        adam_multi_step_lr multi_step;
        adam_exponential_lr exponential;
        adam_polynomial_lr polynomial;
        adam_cosine_annealing_lr cosine;
        adam_cosine_annealing_warm_restarts warm_restarts;
        adam_one_cycle_lr one_cycle;
        adam_sequential_lr sequential;
    };
    int64_t last_epoch;  /* steps so far; -1: in a SequentialLR, and its turn has not come */
    uint64_t T_cur, T_i; /* of CosineAnnealingWarmRestarts: place in the cycle, its length */
    double base_lr;      /* in a SequentialLR: the rate it starts from; else unused */
} adam_scheduler;

/* The schedule of a group. */
typedef struct adam_schedule {
    double initial_lr; /* torch's group["initial_lr"] */
    size_t n;          /* of `at`: 1, or 1 + those that the ADAM_SEQUENTIAL_LR in at[0] runs */
    adam_scheduler
        at[]; /* at[1] .. at[n - 1]: in their order, none of them an ADAM_SEQUENTIAL_LR */
} adam_schedule;

/* torch's class name: "StepLR". */
const char *adam_scheduler_name(adam_scheduler_kind kind);

/* Makes it one of that kind with torch's default arguments, at its start. Arguments that torch has
 * no default for are set to what adam_schedule_check refuses (MultiStepLR, SequentialLR: none). */
void adam_scheduler_default(adam_scheduler_kind kind, adam_scheduler *scheduler);

/* Bytes of a schedule of n schedulers, and of this one. */
size_t adam_schedule_bytes_of(size_t n);
size_t adam_schedule_bytes(const adam_schedule *schedule);

/* ADAM_INVALID_SCHEDULE where an argument is out of its range or a position cannot be. */
adam_status adam_schedule_check(const adam_schedule *schedule, adam_error *error);

/* Takes all positions to the start; no rate changes. The schedule need not have been checked. */
void adam_schedule_rewind(adam_schedule *schedule);

/* What constructing torch's schedulers does to a group: sets initial_lr from options->lr, and
 * options->lr (OneCycleLR that cycles momentum: betas[0] too) to those of the first step. The
 * schedule is one that adam_schedule_check takes when rewound. */
void adam_schedule_start(adam_schedule *schedule, struct adam_options *options);

/* ADAM_SCHEDULE_ENDED where torch's scheduler.step() would raise: past the end of a OneCycleLR, or
 * dividing by zero. */
adam_status adam_schedule_can_step(const adam_schedule *schedule, adam_error *error);

/* torch's scheduler.step(), to follow a step of the optimizer. Call it only where
 * adam_schedule_can_step says so. As in torch nothing bounds what comes out: gamma > 1 may take lr
 * to infinity, and OneCycleLR with "linear" takes it below 0 with its last step. */
void adam_schedule_step(adam_schedule *schedule, struct adam_options *options);

#ifdef __cplusplus
}
#endif
#endif
