/* journal_internal.h: what the files of the journal share. */
#ifndef ADAMD_JOURNAL_INTERNAL_H
#define ADAMD_JOURNAL_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "journal.h"

/* Of the file that is made ready to be the next segment. */
#define JOURNAL_SPARE "spare"
/* "0123456789abcdef.log" */
#define JOURNAL_NAME_SIZE 21

/* ---- journal_file.c ---- */

/* LSNs of the segments' first bytes, in order. */
typedef struct journal_segments {
    uint64_t *first;
    size_t n, room;
} journal_segments;

void journal_segment_name(uint64_t first, char name[JOURNAL_NAME_SIZE]);
/* Lists those in an open directory. False: errno says why; nothing is to be freed. */
bool journal_segments_list(int directory, journal_segments *out);
/* False: no memory. */
bool journal_segments_add(journal_segments *s, uint64_t first);

/* A record on its way to a file: header, meta, data, padding. */
#define JOURNAL_RECORD_BYTES(length)                                                   \
    ((JOURNAL_HEADER_BYTES + (uint64_t)(length) + JOURNAL_ALIGN - 1) / JOURNAL_ALIGN * \
     JOURNAL_ALIGN)

/* `length`: of meta and data; `crc`: over them. */
void journal_header_write(unsigned char to[JOURNAL_HEADER_BYTES], const journal_record *r,
                          uint64_t length, uint32_t crc);
/* Whether it is a header, and of the place where it stands. Sets all but meta and data; `crc` and
 * *length are what it says. */
bool journal_header_read(const unsigned char *from, uint64_t place, journal_record *out,
                         uint64_t *length, uint32_t *crc);

/* Writes parts one after the other at an offset. False: errno says why. */
bool journal_write_parts(int fd, uint64_t offset, const struct iovec *parts, size_t n);
/* Gets space for `need` bytes, or for `wish`, which are more, where there is as much. Returns for
 * how many there is, 0: errno says why there is none. */
uint64_t journal_allocate(int fd, uint64_t offset, uint64_t need, uint64_t wish);
/* An errno that may be another one next time. */
bool journal_no_space(int error);

/* ---- journal_ahead.c ---- */

/* Records of more bytes than this (meta and data) are checked ahead; so much is read at a time. */
#define JOURNAL_AHEAD_BYTES ((size_t)256 << 10)

typedef struct journal_ahead journal_ahead;

/* Reads up to `length` bytes; returns how many there are, or -1. */
ssize_t journal_read_at(int fd, void *to, size_t length, uint64_t offset);
/* NULL: there is none, and nothing is checked ahead. */
journal_ahead *journal_ahead_start(void);
/* Begins to look whether there is a whole record at a place. Until journal_ahead_is_good has been
 * asked, the file stays open. */
void journal_ahead_look(journal_ahead *a, int fd, uint64_t first, uint64_t limit, uint64_t place);
/* Ends it. Whether the record at that place was looked at and is whole; once for each look. */
bool journal_ahead_is_good(journal_ahead *a, uint64_t place);
void journal_ahead_stop(journal_ahead *a);

/* ---- journal.c and journal_sync.c ---- */

/* A segment that is written, but not synced. */
typedef struct journal_closed {
    int fd;
    uint64_t length; /* its file has space behind it, which the thread lets go */
    struct journal_closed *next;
} journal_closed;

/* Locks: `writing`, then `lock`. */
struct journal {
    char *path;    /* of the directory */
    int directory; /* open */
    journal_fsync policy;

    /* Held while something is written. */
    pthread_mutex_t writing;
    uint64_t base;      /* LSN of the current segment's first byte */
    uint64_t allocated; /* bytes of it that there is space for */
    journal_segments segments;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    int fd;            /* of the current segment; changed with both locks held */
    uint64_t fd_first; /* = base */
    journal_closed *closed;
    bool directory_changed;
    int spare;        /* or -1 */
    bool spare_tried; /* and could not be made: again in a second */
    uint64_t wanted;  /* behind the last record that is not the journal's own */
    journal_waiter *waiters;
    bool idle; /* the thread sleeps until it is woken */
    bool stopping;
    char failure[512]; /* set once, before the status is */

    _Atomic uint64_t end, durable, first;
    atomic_int status; /* journal_status */
    pthread_t thread;
};

/* Says once why it failed, for good. `name`: of a file in the directory, "" for itself. */
void journal_fail(journal *j, const char *what, const char *name, int error);
/* Space for `need` bytes at the end, in another segment where they are too many for this one. With
 * `writing` held. */
journal_status journal_make_room(journal *j, uint64_t need);
/* Appends a record of the journal's own. */
void journal_append_sync(journal *j);
/* Wakes the thread, if it sleeps until it is woken. With `lock` held. */
void journal_wake(journal *j);
bool journal_sync_start(journal *j);
void journal_sync_stop(journal *j);

#endif
