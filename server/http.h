/* http.h: the HTTP server. */
#ifndef ADAMD_HTTP_H
#define ADAMD_HTTP_H

#include "api.h"
#include "executor.h"

typedef struct http_server http_server;

/* Serves on a listening socket, which it takes over. NULL, with one line in `error`, on failure. */
http_server *http_start(api_context *ctx, executor *jobs, int listen_socket, char *error,
                        size_t error_size);
/* Requests whose reply is not yet sent. */
unsigned http_in_flight(http_server *s);
/* Ends it. No job of a request may be under way. */
void http_stop(http_server *s);

#endif
