/* canned.h: a server that plays back replies and counts the requests that reach it. */
#ifndef ADAMD_CLIENT_CANNED_H
#define ADAMD_CLIENT_CANNED_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#define CANNED_KEYS 16

/* One reply: sent when a request is whole, or at once where `early`; the connection is closed after
 * it where `close`. */
typedef struct canned {
    const char *reply;
    size_t length;
    bool early, close;
} canned;

typedef struct server {
    int listener;
    char url[64];
    pthread_t thread;
    const canned *script; /* one entry a request, over all connections; ends with reply NULL */
    pthread_mutex_t lock; /* over what follows */
    int requests;
    char last[4096];            /* the last request's head */
    char keys[CANNED_KEYS][64]; /* the Idempotency-Key of each request, "" where it has none */
} server;

void start(server *srv, const canned *script);
/* Ends the server, even where the script has not come to its end. */
void stop(server *srv);

int request_count(server *srv);
/* Whether the last request's head has this text in it; case matters not. */
bool was_sent(server *srv, const char *text);

#define HEAD     "HTTP/1.1 200 OK\r\nETag: \"e1-s1\"\r\nContent-Type: application/vnd.safetensors\r\n"
#define METADATA "{\"__metadata__\":{\"step\":\"1\",\"grad_norm\":\"2.5\"},"
#define W        "\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"
#define FILE_W   "\x68\0\0\0\0\0\0\0" METADATA W "    "
#define TEXT(s)  s, sizeof(s) - 1
#define DATA     "\0\0\x80\x3f\0\0\0\x40" /* of w: 1, 2 */

#endif
