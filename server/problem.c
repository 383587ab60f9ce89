/* problem.c: refusals, from wherever they come. */
#include "problem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "utf8.h"

const char *problem_slug(problem_code code)
{
    switch (code) {
#define X(name, slug, title) \
    case PROBLEM_##name: return slug;
        PROBLEM_MAP(X)
#undef X
    }
    return "";
}

const char *problem_title(problem_code code)
{
    switch (code) {
#define X(name, slug, title) \
    case PROBLEM_##name: return title;
        PROBLEM_MAP(X)
#undef X
    }
    return "";
}

bool problem_set(problem *p, problem_code code, const char *format, ...)
{
    memset(p, 0, sizeof *p);
    p->code = code;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(p->detail, sizeof p->detail, format, args);
    va_end(args);
    utf8_mend(p->detail);
    return false;
}

static problem_code code_of_adam(adam_status status)
{
    switch (status) {
    case ADAM_NO_MEMORY: return PROBLEM_OUT_OF_MEMORY;
    case ADAM_INVALID_OPTION: return PROBLEM_INVALID_OPTION;
    case ADAM_UNSUPPORTED_OPTION: return PROBLEM_UNSUPPORTED_OPTION;
    case ADAM_INVALID_NAME: return PROBLEM_INVALID_NAME;
    case ADAM_DUPLICATE_PARAM: return PROBLEM_DUPLICATE_PARAM;
    case ADAM_UNKNOWN_PARAM: return PROBLEM_UNKNOWN_PARAM;
    case ADAM_MISSING_PARAM: return PROBLEM_MISSING_PARAM;
    case ADAM_SHAPE_MISMATCH: return PROBLEM_SHAPE_MISMATCH;
    case ADAM_DTYPE_MISMATCH: return PROBLEM_DTYPE_MISMATCH;
    case ADAM_NON_FINITE: return PROBLEM_NON_FINITE;
    case ADAM_TOO_LARGE: return PROBLEM_LIMIT_EXCEEDED;
    case ADAM_EMPTY: return PROBLEM_EMPTY;
    case ADAM_NO_SUCH_GROUP: return PROBLEM_NO_SUCH_GROUP;
    case ADAM_STATE_MISMATCH: return PROBLEM_STATE_MISMATCH;
    case ADAM_INVALID_SCHEDULE: return PROBLEM_INVALID_SCHEDULE;
    case ADAM_SCHEDULE_ENDED: return PROBLEM_SCHEDULE_ENDED;
    case ADAM_OK:
    case ADAM_STATUS_COUNT: break;
    }
    return PROBLEM_INVALID_VALUE;
}

bool problem_from_adam(problem *p, const adam_error *error)
{
    problem_set(p, code_of_adam(error->status), "%s", error->message);
    memcpy(p->param, error->param, sizeof p->param);
    utf8_mend(p->param);
    p->has_index = error->has_index;
    p->index = error->index;
    p->has_shapes = error->has_shapes;
    p->expected_rank = error->expected_rank;
    p->got_rank = error->got_rank;
    memcpy(p->expected, error->expected, sizeof p->expected);
    memcpy(p->got, error->got, sizeof p->got);
    return false;
}

static problem_code code_of_codec(codec_status status)
{
    switch (status) {
    case CODEC_MALFORMED_JSON: return PROBLEM_MALFORMED_JSON;
    case CODEC_MALFORMED_SAFETENSORS: return PROBLEM_MALFORMED_SAFETENSORS;
    case CODEC_UNKNOWN_FIELD: return PROBLEM_UNKNOWN_FIELD;
    case CODEC_UNSUPPORTED_OPTION: return PROBLEM_UNSUPPORTED_OPTION;
    case CODEC_INVALID_NAME: return PROBLEM_INVALID_NAME;
    case CODEC_DUPLICATE_PARAM: return PROBLEM_DUPLICATE_PARAM;
    case CODEC_DTYPE: return PROBLEM_DTYPE_MISMATCH;
    case CODEC_LIMIT: return PROBLEM_LIMIT_EXCEEDED;
    case CODEC_NO_MEMORY: return PROBLEM_OUT_OF_MEMORY;
    case CODEC_UNKNOWN_PARAM: return PROBLEM_UNKNOWN_PARAM;
    case CODEC_MISSING_PARAM: return PROBLEM_MISSING_PARAM;
    case CODEC_SHAPE: return PROBLEM_SHAPE_MISMATCH;
    case CODEC_STATE: return PROBLEM_STATE_MISMATCH;
    case CODEC_OK:
    case CODEC_INVALID_VALUE: break;
    }
    return PROBLEM_INVALID_VALUE;
}

bool problem_from_codec(problem *p, const codec_error *error)
{
    problem_set(p, code_of_codec(error->status), "%s", error->message);
    memcpy(p->param, error->param, sizeof p->param);
    utf8_mend(p->param);
    p->has_position = error->has_position;
    p->position = error->position;
    p->has_shapes = error->has_shapes;
    p->expected_rank = error->expected_rank;
    p->got_rank = error->got_rank;
    memcpy(p->expected, error->expected, sizeof p->expected);
    memcpy(p->got, error->got, sizeof p->got);
    return false;
}
