/* gather.c: pieces of memory copied into one. Knows bytes. */
#include "adam/gather.h"

#include <stdint.h>
#include <string.h>

#include "pool_run.h"

/* Bytes that a thread copies at once. Measured with 768 MB: 1 to 16 MiB take the same. */
#define CHUNK ((size_t)4 << 20)

typedef struct job {
    char *to;
    const adam_piece *pieces;
    size_t n, bytes;
} job;

/* The first piece that ends behind `at`. */
static size_t find_piece(const job *j, size_t at)
{
    size_t low = 0;
    size_t high = j->n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (j->pieces[middle].at + j->pieces[middle].bytes <= at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void copy_chunk(void *context, size_t chunk)
{
    const job *j = context;
    size_t at = chunk * CHUNK;
    const size_t end = j->bytes - at < CHUNK ? j->bytes : at + CHUNK;
    for (size_t i = find_piece(j, at); at < end; i++) {
        const adam_piece *p = &j->pieces[i];
        const size_t piece_end = p->at + p->bytes;
        const size_t n = (piece_end < end ? piece_end : end) - at;
        if (n > 0) {
            memcpy(j->to + at, (const char *)p->from + (at - p->at), n);
            at += n;
        }
    }
}

void adam_gather(void *to, const adam_piece *pieces, size_t n, adam_pool *pool)
{
    job j = {.to = to, .pieces = pieces, .n = n};
    j.bytes = n > 0 ? pieces[n - 1].at + pieces[n - 1].bytes : 0;
    adam_pool_run(pool, (j.bytes + CHUNK - 1) / CHUNK, copy_chunk, &j);
}
