/* codec_history.h: steps and changes that were, as JSON. */
#ifndef ADAMD_CODEC_HISTORY_H
#define ADAMD_CODEC_HISTORY_H

#include "adam/optimizer.h"
#include "buffer.h"

/* One param group in one step. */
typedef struct group_record {
    double lr; /* with which it was taken */
    double grad_norm, param_norm, update_norm;
} group_record;

typedef struct step_record {
    uint64_t step;      /* the optimizer's step count after it */
    int64_t time_ms;    /* since 1970, UTC */
    const char *worker; /* worker_length bytes, of visible ASCII; 0: none */
    size_t worker_length;
    bool skipped;
    double grad_norm, param_norm, update_norm, clip_coef;
    const group_record *groups;
    size_t n_groups;
} step_record;

/* What was changed, and from what to what: JSON texts, of these lengths. */
typedef struct change_record {
    uint64_t step;   /* the optimizer's step count: in force from the step after it */
    int64_t time_ms; /* since 1970, UTC */
    const char *what, *from, *to;
    size_t what_length, from_length, to_length;
} change_record;

/* One line of JSON, without its end. */
void show_step(text *t, const step_record *record);
void show_change(text *t, const change_record *record);
/* A moment between the years 0 and 9999, "2026-11-24T18:20:00.123Z", in quotes. */
void show_time(text *t, int64_t time_ms);

#endif
