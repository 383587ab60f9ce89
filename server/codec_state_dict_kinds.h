/* codec_state_dict_kinds.h: the tensors that a state_dict has for a parameter. */
#ifndef ADAMD_CODEC_STATE_DICT_KINDS_H
#define ADAMD_CODEC_STATE_DICT_KINDS_H

#include "adam/optimizer.h"

enum { STATE_PARAM, STATE_EXP_AVG, STATE_EXP_AVG_SQ, STATE_MAX_EXP_AVG_SQ, STATE_KINDS };

static const char *const state_kind_names[STATE_KINDS] = {"params", "exp_avg", "exp_avg_sq",
                                                          "max_exp_avg_sq"};

/* Where a moment of that kind stands in a state to be loaded. */
static inline const void **state_kind_slot(adam_param_state *state, int kind)
{
    return kind == STATE_EXP_AVG      ? &state->exp_avg
           : kind == STATE_EXP_AVG_SQ ? &state->exp_avg_sq
                                      : &state->max_exp_avg_sq;
}

/* The data of that kind that a parameter has, or NULL. */
static inline const void *state_kind_data(const adam_param_view *param, int kind)
{
    const void *const data[STATE_KINDS] = {param->tensor.data, param->exp_avg, param->exp_avg_sq,
                                           param->max_exp_avg_sq};
    return data[kind];
}

#endif
