/* guard.c: what the headers of a request may be. Sees no sockets. */
#include "guard.h"

#include <string.h>
#include <strings.h>

#include "path.h"

void guard_begin(guard *g)
{
    g->headers = (router_headers){0};
    g->expects_continue = g->chunked = g->refused = false;
    g->hosts = g->lengths = g->codings = 0;
    g->accept[0] = g->if_match[0] = g->if_none_match[0] = g->prefer[0] = '\0';
}

static void refuse(guard *g, problem_code code, const char *header, const char *why)
{
    if (!g->refused) {
        g->refused = true;
        problem_set(&g->problem, code, "%s", why);
        const size_t length = strlen(header);
        const size_t most = sizeof g->problem.header - 1;
        memcpy(g->problem.header, header, length < most ? length : most);
    }
}

/* A header name is a token (RFC 9110, section 5.6.2). */
static bool is_token(const char *name, size_t length)
{
    if (length == 0) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        const char c = name[i];
        const bool letter =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (c == '\0' || (!letter && strchr("!#$%&'*+-.^_`|~", c) == NULL)) {
            return false;
        }
    }
    return true;
}

/* Takes a header that may stand once. */
static void take_once(guard *g, const char **slot, const char *name, const char *value)
{
    if (*slot != NULL) {
        refuse(g, PROBLEM_MALFORMED_REQUEST, name, "the header stands twice");
    }
    *slot = value;
}

/* Joins the lines of a list header. */
static void take_list(guard *g, char *joined, const char **slot, const char *name,
                      const char *value)
{
    const size_t used = strlen(joined);
    const size_t length = strlen(value);
    if (used + length + 3 > GUARD_JOINED) {
        refuse(g, PROBLEM_HEADER_TOO_LARGE, name, "the header is longer than 1 KiB");
        return;
    }
    if (used > 0) {
        memcpy(joined + used, ", ", 3);
    }
    memcpy(joined + strlen(joined), value, length + 1);
    *slot = joined;
}

static void take_length(guard *g, const char *value)
{
    size_t length;
    g->lengths++;
    if (!path_number(value, strlen(value), SIZE_MAX, &length)) {
        refuse(g, PROBLEM_MALFORMED_REQUEST, "Content-Length",
               "Content-Length is expected as a whole number of at most 18 digits");
        return;
    }
    g->headers.has_length = true;
    g->headers.length = length;
    g->headers.has_body = g->headers.has_body || length > 0;
}

static void take_coding(guard *g, const char *value)
{
    g->codings++;
    g->chunked = true;
    g->headers.has_body = true;
    if (strcasecmp(value, "chunked") != 0) {
        refuse(g, PROBLEM_MALFORMED_REQUEST, "Transfer-Encoding",
               "the only Transfer-Encoding taken is chunked");
    }
}

static void take_adam_header(guard *g, const char *name, const char *value)
{
    if (strcasecmp(name, "Adam-Worker") == 0) {
        take_once(g, &g->headers.worker, name, value);
    } else if (strcasecmp(name, "Adam-Weight") == 0) {
        take_once(g, &g->headers.weight, name, value);
    } else if (strcasecmp(name, "Adam-Based-On") == 0) {
        take_once(g, &g->headers.based_on, name, value);
    } else {
        refuse(g, PROBLEM_MALFORMED_REQUEST, name, "a header that this version does not know");
    }
}

void guard_take(guard *g, const char *name, size_t name_length, const char *value,
                size_t value_length)
{
    if (!is_token(name, name_length)) {
        refuse(g, PROBLEM_MALFORMED_REQUEST, "", "a header name that is no token");
        return;
    }
    if (value == NULL) {
        value = "";
        value_length = 0;
    }
    if (memchr(value, '\0', value_length) != NULL) {
        refuse(g, PROBLEM_MALFORMED_REQUEST, name, "a header with a NUL");
        return;
    }
    if (strcasecmp(name, "Host") == 0) {
        g->hosts++;
    } else if (strcasecmp(name, "Content-Length") == 0) {
        take_length(g, value);
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        take_coding(g, value);
    } else if (strcasecmp(name, "Content-Type") == 0) {
        take_once(g, &g->headers.content_type, name, value);
    } else if (strcasecmp(name, "Accept") == 0) {
        take_list(g, g->accept, &g->headers.accept, name, value);
    } else if (strcasecmp(name, "If-Match") == 0) {
        take_list(g, g->if_match, &g->headers.if_match, name, value);
    } else if (strcasecmp(name, "If-None-Match") == 0) {
        take_list(g, g->if_none_match, &g->headers.if_none_match, name, value);
    } else if (strcasecmp(name, "Last-Event-ID") == 0) {
        take_once(g, &g->headers.last_event_id, name, value);
    } else if (strcasecmp(name, "Prefer") == 0) {
        take_list(g, g->prefer, &g->headers.prefer, name, value);
    } else if (strcasecmp(name, "Content-Encoding") == 0 && strcasecmp(value, "identity") != 0) {
        refuse(g, PROBLEM_UNSUPPORTED_MEDIA_TYPE, name, "a Content-Encoding is not taken");
    } else if (strcasecmp(name, "Idempotency-Key") == 0) {
        take_once(g, &g->headers.key, name, value);
    } else if (strcasecmp(name, "Expect") == 0) {
        g->expects_continue = strcasecmp(value, "100-continue") == 0;
        if (!g->expects_continue) {
            refuse(g, PROBLEM_EXPECTATION_FAILED, name, "the only expectation met is 100-continue");
        }
    } else if (strncasecmp(name, "Adam-", 5) == 0) {
        take_adam_header(g, name, value);
    }
}

bool guard_finish(guard *g, const char *version)
{
    if (g->hosts > 1 || g->lengths > 1 || g->codings > 1) {
        refuse(g, PROBLEM_MALFORMED_REQUEST,
               g->hosts > 1     ? "Host"
               : g->lengths > 1 ? "Content-Length"
                                : "Transfer-Encoding",
               "the header stands twice");
    }
    if (g->lengths > 0 && g->codings > 0) {
        refuse(g, PROBLEM_MALFORMED_REQUEST, "Transfer-Encoding",
               "Content-Length and Transfer-Encoding in one request");
    }
    if (g->hosts == 0 && strcmp(version, "HTTP/1.0") != 0) {
        refuse(g, PROBLEM_MALFORMED_REQUEST, "Host", "HTTP from 1.1 on needs a Host header");
    }
    return !g->refused;
}
