/* journal_open.c: makes a journal ready for appending: cuts off what stands behind its end, and
 * syncs what stands before; and ends it. */
#include "journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of files and directories alike. */
static bool sync_path(const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const bool ok = fd >= 0 && fsync(fd) == 0;
    const int error = errno;
    if (fd >= 0) {
        close(fd);
    }
    errno = error;
    return ok;
}

/* Opens DIR/journal, which is made if need be. False: errno says why. */
static bool open_directory(journal *j, const char *dir)
{
    const bool made = mkdir(j->path, 0700) == 0;
    if ((!made && errno != EEXIST) || (made && !sync_path(dir))) {
        return false;
    }
    j->directory = open(j->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return j->directory >= 0;
}

/* Removes the segments that begin behind the end. */
static bool remove_behind(journal *j, uint64_t end, char *name)
{
    (void)snprintf(name, JOURNAL_NAME_SIZE, "%s", JOURNAL_SPARE);
    if (unlinkat(j->directory, name, 0) != 0 && errno != ENOENT) {
        return false;
    }
    while (j->segments.n > 0 && j->segments.first[j->segments.n - 1] > end) {
        journal_segment_name(j->segments.first[j->segments.n - 1], name);
        if (unlinkat(j->directory, name, 0) != 0) {
            return false;
        }
        j->segments.n--;
    }
    return true;
}

/* What a process that was killed has left unsynced. */
static bool sync_closed(journal *j, char *name)
{
    for (size_t i = 0; i + 1 < j->segments.n; i++) {
        journal_segment_name(j->segments.first[i], name);
        const int fd = openat(j->directory, name, O_RDWR | O_CLOEXEC);
        const bool ok = fd >= 0 && fdatasync(fd) == 0;
        const int error = errno;
        if (fd >= 0) {
            close(fd);
        }
        if (!ok) {
            errno = error;
            return false;
        }
    }
    return true;
}

/* Opens the last segment, or a first one, and makes it end at `end`. */
static bool open_current(journal *j, uint64_t end, char *name)
{
    if (j->segments.n == 0 && !journal_segments_add(&j->segments, end)) {
        errno = ENOMEM;
        return false;
    }
    j->base = j->fd_first = j->segments.first[j->segments.n - 1];
    journal_segment_name(j->base, name);
    struct stat s;
    j->fd = openat(j->directory, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (j->fd < 0 || fstat(j->fd, &s) != 0) {
        return false;
    }
    if ((uint64_t)s.st_size < end - j->base) {
        errno = ENODATA; /* it ends before the end of the log */
        return false;
    }
    /* Bytes of records that are cut off must not stand behind new ones. */
    return ftruncate(j->fd, (off_t)(end - j->base)) == 0 && fsync(j->fd) == 0;
}

static void free_journal(journal *j)
{
    while (j->closed != NULL) { /* of a journal that has failed */
        journal_closed *c = j->closed;
        j->closed = c->next;
        close(c->fd);
        free(c);
    }
    if (j->fd >= 0) {
        close(j->fd);
    }
    if (j->spare >= 0) {
        close(j->spare);
        (void)unlinkat(j->directory, JOURNAL_SPARE, 0);
    }
    if (j->directory >= 0) {
        close(j->directory);
    }
    pthread_mutex_destroy(&j->writing);
    pthread_mutex_destroy(&j->lock);
    free(j->segments.first);
    free(j->path);
    free(j);
}

journal *journal_open(const char *dir, uint64_t end, journal_fsync policy, char *error,
                      size_t error_size)
{
    char name[JOURNAL_NAME_SIZE] = "";
    journal *j = calloc(1, sizeof *j);
    if (j == NULL || asprintf(&j->path, "%s/journal", dir) < 0) {
        (void)snprintf(error, error_size, "cannot open %s/journal: %s", dir, strerror(ENOMEM));
        free(j);
        return NULL;
    }
    j->policy = policy;
    j->directory = j->fd = j->spare = -1;
    pthread_mutex_init(&j->writing, NULL);
    pthread_mutex_init(&j->lock, NULL);
    if (!open_directory(j, dir) || !journal_segments_list(j->directory, &j->segments)) {
        goto failed;
    }
    if (end % JOURNAL_ALIGN != 0 || (j->segments.n > 0 && j->segments.first[0] > end)) {
        errno = EINVAL; /* no place in this log */
        goto failed;
    }
    if (!remove_behind(j, end, name) || !sync_closed(j, name) || !open_current(j, end, name)) {
        goto failed;
    }
    name[0] = '\0';
    if (fsync(j->directory) != 0) {
        goto failed;
    }
    j->wanted = end;
    j->allocated = end - j->base;
    atomic_store(&j->end, end);
    atomic_store(&j->durable, end);
    atomic_store(&j->first, j->segments.first[0]);
    if (!journal_sync_start(j)) {
        errno = EAGAIN;
        goto failed;
    }
    return j;
failed:
    (void)snprintf(error, error_size, "cannot open %s/%s for appending at %llu: %s", j->path, name,
                   (unsigned long long)end, strerror(errno));
    free_journal(j);
    return NULL;
}

void journal_close(journal *j)
{
    if (j != NULL) {
        journal_sync_stop(j);
        free_journal(j);
    }
}
