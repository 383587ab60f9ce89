/* api_record.c: how handlers put steps and changes on record. */
#include <string.h>

#include "api.h"

bool api_note_begin(api_context *ctx, const instance *inst, const adam_options *overrides,
                    step_note *note, problem *p)
{
    const adam_optimizer *o = inst->optimizer;
    const size_t n = adam_optimizer_group_count(o);
    const size_t before = overrides != NULL ? sizeof(adam_options) : 0;
    *note = (step_note){.n_groups = n, .overrides = overrides};
    note->memory = buffer_get(ctx->buffers, n * (sizeof(group_record) + before));
    if (note->memory == NULL) {
        return problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for the step within the budget");
    }
    note->groups = (void *)note->memory->data;
    note->before = overrides != NULL ? (void *)(note->groups + n) : NULL;
    for (size_t i = 0; i < n; i++) {
        const adam_options options = adam_optimizer_group(o, i).options;
        note->groups[i].lr = overrides != NULL ? overrides[i].lr : options.lr;
        if (overrides != NULL) {
            note->before[i] = options;
        }
    }
    return true;
}

/* What the overrides have changed; a schedule may have moved lr on since. */
static void note_overrides(api_context *ctx, const instance *inst, const step_note *note,
                           const adam_step_stats *stats)
{
    const uint64_t step = stats->step - (stats->skipped ? 0 : 1);
    for (size_t i = 0; i < note->n_groups && note->overrides != NULL; i++) {
        const adam_options after =
            stats->skipped ? adam_optimizer_group(inst->optimizer, i).options : note->overrides[i];
        changes_add_options(inst->changes, ctx->buffers, step, i, &note->before[i], &after);
    }
}

void api_note_step(api_context *ctx, const instance *inst, const char *worker,
                   const step_note *note, const adam_step_stats *total,
                   const adam_group_stats *stats)
{
    for (size_t i = 0; i < note->n_groups; i++) {
        note->groups[i].grad_norm = stats[i].grad_norm;
        note->groups[i].param_norm = stats[i].param_norm;
        note->groups[i].update_norm = stats[i].update_norm;
    }
    const step_record record = {.step = total->step,
                                .worker = worker,
                                .worker_length = worker != NULL ? strlen(worker) : 0,
                                .skipped = total->skipped,
                                .grad_norm = total->grad_norm,
                                .param_norm = total->param_norm,
                                .update_norm = total->update_norm,
                                .clip_coef = total->clip_coef,
                                .groups = note->groups,
                                .n_groups = note->n_groups};
    note_overrides(ctx, inst, note, total);
    history_add(inst->history, &record);
    stream_notify(ctx->streams, inst->history);
}

void api_note_drop(step_note *note)
{
    buffer_drop(note->memory);
    note->memory = NULL;
}

void api_note_change(const instance *inst, const char *what, const char *from, const char *to)
{
    changes_add(inst->changes, adam_optimizer_step_count(inst->optimizer), what, from, to);
}
