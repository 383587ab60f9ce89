/* api_persist.c: steps and requests as records of the journal, and steps taken from there again. */
#include "api_persist.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "codec_numbers.h"

/* Of a record beside its data. */
#define META_SLACK ((size_t)4096)

static bool has_journal(const api_context *ctx)
{
    return ctx->store != NULL && ctx->config->journal == CONFIG_GRADIENTS;
}

static bool is_kept(const api_context *ctx, const api_request *rq)
{
    return has_journal(ctx) && !rq->recovers;
}

static bool refuse(problem *p, journal_status status)
{
    if (status == JOURNAL_NO_SPACE) {
        return problem_set(p, PROBLEM_OUT_OF_DISK,
                           "there is no space left in the data directory; nothing has changed");
    }
    return problem_set(p, PROBLEM_DISK_FAILED,
                       "the data directory failed: what is asked could not be kept; see the log of "
                       "the server, and start it again when the disk is mended");
}

/* Appends a record of the instance as it will be, or is. */
static bool append(api_context *ctx, instance *inst, store_record *r, text *meta, uint64_t *lsn,
                   problem *p)
{
    if (meta->failed) {
        text_drop(meta);
        return problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for a record within the budget");
    }
    r->meta = meta;
    const journal_status status = store_append(ctx->store, inst, r, lsn);
    text_drop(meta);
    return status == JOURNAL_OK || refuse(p, status);
}

/* ---- steps ---- */

bool api_keep_step(api_context *ctx, instance *inst, const step_to_keep *keep, uint64_t *lsn,
                   problem *p)
{
    if (!has_journal(ctx)) {
        return true;
    }
    if (atomic_load(&ctx->recovering)) { /* steps have records of their own */
        return problem_set(p, PROBLEM_STATE_MISMATCH, "it would be a step, which it was not");
    }
    text meta = {.pool = ctx->buffers};
    buffer *table = buffer_get(ctx->buffers, keep->n * sizeof(journal_tensor));
    if (table == NULL) {
        return problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for a record within the budget");
    }
    journal_tensor *at = (void *)table->data;
    for (size_t i = 0; i < keep->n; i++) {
        const adam_tensor *t = &keep->tensors[i];
        size_t param = 0;
        (void)adam_optimizer_find(inst->optimizer, t->name, t->name_len, &param);
        at[i] = (journal_tensor){.param = (uint32_t)param,
                                 .dtype = (uint32_t)t->dtype,
                                 .offset = (uint64_t)((const char *)t->data - keep->data)};
    }
    journal_step_add(&meta, &keep->step);
    const struct iovec data[] = {{table->data, keep->n * sizeof(journal_tensor)},
                                 {(char *)keep->data, keep->data_length}};
    store_record r = {.type = STORE_STEP,
                      .epoch = instance_info(inst).epoch,
                      .step = adam_optimizer_step_count(inst->optimizer), /* before it */
                      .data = data,
                      .n_data = 2};
    const bool done = append(ctx, inst, &r, &meta, lsn, p);
    buffer_drop(table);
    return done;
}

/* Takes a key with its answer. False: no memory for it, so that its repeat would be a second step.
 */
static bool settle_key(api_context *ctx, instance *inst, const journal_part *part,
                       const adam_step_stats *stats, const adam_group_stats *groups)
{
    if (ctx->config->idempotency_keys == 0) {
        return true;
    }
    if (api_keys_of(ctx, inst) == NULL) {
        return false;
    }
    if (idempotency_find(inst->keys, part->key) != NULL) {
        return true;
    }
    if (!idempotency_begin(inst->keys, part->key, (fingerprint){part->body[0], part->body[1]},
                           adam_optimizer_group_count(inst->optimizer))) {
        return false;
    }
    idempotency_end(inst->keys, part->key, 200, 0, stats, groups);
    return true;
}

/* Puts what the step settles where it was before: keys and workers. */
static bool settle(api_context *ctx, instance *inst, const journal_step *s,
                   const adam_step_stats *stats, const adam_group_stats *groups)
{
    for (size_t i = 0; i < s->n_parts; i++) {
        const journal_part *part = &s->parts[i];
        workers *all = part->worker != NULL ? api_workers_of(ctx, inst) : NULL;
        if (part->key != NULL && !part->held && !settle_key(ctx, inst, part, stats, groups)) {
            return false;
        }
        if (all != NULL && !part->held) {
            workers_accepted(all, part->worker, part->weight, part->has_staleness, part->staleness);
        }
        if (all != NULL && !stats->skipped) {
            workers_stepped(all, part->worker);
        }
    }
    return true;
}

/* Takes the step, with everything read. */
static bool take(api_context *ctx, instance *inst, const journal_step *s, const adam_tensor *grads,
                 size_t n, problem *p)
{
    const adam_step_args args = {.grads = grads,
                                 .n_grads = n,
                                 .groups = s->overrides,
                                 .grad_options = &s->grad_options,
                                 .pool = ctx->pool,
                                 .scratch = &ctx->scratch};
    adam_error why;
    adam_step_plan *plan;
    outcome did;
    bool done = outcome_begin(ctx, inst->optimizer, &did, p) &&
                api_note_begin(ctx, inst, s->overrides, &did.note, p);
    if (done && adam_step_prepare(inst->optimizer, &args, &plan, &why) != ADAM_OK) {
        done = problem_from_adam(p, &why);
    }
    if (done) {
        instance_unpublish(inst);
        adam_step_apply(plan, &did.stats, did.groups);
        instance_changed(inst);
        api_note_step(ctx, inst, s->n_parts == 1 ? s->parts[0].worker : NULL, &did.note, &did.stats,
                      did.groups);
        if (s->round) {
            round_clear(&inst->round);
        }
        done = settle(ctx, inst, s, &did.stats, did.groups) ||
               problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for an idempotency key");
    }
    outcome_drop(&did);
    return done;
}

bool api_replay_step(api_context *ctx, instance *inst, const journal_record *record, problem *p)
{
    codec_error error;
    json_doc *doc = NULL;
    journal_step s;
    buffer *room = NULL;
    buffer *tensors = NULL;
    bool done =
        json_parse(ctx->buffers, record->meta, record->meta_length, &doc, &error) == CODEC_OK &&
        journal_step_read(ctx->buffers, doc, inst->optimizer, &s, &room, &error) == CODEC_OK;
    if (done) {
        tensors = buffer_get(ctx->buffers, s.n_tensors * sizeof(adam_tensor));
        adam_tensor *grads = tensors != NULL ? (void *)tensors->data : NULL;
        done = grads == NULL
                   ? problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for a step of the journal")
               : journal_tensors_read(inst->optimizer, record->data, record->data_length,
                                      s.n_tensors, grads)
                   ? take(ctx, inst, &s, grads, s.n_tensors, p)
                   : problem_set(p, PROBLEM_INVALID_VALUE, "its tensors do not fit the optimizer");
    } else {
        (void)problem_from_codec(p, &error);
    }
    json_free(doc);
    buffer_drop(room);
    buffer_drop(tensors);
    return done;
}

/* ---- requests ---- */

bool api_reserve_request(api_context *ctx, const api_request *rq, problem *p)
{
    if (!is_kept(ctx, rq)) {
        return true;
    }
    const uint64_t bytes = META_SLACK + 6 * (uint64_t)strlen(rq->asked.target) +
                           (rq->body != NULL ? rq->body->length : 0);
    const journal_status status = store_reserve(ctx->store, bytes);
    return status == JOURNAL_OK || refuse(p, status);
}

bool api_keep_change(api_context *ctx, api_request *rq, problem *p)
{
    if (api_keep_request(ctx, rq, rq->instance, p)) {
        return true;
    }
    store_diverged(ctx->store, rq->instance->name);
    return refuse(p, JOURNAL_FAILED);
}

bool api_keep_request(api_context *ctx, api_request *rq, instance *inst, problem *p)
{
    if (!is_kept(ctx, rq)) {
        return true;
    }
    text meta = {.pool = ctx->buffers};
    journal_request_add(&meta, &rq->asked);
    const optimizer_info info = instance_info(inst);
    const struct iovec data = {rq->body != NULL ? rq->body->data : NULL,
                               rq->body != NULL ? rq->body->length : 0};
    store_record r = {.type = STORE_REQUEST,
                      .epoch = info.epoch,
                      .step = info.step,
                      .data = &data,
                      .n_data = rq->body != NULL};
    return append(ctx, inst, &r, &meta, &rq->lsn, p);
}
