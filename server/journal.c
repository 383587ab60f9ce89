/* journal.c: appends records to the log, in segments; opens it and drops what is not needed any
 * more. Syncing is journal_sync.c's, reading journal_read.c's. */
#include "journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "crc32c.h"

/* Parts of a record that need no memory of their own. */
#define PARTS_ON_STACK 64
/* A reservation leaves room for the journal's own records too, which may come between. */
#define RESERVE_EXTRA ((uint64_t)4096)

static journal_status status_of(journal *j)
{
    return (journal_status)atomic_load(&j->status);
}

void journal_fail(journal *j, const char *what, const char *name, int error)
{
    pthread_mutex_lock(&j->lock);
    if (j->failure[0] == '\0') {
        (void)snprintf(j->failure, sizeof j->failure, "%s %s/%s: %s", what, j->path, name,
                       strerror(error));
        atomic_store(&j->status, JOURNAL_FAILED);
    }
    journal_wake(j);
    pthread_mutex_unlock(&j->lock);
}

/* Notes that something could not be written; which status that is. */
static journal_status refused(journal *j, const char *what, const char *name, int error)
{
    if (!journal_no_space(error)) {
        journal_fail(j, what, name, error);
        return JOURNAL_FAILED;
    }
    int ok = JOURNAL_OK;
    atomic_compare_exchange_strong(&j->status, &ok, JOURNAL_NO_SPACE);
    pthread_mutex_lock(&j->lock);
    journal_wake(j);
    pthread_mutex_unlock(&j->lock);
    return JOURNAL_NO_SPACE;
}

/* Gives the file that was made ready its name. Returns it, -1 where there is none, or where it
 * fails. */
static int take_spare(journal *j, const char *name)
{
    pthread_mutex_lock(
        &j->lock); /* once it is not j->spare, the thread makes another of its name */
    const int fd = j->spare;
    const bool named = fd >= 0 && renameat(j->directory, JOURNAL_SPARE, j->directory, name) == 0;
    if (named) {
        j->spare = -1;
    }
    pthread_mutex_unlock(&j->lock);
    return named ? fd : -1;
}

/* A file for the next segment, with space for `need` bytes: the one made ready, or a new one.
 * Returns it, or -1: errno says why, and nothing is left of it. */
static int make_segment(journal *j, const char *name, uint64_t need, uint64_t *allocated)
{
    int fd = take_spare(j, name);
    *allocated = JOURNAL_SEGMENT_BYTES;
    if (fd >= 0 && need <= JOURNAL_SEGMENT_BYTES) {
        return fd;
    }
    if (fd < 0) {
        fd = openat(j->directory, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    }
    if (fd < 0) {
        return -1;
    }
    *allocated = journal_allocate(fd, 0, need, need > *allocated ? need : *allocated);
    if (*allocated > 0) {
        return fd;
    }
    const int error = errno;
    (void)unlinkat(j->directory, name, 0);
    close(fd);
    errno = error;
    return -1;
}

/* Goes on in another segment, which begins where this one ends. */
static journal_status roll(journal *j, uint64_t need)
{
    const uint64_t end = atomic_load(&j->end);
    char name[JOURNAL_NAME_SIZE];
    journal_segment_name(end, name);
    journal_closed *closed = malloc(sizeof *closed);
    uint64_t allocated;
    if (closed == NULL || !journal_segments_add(&j->segments, end)) {
        free(closed);
        return refused(j, "cannot begin", name, ENOMEM);
    }
    const int fd = make_segment(j, name, need, &allocated);
    if (fd < 0) {
        const int error = errno;
        j->segments.n--;
        free(closed);
        return refused(j, "cannot begin", name, error);
    }
    pthread_mutex_lock(&j->lock);
    *closed = (journal_closed){j->fd, end - j->base, j->closed};
    j->closed = closed;
    j->directory_changed = true;
    j->fd = fd;
    j->fd_first = end;
    journal_wake(j);
    pthread_mutex_unlock(&j->lock);
    j->base = end;
    j->allocated = allocated;
    return JOURNAL_OK;
}

journal_status journal_make_room(journal *j, uint64_t need)
{
    if (status_of(j) == JOURNAL_FAILED) {
        return JOURNAL_FAILED;
    }
    const uint64_t used = atomic_load(&j->end) - j->base;
    if (used > 0 && used + need > JOURNAL_SEGMENT_BYTES) {
        return roll(j, need);
    }
    if (used + need > j->allocated) {
        const uint64_t rest = used < JOURNAL_SEGMENT_BYTES ? JOURNAL_SEGMENT_BYTES - used : 0;
        const uint64_t got = journal_allocate(j->fd, used, need, rest > need ? rest : need);
        if (got == 0) {
            const int error = errno;
            char name[JOURNAL_NAME_SIZE];
            journal_segment_name(j->base, name);
            return refused(j, "cannot write", name, error);
        }
        j->allocated = used + got;
    }
    return JOURNAL_OK;
}

/* Writes a record at the end; parts[0] is its header. With `writing` held. */
static journal_status write_record(journal *j, journal_record *r, uint64_t length, uint32_t crc,
                                   const struct iovec *parts, size_t n)
{
    const uint64_t bytes = JOURNAL_RECORD_BYTES(length);
    const journal_status status = journal_make_room(j, bytes);
    if (status != JOURNAL_OK) {
        return status;
    }
    r->lsn = atomic_load(&j->end);
    r->durable = atomic_load(&j->durable);
    journal_header_write(parts[0].iov_base, r, length, crc);
    if (!journal_write_parts(j->fd, r->lsn - j->base, parts, n)) {
        const int error = errno;
        char name[JOURNAL_NAME_SIZE];
        journal_segment_name(j->base, name);
        j->allocated = r->lsn - j->base;
        if (ftruncate(j->fd, (off_t)j->allocated) != 0 && journal_no_space(error)) {
            journal_fail(j, "cannot cut off what was written of a record to", name, errno);
            return JOURNAL_FAILED;
        }
        return refused(j, "cannot write", name, error);
    }
    int no_space = JOURNAL_NO_SPACE;
    atomic_compare_exchange_strong(&j->status, &no_space, JOURNAL_OK);
    pthread_mutex_lock(&j->lock);
    atomic_store(&j->end, r->lsn + bytes);
    if (r->type != JOURNAL_TYPE_SYNC) {
        j->wanted = r->lsn + bytes;
        journal_wake(j);
    }
    pthread_mutex_unlock(&j->lock);
    return JOURNAL_OK;
}

journal_status journal_append(journal *j, const journal_record *r, const struct iovec *data,
                              size_t n, uint64_t *end)
{
    static const char zeros[JOURNAL_ALIGN];
    unsigned char header[JOURNAL_HEADER_BYTES];
    struct iovec on_stack[PARTS_ON_STACK];
    struct iovec *parts = n + 3 <= PARTS_ON_STACK ? on_stack : malloc((n + 3) * sizeof *parts);
    if (parts == NULL) {
        return JOURNAL_NO_SPACE;
    }
    uint64_t length = r->meta_length;
    uint32_t crc = crc32c(r->meta, r->meta_length);
    parts[0] = (struct iovec){header, sizeof header};
    parts[1] = (struct iovec){(char *)r->meta, r->meta_length};
    for (size_t i = 0; i < n; i++) {
        parts[2 + i] = data[i];
        length += data[i].iov_len;
        crc = crc32c_extend(crc, data[i].iov_base, data[i].iov_len);
    }
    const uint64_t bytes = JOURNAL_RECORD_BYTES(length);
    parts[2 + n] = (struct iovec){(char *)zeros, bytes - JOURNAL_HEADER_BYTES - length};

    journal_record record = *r;
    pthread_mutex_lock(&j->writing);
    const journal_status status = write_record(j, &record, length, crc, parts, n + 3);
    pthread_mutex_unlock(&j->writing);
    if (status == JOURNAL_OK) {
        *end = record.lsn + bytes;
    }
    if (parts != on_stack) {
        free(parts);
    }
    return status;
}

void journal_append_sync(journal *j)
{
    const journal_record r = {.type = JOURNAL_TYPE_SYNC, .time_ms = clock_wall_ms(), .meta = ""};
    uint64_t end;
    if (status_of(j) == JOURNAL_OK) {
        (void)journal_append(j, &r, NULL, 0, &end);
    }
}

void journal_fail_for_good(journal *j)
{
    journal_fail(j, "a record is missing in", "", ENOSPC);
}

journal_status journal_reserve(journal *j, uint64_t bytes)
{
    pthread_mutex_lock(&j->writing);
    const journal_status status = journal_make_room(j, JOURNAL_RECORD_BYTES(bytes) + RESERVE_EXTRA);
    pthread_mutex_unlock(&j->writing);
    return status;
}

journal_status journal_health(journal *j)
{
    return status_of(j);
}

const char *journal_failure(journal *j)
{
    return status_of(j) == JOURNAL_FAILED ? j->failure : "";
}

uint64_t journal_end(journal *j)
{
    return atomic_load(&j->end);
}

uint64_t journal_durable(journal *j)
{
    return atomic_load(&j->durable);
}

uint64_t journal_first(journal *j)
{
    return atomic_load(&j->first);
}

void journal_drop_before(journal *j, uint64_t lsn)
{
    pthread_mutex_lock(&j->writing);
    journal_segments *s = &j->segments;
    size_t n = 0;
    while (n + 1 < s->n && s->first[n + 1] <= lsn) {
        char name[JOURNAL_NAME_SIZE];
        journal_segment_name(s->first[n], name);
        if (unlinkat(j->directory, name, 0) != 0 && errno != ENOENT) {
            break; /* it is tried again with the next drop */
        }
        n++;
    }
    if (n > 0) {
        s->n -= n;
        memmove(s->first, s->first + n, s->n * sizeof *s->first);
        atomic_store(&j->first, s->first[0]);
        pthread_mutex_lock(&j->lock);
        j->directory_changed = true;
        journal_wake(j);
        pthread_mutex_unlock(&j->lock);
    }
    pthread_mutex_unlock(&j->writing);
}
