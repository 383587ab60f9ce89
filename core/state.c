/* state.c: overwriting parameters and whole states, checked before anything changes. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "optimizer_internal.h"

/* For each parameter of the optimizer, which of the given tensors is its own. */
typedef struct matching {
    adam_block room;
    size_t *from;
    unsigned char *marks;
} matching;

/* Matches n tensors to all parameters, each once. `stride` is the distance from one adam_tensor to
 * the next, so that tensors inside larger structs will do. On success the caller puts m->room. */
static adam_status match_all(adam_optimizer *o, const void *tensors, size_t n, size_t stride,
                             const char *what, matching *m, adam_error *error)
{
    const size_t bytes = o->n_params * sizeof(size_t) + adam_marks_bytes(o->n_params);
    if (!adam_block_get(o, bytes, &m->room)) {
        return adam_error_no_memory(error, bytes);
    }
    m->from = m->room.memory;
    m->marks = (unsigned char *)m->room.memory + o->n_params * sizeof(size_t);
    adam_status st = ADAM_OK;
    for (size_t i = 0; i < n; i++) {
        const adam_tensor *t = (const void *)((const char *)tensors + i * stride);
        size_t param;
        st = adam_optimizer_match(o, t, what, &param, error);
        if (st != ADAM_OK) {
            goto out;
        }
        if (!adam_mark_once(m->marks, param)) {
            st = adam_error_set(error, ADAM_DUPLICATE_PARAM, "'%.*s' is given twice",
                                (int)t->name_len, t->name);
            adam_error_param(error, t->name, t->name_len);
            goto out;
        }
        m->from[param] = i;
    }
    for (size_t i = 0; i < o->n_params; i++) {
        if (adam_mark_once(m->marks, i)) {
            const adam_tensor *t = &o->params[i].tensor;
            st =
                adam_error_set(error, ADAM_MISSING_PARAM,
                               "%s of '%s' is missing: every parameter is expected", what, t->name);
            adam_error_param(error, t->name, t->name_len);
            goto out;
        }
    }
    return ADAM_OK;
out:
    adam_block_put(o, &m->room);
    return st;
}

static void copy(const adam_param *p, void *to, const void *from)
{
    const size_t bytes = p->numel * adam_dtype_size(p->tensor.dtype);
    if (bytes > 0) {
        memcpy(to, from, bytes);
    }
}

adam_status adam_optimizer_set_params(adam_optimizer *o, const adam_tensor *params, size_t n_params,
                                      adam_error *error)
{
    matching m;
    adam_status st = match_all(o, params, n_params, sizeof *params, "value", &m, error);
    if (st != ADAM_OK) {
        return st;
    }
    for (size_t i = 0; i < o->n_params; i++) {
        copy(&o->params[i], o->params[i].tensor.data, params[m.from[i]].data);
    }
    adam_block_put(o, &m.room);
    return ADAM_OK;
}

static adam_status mismatch(const adam_param_state *s, const char *why, adam_error *error)
{
    adam_error_set(error, ADAM_STATE_MISMATCH, "state of '%.*s': %s", (int)s->tensor.name_len,
                   s->tensor.name, why);
    adam_error_param(error, s->tensor.name, s->tensor.name_len);
    return ADAM_STATE_MISMATCH;
}

/* Whether the states of one group fit its new options and each other. */
static adam_status check_group(const adam_optimizer *o, const adam_state_dict *d, const matching *m,
                               size_t group, adam_error *error)
{
    const adam_group *g = &o->groups[group];
    if (d->groups[group].buffers != g->options.buffers) {
        return adam_error_set(error, ADAM_STATE_MISMATCH,
                              "buffers of param group %zu is %s, expected %s, as the optimizer has",
                              group, g->options.buffers ? "false" : "true",
                              g->options.buffers ? "true" : "false");
    }
    for (size_t i = g->first_param; i < g->first_param + g->n_params; i++) {
        const adam_param_state *s = &d->params[m->from[i]];
        if (s->step > d->step) {
            char why[128];
            (void)snprintf(why, sizeof why, "its step is %llu, past the optimizer's, %llu",
                           (unsigned long long)s->step, (unsigned long long)d->step);
            return mismatch(s, why, error);
        }
        if (s->exp_avg == NULL || s->exp_avg_sq == NULL) {
            return mismatch(s, "exp_avg and exp_avg_sq are both needed", error);
        }
        if (d->groups[group].amsgrad && s->max_exp_avg_sq == NULL) {
            return mismatch(s, "its group has amsgrad, so max_exp_avg_sq is needed", error);
        }
    }
    adam_options options = d->groups[group];
    const bool scheduled = d->schedules != NULL && d->schedules[group] != NULL;
    if (scheduled && isfinite(options.lr) && isfinite(options.betas[0])) {
        options.lr = 0; /* a OneCycleLR may end beyond the ranges that hold for people */
        options.betas[0] = 0;
    }
    return adam_options_check(&options, error);
}

static adam_status check_state(const adam_optimizer *o, const adam_state_dict *d, const matching *m,
                               adam_error *error)
{
    if (d->step > ADAM_MAX_STEP) {
        return adam_error_set(error, ADAM_STATE_MISMATCH, "step is %llu, expected at most 2^53",
                              (unsigned long long)d->step);
    }
    if (d->grad_options != NULL) {
        adam_status st = adam_grad_options_check(d->grad_options, error);
        if (st != ADAM_OK) {
            return st;
        }
    }
    if (d->n_groups != o->n_groups) {
        return adam_error_set(error, ADAM_STATE_MISMATCH,
                              "the state has %zu param groups, the optimizer has %zu", d->n_groups,
                              o->n_groups);
    }
    for (size_t i = 0; i < o->n_groups; i++) {
        adam_status st = check_group(o, d, m, i, error);
        if (st != ADAM_OK) {
            return st;
        }
    }
    return ADAM_OK;
}

/* Whether the group needs room for max_exp_avg_sq. */
static bool group_has_max(const adam_optimizer *o, const adam_state_dict *d, const matching *m,
                          size_t group)
{
    const adam_group *g = &o->groups[group];
    bool any = d->groups[group].amsgrad;
    for (size_t i = g->first_param; !any && i < g->first_param + g->n_params; i++) {
        any = d->params[m->from[i]].max_exp_avg_sq != NULL;
    }
    return any;
}

/* Gets, for each group that needs one and has none, the block of max_exp_avg_sq. */
static adam_status prepare_max(adam_optimizer *o, const adam_state_dict *d, const matching *m,
                               adam_block *blocks, adam_error *error)
{
    for (size_t i = 0; i < o->n_groups; i++) {
        if (group_has_max(o, d, m, i) && o->groups[i].max_exp_avg_sq.memory == NULL) {
            const size_t bytes = adam_group_max_bytes(o, i);
            if (!adam_block_get(o, bytes, &blocks[i])) {
                return adam_error_no_memory(error, bytes);
            }
        }
    }
    return ADAM_OK;
}

/* Copies of the schedules, in `blocks`. */
static adam_status prepare_schedules(adam_optimizer *o, const adam_state_dict *d,
                                     adam_block *blocks, adam_error *error)
{
    adam_status st = ADAM_OK;
    for (size_t i = 0; d->schedules != NULL && st == ADAM_OK && i < o->n_groups; i++) {
        if (d->schedules[i] != NULL) {
            st = adam_schedule_check(d->schedules[i], error);
        }
        if (st != ADAM_OK) {
            adam_error_in_group(error, i);
        }
        if (st == ADAM_OK) {
            st = adam_schedule_copy(o, d->schedules[i], &blocks[i], error);
        }
    }
    return st;
}

/* `max` and `schedules` hold a block for each group, which they get. */
static void apply_groups(adam_optimizer *o, const adam_state_dict *d, const matching *m,
                         const adam_block *max, const adam_block *schedules)
{
    for (size_t i = 0; i < o->n_groups; i++) {
        adam_group *g = &o->groups[i];
        g->options = d->groups[i];
        adam_block_put(o, &g->schedule);
        g->schedule = schedules[i];
        if (!group_has_max(o, d, m, i)) {
            adam_group_drop_max(o, i);
            continue;
        }
        if (max[i].memory != NULL) {
            g->max_exp_avg_sq = max[i];
        }
        adam_group_place_max(o, i);
    }
}

static void apply_state(adam_optimizer *o, const adam_state_dict *d, const matching *m,
                        const adam_block *max, const adam_block *schedules)
{
    o->step = d->step;
    if (d->grad_options != NULL) {
        o->grad_options = *d->grad_options;
    }
    if (d->skipped != NULL) {
        o->skipped = *d->skipped;
    }
    apply_groups(o, d, m, max, schedules);
    for (size_t i = 0; i < o->n_params; i++) {
        adam_param *p = &o->params[i];
        const adam_param_state *s = &d->params[m->from[i]];
        p->step = s->step;
        copy(p, p->tensor.data, s->tensor.data);
        copy(p, p->exp_avg, s->exp_avg);
        copy(p, p->exp_avg_sq, s->exp_avg_sq);
        const bool has_max = s->step > 0 || o->groups[p->group].options.amsgrad;
        if (s->max_exp_avg_sq != NULL && has_max) {
            copy(p, p->max_exp_avg_sq, s->max_exp_avg_sq);
        } else {
            p->max_exp_avg_sq = NULL;
        }
    }
}

adam_status adam_optimizer_load_state(adam_optimizer *o, const adam_state_dict *d,
                                      adam_error *error)
{
    matching m;
    adam_block list = {0};
    adam_status st = match_all(o, d->params, d->n_params, sizeof *d->params, "state", &m, error);
    if (st != ADAM_OK) {
        return st;
    }
    st = check_state(o, d, &m, error);
    if (st != ADAM_OK) {
        goto out;
    }
    const size_t list_bytes = 2 * o->n_groups * sizeof(adam_block);
    if (!adam_block_get(o, list_bytes, &list)) {
        st = adam_error_no_memory(error, list_bytes);
        goto out;
    }
    adam_block *max = list.memory;
    adam_block *schedules = max + o->n_groups;
    st = prepare_max(o, d, &m, max, error);
    if (st == ADAM_OK) {
        st = prepare_schedules(o, d, schedules, error);
    }
    if (st == ADAM_OK) {
        apply_state(o, d, &m, max, schedules);
    } else {
        for (size_t i = 0; i < 2 * o->n_groups; i++) {
            adam_block_put(o, &max[i]);
        }
    }
out:
    adam_block_put(o, &list);
    adam_block_put(o, &m.room);
    return st;
}
