/* router.h: which handler a request goes to, and all that can be refused before its body is read.
 */
#ifndef ADAMD_ROUTER_H
#define ADAMD_ROUTER_H

#include "api.h"

typedef enum route_body { ROUTE_NO_BODY, ROUTE_PATCH, ROUTE_TENSORS } route_body;
typedef enum route_reply {
    REPLY_AS_JSON,
    REPLY_AS_TENSORS,
    REPLY_AS_YAML,
    REPLY_AS_EVENTS
} route_reply;

typedef struct route {
    const char *method, *pattern;
    api_handler *handler;
    route_body body;    /* what it takes */
    route_reply answer; /* what it gives */
    bool whole;         /* its work grows with the optimizer, not only with the body */
    unsigned query;     /* ROUTE_QUERY_… it takes */
} route;

#define ROUTE_QUERY_DATA  1U
#define ROUTE_QUERY_LIST  2U
#define ROUTE_QUERY_DTYPE 4U
#define ROUTE_QUERY_LAST  8U
#define ROUTE_QUERY_WAIT  16U
/* Not of the query: what was asked changes an optimizer, and goes into the journal when it has. */
#define ROUTE_KEEPS      64U
#define ROUTE_QUERY_LOAD 32U /* ?load=, and it must be there */

/* All routes; *count gets their number. For the tests and the OpenAPI check. */
const route *router_routes(size_t *count);

/* Request headers that decide something; NULL where absent. */
typedef struct router_headers {
    const char *content_type, *accept, *if_match, *if_none_match, *prefer, *last_event_id;
    const char *worker, *key, *weight, *based_on;
    bool has_body, has_length;
    instance *replays; /* not NULL: it is done again, for this optimizer */
    bool recovers;     /* it is done again, from the journal */
    uint64_t length;   /* Content-Length */
} router_headers;

/* Finds route and optimizer, and checks path, query, headers and length. `target` is the raw
 * request target. False: refused, with the problem set. In either case the caller lets go of
 * rq->instance. */
bool router_begin(api_context *ctx, const char *method, const char *target,
                  const router_headers *headers, api_request *rq, problem *p);
/* The most that the body of this request may have, in bytes. */
size_t router_body_limit(const api_context *ctx, const api_request *rq);
/* The strand that the request must be in to be run; NULL: none. */
strand *router_strand(const api_request *rq);
/* Runs the handler, with the body there, and completes the reply; refusals become replies. The
 * caller is in the strand of the request, if it has one. True: it waits, and somebody else answers
 * it, who may have done so already. */
bool router_run(api_context *ctx, api_request *rq, reply *r);
/* Whether the request may have to wait for the disk, and so must be suspended before it is run. */
bool router_may_wait_for_disk(const api_context *ctx, const api_request *rq);
/* The work in bytes: what is large goes to a thread of its own. */
size_t router_cost(const api_request *rq);

#endif
