/* journal_ahead.c: checks the next large record on a thread of its own, while the one before it is
 * worked on. What it finds wrong it leaves to the reader, which looks again and says why. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "crc32c.h"
#include "journal_internal.h"

struct journal_ahead {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool busy, stopping;
    int fd;
    uint64_t first, limit; /* of the segment */
    uint64_t place;        /* of the record that is looked at */
    bool good;
    unsigned char *piece;
};

ssize_t journal_read_at(int fd, void *to, size_t length, uint64_t offset)
{
    size_t done = 0;
    while (done < length) {
        const ssize_t n = pread(fd, (char *)to + done, length - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

/* Whether the record at a->place is whole. */
static bool look(journal_ahead *a)
{
    unsigned char header[JOURNAL_HEADER_BYTES];
    journal_record record;
    uint64_t length;
    uint32_t crc;
    uint32_t sum = 0;
    uint64_t at = a->place - a->first;
    if (at + sizeof header > a->limit ||
        journal_read_at(a->fd, header, sizeof header, at) != (ssize_t)sizeof header ||
        !journal_header_read(header, a->place, &record, &length, &crc) ||
        length <= JOURNAL_AHEAD_BYTES || JOURNAL_RECORD_BYTES(length) > a->limit - at) {
        return false;
    }
    at += sizeof header;
    for (const uint64_t end = at + length; at < end;) {
        const size_t n = end - at < JOURNAL_AHEAD_BYTES ? (size_t)(end - at) : JOURNAL_AHEAD_BYTES;
        if (journal_read_at(a->fd, a->piece, n, at) != (ssize_t)n) {
            return false;
        }
        sum = crc32c_extend(sum, a->piece, n);
        at += n;
    }
    return sum == crc;
}

static void *ahead_main(void *argument)
{
    journal_ahead *a = argument;
    pthread_mutex_lock(&a->lock);
    while (!a->stopping) {
        if (!a->busy) {
            pthread_cond_wait(&a->changed, &a->lock);
            continue;
        }
        pthread_mutex_unlock(&a->lock);
        const bool good = look(a);
        pthread_mutex_lock(&a->lock);
        a->good = good;
        a->busy = false;
        pthread_cond_signal(&a->changed);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

journal_ahead *journal_ahead_start(void)
{
    journal_ahead *a = calloc(1, sizeof *a);
    if (a == NULL) {
        return NULL;
    }
    a->piece = malloc(JOURNAL_AHEAD_BYTES);
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->changed, NULL);
    if (a->piece == NULL || pthread_create(&a->thread, NULL, ahead_main, a) != 0) {
        pthread_cond_destroy(&a->changed);
        pthread_mutex_destroy(&a->lock);
        free(a->piece);
        free(a);
        return NULL;
    }
    return a;
}

void journal_ahead_look(journal_ahead *a, int fd, uint64_t first, uint64_t limit, uint64_t place)
{
    if (a == NULL) {
        return;
    }
    pthread_mutex_lock(&a->lock);
    a->fd = fd;
    a->first = first;
    a->limit = limit;
    a->place = place;
    a->busy = true;
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
}

bool journal_ahead_is_good(journal_ahead *a, uint64_t place)
{
    if (a == NULL) {
        return false;
    }
    pthread_mutex_lock(&a->lock);
    while (a->busy) {
        pthread_cond_wait(&a->changed, &a->lock);
    }
    const bool good = a->good && a->place == place;
    a->good = false;
    pthread_mutex_unlock(&a->lock);
    return good;
}

void journal_ahead_stop(journal_ahead *a)
{
    if (a == NULL) {
        return;
    }
    pthread_mutex_lock(&a->lock);
    a->stopping = true;
    pthread_cond_broadcast(&a->changed);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    free(a->piece);
    free(a);
}
