/* api_wait.c: requests that wait for others. They hold a connection each, and no thread. */
#include <stdlib.h>

#include "api.h"

bool api_is_waited_at(const instance *inst)
{
    return inst->pulls != NULL || inst->round.first != NULL;
}

/* What the answer says is on disk, or never will be. */
static void on_disk(journal_waiter *w, bool ok)
{
    api_request *rq = (api_request *)((char *)w - offsetof(api_request, disk));
    problem p;
    if (!ok) {
        problem_set(&p, PROBLEM_DISK_FAILED,
                    "the data directory failed before this was safe on it: it may be there after "
                    "the next start, or not; a repeat with its Idempotency-Key finds out");
        reply_problem(rq->reply, &p, rq->ctx->buffers);
    }
    rq->answered(rq);
}

bool api_waits_for_disk(const api_context *ctx, const api_request *rq)
{
    return ctx->store != NULL && rq->lsn > 0 && rq->may_wait && store_is_always(ctx->store);
}

void api_wait_for_disk(api_context *ctx, api_request *rq)
{
    rq->ctx = ctx;
    rq->disk.done = on_disk;
    store_wait(ctx->store, &rq->disk, rq->lsn);
}

void api_answer(api_context *ctx, api_request *rq)
{
    if (!atomic_load(&rq->instance->removed)) {
        const optimizer_info info = instance_info(rq->instance);
        api_etag(&info, rq->reply->etag, sizeof rq->reply->etag);
    }
    rq->reply->wait = REPLY_READY;
    if (api_waits_for_disk(ctx, rq)) {
        api_wait_for_disk(ctx, rq);
    } else {
        rq->answered(rq);
    }
}

/* ---- pulls ---- */

/* Answers a pull with the parameters as they are, or with the problem. */
static void answer_pull(api_context *ctx, api_request *rq, bool changed, const problem *why)
{
    problem p;
    rq->query.wait = 0;
    if (changed) {
        rq->if_none_match = NULL; /* which could be "*" */
    }
    if (why != NULL) {
        reply_problem(rq->reply, why, ctx->buffers);
    } else if (!api_get_params(ctx, rq, rq->reply, &p)) {
        api_blame_memory(ctx, rq, &p);
        reply_problem(rq->reply, &p, ctx->buffers);
    }
    api_answer(ctx, rq);
}

static void answer_pulls(api_context *ctx, instance *inst, const problem *why)
{
    api_request *next = inst->pulls;
    inst->pulls = NULL;
    while (next != NULL) {
        api_request *rq = next;
        next = rq->next_waiting;
        answer_pull(ctx, rq, true, why);
    }
}

/* Answers those whose time is up. */
static void answer_late_pulls(api_context *ctx, instance *inst)
{
    const uint64_t now = alarm_now();
    for (api_request **at = &inst->pulls; *at != NULL;) {
        api_request *rq = *at;
        if (rq->wait_until > now) {
            at = &rq->next_waiting;
        } else {
            *at = rq->next_waiting;
            answer_pull(ctx, rq, false, NULL);
        }
    }
}

bool api_wait_for_change(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    instance *inst = rq->instance;
    if (!rq->may_wait) {
        r->wait = REPLY_SUSPEND_FIRST;
        return true;
    }
    if (atomic_load(&ctx->draining)) {
        return problem_set(p, PROBLEM_DRAINING, "the server is shutting down");
    }
    r->wait = REPLY_WAITS;
    rq->wait_until = alarm_now() + rq->query.wait * 1000;
    rq->next_waiting = inst->pulls;
    inst->pulls = rq;
    api_set_alarm(ctx, inst);
    return true;
}

/* ---- time ---- */

static instance *instance_of(alarm_entry *a)
{
    return (instance *)((char *)a - offsetof(instance, alarm));
}

static void keep(alarm_entry *a)
{
    instance_hold(instance_of(a));
}

/* In the strand, which it leaves. */
static void ring(alarm_entry *a)
{
    api_context *ctx = a->context;
    instance *inst = instance_of(a);
    const optimizer_info before = instance_info(inst);
    api_round_tick(ctx, inst);
    answer_late_pulls(ctx, inst);
    api_changed(ctx, inst, &before);
    api_set_alarm(ctx, inst);
    strand_leave(ctx->jobs, &inst->strand);
    instance_drop(inst);
}

void api_set_alarm(api_context *ctx, instance *inst)
{
    uint64_t due = api_round_due(inst);
    for (const api_request *rq = inst->pulls; rq != NULL; rq = rq->next_waiting) {
        due = rq->wait_until < due ? rq->wait_until : due;
    }
    if (inst->alarm.ring == NULL) { /* the clock reads them while it is set */
        inst->alarm.keep = keep;
        inst->alarm.ring = ring;
        inst->alarm.context = ctx;
    }
    alarm_set(ctx->alarms, &inst->alarm, due);
}

/* ---- changes ---- */

void api_changed(api_context *ctx, instance *inst, const optimizer_info *before)
{
    problem p;
    const optimizer_info now = instance_info(inst);
    if (atomic_load(&inst->removed)) {
        problem_set(&p, PROBLEM_NO_SUCH_OPTIMIZER, "there is no optimizer '%s' any more",
                    inst->name);
        answer_pulls(ctx, inst, &p);
        api_round_fail(ctx, inst, &p);
    } else if (now.epoch != before->epoch) {
        answer_pulls(ctx, inst, NULL);
        problem_set(&p, PROBLEM_ROUND_ENDED,
                    "the optimizer was given other parameters or another state while the round "
                    "was open: its gradients were dropped");
        api_round_fail(ctx, inst, &p);
    } else if (now.step != before->step) {
        answer_pulls(ctx, inst, NULL);
    }
    api_set_alarm(ctx, inst);
}

/* ---- the end ---- */

typedef struct farewell {
    job job;
    api_context *ctx;
    instance *inst;
} farewell;

/* In the strand, which it leaves. */
static void end_waits(job *j)
{
    farewell *f = (farewell *)j;
    api_context *ctx = f->ctx;
    instance *inst = f->inst;
    problem p;
    problem_set(&p, PROBLEM_DRAINING, "the server is shutting down");
    answer_pulls(ctx, inst, &p);
    if (inst->training.aggregation.mode != AGGREGATION_BUFFERED) { /* the journal has those */
        api_round_fail(ctx, inst, &p);
    }
    api_set_alarm(ctx, inst);
    strand_leave(ctx->jobs, &inst->strand);
    instance_drop(inst);
    free(f);
}

void api_end_waits(api_context *ctx)
{
    instance *page[64];
    char after[REGISTRY_MAX_NAME + 1] = "";
    bool more = true;
    while (more) {
        const size_t n = registry_page(ctx->registry, "", after, 64, page, &more);
        for (size_t i = 0; i < n; i++) {
            strcpy(after, page[i]->name);
            farewell *f = malloc(sizeof *f);
            if (f == NULL) {
                instance_drop(page[i]); /* the end waits for its time */
                continue;
            }
            *f = (farewell){{.run = end_waits}, ctx, page[i]};
            executor_submit(ctx->jobs, &page[i]->strand, &f->job);
        }
    }
}
