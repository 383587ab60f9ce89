/* group_schedule.c: the schedule of a param group. Leaves what schedulers do to schedule.c. */
#include <math.h>
#include <string.h>

#include "error.h"
#include "optimizer_internal.h"

static bool finite_rates(const adam_options *options)
{
    return isfinite(options->lr) && isfinite(options->betas[0]);
}

bool adam_schedule_peek(const adam_schedule *schedule, adam_options *options)
{
    union {
        adam_schedule schedule;
        char bytes[sizeof(adam_schedule) + (1 + ADAM_MAX_SCHEDULERS) * sizeof(adam_scheduler)];
    } copy;
    memcpy(&copy, schedule, adam_schedule_bytes(schedule));
    adam_schedule_step(&copy.schedule, options);
    return finite_rates(options);
}

adam_status adam_schedule_copy(adam_optimizer *o, const adam_schedule *schedule, adam_block *block,
                               adam_error *error)
{
    *block = (adam_block){0};
    if (schedule == NULL) {
        return ADAM_OK;
    }
    const size_t bytes = adam_schedule_bytes(schedule);
    if (!adam_block_get(o, bytes, block)) {
        return adam_error_no_memory(error, bytes);
    }
    memcpy(block->memory, schedule, bytes);
    return ADAM_OK;
}

adam_status adam_group_start_schedule(adam_optimizer *o, size_t group, const adam_schedule *given,
                                      adam_options *options, adam_block *block, adam_error *error)
{
    adam_status st = adam_schedule_copy(o, given, block, error);
    adam_schedule *schedule = st == ADAM_OK ? block->memory : NULL;
    if (schedule == NULL) {
        return st;
    }
    adam_schedule_rewind(schedule);
    st = adam_schedule_check(schedule, error);
    if (st == ADAM_OK) {
        adam_schedule_start(schedule, options);
        if (!finite_rates(options)) {
            st = adam_error_set(error, ADAM_INVALID_SCHEDULE, "the learning rate would begin at %s",
                                ADAM_DIGITS(options->lr));
        }
    }
    if (st != ADAM_OK) {
        adam_error_in_group(error, group);
        adam_block_put(o, block);
    }
    return st;
}

adam_status adam_optimizer_set_schedule(adam_optimizer *o, size_t group,
                                        const adam_options *options, const adam_schedule *schedule,
                                        adam_error *error)
{
    adam_block max;
    adam_block block = {0};
    adam_options started = *options;
    adam_status st = adam_group_prepare_options(o, group, options, &max, error);
    if (st == ADAM_OK) { /* without the old schedule there is no excuse for an lr below 0 */
        st = adam_options_check(options, error);
    }
    if (st == ADAM_OK) {
        st = adam_group_start_schedule(o, group, schedule, &started, &block, error);
    }
    if (st != ADAM_OK) {
        adam_block_put(o, &max);
        return st;
    }
    adam_group_apply_options(o, group, &started, &max);
    adam_block_put(o, &o->groups[group].schedule);
    o->groups[group].schedule = block;
    return ADAM_OK;
}
