/* journal_sync.c: the journal's thread: syncs what was appended by the policy, answers who waits
 * for it, and has the next segment ready before it is needed. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"
#include "journal_internal.h"

#define INTERVAL_MS ((int64_t)1000)
/* There is space again where there is as much as this. */
#define SPACE_AGAIN ((uint64_t)1 << 20)
/* What is read of a new segment at a time. */
#define WARM_BYTES ((size_t)128 << 10)

void journal_wake(journal *j)
{
    if (j->idle) {
        j->idle = false;
        pthread_cond_signal(&j->wake);
    }
}

void journal_wait(journal *j, journal_waiter *w, uint64_t lsn)
{
    pthread_mutex_lock(&j->lock);
    const bool failed = atomic_load(&j->status) == JOURNAL_FAILED;
    const bool wait = !failed && j->policy == JOURNAL_ALWAYS && lsn > atomic_load(&j->durable);
    if (wait) {
        w->lsn = lsn;
        w->next = j->waiters;
        j->waiters = w;
        pthread_cond_signal(&j->wake);
    }
    pthread_mutex_unlock(&j->lock);
    if (!wait) {
        w->done(w, !failed);
    }
}

typedef struct flush {
    journal_waiter waiter; /* first, so that a journal_waiter * is one */
    pthread_mutex_t lock;
    pthread_cond_t over;
    bool done, ok;
} flush;

static void flushed(journal_waiter *w, bool ok)
{
    flush *f = (flush *)w;
    pthread_mutex_lock(&f->lock);
    f->done = true;
    f->ok = ok;
    pthread_cond_signal(&f->over);
    pthread_mutex_unlock(&f->lock);
}

bool journal_flush(journal *j, uint64_t lsn)
{
    flush f = {.waiter = {.done = flushed, .lsn = lsn}};
    pthread_mutex_init(&f.lock, NULL);
    pthread_cond_init(&f.over, NULL);
    pthread_mutex_lock(&j->lock);
    f.ok = atomic_load(&j->status) != JOURNAL_FAILED;
    f.done = !f.ok || lsn <= atomic_load(&j->durable);
    if (!f.done) {
        f.waiter.next = j->waiters;
        j->waiters = &f.waiter;
        pthread_cond_signal(&j->wake);
    }
    pthread_mutex_unlock(&j->lock);
    pthread_mutex_lock(&f.lock);
    while (!f.done) {
        pthread_cond_wait(&f.over, &f.lock);
    }
    pthread_mutex_unlock(&f.lock);
    pthread_cond_destroy(&f.over);
    pthread_mutex_destroy(&f.lock);
    return f.ok;
}

/* Takes out those whose records are on disk; all of them, where nothing will be any more. With
 * `lock` held. */
static journal_waiter *take_waiters(journal *j)
{
    const bool all = atomic_load(&j->status) == JOURNAL_FAILED;
    const uint64_t durable = atomic_load(&j->durable);
    journal_waiter *taken = NULL;
    journal_waiter **at = &j->waiters;
    while (*at != NULL) {
        journal_waiter *w = *at;
        if (all || w->lsn <= durable) {
            *at = w->next;
            w->next = taken;
            taken = w;
        } else {
            at = &w->next;
        }
    }
    return taken;
}

static void answer_waiters(journal *j)
{
    pthread_mutex_lock(&j->lock);
    journal_waiter *w = take_waiters(j);
    pthread_mutex_unlock(&j->lock);
    while (w != NULL) {
        journal_waiter *next = w->next;
        w->done(w, w->lsn <= atomic_load(&j->durable));
        w = next;
    }
}

/* Syncs and closes segments that are written. False: errno says why. */
static bool sync_closed(journal_closed *c)
{
    int error = 0;
    while (c != NULL) {
        journal_closed *next = c->next;
        /* If this fails, space is wasted: who reads ends where the next segment begins. */
        (void)!ftruncate(c->fd, (off_t)c->length);
        if (error == 0 && fdatasync(c->fd) != 0) {
            error = errno;
        }
        close(c->fd);
        free(c);
        c = next;
    }
    errno = error;
    return error == 0;
}

/* One sync for all that was appended before it; without the current segment, where !current. A file
 * whose sync failed is never synced again: the kernel may have dropped what it could not write. */
static void sync_all(journal *j, bool current)
{
    pthread_mutex_lock(&j->lock);
    journal_closed *closed = j->closed;
    const bool directory = j->directory_changed;
    const int fd = j->fd; /* only this thread closes it */
    const uint64_t first = j->fd_first;
    const uint64_t target = current ? atomic_load(&j->end) : first;
    const uint64_t before = atomic_load(&j->durable);
    const bool news = target > before && j->wanted > before;
    j->closed = NULL;
    j->directory_changed = false;
    pthread_mutex_unlock(&j->lock);

    char name[JOURNAL_NAME_SIZE];
    journal_segment_name(first, name);
    if (!sync_closed(closed)) {
        journal_fail(j, "cannot sync a segment before", name, errno);
    } else if (directory && fsync(j->directory) != 0) {
        journal_fail(j, "cannot sync", "", errno);
    } else if (current && fdatasync(fd) != 0) {
        journal_fail(j, "cannot sync", name, errno);
    } else if (target > before) {
        pthread_mutex_lock(&j->lock);
        atomic_store(&j->durable, target);
        pthread_mutex_unlock(&j->lock);
    }
    answer_waiters(j);
    if (news) {
        journal_append_sync(j);
    }
}

/* ---- the next segment ---- */

/* A new segment whose zeros are read, so that its pages are in memory, and an append only copies
 * into them. It costs no I/O; getting pages beside each append takes as long as the copy, or, where
 * a virtual machine has to ask its host for them, several times as long. */
typedef struct warming {
    int fd; /* its own; or -1 */
    uint64_t at;
    char *to;
} warming;

static void warm_end(warming *w)
{
    if (w->fd >= 0) {
        close(w->fd);
    }
    w->fd = -1;
}

static void warm_begin(warming *w, int fd)
{
    warm_end(w);
    w->at = 0;
    w->fd = w->to != NULL ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (w->fd >= 0) {
        (void)posix_fadvise(w->fd, 0, 0, POSIX_FADV_SEQUENTIAL); /* in large pages */
    }
}

/* Reads a little of it: somebody may wait for a sync. */
static void warm_on(warming *w)
{
    if (w->at >= JOURNAL_SEGMENT_BYTES || pread(w->fd, w->to, WARM_BYTES, (off_t)w->at) <= 0) {
        warm_end(w);
    }
    w->at += WARM_BYTES;
}

/* The file of the next segment. Without one, the append that needs it makes it. */
static void make_spare(journal *j, warming *w)
{
    const int fd =
        openat(j->directory, JOURNAL_SPARE, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    const bool ok =
        fd >= 0 && journal_allocate(fd, 0, JOURNAL_SEGMENT_BYTES, JOURNAL_SEGMENT_BYTES) > 0;
    if (!ok && fd >= 0) {
        (void)unlinkat(j->directory, JOURNAL_SPARE, 0);
        close(fd);
    }
    if (ok) {
        warm_begin(w, fd);
    }
    pthread_mutex_lock(&j->lock);
    j->spare_tried = !ok;
    j->spare = ok ? fd : -1;
    pthread_mutex_unlock(&j->lock);
}

/* Whether appending would have space again. */
static void look_for_space(journal *j)
{
    pthread_mutex_lock(&j->writing);
    if (journal_make_room(j, SPACE_AGAIN) == JOURNAL_OK) {
        int no_space = JOURNAL_NO_SPACE;
        atomic_compare_exchange_strong(&j->status, &no_space, JOURNAL_OK);
    }
    pthread_mutex_unlock(&j->writing);
}

/* Whether there is something to do when the interval is over. With `lock` held. */
static bool has_pending(const journal *j)
{
    const int status = atomic_load(&j->status);
    return status != JOURNAL_FAILED &&
           ((j->policy != JOURNAL_NEVER && j->wanted > atomic_load(&j->durable)) ||
            j->closed != NULL || j->directory_changed || j->spare_tried ||
            status == JOURNAL_NO_SPACE);
}

/* What is done once a second. With `lock` held, which it lets go. */
static void run_interval(journal *j)
{
    const bool space = atomic_load(&j->status) == JOURNAL_NO_SPACE;
    const bool current = j->policy != JOURNAL_NEVER && j->wanted > atomic_load(&j->durable);
    const bool sync = current || j->closed != NULL || j->directory_changed;
    j->spare_tried = false;
    pthread_mutex_unlock(&j->lock);
    if (space) {
        look_for_space(j);
    }
    if (sync) {
        sync_all(j, current);
    }
    pthread_mutex_lock(&j->lock);
}

/* Until there may be something to do: `due` where something waits for that time. With `lock` held.
 */
static void sleep_until(journal *j, bool pending, int64_t due)
{
    if (pending) {
        const struct timespec until = {.tv_sec = (time_t)(due / 1000),
                                       .tv_nsec = (long)(due % 1000) * 1000000};
        (void)pthread_cond_timedwait(&j->wake, &j->lock, &until);
    } else {
        j->idle = true;
        pthread_cond_wait(&j->wake, &j->lock);
        j->idle = false;
    }
}

static void *sync_main(void *argument)
{
    journal *j = argument;
    warming w = {.fd = -1, .to = malloc(WARM_BYTES)}; /* without memory nothing is warmed */
    int64_t due = clock_ms() + INTERVAL_MS;
    pthread_mutex_lock(&j->lock);
    while (!j->stopping) {
        const bool failed = atomic_load(&j->status) == JOURNAL_FAILED;
        const bool pending = has_pending(j);
        if (j->waiters != NULL) {
            pthread_mutex_unlock(&j->lock);
            if (failed) {
                answer_waiters(j);
            } else {
                sync_all(j, true);
            }
            pthread_mutex_lock(&j->lock);
        } else if (j->spare < 0 && !j->spare_tried && !failed) {
            pthread_mutex_unlock(&j->lock);
            make_spare(j, &w);
            pthread_mutex_lock(&j->lock);
        } else if (pending && clock_ms() >= due) {
            due = clock_ms() + INTERVAL_MS;
            run_interval(j);
        } else if (w.fd >= 0) {
            pthread_mutex_unlock(&j->lock);
            warm_on(&w);
            pthread_mutex_lock(&j->lock);
        } else {
            sleep_until(j, pending, due);
        }
    }
    pthread_mutex_unlock(&j->lock);
    warm_end(&w);
    free(w.to);
    return NULL;
}

bool journal_sync_start(journal *j)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&j->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (pthread_create(&j->thread, NULL, sync_main, j) != 0) {
        pthread_cond_destroy(&j->wake);
        return false;
    }
    return true;
}

void journal_sync_stop(journal *j)
{
    pthread_mutex_lock(&j->lock);
    j->stopping = true;
    pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->lock);
    pthread_join(j->thread, NULL);
    if (atomic_load(&j->status) != JOURNAL_FAILED) {
        sync_all(j, true);
    }
    answer_waiters(j);
    pthread_cond_destroy(&j->wake);
}
