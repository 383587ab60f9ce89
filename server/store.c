/* store.c: the data directory: its lock, and its journal while it is open. */
#include "store_internal.h"

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

/* An optimizer has a new snapshot when its records since the last one are this part of
 * --journal-size: two snapshots, and what came since the older, fit into it. */
#define SNAPSHOT_PART 4

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

bool store_keeps_log(const store *s)
{
    return s->with.config->journal == CONFIG_GRADIENTS;
}

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
        store_remove_forgotten(s, true);
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
    return store_keeps_log(s) && s->with.config->fsync == CONFIG_ALWAYS;
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
        store_wish_for(s, inst);
    }
    return JOURNAL_OK;
}

/* ---- beginning and end ---- */

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
    store_each(s, store_wish_for_all, NULL);
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
    if (store_keeps_log(s)) {
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
    const bool first_log = store_keeps_log(s) && !store_had_journal(s);
    if (store_keeps_log(s)) {
        s->journal = journal_open(store_dir(s), end, (journal_fsync)s->with.config->fsync, error,
                                  error_size);
        if (s->journal == NULL) {
            return false;
        }
    }
    mark_journal(s);
    s->began = true;
    s->last_look = s->last_interval = clock_ms();
    s->running = pthread_create(&s->thread, NULL, store_run, s) == 0;
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
    store_each(s, store_wish_where_changed, NULL);
    pthread_mutex_lock(&s->mutex);
    s->stopping = true; /* when all wishes are fulfilled */
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mutex);
    if (s->running) {
        pthread_join(s->thread, NULL);
        s->running = false;
    }
}
