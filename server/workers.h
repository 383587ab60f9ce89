/* workers.h: who sends gradients to one optimizer, and how it went. Knows names and counts, not
 * requests.
 *
 * Has a lock of its own: any thread. Where there is no memory, a worker is not tracked. In all of
 * it, a `name` of NULL, or a longer one than WORKERS_MAX_NAME, is nobody's. */
#ifndef ADAMD_WORKERS_H
#define ADAMD_WORKERS_H

#include "buffer.h"
#include "problem.h"

#define WORKERS_MAX_NAME PROBLEM_MAX_WORKER
/* Of one optimizer: then the one not seen for longest goes, unless it is in quarantine. */
#define WORKERS_MAX 10000

typedef struct workers workers;

/* Workers are forgotten that were not seen for `ttl_seconds`; 0: never. NULL: no memory. */
workers *workers_create(memory *m, unsigned ttl_seconds);
/* NULL is allowed. */
void workers_free(workers *w);
/* For tests: another clock than CLOCK_MONOTONIC, in milliseconds. */
void workers_set_clock(workers *w, int64_t (*now_ms)(void));

/* A finite gradient was taken: seen now; ends a row of non-finite ones, but no quarantine. */
void workers_accepted(workers *w, const char *name, double weight, bool has_staleness,
                      uint64_t staleness);
/* It went into a step. */
void workers_stepped(workers *w, const char *name);
/* It waits for others: seen now, where it is known. */
void workers_waits(workers *w, const char *name);
/* Seen now. */
void workers_refused(workers *w, const char *name, problem_code code);
/* Its gradient had a NaN or infinity: seen now; from `most` in a row on (0: never) it is in
 * quarantine, until it is removed. */
void workers_nonfinite(workers *w, const char *name, unsigned most);
/* *in_a_row gets how many were not finite. */
bool workers_quarantined(workers *w, const char *name, unsigned *in_a_row);
/* False: not known. */
bool workers_remove(workers *w, const char *name);

/* How many are gone: had a gradient accepted, and were not seen again for the time, or are in
 * quarantine for as long. One that is accepted for the first time, or again, lowers it. Forgets
 * those that were not seen, but for the ones in quarantine. */
unsigned workers_gone(workers *w);
/* Milliseconds until workers_gone may have something to do; -1: nothing, as things stand. */
int64_t workers_next_gone_ms(workers *w);

size_t workers_count(workers *w);
size_t workers_bytes(workers *w);
/* Prints them as JSON, by name, one a line, and how many are gone. */
void workers_show(workers *w, text *t);

#endif
