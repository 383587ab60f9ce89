/* codec_options.h: hyperparameters in JSON, with torch's names in torch's order, and
 * adamd's own behind them. */
#ifndef ADAMD_CODEC_OPTIONS_H
#define ADAMD_CODEC_OPTIONS_H

#include "adam/optimizer.h"
#include "codec_json.h"

/* The names, for lists of allowed members. */
#define CODEC_OPTION_NAMES                                                                \
    "lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "foreach", "capturable", \
        "differentiable", "fused", "bias_correction", "buffers"

/* Overwrites in `options` what `object` names; other members are left to the caller. Ranges are the
 * core's to check. `where` is for messages: "param group 1". */
codec_status options_read(const json_doc *doc, const json_value *object, const char *where,
                          adam_options *options, codec_error *error);

/* Adds `"lr": 0.1, ... "fused": null`, without braces; behind them adamd's own, those that are not
 * as by default. */
void options_add(text *t, const adam_options *options);
/* The same for a group, with its `initial_lr` and `schedule` behind them, where it has a schedule.
 */
void group_options_add(text *t, const adam_group_view *group);

/* The place, from `place` on, of the first hyperparameter in which two sets differ, or
 * OPTIONS_SAME. */
#define OPTIONS_SAME ((size_t)-1)
size_t options_differ(const adam_options *a, const adam_options *b, size_t place);
/* The name of the one at a place, and its value as JSON. */
const char *options_name(size_t place);
void options_add_value(text *t, const adam_options *options, size_t place);

#endif
