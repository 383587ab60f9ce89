/* load.h: many keep-alive connections that ask for one thing again and again. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "harness.h"

/* One connection's request, whole, as it goes out. */
typedef struct bench_load_request {
    const char *bytes;
    size_t length;
} bench_load_request;

typedef struct bench_load {
    double rate;     /* replies a second */
    double p50, p99; /* latency, seconds */
} bench_load;

/* One thread and `n` connections to 127.0.0.1 for `seconds`. The i-th connection sends requests[i]
 * and, when it is answered, the one n places on, around all `n_requests`, which n divides. Every
 * reply must be a 200. With `pause` > 0 each connection waits that many seconds between two
 * requests. */
bench_load bench_load_run(unsigned port, const bench_load_request *requests, size_t n_requests,
                          size_t n, double seconds, double pause);

/* A request made of a method, a path, a type (NULL: no body) and a body; to be freed. */
bench_load_request bench_load_make(const char *method, const char *path, const char *type,
                                   const void *body, size_t length);
void bench_load_free(bench_load_request *request);

#endif
