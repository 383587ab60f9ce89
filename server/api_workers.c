/* api_workers.c: who sends gradients to an optimizer, and what became of them. */
#include <stdio.h>

#include "api.h"

workers *api_workers_of(api_context *ctx, instance *inst)
{
    workers *known = atomic_load(&inst->workers);
    if (known == NULL) {
        workers *made = workers_create(ctx->memory, ctx->config->worker_ttl);
        if (made == NULL || atomic_compare_exchange_strong(&inst->workers, &known, made)) {
            return made;
        }
        workers_free(made); /* somebody was quicker */
    }
    return known;
}

void api_see_waiting(instance *inst)
{
    workers *all = atomic_load(&inst->workers);
    if (all == NULL || workers_next_gone_ms(all) != 0) {
        return;
    }
    for (const contribution *c = inst->round.first; c != NULL; c = c->next) {
        if (c->waiting != NULL) {
            workers_waits(all, c->worker);
        }
    }
}

static bool is_step(const api_request *rq)
{
    return rq->is_step && rq->instance != NULL;
}

bool api_check_quarantine(const api_request *rq, problem *p)
{
    unsigned in_a_row;
    workers *known = is_step(rq) && rq->worker != NULL ? atomic_load(&rq->instance->workers) : NULL;
    if (known == NULL || !workers_quarantined(known, rq->worker, &in_a_row)) {
        return true;
    }
    problem_set(p, PROBLEM_QUARANTINED,
                "worker '%s' is in quarantine: %u gradients in a row had a NaN or infinity; DELETE "
                "/v1/optimizers/%s/workers/%s lets it in again",
                rq->worker, in_a_row, rq->optimizer, rq->worker);
    (void)snprintf(p->worker, sizeof p->worker, "%s", rq->worker);
    return false;
}

void api_blame_worker(api_context *ctx, const api_request *rq, problem *p)
{
    workers *all = is_step(rq) && rq->worker != NULL && !rq->of_round
                       ? api_workers_of(ctx, rq->instance)
                       : NULL;
    if (all == NULL) {
        return;
    }
    if (p->code == PROBLEM_NON_FINITE) { /* after the body: from the strand */
        (void)snprintf(p->worker, sizeof p->worker, "%s", rq->worker);
        workers_nonfinite(all, rq->worker,
                          (unsigned)rq->instance->training.max_consecutive_nonfinite);
    }
    workers_refused(all, rq->worker, p->code);
}

bool api_get_workers(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    text t = {.pool = ctx->buffers};
    workers *all = api_workers_of(ctx, rq->instance);
    if (all == NULL) {
        return problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for workers within the budget");
    }
    api_see_waiting(rq->instance);
    workers_show(all, &t);
    return reply_json(r, 200, &t, p);
}

bool api_delete_worker(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    (void)ctx;
    workers *known = atomic_load(&rq->instance->workers);
    if (known == NULL || !workers_remove(known, rq->param)) {
        problem_set(p, PROBLEM_NO_SUCH_WORKER, "optimizer '%s' knows no worker '%.*s'",
                    rq->optimizer, REGISTRY_MAX_NAME, rq->param);
        (void)snprintf(p->worker, sizeof p->worker, "%.*s", REGISTRY_MAX_NAME, rq->param);
        return false;
    }
    reply_empty(r, 204);
    return true;
}
