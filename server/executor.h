/* executor.h: threads for work that would hold up a connection thread, and strands.
 *
 * A strand runs its jobs one after the other, in order; strands run side by side. Waiting for a
 * strand holds no thread. */
#ifndef ADAMD_EXECUTOR_H
#define ADAMD_EXECUTOR_H

#include <pthread.h>
#include <stdbool.h>

typedef struct executor executor;

typedef struct job {
    void (*run)(struct job *self); /* may free the job */
    struct job *next;
} job;

typedef struct strand {
    pthread_mutex_t lock;
    bool busy;
    job *first, *last; /* waiting */
} strand;

/* NULL: no threads to be had. */
executor *executor_create(unsigned threads);
/* Waits for all jobs, then ends the threads. */
void executor_free(executor *e);

void strand_init(strand *s);
void strand_destroy(strand *s);

/* Enters the strand if it is idle; then the caller may do its work at once, and leaves. */
bool strand_try_enter(strand *s);
/* Ends the turn of whoever is in: starts the next waiting job, if any. */
void strand_leave(executor *e, strand *s);
/* Runs the job on a thread when the strand is its own; the job calls strand_leave. With s NULL it
 * runs as soon as a thread is free. */
void executor_submit(executor *e, strand *s, job *j);

#endif
