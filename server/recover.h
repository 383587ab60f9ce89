/* recover.h: optimizers out of the data directory: at the start, and as they were. */
#ifndef ADAMD_RECOVER_H
#define ADAMD_RECOVER_H

#include "router.h"

/* What was found. */
typedef struct recovery {
    uint64_t end; /* of the log */
    size_t optimizers, records;
    uint64_t bytes; /* of records */
    bool cut;       /* the log did not end as it should */
    bool anew;      /* the log cannot go on where it ended: snapshots are ahead of it, or it is not
                       wanted any more */
    char report[2048]; /* a sentence on it */
} recovery;

/* Reads snapshots and journal into the registry. False, with a sentence that says which file, where
 * and what to do, in found->report. */
bool recover_all(api_context *ctx, recovery *found);

/* A snapshot as an optimizer, not in the list; held once. NULL, with the problem set. */
instance *recover_load(api_context *ctx, const snapshot_entry *entry, problem *p);
/* The optimizer as it last was at a step, not in the list; held once. NULL, with the problem set.
 */
instance *recover_at(api_context *ctx, instance *inst, uint64_t step, problem *p);

#endif
