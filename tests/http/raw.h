/* raw.h: bytes over a socket, for what a well-behaved HTTP client would not send. */
#ifndef ADAMD_TEST_RAW_H
#define ADAMD_TEST_RAW_H

#include "server.h"

#define RAW_SECONDS 20 /* after which the server is taken to be silent */

typedef struct raw_reply {
    int status;       /* 0: the server closed before a whole reply */
    char text[16384]; /* header and body, terminated */
    char *body;
} raw_reply;

/* Connects; asserts that it succeeds. */
int raw_connect(const server *s);
/* False where the server has closed. */
bool raw_send(int socket, const void *bytes, size_t length);
bool raw_send_text(int socket, const char *text);
/* Reads one reply, interim ones included. Fails the test after RAW_SECONDS. */
void raw_read(int socket, raw_reply *r);
/* Waits until the server closes, reading what still comes. False after `seconds`. */
bool raw_closed_within(int socket, double seconds);
/* Sends the text on a connection of its own and reads one reply. */
void raw_ask(const server *s, const char *text, raw_reply *r);
/* The same, and asserts that the server then closes. */
void raw_ask_closing(const server *s, const char *text, raw_reply *r);

/* Asserts that it is a problem with this status, code and, if not NULL, member. */
void assert_raw_problem(const raw_reply *r, int status, const char *code, const char *member);

#endif
