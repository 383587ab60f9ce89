/* store.c: the data directory, and the thread that writes snapshots into it. */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"

#define ERROR_SIZE 1024
#define TICK_MS    1000
/* An optimizer has a new snapshot when its records since the last one are this part of
 * --journal-size: two snapshots, and what came since the older, fit into it. */
#define SNAPSHOT_PART 4

/* An optimizer that was removed, and whose files go when that is on disk. */
typedef struct forgotten {
    struct forgotten *next;
    uint64_t id, lsn;
    char name[REGISTRY_MAX_NAME + 1];
} forgotten;

struct store {
    store_parts with;
    int lock;                 /* file */
    journal *journal;         /* NULL until everything is recovered, and without a journal */
    pthread_mutex_t writing;  /* of snapshots: one at a time */
    pthread_mutex_t dropping; /* of the log's beginning, and for `readers` */
    size_t readers;           /* who read the log: none of it goes meanwhile */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    store_wish *first, *last;
    atomic_uint wishes; /* its own, not yet fulfilled */
    forgotten *forgotten;
    bool stopping, running, began;
    journal_status said; /* in the log */
    int64_t last_look, last_interval;
    pthread_t thread;
};

/* ---- the directory ---- */

/* --check and --replay make nothing: a directory that is not there is a wrong name. */
static bool is_there(const config *c, char *error, size_t size)
{
    if ((!c->check && c->replay == NULL) || access(c->data_dir, F_OK) == 0) {
        return true;
    }
    (void)snprintf(error, size, "%s cannot be read: %s", c->data_dir, strerror(errno));
    return false;
}

static bool make_directory(const char *path, char *error, size_t size)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST) {
        return true;
    }
    (void)snprintf(error, size, "%s cannot be made: %s", path, strerror(errno));
    return false;
}

/* A second server would write into the same files. */
static int take_lock(const char *dir, char *error, size_t size)
{
    char path[4096];
    char pid[32];
    (void)snprintf(path, sizeof path, "%s/lock", dir);
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        (void)snprintf(error, size, "%s cannot be opened: %s", path, strerror(errno));
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        const ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
        pid[n > 0 ? n : 0] = '\0';
        pid[strcspn(pid, "\n")] = '\0';
        (void)snprintf(error, size, "%s is another server's, process %s", dir, pid);
        (void)close(fd);
        return -1;
    }
    const int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)n, 0) != n) {
        log_write(LOG_WARN, "%s: %s", path, strerror(errno)); /* it is for people alone */
    }
    return fd;
}

store *store_open(const store_parts *parts, char *error, size_t error_size)
{
    const char *dir = parts->config->data_dir;
    char path[4096];
    store *s = calloc(1, sizeof *s);
    if (s == NULL) {
        (void)snprintf(error, error_size, "no memory for the data directory");
        return NULL;
    }
    s->with = *parts;
    s->lock = -1;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&s->mutex, NULL);
    pthread_mutex_init(&s->writing, NULL);
    pthread_mutex_init(&s->dropping, NULL);
    (void)snprintf(path, sizeof path, "%s/snapshots", dir);
    if (is_there(parts->config, error, error_size) && make_directory(dir, error, error_size) &&
        (s->lock = take_lock(dir, error, error_size)) >= 0 &&
        make_directory(path, error, error_size)) {
        return s;
    }
    store_close(s);
    return NULL;
}

const char *store_dir(const store *s)
{
    return s->with.config->data_dir;
}

static bool has_journal(const store *s)
{
    return s->with.config->journal == CONFIG_GRADIENTS;
}

static void remove_forgotten(store *s, bool all);

void store_close(store *s)
{
    if (s == NULL) {
        return;
    }
    if (s->running) {
        pthread_mutex_lock(&s->mutex);
        s->stopping = true;
        pthread_cond_signal(&s->changed);
        pthread_mutex_unlock(&s->mutex);
        pthread_join(s->thread, NULL);
    }
    journal_close(s->journal);
    s->journal = NULL;
    if (s->began) {
        remove_forgotten(s, true);
    }
    while (s->forgotten != NULL) {
        forgotten *f = s->forgotten;
        s->forgotten = f->next;
        free(f);
    }
    if (s->lock >= 0) {
        (void)close(s->lock);
    }
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->mutex);
    pthread_mutex_destroy(&s->writing);
    pthread_mutex_destroy(&s->dropping);
    free(s);
}

/* ---- the journal ---- */

journal_status store_health(store *s)
{
    return s->journal != NULL ? journal_health(s->journal) : JOURNAL_OK;
}

bool store_is_always(const store *s)
{
    return has_journal(s) && s->with.config->fsync == CONFIG_ALWAYS;
}

void store_wait(store *s, journal_waiter *w, uint64_t lsn)
{
    journal_wait(s->journal, w, lsn);
}

uint64_t store_end(store *s)
{
    return s->journal != NULL ? journal_end(s->journal) : 0;
}

uint64_t store_first(store *s)
{
    return s->journal != NULL ? journal_first(s->journal) : 0;
}

journal_status store_reserve(store *s, uint64_t bytes)
{
    return s->journal != NULL ? journal_reserve(s->journal, bytes) : JOURNAL_OK;
}

void store_diverged(store *s, const char *name)
{
    log_write(LOG_ERROR, "%s was changed, and that could not be written to the journal", name);
    journal_fail_for_good(s->journal);
}

static void wish_for(store *s, instance *inst);

journal_status store_append(store *s, instance *inst, const store_record *r, uint64_t *end)
{
    kept *k = &inst->kept;
    const uint64_t start = journal_end(s->journal); /* or a little before it */
    const journal_record record = {.type = r->type,
                                   .optimizer = k->id,
                                   .epoch = r->epoch,
                                   .step = r->step,
                                   .time_ms = clock_wall_ms(),
                                   .meta = r->meta->buffer->data,
                                   .meta_length = r->meta->buffer->length};
    const journal_status status = journal_append(s->journal, &record, r->data, r->n_data, end);
    if (status != JOURNAL_OK) {
        return status;
    }
    if (k->last == 0) {
        atomic_store(&k->needed, start);
    }
    for (size_t i = 0; i < r->n_data; i++) {
        k->bytes += r->data[i].iov_len;
    }
    k->bytes += JOURNAL_HEADER_BYTES + record.meta_length;
    k->last = *end;
    if (k->bytes > s->with.config->journal_size / SNAPSHOT_PART) {
        wish_for(s, inst);
    }
    return JOURNAL_OK;
}

/* ---- snapshots ---- */

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
        has_journal(s) ? store_end(s) : ++inst->kept.last; /* which counts, without one */
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
static void fulfil(store *s, store_wish *wish)
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
static void wish_for(store *s, instance *inst)
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

/* ---- what is done from time to time ---- */

/* Calls `look` for each optimizer. */
static void each_instance(store *s, void (*look)(store *s, instance *inst, void *context),
                          void *context)
{
    instance *page[64];
    char after[REGISTRY_MAX_NAME + 1] = "";
    bool more = true;
    while (more) {
        const size_t n = registry_page(s->with.registry, "", after, 64, page, &more);
        for (size_t i = 0; i < n; i++) {
            strcpy(after, page[i]->name);
            look(s, page[i], context);
            instance_drop(page[i]);
        }
    }
}

static void lower_limit(store *s, instance *inst, void *context)
{
    (void)s;
    uint64_t *limit = context;
    const uint64_t needed = atomic_load(&inst->kept.needed);
    *limit = needed < *limit ? needed : *limit;
}

static void wish_where_pinned(store *s, instance *inst, void *context)
{
    const uint64_t *limit = context;
    const uint64_t needed = atomic_load(&inst->kept.needed);
    /* the first one has to get older, but what a round holds stays where it is */
    if (needed < *limit &&
        (atomic_load(&inst->kept.snapshot) < *limit || atomic_load(&inst->kept.needs) > needed)) {
        wish_for(s, inst);
    }
}

static void wish_where_changed(store *s, instance *inst, void *context)
{
    (void)context;
    if (has_journal(s) ? atomic_load(&inst->kept.last) > atomic_load(&inst->kept.snapshot)
                       : instance_info(inst).step != atomic_load(&inst->kept.snapshot_step)) {
        wish_for(s, inst);
    }
}

static void sync_directory(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        (void)close(fd);
    }
}

static void remove_files(store *s, const forgotten *f)
{
    snapshot_list files = {0};
    snapshot_error error;
    char path[4096];
    pthread_mutex_lock(&s->writing); /* another of that name may be writing its first */
    if (snapshot_list_read(store_dir(s), f->name, &files, &error) != SNAPSHOT_OK) {
        log_write(LOG_WARN, "%s", error.message);
    }
    for (size_t i = 0; i < files.n; i++) {
        if (files.entries[i].id == f->id &&
            snapshot_path(store_dir(s), &files.entries[i], path, sizeof path)) {
            (void)unlink(path);
        }
    }
    snapshot_list_drop(&files);
    (void)snprintf(path, sizeof path, "%s/snapshots/%s", store_dir(s), f->name);
    if (rmdir(path) != 0) { /* another has the name by now */
        sync_directory(path);
    }
    (void)snprintf(path, sizeof path, "%s/snapshots", store_dir(s));
    sync_directory(path);
    pthread_mutex_unlock(&s->writing);
}

void store_remove_files(store *s, const char *name, uint64_t id)
{
    forgotten f = {.id = id};
    strcpy(f.name, name);
    remove_files(s, &f);
}

/* Removes the files of those whose removal is on disk. */
static void remove_forgotten(store *s, bool all)
{
    pthread_mutex_lock(&s->mutex);
    forgotten *left = s->forgotten;
    s->forgotten = NULL;
    pthread_mutex_unlock(&s->mutex);
    for (forgotten *f = left, *next; f != NULL; f = next) {
        next = f->next;
        if (all || s->journal == NULL || s->with.config->fsync == CONFIG_NEVER ||
            journal_durable(s->journal) >= f->lsn) {
            remove_files(s, f);
            free(f);
        } else {
            pthread_mutex_lock(&s->mutex);
            f->next = s->forgotten;
            s->forgotten = f;
            pthread_mutex_unlock(&s->mutex);
        }
    }
}

void store_forget_files(store *s, const char *name, uint64_t id, uint64_t lsn)
{
    forgotten *f = malloc(sizeof *f);
    if (f == NULL) {
        log_write(LOG_WARN, "no memory to remove the snapshots of %s", name);
        return; /* the next start does it */
    }
    f->id = id;
    f->lsn = lsn;
    strcpy(f->name, name);
    pthread_mutex_lock(&s->mutex);
    f->next = s->forgotten;
    s->forgotten = f;
    pthread_mutex_unlock(&s->mutex);
}

void store_forget(store *s, instance *inst)
{
    store_forget_files(s, inst->name, inst->kept.id, atomic_load(&inst->kept.last));
}

void store_created(store *s, instance *inst)
{
    if (!has_journal(s)) {
        wish_for(s, inst);
    }
}

static void wish_for_all(store *s, instance *inst, void *context)
{
    (void)context;
    wish_for(s, inst);
}

/* The journal has to say that an optimizer was removed for as long as it has files. */
static uint64_t first_removal(store *s, uint64_t limit)
{
    pthread_mutex_lock(&s->mutex);
    for (const forgotten *f = s->forgotten; f != NULL; f = f->next) {
        limit = f->lsn > 0 && f->lsn - 1 < limit ? f->lsn - 1 : limit;
    }
    pthread_mutex_unlock(&s->mutex);
    return limit;
}

void store_read(store *s, bool begins)
{
    pthread_mutex_lock(&s->dropping);
    s->readers += begins ? 1 : (size_t)-1;
    pthread_mutex_unlock(&s->dropping);
}

static void drop_before(store *s, uint64_t limit)
{
    pthread_mutex_lock(&s->dropping);
    if (s->readers == 0) {
        journal_drop_before(s->journal, limit);
    }
    pthread_mutex_unlock(&s->dropping);
}

/* Says in the log where the journal fails, and where it has space again. */
static void tell_health(store *s)
{
    const journal_status now = store_health(s);
    if (now == s->said) {
        return;
    }
    s->said = now;
    if (now == JOURNAL_FAILED) {
        log_write(LOG_ERROR,
                  "%s: nothing is kept any more, and changes are refused until the next "
                  "start",
                  journal_failure(s->journal));
    } else if (now == JOURNAL_NO_SPACE) {
        log_write(LOG_WARN, "no space left in %s: changes are refused until there is",
                  store_dir(s));
    } else {
        log_write(LOG_INFO, "there is space again in %s", store_dir(s));
    }
}

/* Drops what nobody needs, and has snapshots made where the journal is too long, or time is up. */
static void look_around(store *s, int64_t now)
{
    const config *c = s->with.config;
    tell_health(s);
    remove_forgotten(s, false);
    if (s->journal != NULL) {
        uint64_t limit = first_removal(s, journal_end(s->journal));
        uint64_t pins = limit > c->journal_size / 2 ? limit - c->journal_size / 2 : 0;
        each_instance(s, lower_limit, &limit);
        drop_before(s, limit);
        if (journal_end(s->journal) - journal_first(s->journal) > c->journal_size) {
            each_instance(s, wish_where_pinned, &pins);
        }
    }
    if (c->snapshot_interval > 0 &&
        now - s->last_interval >= (int64_t)c->snapshot_interval * 1000) {
        s->last_interval = now;
        each_instance(s, wish_where_changed, NULL);
    }
    s->last_look = now;
}

/* Waits for a wish, or for the time to look around; under the mutex. */
static store_wish *next_wish(store *s)
{
    const int64_t due = s->last_look + TICK_MS;
    while (s->first == NULL && !s->stopping && clock_ms() < due) {
        const struct timespec until = {.tv_sec = due / 1000, .tv_nsec = due % 1000 * 1000000};
        (void)pthread_cond_timedwait(&s->changed, &s->mutex, &until);
    }
    store_wish *w = s->first;
    if (w != NULL) {
        s->first = w->next;
        s->last = s->first != NULL ? s->last : NULL;
    }
    return w;
}

static void *store_main(void *argument)
{
    store *s = argument;
    pthread_mutex_lock(&s->mutex);
    for (;;) {
        store_wish *w = next_wish(s);
        if (w == NULL && s->stopping) {
            break;
        }
        pthread_mutex_unlock(&s->mutex);
        if (w != NULL) {
            fulfil(s, w);
            w->done(w);
        }
        const int64_t now = clock_ms();
        if (now - s->last_look >= TICK_MS) {
            look_around(s, now);
        }
        pthread_mutex_lock(&s->mutex);
    }
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

/* Moves the log away: another begins, or none is wanted any more. */
static bool put_away(const store *s, char *error, size_t error_size)
{
    char from[4096];
    char to[4096];
    (void)snprintf(from, sizeof from, "%s/journal", store_dir(s));
    (void)snprintf(to, sizeof to, "%s/journal-%lld", store_dir(s), (long long)clock_wall_ms());
    if (rename(from, to) != 0 && errno != ENOENT) {
        (void)snprintf(error, error_size, "%s cannot be renamed: %s", from, strerror(errno));
        return false;
    }
    log_write(LOG_WARN, "%s is not used any more; it was moved to %s", from, to);
    return true;
}

/* Has a snapshot of every optimizer, and waits for them: the log does not have them any more. */
static void checkpoint(store *s)
{
    const struct timespec tick = {.tv_nsec = 1000000};
    each_instance(s, wish_for_all, NULL);
    while (atomic_load(&s->wishes) > 0) {
        (void)nanosleep(&tick, NULL);
    }
}

static void marker_path(const store *s, char *out, size_t size)
{
    (void)snprintf(out, size, "%s/journal-off", store_dir(s));
}

bool store_had_journal(const store *s)
{
    char path[4096];
    marker_path(s, path, sizeof path);
    return access(path, F_OK) != 0;
}

/* A file says that there is no journal because none was wanted, or a lost one would not be noticed.
 */
static void mark_journal(const store *s)
{
    char path[4096];
    marker_path(s, path, sizeof path);
    if (has_journal(s)) {
        (void)unlink(path);
        return;
    }
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        log_write(LOG_WARN, "%s: %s", path, strerror(errno));
    } else {
        (void)close(fd);
    }
}

bool store_begin(store *s, uint64_t end, bool anew, char *error, size_t error_size)
{
    if (anew && !put_away(s, error, error_size)) {
        return false;
    }
    const bool first_log = has_journal(s) && !store_had_journal(s);
    if (has_journal(s)) {
        s->journal = journal_open(store_dir(s), end, (journal_fsync)s->with.config->fsync, error,
                                  error_size);
        if (s->journal == NULL) {
            return false;
        }
    }
    mark_journal(s);
    s->began = true;
    s->last_look = s->last_interval = clock_ms();
    s->running = pthread_create(&s->thread, NULL, store_main, s) == 0;
    if (!s->running) {
        (void)snprintf(error, error_size, "no thread for snapshots");
    }
    if (s->running && (anew || first_log)) {
        checkpoint(s);
    }
    return s->running;
}

void store_settle(store *s)
{
    each_instance(s, wish_where_changed, NULL);
    pthread_mutex_lock(&s->mutex);
    s->stopping = true; /* when all wishes are fulfilled */
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mutex);
    if (s->running) {
        pthread_join(s->thread, NULL);
        s->running = false;
    }
}
