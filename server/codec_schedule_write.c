/* codec_schedule_write.c: schedules as JSON, with where they stand. */
#include "codec_numbers.h"
#include "codec_schedule.h"
#include "codec_schedule_table.h"

static void add_scheduler(text *t, const adam_schedule *schedule, size_t i);

static void add_counts(text *t, const uint64_t *counts, size_t n)
{
    text_add(t, "[", 1);
    for (size_t i = 0; i < n; i++) {
        text_add_string(t, i > 0 ? ", " : "");
        json_add_uint(t, counts[i]);
    }
    text_add(t, "]", 1);
}

static void add_children(text *t, const adam_schedule *schedule)
{
    text_add(t, "[", 1);
    for (size_t i = 1; i < schedule->n; i++) {
        text_add_string(t, i > 1 ? ", " : "");
        add_scheduler(t, schedule, i);
    }
    text_add(t, "]", 1);
}

static void add_argument(text *t, const adam_schedule *schedule, const adam_scheduler *s,
                         const argument *a)
{
    const void *member = (const char *)s + a->offset;
    const uint64_t *counts = member;
    if (a->type == ARGUMENT_COUNT_OR_NONE && *counts == 0) {
        return;
    }
    text_add_format(t, ", \"%s\": ", a->name);
    switch (a->type) {
    case ARGUMENT_NUMBER: json_add_double(t, *(const double *)member); break;
    case ARGUMENT_COUNT:
    case ARGUMENT_COUNT_OR_NONE: json_add_uint(t, *counts); break;
    case ARGUMENT_BOOL: text_add_string(t, *(const bool *)member ? "true" : "false"); break;
    case ARGUMENT_ANNEAL:
        text_add_format(t, "\"%s\"", schedule_anneal_name(*(const adam_anneal *)member));
        break;
    case ARGUMENT_MILESTONES:
        add_counts(t, counts, *(const size_t *)(const void *)((const char *)s + a->count));
        break;
    case ARGUMENT_SCHEDULERS: add_children(t, schedule); break;
    }
}

static void add_scheduler(text *t, const adam_schedule *schedule, size_t i)
{
    const adam_scheduler *s = &schedule->at[i];
    text_add_format(t, "{\"name\": \"%s\"", adam_scheduler_name(s->kind));
    size_t count;
    const argument *table = schedule_arguments(&count);
    for (size_t k = 0; k < count; k++) {
        if (table[k].kind == s->kind) {
            add_argument(t, schedule, s, &table[k]);
        }
    }
    text_add_format(t, ", \"last_epoch\": %lld", (long long)s->last_epoch);
    if (s->kind == ADAM_COSINE_ANNEALING_WARM_RESTARTS) {
        text_add_format(t, ", \"T_cur\": %llu, \"T_i\": %llu", (unsigned long long)s->T_cur,
                        (unsigned long long)s->T_i);
    }
    if (i > 0) {
        text_add_string(t, ", \"base_lr\": ");
        json_add_double(t, s->base_lr);
    }
    text_add(t, "}", 1);
}

void schedule_add(text *t, const adam_schedule *schedule)
{
    add_scheduler(t, schedule, 0);
}
