/* codec_show.h: what an optimizer is, as JSON for people and programs to read. */
#ifndef ADAMD_CODEC_SHOW_H
#define ADAMD_CODEC_SHOW_H

#include "adam/optimizer.h"
#include "buffer.h"
#include "codec_training.h"

/* Elements up to which `data` is shown unasked: where torch's printing begins to summarise. */
#define SHOW_DATA_MAX 1000

typedef enum show_data { SHOW_DATA_SMALL, SHOW_DATA_ALL, SHOW_DATA_NONE } show_data;

/* One group, torch's keys in torch's order. */
void show_group(text *t, const adam_optimizer *optimizer, size_t group, show_data data);
/* torch's param_groups: a list of them. */
void show_param_groups(text *t, const adam_optimizer *optimizer, show_data data);
/* {"name", "shape", "dtype", "data"} */
void show_tensor(text *t, const adam_tensor *tensor, show_data data);
/* {name: nested list, …} of n tensors. */
void show_tensors(text *t, const adam_tensor *tensors, size_t n);
/* Step, moments and their statistics. */
void show_state(text *t, const adam_optimizer *optimizer, size_t param, show_data data);
/* "grad_norm": …, without braces. */
void show_stats(text *t, const adam_step_stats *stats);
/* The norms of each group: a list of objects. */
void show_group_stats(text *t, const adam_group_stats *groups, size_t n, double clip_coef);
/* The norms alone, of a group or of a step that was; without braces. */
void show_norms(text *t, double grad_norm, double param_norm, double update_norm, double clip_coef);
/* What a summary shows. */
typedef struct optimizer_info {
    adam_algorithm algorithm;
    uint64_t step, epoch, numel;
    size_t groups, params, bytes;
    adam_options defaults;
    adam_grad_options grad_options;
    training training;
    uint64_t skipped;
} optimizer_info;

void show_summary(text *t, const char *name, const optimizer_info *info);

#endif
