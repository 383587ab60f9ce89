/* codec_schedule_table.h: the arguments of every scheduler, for reading and printing alike. Knows
 * names and types; defaults and ranges are the core's. */
#ifndef ADAMD_CODEC_SCHEDULE_TABLE_H
#define ADAMD_CODEC_SCHEDULE_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "adam/schedule.h"

typedef enum argument_type {
    ARGUMENT_NUMBER,
    ARGUMENT_COUNT,
    ARGUMENT_COUNT_OR_NONE, /* 0 in the struct stands for None, torch's default */
    ARGUMENT_BOOL,
    ARGUMENT_ANNEAL,
    ARGUMENT_MILESTONES,
    ARGUMENT_SCHEDULERS, /* those that follow in adam_schedule.at */
} argument_type;

/* An argument of one kind. */
typedef struct argument {
    adam_scheduler_kind kind;
    const char *name;
    argument_type type;
    bool required;
    size_t offset; /* of the member of adam_scheduler */
    size_t most;   /* of ARGUMENT_MILESTONES, */
    size_t count;  /* and the offset of their number */
} argument;

/* All of them: each kind's together, in torch's order. */
const argument *schedule_arguments(size_t *n);

/* "cos", "linear". */
const char *schedule_anneal_name(adam_anneal anneal);

#endif
