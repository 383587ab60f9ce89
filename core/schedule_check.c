/* schedule_check.c: which schedules may be, and which may go on. Moves nothing. */
#include "adam/schedule.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "error.h"
#include "schedule_internal.h"

/* The scheduler that a check is about; `label` begins its messages. A check is true where all is
 * well, and has filled `error` otherwise. */
typedef struct subject {
    const adam_scheduler *s;
    char label[64];
    adam_error *error;
} subject;

static subject subject_of(const adam_schedule *schedule, size_t i, adam_error *error)
{
    subject c = {.s = &schedule->at[i], .error = error};
    const char *name = adam_scheduler_name(c.s->kind);
    if (i == 0) {
        (void)snprintf(c.label, sizeof c.label, "%s", name);
    } else {
        (void)snprintf(c.label, sizeof c.label, "SequentialLR: schedulers[%zu], %s", i - 1, name);
    }
    return c;
}

static bool refuse(const subject *c, adam_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static bool refuse(const subject *c, adam_status status, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    adam_error_set(c->error, status, "%s: %s", c->label, text);
    return false;
}

/* ---- arguments ---- */

static bool check_number(const subject *c, const char *argument, double value, bool in_range,
                         const char *expected)
{
    return (in_range && isfinite(value)) ||
           refuse(c, ADAM_INVALID_SCHEDULE, "%s is %s, expected %s", argument, ADAM_DIGITS(value),
                  expected);
}

static bool check_not_negative(const subject *c, const char *argument, double value)
{
    return check_number(c, argument, value, value >= 0, "a finite number >= 0");
}

static bool check_positive(const subject *c, const char *argument, double value)
{
    return check_number(c, argument, value, value > 0, "a finite number > 0");
}

static bool check_fraction(const subject *c, const char *argument, double value)
{
    return check_number(c, argument, value, value >= 0 && value <= 1, "a number from 0 to 1");
}

static bool check_beta(const subject *c, const char *argument, double value)
{
    return check_number(c, argument, value, value >= 0 && value < 1, "a number >= 0 and < 1");
}

static bool check_count(const subject *c, const char *argument, uint64_t value, uint64_t least,
                        uint64_t most)
{
    return (value >= least && value <= most) ||
           refuse(c, ADAM_INVALID_SCHEDULE, "%s is %llu, expected a whole number from %llu to %llu",
                  argument, (unsigned long long)value, (unsigned long long)least,
                  (unsigned long long)most);
}

static bool check_steps(const subject *c, const char *argument, uint64_t value, uint64_t least)
{
    return check_count(c, argument, value, least, ADAM_MAX_SCHEDULE_STEP);
}

static bool check_milestones(const subject *c, const uint64_t *milestones, size_t n)
{
    char argument[40];
    bool ok = true;
    for (size_t i = 0; ok && i < n; i++) {
        (void)snprintf(argument, sizeof argument, "milestones[%zu]", i);
        ok = check_steps(c, argument, milestones[i], 0);
    }
    return ok;
}

static bool check_linear(const subject *c)
{
    const adam_linear_lr *a = &c->s->linear;
    return check_number(c, "start_factor", a->start_factor,
                        a->start_factor > 0 && a->start_factor <= 1, "a number > 0 and <= 1") &&
           check_fraction(c, "end_factor", a->end_factor) &&
           check_steps(c, "total_iters", a->total_iters, 0);
}

static bool check_multi_step(const subject *c)
{
    const adam_multi_step_lr *a = &c->s->multi_step;
    if (a->n_milestones > ADAM_MAX_MILESTONES) {
        return refuse(c, ADAM_INVALID_SCHEDULE, "%zu milestones, expected at most %d",
                      a->n_milestones, ADAM_MAX_MILESTONES);
    }
    if (!check_milestones(c, a->milestones, a->n_milestones) ||
        !check_not_negative(c, "gamma", a->gamma)) {
        return false;
    }
    for (size_t i = 0; i < a->n_milestones; i++) {
        unsigned count = 0;
        for (size_t k = 0; k < a->n_milestones; k++) {
            count += a->milestones[k] == a->milestones[i];
        }
        if (!isfinite(pow(a->gamma, count))) {
            return refuse(c, ADAM_INVALID_SCHEDULE,
                          "gamma is %s and the milestone %llu stands %u times, but that power "
                          "of gamma is not finite",
                          ADAM_DIGITS(a->gamma), (unsigned long long)a->milestones[i], count);
        }
    }
    return true;
}

/* Its length, from one argument or two. torch lets total_steps win over the two; here that would be
 * to drop them silently. */
static bool check_one_cycle_steps(const subject *c)
{
    const adam_one_cycle_lr *a = &c->s->one_cycle;
    const bool pair = a->epochs != 0 && a->steps_per_epoch != 0;
    if (a->total_steps != 0 ? a->epochs != 0 || a->steps_per_epoch != 0 : !pair) {
        return refuse(c, ADAM_INVALID_SCHEDULE,
                      "expected either total_steps >= 1, or epochs >= 1 and steps_per_epoch >= 1");
    }
    if (a->total_steps == 0 && a->epochs > ADAM_MAX_SCHEDULE_STEP / a->steps_per_epoch) {
        return refuse(c, ADAM_INVALID_SCHEDULE,
                      "epochs %llu times steps_per_epoch %llu is over %llu",
                      (unsigned long long)a->epochs, (unsigned long long)a->steps_per_epoch,
                      (unsigned long long)ADAM_MAX_SCHEDULE_STEP);
    }
    return a->total_steps == 0 || check_steps(c, "total_steps", a->total_steps, 1);
}

/* What its arguments amount to together. */
static bool check_one_cycle_phases(const subject *c)
{
    const adam_one_cycle_lr *a = &c->s->one_cycle;
    const double initial_lr = a->max_lr / a->div_factor;
    one_cycle_place at;
    if (!isfinite(initial_lr) || !isfinite(initial_lr / a->final_div_factor)) {
        return refuse(c, ADAM_INVALID_SCHEDULE,
                      "max_lr %s, divided by div_factor %s and then by final_div_factor "
                      "%s, is not finite",
                      ADAM_DIGITS(a->max_lr), ADAM_DIGITS(a->div_factor),
                      ADAM_DIGITS(a->final_div_factor));
    }
    return one_cycle_find(a, 0, &at) ||
           refuse(c, ADAM_INVALID_SCHEDULE,
                  "pct_start %s of %llu steps makes a first phase of a single step, over whose "
                  "length of zero torch divides; choose another pct_start",
                  ADAM_DIGITS(a->pct_start), (unsigned long long)one_cycle_total(a));
}

static bool check_one_cycle(const subject *c)
{
    const adam_one_cycle_lr *a = &c->s->one_cycle;
    if (a->anneal_strategy != ADAM_ANNEAL_COS && a->anneal_strategy != ADAM_ANNEAL_LINEAR) {
        return refuse(c, ADAM_INVALID_SCHEDULE, "anneal_strategy is neither cos nor linear");
    }
    return check_not_negative(c, "max_lr", a->max_lr) && check_one_cycle_steps(c) &&
           check_fraction(c, "pct_start", a->pct_start) &&
           check_beta(c, "base_momentum", a->base_momentum) &&
           check_beta(c, "max_momentum", a->max_momentum) &&
           check_positive(c, "div_factor", a->div_factor) &&
           check_positive(c, "final_div_factor", a->final_div_factor) && check_one_cycle_phases(c);
}

static bool check_arguments(const subject *c)
{
    const adam_scheduler *s = c->s;
    switch (s->kind) {
    case ADAM_CONSTANT_LR:
        return check_fraction(c, "factor", s->constant.factor) &&
               check_steps(c, "total_iters", s->constant.total_iters, 0);
    case ADAM_LINEAR_LR: return check_linear(c);
    case ADAM_STEP_LR:
        return check_steps(c, "step_size", s->step.step_size, 1) &&
               check_not_negative(c, "gamma", s->step.gamma);
    case ADAM_MULTI_STEP_LR: return check_multi_step(c);
    case ADAM_EXPONENTIAL_LR: return check_not_negative(c, "gamma", s->exponential.gamma);
    case ADAM_POLYNOMIAL_LR:
        return check_steps(c, "total_iters", s->polynomial.total_iters, 0) &&
               check_number(c, "power", s->polynomial.power, true, "a finite number");
    case ADAM_COSINE_ANNEALING_LR:
        return check_steps(c, "T_max", s->cosine.T_max, 1) &&
               check_not_negative(c, "eta_min", s->cosine.eta_min);
    case ADAM_COSINE_ANNEALING_WARM_RESTARTS:
        return check_steps(c, "T_0", s->warm_restarts.T_0, 1) &&
               check_count(c, "T_mult", s->warm_restarts.T_mult, 1, ADAM_MAX_T_MULT) &&
               check_not_negative(c, "eta_min", s->warm_restarts.eta_min);
    case ADAM_ONE_CYCLE_LR: return check_one_cycle(c);
    case ADAM_SEQUENTIAL_LR:
        return check_milestones(c, s->sequential.milestones, s->sequential.n_milestones);
    case ADAM_SCHEDULER_KINDS: break;
    }
    return refuse(c, ADAM_INVALID_SCHEDULE, "no such kind of scheduler");
}

/* A scheduler among those of a SequentialLR. */
static bool check_child(const adam_schedule *schedule, size_t i, const subject *c)
{
    const adam_scheduler *s = c->s;
    const bool over_iters = (s->kind == ADAM_LINEAR_LR && s->linear.total_iters == 0) ||
                            (s->kind == ADAM_POLYNOMIAL_LR && s->polynomial.total_iters == 0);
    if (s->kind == ADAM_SEQUENTIAL_LR) {
        return refuse(c, ADAM_INVALID_SCHEDULE, "a SequentialLR cannot stand in another");
    }
    if (over_iters && i > 1 && schedule->at[0].sequential.milestones[i - 2] > 0) {
        return refuse(c, ADAM_INVALID_SCHEDULE,
                      "total_iters is 0, expected >= 1: torch divides by it at the milestone");
    }
    return isfinite(s->base_lr) ||
           refuse(c, ADAM_INVALID_SCHEDULE, "base_lr is %s, expected a finite number",
                  ADAM_DIGITS(s->base_lr));
}

/* ---- positions ---- */

/* T_i and T_cur are what last_epoch steps lead to. */
static bool check_cycle(const subject *c)
{
    const adam_cosine_annealing_warm_restarts *a = &c->s->warm_restarts;
    const uint64_t epoch = c->s->last_epoch > 0 ? (uint64_t)c->s->last_epoch : 0;
    uint64_t T_i = a->T_0;
    uint64_t T_cur = epoch;
    if (a->T_mult == 1) {
        T_cur %= T_i;
    }
    while (T_cur >= T_i) {
        T_cur -= T_i;
        T_i *= a->T_mult;
    }
    return (c->s->T_cur == T_cur && c->s->T_i == T_i) ||
           refuse(c, ADAM_INVALID_SCHEDULE,
                  "T_cur is %llu and T_i is %llu, expected %llu and %llu at last_epoch %lld",
                  (unsigned long long)c->s->T_cur, (unsigned long long)c->s->T_i,
                  (unsigned long long)T_cur, (unsigned long long)T_i, (long long)c->s->last_epoch);
}

static bool check_position(const subject *c, int64_t least, int64_t most)
{
    const adam_scheduler *s = c->s;
    if (s->kind == ADAM_ONE_CYCLE_LR && most > (int64_t)one_cycle_total(&s->one_cycle)) {
        most = (int64_t)one_cycle_total(&s->one_cycle);
    }
    if (s->last_epoch < least || s->last_epoch > most) {
        return refuse(c, ADAM_INVALID_SCHEDULE, "last_epoch is %lld, expected %lld to %lld",
                      (long long)s->last_epoch, (long long)least, (long long)most);
    }
    return s->kind != ADAM_COSINE_ANNEALING_WARM_RESTARTS || check_cycle(c);
}

/* The schedulers of a SequentialLR: each has gone at most as far as it has. */
static bool check_children(const adam_schedule *schedule, adam_error *error)
{
    const adam_scheduler *first = &schedule->at[0];
    const size_t turn = 1 + sequential_turn(&first->sequential, first->last_epoch);
    bool ok = true;
    for (size_t i = 1; ok && i < schedule->n; i++) {
        const subject c = subject_of(schedule, i, error);
        ok = check_arguments(&c) && check_child(schedule, i, &c) &&
             check_position(&c, i == turn ? 0 : -1, first->last_epoch);
    }
    return ok;
}

adam_status adam_schedule_check(const adam_schedule *schedule, adam_error *error)
{
    if (schedule->n == 0) {
        return adam_error_set(error, ADAM_INVALID_SCHEDULE, "a schedule without a scheduler");
    }
    const subject c = subject_of(schedule, 0, error);
    const bool sequential = schedule->at[0].kind == ADAM_SEQUENTIAL_LR;
    bool ok = true;
    if (sequential && (schedule->n < 2 || schedule->n > 1 + ADAM_MAX_SCHEDULERS)) {
        ok = refuse(&c, ADAM_INVALID_SCHEDULE, "%zu schedulers, expected 1 to %d", schedule->n - 1,
                    ADAM_MAX_SCHEDULERS);
    } else if (sequential && schedule->at[0].sequential.n_milestones != schedule->n - 2) {
        ok = refuse(&c, ADAM_INVALID_SCHEDULE,
                    "%zu milestones for %zu schedulers, expected one less than schedulers",
                    schedule->at[0].sequential.n_milestones, schedule->n - 1);
    } else if (!sequential && schedule->n != 1) {
        ok = refuse(&c, ADAM_INVALID_SCHEDULE, "%zu schedulers, expected 1", schedule->n);
    }
    ok = ok && check_arguments(&c) && check_not_negative(&c, "initial_lr", schedule->initial_lr) &&
         check_position(&c, 0, (int64_t)ADAM_MAX_SCHEDULE_STEP) &&
         (!sequential || check_children(schedule, error));
    return ok ? ADAM_OK : ADAM_INVALID_SCHEDULE;
}

/* ---- the way on ---- */

static bool check_division(const subject *c, bool by_zero, int64_t epoch)
{
    return !by_zero || refuse(c, ADAM_SCHEDULE_ENDED,
                              "at its step %lld torch divides by zero or overflows, and so there "
                              "is no learning rate to go on with; give the group another schedule "
                              "or none",
                              (long long)epoch);
}

static bool check_one_cycle_next(const subject *c, int64_t epoch)
{
    const adam_one_cycle_lr *a = &c->s->one_cycle;
    const uint64_t total = one_cycle_total(a);
    one_cycle_place at;
    if (epoch > (int64_t)total) {
        return refuse(c, ADAM_SCHEDULE_ENDED,
                      "it has taken all of its %llu steps; give the group another schedule "
                      "or null, with an lr",
                      (unsigned long long)total);
    }
    return check_division(c, !one_cycle_find(a, epoch, &at), epoch);
}

/* The step to `epoch`, with torch's recursive form. */
static bool check_next(const subject *c, int64_t epoch)
{
    const adam_scheduler *s = c->s;
    bool by_zero = false;
    switch (s->kind) {
    case ADAM_CONSTANT_LR:
        by_zero =
            epoch != 0 && epoch == (int64_t)s->constant.total_iters && s->constant.factor == 0;
        break;
    case ADAM_LINEAR_LR:
        by_zero = epoch != 0 && epoch <= (int64_t)s->linear.total_iters &&
                  linear_divisor(&s->linear, epoch) == 0;
        break;
    case ADAM_POLYNOMIAL_LR:
        by_zero = epoch <= (int64_t)s->polynomial.total_iters &&
                  !isfinite(polynomial_factor(&s->polynomial, epoch));
        break;
    case ADAM_COSINE_ANNEALING_LR:
        by_zero = !cosine_turns(&s->cosine, epoch) && cosine_divisor(&s->cosine, epoch) == 0;
        break;
    case ADAM_ONE_CYCLE_LR: return check_one_cycle_next(c, epoch);
    case ADAM_STEP_LR:
    case ADAM_MULTI_STEP_LR:
    case ADAM_EXPONENTIAL_LR:
    case ADAM_COSINE_ANNEALING_WARM_RESTARTS:
    case ADAM_SEQUENTIAL_LR:
    case ADAM_SCHEDULER_KINDS: break;
    }
    return check_division(c, by_zero, epoch);
}

adam_status adam_schedule_can_step(const adam_schedule *schedule, adam_error *error)
{
    bool starts;
    const subject c = subject_of(schedule, schedule_next(schedule, &starts), error);
    /* A start at a milestone takes the closed form, which adam_schedule_check has looked at. */
    return starts || check_next(&c, c.s->last_epoch + 1) ? ADAM_OK : ADAM_SCHEDULE_ENDED;
}
