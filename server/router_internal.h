/* router_internal.h: what the files of the router share. */
#ifndef ADAMD_ROUTER_INTERNAL_H
#define ADAMD_ROUTER_INTERNAL_H

#include "path.h"
#include "router.h"

/* Each is false where the request is refused, with the problem set. */

/* router_query.c: takes what the route knows of the query, and refuses the rest. */
bool router_take_query(const api_context *ctx, const path *target, api_request *rq, problem *p);
/* Whether `load` is there, where it must be. */
bool router_check_load(const api_request *rq, problem *p);

/* router_headers.c: takes the headers into the request. */
bool router_take_headers(const api_context *ctx, const router_headers *h, api_request *rq,
                         problem *p);

#endif
