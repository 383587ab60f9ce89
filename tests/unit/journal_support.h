/* journal_support.h: what the tests of the journal share: a directory of their own, records that
 * can be told from each other, and files that are damaged. */
#ifndef JOURNAL_SUPPORT_H
#define JOURNAL_SUPPORT_H

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdbool.h>
#include <sys/types.h>

#include "journal.h"

/* A new directory, which the caller frees by remove_directory. */
char *make_directory(void);
void remove_directory(char *dir);
/* The path of the segment that begins at `first`; of a static buffer. */
const char *segment_path(const char *dir, uint64_t first);
bool file_exists(const char *path);

/* Opens; the test fails where that does. */
journal *open_journal(const char *dir, uint64_t end, journal_fsync policy);
/* Appends record number k, with `length` bytes of data in several parts. Returns the LSN behind it.
 */
uint64_t append(journal *j, uint64_t k, size_t length);
journal_status try_append(journal *j, uint64_t k, size_t length, uint64_t *end);
/* Waits until everything before `lsn` is on disk; false: it never will be. */
bool wait_for(journal *j, uint64_t lsn);

/* How a reading ended. */
typedef struct reading {
    journal_read_status status;
    uint64_t place;
    uint64_t n;     /* records, but for the journal's own */
    uint64_t syncs; /* the journal's own */
    char reason[256];
} reading;

/* Reads from `from`, checking that the records are k, k + 1, … */
reading read_log(const char *dir, uint64_t from, uint64_t k);

/* Bytes of a file. */
unsigned char *read_file(const char *path, size_t *length);
void write_file(const char *path, const void *bytes, size_t length);
void write_at(const char *path, uint64_t offset, const void *bytes, size_t length);

#endif
