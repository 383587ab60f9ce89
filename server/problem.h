/* problem.h: why a request was refused (RFC 9457). reply.c gives each code its HTTP status and
 * prints it. */
#ifndef ADAMD_PROBLEM_H
#define ADAMD_PROBLEM_H

#include "adam/status.h"
#include "codec.h"

/* One line a code: name, the end of its type URI, title. */
// clang-format off
#define PROBLEM_MAP(X)                                                                     \
    X(MALFORMED_REQUEST, "malformed-request", "Malformed request")                         \
    X(MALFORMED_JSON, "malformed-json", "Malformed JSON")                                  \
    X(MALFORMED_SAFETENSORS, "malformed-safetensors", "Malformed safetensors file")        \
    X(UNKNOWN_FIELD, "unknown-field", "Unknown field")                                     \
    X(INVALID_QUERY, "invalid-query", "Invalid query parameter")                           \
    X(NO_SUCH_PATH, "no-such-path", "No such path")                                        \
    X(NO_SUCH_OPTIMIZER, "no-such-optimizer", "No such optimizer")                         \
    X(NO_SUCH_PARAM, "no-such-param", "No such parameter")                                 \
    X(NO_SUCH_GROUP, "no-such-group", "No such param group")                               \
    X(NO_SUCH_WORKER, "no-such-worker", "No such worker")                                  \
    X(METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed")                      \
    X(NOT_ACCEPTABLE, "not-acceptable", "Representation not available")                    \
    X(UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "Unsupported media type")          \
    X(NAME_TAKEN, "name-taken", "Name taken")                                              \
    X(ROUND_OPEN, "round-open", "Gradients are held in an open round")                     \
    X(ROUND_CLOSED, "round-closed", "Round closed")                                        \
    X(ROUND_TIMEOUT, "round-timeout", "Round without its quorum in time")                  \
    X(ROUND_ENDED, "round-ended", "Round ended without a step")                            \
    X(ROUND_CONFLICT, "round-conflict", "Not what the round began with")                   \
    X(ALREADY_CONTRIBUTED, "already-contributed", "Worker is in the round already")        \
    X(STALE, "stale", "Gradient too stale")                                                \
    X(LENGTH_REQUIRED, "length-required", "Content-Length required")                       \
    X(BODY_TOO_LARGE, "body-too-large", "Body too large")                                  \
    X(HEADER_TOO_LARGE, "header-too-large", "Header too large")                            \
    X(PRECONDITION_FAILED, "precondition-failed", "Precondition failed")                   \
    X(EXPECTATION_FAILED, "expectation-failed", "Expectation failed")                      \
    X(INVALID_VALUE, "invalid-value", "Invalid value")                                     \
    X(INVALID_OPTION, "invalid-option", "Hyperparameter out of range")                     \
    X(UNSUPPORTED_OPTION, "unsupported-option", "Option asks for what a server cannot do") \
    X(INVALID_NAME, "invalid-name", "Invalid name")                                        \
    X(DUPLICATE_PARAM, "duplicate-param", "Parameter named twice")                         \
    X(UNKNOWN_PARAM, "unknown-param", "Unknown parameter")                                 \
    X(MISSING_PARAM, "missing-param", "Parameter missing")                                 \
    X(SHAPE_MISMATCH, "shape-mismatch", "Shape mismatch")                                  \
    X(DTYPE_MISMATCH, "dtype-mismatch", "Dtype mismatch")                                  \
    X(NON_FINITE, "non-finite", "Non-finite gradient")                                     \
    X(LIMIT_EXCEEDED, "limit-exceeded", "Limit exceeded")                                  \
    X(EMPTY, "empty", "Nothing to work on")                                                \
    X(STATE_MISMATCH, "state-mismatch", "State does not fit the optimizer")                \
    X(INVALID_SCHEDULE, "invalid-schedule", "Schedule with wrong arguments")               \
    X(SCHEDULE_ENDED, "schedule-ended", "Schedule at its end")                             \
    X(KEY_REUSED, "key-reused", "Idempotency key reused")                                  \
    X(QUARANTINED, "quarantined", "Worker in quarantine")                                  \
    X(DRAINING, "draining", "Shutting down")                                               \
    X(BUSY, "busy", "Too much in flight")                                                  \
    X(RECOVERING, "recovering", "Recovering")                                               \
    X(DISK_FAILED, "disk-failed", "Data directory failed")                                 \
    X(NO_DATA_DIR, "no-data-dir", "Server without a data directory")                       \
    X(NO_SUCH_STEP, "no-such-step", "Step out of reach")                                   \
    X(OUT_OF_DISK, "out-of-disk", "No space left in the data directory")                   \
    X(OUT_OF_MEMORY, "out-of-memory", "Memory budget used up")
// clang-format on

typedef enum problem_code {
#define X(name, slug, title) PROBLEM_##name,
    PROBLEM_MAP(X)
#undef X
} problem_code;

#define PROBLEM_MAX_WORKER 128

typedef struct problem {
    problem_code code;
    char detail[1024];
    char param[ADAM_MAX_NAME + 1]; /* "param", or "" */
    char header[64];               /* "header": the request header concerned, or "" */
    bool has_index, has_shapes, has_position, has_limit;
    uint64_t index;
    int expected_rank, got_rank;
    uint64_t expected[ADAM_MAX_RANK], got[ADAM_MAX_RANK];
    size_t position;
    size_t limit_bytes;
    char allow[64]; /* of METHOD_NOT_ALLOWED */
    bool has_step;  /* "step": the optimizer's */
    uint64_t step;
    char worker[PROBLEM_MAX_WORKER + 1]; /* "worker", or "" */
    bool has_round;                      /* what a round has, and what it needs */
    uint64_t have, quorum;
    bool has_staleness; /* the step a gradient was of, and how old that may be */
    uint64_t based_on, max_staleness;
} problem;

/* Sets code and detail and clears the rest. Returns false, so that a check can end with it. */
bool problem_set(problem *p, problem_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool problem_from_adam(problem *p, const adam_error *error);
bool problem_from_codec(problem *p, const codec_error *error);

const char *problem_slug(problem_code code);
const char *problem_title(problem_code code);

#endif
