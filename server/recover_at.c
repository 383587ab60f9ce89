/* recover_at.c: an optimizer as it was at a step, from a snapshot before it and the journal. */
#include "recover_internal.h"

typedef struct search {
    uint64_t id, step;
    uint64_t target; /* the record that follows; UINT64_MAX: none does */
    bool found;
} search;

static void look_for(const journal_record *record, search *s)
{
    if (record->optimizer == s->id && record->type == STORE_STEP && record->step == s->step) {
        s->found = true;
        s->target = record->lsn; /* the last one counts: history may have been rewritten */
    }
}

/* Calls `take` for each record up to s->target. False, with the problem set: the log is damaged, or
 * `take` says so. */
static bool each_record(api_context *ctx, uint64_t limit,
                        bool (*take)(void *context, const journal_record *r, uint64_t end,
                                     problem *p),
                        void *context, problem *p)
{
    char error[1024];
    journal_record record;
    journal_read_status st = JOURNAL_END;
    const uint64_t end = atomic_load(&ctx->recovering) ? UINT64_MAX : store_end(ctx->store);
    journal_reader *log =
        journal_reader_open(store_dir(ctx->store), JOURNAL_FROM_FIRST, error, sizeof error);
    if (log == NULL) {
        return problem_set(p, PROBLEM_DISK_FAILED, "%s", error);
    }
    bool done = true;
    /* behind `end` others are writing */
    while (done && journal_reader_place(log) < end &&
           (st = journal_read_next(log, &record)) == JOURNAL_READ && record.lsn < limit) {
        done = take(context, &record, journal_reader_place(log), p);
    }
    if (done && st == JOURNAL_BAD) {
        done = problem_set(p, PROBLEM_DISK_FAILED, "%s: %s", journal_reader_file(log),
                           journal_reader_reason(log));
    }
    journal_reader_close(log);
    return done;
}

static bool take_search(void *context, const journal_record *r, uint64_t end, problem *p)
{
    (void)end;
    (void)p;
    look_for(r, context);
    return true;
}

typedef struct redo {
    api_context *ctx;
    instance *inst; /* held; NULL: its creation is still to come */
    uint64_t id;
} redo;

static bool take_redo(void *context, const journal_record *r, uint64_t end, problem *p)
{
    redo *d = context;
    if (r->optimizer != d->id || r->type == JOURNAL_TYPE_SYNC) {
        return true;
    }
    if (d->inst == NULL) { /* no snapshot of it is old enough, and the log may not be either */
        d->inst = recover_creation(d->ctx, r, p);
        return d->inst != NULL || p->code == PROBLEM_OUT_OF_MEMORY
                   ? d->inst != NULL
                   : problem_set(p, PROBLEM_NO_SUCH_STEP,
                                 "neither a snapshot nor the journal reaches back to that step");
    }
    return (end <= atomic_load(&d->inst->kept.snapshot) && !recover_is_held(d->inst, end)) ||
           recover_record(d->ctx, d->inst, r, end, p);
}

/* The newest snapshot of the optimizer that is not behind the target; *exact: one is of that step,
 * and nothing else says where it was. */
static void choose_snapshot(api_context *ctx, const char *name, const search *s, redo *d)
{
    snapshot_list files;
    snapshot_error error;
    problem p;
    if (snapshot_list_read(store_dir(ctx->store), name, &files, &error) == SNAPSHOT_OK) {
        for (size_t i = 0; i < files.n && d->inst == NULL; i++) {
            const snapshot_entry *f = &files.entries[i];
            if (f->id != s->id || (s->found && f->lsn > s->target)) {
                continue;
            }
            d->inst = recover_load(ctx, f, &p);
            if (d->inst != NULL && !s->found &&
                adam_optimizer_step_count(d->inst->optimizer) != s->step) {
                instance_drop(d->inst);
                d->inst = NULL;
            }
        }
    }
    snapshot_list_drop(&files);
}

static instance *look_back(api_context *ctx, instance *inst, uint64_t step, problem *p)
{
    search s = {.id = inst->kept.id, .step = step};
    redo d = {.ctx = ctx, .id = inst->kept.id};
    const bool logged = ctx->config->journal == CONFIG_GRADIENTS;
    const uint64_t open = store_end(ctx->store); /* others append behind it */
    const uint64_t end = open > 0 ? open : UINT64_MAX;
    store_read(ctx->store, true);
    bool done = !logged || each_record(ctx, end, take_search, &s, p);
    if (done && logged && instance_info(inst).step == step) {
        s.found = true;
        s.target = end;
    }
    if (done) {
        choose_snapshot(ctx, inst->name, &s, &d);
    }
    if (done && s.found) {
        done = each_record(ctx, s.target, take_redo, &d, p);
        if (!done && p->code != PROBLEM_OUT_OF_MEMORY && p->code != PROBLEM_DISK_FAILED) {
            /* its creation, or the snapshot that a rollback made, is not there any more */
            (void)problem_set(p, PROBLEM_NO_SUCH_STEP,
                              "the journal does not reach back to step %llu of '%s'",
                              (unsigned long long)step, inst->name);
        }
    }
    store_read(ctx->store, false);
    if (done && (d.inst == NULL || adam_optimizer_step_count(d.inst->optimizer) != step)) {
        done = problem_set(p, PROBLEM_NO_SUCH_STEP,
                           "neither a snapshot nor the journal reaches back to step %llu of '%s'",
                           (unsigned long long)step, inst->name);
    }
    if (!done) {
        instance_drop(d.inst);
        return NULL;
    }
    return d.inst;
}

instance *recover_at(api_context *ctx, instance *inst, uint64_t step, problem *p)
{
    for (;;) {
        const uint64_t first = store_first(ctx->store);
        instance *then = look_back(ctx, inst, step, p);
        if (then != NULL || p->code != PROBLEM_DISK_FAILED || store_first(ctx->store) == first) {
            return then;
        }
        /* what was read was dropped at that moment */
    }
}
