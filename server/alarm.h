/* alarm.h: a clock that calls back into strands. Knows times and jobs, not what they are for. */
#ifndef ADAMD_ALARM_H
#define ADAMD_ALARM_H

#include <stdint.h>

#include "executor.h"
#include "ticker.h"

typedef struct alarm_clock alarm_clock;

#define ALARM_NEVER ((uint64_t)TICKER_NEVER)

/* One of a strand, which outlives it while it is set. The caller fills the members down to
 * `due`, which is ALARM_NEVER, and zeroes the others. */
typedef struct alarm_entry {
    strand *strand;
    /* Its time has come and a job is about to wait for the strand: whatever the entry is in must
     * stay until that has run. Called under the clock's lock. */
    void (*keep)(struct alarm_entry *self);
    void (*ring)(struct alarm_entry *self); /* that job, in the strand, which it leaves */
    void *context;
    uint64_t due;

    job job;
    alarm_clock *clock;
    bool ringing; /* the job is under way */
    struct alarm_entry *previous, *next;
} alarm_entry;

/* A clock that the ticker drives, whose jobs run on `jobs`. NULL: no memory. */
alarm_clock *alarm_clock_create(ticker *t, executor *jobs);
/* Nothing begins to ring from now on. NULL is allowed. */
void alarm_clock_stop(alarm_clock *c);
/* Stops it, and frees it when no entry is set any more. NULL is allowed. */
void alarm_clock_free(alarm_clock *c);

/* Milliseconds of a clock that only goes forward. */
uint64_t alarm_now(void);

/* Sets the time at which it rings, once; ALARM_NEVER: not. From its strand. */
void alarm_set(alarm_clock *c, alarm_entry *a, uint64_t due);

#endif
