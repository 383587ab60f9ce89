/* pool.h: threads that share the chunks of one large step.
 *
 * A pool may serve many optimizers at once: whoever calls into it works along, so a call always
 * moves forward, even when every thread of the pool is busy with another call. */
#ifndef ADAM_POOL_H
#define ADAM_POOL_H

#include "adam/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adam_pool adam_pool;

/* A pool that lets a call run on up to `threads` threads, the caller's own among them (so it starts
 * threads - 1). threads: 1 to 1024. */
adam_status adam_pool_create(unsigned threads, adam_pool **pool);

/* Ends the threads. No call may be in the pool. NULL is allowed. */
void adam_pool_free(adam_pool *pool);

#ifdef __cplusplus
}
#endif
#endif
