/* body.h: a request's body on its way into one buffer. Sees no sockets. */
#ifndef ADAMD_BODY_H
#define ADAMD_BODY_H

#include "router.h"

/* Gets the buffer, as large as Content-Length says; without one, it grows. False, with the problem
 * set, where the budget has no room. */
bool body_begin(api_context *ctx, const router_headers *headers, api_request *rq, problem *p);
/* Takes a piece. False, with the problem set, where there is too much of it. */
bool body_take(api_context *ctx, api_request *rq, const char *bytes, size_t length, problem *p);
/* Lets go of it. */
void body_drop(api_context *ctx, api_request *rq);

#endif
