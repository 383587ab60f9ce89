/* recover.c: what is on disk, done again: the newest snapshot of each optimizer, then the records of
 * the journal behind it, through the same handlers and the same core. */
#include "recover.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api_persist.h"
#include "clock.h"
#include "log.h"

#define PROGRESS_MS 2000
#define WHAT_TO_DO                                                                               \
    "; put back a copy of the data directory, or start with --recover-to-last-good to go on with " \
    "what is before it"

/* An optimizer that the log speaks of. */
typedef struct known {
    uint64_t id;
    instance *inst; /* held; NULL: it was removed */
    bool orphan;    /* its beginning is not there: it must have been removed later on */
    uint64_t lsn;   /* where the log first spoke of it */
} known;

typedef struct recoverer {
    api_context *ctx;
    recovery *found;
    journal_reader *log;
    known *all; /* by id */
    size_t n, capacity;
    uint64_t last_epoch;
    int64_t told, began; /* clock_ms() */
} recoverer;

/* ---- optimizers by id ---- */

static int compare_known(const void *a, const void *b)
{
    const known *x = a;
    const known *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static known *find_known(const recoverer *rec, uint64_t id)
{
    const known key = {.id = id};
    return rec->n > 0 ? bsearch(&key, rec->all, rec->n, sizeof key, compare_known) : NULL;
}

/* Ids grow, so it mostly goes to the end. */
static known *add_known(recoverer *rec, const known *k)
{
    if (rec->n == rec->capacity) {
        const size_t capacity = rec->capacity > 0 ? rec->capacity * 2 : 64;
        known *bigger = realloc(rec->all, capacity * sizeof *bigger);
        if (bigger == NULL) {
            return NULL;
        }
        rec->all = bigger;
        rec->capacity = capacity;
    }
    size_t place = rec->n;
    while (place > 0 && rec->all[place - 1].id > k->id) {
        place--;
    }
    memmove(rec->all + place + 1, rec->all + place, (rec->n - place) * sizeof *k);
    rec->all[place] = *k;
    rec->n++;
    return &rec->all[place];
}

static void forget_all(recoverer *rec)
{
    for (size_t i = 0; i < rec->n; i++) {
        instance_drop(rec->all[i].inst);
    }
    free(rec->all);
}

/* ---- doing it again ---- */

/* The text of a refusal. */
static void take_problem(const reply *r, problem *p)
{
    problem_set(p, PROBLEM_INVALID_VALUE, "it is refused now: %.*s",
                r->text != NULL ? (int)r->text->length : 0, r->text != NULL ? r->text->data : "");
}

/* Makes the request of a record again, up to its handler. False, with the problem set. */
static bool read_request(api_context *ctx, const journal_record *record, instance *inst,
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

static void drop_request(api_request *rq, json_doc *doc)
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
    bool done = read_request(ctx, record, inst, &rq, &doc, p);
    if (done) {
        rq.lsn = end;
        (void)router_run(ctx, &rq, &r);
        done = r.status < 300;
        if (!done) {
            take_problem(&r, p);
        } else if (!atomic_load(&inst->removed) && instance_info(inst).epoch != record->epoch) {
            instance_rewritten(inst, record->epoch);
        }
    }
    reply_drop(&r);
    drop_request(&rq, doc);
    return done;
}

/* The optimizer that a record creates, not in the list. NULL, with the problem set. */
static instance *replay_creation(api_context *ctx, const journal_record *record, problem *p)
{
    json_doc *doc;
    api_request rq;
    instance *inst = NULL;
    if (read_request(ctx, record, NULL, &rq, &doc, p)) {
        inst = rq.body != NULL && rq.instance == NULL
                   ? api_make_again(ctx, rq.sent, rq.body, rq.optimizer, record->optimizer, p)
                   : NULL;
        if (rq.body == NULL || rq.instance != NULL) {
            (void)problem_set(p, PROBLEM_INVALID_VALUE,
                              "it is of an optimizer whose creation is not in the journal, nor has "
                              "it a snapshot");
        }
    }
    drop_request(&rq, doc);
    return inst;
}

static bool diverged(const instance *inst, const journal_record *record,
                     const optimizer_info *info, problem *p)
{
    return problem_set(p, PROBLEM_STATE_MISMATCH,
                       "it is of step %llu, epoch %llu of '%s', which comes there at step %llu, "
                       "epoch %llu",
                       (unsigned long long)record->step, (unsigned long long)record->epoch,
                       inst->name, (unsigned long long)info->step, (unsigned long long)info->epoch);
}

/* Does a record again that is behind what the instance has. */
static bool replay(api_context *ctx, instance *inst, const journal_record *record, uint64_t end,
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
    case STORE_STATE: done = api_replay_state(ctx, inst, record, p); break;
    default:
        done = problem_set(p, PROBLEM_INVALID_VALUE, "it is of type %u, which is not known",
                           record->type);
    }
    inst->kept.last = end;
    inst->kept.bytes += record->meta_length + record->data_length;
    return done;
}

/* ---- snapshots ---- */

/* Whether a gradient that the snapshot held is in this record, which is before it. */
static bool is_held(const instance *inst, uint64_t end)
{
    for (size_t i = 0; i < inst->kept.n_held; i++) {
        if (inst->kept.held[i] == end) {
            return true;
        }
    }
    return false;
}

/* The newest snapshot of each optimizer of that name that is whole. */
static bool load_snapshots_of(recoverer *rec, const char *name)
{
    api_context *ctx = rec->ctx;
    char error[1024];
    snapshot_list files;
    uint64_t newest = 0;
    bool any = false;
    if (!snapshot_list_read(store_dir(ctx->store), name, &files, error, sizeof error)) {
        (void)snprintf(rec->found->report, sizeof rec->found->report, "%s", error);
        return false;
    }
    for (size_t i = 0; i < files.n; i++) {
        newest = files.at[i].id > newest ? files.at[i].id : newest;
    }
    for (size_t i = 0; i < files.n && !any; i++) {
        const snapshot_file *f = &files.at[i];
        if (f->id != newest) {
            continue; /* of one that was removed before the name was used again */
        }
        instance *inst = snapshot_load(ctx->registry, ctx->buffers, &ctx->allocator, f, error,
                                       sizeof error);
        if (inst == NULL) {
            log_write(LOG_WARN, "%s", error);
            continue;
        }
        bool no_memory;
        const known k = {.id = f->id, .inst = inst};
        any = registry_attach(ctx->registry, inst, &no_memory) && add_known(rec, &k) != NULL;
        inst->kept.last = inst->kept.snapshot = f->lsn;
        atomic_store(&inst->kept.needed, i + 1 < files.n && files.at[i + 1].id == newest
                                             ? files.at[i + 1].lsn
                                             : 0);
        if (!any) {
            (void)snprintf(error, sizeof error, "no memory for optimizer '%s'", name);
        }
    }
    snapshot_list_drop(&files);
    (void)snprintf(rec->found->report, sizeof rec->found->report, "%s", error);
    return true;
}

static bool load_snapshots(recoverer *rec)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/snapshots", store_dir(rec->ctx->store));
    DIR *d = opendir(path);
    bool done = true;
    for (struct dirent *e = d != NULL ? readdir(d) : NULL; done && e != NULL; e = readdir(d)) {
        if (e->d_name[0] != '.') {
            done = load_snapshots_of(rec, e->d_name);
        }
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return done;
}

/* ---- the journal ---- */

static void tell(recoverer *rec)
{
    const int64_t now = clock_ms();
    if (now - rec->told < PROGRESS_MS) {
        return;
    }
    const double done = (double)journal_reader_done(rec->log);
    const double all = (double)journal_reader_total(rec->log);
    const double seconds = (double)(now - rec->began) / 1e3;
    rec->told = now;
    log_write(LOG_INFO, "recovering: %zu optimizers, %.0f of %.0f MiB of journal, %.0f s left",
              registry_count(rec->ctx->registry), done / 1048576, all / 1048576,
              done > 0 ? seconds / done * (all - done) : 0);
}

/* The first record of an optimizer that no snapshot had. False: no memory. */
static bool begin_known(recoverer *rec, const journal_record *record, problem *p)
{
    known k = {.id = record->optimizer, .lsn = record->lsn};
    problem why;
    k.inst = record->type == STORE_STATE ? api_make_from_state(rec->ctx, record, &why)
                                         : replay_creation(rec->ctx, record, &why);
    k.orphan = k.inst == NULL;
    if (k.orphan && why.code == PROBLEM_OUT_OF_MEMORY) {
        *p = why;
        return false;
    }
    bool no_memory = false;
    if (!k.orphan) {
        atomic_store(&k.inst->kept.needed, record->lsn);
        if (!registry_attach(rec->ctx->registry, k.inst, &no_memory)) {
            return problem_set(p, PROBLEM_STATE_MISMATCH, "there is an optimizer '%s' already",
                               k.inst->name);
        }
    }
    return add_known(rec, &k) != NULL ||
           problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for another optimizer");
}

static bool is_removal(const recoverer *rec, const journal_record *record)
{
    json_doc *doc;
    api_request rq;
    problem p;
    const bool removal = record->type == STORE_REQUEST &&
                         read_request(rec->ctx, record, NULL, &rq, &doc, &p) &&
                         rq.route->handler == api_delete;
    drop_request(&rq, doc);
    return removal;
}

static bool take_record(recoverer *rec, const journal_record *record, uint64_t end, problem *p)
{
    known *k = find_known(rec, record->optimizer);
    rec->last_epoch = record->epoch > rec->last_epoch ? record->epoch : rec->last_epoch;
    if (k == NULL) {
        if (!begin_known(rec, record, p)) {
            return false;
        }
        k = find_known(rec, record->optimizer);
        if (!k->orphan) {
            k->inst->kept.last = end;
            return true;
        }
    }
    if (k->orphan) {
        k->orphan = !is_removal(rec, record);
        return true;
    }
    if (k->inst == NULL || (end <= k->inst->kept.snapshot && !is_held(k->inst, end))) {
        return true;
    }
    const bool done = replay(rec->ctx, k->inst, record, end, p);
    if (done && atomic_load(&k->inst->removed)) {
        instance_drop(k->inst);
        k->inst = NULL;
    }
    return done;
}

/* Says where the log is not as it should be. */
static void report(recoverer *rec, const char *file, uint64_t offset, const char *why, bool stops)
{
    (void)snprintf(rec->found->report, sizeof rec->found->report, "%s, offset %llu: %s%s", file,
                   (unsigned long long)offset, why, stops ? WHAT_TO_DO : "");
}

static bool read_journal(recoverer *rec)
{
    journal_reader *log = rec->log;
    recovery *found = rec->found;
    journal_record record;
    journal_read_status st;
    uint64_t place = journal_reader_place(log);
    while ((st = journal_read_next(log, &record)) == JOURNAL_READ) {
        const uint64_t end = journal_reader_place(log);
        problem p;
        if (record.type != JOURNAL_TYPE_SYNC && !take_record(rec, &record, end, &p)) {
            const bool stops = !rec->ctx->config->recover_to_last_good;
            report(rec, journal_reader_file(log), journal_reader_offset(log), p.detail, stops);
            found->end = place;
            found->cut = true;
            return !stops;
        }
        found->records += record.type != JOURNAL_TYPE_SYNC;
        found->bytes += record.meta_length + record.data_length;
        place = end;
        tell(rec);
    }
    found->end = place;
    found->cut = st != JOURNAL_END;
    const bool stops = st == JOURNAL_BAD && !rec->ctx->config->recover_to_last_good;
    if (found->cut) {
        report(rec, journal_reader_file(log), journal_reader_offset(log),
               journal_reader_reason(log), stops);
    }
    return !stops;
}

/* Every optimizer of the log has a beginning, or an end. */
static bool check_orphans(recoverer *rec)
{
    for (size_t i = 0; i < rec->n; i++) {
        if (rec->all[i].orphan && rec->all[i].inst == NULL && !rec->found->cut) {
            (void)snprintf(rec->found->report, sizeof rec->found->report,
                           "the journal at %llu speaks of optimizer %llu, whose snapshots are "
                           "missing or damaged" WHAT_TO_DO,
                           (unsigned long long)rec->all[i].lsn,
                           (unsigned long long)rec->all[i].id);
            return rec->ctx->config->recover_to_last_good;
        }
    }
    return true;
}

bool recover_all(api_context *ctx, recovery *found)
{
    recoverer rec = {.ctx = ctx, .found = found, .began = clock_ms(), .told = clock_ms()};
    *found = (recovery){0};
    bool done = load_snapshots(&rec);
    if (done && ctx->config->journal == CONFIG_GRADIENTS) {
        rec.log = journal_reader_open(store_dir(ctx->store), JOURNAL_FROM_FIRST, found->report,
                                      sizeof found->report);
        done = rec.log != NULL && read_journal(&rec) && check_orphans(&rec);
        journal_reader_close(rec.log);
    }
    found->optimizers = registry_count(ctx->registry);
    for (size_t i = 0; i < rec.n; i++) {
        const uint64_t epoch = rec.all[i].inst != NULL ? instance_info(rec.all[i].inst).epoch : 0;
        rec.last_epoch = epoch > rec.last_epoch ? epoch : rec.last_epoch;
    }
    registry_set_next_epoch(ctx->registry, rec.last_epoch + 1);
    forget_all(&rec);
    return done;
}
