/* store.h: what keeps optimizers on disk: the data directory with its lock, the journal, snapshots
 * and the thread that writes them. Knows instances, not requests. docs/persistence.md. */
#ifndef ADAMD_STORE_H
#define ADAMD_STORE_H

#include "config.h"
#include "journal.h"
#include "registry.h"
#include "snapshot.h"

/* Types of records. */
enum { STORE_REQUEST = 1, STORE_STEP = 2 };

typedef struct store store;

/* What the store works with. */
typedef struct store_parts {
    const config *config;
    memory *memory;
    buffer_pool *buffers;
    registry *registry;
    executor *jobs;
    adam_pool *pool;
} store_parts;

/* Makes and locks the data directory. NULL, with a sentence in `error`: it cannot be had. */
store *store_open(const store_parts *parts, char *error, size_t error_size);
const char *store_dir(const store *s);
/* Whether the optimizers that are there were kept with a journal. */
bool store_had_journal(const store *s);
/* Everything has been recovered, up to this LSN: appends and snapshots from now on. `anew`: the log
 * that is there is moved away, and a new one begins there, with a snapshot of every optimizer. */
bool store_begin(store *s, uint64_t end, bool anew, char *error, size_t error_size);
/* Writes a snapshot of everything that has changed since its last one. No request is under way. */
void store_settle(store *s);
/* NULL is allowed. */
void store_close(store *s);

/* Whether what is asked can be kept now. */
journal_status store_health(store *s);
/* Whether answers wait until what they say is on disk. */
bool store_is_always(const store *s);
uint64_t store_durable(store *s);
void store_wait(store *s, journal_waiter *w, uint64_t lsn);
uint64_t store_first(store *s);

/* From the strand of the instance. Appends a record of it, as it is after the change: `epoch` and
 * `step`. On JOURNAL_OK *end is the LSN behind it. */
typedef struct store_record {
    uint32_t type;
    uint64_t epoch, step;
    const text *meta;
    const struct iovec *data;
    size_t n_data;
} store_record;
journal_status store_append(store *s, instance *inst, const store_record *r, uint64_t *end);
/* What was changed could not be appended: memory and log are not the same any more. From now on
 * nothing is appended. */
void store_diverged(store *s, const char *name);
/* A record of so many bytes can be appended next. */
journal_status store_reserve(store *s, uint64_t bytes);

/* A snapshot that somebody waits for. `done` is called from the store's thread, with what came of
 * it: on SNAPSHOT_OK `lsn` and `step` say what it holds, else `error` why there is none. */
typedef struct store_wish {
    store *store;
    instance *instance; /* held until `done` */
    void (*done)(struct store_wish *self);
    snapshot_status status;
    uint64_t lsn, step, needs;
    snapshot_error error;
    struct store_wish *next;
} store_wish;
void store_snapshot(store *s, store_wish *wish);
/* A snapshot at once, of whatever `from` says; from the strand of its optimizer. */
snapshot_status store_snapshot_now(store *s, const snapshot_source *from, snapshot_error *error);
/* The newest snapshot of the optimizer is of that step, and has everything up to that LSN; it needs
 * the journal from `needs` on. */
void store_has_snapshot(instance *inst, uint64_t lsn, uint64_t step, uint64_t needs);
/* The journal from where on has what a round holds: `lsn`, or the first of those records. */
uint64_t store_needs(const uint64_t *held, size_t n, uint64_t lsn);
/* Where the log ends now; 0: there is none, or it is not open. */
uint64_t store_end(store *s);
/* Somebody begins to read the log, or no longer does: what is there stays. */
void store_read(store *s, bool begins);
/* It was made: without a journal it has a snapshot soon. */
void store_created(store *s, instance *inst);
/* It was removed, and that is on record: its files go. */
void store_forget(store *s, instance *inst);
/* At once: nobody was told of it. */
void store_remove_files(store *s, const char *name, uint64_t id);
/* The same of the snapshots of an id, whose removal is on record before that LSN. */
void store_forget_files(store *s, const char *name, uint64_t id, uint64_t lsn);

#endif
