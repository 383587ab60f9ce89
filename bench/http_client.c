/* http_client.c: just enough HTTP for figures without a client library in them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "harness.h"

#define HEADER_MAX 4096

bench_reply bench_request(int s, const char *method, const char *path, const char *type,
                          const void *body, size_t length, void *into, size_t room, int expected)
{
    char header[HEADER_MAX];
    const int n = snprintf(header, sizeof header,
                           "%s %s HTTP/1.1\r\nHost: bench\r\nContent-Type: %s\r\n"
                           "Content-Length: %zu\r\n\r\n",
                           method, path, type, length);
    /* without a body, a type and a length of 0 are sent all the same: the server takes that */
    if (send(s, header, (size_t)n, MSG_NOSIGNAL | (length > 0 ? MSG_MORE : 0)) != n) {
        bench_fail("sending a request");
    }
    bench_send(s, body, length);

    size_t have = 0;
    const char *end = NULL;
    while (end == NULL) {
        const ssize_t got = recv(s, header + have, sizeof header - 1 - have, 0);
        if (got <= 0) {
            bench_fail("no reply to %s %s: %s", method, path,
                       got < 0 ? strerror(errno) : "the connection ended");
        }
        have += (size_t)got;
        header[have] = '\0';
        end = strstr(header, "\r\n\r\n");
    }
    end += 4;
    bench_reply reply = {.status = (int)strtol(header + 9, NULL, 10)};
    const char *field = strcasestr(header, "\r\nContent-Length:");
    reply.length = field != NULL && field < end ? strtoul(field + 17, NULL, 10) : 0;
    const size_t first = have - (size_t)(end - header);
    if (reply.status != expected || reply.length > room) {
        bench_fail("%s %s: status %d, %zu bytes: %.300s", method, path, reply.status, reply.length,
                   end);
    }
    memcpy(into, end, first);
    bench_receive(s, (char *)into + first, reply.length - first);
    return reply;
}
