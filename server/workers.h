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

#define X(name, slug, title) +1
enum { WORKERS_PROBLEMS = 0 PROBLEM_MAP(X) }; /* codes */
#undef X

typedef struct workers workers;

/* What is known of one. */
typedef struct worker_record {
    int64_t first_seen_ms, last_seen_ms, refused_ms; /* since 1970 */
    uint64_t steps, nonfinite, staleness, max_staleness;
    double weight;
    unsigned in_a_row; /* that were not finite */
    problem_code last_refusal;
    bool accepted; /* once */
    bool has_staleness, any_refused, in_quarantine;
    uint32_t refused[WORKERS_PROBLEMS]; /* of each code */
    char name[WORKERS_MAX_NAME + 1];
    /* set by workers_copy: since it was last seen, or put in quarantine; and whether it is in
     * quarantine and counted among those that are gone */
    int64_t age_ms;
    bool gone;
} worker_record;

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
/* All of them, copied, so that nobody waits while they are looked at: those that are seen, and then
 * those in quarantine, the oldest of each first. */
typedef struct workers_copied {
    worker_record *records;
    size_t n, room;
    unsigned gone;
} workers_copied;
/* False: no memory. On success the caller gives it to workers_copy_drop. */
bool workers_copy(workers *w, workers_copied *out);
void workers_copy_drop(workers *w, workers_copied *copy);
/* Adds one as workers_copy gave it, in that order. False: no memory, it is there, or there are
 * WORKERS_MAX. */
bool workers_restore(workers *w, const worker_record *record);
/* Sets how many are gone, after the last of them. */
void workers_restore_gone(workers *w, unsigned gone);
/* Prints them as JSON, by name, one a line, and how many are gone. */
void workers_show(workers *w, text *t);

#endif
