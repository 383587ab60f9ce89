/* buffer.h: reused byte buffers from the memory budget, and text that grows in them.
 *
 * A fresh buffer for each body costs page faults that make a large transfer several times slower;
 * a reused one makes it as fast as the raw socket. So buffers that are let go stay for a while. */
#ifndef ADAMD_BUFFER_H
#define ADAMD_BUFFER_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "memory.h"

/* The smallest capacity. So much is given even where the budget is used up: it is what a refusal
 * takes, and no client holds more than a few. */
#define BUFFER_MIN ((size_t)4096)

typedef struct buffer_pool buffer_pool;

/* Counted bytes. `capacity` bytes at `data`, of which the first `length` are in use. */
typedef struct buffer {
    char *data;
    size_t length, capacity;
} buffer;

/* A pool on `m`, which it also registers with for memory pressure. NULL: no memory. */
buffer_pool *buffer_pool_create(memory *m);
/* All buffers must have been let go, and all other threads that used it must have ended. */
void buffer_pool_free(buffer_pool *pool);
/* Gives back kept buffers of at least `wanted` bytes together, or all. */
void buffer_pool_reclaim(buffer_pool *pool, size_t wanted);
memory *buffer_pool_memory(buffer_pool *pool);
/* Gives back buffers that nobody has wanted since the last but one call. */
void buffer_pool_trim(buffer_pool *pool);

/* A buffer of at least `capacity` bytes and length 0, held once. NULL: the budget is used up. */
buffer *buffer_get(buffer_pool *pool, size_t capacity);
/* Holds it once more; returns it. */
buffer *buffer_hold(buffer *b);
/* Lets go; the last one gives it back to its pool. NULL is allowed. */
void buffer_drop(buffer *b);

/* Text that grows: `failed` is set, and stays, where the budget is used up. */
typedef struct text {
    buffer_pool *pool;
    buffer *buffer; /* NULL while empty */
    bool failed;
} text;

/* Adds where there is no room yet. */
void text_add_more(text *t, const char *bytes, size_t length);
static inline void text_add(text *t, const char *bytes, size_t length)
{
    buffer *b = t->buffer;
    if (b == NULL || t->failed || b->capacity - b->length < length) {
        text_add_more(t, bytes, length);
        return;
    }
    memcpy(b->data + b->length, bytes, length);
    b->length += length;
}
void text_add_string(text *t, const char *string);
void text_add_uint(text *t, uint64_t value);
void text_add_format(text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Room for `length` more bytes at the returned place, to be made part of it by text_advance. NULL:
 * failed. */
char *text_reserve(text *t, size_t length);
void text_advance(text *t, size_t length);
size_t text_length(const text *t);
/* Lets go of the buffer. */
void text_drop(text *t);

#endif
