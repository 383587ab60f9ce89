/* snapshot.h: a whole optimizer in a file: its state, and all that is kept beside it. Knows files
 * and records, not requests. docs/persistence.md has the format.
 *
 * Taken in three parts, so that steps wait for none of the disk: snapshot_begin gets memory,
 * snapshot_copy copies in the optimizer's strand, snapshot_write writes the copy. */
#ifndef ADAMD_SNAPSHOT_H
#define ADAMD_SNAPSHOT_H

#include "adam/optimizer.h"
#include "buffer.h"
#include "codec_training.h"
#include "idempotency.h"
#include "workers.h"

#define SNAPSHOT_VERSION  1
#define SNAPSHOT_KEPT     2   /* of an optimizer: older ones are removed */
#define SNAPSHOT_MAX_NAME 128 /* of an optimizer */

typedef enum snapshot_status {
    SNAPSHOT_OK,
    SNAPSHOT_NO_MEMORY, /* the budget is used up */
    SNAPSHOT_OUTGROWN,  /* the state has grown beyond the room that was got for it */
    SNAPSHOT_NO_SPACE,  /* on the disk */
    SNAPSHOT_FAILED,    /* the system says no */
    SNAPSHOT_BAD,       /* the file is not what was written */
} snapshot_status;

/* Why; the caller's. A sentence. */
typedef struct snapshot_error {
    char message[1280];
} snapshot_error;

/* Everything of an optimizer at one step. */
typedef struct snapshot_source {
    const char *name;
    uint64_t id, epoch, lsn;
    const adam_optimizer *optimizer;
    const adam_options *defaults;
    const training *how;
    const idempotency *keys; /* NULL: none */
    workers *workers;        /* NULL: none */
    const uint64_t *held;    /* LSNs of the gradients that its round holds */
    size_t n_held;
} snapshot_source;

typedef struct snapshot snapshot;

/* Room for the data of a state, its pages touched: `bytes` as adam_optimizer_bytes gives them are
 * enough. NO_MEMORY: nothing has happened. On success the caller calls snapshot_drop. */
snapshot_status snapshot_begin(buffer_pool *pool, size_t bytes, snapshot **out,
                               snapshot_error *error);
/* Copies it all, on the threads of a pool (NULL: the calling one); from the optimizer's strand, and
 * once. NO_MEMORY, OUTGROWN: nothing has happened; the snapshot may only be dropped. */
snapshot_status snapshot_copy(snapshot *s, const snapshot_source *from, adam_pool *threads,
                              snapshot_error *error);
/* Writes what was copied below the data directory and removes what is older than the newest
 * SNAPSHOT_KEPT of the optimizer. It is on disk, name and all, when this returns OK; otherwise
 * those that were there still are. One at a time for optimizers of the same name. */
snapshot_status snapshot_write(snapshot *s, const char *data_dir, snapshot_error *error);
/* NULL is allowed. */
void snapshot_drop(snapshot *s);

/* ---- and back ---- */

/* One that is there. */
typedef struct snapshot_entry {
    char name[SNAPSHOT_MAX_NAME + 1];
    uint64_t id, lsn;
} snapshot_entry;

typedef struct snapshot_list {
    snapshot_entry *entries;
    size_t n;
} snapshot_list;

/* Those of one optimizer's name, or all (NULL): by name, and of a name the newest (by LSN) first.
 * Anything else that lies there is passed over. In any case the caller calls snapshot_list_drop. */
snapshot_status snapshot_list_read(const char *data_dir, const char *name, snapshot_list *out,
                                   snapshot_error *error);
void snapshot_list_drop(snapshot_list *list);
/* Where it lies, into `out`; false where that is longer than `size`. */
bool snapshot_path(const char *data_dir, const snapshot_entry *entry, char *out, size_t size);

/* What an optimizer is restored with. */
typedef struct snapshot_settings {
    buffer_pool *pool;
    const adam_allocator *allocator;
    size_t max_keys; /* those that are more are left out, the oldest first */
    unsigned key_ttl, worker_ttl;
} snapshot_settings;

/* What was in a file: everything is the caller's. */
typedef struct snapshot_content {
    char name[SNAPSHOT_MAX_NAME + 1];
    uint64_t id, epoch, lsn;
    int64_t time_ms; /* when it was taken, since 1970 */
    adam_optimizer *optimizer;
    adam_options defaults;
    training how;
    idempotency *keys; /* NULL: none */
    workers *workers;  /* NULL: none */
    uint64_t *held;    /* malloc'ed */
    size_t n_held;
} snapshot_content;

/* Reads a file and checks every byte of it. On success the caller calls snapshot_content_drop, or
 * takes what it wants, leaving NULL there. */
snapshot_status snapshot_read(const char *path, const snapshot_settings *settings,
                              snapshot_content *out, snapshot_error *error);
void snapshot_content_drop(snapshot_content *c);

#endif
