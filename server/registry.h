/* registry.h: the optimizers by name. */
#ifndef ADAMD_REGISTRY_H
#define ADAMD_REGISTRY_H

#include <stdatomic.h>

#include "adam/optimizer.h"
#include "alarm.h"
#include "buffer.h"
#include "changes.h"
#include "codec_show.h"
#include "executor.h"
#include "history.h"
#include "idempotency.h"
#include "round.h"
#include "workers.h"

#define REGISTRY_MAX_NAME 128

/* The parameters after a step, in the buffer that it was answered from, for whoever reads them
 * until the next change. */
typedef struct published {
    buffer *data;    /* NULL: nothing published */
    buffer *offsets; /* size_t for each parameter: where it lies behind data_offset */
    size_t data_offset, data_length;
    unsigned idle; /* calls of registry_trim since they were last used */
} published;

/* Where an optimizer stands on disk. From its strand, but for what is atomic. */
typedef struct kept {
    uint64_t id;                    /* the epoch of its creation, which is nobody else's */
    _Atomic uint64_t last;          /* LSN behind its last record */
    uint64_t bytes;                 /* of its records since the last snapshot began */
    _Atomic uint64_t snapshot;      /* LSN up to which the newest snapshot has everything */
    _Atomic uint64_t snapshot_step; /* the step that it is of */
    _Atomic uint64_t needs;         /* the journal from here on is needed with that one */
    _Atomic uint64_t needed;        /* and from here on with the one before it too */
    atomic_bool wished;             /* a snapshot of it is on its way */
    uint64_t *held;                 /* while it is recovered: the records of what its round holds */
    size_t n_held;
} kept;

/* A named optimizer. Whoever is in its strand may use all of it; history, changes, `removed` and
 * what is shared may be read without. */
typedef struct instance {
    memory *memory; /* it was taken from */
    char name[REGISTRY_MAX_NAME + 1];
    strand strand;
    adam_optimizer *optimizer;
    published params;
    training training;
    worker_round round;         /* gradients that are held */
    struct api_request *pulls;  /* that wait for the next step, linked by next_waiting */
    alarm_entry alarm;          /* for both */
    idempotency *keys;          /* NULL: none yet */
    _Atomic(workers *) workers; /* NULL: none yet; may be read and set without the strand */
    kept kept;
    history *history;    /* of its steps */
    changes *changes;    /* to it */
    atomic_bool removed; /* its name is free again; whoever still waits for it is told so */
    struct {
        pthread_mutex_t lock;
        optimizer_info info; /* a copy, for readers outside the strand */
        unsigned holds;
    } shared;
} instance;

typedef struct registry registry;

/* Whether an optimizer may have that name. */
bool registry_valid_name(const char *name, size_t length);

/* Instances take their memory from `m`; under its pressure, idle ones unpublish. `jobs` runs what
 * waits for their strands. Each keeps a history of `history_steps` steps. */
registry *registry_create(memory *m, executor *jobs, buffer_pool *buffers, size_t history_steps);
/* Nobody may hold an instance. */
void registry_free(registry *r);

/* Lets go of parameters that are published and that nobody has used since the last but one call: at
 * rest an optimizer takes its state and no more. */
void registry_trim(registry *r);

/* An epoch that was never given before. */
uint64_t registry_next_epoch(registry *r);
/* The one that it gives next, and after recovery. */
void registry_set_next_epoch(registry *r, uint64_t epoch);
uint64_t registry_last_epoch(registry *r);

/* Takes `optimizer` under a new name; false where the name is taken (the caller keeps the
 * optimizer) or, with *no_memory set, there is no memory. On success the instance is held once for
 * the caller, who is in its strand, and leaves it. */
bool registry_add(registry *r, const char *name, adam_optimizer *optimizer,
                  const adam_options *defaults, const training *how, instance **out,
                  bool *no_memory);
/* One that has no name in the list yet, as it was on disk, held once; takes `optimizer`. NULL: no
 * memory; the caller keeps it. */
instance *registry_make(registry *r, const char *name, adam_optimizer *optimizer,
                        const adam_options *defaults, const training *how, uint64_t id,
                        uint64_t epoch);
/* Puts it on the list, which holds it once more; false where the name is taken, or with *no_memory
 * set. */
bool registry_attach(registry *r, instance *inst, bool *no_memory);
/* The instance of that name, held, or NULL. */
instance *registry_hold(registry *r, const char *name);
/* Takes it off the list; from its strand. */
void registry_remove(registry *r, instance *inst);
size_t registry_count(registry *r);
/* Up to `most` instances whose names begin with `prefix` and sort after `after`, held, by name.
 * *more: there are others after them. */
size_t registry_page(registry *r, const char *prefix, const char *after, size_t most,
                     instance **out, bool *more);

/* Lets go; the last one frees it. NULL is allowed. */
void instance_drop(instance *inst);
/* Holds it once more; the caller holds it, or knows that somebody does. */
instance *instance_hold(instance *inst);
optimizer_info instance_info(instance *inst);
/* Renews the shared copy after a change; from the strand. */
void instance_changed(instance *inst);
/* The same, and history was rewritten: a new epoch. */
void instance_rewritten(instance *inst, uint64_t epoch);
/* Forgets what is published; from the strand. */
void instance_unpublish(instance *inst);

#endif
