/* api_round.c: gradients that are held until they make a step together: who joins, when the round
 * is over, and who is told what. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api_persist.h"
#include "api_round.h"

/* ---- what a round waits for ---- */

/* How many gradients close it: the workers that are gone are not waited for where it is elastic. */
static uint64_t wanted(instance *inst)
{
    const training *how = &inst->training;
    workers *all = atomic_load(&inst->workers);
    if (how->aggregation.mode == AGGREGATION_BUFFERED) {
        return how->aggregation.size;
    }
    if (how->aggregation.mode != AGGREGATION_SYNC) {
        return 1;
    }
    if (!how->aggregation.elastic || all == NULL) {
        return how->aggregation.workers;
    }
    api_see_waiting(inst);
    const uint64_t gone = workers_gone(all);
    return gone < how->aggregation.workers ? how->aggregation.workers - gone : 1;
}

/* How many are enough when the time is up. */
static uint64_t enough(instance *inst, uint64_t all)
{
    const uint64_t quorum = inst->training.aggregation.quorum;
    return quorum < all ? quorum : all;
}

uint64_t api_round_due(instance *inst)
{
    const aggregation *how = &inst->training.aggregation;
    workers *all = atomic_load(&inst->workers);
    if (how->mode != AGGREGATION_SYNC || inst->round.first == NULL) {
        return ALARM_NEVER;
    }
    const uint64_t end = inst->round.opened + how->timeout_ms;
    const int64_t gone = how->elastic && all != NULL ? workers_next_gone_ms(all) : -1;
    const uint64_t lower = gone >= 0 ? alarm_now() + (uint64_t)gone + 1 : end;
    return lower < end ? lower : end;
}

/* ---- the end of a round ---- */

/* Tells everybody, but `but`, that nothing comes of the round, and drops its gradients. */
static void fail(api_context *ctx, instance *inst, worker_round *ended, const api_request *but,
                 const problem *p)
{
    for (contribution *c = ended->first; c != NULL; c = c->next) {
        const key_record *record = c->key[0] != '\0' ? idempotency_find(inst->keys, c->key) : NULL;
        if (record != NULL && record->pending) {
            idempotency_abort(inst->keys, c->key);
        }
        for (api_request *rq = c->waiting, *next; rq != NULL; rq = next) {
            next = rq->next_waiting;
            if (rq != but) {
                reply_problem(rq->reply, p, ctx->buffers);
                api_answer(ctx, rq);
            }
        }
    }
    round_clear(ended);
}

void api_round_fail(api_context *ctx, instance *inst, const problem *p)
{
    problem with_step = *p;
    worker_round ended = inst->round;
    inst->round = (worker_round){0};
    with_step.has_step = true;
    with_step.step = instance_info(inst).step;
    fail(ctx, inst, &ended, NULL, &with_step);
}

/* Whatever the round comes to, it is over; but buffered gradients that were accepted stay, where
 * the one that would have closed the round is refused. */
static bool close_round(api_context *ctx, instance *inst, contribution *last, api_request *rq,
                        const admission *a, reply *r, problem *p)
{
    worker_round ended = inst->round;
    inst->round = (worker_round){0};
    const bool done = api_round_step(ctx, inst, &ended, rq, a, r, p);
    if (done) {
        round_clear(&ended);
    } else if (inst->training.aggregation.mode == AGGREGATION_BUFFERED && last != NULL) {
        if (last->key[0] != '\0') {
            idempotency_abort(inst->keys, last->key);
        }
        round_remove(&ended, last);
        inst->round = ended;
    } else {
        p->has_step = true;
        p->step = instance_info(inst).step;
        fail(ctx, inst, &ended, rq, p);
    }
    if (rq != NULL) {
        rq->of_round = true;
    }
    return done;
}

void api_round_tick(api_context *ctx, instance *inst)
{
    problem p;
    const aggregation *how = &inst->training.aggregation;
    const worker_round *open = &inst->round;
    if (how->mode != AGGREGATION_SYNC || open->first == NULL) {
        return;
    }
    const uint64_t all = wanted(inst);
    const uint64_t quorum = enough(inst, all);
    const bool late = alarm_now() >= open->opened + how->timeout_ms;
    if (open->n >= all || (late && open->n >= quorum)) {
        const admission none = {0};
        (void)close_round(ctx, inst, NULL, NULL, &none, NULL, &p);
    } else if (late) {
        problem_set(&p, PROBLEM_ROUND_TIMEOUT,
                    "after %llu ms the round has %zu gradients of %llu, and needs %llu: they were "
                    "dropped, nothing has changed",
                    (unsigned long long)how->timeout_ms, open->n, (unsigned long long)all,
                    (unsigned long long)quorum);
        p.has_round = true;
        p.have = open->n;
        p.quorum = quorum;
        api_round_fail(ctx, inst, &p);
    }
}

/* ---- joining ---- */

/* Looks at the gradient alone, before it is mixed with others: shapes, names, NaN and infinity. */
static bool check_gradient(api_context *ctx, const api_request *rq, const tensor_body *body,
                           bool *finite, problem *p)
{
    adam_grad_options options = body->grad_options;
    options.nonfinite = ADAM_NONFINITE_ERROR;
    options.error_if_nonfinite = false;
    options.max_grad_norm = INFINITY; /* of the reduced gradient */
    const adam_step_args args = {.grads = body->tensors,
                                 .n_grads = body->n,
                                 .groups = body->overrides,
                                 .grad_options = &options,
                                 .pool = ctx->pool,
                                 .scratch = &ctx->scratch};
    adam_error error;
    adam_step_plan *plan;
    const adam_status st = adam_step_prepare(rq->instance->optimizer, &args, &plan, &error);
    *finite = st != ADAM_NON_FINITE;
    if (st == ADAM_OK) {
        adam_step_discard(plan);
        return true;
    }
    return (st == ADAM_NON_FINITE && body->grad_options.nonfinite != ADAM_NONFINITE_ERROR) ||
           problem_from_adam(p, &error);
}

static bool same_grad_options(const adam_grad_options *a, const adam_grad_options *b)
{
    return a->grad_scale == b->grad_scale && a->nonfinite == b->nonfinite &&
           a->max_grad_norm == b->max_grad_norm && a->norm_type == b->norm_type &&
           a->error_if_nonfinite == b->error_if_nonfinite && a->clip_value == b->clip_value;
}

/* Whether two bodies ask for the same settings of the step. */
static bool same_settings(const adam_optimizer *o, const tensor_body *a, const tensor_body *b)
{
    if (a->own_grad_options != b->own_grad_options ||
        (a->overrides != NULL) != (b->overrides != NULL) ||
        (a->own_grad_options && !same_grad_options(&a->grad_options, &b->grad_options))) {
        return false;
    }
    for (size_t i = 0; a->overrides != NULL && i < adam_optimizer_group_count(o); i++) {
        if (options_differ(&a->overrides[i], &b->overrides[i], 0) != OPTIONS_SAME) {
            return false;
        }
    }
    return true;
}

/* Whether the gradient can be one of the round that is open. */
static bool check_fit(api_context *ctx, const api_request *rq, const tensor_body *body, problem *p)
{
    instance *inst = rq->instance;
    const aggregation *how = &inst->training.aggregation;
    contribution *first = inst->round.first;
    codec_error error;
    if (how->mode == AGGREGATION_SYNC && round_find_worker(&inst->round, rq->worker) != NULL) {
        problem_set(p, PROBLEM_ALREADY_CONTRIBUTED,
                    "worker '%s' has sent its gradient of this round; a repeat has the same "
                    "Idempotency-Key",
                    rq->worker);
        (void)snprintf(p->worker, sizeof p->worker, "%s", rq->worker);
        p->has_step = true;
        p->step = instance_info(inst).step;
        return false;
    }
    if (first == NULL) {
        return true;
    }
    if (how->strict && !round_same_params(&first->body, body)) {
        return problem_set(p, PROBLEM_ROUND_CONFLICT,
                           "the gradient has %zu parameters, others than the %zu of the first in "
                           "this round, and the aggregation is strict",
                           body->n, first->body.n);
    }
    /* the optimizer's own may have changed since the first */
    if (tensor_body_reread_overrides(ctx->buffers, inst->optimizer, &first->body, &error) !=
        CODEC_OK) {
        return problem_from_codec(p, &error);
    }
    return same_settings(inst->optimizer, &first->body, body) ||
           problem_set(p, PROBLEM_ROUND_CONFLICT,
                       "the param_groups or settings of gradients in the step are not those of the "
                       "first in this round");
}

/* Makes the contribution, with its key pending. NULL, with the problem set: no memory. */
static contribution *take_contribution(api_context *ctx, const api_request *rq, const admission *a,
                                       tensor_body *body, problem *p)
{
    instance *inst = rq->instance;
    const size_t groups = adam_optimizer_group_count(inst->optimizer);
    if (rq->key == NULL || idempotency_begin(inst->keys, rq->key, a->body, groups)) {
        contribution *c =
            contribution_create(ctx->memory, body, rq->body, rq->worker, rq->key, rq->weight);
        if (c != NULL) {
            return c;
        }
        if (rq->key != NULL) {
            idempotency_abort(inst->keys, rq->key);
        }
    }
    problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for the gradient within the budget");
    return NULL;
}

static void note_worker(api_context *ctx, const api_request *rq, const admission *a, bool finite)
{
    workers *all = rq->worker != NULL ? api_workers_of(ctx, rq->instance) : NULL;
    if (all != NULL && finite) {
        workers_accepted(all, rq->worker, rq->weight, a->has_staleness, a->staleness);
    } else if (all != NULL) {
        workers_nonfinite(all, rq->worker,
                          (unsigned)rq->instance->training.max_consecutive_nonfinite);
    }
}

/* The answer to a gradient that is held, and that nobody waits for: the parameters as they are. */
static bool answer_held(api_context *ctx, api_request *rq, const tensor_body *body, outcome *did,
                        reply *r, problem *p)
{
    const optimizer_info info = instance_info(rq->instance);
    did->held = rq->instance->round.n + 1;
    did->stats = (adam_step_stats){.step = info.step, .clip_coef = 1};
    memset(did->groups, 0, did->n_groups * sizeof *did->groups);
    return step_reply_current(ctx, rq, body, did, r, p);
}

static void begin_waiting(api_context *ctx, api_request *rq, contribution *c, reply *r)
{
    rq->next_waiting = c->waiting;
    c->waiting = rq;
    r->wait = REPLY_WAITS;
    api_set_alarm(ctx, rq->instance);
}

bool api_round_wait_along(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    contribution *c = round_find_key(&rq->instance->round, rq->key);
    if (c == NULL || !rq->may_wait) {
        return problem_set(p, PROBLEM_BUSY, "the first request of this key is under way");
    }
    r->replayed = true;
    begin_waiting(ctx, rq, c, r);
    return true;
}

/* A gradient that is answered before its step goes into the journal as it came. */
static bool keep_held(api_context *ctx, api_request *rq, contribution *c, problem *p)
{
    if (!api_keep_request(ctx, rq, rq->instance, p)) {
        return false;
    }
    c->lsn = rq->lsn;
    return true;
}

/* Adds the contribution of a request that is not yet answered, and answers it or lets it wait. */
static bool join(api_context *ctx, api_request *rq, const admission *a, tensor_body *body,
                 bool finite, outcome *did, reply *r, problem *p)
{
    instance *inst = rq->instance;
    const aggregation_mode mode = inst->training.aggregation.mode;
    const bool closes = inst->round.n + 1 >= wanted(inst);
    if (closes && rq->recovers) { /* the step has a record of its own */
        return problem_set(p, PROBLEM_STATE_MISMATCH,
                           "it is of a gradient that was held, but here it would end the round");
    }
    if (!closes && mode == AGGREGATION_BUFFERED && !answer_held(ctx, rq, body, did, r, p)) {
        return false;
    }
    contribution *c = take_contribution(ctx, rq, a, body, p);
    if (c == NULL) {
        reply_drop(r);
        return false;
    }
    if (!closes && mode == AGGREGATION_BUFFERED && !keep_held(ctx, rq, c, p)) {
        if (rq->key != NULL) {
            idempotency_abort(inst->keys, rq->key);
        }
        contribution_free(c);
        reply_drop(r);
        return false;
    }
    if (inst->round.n == 0) {
        inst->round.opened = alarm_now();
    }
    round_add(&inst->round, c);
    note_worker(ctx, rq, a, finite);
    if (closes) {
        return close_round(ctx, inst, c, rq, a, r, p);
    }
    if (mode == AGGREGATION_SYNC) {
        begin_waiting(ctx, rq, c, r);
    } else if (rq->key != NULL) {
        idempotency_end(inst->keys, rq->key, 202, did->held, &did->stats, did->groups);
    }
    return true;
}

bool api_round_join(api_context *ctx, api_request *rq, const admission *a, tensor_body *body,
                    reply *r, problem *p)
{
    bool finite;
    outcome did;
    if (atomic_load(&ctx->draining)) {
        return problem_set(p, PROBLEM_DRAINING, "the server is shutting down");
    }
    if (!check_fit(ctx, rq, body, p) || !check_gradient(ctx, rq, body, &finite, p)) {
        return false;
    }
    const bool done = outcome_begin(ctx, rq->instance->optimizer, &did, p) &&
                      join(ctx, rq, a, body, finite, &did, r, p);
    outcome_drop(&did);
    return done;
}

/* ---- looking at it ---- */

bool api_get_round(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    instance *inst = rq->instance;
    const aggregation *how = &inst->training.aggregation;
    const uint64_t all = wanted(inst);
    size_t waiting = 0;
    text t = {.pool = ctx->buffers};
    for (const contribution *c = inst->round.first; c != NULL; c = c->next) {
        for (const api_request *w = c->waiting; w != NULL; w = w->next_waiting) {
            waiting++;
        }
    }
    text_add_format(
        &t,
        "{\"mode\": \"%s\", \"step\": %llu, \"open\": %s, \"gradients\": %zu, "
        "\"wanted\": %llu, \"quorum\": %llu, \"waiting\": %zu, \"workers\": [",
        aggregation_mode_name(how->mode), (unsigned long long)instance_info(inst).step,
        inst->round.first != NULL ? "true" : "false", inst->round.n, (unsigned long long)all,
        (unsigned long long)(how->mode == AGGREGATION_SYNC ? enough(inst, all) : all), waiting);
    for (const contribution *c = inst->round.first; c != NULL; c = c->next) {
        text_add_string(&t, c != inst->round.first ? ", " : "");
        if (c->worker[0] != '\0') {
            json_add_string(&t, c->worker, strlen(c->worker));
        } else {
            text_add_string(&t, "null");
        }
    }
    text_add_string(&t, "], \"closes_in_ms\": ");
    if (how->mode == AGGREGATION_SYNC && inst->round.first != NULL) {
        const uint64_t end = inst->round.opened + how->timeout_ms;
        const uint64_t now = alarm_now();
        text_add_uint(&t, end > now ? end - now : 0);
    } else {
        text_add_string(&t, "null");
    }
    text_add_string(&t, "}");
    return reply_json(r, 200, &t, p);
}

bool api_drop_round(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    problem why;
    (void)p;
    problem_set(&why, PROBLEM_ROUND_ENDED,
                "the round was ended by hand: its gradients were dropped, nothing has changed");
    api_round_fail(ctx, rq->instance, &why);
    api_set_alarm(ctx, rq->instance);
    reply_empty(r, 204);
    return true;
}
