/* gather.h: pieces of memory copied into one, on many threads. */
#ifndef ADAM_GATHER_H
#define ADAM_GATHER_H

#include <stddef.h>

#include "adam/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adam_piece {
    const void *from;
    size_t at, bytes; /* where in the whole */
} adam_piece;

/* Copies n pieces to where they belong in `to`, on the pool's threads (NULL: the calling one
 * alone); cannot fail. The pieces come in the order of their places, each beginning where the last
 * one ended, the first at 0; they overlap nothing of `to`. */
void adam_gather(void *to, const adam_piece *pieces, size_t n, adam_pool *pool);

#ifdef __cplusplus
}
#endif

#endif
