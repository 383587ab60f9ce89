/* guard.h: header checks that libmicrohttpd leaves out, against request smuggling (RFC 9112). */
#ifndef ADAMD_GUARD_H
#define ADAMD_GUARD_H

#include <stddef.h>
#include <stdint.h>

#include "problem.h"
#include "router.h"

#define GUARD_JOINED 1024 /* bytes of a list header, all its lines together */

/* What the headers of one request said, gathered line by line. */
typedef struct guard {
    router_headers headers;
    bool expects_continue, chunked;
    unsigned hosts, lengths, codings;
    /* headers that may come in several lines, joined */
    char accept[GUARD_JOINED], if_match[GUARD_JOINED], if_none_match[GUARD_JOINED];
    char prefer[GUARD_JOINED];
    bool refused;
    problem problem; /* why */
} guard;

/* Begins a request; the rest of the struct need not be zeroed. */
void guard_begin(guard *g);
/* Takes one header line. `name` and `value` are terminated and live as long as the request. After a
 * refusal the rest is passed over. */
void guard_take(guard *g, const char *name, size_t name_length, const char *value,
                size_t value_length);
/* When all lines are taken: false where the request must be refused, and the connection closed. */
bool guard_finish(guard *g, const char *version);

#endif
