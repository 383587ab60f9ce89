/* crowd.h: several clients at once, each with a thread and a connection of its own. cmocka's
 * assertions belong to the main thread: a worker notes what went wrong, and crowd_run asserts. */
#ifndef ADAMD_TEST_CROWD_H
#define ADAMD_TEST_CROWD_H

#include <pthread.h>
#include <stdatomic.h>

#include "peer.h"

#define CROWD_SECONDS 60 /* within which every request must have its whole answer */

typedef struct worker {
    void (*run)(struct worker *w);
    void *context; /* the test's own */
    size_t index;
    adamd_client *client;
    adamd_response reply;
    char failure[512]; /* "" while all is well */
    pthread_t thread;
} worker;

/* Runs `n` workers against the server, and asserts that none has failed. */
void crowd_run(const char *url, worker *workers, size_t n);

/* One request: its status, or 0, and a failure noted, where no whole answer came. */
int worker_ask(worker *w, const char *method, const char *path, const char *const *headers,
               const void *body, size_t length);
/* The same with a JSON body. */
int worker_ask_json(worker *w, const char *method, const char *path, const char *json);
/* The step that a reply is about, from its ETag; -1, and a failure noted, where it has none. */
long worker_step(worker *w);
/* Notes a failure, the first one only. */
void worker_fail(worker *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool worker_failed(const worker *w);

#endif
