/* codec_state_dict_read.h: what reading a state_dict in JSON and in safetensors share. */
#ifndef ADAMD_CODEC_STATE_DICT_READ_H
#define ADAMD_CODEC_STATE_DICT_READ_H

#include "codec_grad_options.h"
#include "codec_state_dict.h"

/* What both forms have at the top level. */
#define CODEC_STATE_HEAD_NAMES "algorithm", "step", CODEC_GRAD_OPTION_NAMES, "param_groups"

/* A state_dict that is being read. */
typedef struct state_reader {
    const adam_optimizer *optimizer;
    state_dict_load load;
    buffer_pool *pool;
    state_dict *out;
    codec_error *error;
    adam_param_state *states; /* of each parameter, by index */
    adam_options *options;    /* of each group */
    adam_schedule **schedules;
    bool *named; /* whether a group has named the parameter */
} state_reader;

/* Gets the room for what is read. */
codec_status state_reader_begin(state_reader *r);
/* Reads CODEC_STATE_HEAD_NAMES of an object; with LOAD_PARAMS, only looks whether
 * all names in them are known. */
codec_status state_reader_head(state_reader *r, const json_doc *doc, const json_value *object);
/* A step count: `whose` is "" or " of 'w'". */
codec_status state_reader_step(const state_reader *r, const json_doc *doc, const json_value *value,
                               const char *whose, uint64_t *step);
/* The parameter of that name, or CODEC_UNKNOWN_PARAM; `where` has it: "params". */
codec_status state_reader_find(const state_reader *r, const char *where, const char *name,
                               size_t length, size_t *param);
/* Holds type and shape of `what` against the parameter's own. */
codec_status state_reader_fits(const state_reader *r, size_t param, const char *what,
                               const char *dtype, int rank, const uint64_t *shape);
/* CODEC_MISSING_PARAM: `what` of the parameter is not there. */
codec_status state_reader_missing(const state_reader *r, size_t param, const char *what);
/* Whether every parameter has what it needs; fills in what the core takes. */
codec_status state_reader_end(state_reader *r);

/* What stands where something else is expected: a number as it was written, else its type. `value`
 * may be NULL. */
const char *state_reader_got(const json_doc *doc, const json_value *value, char *out, size_t size);

#endif
