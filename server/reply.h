/* reply.h: an answer, before it is sent. */
#ifndef ADAMD_REPLY_H
#define ADAMD_REPLY_H

#include "buffer.h"
#include "media.h"
#include "problem.h"
#include "stream.h"

/* Data of at most this many bytes is joined to its header: one piece is sent faster than two. */
#define REPLY_JOIN_MAX ((size_t)16 << 10)

/* What a handler that was content leaves. */
typedef enum reply_wait {
    REPLY_READY,         /* a reply */
    REPLY_SUSPEND_FIRST, /* nothing yet: it must be called again, from a suspended connection */
    REPLY_WAITS,         /* nothing yet: somebody else makes the reply; not touched until then */
} reply_wait;

/* The body is `text`, then `data_length` bytes of `data`; both may be absent. Or it is `stream`, of
 * no known length. The reply holds the buffers and the listener. Headers with "" are not sent. */
typedef struct reply {
    reply_wait wait;
    int status;
    const char *content_type;
    buffer *text;
    buffer *data;
    size_t data_offset, data_length;
    const char *static_text; /* instead of `text`: lives as long as the program */
    size_t static_length;
    listener *stream; /* NULL: none */
    char etag[64];
    char location[256];
    char allow[64];
    unsigned retry_after; /* seconds; 0: none */
    bool minimal;         /* Preference-Applied: return=minimal */
    bool replayed;        /* Idempotent-Replayed: true */
    bool close;           /* the connection ends after it */
} reply;

size_t reply_length(const reply *r);
/* Lets go of the buffers and the listener. */
void reply_drop(reply *r);

/* Makes the text, ended by a newline, the body; takes its buffer. False, with the problem set,
 * where the text failed: for replies of requests that change nothing. */
bool reply_json(reply *r, int status, text *t, problem *p);
/* The same for what has happened already: where the text failed, the reply has no body. */
void reply_json_after(reply *r, int status, text *t);
/* Status 200 with a safetensors file: its header, whose buffer the reply takes, and its data, which
 * it holds. The header has not failed. */
void reply_tensors(reply *r, media type, text *header, buffer *data, size_t offset, size_t length);
/* A reply without a body. */
void reply_empty(reply *r, int status);
/* The problem as application/problem+json, in place of whatever `r` held; its ETag stays. */
void reply_problem(reply *r, const problem *p, buffer_pool *pool);

/* The headers of the reply, in order; `end`: the connection ends after it. Returns how many. */
#define REPLY_MAX_HEADERS 9
typedef struct reply_header {
    const char *name, *value;
} reply_header;
size_t reply_headers(const reply *r, bool end, char retry_after[16],
                     reply_header headers[REPLY_MAX_HEADERS]);

int reply_status_of(problem_code code);

#endif
