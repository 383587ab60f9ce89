/* store_snapshot.c: snapshots: copied in the strand of their optimizer, written outside of it. */
#include "store_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

/* Copies the state; in the strand. */
static snapshot_status copy(store *s, instance *inst, snapshot *to, uint64_t lsn, uint64_t *needs,
                            snapshot_error *error)
{
    const optimizer_info info = instance_info(inst);
    buffer *room = buffer_get(s->with.buffers, (inst->round.n + 1) * sizeof(uint64_t));
    if (room == NULL) {
        (void)snprintf(error->message, sizeof error->message, "no memory for a snapshot of '%s'",
                       inst->name);
        return SNAPSHOT_NO_MEMORY;
    }
    uint64_t *held = (void *)room->data;
    size_t n = 0;
    for (const contribution *c = inst->round.first; c != NULL; c = c->next) {
        if (c->lsn > 0) { /* those of a sync round have not been answered */
            held[n++] = c->lsn;
        }
    }
    const snapshot_source from = {.name = inst->name,
                                  .id = inst->kept.id,
                                  .epoch = info.epoch,
                                  .lsn = lsn,
                                  .optimizer = inst->optimizer,
                                  .defaults = &info.defaults,
                                  .how = &inst->training,
                                  .keys = inst->keys,
                                  .workers = atomic_load(&inst->workers),
                                  .held = held,
                                  .n_held = n};
    const snapshot_status st = snapshot_copy(to, &from, s->with.pool, error);
    *needs = store_needs(held, n, lsn);
    buffer_drop(room);
    return st;
}

/* The journal is on disk up to where the snapshot begins, before that is there: else a log that has
 * lost its end would be shorter than what the snapshot has, and its next records be taken for older
 * ones. */
static snapshot_status write_one(store *s, snapshot *from, uint64_t lsn, snapshot_error *error)
{
    if (s->journal != NULL && !journal_flush(s->journal, lsn)) {
        (void)snprintf(error->message, sizeof error->message, "the journal failed: %s",
                       journal_failure(s->journal));
        return SNAPSHOT_FAILED;
    }
    pthread_mutex_lock(&s->writing);
    const snapshot_status st = snapshot_write(from, store_dir(s), error);
    pthread_mutex_unlock(&s->writing);
    return st;
}

/* The newest snapshot is up to that LSN now; the one before it still counts. */
void store_has_snapshot(instance *inst, uint64_t lsn, uint64_t step, uint64_t needs)
{
    atomic_store(&inst->kept.snapshot_step, step);
    const uint64_t older = atomic_exchange(&inst->kept.snapshot, lsn);
    atomic_store(&inst->kept.needs, needs);
    atomic_store(&inst->kept.needed, needs < older ? needs : older);
}

uint64_t store_needs(const uint64_t *held, size_t n, uint64_t lsn)
{
    for (size_t i = 0; i < n; i++) { /* where they end: their beginnings are in the same segment */
        lsn = held[i] - 1 < lsn ? held[i] - 1 : lsn;
    }
    return lsn;
}

snapshot_status store_snapshot_now(store *s, const snapshot_source *from, snapshot_error *error)
{
    snapshot *made = NULL;
    snapshot_status st =
        snapshot_begin(s->with.buffers, adam_optimizer_bytes(from->optimizer), &made, error);
    if (st == SNAPSHOT_OK) {
        st = snapshot_copy(made, from, s->with.pool, error);
    }
    if (st == SNAPSHOT_OK) {
        st = write_one(s, made, from->lsn, error);
    }
    snapshot_drop(made);
    return st;
}

/* The part of a snapshot that is done in the strand. */
typedef struct copy_job {
    job job;
    store *store;
    store_wish *wish;
    snapshot *to;
    bool finished;
} copy_job;

static void run_copy(job *j)
{
    copy_job *c = (copy_job *)j;
    store *s = c->store;
    instance *inst = c->wish->instance;
    const optimizer_info info = instance_info(inst);
    const uint64_t bytes = inst->kept.bytes;
    /* no record of it comes in between: where it is idle, its snapshot still lets the log go */
    c->wish->lsn =
        store_keeps_log(s) ? store_end(s) : ++inst->kept.last; /* which counts, without one */
    c->wish->step = info.step;
    inst->kept.bytes = 0;
    atomic_store(&inst->kept.wished, false); /* what changes from here on needs another one */
    if (atomic_load(&inst->removed)) {
        c->wish->status = SNAPSHOT_FAILED;
        (void)snprintf(c->wish->error.message, sizeof c->wish->error.message,
                       "optimizer '%s' was removed", inst->name);
    } else {
        c->wish->status = copy(s, inst, c->to, c->wish->lsn, &c->wish->needs, &c->wish->error);
    }
    if (c->wish->status != SNAPSHOT_OK) {
        inst->kept.bytes = bytes;
    }
    strand_leave(s->with.jobs, &inst->strand);
    pthread_mutex_lock(&s->mutex);
    c->finished = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mutex);
}

static void copy_in_strand(store *s, store_wish *wish, snapshot *to)
{
    copy_job c = {.job.run = run_copy, .store = s, .wish = wish, .to = to};
    executor_submit(s->with.jobs, &wish->instance->strand, &c.job);
    pthread_mutex_lock(&s->mutex);
    while (!c.finished) {
        pthread_cond_wait(&s->changed, &s->mutex);
    }
    pthread_mutex_unlock(&s->mutex);
}

/* On the store's thread: waits for the strand to copy, not the other way round. */
void store_fulfil(store *s, store_wish *wish)
{
    instance *inst = wish->instance;
    for (int tries = 0; tries < 2; tries++) {
        snapshot *made = NULL;
        wish->status =
            snapshot_begin(s->with.buffers, instance_info(inst).bytes, &made, &wish->error);
        if (wish->status == SNAPSHOT_OK) {
            copy_in_strand(s, wish, made);
        }
        if (wish->status == SNAPSHOT_OK) {
            wish->status = write_one(s, made, wish->lsn, &wish->error);
        }
        snapshot_drop(made);
        if (wish->status != SNAPSHOT_OUTGROWN) {
            break;
        }
    }
    if (wish->status == SNAPSHOT_OK) {
        store_has_snapshot(inst, wish->lsn, wish->step, wish->needs);
        log_write(LOG_DEBUG, "snapshot of %s at step %llu", inst->name,
                  (unsigned long long)wish->step);
    } else if (!atomic_load(&inst->removed)) {
        log_write(LOG_WARN, "no snapshot of %s: %s", inst->name, wish->error.message);
    }
}

void store_snapshot(store *s, store_wish *wish)
{
    wish->next = NULL;
    pthread_mutex_lock(&s->mutex);
    if (s->last != NULL) {
        s->last->next = wish;
    } else {
        s->first = wish;
    }
    s->last = wish;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mutex);
}

/* Of the store's own wishes. */
static void own_done(store_wish *w)
{
    atomic_store(&w->instance->kept.wished, false);
    instance_drop(w->instance);
    atomic_fetch_sub(&w->store->wishes, 1);
    free(w);
}

/* Wishes for a snapshot that nobody waits for, unless one is on its way. */
void store_wish_for(store *s, instance *inst)
{
    if (atomic_exchange(&inst->kept.wished, true)) {
        return;
    }
    store_wish *w = calloc(1, sizeof *w);
    if (w == NULL) {
        atomic_store(&inst->kept.wished, false);
        return;
    }
    w->instance = instance_hold(inst);
    w->done = own_done;
    w->store = s;
    atomic_fetch_add(&s->wishes, 1);
    store_snapshot(s, w);
}
