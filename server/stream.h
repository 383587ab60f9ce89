/* stream.h: listeners to the steps of an optimizer, and what they are sent: server-sent events.
 * Sees no sockets: a listener is a place in a history, a few bytes, and calls that its owner gives.
 *
 * A step tells the hub with one call that costs next to nothing; the ticker's thread wakes the
 * listeners that wait, and sends heartbeats. Nobody waits for a listener: one that falls out of the
 * history is cut off. */
#ifndef ADAMD_STREAM_H
#define ADAMD_STREAM_H

#include <sys/types.h>

#include "history.h"
#include "ticker.h"

#define STREAM_RETRY_MS 3000 /* after which a client is asked to come back */

typedef struct stream_hub stream_hub;
typedef struct listener listener;

/* What a listener does to its connection. Called under the hub's lock. */
typedef struct listener_calls {
    /* No more bytes for now: from stream_read alone. Then either resume comes, once, or
     * stream_read is not called again. */
    void (*suspend)(void *context);
    void (*resume)(void *context); /* bytes have come, or the end */
    void (*cut)(void *context);    /* it takes too long to take its bytes */
    void *context;
} listener_calls;

/* A hub that the ticker drives. NULL: no memory. */
stream_hub *stream_hub_create(ticker *t, unsigned heartbeat_seconds);
/* All listeners must be gone. NULL is allowed. */
void stream_hub_free(stream_hub *hub);
/* Ends all streams, and from now on every new one at once: after it, nobody is suspended. */
void stream_hub_end(stream_hub *hub);
unsigned stream_hub_count(stream_hub *hub);

/* There is something new in the history. From any thread. */
void stream_notify(stream_hub *hub, const history *h);

/* Where a listener begins. */
typedef struct stream_start {
    uint64_t place; /* in the history */
    bool gap;       /* what came after `last_id` is not all there any more */
    uint64_t last_id;
} stream_start;

/* A listener, which holds the history. Its few bytes come from the pool's budget; NULL: none. */
listener *stream_listen(stream_hub *hub, history *h, buffer_pool *pool, const stream_start *start);
/* Before the first stream_read. */
void stream_attach(listener *l, const listener_calls *calls);
/* Fills up to `room` bytes. 0: suspended. Less than 0: that was all. From one thread at a time. */
ssize_t stream_read(listener *l, char *to, size_t room);
/* Wakes it, whether there is something or not: its connection may have gone. */
void stream_wake(listener *l);
/* From now on none of its calls is made. NULL is allowed. */
void stream_close(listener *l);

#endif
