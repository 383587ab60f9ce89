/* canned.c: a server that plays back replies, one thread, one connection at a time. */
#include "canned.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

static void keep_key(server *srv, const char *head)
{
    const char *field = strcasestr(head, "idempotency-key: ");
    if (field != NULL && srv->requests < CANNED_KEYS) {
        (void)sscanf(field + 17, "%63[^\r]", srv->keys[srv->requests]);
    }
}

/* Reads up to the end of the head, then the body; false at the connection's end. */
static bool read_request(server *srv, int fd, bool early)
{
    char head[sizeof srv->last] = "";
    size_t used = 0;
    while (strstr(head, "\r\n\r\n") == NULL && used < sizeof head - 1) {
        if (read(fd, head + used, 1) <= 0) {
            return false;
        }
        head[++used] = '\0';
    }
    (void)pthread_mutex_lock(&srv->lock);
    keep_key(srv, head);
    srv->requests++;
    memcpy(srv->last, head, sizeof head);
    (void)pthread_mutex_unlock(&srv->lock);
    const char *field = strcasestr(head, "content-length:");
    unsigned long body = field != NULL ? strtoul(field + 15, NULL, 10) : 0;
    if (early) {
        return true;
    }
    if (strcasestr(head, "expect:") != NULL) {
        (void)!write(fd, "HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\n", 37);
    }
    char trash[65536];
    while (body > 0) {
        ssize_t n = read(fd, trash, body < sizeof trash ? body : sizeof trash);
        if (n <= 0) {
            return false;
        }
        body -= (unsigned long)n;
    }
    return true;
}

static void *serve(void *context)
{
    server *srv = context;
    const canned *next = srv->script;
    while (next->reply != NULL) {
        int fd = accept(srv->listener, NULL, NULL);
        if (fd < 0) {
            break;
        }
        bool open = true;
        while (open && next->reply != NULL && read_request(srv, fd, next->early)) {
            (void)!write(fd, next->reply, next->length);
            open = !next->close;
            next++;
        }
        (void)close(fd);
    }
    (void)shutdown(srv->listener, SHUT_RDWR); /* whoever tries again is refused */
    return NULL;
}

int request_count(server *srv)
{
    (void)pthread_mutex_lock(&srv->lock);
    int count = srv->requests;
    (void)pthread_mutex_unlock(&srv->lock);
    return count;
}

bool was_sent(server *srv, const char *text)
{
    (void)pthread_mutex_lock(&srv->lock);
    bool found = strcasestr(srv->last, text) != NULL;
    (void)pthread_mutex_unlock(&srv->lock);
    return found;
}

void stop(server *srv)
{
    (void)shutdown(srv->listener, SHUT_RDWR);
    (void)pthread_join(srv->thread, NULL);
    (void)close(srv->listener);
}

void start(server *srv, const canned *script)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    memset(srv, 0, sizeof *srv);
    (void)pthread_mutex_init(&srv->lock, NULL);
    srv->script = script;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    srv->listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(srv->listener, (struct sockaddr *)&address, size) != 0 ||
        listen(srv->listener, 8) != 0 ||
        getsockname(srv->listener, (struct sockaddr *)&address, &size) != 0) {
        perror("canned server");
        exit(EXIT_FAILURE);
    }
    (void)snprintf(srv->url, sizeof srv->url, "http://127.0.0.1:%d", ntohs(address.sin_port));
    (void)pthread_create(&srv->thread, NULL, serve, srv);
}
