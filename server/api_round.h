/* api_round.h: what the files of a round share. */
#ifndef ADAMD_API_ROUND_H
#define ADAMD_API_ROUND_H

#include "api_step.h"
#include "codec_numbers.h"
#include "codec_options.h"

/* Takes the step of a round that is over, and answers all who wait for it; `rq`, which closed it,
 * gets its reply in `r` (NULL: the time did). False, with the problem set, and nothing has
 * changed nor been answered. */
bool api_round_step(api_context *ctx, instance *inst, worker_round *ended, api_request *rq,
                    const admission *a, reply *r, problem *p);

#endif
