/* idempotency.h: the idempotency keys of one optimizer, and how their requests were answered. Knows
 * keys and records, not requests. Not locked: used from the optimizer's strand.
 *
 * A key is pending from when its request is taken until it is answered or refused. Keys that were
 * answered are kept for a time, and so many of them: the oldest go. */
#ifndef ADAMD_IDEMPOTENCY_H
#define ADAMD_IDEMPOTENCY_H

#include <stdbool.h>

#include "adam/optimizer.h"
#include "fingerprint.h"
#include "memory.h"

#define IDEMPOTENCY_MAX_KEY 128

typedef struct idempotency idempotency;

typedef struct key_record {
    fingerprint body;
    bool pending; /* not answered yet: nothing below is set */
    int status;
    uint64_t held; /* gradients held, of a 202 */
    adam_step_stats stats;
    size_t n_groups;
    const adam_group_stats *groups;
} key_record;

/* Keeps `most` keys that were answered, for `ttl_seconds`. NULL: no memory. */
idempotency *idempotency_create(memory *m, size_t most, unsigned ttl_seconds);
/* NULL is allowed. */
void idempotency_free(idempotency *k);
/* For tests: another clock than CLOCK_MONOTONIC, in milliseconds. */
void idempotency_set_clock(idempotency *k, int64_t (*now_ms)(void));

/* The record of a key, or NULL; one older than the time it is kept is gone. Valid until the next
 * call. */
const key_record *idempotency_find(idempotency *k, const char *key);
/* Makes a pending record of a key that has none, with room for n_groups. Pending ones do not count
 * among `most`. False: no memory. */
bool idempotency_begin(idempotency *k, const char *key, fingerprint body, size_t n_groups);
/* The request was answered; cannot fail. Its time begins here, and where there are more than `most`
 * the oldest goes. `groups` are as many as there is room for; NULL: none. */
void idempotency_end(idempotency *k, const char *key, int status, uint64_t held,
                     const adam_step_stats *stats, const adam_group_stats *groups);
/* The request was refused: the key is free again. */
void idempotency_abort(idempotency *k, const char *key);

/* Visits the keys that were answered, the oldest first, each with its age. Pending ones are left
 * out: their requests are not answered. */
typedef void idempotency_visit(void *context, const char *key, int64_t age_ms,
                               const key_record *record);
void idempotency_each(const idempotency *k, idempotency_visit *visit, void *context);
/* Adds a key that was answered so long ago, with its record, as idempotency_each gave it: from the
 * oldest on. Where there are more than `most`, the oldest goes. False: no memory. */
bool idempotency_restore(idempotency *k, const char *key, int64_t age_ms, const key_record *record);

/* Keys, pending ones included, and what they take. */
size_t idempotency_count(const idempotency *k);
size_t idempotency_bytes(const idempotency *k);

#endif
