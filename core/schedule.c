/* schedule.c: how learning rates move. Knows groups by their options alone; ranges are
 * schedule_check.c's.
 *
 * Every expression stands in the order of torch's own, in double; Python's ** is pow() and
 * math.cos() is cos(), as in CPython. torch's schedulers have three ways to a rate, all kept: the
 * recursive one of step(), what that does when it is called by the constructor ("initial"), and the
 * closed form with which a SequentialLR starts a scheduler at its milestone. */
#include "adam/schedule.h"

#include <math.h>
#include <string.h>

#include "adam/optimizer.h"
#include "schedule_internal.h"

static const double pi = 3.14159265358979323846; /* math.pi */

const char *adam_scheduler_name(adam_scheduler_kind kind)
{
    static const char *const names[ADAM_SCHEDULER_KINDS] = {
        [ADAM_CONSTANT_LR] = "ConstantLR",
        [ADAM_LINEAR_LR] = "LinearLR",
        [ADAM_STEP_LR] = "StepLR",
        [ADAM_MULTI_STEP_LR] = "MultiStepLR",
        [ADAM_EXPONENTIAL_LR] = "ExponentialLR",
        [ADAM_POLYNOMIAL_LR] = "PolynomialLR",
        [ADAM_COSINE_ANNEALING_LR] = "CosineAnnealingLR",
        [ADAM_COSINE_ANNEALING_WARM_RESTARTS] = "CosineAnnealingWarmRestarts",
        [ADAM_ONE_CYCLE_LR] = "OneCycleLR",
        [ADAM_SEQUENTIAL_LR] = "SequentialLR",
    };
    return kind < ADAM_SCHEDULER_KINDS ? names[kind] : "?";
}

void adam_scheduler_default(adam_scheduler_kind kind, adam_scheduler *scheduler)
{
    memset(scheduler, 0, sizeof *scheduler);
    scheduler->kind = kind;
    switch (kind) {
    case ADAM_CONSTANT_LR:
        scheduler->constant = (adam_constant_lr){.factor = 1.0 / 3, .total_iters = 5};
        break;
    case ADAM_LINEAR_LR:
        scheduler->linear =
            (adam_linear_lr){.start_factor = 1.0 / 3, .end_factor = 1.0, .total_iters = 5};
        break;
    case ADAM_STEP_LR: scheduler->step.gamma = 0.1; break;
    case ADAM_MULTI_STEP_LR: scheduler->multi_step.gamma = 0.1; break;
    case ADAM_EXPONENTIAL_LR: scheduler->exponential.gamma = NAN; break;
    case ADAM_POLYNOMIAL_LR:
        scheduler->polynomial = (adam_polynomial_lr){.total_iters = 5, .power = 1.0};
        break;
    case ADAM_COSINE_ANNEALING_WARM_RESTARTS: scheduler->warm_restarts.T_mult = 1; break;
    case ADAM_ONE_CYCLE_LR:
        scheduler->one_cycle = (adam_one_cycle_lr){
            .max_lr = NAN,
            .pct_start = 0.3,
            .anneal_strategy = ADAM_ANNEAL_COS,
            .cycle_momentum = true,
            .base_momentum = 0.85,
            .max_momentum = 0.95,
            .div_factor = 25.0,
            .final_div_factor = 1e4,
        };
        break;
    case ADAM_COSINE_ANNEALING_LR:
    case ADAM_SEQUENTIAL_LR:
    case ADAM_SCHEDULER_KINDS: break;
    }
}

size_t adam_schedule_bytes_of(size_t n)
{
    return sizeof(adam_schedule) + n * sizeof(adam_scheduler);
}

size_t adam_schedule_bytes(const adam_schedule *schedule)
{
    return adam_schedule_bytes_of(schedule->n);
}

/* ---- pieces ---- */

static double number(int64_t epoch)
{
    return (double)epoch;
}

/* torch's Counter(milestones)[epoch]. */
static unsigned milestones_at(const adam_multi_step_lr *a, int64_t epoch)
{
    unsigned count = 0;
    for (size_t i = 0; i < a->n_milestones; i++) {
        count += epoch >= 0 && a->milestones[i] == (uint64_t)epoch;
    }
    return count;
}

double linear_divisor(const adam_linear_lr *a, int64_t epoch)
{
    return number((int64_t)a->total_iters) * a->start_factor +
           number(epoch - 1) * (a->end_factor - a->start_factor);
}

double cosine_divisor(const adam_cosine_annealing_lr *a, int64_t epoch)
{
    return 1 + cos(pi * number(epoch - 1) / (double)a->T_max);
}

bool cosine_turns(const adam_cosine_annealing_lr *a, int64_t epoch)
{
    const int64_t T_max = (int64_t)a->T_max;
    return (epoch - 1 - T_max) % (2 * T_max) == 0;
}

double polynomial_factor(const adam_polynomial_lr *a, int64_t epoch)
{
    const double total = (double)a->total_iters;
    return pow((1.0 - number(epoch) / total) / (1.0 - number(epoch - 1) / total), a->power);
}

/* Halfway along a cosine from eta_min to base and back; torch's closed form. */
static double cosine_closed(double eta_min, double base, double at, double length)
{
    return eta_min + (base - eta_min) * (1 + cos(pi * at / length)) / 2;
}

size_t sequential_turn(const adam_sequential_lr *s, int64_t epoch)
{
    size_t low = 0;
    size_t high = s->n_milestones;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (epoch < (int64_t)s->milestones[middle]) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

size_t schedule_next(const adam_schedule *schedule, bool *starts)
{
    const adam_scheduler *first = &schedule->at[0];
    *starts = false;
    if (first->kind != ADAM_SEQUENTIAL_LR) {
        return 0;
    }
    const int64_t epoch = first->last_epoch + 1;
    const size_t turn = sequential_turn(&first->sequential, epoch);
    *starts = turn > 0 && (int64_t)first->sequential.milestones[turn - 1] == epoch;
    return 1 + turn;
}

/* ---- OneCycleLR ---- */

uint64_t one_cycle_total(const adam_one_cycle_lr *c)
{
    return c->total_steps != 0 ? c->total_steps : c->epochs * c->steps_per_epoch;
}

bool one_cycle_find(const adam_one_cycle_lr *c, int64_t epoch, one_cycle_place *place)
{
    static const one_cycle_place phases[2][3] = {
        {{ONE_CYCLE_INITIAL, ONE_CYCLE_MAX, true, false, 0},
         {ONE_CYCLE_MAX, ONE_CYCLE_MIN, false, true, 0}},
        {{ONE_CYCLE_INITIAL, ONE_CYCLE_MAX, true, false, 0},
         {ONE_CYCLE_MAX, ONE_CYCLE_INITIAL, false, true, 0},
         {ONE_CYCLE_INITIAL, ONE_CYCLE_MIN, true, true, 0}},
    };
    const double total = (double)one_cycle_total(c);
    const double ends[3] = {
        c->pct_start * total - 1,
        c->three_phase ? 2 * c->pct_start * total - 2 : total - 1,
        total - 1,
    };
    const int last = c->three_phase ? 2 : 1;
    int i = 0;
    while (i < last && !(number(epoch) <= ends[i])) {
        i++;
    }
    const double start = i > 0 ? ends[i - 1] : 0.0;
    *place = phases[c->three_phase][i];
    if (ends[i] - start == 0) {
        return false;
    }
    place->pct = (number(epoch) - start) / (ends[i] - start);
    return true;
}

static double anneal(adam_anneal strategy, double start, double end, double pct)
{
    if (strategy == ADAM_ANNEAL_LINEAR) {
        return (end - start) * pct + start;
    }
    const double cos_out = cos(pi * pct) + 1;
    return end + (start - end) / 2.0 * cos_out;
}

/* torch keeps max_lr, min_lr, max_momentum and base_momentum in the group, so where a SequentialLR
 * has several OneCycleLRs all of them use those of the last. */
static const adam_one_cycle_lr *last_cycle(const adam_schedule *schedule, bool with_momentum)
{
    for (size_t i = schedule->n; i-- > 0;) {
        const adam_scheduler *s = &schedule->at[i];
        if (s->kind == ADAM_ONE_CYCLE_LR && (s->one_cycle.cycle_momentum || !with_momentum)) {
            return &s->one_cycle;
        }
    }
    return NULL;
}

static void one_cycle_momentum(const adam_one_cycle_lr *own, const adam_one_cycle_lr *rates,
                               const one_cycle_place *at, adam_options *options)
{
    const double start = at->start_at_max ? rates->max_momentum : rates->base_momentum;
    const double end = at->end_at_max ? rates->max_momentum : rates->base_momentum;
    options->betas[0] = anneal(own->anneal_strategy, start, end, at->pct);
}

static double one_cycle_lr(const adam_schedule *schedule, const adam_scheduler *s,
                           adam_options *options)
{
    const adam_one_cycle_lr *own = &s->one_cycle;
    const adam_one_cycle_lr *group = last_cycle(schedule, false);
    one_cycle_place at;
    (void)one_cycle_find(own, s->last_epoch, &at); /* adam_schedule_can_step has looked */
    const double rates[] = {
        [ONE_CYCLE_INITIAL] = schedule->initial_lr,
        [ONE_CYCLE_MAX] = group->max_lr,
        [ONE_CYCLE_MIN] = schedule->initial_lr / group->final_div_factor,
    };
    if (own->cycle_momentum) {
        one_cycle_momentum(own, last_cycle(schedule, true), &at, options);
    }
    return anneal(own->anneal_strategy, rates[at.start_lr], rates[at.end_lr], at.pct);
}

/* ---- rates ---- */

static double base_of(const adam_schedule *schedule, const adam_scheduler *s)
{
    return schedule->at[0].kind == ADAM_SEQUENTIAL_LR ? s->base_lr : schedule->initial_lr;
}

static double linear_lr(const adam_linear_lr *a, int64_t epoch, double lr)
{
    if (epoch == 0) {
        return lr * a->start_factor;
    }
    if (epoch > (int64_t)a->total_iters) {
        return lr;
    }
    return lr * (1.0 + (a->end_factor - a->start_factor) / linear_divisor(a, epoch));
}

static double cosine_lr(const adam_cosine_annealing_lr *a, int64_t epoch, double base, double lr)
{
    const double T_max = (double)a->T_max;
    if (cosine_turns(a, epoch)) {
        return lr + (base - a->eta_min) * (1 - cos(pi / T_max)) / 2;
    }
    return (1 + cos(pi * number(epoch) / T_max)) / cosine_divisor(a, epoch) * (lr - a->eta_min) +
           a->eta_min;
}

/* torch's get_lr(), `last_epoch` being where it now is. */
static double next_lr(const adam_schedule *schedule, const adam_scheduler *s, bool initial,
                      adam_options *options)
{
    const double lr = options->lr;
    const int64_t epoch = s->last_epoch;
    switch (s->kind) {
    case ADAM_CONSTANT_LR:
        if (epoch == 0) {
            return lr * s->constant.factor;
        }
        return epoch == (int64_t)s->constant.total_iters ? lr * (1.0 / s->constant.factor) : lr;
    case ADAM_LINEAR_LR: return linear_lr(&s->linear, epoch, lr);
    case ADAM_STEP_LR:
        return epoch == 0 || epoch % (int64_t)s->step.step_size != 0 ? lr : lr * s->step.gamma;
    case ADAM_MULTI_STEP_LR: {
        const unsigned count = milestones_at(&s->multi_step, epoch);
        return count == 0 ? lr : lr * pow(s->multi_step.gamma, count);
    }
    case ADAM_EXPONENTIAL_LR: return initial ? lr : lr * s->exponential.gamma;
    case ADAM_POLYNOMIAL_LR:
        return initial || epoch > (int64_t)s->polynomial.total_iters
                   ? lr
                   : lr * polynomial_factor(&s->polynomial, epoch);
    case ADAM_COSINE_ANNEALING_LR:
        return initial ? lr : cosine_lr(&s->cosine, epoch, base_of(schedule, s), lr);
    case ADAM_COSINE_ANNEALING_WARM_RESTARTS:
        return cosine_closed(s->warm_restarts.eta_min, base_of(schedule, s), (double)s->T_cur,
                             (double)s->T_i);
    case ADAM_ONE_CYCLE_LR: return one_cycle_lr(schedule, s, options);
    case ADAM_SEQUENTIAL_LR:
    case ADAM_SCHEDULER_KINDS: break;
    }
    return lr;
}

/* torch's _get_closed_form_lr() at epoch 0, or get_lr() where there is none. */
static double closed_lr(const adam_schedule *schedule, const adam_scheduler *s,
                        adam_options *options)
{
    const double base = base_of(schedule, s);
    switch (s->kind) {
    case ADAM_CONSTANT_LR: {
        const double over = s->constant.total_iters == 0 ? 1.0 : 0.0;
        return base * (s->constant.factor + over * (1 - s->constant.factor));
    }
    case ADAM_LINEAR_LR: return base * s->linear.start_factor; /* the other term is 0 */
    case ADAM_MULTI_STEP_LR:
        return base * pow(s->multi_step.gamma, milestones_at(&s->multi_step, 0));
    case ADAM_COSINE_ANNEALING_LR:
        return cosine_closed(s->cosine.eta_min, base, 0, (double)s->cosine.T_max);
    case ADAM_STEP_LR:
    case ADAM_EXPONENTIAL_LR:
    case ADAM_POLYNOMIAL_LR: return base; /* times 1 */
    case ADAM_COSINE_ANNEALING_WARM_RESTARTS:
    case ADAM_ONE_CYCLE_LR: return next_lr(schedule, s, false, options);
    case ADAM_SEQUENTIAL_LR:
    case ADAM_SCHEDULER_KINDS: break;
    }
    return options->lr;
}

/* ---- positions ---- */

static void advance(adam_scheduler *s)
{
    s->last_epoch++;
    if (s->kind != ADAM_COSINE_ANNEALING_WARM_RESTARTS || s->last_epoch == 0) {
        return;
    }
    s->T_cur++;
    if (s->T_cur >= s->T_i) {
        s->T_cur %= s->T_i;
        s->T_i *= s->warm_restarts.T_mult;
    }
}

void adam_schedule_rewind(adam_schedule *schedule)
{
    for (size_t i = 0; i < schedule->n; i++) {
        adam_scheduler *s = &schedule->at[i];
        s->last_epoch = i > 0 ? -1 : 0;
        s->T_cur = 0;
        s->T_i = s->kind == ADAM_COSINE_ANNEALING_WARM_RESTARTS ? s->warm_restarts.T_0 : 0;
    }
    /* A schedule may come here before it is checked: whose turn it is needs the right counts. */
    const size_t n = schedule->n;
    if (n >= 2 && n <= 1 + ADAM_MAX_SCHEDULERS && schedule->at[0].kind == ADAM_SEQUENTIAL_LR &&
        schedule->at[0].sequential.n_milestones == n - 2) {
        schedule->at[1 + sequential_turn(&schedule->at[0].sequential, 0)].last_epoch = 0;
    }
}

void adam_schedule_start(adam_schedule *schedule, adam_options *options)
{
    adam_schedule_rewind(schedule);
    schedule->initial_lr = options->lr;
    for (size_t i = 0; i < schedule->n; i++) {
        adam_scheduler *s = &schedule->at[i];
        one_cycle_place at;
        if (s->kind == ADAM_ONE_CYCLE_LR) {
            schedule->initial_lr = s->one_cycle.max_lr / s->one_cycle.div_factor;
            if (s->one_cycle.cycle_momentum && one_cycle_find(&s->one_cycle, 0, &at)) {
                one_cycle_momentum(&s->one_cycle, &s->one_cycle, &at, options);
            }
        }
        s->base_lr = schedule->initial_lr;
    }
    size_t turn = 0;
    if (schedule->at[0].kind == ADAM_SEQUENTIAL_LR) {
        /* The constructors of all have moved lr; SequentialLR's own takes it back. */
        options->lr = schedule->initial_lr;
        turn = 1 + sequential_turn(&schedule->at[0].sequential, 0);
    }
    options->lr = next_lr(schedule, &schedule->at[turn], true, options);
}

void adam_schedule_step(adam_schedule *schedule, adam_options *options)
{
    bool starts;
    adam_scheduler *s = &schedule->at[schedule_next(schedule, &starts)];
    if (s != schedule->at) {
        schedule->at[0].last_epoch++;
    }
    if (starts) {
        s->last_epoch = 0;
        options->lr = closed_lr(schedule, s, options);
    } else {
        advance(s);
        options->lr = next_lr(schedule, s, false, options);
    }
}
