/* recover.c: what is on disk, done again: the newest snapshot of each optimizer, then the records
 * of the journal behind it, through the same handlers and the same core. */
#include "recover_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "log.h"

#define PROGRESS_MS 2000
#define WHAT_TO_DO                                                                                 \
    "; put back a copy of the data directory, or start with --recover-to-last-good to go on with " \
    "what is before it"

/* An optimizer that the log speaks of. */
typedef struct known {
    uint64_t id;
    instance *inst; /* held; NULL: it was removed */
    bool orphan;    /* its beginning is not there: it must have been removed later on */
    uint64_t lsn;   /* where the log first spoke of it, or where it could not go on */
    char *why;      /* it cannot go on: the same is true, or this is why; malloc'ed */
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
        free(rec->all[i].why);
    }
    free(rec->all);
}

static void tell(recoverer *rec)
{
    const int64_t now = clock_ms();
    if (now - rec->told < PROGRESS_MS) {
        return;
    }
    const double done = rec->log != NULL ? (double)journal_reader_done(rec->log) : 0;
    const double all = rec->log != NULL ? (double)journal_reader_total(rec->log) : 0;
    const double seconds = (double)(now - rec->began) / 1e3;
    rec->told = now;
    log_write(LOG_INFO, "recovering: %zu optimizers, %.0f of %.0f MiB of journal, %.0f s left",
              registry_count(rec->ctx->registry), done / 1048576, all / 1048576,
              done > 0 ? seconds / done * (all - done) : 0);
}

/* ---- snapshots ---- */

/* Whether an entry is of an optimizer that was removed before another was given its name. */
static bool is_old(const snapshot_list *files, size_t i)
{
    for (size_t k = 0; k < files->n; k++) {
        if (files->entries[k].id > files->entries[i].id &&
            strcmp(files->entries[k].name, files->entries[i].name) == 0) {
            return true;
        }
    }
    return false;
}

/* Puts the newest snapshot of each optimizer that is whole into the registry. */
static bool load_snapshots(recoverer *rec)
{
    snapshot_list files;
    snapshot_error error;
    problem p;
    bool done = snapshot_list_read(store_dir(rec->ctx->store), NULL, &files, &error) == SNAPSHOT_OK;
    if (!done) {
        (void)problem_set(&p, PROBLEM_STATE_MISMATCH, "%s", error.message);
    }
    for (size_t i = 0; done && i < files.n; i++) {
        const snapshot_entry *f = &files.entries[i];
        if (find_known(rec, f->id) != NULL || is_old(&files, i)) {
            const known *k = find_known(rec, f->id);
            if (k != NULL && k->inst != NULL && atomic_load(&k->inst->kept.needed) == 0) {
                const kept *of = &k->inst->kept; /* the next older one */
                atomic_store(&k->inst->kept.needed, store_needs(of->held, of->n_held, f->lsn));
            }
            if (k == NULL) { /* it was removed before another got its name */
                store_forget_files(rec->ctx->store, f->name, f->id, 0);
            }
            continue;
        }
        const known k = {.id = f->id, .inst = recover_load(rec->ctx, f, &p)};
        if (k.inst == NULL && p.code == PROBLEM_OUT_OF_MEMORY) {
            done = false; /* it is not damaged: an older one would be no better */
            continue;
        }
        if (k.inst == NULL) {
            log_write(LOG_WARN, "%s", p.detail);
            continue; /* an older one, and more of the journal */
        }
        bool no_memory;
        done =
            registry_attach(rec->ctx->registry, k.inst, &no_memory) && add_known(rec, &k) != NULL;
        if (!done) {
            (void)problem_set(&p, PROBLEM_OUT_OF_MEMORY, "no memory for optimizer '%s'", f->name);
        }
        tell(rec);
    }
    snapshot_list_drop(&files);
    if (!done) {
        (void)snprintf(rec->found->report, sizeof rec->found->report, "%s", p.detail);
    }
    return done;
}

/* ---- the journal ---- */

/* The first record of an optimizer that no snapshot had. False: no memory. */
static bool begin_known(recoverer *rec, const journal_record *record, problem *p)
{
    known k = {.id = record->optimizer, .lsn = record->lsn};
    problem why;
    k.inst = recover_creation(rec->ctx, record, &why);
    k.orphan = k.inst == NULL;
    if (k.orphan && why.code == PROBLEM_OUT_OF_MEMORY) {
        *p = why;
        return false;
    }
    bool no_memory = false;
    if (!k.orphan) {
        atomic_store(&k.inst->kept.needed, record->lsn);
        if (!registry_attach(rec->ctx->registry, k.inst, &no_memory)) {
            /* a later one has the name, and a snapshot: this one was removed before that */
            instance *later = registry_hold(rec->ctx->registry, k.inst->name);
            const bool removed = later != NULL && later->kept.id > k.id;
            instance_drop(later);
            if (!removed) {
                (void)problem_set(p, PROBLEM_STATE_MISMATCH, "there is an optimizer '%s' already",
                                  k.inst->name);
            }
            instance_drop(k.inst);
            k.inst = NULL;
            if (!removed) {
                return false;
            }
        }
    }
    return add_known(rec, &k) != NULL ||
           problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for another optimizer");
}

static bool is_removal(const recoverer *rec, const journal_record *record)
{
    json_doc *doc = NULL;
    api_request rq = {0};
    problem p;
    const bool removal = record->type == STORE_REQUEST &&
                         recover_read_request(rec->ctx, record, NULL, &rq, &doc, &p) &&
                         rq.route != NULL && rq.route->handler == api_delete;
    recover_drop_request(&rq, doc);
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
        if (k->inst != NULL) {
            k->inst->kept.last = end;
            return true;
        }
    }
    if (k->orphan) {
        k->orphan = !is_removal(rec, record);
        return true;
    }
    if (k->inst == NULL || (end <= k->inst->kept.snapshot && !recover_is_held(k->inst, end))) {
        return true;
    }
    if (k->why != NULL) {
        if (is_removal(rec, record)) {
            registry_remove(rec->ctx->registry, k->inst);
            store_forget(rec->ctx->store, k->inst);
        }
    } else if (!recover_record(rec->ctx, k->inst, record, end, p)) {
        /* no other optimizer is concerned; nor is this one, if it was removed later on */
        k->why = strdup(p->detail);
        k->lsn = record->lsn;
        if (k->why == NULL) {
            return problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory to go on");
        }
    }
    k->inst->kept.last = end;
    if (atomic_load(&k->inst->removed)) {
        instance_drop(k->inst);
        k->inst = NULL;
    }
    return true;
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
            report(rec, journal_reader_file(log), journal_reader_offset(log) - (end - place),
                   p.detail, stops);
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

/* Every optimizer of the log has a beginning and could go on, or has an end. */
static bool check_orphans(recoverer *rec)
{
    const bool goes_on = rec->ctx->config->recover_to_last_good;
    for (size_t i = 0; i < rec->n; i++) {
        const known *k = &rec->all[i];
        if (k->inst != NULL && k->why != NULL) {
            (void)snprintf(rec->found->report, sizeof rec->found->report,
                           "the journal at %llu: of '%s', %s%s", (unsigned long long)k->lsn,
                           k->inst->name, k->why, goes_on ? "" : WHAT_TO_DO);
            if (!goes_on) {
                return false;
            }
            log_write(LOG_WARN, "%s; it goes on from step %llu, without what came after",
                      rec->found->report, (unsigned long long)instance_info(k->inst).step);
            rec->found->anew = true;
        }
        if (rec->all[i].orphan && rec->all[i].inst == NULL && !rec->found->cut) {
            (void)snprintf(rec->found->report, sizeof rec->found->report,
                           "the journal at %llu speaks of optimizer %llu, whose snapshots are "
                           "missing or damaged" WHAT_TO_DO,
                           (unsigned long long)rec->all[i].lsn, (unsigned long long)rec->all[i].id);
            return rec->ctx->config->recover_to_last_good;
        }
    }
    return true;
}

/* The journal is there from each snapshot on, and up to it: it is dropped behind the older one, and
 * synced before there is a newer one. */
static bool check_reach(recoverer *rec, uint64_t first)
{
    recovery *found = rec->found;
    bool whole = true;
    if (!store_had_journal(rec->ctx->store)) {
        return true;
    }
    for (size_t i = 0; i < rec->n; i++) {
        const instance *inst = rec->all[i].inst;
        const uint64_t lsn = inst != NULL ? atomic_load(&inst->kept.snapshot) : 0;
        if (lsn == 0 || (lsn >= first && lsn <= found->end) || !whole) {
            continue;
        }
        const size_t said = strlen(found->report);
        (void)snprintf(found->report + said, sizeof found->report - said,
                       "%s%s/journal has positions %llu to %llu, but the newest whole snapshot of "
                       "'%s' is at %llu: a segment or a snapshot is missing or damaged%s",
                       said > 0 ? "; " : "", store_dir(rec->ctx->store), (unsigned long long)first,
                       (unsigned long long)found->end, inst->name, (unsigned long long)lsn,
                       rec->ctx->config->recover_to_last_good ? "" : WHAT_TO_DO);
        found->cut = true;
        whole = false;
    }
    return whole || rec->ctx->config->recover_to_last_good;
}

/* LSNs that a snapshot has seen are not given again. */
static void place_end(recoverer *rec)
{
    recovery *found = rec->found;
    uint64_t newest = 0;
    for (size_t i = 0; i < rec->n; i++) {
        const uint64_t lsn = rec->all[i].inst != NULL ? rec->all[i].inst->kept.snapshot : 0;
        newest = lsn > newest ? lsn : newest;
    }
    const uint64_t above = (newest + JOURNAL_ALIGN - 1) / JOURNAL_ALIGN * JOURNAL_ALIGN;
    const bool wanted = rec->ctx->config->journal == CONFIG_GRADIENTS;
    const bool is_log = found->end > 0;
    found->anew = is_log && (found->anew || above > found->end || !wanted);
    found->end = above > found->end ? above : found->end;
}

bool recover_all(api_context *ctx, recovery *found)
{
    recoverer rec = {.ctx = ctx, .found = found, .began = clock_ms(), .told = clock_ms()};
    *found = (recovery){0};
    /* until all epochs are known: a change's own is put in its place, but it has to be another one
     * than the one before, so that what it ends is ended */
    registry_set_next_epoch(ctx->registry, UINT64_MAX / 2);
    bool done = load_snapshots(&rec);
    if (done) { /* with --journal off too: what an earlier server put there counts */
        rec.log = journal_reader_open(store_dir(ctx->store), JOURNAL_FROM_FIRST, found->report,
                                      sizeof found->report);
        const uint64_t first = rec.log != NULL ? journal_reader_place(rec.log) : 0;
        done = rec.log != NULL && read_journal(&rec) && check_orphans(&rec) &&
               check_reach(&rec, first);
        journal_reader_close(rec.log);
    }
    place_end(&rec);
    found->optimizers = registry_count(ctx->registry);
    for (size_t i = 0; i < rec.n; i++) {
        const uint64_t epoch = rec.all[i].inst != NULL ? instance_info(rec.all[i].inst).epoch : 0;
        rec.last_epoch = epoch > rec.last_epoch ? epoch : rec.last_epoch;
    }
    registry_set_next_epoch(ctx->registry, rec.last_epoch + 1);
    forget_all(&rec);
    return done;
}
