/* cutter.c: a proxy that fails as networks do. Knows of HTTP where a message ends. */
#include "cutter.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_MESSAGE     ((size_t)1 << 20)
#define SILENCE_SECONDS 60

/* Per cent of the exchanges. */
enum { CUT_SHARE = 35, DELAY_SHARE = 10, TWIN_SHARE = 8, LATE_TWIN_SHARE = 12 };

static uint64_t draw(cutter *c)
{
    uint64_t z = c->random += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static unsigned below(cutter *c, size_t limit)
{
    return (unsigned)(draw(c) % limit);
}

/* ---- sockets ---- */

static void send_at_once(int socket)
{
    const int yes = 1;
    (void)setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

static int connect_to_server(const cutter *c)
{
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)c->server_port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval silence = {.tv_sec = SILENCE_SECONDS};
    const int out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (out >= 0 && (setsockopt(out, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence) != 0 ||
                     connect(out, (const struct sockaddr *)(const void *)&to, sizeof to) != 0)) {
        (void)close(out);
        return -1;
    }
    send_at_once(out);
    return out;
}

/* Politely or with a reset. */
static void cut(cutter *c, int socket)
{
    if (socket >= 0 && below(c, 2) == 0) {
        const struct linger now_and_hard = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(socket, SOL_SOCKET, SO_LINGER, &now_and_hard, sizeof now_and_hard);
    }
    if (socket >= 0) {
        (void)close(socket);
    }
}

static bool send_bytes(int socket, const char *from, size_t length)
{
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

/* ---- messages ---- */

/* How long the message is that begins with this header. */
static size_t whole_length(const char *bytes, size_t head)
{
    char text[4096];
    if (head >= sizeof text) {
        return head;
    }
    memcpy(text, bytes, head);
    text[head] = '\0';
    const char *field = strcasestr(text, "\r\ncontent-length:");
    return head + (field != NULL ? strtoul(field + strlen("\r\ncontent-length:"), NULL, 10) : 0);
}

/* Reads one message with its body. False where the connection ends before. The memory is the
 * caller's then too. */
static bool receive(int socket, cutter_message *m)
{
    size_t goal = 0;
    m->length = m->head = 0;
    if (m->bytes == NULL && (m->bytes = malloc(MAX_MESSAGE)) == NULL) {
        return false;
    }
    while (goal == 0 || m->length < goal) {
        const size_t room = (goal > 0 ? goal : MAX_MESSAGE) - m->length;
        const ssize_t n = recv(socket, m->bytes + m->length, room, 0);
        if (n <= 0) {
            return false;
        }
        m->length += (size_t)n;
        const char *end = goal == 0 ? memmem(m->bytes, m->length, "\r\n\r\n", 4) : NULL;
        if (end != NULL) {
            m->head = (size_t)(end - m->bytes) + 4;
            goal = whole_length(m->bytes, m->head);
            if (goal > MAX_MESSAGE) {
                return false;
            }
        }
    }
    return m->length == goal; /* no client of ours sends ahead */
}

/* ---- the same request twice ---- */

/* Sends a request on a connection of its own; with its reply it is thrown away. */
static int send_twin(cutter *c, const cutter_message *request)
{
    const int out = connect_to_server(c);
    if (out >= 0) {
        (void)send_bytes(out, request->bytes, request->length);
    }
    return out;
}

static void end_twin(cutter *c, int twin)
{
    cutter_message reply = {0};
    if (twin >= 0) {
        c->lost += !receive(twin, &reply);
        (void)close(twin);
    }
    free(reply.bytes);
}

static void keep(cutter *c, const cutter_message *request)
{
    if (c->kept.bytes == NULL && (c->kept.bytes = malloc(MAX_MESSAGE)) == NULL) {
        return;
    }
    memcpy(c->kept.bytes, request->bytes, request->length);
    c->kept.length = request->length;
    c->keep_for = 1 + below(c, 12);
}

static void send_late_twin(cutter *c)
{
    if (c->keep_for > 0 && --c->keep_for == 0) {
        end_twin(c, send_twin(c, &c->kept));
        c->late_twins++;
    }
}

/* ---- an exchange ---- */

static void delay(cutter *c)
{
    const struct timespec t = {.tv_nsec = 1000000L * (1 + below(c, 20))};
    if (below(c, 100) < DELAY_SHARE) {
        (void)nanosleep(&t, NULL);
        c->delays++;
    }
}

/* Where this exchange is cut; CUT_PLACES: nowhere. */
static cut_place plan(cutter *c)
{
    if (c->row >= CUTTER_ROW || below(c, 100) >= CUT_SHARE) {
        c->row = 0;
        return CUT_PLACES;
    }
    c->row++;
    return (cut_place)below(c, CUT_PLACES);
}

/* Somewhere within, the header of a reply as likely as its body. */
static size_t part_of(cutter *c, const cutter_message *m)
{
    const size_t end = below(c, 2) == 0 && m->head > 1 ? m->head : m->length;
    return 1 + below(c, end - 1);
}

/* Passes a request on and its reply back, as far as `place` says. False where the connections have
 * come to their end. */
static bool pass(cutter *c, int client, int server, cut_place place, const cutter_message *request,
                 cutter_message *reply)
{
    if (place == CUT_BEFORE) {
        return false;
    }
    if (place == CUT_IN_REQUEST) {
        (void)send_bytes(server, request->bytes, part_of(c, request));
        return false;
    }
    const bool twin_first = below(c, 2) == 0;
    const bool twinned = below(c, 100) < TWIN_SHARE;
    int twin = twinned && twin_first ? send_twin(c, request) : -1;
    bool good = send_bytes(server, request->bytes, request->length);
    twin = twinned && !twin_first ? send_twin(c, request) : twin;
    c->twins += twin >= 0;
    if (place != CUT_AFTER_REQUEST) {
        good = good && receive(server, reply);
        c->lost += !good;
        delay(c);
    }
    end_twin(c, twin);
    if (place == CUT_IN_REPLY && good) {
        (void)send_bytes(client, reply->bytes, part_of(c, reply));
    }
    return place == CUT_PLACES && good && send_bytes(client, reply->bytes, reply->length);
}

/* One request, from its first byte on. False where the connection has come to its end. */
static bool exchange(cutter *c, int client, int server, cutter_message *request,
                     cutter_message *reply)
{
    if (!receive(client, request)) {
        return false;
    }
    const cut_place place = plan(c);
    c->requests++;
    send_late_twin(c);
    if (c->keep_for == 0 && below(c, 100) < LATE_TWIN_SHARE) {
        keep(c, request);
    }
    delay(c);
    if (place != CUT_PLACES) {
        c->cuts[place]++;
    }
    return pass(c, client, server, place, request, reply);
}

static void *serve(void *context)
{
    cutter *c = context;
    cutter_message request = {0};
    cutter_message reply = {0};
    while (!atomic_load(&c->stopping)) {
        const int client = accept(c->listener, NULL, NULL);
        const int server = client >= 0 ? connect_to_server(c) : -1;
        send_at_once(client);
        while (server >= 0 && exchange(c, client, server, &request, &reply)) {
        }
        cut(c, client);
        cut(c, server);
    }
    free(request.bytes);
    free(reply.bytes);
    return NULL;
}

bool cutter_start(cutter *c, unsigned server_port, uint64_t seed)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    memset(c, 0, sizeof *c);
    c->server_port = server_port;
    c->random = seed;
    c->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->listener < 0 ||
        bind(c->listener, (const struct sockaddr *)(const void *)&address, size) != 0 ||
        listen(c->listener, 16) != 0 ||
        getsockname(c->listener, (struct sockaddr *)(void *)&address, &size) != 0) {
        return false;
    }
    (void)snprintf(c->url, sizeof c->url, "http://127.0.0.1:%u", ntohs(address.sin_port));
    return pthread_create(&c->thread, NULL, serve, c) == 0;
}

void cutter_stop(cutter *c)
{
    atomic_store(&c->stopping, true);
    (void)shutdown(c->listener, SHUT_RDWR); /* wakes accept */
    (void)pthread_join(c->thread, NULL);
    (void)close(c->listener);
    free(c->kept.bytes);
}

unsigned cutter_cuts(const cutter *c)
{
    unsigned sum = 0;
    for (size_t i = 0; i < CUT_PLACES; i++) {
        sum += c->cuts[i];
    }
    return sum;
}
