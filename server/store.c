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

struct store {
    store_parts with;
    int lock; /* file */
    journal *journal; /* NULL until everything is recovered, and without a journal */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    store_wish *first, *last;
    bool stopping, running;
    int64_t last_look, last_interval;
    pthread_t thread;
};

/* ---- the directory ---- */

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
    (void)snprintf(path, sizeof path, "%s/snapshots", dir);
    if (make_directory(dir, error, error_size) &&
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
    if (s->lock >= 0) {
        (void)close(s->lock);
    }
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->mutex);
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

uint64_t store_first(store *s)
{
    return s->journal != NULL ? journal_first(s->journal) : 0;
}

journal_status store_reserve(store *s, uint64_t bytes)
{
    return s->journal != NULL ? journal_reserve(s->journal, bytes) : JOURNAL_OK;
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
