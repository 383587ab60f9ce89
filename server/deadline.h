/* deadline.h: ends connections that take too long. Knows sockets and clocks, not requests. */
#ifndef ADAMD_DEADLINE_H
#define ADAMD_DEADLINE_H

#include <stdbool.h>
#include <stddef.h>

#include "ticker.h"

/* A connection may move a second's worth of this many bytes for each second over the timeout. */
#define DEADLINE_BYTES_PER_SECOND ((size_t)64 << 10)

typedef struct deadline_watch deadline_watch;
typedef struct deadline deadline;

/* A watch that the ticker drives. `seconds`: the timeout. NULL: no memory. */
deadline_watch *deadline_watch_create(ticker *t, unsigned seconds);
/* All connections must be gone. NULL is allowed. */
void deadline_watch_free(deadline_watch *w);

/* Watches a socket from now on; it has one timeout of time. NULL: no memory. */
deadline *deadline_add(deadline_watch *w, int socket);
/* Before the socket is closed. NULL is allowed. */
void deadline_remove(deadline_watch *w, deadline *d);
/* Starts its time anew: the timeout, and what moving `bytes` takes. */
void deadline_restart(deadline_watch *w, deadline *d, size_t bytes);
/* Gives it the time that moving `bytes` more takes. */
void deadline_extend(deadline *d, size_t bytes);
/* While a body is being read, or a stream sent, a client that has gone is found out by asking:
 * 0.9.75 of libmicrohttpd does not see an end that comes together with data. */
void deadline_reading(deadline *d, bool reading);
/* Stops its time, until the next restart. */
void deadline_pause(deadline *d);
/* Ends its time now. */
void deadline_expire(deadline *d);
/* Calls `shut` from the ticker's thread when it has shut the socket down: a connection that is
 * suspended does not notice. NULL: no more; then no call is under way when this returns. */
void deadline_on_shut(deadline_watch *w, deadline *d, void (*shut)(void *context), void *context);

#endif
