/* rounds.h: workers that wait for each other: requests that are begun now, each on a connection of
 * its own, and whose replies are read later. */
#ifndef ADAMD_TEST_ROUNDS_H
#define ADAMD_TEST_ROUNDS_H

#include "files.h"
#include "raw.h"

/* Starts a server with these options; p->server is it. */
void serve(peer *p, const char *const *options);
void serve_end(peer *p);

/* Begins a step of the optimizer with a JSON body and more header lines ("A: b\r\n"), or "".
 * Returns the socket. */
int begin_step(const server *s, const char *name, const char *lines, const char *json);
/* The same as a worker of that name. */
int begin_worker(const server *s, const char *name, const char *worker, const char *json);
/* The same with a safetensors body, which it frees. */
int begin_tensors(const server *s, const char *name, const char *lines, file f);
/* Begins a GET of a whole path. */
int begin_get(const server *s, const char *path, const char *lines);
/* Reads the reply, and closes. */
void end_request(int socket, raw_reply *r);
/* The same, and asserts its status. */
void end_with(int socket, raw_reply *r, int status);
/* The same, and asserts that it is a problem. */
void end_refused(int socket, int status, const char *code, const char *member);
/* Whether nothing has come for so long. */
bool is_silent(int socket, unsigned ms);

/* Waits until GET …/round of the optimizer has this text. */
void wait_for_round(peer *p, const char *name, const char *text);
/* Waits until so many are held. */
void wait_for_held(peer *p, const char *name, unsigned gradients);
/* Asserts the step that the optimizer is at. */
void assert_step_of(peer *p, const char *name, unsigned step);
/* Asserts that the text has this in it, but for white space. */
void assert_text(const char *text, const char *expected);
/* The list of numbers behind `"name": [` in a text. */
void numbers_of(const char *text, const char *name, double *out, size_t n);
/* The digest of the optimizer; the caller's. */
char *digest_of(peer *p, const char *name);

#endif
