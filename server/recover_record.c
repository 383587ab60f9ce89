/* recover_record.c: one record, or one snapshot, made an optimizer's again. */
#include <stdio.h>
#include <string.h>

#include "recover_internal.h"

/* The text of a refusal. */
static void take_problem(const reply *r, problem *p)
{
    problem_set(p, PROBLEM_INVALID_VALUE, "it is refused now: %.*s",
                r->text != NULL ? (int)r->text->length : 0, r->text != NULL ? r->text->data : "");
}

/* Makes the request of a record again, up to its handler. False, with the problem set. */
bool recover_read_request(api_context *ctx, const journal_record *record, instance *inst,
                          api_request *rq, json_doc **doc, problem *p)
{
    codec_error error;
    journal_request asked;
    *doc = NULL;
    *rq = (api_request){0};
    if (json_parse(ctx->buffers, record->meta, record->meta_length, doc, &error) != CODEC_OK ||
        journal_request_read(*doc, &asked, &error) != CODEC_OK) {
        return problem_from_codec(p, &error);
    }
    const router_headers headers = {.content_type = asked.content_type,
                                    .worker = asked.worker,
                                    .key = asked.key,
                                    .weight = asked.weight,
                                    .based_on = asked.based_on,
                                    .has_body = record->data_length > 0,
                                    .has_length = asked.content_type != NULL,
                                    .length = record->data_length,
                                    .replays = inst,
                                    .recovers = true};
    if (!router_begin(ctx, asked.method, asked.target, &headers, rq, p)) {
        return false;
    }
    if (rq->route->body != ROUTE_NO_BODY) {
        rq->body = buffer_get(ctx->buffers, record->data_length);
        if (rq->body == NULL) {
            return problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for a request of %llu bytes",
                               (unsigned long long)record->data_length);
        }
        memcpy(rq->body->data, record->data, record->data_length);
        rq->body->length = record->data_length;
    }
    return true;
}

void recover_drop_request(api_request *rq, json_doc *doc)
{
    buffer_drop(rq->body);
    instance_drop(rq->instance);
    json_free(doc);
}

static bool replay_request(api_context *ctx, instance *inst, const journal_record *record,
                           uint64_t end, problem *p)
{
    json_doc *doc;
    api_request rq;
    reply r = {0};
    bool done = recover_read_request(ctx, record, inst, &rq, &doc, p);
    if (done) {
        rq.lsn = end;
        if (end <= atomic_load(&inst->kept.snapshot)) {
            rq.key = NULL; /* held by its snapshot, which has the answer to the key */
        }
        (void)router_run(ctx, &rq, &r);
        done = r.status < 300;
        if (!done) {
            take_problem(&r, p);
        } else if (!atomic_load(&inst->removed) && instance_info(inst).epoch != record->epoch) {
            instance_rewritten(inst, record->epoch);
        }
    }
    reply_drop(&r);
    recover_drop_request(&rq, doc);
    return done;
}

/* The optimizer that a record creates, not in the list. NULL, with the problem set. */
instance *recover_creation(api_context *ctx, const journal_record *record, problem *p)
{
    json_doc *doc;
    api_request rq;
    instance *inst = NULL;
    if (recover_read_request(ctx, record, NULL, &rq, &doc, p)) {
        const bool creates = rq.route != NULL && rq.route->handler == api_create && rq.body != NULL;
        inst = creates ? api_make_again(ctx, rq.sent, rq.body, rq.optimizer, record->optimizer, p)
                       : NULL;
        if (!creates) {
            (void)problem_set(p, PROBLEM_INVALID_VALUE,
                              "it is of an optimizer whose creation is not in the journal, nor has "
                              "it a snapshot");
        }
    }
    recover_drop_request(&rq, doc);
    return inst;
}

static bool diverged(const instance *inst, const journal_record *record, const optimizer_info *info,
                     problem *p)
{
    return problem_set(p, PROBLEM_STATE_MISMATCH,
                       "it is of step %llu, epoch %llu of '%s', which comes there at step %llu, "
                       "epoch %llu",
                       (unsigned long long)record->step, (unsigned long long)record->epoch,
                       inst->name, (unsigned long long)info->step, (unsigned long long)info->epoch);
}

/* Does a record again that is behind what the instance has. */
bool recover_record(api_context *ctx, instance *inst, const journal_record *record, uint64_t end,
                    problem *p)
{
    bool done;
    optimizer_info info = instance_info(inst);
    switch (record->type) {
    case STORE_STEP:
        done = info.step == record->step && info.epoch == record->epoch
                   ? api_replay_step(ctx, inst, record, p)
                   : diverged(inst, record, &info, p);
        break;
    case STORE_REQUEST:
        done = replay_request(ctx, inst, record, end, p);
        info = instance_info(inst);
        if (done && info.step != record->step) {
            done = diverged(inst, record, &info, p);
        }
        break;
    default:
        done = problem_set(p, PROBLEM_INVALID_VALUE, "it is of type %u, which is not known",
                           record->type);
    }
    inst->kept.last = end;
    inst->kept.bytes += record->meta_length + record->data_length;
    return done;
}
/* Whether a gradient that the snapshot held is in this record, which is before it. */
bool recover_is_held(const instance *inst, uint64_t end)
{
    for (size_t i = 0; i < inst->kept.n_held; i++) {
        if (inst->kept.held[i] == end) {
            return true;
        }
    }
    return false;
}

/* Makes an instance of a snapshot, not in the list. NULL, with the problem set. */
instance *recover_load(api_context *ctx, const snapshot_entry *entry, problem *p)
{
    const snapshot_settings settings = {.pool = ctx->buffers,
                                        .allocator = &ctx->allocator,
                                        .max_keys = ctx->config->idempotency_keys,
                                        .key_ttl = ctx->config->idempotency_ttl,
                                        .worker_ttl = ctx->config->worker_ttl};
    snapshot_content c;
    snapshot_error error;
    char path[4096];
    instance *inst = NULL;
    if (!snapshot_path(store_dir(ctx->store), entry, path, sizeof path)) {
        (void)problem_set(p, PROBLEM_STATE_MISMATCH, "%s: its path is too long", entry->name);
        return NULL;
    }
    const snapshot_status st = snapshot_read(path, &settings, &c, &error);
    if (st != SNAPSHOT_OK) {
        (void)problem_set(p,
                          st == SNAPSHOT_NO_MEMORY ? PROBLEM_OUT_OF_MEMORY : PROBLEM_STATE_MISMATCH,
                          "%s", error.message);
        return NULL;
    }
    if (strcmp(c.name, entry->name) != 0 || c.id != entry->id || c.lsn != entry->lsn) {
        (void)problem_set(p, PROBLEM_STATE_MISMATCH, "%s is of another optimizer or place: '%s'",
                          path, c.name);
        snapshot_content_drop(&c);
        return NULL;
    }
    inst = registry_make(ctx->registry, c.name, c.optimizer, &c.defaults, &c.how, c.id, c.epoch);
    if (inst == NULL) {
        (void)problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for optimizer '%s'", c.name);
        snapshot_content_drop(&c);
        return NULL;
    }
    inst->keys = c.keys;
    atomic_store(&inst->workers, c.workers);
    inst->kept.held = c.held;
    inst->kept.n_held = c.n_held;
    atomic_store(&inst->kept.last, c.lsn);
    atomic_store(&inst->kept.snapshot, c.lsn);
    atomic_store(&inst->kept.needs, store_needs(c.held, c.n_held, c.lsn));
    atomic_store(&inst->kept.snapshot_step, adam_optimizer_step_count(inst->optimizer));
    c.optimizer = NULL;
    c.keys = NULL;
    c.workers = NULL;
    c.held = NULL;
    snapshot_content_drop(&c);
    return inst;
}
