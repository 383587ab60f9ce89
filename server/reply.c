/* reply.c: answers and refusals. The only place where a problem gets its HTTP status. */
#include "reply.h"

#include <stdio.h>
#include <string.h>

#include "codec_numbers.h"

#define RETRY_AFTER_SECONDS 1

size_t reply_length(const reply *r)
{
    return (r->text != NULL ? r->text->length : 0) + r->static_length + r->data_length;
}

void reply_drop(reply *r)
{
    buffer_drop(r->text);
    buffer_drop(r->data);
    stream_close(r->stream);
    r->text = NULL;
    r->data = NULL;
    r->stream = NULL;
    r->data_length = 0;
    r->static_length = 0;
}

void reply_empty(reply *r, int status)
{
    r->status = status;
    r->content_type = NULL;
}

void reply_json_after(reply *r, int status, text *t)
{
    text_add(t, "\n", 1);
    r->status = status;
    if (t->failed) {
        text_drop(t);
        return;
    }
    r->content_type = media_name(MEDIA_JSON);
    r->text = t->buffer;
    t->buffer = NULL;
}

bool reply_json(reply *r, int status, text *t, problem *p)
{
    reply_json_after(r, status, t);
    return r->text != NULL ||
           problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for the reply within the budget");
}

void reply_tensors(reply *r, media type, text *header, buffer *data, size_t offset, size_t length)
{
    r->status = 200;
    r->content_type = media_name(type);
    if (length <= REPLY_JOIN_MAX && header->buffer->capacity - header->buffer->length >= length) {
        text_add(header, data->data + offset, length);
    } else {
        r->data = buffer_hold(data);
        r->data_offset = offset;
        r->data_length = length;
    }
    r->text = header->buffer;
    header->buffer = NULL;
}

size_t reply_headers(const reply *r, bool end, char retry_after[16],
                     reply_header headers[REPLY_MAX_HEADERS])
{
    (void)snprintf(retry_after, 16, "%u", r->retry_after);
    const reply_header all[] = {
        {"Content-Type", r->content_type},
        {"Cache-Control", "no-store"}, /* it changes with every step */
        {"ETag", r->etag},
        {"Location", r->location},
        {"Allow", r->allow},
        {"Retry-After", r->retry_after > 0 ? retry_after : NULL},
        {"Preference-Applied", r->minimal ? "return=minimal" : NULL},
        {"Idempotent-Replayed", r->replayed ? "true" : NULL},
        {"Connection", r->close || end ? "close" : NULL},
    };
    _Static_assert(sizeof all / sizeof all[0] == REPLY_MAX_HEADERS, "room for all");
    size_t n = 0;
    for (size_t i = 0; i < REPLY_MAX_HEADERS; i++) {
        if (all[i].value != NULL && all[i].value[0] != '\0') {
            headers[n++] = all[i];
        }
    }
    return n;
}

int reply_status_of(problem_code code)
{
    switch (code) {
    case PROBLEM_MALFORMED_REQUEST:
    case PROBLEM_MALFORMED_JSON:
    case PROBLEM_MALFORMED_SAFETENSORS:
    case PROBLEM_UNKNOWN_FIELD:
    case PROBLEM_INVALID_QUERY: return 400;
    case PROBLEM_QUARANTINED: return 403;
    case PROBLEM_NO_SUCH_PATH:
    case PROBLEM_NO_SUCH_OPTIMIZER:
    case PROBLEM_NO_SUCH_PARAM:
    case PROBLEM_NO_SUCH_GROUP:
    case PROBLEM_NO_SUCH_WORKER: return 404;
    case PROBLEM_METHOD_NOT_ALLOWED: return 405;
    case PROBLEM_NOT_ACCEPTABLE: return 406;
    case PROBLEM_NO_DATA_DIR:
    case PROBLEM_NO_SUCH_STEP:
    case PROBLEM_NAME_TAKEN:
    case PROBLEM_ROUND_OPEN:
    case PROBLEM_ROUND_CLOSED:
    case PROBLEM_ROUND_TIMEOUT:
    case PROBLEM_ROUND_ENDED:
    case PROBLEM_ROUND_CONFLICT:
    case PROBLEM_ALREADY_CONTRIBUTED:
    case PROBLEM_STALE: return 409;
    case PROBLEM_LENGTH_REQUIRED: return 411;
    case PROBLEM_PRECONDITION_FAILED: return 412;
    case PROBLEM_BODY_TOO_LARGE: return 413;
    case PROBLEM_UNSUPPORTED_MEDIA_TYPE: return 415;
    case PROBLEM_EXPECTATION_FAILED: return 417;
    case PROBLEM_INVALID_VALUE:
    case PROBLEM_INVALID_OPTION:
    case PROBLEM_UNSUPPORTED_OPTION:
    case PROBLEM_INVALID_NAME:
    case PROBLEM_DUPLICATE_PARAM:
    case PROBLEM_UNKNOWN_PARAM:
    case PROBLEM_MISSING_PARAM:
    case PROBLEM_SHAPE_MISMATCH:
    case PROBLEM_DTYPE_MISMATCH:
    case PROBLEM_NON_FINITE:
    case PROBLEM_LIMIT_EXCEEDED:
    case PROBLEM_EMPTY:
    case PROBLEM_STATE_MISMATCH:
    case PROBLEM_INVALID_SCHEDULE:
    case PROBLEM_SCHEDULE_ENDED:
    case PROBLEM_KEY_REUSED: return 422;
    case PROBLEM_HEADER_TOO_LARGE: return 431;
    case PROBLEM_RECOVERING:
    case PROBLEM_DISK_FAILED:
    case PROBLEM_DRAINING:
    case PROBLEM_BUSY: return 503;
    case PROBLEM_OUT_OF_DISK:
    case PROBLEM_OUT_OF_MEMORY: return 507;
    }
    return 500;
}

/* A member for a name, if there is one. */
static void add_string_member(text *t, const char *name, const char *value)
{
    if (value != NULL && value[0] != '\0') {
        text_add_format(t, ", \"%s\": ", name);
        json_add_string(t, value, strlen(value));
    }
}

static void add_uint_member(text *t, bool present, const char *name, uint64_t value)
{
    if (present) {
        text_add_format(t, ", \"%s\": %llu", name, (unsigned long long)value);
    }
}

void reply_problem(reply *r, const problem *p, buffer_pool *pool)
{
    static const char bare[] = "{\"type\": \"urn:adamd:problem:out-of-memory\", \"status\": 507}\n";
    text t = {.pool = pool};
    reply_drop(r);
    r->location[0] = '\0';
    r->status = reply_status_of(p->code);
    r->content_type = "application/problem+json";
    memcpy(r->allow, p->allow, sizeof r->allow);
    r->retry_after = r->status == 503 ? RETRY_AFTER_SECONDS : 0;
    text_add_format(
        &t, "{\"type\": \"urn:adamd:problem:%s\", \"title\": \"%s\", \"status\": %d, \"detail\": ",
        problem_slug(p->code), problem_title(p->code), r->status);
    json_add_string(&t, p->detail, strlen(p->detail));
    add_string_member(&t, "param", p->param);
    add_string_member(&t, "header", p->header);
    add_uint_member(&t, p->has_index, "index", p->index);
    if (p->has_shapes) {
        text_add_string(&t, ", \"expected_shape\": ");
        json_add_shape(&t, p->expected_rank, p->expected);
        text_add_string(&t, ", \"got_shape\": ");
        json_add_shape(&t, p->got_rank, p->got);
    }
    add_uint_member(&t, p->has_position, "position", p->position);
    add_uint_member(&t, p->has_limit, "limit_bytes", p->limit_bytes);
    add_string_member(&t, "worker", p->worker);
    add_uint_member(&t, p->has_step, "step", p->step);
    add_uint_member(&t, p->has_round, "have", p->have);
    add_uint_member(&t, p->has_round, "quorum", p->quorum);
    add_uint_member(&t, p->has_staleness, "based_on", p->based_on);
    add_uint_member(&t, p->has_staleness, "max_staleness", p->max_staleness);
    if (p->code == PROBLEM_PRECONDITION_FAILED) {
        add_string_member(&t, "etag", r->etag);
    }
    text_add_string(&t, "}\n");
    if (t.failed) {
        text_drop(&t);
        r->status = 507;
        r->static_text = bare;
        r->static_length = sizeof bare - 1;
        return;
    }
    r->text = t.buffer;
}
