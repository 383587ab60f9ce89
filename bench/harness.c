/* harness.c: clocks, sockets and the raw echo. */
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

void bench_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)fputs("bench: ", stderr);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
    exit(1);
}

double bench_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, compare);
    return values[n / 2];
}

int bench_connect(const char *host, unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    const int on = 1;
    const int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0 || inet_pton(AF_INET, host, &address.sin_addr) != 1 ||
        connect(s, (struct sockaddr *)&address, sizeof address) != 0) {
        bench_fail("cannot connect to %s port %u: %s", host, port, strerror(errno));
    }
    (void)setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return s;
}

void bench_send(int s, const void *bytes, size_t length)
{
    for (size_t done = 0; done < length;) {
        const ssize_t n = send(s, (const char *)bytes + done, length - done, MSG_NOSIGNAL);
        if (n <= 0) {
            bench_fail("sending: %s", strerror(errno));
        }
        done += (size_t)n;
    }
}

/* Receives up to the whole length; false where the other side ended before it. */
static bool receive(int s, void *bytes, size_t length)
{
    for (size_t done = 0; done < length;) {
        const ssize_t n = recv(s, (char *)bytes + done, length - done, 0);
        if (n <= 0) {
            return false;
        }
        done += (size_t)n;
    }
    return true;
}

void bench_receive(int s, void *bytes, size_t length)
{
    if (!receive(s, bytes, length)) {
        bench_fail("receiving: the connection ended");
    }
}

static void echo(int listener, size_t bytes)
{
    const int on = 1;
    const int s = accept(listener, NULL, NULL);
    (void)setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    char *buffer = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (s < 0 || buffer == MAP_FAILED) {
        bench_fail("echo: %s", strerror(errno));
    }
    while (receive(s, buffer, bytes)) {
        bench_send(s, buffer, bytes);
    }
}

int bench_echo_start(size_t bytes, pid_t *pid)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
        bench_fail("echo: %s", strerror(errno));
    }
    *pid = fork();
    if (*pid == 0) {
        echo(listener, bytes);
        _exit(0);
    }
    (void)close(listener);
    return bench_connect("127.0.0.1", ntohs(address.sin_port));
}
