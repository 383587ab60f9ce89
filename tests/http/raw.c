/* raw.c: a socket, and the least of HTTP that is needed to read a reply. */
#include "raw.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int raw_connect(const server *s)
{
    const int out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)s->port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_true(out >= 0);
    assert_int_equal(connect(out, (const struct sockaddr *)(const void *)&to, sizeof to), 0);
    return out;
}

bool raw_send(int socket, const void *bytes, size_t length)
{
    const char *from = bytes;
    while (length > 0) {
        const ssize_t n = send(socket, from, length, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        from += n;
        length -= (size_t)n;
    }
    return true;
}

bool raw_send_text(int socket, const char *text)
{
    return raw_send(socket, text, strlen(text));
}

/* Receives up to `length` bytes: their number, 0 where the server has closed, -1 where nothing
 * comes in time. */
static ssize_t receive(int socket, char *to, size_t length, double until)
{
    struct pollfd wait = {.fd = socket, .events = POLLIN};
    const double left = until - now();
    if (left <= 0 || poll(&wait, 1, (int)(left * 1000) + 1) <= 0) {
        return -1;
    }
    const ssize_t n = recv(socket, to, length, 0);
    return n < 0 ? 0 : n; /* a reset is an end too */
}

/* Reads up to and with the empty line; the length, or 0 where the server closed before it. */
static size_t read_head(int socket, raw_reply *r, double until)
{
    size_t length = 0;
    while (length < 4 || memcmp(r->text + length - 4, "\r\n\r\n", 4) != 0) {
        assert_true(length + 1 < sizeof r->text);
        const ssize_t n = receive(socket, r->text + length, 1, until);
        if (n < 0) {
            r->text[length] = '\0';
            fail_msg("no reply; so far: '%s'", r->text);
        }
        if (n == 0) {
            r->text[length] = '\0';
            return 0;
        }
        length++;
    }
    r->text[length] = '\0';
    return length;
}

void raw_read(int socket, raw_reply *r)
{
    const double until = now() + RAW_SECONDS;
    size_t length;
    *r = (raw_reply){0};
    r->body = r->text;
    do {
        length = read_head(socket, r, until);
    } while (length > 0 && strncmp(r->text, "HTTP/1.1 100", 12) == 0);
    if (length == 0) {
        return;
    }
    unsigned long rest = 0;
    const char *line = strstr(r->text, "\r\nContent-Length: ");
    if (line != NULL) {
        rest = strtoul(line + 18, NULL, 10);
    }
    assert_true(length + rest < sizeof r->text);
    r->body = r->text + length;
    while (rest > 0) {
        const ssize_t n = receive(socket, r->text + length, rest, until);
        if (n <= 0) {
            fail_msg("a reply that breaks off: '%s'", r->text);
        }
        length += (size_t)n;
        rest -= (unsigned long)n;
    }
    r->text[length] = '\0';
    if (sscanf(r->text, "HTTP/1.1 %d", &r->status) != 1) {
        fail_msg("not a reply: '%s'", r->text);
    }
}

bool raw_closed_within(int socket, double seconds)
{
    const double until = now() + seconds;
    char rest[4096];
    ssize_t n;
    while ((n = receive(socket, rest, sizeof rest, until)) > 0) {
    }
    return n == 0;
}

void raw_ask(const server *s, const char *text, raw_reply *r)
{
    const int socket = raw_connect(s);
    assert_true(raw_send_text(socket, text));
    raw_read(socket, r);
    (void)close(socket);
}

void raw_ask_closing(const server *s, const char *text, raw_reply *r)
{
    const int socket = raw_connect(s);
    assert_true(raw_send_text(socket, text));
    raw_read(socket, r);
    if (!raw_closed_within(socket, RAW_SECONDS)) {
        fail_msg("the connection stays open after '%s'", text);
    }
    (void)close(socket);
}

void assert_raw_problem(const raw_reply *r, int status, const char *code, const char *member)
{
    char type[128];
    (void)snprintf(type, sizeof type, "{\"type\": \"urn:adamd:problem:%s\"", code);
    if (r->status != status ||
        strstr(r->text, "\r\nContent-Type: application/problem+json\r\n") == NULL ||
        strncmp(r->body, type, strlen(type)) != 0 ||
        (member != NULL && strstr(r->body, member) == NULL)) {
        fail_msg("expected %d %s %s, got %s", status, code, member != NULL ? member : "", r->text);
    }
}
