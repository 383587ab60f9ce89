/* server.h: the real adamd, run for a test. Asserts with cmocka. */
#ifndef ADAMD_TEST_SERVER_H
#define ADAMD_TEST_SERVER_H

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdbool.h>
#include <sys/types.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* A running server. Its standard error goes to a nameless file. */
typedef struct server {
    pid_t pid;
    unsigned port;
    char url[64];
    char version[32]; /* as its first line says */
    int out, log;
} server;

/* Starts adamd with these options (NULL-terminated, or NULL) on a free port and waits for the line
 * that says it is ready. ADAMD_* variables of the test's own environment do not reach it. */
void server_start(server *s, const char *const *options);

/* Sends SIGTERM and waits. Asserts that it ended with status 0, which under a sanitizer also means
 * that nothing leaked and nothing was reported, and that it printed nothing after its first line.
 */
void server_stop(server *s);
/* The same for a server that has been sent its signal already. */
void server_join(server *s);
/* Waits for its end, and gives its status instead of asserting it. */
int server_wait(server *s);

/* Descriptors that it has open: one for each connection, and its own. */
int server_descriptors(const server *s);

/* Everything in its log so far; the caller's, to be given to free(). */
char *server_log(const server *s);

/* Prints whether it still runs, or how it ended, and its log: for a test that fails. */
void server_explain(const server *s);

/* A run of adamd that ends by itself: its exit status and all that it printed. */
typedef struct run {
    int status;
    char out[8192], err[8192];
} run;

/* Runs adamd with these arguments, and these lines "NAME=value" added to its environment, to its
 * end. Both lists end with NULL or are NULL. */
void server_run(const char *const *arguments, const char *const *environment, run *r);

/* Like server_start, with lines added to the environment. */
void server_start_in(server *s, const char *const *options, const char *const *environment);

/* Seconds since some moment; for limits that only say "at all". */
double now(void);
void sleep_ms(unsigned ms);

#endif
