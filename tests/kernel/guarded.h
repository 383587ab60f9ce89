/* guarded.h: memory between two pages that nobody may touch. Knows bytes, not kernels. */
#ifndef ADAM_TEST_GUARDED_H
#define ADAM_TEST_GUARDED_H

#include <stdbool.h>
#include <stddef.h>

typedef struct guarded {
    unsigned char *room; /* the first byte after the guard page */
    size_t bytes;        /* up to the next guard page */
} guarded;

/* Maps room for at least `bytes` bytes. Ends the program where the system has none. */
guarded guarded_map(size_t bytes);
void guarded_unmap(guarded *g);

/* Data ends at the guard page behind it. */
#define GUARDED_END ((size_t)-1)

/* A place for `n` bytes: `shift` bytes behind the guard page in front, or GUARDED_END. Up to 64
 * bytes on either side, where there is no guard page, are marked. */
void *guarded_place(const guarded *g, size_t n, size_t shift);

/* Whether the marks around a place are whole. */
bool guarded_intact(const guarded *g, const void *place, size_t n);

/* Whether reading one byte before and after the room ends a program: the guards guard. */
bool guarded_works(const guarded *g);

#endif
