/* http_stream.h: a stream on its connection: who waits for whom, and for how long. */
#ifndef ADAMD_HTTP_STREAM_H
#define ADAMD_HTTP_STREAM_H

#include "deadline.h"
#include "stream.h"

typedef struct http_stream http_stream;

/* A connection, and what can be done with it. */
typedef struct http_connection {
    void *connection;
    void (*suspend)(void *connection), (*resume)(void *connection);
    deadline_watch *watch;
    deadline *deadline; /* NULL: there was no memory for it, and then there is no stream */
} http_connection;

/* Attaches the listener, and takes it. NULL: no memory; the caller keeps it. */
http_stream *http_stream_begin(listener *l, const http_connection *connection);
/* As stream_read. */
ssize_t http_stream_read(http_stream *s, char *to, size_t room);
void http_stream_end(http_stream *s);

/* Ends all streams and waits a little for their clients to see it. None is suspended when it
 * returns. */
void http_stream_end_all(stream_hub *hub);

#endif
