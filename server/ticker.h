/* ticker.h: one thread for all that is done at its time. Knows times and calls, not what they do.
 */
#ifndef ADAMD_TICKER_H
#define ADAMD_TICKER_H

#include <stdatomic.h>
#include <stdint.h>

#define TICKER_NEVER INT64_MAX

typedef struct ticker ticker;

/* What is called. The caller fills the first two members, and zeroes the others. */
typedef struct ticker_entry {
    /* Does what is due, and returns the time of the next call, as clock_ms() has it, or
     * TICKER_NEVER. Called without a lock of the ticker, from its thread, so that the others wait
     * meanwhile: where there is much to do it does a part, and returns a time that has passed. It
     * is then called again after the others. */
    int64_t (*tick)(void *context);
    void *context;

    atomic_bool rung;
    int64_t due;
    struct ticker_entry *next;
} ticker_entry;

/* A ticker, and its thread. NULL: no memory or thread. */
ticker *ticker_create(void);
/* Ends the thread. No entries may be left. NULL is allowed. */
void ticker_free(ticker *t);

/* Adds an entry, which is called soon, and from then on at its times. */
void ticker_add(ticker *t, ticker_entry *e);
/* No call is under way when it returns, and none comes any more. Not from a tick, nor with a lock
 * that the entry's tick takes. */
void ticker_remove(ticker *t, ticker_entry *e);
/* Has it called soon, and after this at its times again. From any thread, under any lock, and from
 * a tick. One that is rung already takes one atomic exchange; one that was removed is not called.
 */
void ticker_ring(ticker *t, ticker_entry *e);

#endif
