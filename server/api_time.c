/* api_time.c: snapshots by hand, and optimizers as they were. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api_persist.h"
#include "codec_numbers.h"
#include "log.h"

static bool refuse_snapshot(problem *p, snapshot_status st, const snapshot_error *error)
{
    const problem_code code = st == SNAPSHOT_NO_MEMORY  ? PROBLEM_OUT_OF_MEMORY
                              : st == SNAPSHOT_NO_SPACE ? PROBLEM_OUT_OF_DISK
                                                        : PROBLEM_DISK_FAILED;
    return problem_set(p, code, "%s", error->message);
}

/* What all of these need. False: *r says that it is to be called again, or the problem is set. */
static bool begin(const api_context *ctx, const api_request *rq, reply *r, bool *again, problem *p)
{
    *again = ctx->store != NULL && !rq->may_wait && !rq->recovers;
    if (ctx->store == NULL) {
        return problem_set(p, PROBLEM_NO_DATA_DIR,
                           "the server keeps everything in memory; start it with --data-dir");
    }
    if (*again) {
        r->wait = REPLY_SUSPEND_FIRST;
    }
    return !*again;
}

/* ---- snapshots ---- */

typedef struct wish_request {
    store_wish wish; /* first, so that a store_wish * is one */
    job job;
    api_context *ctx;
    api_request *rq;
} wish_request;

/* In the strand, which it leaves: the request was left waiting before this. */
static void answer_wish(job *j)
{
    wish_request *w = (wish_request *)((char *)j - offsetof(wish_request, job));
    api_context *ctx = w->ctx;
    instance *inst = w->wish.instance;
    reply *r = w->rq->reply;
    problem p;
    text t = {.pool = ctx->buffers};
    bool done = w->wish.status == SNAPSHOT_OK ||
                (atomic_load(&inst->removed)
                     ? problem_set(&p, PROBLEM_NO_SUCH_OPTIMIZER,
                                   "there is no optimizer '%s' any more", inst->name)
                     : refuse_snapshot(&p, w->wish.status, &w->wish.error));
    if (done) {
        text_add_format(&t, "{\"step\": %llu, \"lsn\": %llu}", (unsigned long long)w->wish.step,
                        (unsigned long long)w->wish.lsn);
        done = reply_json(r, 200, &t, &p);
    }
    if (!done) {
        reply_problem(r, &p, ctx->buffers);
    }
    api_answer(ctx, w->rq);
    strand_leave(ctx->jobs, &inst->strand);
    instance_drop(inst);
    free(w);
}

static void wish_done(store_wish *wish)
{
    wish_request *w = (wish_request *)wish;
    w->job.run = answer_wish;
    executor_submit(w->ctx->jobs, &wish->instance->strand, &w->job);
}

bool api_snapshot(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    bool again;
    if (!begin(ctx, rq, r, &again, p)) {
        return again;
    }
    wish_request *w = calloc(1, sizeof *w);
    if (w == NULL) {
        return problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for a snapshot");
    }
    w->wish.instance = instance_hold(rq->instance);
    w->wish.done = wish_done;
    w->ctx = ctx;
    w->rq = rq;
    r->wait = REPLY_WAITS;
    store_snapshot(ctx->store, &w->wish);
    return true;
}

/* ---- what is asked ---- */

typedef struct wanted {
    bool has_step;
    uint64_t step;
    char name[REGISTRY_MAX_NAME + 1]; /* of a fork */
} wanted;

static codec_status read_wanted(const json_doc *doc, bool fork, wanted *w, codec_error *error)
{
    static const char *const of_fork[] = {"name", "step", NULL};
    static const char *const of_rollback[] = {"step", NULL};
    const json_value *root = json_root(doc);
    const char *what = fork ? "a fork" : "a rollback";
    if (json_type_of(root) != JSON_OBJECT) {
        return codec_fail(error, CODEC_INVALID_VALUE, "the body is %s, expected an object",
                          json_type_text(root));
    }
    codec_status st = json_check_names(root, fork ? of_fork : of_rollback, what, error);
    if (st != CODEC_OK) {
        return st;
    }
    const json_value *step = json_get(root, "step");
    const json_value *name = json_get(root, "name");
    w->has_step = step != NULL;
    if ((step == NULL && !fork) || (step != NULL && (json_type_of(step) != JSON_NUMBER ||
                                                     !numbers_uint(doc, step, &w->step)))) {
        return codec_fail(error, CODEC_INVALID_VALUE, "step of %s is expected as a whole number",
                          what);
    }
    if (fork && (name == NULL || json_type_of(name) != JSON_STRING ||
                 !registry_valid_name(json_string(name), strlen(json_string(name))))) {
        return codec_fail(error, CODEC_INVALID_NAME,
                          "name of a fork is expected as 1 to %d letters, digits, '.', '_' or '-', "
                          "the first a letter or digit",
                          REGISTRY_MAX_NAME);
    }
    if (fork) {
        strcpy(w->name, json_string(name));
    }
    return CODEC_OK;
}

static bool read_body(api_context *ctx, const api_request *rq, bool fork, wanted *w, problem *p)
{
    codec_error error;
    json_doc *doc = NULL;
    *w = (wanted){0};
    const bool done =
        (json_parse(ctx->buffers, rq->body->data, rq->body->length, &doc, &error) == CODEC_OK &&
         read_wanted(doc, fork, w, &error) == CODEC_OK) ||
        problem_from_codec(p, &error);
    json_free(doc);
    return done;
}

static bool show(api_context *ctx, instance *inst, int status, reply *r)
{
    const optimizer_info info = instance_info(inst);
    text t = {.pool = ctx->buffers};
    show_summary(&t, inst->name, &info);
    reply_json_after(r, status, &t);
    return true;
}

/* ---- rollback ---- */

bool api_rollback(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    instance *inst = rq->instance;
    wanted w;
    bool again;
    if (rq->recovers) { /* its snapshot has brought what it did, or it went nowhere */
        round_clear(&inst->round);
        reply_empty(r, 204);
        return true;
    }
    if (!begin(ctx, rq, r, &again, p)) {
        return again;
    }
    if (!read_body(ctx, rq, false, &w, p)) {
        return false;
    }
    instance *then = ctx->recover_at(ctx, inst, w.step, p);
    if (then == NULL) {
        return false;
    }
    const optimizer_info info = instance_info(inst);
    const uint64_t epoch = registry_next_epoch(ctx->registry);
    const snapshot_source from = {.name = inst->name,
                                  .id = inst->kept.id,
                                  .epoch = epoch,
                                  .lsn = store_end(ctx->store),
                                  .optimizer = then->optimizer,
                                  .defaults = &info.defaults,
                                  .how = &inst->training,
                                  .keys = inst->keys,
                                  .workers = atomic_load(&inst->workers)};
    snapshot_error error;
    const snapshot_status st = store_snapshot_now(ctx->store, &from, &error);
    if (st != SNAPSHOT_OK) {
        instance_drop(then);
        return refuse_snapshot(p, st, &error);
    }
    char was[64];
    char is[64];
    (void)snprintf(was, sizeof was, "{\"step\": %llu}", (unsigned long long)info.step);
    (void)snprintf(is, sizeof is, "{\"step\": %llu}", (unsigned long long)w.step);
    adam_optimizer *before = inst->optimizer;
    inst->optimizer = then->optimizer;
    then->optimizer = before;
    instance_drop(then);
    instance_unpublish(inst);
    store_has_snapshot(inst, from.lsn, w.step, from.lsn);
    instance_rewritten(inst, epoch);
    api_note_change(inst, "rollback", was, is);
    log_write(LOG_INFO, "%s: back from step %llu to %llu", inst->name,
              (unsigned long long)info.step, (unsigned long long)w.step);
    return show(ctx, inst, 200, r);
}

/* ---- fork ---- */

static bool write_fork(api_context *ctx, instance *inst, const adam_optimizer *o,
                       const snapshot_entry *entry, problem *p)
{
    const optimizer_info info = instance_info(inst);
    const snapshot_source from = {.name = entry->name,
                                  .id = entry->id,
                                  .epoch = entry->id,
                                  .lsn = entry->lsn,
                                  .optimizer = o,
                                  .defaults = &info.defaults,
                                  .how = &inst->training};
    snapshot_error error;
    const snapshot_status st = store_snapshot_now(ctx->store, &from, &error);
    return st == SNAPSHOT_OK || refuse_snapshot(p, st, &error);
}

bool api_fork(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    instance *inst = rq->instance;
    wanted w;
    bool again;
    if (!begin(ctx, rq, r, &again, p)) {
        return again;
    }
    if (!read_body(ctx, rq, true, &w, p)) {
        return false;
    }
    instance *other = registry_hold(ctx->registry, w.name);
    if (other != NULL) {
        instance_drop(other);
        return api_name_taken(w.name, p);
    }
    instance *then = w.has_step ? ctx->recover_at(ctx, inst, w.step, p) : instance_hold(inst);
    if (then == NULL) {
        return false;
    }
    snapshot_entry entry = {.id = registry_next_epoch(ctx->registry), .lsn = store_end(ctx->store)};
    strcpy(entry.name, w.name);
    bool done = write_fork(ctx, inst, then->optimizer, &entry, p);
    instance_drop(then);
    instance *made = done ? ctx->load(ctx, &entry, p) : NULL;
    if (made == NULL) {
        store_remove_files(ctx->store, entry.name, entry.id);
        return false;
    }
    atomic_store(&made->kept.needed, entry.lsn);
    bool no_memory;
    if (!registry_attach(ctx->registry, made, &no_memory)) {
        store_forget(ctx->store, made);
        instance_drop(made);
        return no_memory ? problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for another optimizer")
                         : api_name_taken(w.name, p);
    }
    log_write(LOG_INFO, "%s: a fork of %s at step %llu", made->name, inst->name,
              (unsigned long long)adam_optimizer_step_count(made->optimizer));
    (void)snprintf(r->location, sizeof r->location, "/v1/optimizers/%s", made->name);
    const optimizer_info info = instance_info(made);
    api_etag(&info, r->etag, sizeof r->etag);
    done = show(ctx, made, 201, r);
    instance_drop(made);
    return done;
}
