/* ring.c: a list of pieces, the newest of which is being filled. */
#include "ring.h"

#include <string.h>

struct ring_piece {
    ring_piece *next; /* newer */
    size_t size, used;
    uint64_t first; /* place of its first record */
    size_t count;
    char data[];
};

/* Before each record; keeps what follows aligned. */
typedef struct record_head {
    uint64_t length;
} record_head;

static size_t padded(size_t length)
{
    return (length + 7) / 8 * 8;
}

size_t ring_copied_bytes(size_t length)
{
    return sizeof(record_head) + padded(length);
}

void ring_init(ring *r, memory *m, size_t max_records, size_t max_bytes)
{
    *r = (ring){.memory = m, .max_records = max_records, .max_bytes = max_bytes};
}

static void free_piece(ring *r, ring_piece *piece)
{
    const size_t bytes = sizeof *piece + piece->size;
    r->bytes -= bytes;
    memory_put(r->memory, piece, bytes);
}

/* Takes the oldest piece off, and its records with it. */
static ring_piece *unlink_oldest(ring *r)
{
    ring_piece *piece = r->oldest;
    r->oldest = piece->next;
    if (r->oldest == NULL) {
        r->newest = NULL;
    }
    const uint64_t after = piece->first + piece->count;
    r->first = r->first > after ? r->first : after;
    return piece;
}

void ring_clear(ring *r)
{
    while (r->oldest != NULL) {
        free_piece(r, unlink_oldest(r));
    }
}

static void link_newest(ring *r, ring_piece *piece)
{
    piece->next = NULL;
    piece->used = 0;
    piece->count = 0;
    piece->first = r->next;
    if (r->newest != NULL) {
        r->newest->next = piece;
    } else {
        r->oldest = piece;
    }
    r->newest = piece;
}

/* One more piece, with room for a record of `need` bytes, if limits and budget let. */
static bool grow(ring *r, size_t need)
{
    size_t bytes = r->bytes < RING_PIECE_MIN   ? RING_PIECE_MIN
                   : r->bytes < RING_PIECE_MAX ? r->bytes
                                               : RING_PIECE_MAX;
    if (bytes < sizeof(ring_piece) + need) {
        bytes = sizeof(ring_piece) + need;
    }
    if (bytes > r->max_bytes || r->bytes > r->max_bytes - bytes) {
        return false;
    }
    /* the first piece is small, and without it nothing would be kept */
    const size_t leave = r->oldest != NULL ? memory_limit(r->memory) / RING_SPARE_DIV : 0;
    ring_piece *piece = memory_get_spare(r->memory, bytes, leave);
    if (piece == NULL) {
        return false;
    }
    piece->size = bytes - sizeof *piece;
    r->bytes += bytes;
    link_newest(r, piece);
    return true;
}

/* Makes the newest piece one that has room for `need` bytes. */
static bool make_room(ring *r, size_t need)
{
    if (need > r->max_bytes) {
        return false;
    }
    if (r->newest != NULL && r->newest->size - r->newest->used >= need) {
        return true;
    }
    while (!grow(r, need)) {
        if (r->oldest == NULL) {
            return false;
        }
        ring_piece *piece = unlink_oldest(r);
        if (piece->size >= need) {
            link_newest(r, piece);
            return true;
        }
        free_piece(r, piece);
    }
    return true;
}

void *ring_add(ring *r, size_t length)
{
    if (length > r->max_bytes || !make_room(r, ring_copied_bytes(length))) {
        ring_clear(r);
        r->first = ++r->next; /* its place is gone, like those before it */
        return NULL;
    }
    ring_piece *piece = r->newest;
    record_head *head = (void *)(piece->data + piece->used);
    head->length = length;
    piece->used += ring_copied_bytes(length);
    piece->count++;
    r->next++;
    if (r->next - r->first > r->max_records) {
        r->first = r->next - r->max_records;
    }
    while (r->oldest != r->newest && r->oldest->first + r->oldest->count <= r->first) {
        free_piece(r, unlink_oldest(r));
    }
    return head + 1;
}

/* The piece that holds `place`. */
static const ring_piece *piece_of(const ring *r, uint64_t place)
{
    const ring_piece *piece = place >= r->newest->first ? r->newest : r->oldest;
    while (piece->first + piece->count <= place) {
        piece = piece->next;
    }
    return piece;
}

/* Where `place` begins in its piece. */
static const char *find(const ring_piece *piece, uint64_t place)
{
    const char *at = piece->data;
    size_t length;
    for (uint64_t i = piece->first; i < place; i++) {
        (void)ring_copied(&at, &length);
    }
    return at;
}

const void *ring_at(const ring *r, uint64_t place, size_t *length)
{
    const char *at = find(piece_of(r, place), place);
    return ring_copied(&at, length);
}

ring_cursor ring_begin(const ring *r, uint64_t place)
{
    const ring_piece *piece = piece_of(r, place);
    return (ring_cursor){piece, find(piece, place), place};
}

const void *ring_next(ring_cursor *c, size_t *length)
{
    if (c->place == c->piece->first + c->piece->count) {
        c->piece = c->piece->next;
        c->at = c->piece->data;
    }
    c->place++;
    return ring_copied(&c->at, length);
}

size_t ring_copy(const ring *r, uint64_t place, char *to, size_t room, size_t *needed)
{
    const ring_piece *piece = piece_of(r, place);
    const char *at = find(piece, place);
    size_t length;
    size_t n = 0;
    *needed = 0;
    while (place < r->next) {
        const char *from = at;
        (void)ring_copied(&at, &length);
        const size_t bytes = ring_copied_bytes(length);
        *needed = *needed > 0 ? *needed : bytes;
        if (bytes > room) {
            break;
        }
        memcpy(to, from, bytes);
        to += bytes;
        room -= bytes;
        n++;
        place++;
        if (place == piece->first + piece->count && place < r->next) {
            piece = piece->next;
            at = piece->data;
        }
    }
    return n;
}

const void *ring_copied(const char **at, size_t *length)
{
    const record_head *head = (const void *)*at;
    *length = head->length;
    *at += ring_copied_bytes(*length);
    return head + 1;
}
