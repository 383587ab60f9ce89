/* harness.h: what the benchmarks share: clocks, a raw TCP echo, a table of results. */
#ifndef BENCH_HARNESS_H
#define BENCH_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* ---- time ---- */

double bench_now(void); /* seconds, monotonic */
/* The median of n values, which it sorts. */
double bench_median(double *values, size_t n);

/* ---- sockets; each ends the program with a message where it fails ---- */

int bench_connect(const char *host, unsigned port);
void bench_send(int socket, const void *bytes, size_t length);
void bench_receive(int socket, void *bytes, size_t length);

/* A process of its own that takes in `bytes` bytes to one buffer and then sends them back, again
 * and again. Returns a socket to it. */
int bench_echo_start(size_t bytes, pid_t *pid);

/* ---- servers ---- */

typedef struct bench_server {
    pid_t pid;
    unsigned port;
} bench_server;

/* Starts a program, NULL after its last argument, whose first line ends in the port it is on. */
bench_server bench_spawn(const char *const *argv);
/* Starts adamd on a free port. `extra` are further arguments, NULL-terminated, or NULL. */
bench_server bench_server_start(const char *adamd, const char *const *extra);
/* SIGTERM; ends the program unless the server exits with 0. */
void bench_server_stop(bench_server *s);
/* Resident bytes of a process, now and at their peak so far. */
size_t bench_memory(pid_t pid);
size_t bench_peak_memory(pid_t pid);

/* ---- HTTP over one raw socket: no client library in the figures ---- */

typedef struct bench_reply {
    int status;
    size_t length; /* of the body */
} bench_reply;

/* Sends a request in pieces as given and receives the reply's body to `into`. Ends the program
 * where the status is not `expected` or the body does not fit. */
bench_reply bench_request(int socket, const char *method, const char *path, const char *type,
                          const void *body, size_t length, void *into, size_t room, int expected);

/* ---- results ---- */

typedef struct bench_table bench_table;

/* What the ratio value / peer_value should be: of times and bytes at most the target, of rates at
 * least. */
typedef enum bench_goal { BENCH_NO_GOAL, BENCH_AT_MOST, BENCH_AT_LEAST } bench_goal;

bench_table *bench_table_create(void);
/* Prints a line: ours, the peer's, their ratio, and the verdict. Copies the names. */
void bench_table_add(bench_table *t, const char *name, double value, const char *unit,
                     const char *peer, double peer_value, bench_goal goal, double target);
/* Adds the lines as JSON to the array in the file `json`, unless that is NULL; frees the table. */
void bench_table_end(bench_table *t, const char *json);

__attribute__((noreturn, format(printf, 1, 2))) void bench_fail(const char *format, ...);

#endif
