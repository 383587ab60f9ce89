/* journal.h: the write-ahead log: records in files, each with its place, of which none is lost or
 * torn without being noticed. Knows bytes, files and LSNs; neither optimizers, JSON nor HTTP. What
 * stands where: docs/persistence.md.
 *
 * An LSN is a byte position in the log as a whole. What was appended survives the process at once,
 * and the machine when it is synced. The process ignores SIGXFSZ, or ends at its file size limit.
 */
#ifndef ADAMD_JOURNAL_H
#define ADAMD_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* A segment is rolled before it gets larger, but for one that holds a single larger record. */
#define JOURNAL_SEGMENT_BYTES ((uint64_t)64 << 20)
/* Places of records are multiples of it. */
#define JOURNAL_ALIGN 64
/* What stands before meta and data. */
#define JOURNAL_HEADER_BYTES 96
/* Written by the journal itself, when it has synced; other types are the caller's. */
#define JOURNAL_TYPE_SYNC 4

typedef enum journal_fsync { JOURNAL_ALWAYS, JOURNAL_EVERYSEC, JOURNAL_NEVER } journal_fsync;

typedef enum journal_status {
    JOURNAL_OK,
    JOURNAL_NO_SPACE, /* nothing was written; comes back by itself */
    JOURNAL_FAILED    /* an I/O error or a failed sync: for good */
} journal_status;

/* lsn and durable are set by the journal. `durable`: everything before that LSN was known to be on
 * disk when the record was written. */
typedef struct journal_record {
    uint32_t type;
    uint64_t lsn, optimizer, epoch, step;
    int64_t time_ms;
    uint64_t durable;
    const char *meta;
    size_t meta_length; /* < 2^32 */
    const char *data;
    uint64_t data_length;
} journal_record;

typedef struct journal journal;

/* Opens DIR/journal, which is made where it is missing, for appending at `end`, where the reader
 * ended (0: a new log). What stands behind is cut off; all before is synced. NULL: `error` is a
 * sentence with the file and the reason. */
journal *journal_open(const char *dir, uint64_t end, journal_fsync policy, char *error,
                      size_t error_size);
/* Syncs, with every policy, answers who waits, and ends the thread. NULL is fine. */
void journal_close(journal *j);

/* Appends a record, whose data is in n parts that are written from where they are (r->data and
 * r->data_length are not looked at). *end: the LSN behind it. Any thread; but for JOURNAL_OK
 * nothing was appended. */
journal_status journal_append(journal *j, const journal_record *r, const struct iovec *data,
                              size_t n, uint64_t *end);
/* Makes sure that a record of so many bytes (meta and data) can be appended next without
 * JOURNAL_NO_SPACE. Where the file system cannot promise that, it is taken as given. */
journal_status journal_reserve(journal *j, uint64_t bytes);

/* Somebody who waits until what they appended is on disk; lives until done. */
typedef struct journal_waiter {
    void (*done)(struct journal_waiter *self, bool ok);
    uint64_t lsn;
    struct journal_waiter *next;
} journal_waiter;

/* Calls w->done once everything before `lsn` is on disk (ok), or never will be. It is called from
 * the journal's thread, or at once from here: where it is on disk already, where the journal has
 * failed, and with another policy than JOURNAL_ALWAYS. */
void journal_wait(journal *j, journal_waiter *w, uint64_t lsn);
/* Syncs up to that LSN, whatever the policy, and waits for it. False: it failed. */
bool journal_flush(journal *j, uint64_t lsn);
/* As after a sync that failed: something was done that it does not have. */
void journal_fail_for_good(journal *j);

/* Cheap. JOURNAL_NO_SPACE from an append that had none until there is some again, which is looked
 * for every second. */
journal_status journal_health(journal *j);
/* Why it has failed: a sentence with the file; "" while it has not. */
const char *journal_failure(journal *j);

uint64_t journal_end(journal *j);
uint64_t journal_durable(journal *j);
uint64_t journal_first(journal *j); /* the first byte kept */
/* Removes whole closed segments that end at or before `lsn`. */
void journal_drop_before(journal *j, uint64_t lsn);

/* ---- reading: before the journal is opened, or what has been appended to it since ---- */

typedef struct journal_reader journal_reader;

typedef enum journal_read_status {
    JOURNAL_READ,
    JOURNAL_END,  /* nothing more, and nothing lost */
    JOURNAL_TORN, /* it ends in something that is not known to have been on disk */
    JOURNAL_BAD   /* something that was on disk is not what it was */
} journal_read_status;

/* For `from`: the first byte kept. */
#define JOURNAL_FROM_FIRST UINT64_MAX

/* `from`: where a record begins, or the log. Where there is no log yet, it is empty from 0 on.
 * NULL: `error` is a sentence; a segment that is not there is one. */
journal_reader *journal_reader_open(const char *dir, uint64_t from, char *error, size_t error_size);
/* The next record; what it points to is valid until the next call. After any but JOURNAL_READ,
 * place, file, offset and reason say where and why, and it stays so. The journal's own records come
 * too. */
journal_read_status journal_read_next(journal_reader *r, journal_record *out);
/* Where the next record begins: the end of the log, after JOURNAL_END and JOURNAL_TORN. */
uint64_t journal_reader_place(const journal_reader *r);
const char *journal_reader_file(const journal_reader *r);
uint64_t journal_reader_offset(const journal_reader *r);
const char *journal_reader_reason(const journal_reader *r);
/* For progress: bytes from `from` to the end of the files, and how many of them are read. */
uint64_t journal_reader_total(const journal_reader *r);
uint64_t journal_reader_done(const journal_reader *r);
void journal_reader_close(journal_reader *r);

#endif
