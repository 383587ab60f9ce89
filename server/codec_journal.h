/* codec_journal.h: what stands in the records of the journal beside numbers and bodies, as JSON. */
#ifndef ADAMD_CODEC_JOURNAL_H
#define ADAMD_CODEC_JOURNAL_H

#include "adam/optimizer.h"
#include "codec_json.h"

#define JOURNAL_MAX_CONTRIBUTIONS 10000 /* of a step */

/* ---- a request ---- */

/* What was asked over HTTP; NULL: the header was not there. */
typedef struct journal_request {
    const char *method, *target, *content_type, *worker, *key, *weight, *based_on;
} journal_request;

void journal_request_add(text *t, const journal_request *rq);
/* Its strings are the document's. */
codec_status journal_request_read(const json_doc *doc, journal_request *rq, codec_error *error);

/* ---- a step ---- */

/* Whose gradient went into it. */
typedef struct journal_part {
    const char *worker, *key; /* NULL: none */
    uint64_t body[2];         /* fingerprint, where there is a key */
    double weight;
    bool has_staleness;
    uint64_t staleness;
    bool held; /* it was on record before, and its key was answered then */
} journal_part;

typedef struct journal_step {
    adam_grad_options grad_options;
    adam_options *overrides; /* of each group, or NULL */
    size_t n_groups;
    uint64_t n_tensors;
    bool round; /* of all gradients that were held */
    journal_part *parts;
    size_t n_parts;
} journal_step;

void journal_step_add(text *t, const journal_step *s);
/* Overrides over the options that the groups have now; the arrays are in *room, which the caller
 * drops in any case, strings are the document's. */
codec_status journal_step_read(buffer_pool *pool, const json_doc *doc,
                               const adam_optimizer *optimizer, journal_step *s, buffer **room,
                               codec_error *error);

/* ---- its tensors ---- */

/* Where a tensor of a step lies: the parameter's index, its dtype, and its place behind the table
 * of all of them. */
typedef struct journal_tensor {
    uint32_t param, dtype;
    uint64_t offset;
} journal_tensor;

/* Tensors from a table and `length` bytes behind it. False: they do not fit. */
bool journal_tensors_read(const adam_optimizer *optimizer, const char *data, uint64_t length,
                          size_t n, adam_tensor *tensors);

#endif
