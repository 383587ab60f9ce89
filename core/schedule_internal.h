/* schedule_internal.h: what schedule.c and schedule_check.c share. */
#ifndef ADAM_CORE_SCHEDULE_INTERNAL_H
#define ADAM_CORE_SCHEDULE_INTERNAL_H

#include "adam/schedule.h"

/* Steps of a OneCycleLR: total_steps, or epochs * steps_per_epoch. */
uint64_t one_cycle_total(const adam_one_cycle_lr *c);

/* Where a step of a OneCycleLR falls: the phase, and how much of it is done. False where torch
 * would divide by zero. */
typedef enum one_cycle_rate { ONE_CYCLE_INITIAL, ONE_CYCLE_MAX, ONE_CYCLE_MIN } one_cycle_rate;
typedef struct one_cycle_place {
    one_cycle_rate start_lr, end_lr;
    bool start_at_max, end_at_max; /* momentum: max_momentum or base_momentum */
    double pct;
} one_cycle_place;
bool one_cycle_find(const adam_one_cycle_lr *c, int64_t epoch, one_cycle_place *place);

/* Which scheduler of a SequentialLR has its turn at that epoch, from 0: bisect_right of Python, for
 * milestones that need not be sorted. */
size_t sequential_turn(const adam_sequential_lr *s, int64_t epoch);

/* The scheduler whose turn comes with the next step, and whether it starts with it. */
size_t schedule_next(const adam_schedule *schedule, bool *starts);

/* The terms that torch divides by in a step to `epoch`; each may be 0. */
double linear_divisor(const adam_linear_lr *a, int64_t epoch);
double cosine_divisor(const adam_cosine_annealing_lr *a, int64_t epoch);
/* Whether CosineAnnealingLR leaves the bottom of its curve with that epoch. */
bool cosine_turns(const adam_cosine_annealing_lr *a, int64_t epoch);
/* What PolynomialLR multiplies with, for epochs up to total_iters. */
double polynomial_factor(const adam_polynomial_lr *a, int64_t epoch);

#endif
