/* recover_internal.h: what the files that recover share. */
#ifndef ADAMD_RECOVER_INTERNAL_H
#define ADAMD_RECOVER_INTERNAL_H

#include "api_persist.h"
#include "recover.h"

/* Makes the request of a record again, up to its handler; `inst` NULL: of no optimizer. False, with
 * the problem set. In either case the caller drops it. */
bool recover_read_request(api_context *ctx, const journal_record *record, instance *inst,
                          api_request *rq, json_doc **doc, problem *p);
void recover_drop_request(api_request *rq, json_doc *doc);

/* Does a record again, which ends at `end`, to an instance that is at its beginning. False, with
 * the problem set. */
bool recover_record(api_context *ctx, instance *inst, const journal_record *record, uint64_t end,
                    problem *p);
/* The optimizer that a record creates, not in the list. NULL, with the problem set. */
instance *recover_creation(api_context *ctx, const journal_record *record, problem *p);
/* Whether a gradient that the snapshot of the instance held is in the record that ends there. */
bool recover_is_held(const instance *inst, uint64_t end);

#endif
