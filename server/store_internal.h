/* store_internal.h: what the files of the store share. */
#ifndef ADAMD_STORE_INTERNAL_H
#define ADAMD_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "store.h"

/* An optimizer that was removed, and whose files go when that is on disk. */
typedef struct forgotten {
    struct forgotten *next;
    uint64_t id, lsn;
    char name[REGISTRY_MAX_NAME + 1];
} forgotten;

struct store {
    store_parts with;
    int lock;                 /* file */
    journal *journal;         /* NULL until everything is recovered, and without a journal */
    pthread_mutex_t writing;  /* of snapshots: one at a time */
    pthread_mutex_t dropping; /* of the log's beginning, and for `readers` */
    size_t readers;           /* who read the log: none of it goes meanwhile */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    store_wish *first, *last;
    atomic_uint wishes; /* its own, not yet fulfilled */
    forgotten *forgotten;
    bool stopping, running, began;
    journal_status said; /* in the log */
    int64_t last_look, last_interval;
    pthread_t thread;
};

/* Whether there is, or will be, a journal. */
bool store_keeps_log(const store *s);

/* ---- store_snapshot.c ---- */

/* Wishes for a snapshot that nobody waits for, unless one is on its way. */
void store_wish_for(store *s, instance *inst);
/* On the store's thread: copies in the strand, and writes. */
void store_fulfil(store *s, store_wish *wish);

/* ---- store_tidy.c ---- */

/* Calls `look` for each optimizer. */
void store_each(store *s, void (*look)(store *s, instance *inst, void *context), void *context);
void store_wish_for_all(store *s, instance *inst, void *context);
void store_wish_where_changed(store *s, instance *inst, void *context);
/* Removes the files of those whose removal is on disk, or of all that were removed. */
void store_remove_forgotten(store *s, bool all);
/* The store's thread; its argument is the store. */
void *store_run(void *argument);

#endif
