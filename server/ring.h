/* ring.h: records of any length, of which the last ones are kept. Knows bytes and places, not what
 * they mean. Not locked: its owner is.
 *
 * It takes its memory in pieces, as records come, and never at somebody else's cost: where the
 * budget has none to spare, or at its own limits, the oldest records make room. */
#ifndef ADAMD_RING_H
#define ADAMD_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memory.h"

/* Bytes of a piece, but for one that holds a single larger record: the first one is small, and each
 * takes as much as all before it. */
#define RING_PIECE_MIN ((size_t)1 << 10)
#define RING_PIECE_MAX ((size_t)16 << 10)
/* This part of the budget is left to others, by all pieces but the first. */
#define RING_SPARE_DIV 8

typedef struct ring_piece ring_piece;

/* Records have places, which count up from 0: those at first .. next - 1 are there. */
typedef struct ring {
    memory *memory;
    size_t max_records, max_bytes;
    size_t bytes; /* of all pieces */
    uint64_t first, next;
    ring_piece *oldest, *newest;
} ring;

/* An empty ring holds no memory. `max_records` >= 1. */
void ring_init(ring *r, memory *m, size_t max_records, size_t max_bytes);
void ring_clear(ring *r);

/* Room for one more record, aligned to 8 bytes, which the caller fills; the oldest go where they
 * must. NULL: there is no memory at all, or `length` is over max_bytes; the place of the record
 * then is one that is gone. */
void *ring_add(ring *r, size_t length);

/* The record at `place`, which is there. */
const void *ring_at(const ring *r, uint64_t place, size_t *length);

/* A way through records in a row, until the ring changes. */
typedef struct ring_cursor {
    const ring_piece *piece;
    const char *at;
    uint64_t place; /* of the next record */
} ring_cursor;

/* Begins at `place`, which is there. */
ring_cursor ring_begin(const ring *r, uint64_t place);
/* The record at c->place, which is there; moves on. */
const void *ring_next(ring_cursor *c, size_t *length);

/* What a record takes in a copy. */
size_t ring_copied_bytes(size_t length);
/* Copies whole records from `place` on, which is there, to at most `room` bytes; returns how many,
 * and in *needed what the first one takes. They are read by ring_copied. */
size_t ring_copy(const ring *r, uint64_t place, char *to, size_t room, size_t *needed);
/* The next record of a copy; moves *at past it. */
const void *ring_copied(const char **at, size_t *length);

#endif
