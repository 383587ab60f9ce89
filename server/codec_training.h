/* codec_training.h: how the gradients of many workers become steps, in JSON. */
#ifndef ADAMD_CODEC_TRAINING_H
#define ADAMD_CODEC_TRAINING_H

#include "adam/reduce.h"
#include "codec_json.h"

#define TRAINING_MAX_GRADIENTS  10000   /* of a round */
#define TRAINING_MAX_TIMEOUT_MS 3600000 /* of a round: an hour */
#define TRAINING_MAX_NONFINITE  1000000 /* in a row */
#define TRAINING_TIMEOUT_MS     60000   /* of a round, if not said */

typedef enum aggregation_mode {
    AGGREGATION_IMMEDIATE, /* each gradient is a step */
    AGGREGATION_SYNC,      /* a step of one gradient of each worker, which all wait for */
    AGGREGATION_BUFFERED,  /* a step of every `size` gradients, which nobody waits for */
    AGGREGATION_ASYNC,     /* each gradient is a step, if it is not too old */
} aggregation_mode;

/* Members that are not of the mode are 0. */
typedef struct aggregation {
    aggregation_mode mode;
    adam_reduction reduce;  /* sync, buffered */
    bool strict;            /* sync, buffered: all send the same parameters */
    uint64_t workers;       /* sync: gradients that close a round */
    uint64_t quorum;        /* sync: gradients that do when the time is up */
    uint64_t timeout_ms;    /* sync: from the first gradient on */
    bool elastic;           /* sync: workers that are gone are not waited for */
    uint64_t size;          /* buffered: gradients of a step */
    uint64_t max_staleness; /* async: steps */
    bool damps;             /* async: a gradient is scaled by 1 / (1 + staleness) */
} aggregation;

/* How an optimizer is trained. Zeroed: the default. */
typedef struct training {
    aggregation aggregation;
    bool weights;                       /* workers send parameters, not gradients */
    uint64_t max_consecutive_nonfinite; /* 0: a worker is never put in quarantine */
} training;

/* The names, for lists of allowed members. */
#define CODEC_TRAINING_NAMES "aggregation", "input", "max_consecutive_nonfinite"

/* Overwrites in `out` what `object` names; null is the default. An `aggregation` of the same mode,
 * or without one, is laid over the one that is there (RFC 7396). `where` is for messages. */
codec_status training_read(const json_doc *doc, const json_value *object, const char *where,
                           training *out, codec_error *error);

bool aggregation_same(const aggregation *a, const aggregation *b);
/* "sync" */
const char *aggregation_mode_name(aggregation_mode mode);
/* Adds `"aggregation": {…}, "input": …, "max_consecutive_nonfinite": …`, without braces. */
void training_add(text *t, const training *how);
/* The name of setting i and its value alone, as JSON; NULL behind the last. */
const char *training_name(size_t i);
void training_add_value(text *t, const training *how, size_t i);

#endif
