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

/* Adds a hook that is called, without locks of this module, when the budget is short of `wanted`
 * bytes: it gives back what is kept only for reuse. They are called in order, until it fits; at
 * most MEMORY_MAX_HOOKS. memory_drop_hooks removes them all. */
#define MEMORY_MAX_HOOKS 2
void memory_on_pressure(memory *m, void (*reclaim)(void *context, size_t wanted), void *context);
void memory_drop_hooks(memory *m);

size_t memory_limit(const memory *m);
size_t memory_used(const memory *m);

/* Memory aligned to 64 bytes, or NULL where the budget or the machine has none left. From 128 KiB
 * on it is mapped, and so given back to the machine at once; from 2 MiB on it is advised to huge
 * pages. What is booked is what it takes, rounding included. memory_get_zeroed gives zeros;
 * memory_get_beyond may pass the limit, for the little that an answer to a refusal takes. */
void *memory_get(memory *m, size_t bytes);
void *memory_get_beyond(memory *m, size_t bytes);
void *memory_get_zeroed(memory *m, size_t bytes);
/* The same from what nobody needs: asks no hook to give anything back, and leaves `leave` bytes of
 * the budget to others. For what is good to have, and can be done without. */
void *memory_get_spare(memory *m, size_t bytes, size_t leave);
/* Gives free memory of the heap back to the machine, if much has come free since the last call. */
void memory_trim(memory *m);
/* Gives back what memory_get gave, with the same size. NULL is allowed. */
void memory_put(memory *m, void *block, size_t bytes);

#endif
