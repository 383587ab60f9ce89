/* memory.h: the server's memory budget, and large memory from it.
 *
 * Everything whose size a client decides is taken from one budget before it is allocated: optimizer
 * state, bodies, replies, parsed JSON. Safe from any thread. */
#ifndef ADAMD_MEMORY_H
#define ADAMD_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

typedef struct memory memory;

/* A budget of `limit` bytes. NULL where the C library has no memory. */
memory *memory_create(size_t limit);
void memory_free(memory *m);

/* Called, without locks of this module, when the budget is short of `wanted` bytes: gives back what
 * is kept only for reuse. One for a budget. */
void memory_on_pressure(memory *m, void (*reclaim)(void *context, size_t wanted), void *context);

size_t memory_limit(const memory *m);
size_t memory_used(const memory *m);

/* Memory aligned to 64 bytes, or NULL where the budget or the machine has none left. From 1 MiB on
 * it is mapped and advised to huge pages. memory_get_zeroed gives zeros. */
void *memory_get(memory *m, size_t bytes);
void *memory_get_zeroed(memory *m, size_t bytes);
/* Gives back what memory_get gave, with the same size. NULL is allowed. */
void memory_put(memory *m, void *block, size_t bytes);

#endif
