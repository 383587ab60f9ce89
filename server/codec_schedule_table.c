/* codec_schedule_table.c: the one list of schedulers' arguments. */
#include "codec_schedule_table.h"

#define AT(member) offsetof(adam_scheduler, member)

static const argument table[] = {
    {ADAM_CONSTANT_LR, "factor", ARGUMENT_NUMBER, false, AT(constant.factor), 0, 0},
    {ADAM_CONSTANT_LR, "total_iters", ARGUMENT_COUNT, false, AT(constant.total_iters), 0, 0},
    {ADAM_LINEAR_LR, "start_factor", ARGUMENT_NUMBER, false, AT(linear.start_factor), 0, 0},
    {ADAM_LINEAR_LR, "end_factor", ARGUMENT_NUMBER, false, AT(linear.end_factor), 0, 0},
    {ADAM_LINEAR_LR, "total_iters", ARGUMENT_COUNT, false, AT(linear.total_iters), 0, 0},
    {ADAM_STEP_LR, "step_size", ARGUMENT_COUNT, true, AT(step.step_size), 0, 0},
    {ADAM_STEP_LR, "gamma", ARGUMENT_NUMBER, false, AT(step.gamma), 0, 0},
    {ADAM_MULTI_STEP_LR, "milestones", ARGUMENT_MILESTONES, true, AT(multi_step.milestones),
     ADAM_MAX_MILESTONES, AT(multi_step.n_milestones)},
    {ADAM_MULTI_STEP_LR, "gamma", ARGUMENT_NUMBER, false, AT(multi_step.gamma), 0, 0},
    {ADAM_EXPONENTIAL_LR, "gamma", ARGUMENT_NUMBER, true, AT(exponential.gamma), 0, 0},
    {ADAM_POLYNOMIAL_LR, "total_iters", ARGUMENT_COUNT, false, AT(polynomial.total_iters), 0, 0},
    {ADAM_POLYNOMIAL_LR, "power", ARGUMENT_NUMBER, false, AT(polynomial.power), 0, 0},
    {ADAM_COSINE_ANNEALING_LR, "T_max", ARGUMENT_COUNT, true, AT(cosine.T_max), 0, 0},
    {ADAM_COSINE_ANNEALING_LR, "eta_min", ARGUMENT_NUMBER, false, AT(cosine.eta_min), 0, 0},
    {ADAM_COSINE_ANNEALING_WARM_RESTARTS, "T_0", ARGUMENT_COUNT, true, AT(warm_restarts.T_0), 0, 0},
    {ADAM_COSINE_ANNEALING_WARM_RESTARTS, "T_mult", ARGUMENT_COUNT, false, AT(warm_restarts.T_mult),
     0, 0},
    {ADAM_COSINE_ANNEALING_WARM_RESTARTS, "eta_min", ARGUMENT_NUMBER, false,
     AT(warm_restarts.eta_min), 0, 0},
    {ADAM_ONE_CYCLE_LR, "max_lr", ARGUMENT_NUMBER, true, AT(one_cycle.max_lr), 0, 0},
    {ADAM_ONE_CYCLE_LR, "total_steps", ARGUMENT_COUNT_OR_NONE, false, AT(one_cycle.total_steps), 0,
     0},
    {ADAM_ONE_CYCLE_LR, "epochs", ARGUMENT_COUNT_OR_NONE, false, AT(one_cycle.epochs), 0, 0},
    {ADAM_ONE_CYCLE_LR, "steps_per_epoch", ARGUMENT_COUNT_OR_NONE, false,
     AT(one_cycle.steps_per_epoch), 0, 0},
    {ADAM_ONE_CYCLE_LR, "pct_start", ARGUMENT_NUMBER, false, AT(one_cycle.pct_start), 0, 0},
    {ADAM_ONE_CYCLE_LR, "anneal_strategy", ARGUMENT_ANNEAL, false, AT(one_cycle.anneal_strategy), 0,
     0},
    {ADAM_ONE_CYCLE_LR, "cycle_momentum", ARGUMENT_BOOL, false, AT(one_cycle.cycle_momentum), 0, 0},
    {ADAM_ONE_CYCLE_LR, "base_momentum", ARGUMENT_NUMBER, false, AT(one_cycle.base_momentum), 0, 0},
    {ADAM_ONE_CYCLE_LR, "max_momentum", ARGUMENT_NUMBER, false, AT(one_cycle.max_momentum), 0, 0},
    {ADAM_ONE_CYCLE_LR, "div_factor", ARGUMENT_NUMBER, false, AT(one_cycle.div_factor), 0, 0},
    {ADAM_ONE_CYCLE_LR, "final_div_factor", ARGUMENT_NUMBER, false, AT(one_cycle.final_div_factor),
     0, 0},
    {ADAM_ONE_CYCLE_LR, "three_phase", ARGUMENT_BOOL, false, AT(one_cycle.three_phase), 0, 0},
    {ADAM_SEQUENTIAL_LR, "schedulers", ARGUMENT_SCHEDULERS, true, 0, 0, 0},
    {ADAM_SEQUENTIAL_LR, "milestones", ARGUMENT_MILESTONES, true, AT(sequential.milestones),
     ADAM_MAX_SCHEDULERS - 1, AT(sequential.n_milestones)},
};

const argument *schedule_arguments(size_t *n)
{
    *n = sizeof table / sizeof table[0];
    return table;
}

const char *schedule_anneal_name(adam_anneal anneal)
{
    return anneal == ADAM_ANNEAL_LINEAR ? "linear" : "cos";
}
