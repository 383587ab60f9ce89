/* journal_file.c: the journal's files: their names, headers of records, and writing to them. */
#include "journal_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crc32c.h"

#define MAGIC          0x314a4441U /* "ADJ1" */
#define CRC_OFFSET     (JOURNAL_HEADER_BYTES - 4)
#define RESERVED_BYTES 20
/* Parts of one call; more are written by several. At most IOV_MAX (1024). */
#define PARTS_AT_ONCE 128

/* On little-endian machines, which is all that adamd is built for, as it stands in the file. */
typedef struct header {
    uint32_t magic, type;
    uint64_t lsn, length;
    uint32_t meta_length, crc;
    uint64_t optimizer, epoch, step;
    int64_t time_ms;
    uint64_t durable;
    unsigned char reserved[RESERVED_BYTES];
    uint32_t header_crc;
} header;

_Static_assert(sizeof(header) == JOURNAL_HEADER_BYTES, "no gaps");

void journal_segment_name(uint64_t first, char name[JOURNAL_NAME_SIZE])
{
    (void)snprintf(name, JOURNAL_NAME_SIZE, "%016" PRIx64 ".log", first);
}

/* Whether it is the name of a segment. */
static bool parse_name(const char *name, uint64_t *first)
{
    char again[JOURNAL_NAME_SIZE];
    *first = strtoull(name, NULL, 16);
    journal_segment_name(*first, again); /* which it is only the one way */
    return strcmp(name, again) == 0 && *first % JOURNAL_ALIGN == 0;
}

bool journal_segments_add(journal_segments *s, uint64_t first)
{
    if (s->n == s->room) {
        const size_t room = s->room > 0 ? 2 * s->room : 16;
        uint64_t *grown = realloc(s->first, room * sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        s->first = grown;
        s->room = room;
    }
    s->first[s->n++] = first;
    return true;
}

static int compare(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

bool journal_segments_list(int directory, journal_segments *out)
{
    *out = (journal_segments){0};
    const int again = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = again < 0 ? NULL : fdopendir(again);
    if (d == NULL) {
        const int error = errno;
        if (again >= 0) {
            close(again);
        }
        errno = error;
        return false;
    }
    struct dirent *entry;
    uint64_t first;
    int error = 0;
    while (error == 0 && (errno = 0, entry = readdir(d)) != NULL) {
        if (parse_name(entry->d_name, &first) && !journal_segments_add(out, first)) {
            error = ENOMEM;
        }
    }
    error = error == 0 ? errno : error;
    closedir(d);
    if (error != 0) {
        free(out->first);
        *out = (journal_segments){0};
        errno = error;
        return false;
    }
    if (out->n > 0) {
        qsort(out->first, out->n, sizeof *out->first, compare);
    }
    return true;
}

void journal_header_write(unsigned char to[JOURNAL_HEADER_BYTES], const journal_record *r,
                          uint64_t length, uint32_t crc)
{
    const header h = {.magic = MAGIC,
                      .type = r->type,
                      .lsn = r->lsn,
                      .length = length,
                      .meta_length = (uint32_t)r->meta_length,
                      .crc = crc,
                      .optimizer = r->optimizer,
                      .epoch = r->epoch,
                      .step = r->step,
                      .time_ms = r->time_ms,
                      .durable = r->durable};
    memcpy(to, &h, CRC_OFFSET);
    const uint32_t header_crc = crc32c(to, CRC_OFFSET);
    memcpy(to + CRC_OFFSET, &header_crc, sizeof header_crc);
}

bool journal_header_read(const unsigned char *from, uint64_t place, journal_record *out,
                         uint64_t *length, uint32_t *crc)
{
    header h;
    memcpy(&h, from, sizeof h);
    if (h.magic != MAGIC || h.lsn != place || h.header_crc != crc32c(from, CRC_OFFSET) ||
        h.meta_length > h.length || h.length > INT64_MAX - place) {
        return false;
    }
    *out = (journal_record){.type = h.type,
                            .lsn = h.lsn,
                            .optimizer = h.optimizer,
                            .epoch = h.epoch,
                            .step = h.step,
                            .time_ms = h.time_ms,
                            .durable = h.durable,
                            .meta_length = h.meta_length,
                            .data_length = h.length - h.meta_length};
    *length = h.length;
    *crc = h.crc;
    return true;
}

bool journal_write_parts(int fd, uint64_t offset, const struct iovec *parts, size_t n)
{
    size_t skip = 0; /* of the first part, which are written */
    while (n > 0) {
        struct iovec some[PARTS_AT_ONCE];
        const size_t k = n < PARTS_AT_ONCE ? n : PARTS_AT_ONCE;
        memcpy(some, parts, k * sizeof *some);
        some[0].iov_base = (char *)some[0].iov_base + skip;
        some[0].iov_len -= skip;
        ssize_t done = pwritev(fd, some, (int)k, (off_t)offset);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return false;
        }
        offset += (uint64_t)done;
        skip += (size_t)done;
        const size_t left = n;
        while (n > 0 && skip >= parts->iov_len) {
            skip -= parts->iov_len;
            parts++;
            n--;
        }
        if (done == 0 && n == left) {
            errno = EIO; /* no progress, and no reason */
            return false;
        }
    }
    return true;
}

bool journal_no_space(int error)
{
    return error == ENOSPC || error == EDQUOT || error == EFBIG || error == ENOMEM ||
           error == EMFILE || error == ENFILE;
}

uint64_t journal_allocate(int fd, uint64_t offset, uint64_t need, uint64_t wish)
{
    for (uint64_t bytes = wish;;) {
        if (fallocate(fd, 0, (off_t)offset, (off_t)bytes) == 0 || errno == EOPNOTSUPP ||
            errno == ENOSYS) {
            return bytes;
        }
        if (errno == EINTR) {
            continue;
        }
        if (bytes == need) {
            return 0;
        }
        bytes = need;
    }
}
