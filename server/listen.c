/* listen.c: opening the listening socket, with errors that say what to do. */
#include "listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int open_one(const struct addrinfo *a)
{
    const int s = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s < 0) {
        return -1;
    }
    const int on = 1;
    (void)setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(s, a->ai_addr, a->ai_addrlen) != 0 || listen(s, SOMAXCONN) != 0) {
        const int why = errno;
        (void)close(s);
        errno = why;
        return -1;
    }
    return s;
}

static unsigned port_of(int s)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address = {.v6 = {0}};
    socklen_t length = sizeof address;
    if (getsockname(s, &address.any, &length) != 0) {
        return 0;
    }
    return ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
}

int listen_open(const char *host, unsigned *port, char *error, size_t error_size)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;
    char service[16];
    (void)snprintf(service, sizeof service, "%u", *port);
    const int code = getaddrinfo(host, service, &hints, &found);
    if (code != 0) {
        (void)snprintf(error, error_size, "--host %s: %s", host, gai_strerror(code));
        return -1;
    }
    int s = -1;
    errno = 0;
    for (const struct addrinfo *a = found; a != NULL && s < 0; a = a->ai_next) {
        s = open_one(a);
    }
    const int why = errno;
    freeaddrinfo(found);
    if (s < 0) {
        (void)snprintf(
            error, error_size, "cannot listen on %s port %u: %s%s", host, *port, strerror(why),
            why == EADDRINUSE ? "; choose another with --port, or 0 for a free one" : "");
        return -1;
    }
    *port = port_of(s);
    return s;
}
