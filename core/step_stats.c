/* step_stats.c: what a step did, from the sums of its chunks. */
#include <math.h>

#include "step_internal.h"

static void add_sums(adam_sums *to, const adam_sums *more)
{
    to->grad += more->grad;
    to->param += more->param;
    to->update += more->update;
}

static adam_group_stats make_stats(const adam_sums *sums)
{
    return (adam_group_stats){
        .grad_norm = sqrt(sums->grad),
        .param_norm = sqrt(sums->param),
        .update_norm = sqrt(sums->update),
    };
}

adam_group_stats adam_step_collect(const adam_step_plan *plan, adam_group_stats *groups)
{
    adam_sums total = {0};
    adam_sums group = {0};
    for (size_t i = 0; groups != NULL && i < plan->optimizer->n_groups; i++) {
        groups[i] = (adam_group_stats){0};
    }
    for (size_t i = 0; i < plan->n_entries; i++) {
        const adam_step_entry *e = &plan->entries[i];
        adam_sums own = {0};
        const size_t end = e->first_chunk + adam_step_chunks(e->param->numel);
        for (size_t c = e->first_chunk; c < end; c++) {
            add_sums(&own, &plan->sums[c]);
        }
        if (i > 0 && e[-1].param->group != e->param->group) {
            group = (adam_sums){0};
        }
        add_sums(&group, &own);
        add_sums(&total, &own);
        if (groups != NULL) {
            groups[e->param->group] = make_stats(&group);
        }
    }
    return make_stats(&total);
}
