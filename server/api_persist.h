/* api_persist.h: what handlers put into the journal, and how that is done again. */
#ifndef ADAMD_API_PERSIST_H
#define ADAMD_API_PERSIST_H

#include "api_step.h"
#include "codec_journal.h"

/* A step, when all about it is settled and it cannot fail. False, with the problem set: it is not
 * on record, and must not be taken. */
typedef struct step_to_keep {
    const adam_tensor *tensors; /* the gradient as the core gets it */
    size_t n;
    const char *data; /* where their numbers lie, in one piece */
    size_t data_length;
    journal_step step;
} step_to_keep;
bool api_keep_step(api_context *ctx, instance *inst, const step_to_keep *keep, uint64_t *lsn,
                   problem *p);
/* The request itself, which changes its optimizer, from its strand. */
bool api_keep_request(api_context *ctx, api_request *rq, instance *inst, problem *p);
/* The same where what is asked has been done already: if it cannot be kept, nothing is from now on.
 */
bool api_keep_change(api_context *ctx, api_request *rq, problem *p);
/* Makes sure that it can be kept. */
bool api_reserve_request(api_context *ctx, const api_request *rq, problem *p);
/* Makes an optimizer from the body that it was created with, not yet under its name; held once.
 * NULL, with the problem set, where that cannot be. */
instance *api_make_again(api_context *ctx, media sent, buffer *body, const char *name, uint64_t id,
                         problem *p);
/* Takes a step of the journal again. */
bool api_replay_step(api_context *ctx, instance *inst, const journal_record *record, problem *p);

#endif
