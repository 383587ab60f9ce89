/* journal_read.c: reads the log back, record by record, and tells a torn tail from a bad record.
 *
 * What was not synced may reach the disk in any order, so that valid records behind a bad place
 * prove nothing. But each record says up to where the log was on disk when it was written: one
 * behind a bad place that says so of that place proves that something was damaged. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32c.h"
#include "journal_internal.h"

/* What is read at a time; larger records are mapped when they have been checked. */
#define PIECE_BYTES ((size_t)1 << 20)
/* Of every page size there is. */
#define PAGE_MULTIPLE ((uint64_t)64 << 10)

struct journal_reader {
    char *path;
    int directory;
    journal_segments segments;
    size_t at; /* the segment that is open */
    int fd;
    uint64_t size; /* of its file */
    uint64_t from, place, total;
    journal_read_status status;
    unsigned char *piece; /* PIECE_BYTES, aligned as places are */
    void *mapping;
    size_t mapped;
    journal_ahead *ahead; /* NULL until there is a large record */
    bool checked;         /* the record at `place` has been */
    char *file;
    char reason[256];
};

static void say(journal_reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(journal_reader *r, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(r->reason, sizeof r->reason, format, arguments);
    va_end(arguments);
}

static uint64_t first_of(const journal_reader *r, size_t segment)
{
    return segment < r->segments.n ? r->segments.first[segment] : 0;
}

/* Opens a segment instead of the one that is. False: errno says why. */
static bool open_segment(journal_reader *r, size_t segment)
{
    char name[JOURNAL_NAME_SIZE];
    struct stat s;
    if (r->fd >= 0) {
        close(r->fd);
    }
    r->at = segment;
    r->size = 0;
    journal_segment_name(first_of(r, segment), name);
    (void)snprintf(strrchr(r->file, '/') + 1, JOURNAL_NAME_SIZE, "%s", name);
    r->fd = openat(r->directory, name, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0 || fstat(r->fd, &s) != 0) {
        return false;
    }
    r->size = (uint64_t)s.st_size;
    return true;
}

/* Where the open segment's records end: where the next one begins, or its file. */
static uint64_t limit_of(const journal_reader *r)
{
    const uint64_t first = first_of(r, r->at);
    const bool last = r->at + 1 >= r->segments.n;
    const uint64_t room = last ? r->size : first_of(r, r->at + 1) - first;
    return room < r->size ? room : r->size;
}

static bool all_zero(const unsigned char *bytes, size_t n)
{
    return n == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0);
}

/* What stands behind a bad place. */
typedef struct behind {
    bool anything;             /* but zeros */
    uint64_t witness, durable; /* a record that says that the place was on disk; 0: none */
} behind;

/* Looks through the rest of the open segment, from an offset on. False: errno says why. */
static bool look_behind(journal_reader *r, uint64_t offset, uint64_t place, behind *found)
{
    const uint64_t first = first_of(r, r->at);
    const uint64_t limit = limit_of(r);
    /* Pieces overlap by the part of a header that may stand over their edge. */
    const size_t step = PIECE_BYTES - 2 * JOURNAL_ALIGN;
    for (uint64_t at = offset; at < limit && found->witness == 0; at += step) {
        const size_t wish = limit - at < PIECE_BYTES ? (size_t)(limit - at) : PIECE_BYTES;
        const ssize_t n = journal_read_at(r->fd, r->piece, wish, at);
        if (n < 0) {
            return false;
        }
        if (all_zero(r->piece, (size_t)n)) {
            continue;
        }
        found->anything = true;
        for (size_t i = 0; i + JOURNAL_HEADER_BYTES <= (size_t)n; i += JOURNAL_ALIGN) {
            journal_record record;
            uint64_t length;
            uint32_t crc;
            if (journal_header_read(r->piece + i, first + at + i, &record, &length, &crc) &&
                record.durable > place && record.lsn > place) {
                found->witness = record.lsn;
                found->durable = record.durable;
                break;
            }
        }
    }
    return true;
}

/* The end of what can be read: decides which. `reason` has been said. */
static journal_read_status end_here(journal_reader *r, bool zeros)
{
    const uint64_t place = r->place;
    const size_t segment = r->at;
    behind found = {0};
    bool ok = true;
    for (size_t i = segment; ok && i < r->segments.n && found.witness == 0; i++) {
        ok = i == segment || open_segment(r, i);
        ok = ok && look_behind(r, i == segment ? place - first_of(r, i) : 0, place, &found);
    }
    if (!ok) {
        say(r, "cannot be read: %s", strerror(errno));
        return JOURNAL_BAD;
    }
    if (r->at != segment && !open_segment(r, segment)) {
        say(r, "cannot be opened: %s", strerror(errno));
        return JOURNAL_BAD;
    }
    if (found.witness != 0) {
        const size_t said = strlen(r->reason);
        (void)snprintf(r->reason + said, sizeof r->reason - said,
                       "; it was there once: the record at %" PRIu64
                       " says that everything before %" PRIu64 " was on disk",
                       found.witness, found.durable);
        return JOURNAL_BAD;
    }
    if (zeros && !found.anything) {
        say(r, "the log ends here");
        return JOURNAL_END;
    }
    return JOURNAL_TORN;
}

/* Checks what a header says of the bytes behind it. True: *whole is whether r->piece has them all.
 */
static bool check_body(journal_reader *r, uint64_t offset, uint64_t length, uint32_t crc,
                       bool *whole)
{
    const uint64_t end = offset + length;
    uint32_t sum = 0;
    *whole = length <= PIECE_BYTES - JOURNAL_ALIGN;
    for (uint64_t at = offset; at < end;) {
        const size_t n = end - at < PIECE_BYTES - JOURNAL_ALIGN ? (size_t)(end - at)
                                                                : PIECE_BYTES - JOURNAL_ALIGN;
        /* aligned as it is in the file */
        unsigned char *to = r->piece + (*whole ? offset % JOURNAL_ALIGN : 0);
        const ssize_t got = journal_read_at(r->fd, to, n, at);
        if (got < 0) {
            say(r, "cannot be read: %s", strerror(errno));
            return false;
        }
        sum = crc32c_extend(sum, to, (size_t)got);
        if ((size_t)got < n) {
            break; /* shorter than it was: the checksum says so */
        }
        at += n;
    }
    if (sum != crc) {
        say(r, "the checksum of the record is %08" PRIx32 ", it should be %08" PRIx32, sum, crc);
        return false;
    }
    return true;
}

/* Points the record to its bytes. */
static bool point_to_body(journal_reader *r, uint64_t offset, uint64_t length, bool whole,
                          journal_record *out)
{
    const char *bytes = (const char *)r->piece + offset % JOURNAL_ALIGN;
    if (!whole) {
        const uint64_t page = offset / PAGE_MULTIPLE * PAGE_MULTIPLE;
        r->mapped = (size_t)(offset + length - page);
        r->mapping = mmap(NULL, r->mapped, PROT_READ, MAP_PRIVATE, r->fd, (off_t)page);
        if (r->mapping == MAP_FAILED) {
            r->mapping = NULL;
            say(r, "cannot be mapped: %s", strerror(errno));
            return false;
        }
        bytes = (const char *)r->mapping + (offset - page);
    }
    out->meta = bytes;
    out->data = bytes + out->meta_length;
    return true;
}

/* The record at r->place, which is in the open segment. */
static journal_read_status read_here(journal_reader *r, journal_record *out)
{
    const uint64_t offset = r->place - first_of(r, r->at);
    const uint64_t limit = limit_of(r);
    const uint64_t left = offset < limit ? limit - offset : 0;
    unsigned char header[JOURNAL_HEADER_BYTES] = {0};
    const ssize_t n =
        journal_read_at(r->fd, header, left < sizeof header ? left : sizeof header, offset);
    uint64_t length = 0;
    uint32_t crc;
    bool whole;
    if (n < 0) {
        say(r, "cannot be read: %s", strerror(errno));
        return JOURNAL_BAD;
    }
    if (left < sizeof header || !journal_header_read(header, r->place, out, &length, &crc)) {
        const bool zeros = all_zero(header, sizeof header);
        say(r, "%s",
            left < sizeof header ? "the file ends where a record should be"
            : zeros              ? "zeros where a record should be"
                                 : "no record of this place, or its header is damaged");
        return end_here(r, zeros);
    }
    if (JOURNAL_RECORD_BYTES(length) > left) {
        say(r, "a record of %" PRIu64 " bytes, but the file has %" PRIu64 " more", length,
            left - (uint64_t)sizeof header);
        return end_here(r, false);
    }
    if (r->checked) {
        whole = false;
    } else if (!check_body(r, offset + JOURNAL_HEADER_BYTES, length, crc, &whole)) {
        return end_here(r, false);
    }
    if (!point_to_body(r, offset + JOURNAL_HEADER_BYTES, length, whole, out)) {
        return JOURNAL_BAD;
    }
    r->place += JOURNAL_RECORD_BYTES(length);
    if (length > JOURNAL_AHEAD_BYTES) { /* the next may be as large */
        r->ahead = r->ahead != NULL ? r->ahead : journal_ahead_start();
        journal_ahead_look(r->ahead, r->fd, first_of(r, r->at), limit, r->place);
    }
    return JOURNAL_READ;
}

journal_read_status journal_read_next(journal_reader *r, journal_record *out)
{
    if (r->mapping != NULL) {
        munmap(r->mapping, r->mapped);
        r->mapping = NULL;
    }
    if (r->status != JOURNAL_READ) {
        return r->status;
    }
    r->checked = journal_ahead_is_good(r->ahead, r->place);
    if (r->segments.n == 0) {
        say(r, "the log is empty");
        return r->status = JOURNAL_END;
    }
    if (r->at + 1 < r->segments.n && r->place >= first_of(r, r->at + 1) &&
        !open_segment(r, r->at + 1)) {
        say(r, "cannot be opened: %s", strerror(errno));
        return r->status = JOURNAL_BAD;
    }
    return r->status = read_here(r, out);
}

/* Opens the segment that has r->from, and adds up what is to be read. False: *why is said. */
static bool find_from(journal_reader *r, char *why, size_t why_size)
{
    const journal_segments *s = &r->segments;
    if (r->from == JOURNAL_FROM_FIRST) {
        r->from = first_of(r, 0);
    }
    size_t i = s->n;
    while (i > 0 && s->first[i - 1] > r->from) {
        i--;
    }
    r->place = r->from;
    if (s->n == 0 && r->from == 0) {
        return true;
    }
    if (i == 0) {
        (void)snprintf(why, why_size,
                       "the segment that has position %" PRIu64
                       " is missing: the log begins at %" PRIu64,
                       r->from, first_of(r, 0));
        return false;
    }
    struct stat last;
    if (!open_segment(r, s->n - 1) || fstat(r->fd, &last) != 0 ||
        (i < s->n && !open_segment(r, i - 1))) {
        (void)snprintf(why, why_size, "%s: %s", strrchr(r->file, '/') + 1, strerror(errno));
        return false;
    }
    r->total = s->first[s->n - 1] + (uint64_t)last.st_size - r->from;
    if (r->from - s->first[i - 1] > r->size) {
        (void)snprintf(why, why_size,
                       "the segment that has position %" PRIu64 " is missing: %s ends at %" PRIu64,
                       r->from, strrchr(r->file, '/') + 1, s->first[i - 1] + r->size);
        return false;
    }
    return true;
}

journal_reader *journal_reader_open(const char *dir, uint64_t from, char *error, size_t error_size)
{
    char why[256];
    journal_reader *r = calloc(1, sizeof *r);
    (void)snprintf(why, sizeof why, "%s", strerror(ENOMEM));
    if (r == NULL) {
        goto failed;
    }
    r->fd = r->directory = -1;
    r->from = from;
    r->piece = aligned_alloc(JOURNAL_ALIGN, PIECE_BYTES);
    if (asprintf(&r->path, "%s/journal", dir) < 0) {
        r->path = NULL;
        goto failed;
    }
    if (r->piece == NULL || asprintf(&r->file, "%s/%0*d", r->path, JOURNAL_NAME_SIZE, 0) < 0) {
        r->file = NULL;
        goto failed;
    }
    r->directory = open(r->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if ((r->directory < 0 && errno != ENOENT) ||
        (r->directory >= 0 && !journal_segments_list(r->directory, &r->segments))) {
        (void)snprintf(why, sizeof why, "%s", strerror(errno));
        goto failed;
    }
    if (find_from(r, why, sizeof why)) {
        return r;
    }
failed:
    (void)snprintf(error, error_size, "cannot read %s/journal: %s", dir, why);
    journal_reader_close(r);
    return NULL;
}

void journal_reader_close(journal_reader *r)
{
    if (r == NULL) {
        return;
    }
    journal_ahead_stop(r->ahead);
    if (r->mapping != NULL) {
        munmap(r->mapping, r->mapped);
    }
    if (r->fd >= 0) {
        close(r->fd);
    }
    if (r->directory >= 0) {
        close(r->directory);
    }
    free(r->segments.first);
    free(r->piece);
    free(r->file);
    free(r->path);
    free(r);
}

uint64_t journal_reader_place(const journal_reader *r)
{
    return r->place;
}

const char *journal_reader_file(const journal_reader *r)
{
    return r->segments.n == 0 ? r->path : r->file;
}

uint64_t journal_reader_offset(const journal_reader *r)
{
    return r->segments.n == 0 ? 0 : r->place - first_of(r, r->at);
}

const char *journal_reader_reason(const journal_reader *r)
{
    return r->reason;
}

uint64_t journal_reader_total(const journal_reader *r)
{
    return r->total;
}

uint64_t journal_reader_done(const journal_reader *r)
{
    return r->place - r->from;
}
