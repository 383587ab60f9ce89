/* api_step.h: what the files that take steps share. */
#ifndef ADAMD_API_STEP_H
#define ADAMD_API_STEP_H

#include "api.h"
#include "codec_tensor_body.h"
#include "outgoing.h"

/* What a step did, and the room for its norms by group, as numbers and as metadata. */
typedef struct outcome {
    adam_step_stats stats;
    adam_group_stats *groups;
    size_t n_groups;
    uint64_t held; /* gradients that wait for the step, which was not taken; 0: it was */
    buffer *room;
    text group_text;
    step_note note;
} outcome;

/* False, with the problem set: no memory. In any case the caller drops it. */
bool outcome_begin(api_context *ctx, const adam_optimizer *o, outcome *did, problem *p);
void outcome_drop(outcome *did);

/* Room for the whole text of the reply, before the step: afterwards nothing may fail. */
bool step_reply_reserve(const outgoing *out, const outcome *did, bool json, text *t, problem *p);
/* Makes it, in that room; without parameters where the client wants none. */
void step_reply_make(const outgoing *out, outcome *did, media wanted, text *t, reply *r);
void step_reply_minimal(const outcome *did, reply *r);
/* The reply without a step: the parameters that the body names, as they are. */
bool step_reply_current(api_context *ctx, api_request *rq, const tensor_body *body, outcome *did,
                        reply *r, problem *p);

/* What a request to step brings beside its body. */
typedef struct admission {
    fingerprint body; /* where it has a key */
    bool has_staleness;
    uint64_t staleness;
} admission;

/* Keeps the new parameters for readers, where the step took in all of them. Without memory for it,
 * the next reader copies. */
void step_publish(api_context *ctx, instance *inst, const outgoing *out);
/* The options of a step whose gradients are that stale. */
adam_grad_options step_grad_options(const instance *inst, const adam_grad_options *options,
                                    const admission *a);

/* ---- api_round.c ---- */

/* Adds the body to the round, whose step it may bring about. Takes the body, but for a refusal. */
bool api_round_join(api_context *ctx, api_request *rq, const admission *a, tensor_body *body,
                    reply *r, problem *p);
/* Waits with the first request of the same key. */
bool api_round_wait_along(api_context *ctx, api_request *rq, reply *r, problem *p);

#endif
