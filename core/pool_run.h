/* pool_run.h: how the core runs a loop on a pool. */
#ifndef ADAM_CORE_POOL_RUN_H
#define ADAM_CORE_POOL_RUN_H

#include "adam/pool.h"

typedef void adam_pool_fn(void *context, size_t item);

/* Calls fn(context, 0 .. n_items - 1), each once, in any order, on the pool's threads and the
 * caller's; returns when all are done. pool NULL: a plain loop. fn must not call into the pool. */
void adam_pool_run(adam_pool *pool, size_t n_items, adam_pool_fn *fn, void *context);

#endif
