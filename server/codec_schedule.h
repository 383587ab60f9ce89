/* codec_schedule.h: learning-rate schedules in JSON, with torch's names. */
#ifndef ADAMD_CODEC_SCHEDULE_H
#define ADAMD_CODEC_SCHEDULE_H

#include "adam/schedule.h"
#include "codec_json.h"

/* Reads a schedule, `{"name": "StepLR", "step_size": 30}`; arguments that are left out are torch's
 * defaults. `position`: with where it stands, as a state_dict has it; otherwise it stands at its
 * start. `where` is for messages: "param group 1". Ranges are adam_schedule_check's to refuse, and
 * initial_lr, which stands beside a schedule, is left at 0. On success *out lies in *room, which
 * the caller drops; on an error there is none. */
codec_status schedule_read(buffer_pool *pool, const json_doc *doc, const json_value *value,
                           const char *where, bool position, buffer **room, adam_schedule **out,
                           codec_error *error);

/* Adds it with its position: `{"name": "StepLR", "step_size": 30, "gamma": 0.1, "last_epoch": 12}`.
 */
void schedule_add(text *t, const adam_schedule *schedule);

#endif
