/* sse.h: a client of a stream of events: the least of one, over a socket. */
#ifndef ADAMD_TEST_SSE_H
#define ADAMD_TEST_SSE_H

#include "raw.h"

typedef struct sse {
    int socket;
    int status;
    char head[2048];         /* status line and headers */
    char *text;              /* all of the body so far, its chunks joined; terminated */
    size_t length, taken;    /* of the text; of it, by sse_next */
    char raw[4096];          /* of the body, not yet joined */
    size_t raw_length, left; /* of it; of the chunk */
    bool chunked, ended;     /* the body has come to its end, as it should */
    bool closed;             /* the server has closed */
} sse;

/* Asks for the events of an optimizer, with more header lines ("A: b\r\n") or "", and reads the
 * head of the reply. */
void sse_open(sse *e, const server *s, const char *name, const char *lines);
/* The same with a whole request of one's own. */
void sse_open_with(sse *e, const server *s, const char *request);
void sse_close(sse *e);

/* The next event, without the empty line at its end, comments and `retry` included; NULL at the end
 * of the stream. Fails the test where nothing comes. Valid until the next call. */
const char *sse_next(sse *e);
/* Asserts that the next event begins so. */
void assert_next(sse *e, const char *begin);
/* Asserts that the next one is that of a step, with its id. */
void assert_step(sse *e, unsigned long step);
/* Asserts that the stream ends here, and properly. */
void assert_ended(sse *e);

#endif
