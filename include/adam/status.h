/* status.h: what can go wrong in the core, and the error that explains it.
 *
 * Every fallible function of the core returns an adam_status and, where it is given one, fills an
 * adam_error that the caller owns. On ADAM_OK the error is left alone. */
#ifndef ADAM_STATUS_H
#define ADAM_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "adam/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One line a code: name, text. The enum and adam_status_text are made from it. */
// clang-format off
#define ADAM_STATUS_MAP(X)                                           \
    X(OK, "success")                                                 \
    X(NO_MEMORY, "out of memory")                                    \
    X(INVALID_OPTION, "hyperparameter out of range")                 \
    X(UNSUPPORTED_OPTION, "option asks for what a server cannot do") \
    X(INVALID_NAME, "invalid parameter name")                        \
    X(DUPLICATE_PARAM, "parameter named twice")                      \
    X(UNKNOWN_PARAM, "no such parameter")                            \
    X(MISSING_PARAM, "parameter missing")                            \
    X(SHAPE_MISMATCH, "shape mismatch")                              \
    X(DTYPE_MISMATCH, "dtype mismatch")                              \
    X(NON_FINITE, "non-finite gradient")                             \
    X(TOO_LARGE, "over a limit of the optimizer")                    \
    X(EMPTY, "nothing to work on")                                   \
    X(NO_SUCH_GROUP, "no such param group")                          \
    X(STATE_MISMATCH, "state does not fit the optimizer")            \
    X(INVALID_SCHEDULE, "schedule with wrong arguments")             \
    X(SCHEDULE_ENDED, "schedule at its end")
// clang-format on

typedef enum adam_status {
#define X(name, text) ADAM_##name,
    ADAM_STATUS_MAP(X)
#undef X
        ADAM_STATUS_COUNT
} adam_status;

/* The text of a status: a static string, never NULL. */
const char *adam_status_text(adam_status status);

/* Why a call was refused. `message` is a whole sentence for a person; the other members are for
 * programs, and stand only where their flag says so. */
typedef struct adam_error {
    adam_status status;
    char message[768];
    char param[ADAM_MAX_NAME + 1]; /* parameter concerned, "" if none */
    bool has_index;                /* `index`: first offending element, row-major */
    uint64_t index;
    bool has_shapes; /* `expected` and `got` */
    int expected_rank, got_rank;
    uint64_t expected[ADAM_MAX_RANK], got[ADAM_MAX_RANK];
} adam_error;

#ifdef __cplusplus
}
#endif
#endif
