/* executor.c: a queue, its threads, and strands. Knows jobs, not what they do. */
#include "executor.h"

#include <stdlib.h>

struct executor {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    job *first, *last;
    bool stopping;
    unsigned n_threads;
    pthread_t threads[];
};

static void push(job **first, job **last, job *j)
{
    j->next = NULL;
    if (*first == NULL) {
        *first = j;
    } else {
        (*last)->next = j;
    }
    *last = j;
}

static void *thread_main(void *argument)
{
    executor *e = argument;
    pthread_mutex_lock(&e->lock);
    for (;;) {
        while (e->first == NULL && !e->stopping) {
            pthread_cond_wait(&e->wake, &e->lock);
        }
        job *j = e->first;
        if (j == NULL) {
            break;
        }
        e->first = j->next;
        pthread_mutex_unlock(&e->lock);
        j->run(j);
        pthread_mutex_lock(&e->lock);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

executor *executor_create(unsigned threads)
{
    executor *e = calloc(1, sizeof *e + threads * sizeof e->threads[0]);
    if (e == NULL) {
        return NULL;
    }
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->wake, NULL);
    for (; e->n_threads < threads; e->n_threads++) {
        if (pthread_create(&e->threads[e->n_threads], NULL, thread_main, e) != 0) {
            executor_free(e);
            return NULL;
        }
    }
    return e;
}

void executor_free(executor *e)
{
    if (e == NULL) {
        return;
    }
    pthread_mutex_lock(&e->lock);
    e->stopping = true;
    pthread_cond_broadcast(&e->wake);
    pthread_mutex_unlock(&e->lock);
    for (unsigned i = 0; i < e->n_threads; i++) {
        pthread_join(e->threads[i], NULL);
    }
    pthread_cond_destroy(&e->wake);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

static void enqueue(executor *e, job *j)
{
    pthread_mutex_lock(&e->lock);
    push(&e->first, &e->last, j);
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
}

void strand_init(strand *s)
{
    *s = (strand){0};
    pthread_mutex_init(&s->lock, NULL);
}

void strand_destroy(strand *s)
{
    pthread_mutex_destroy(&s->lock);
}

bool strand_try_enter(strand *s)
{
    pthread_mutex_lock(&s->lock);
    const bool entered = !s->busy;
    s->busy = true;
    pthread_mutex_unlock(&s->lock);
    return entered;
}

void strand_leave(executor *e, strand *s)
{
    pthread_mutex_lock(&s->lock);
    job *next = s->first;
    if (next != NULL) {
        s->first = next->next;
    } else {
        s->busy = false;
    }
    pthread_mutex_unlock(&s->lock);
    if (next != NULL) {
        enqueue(e, next);
    }
}

void executor_submit(executor *e, strand *s, job *j)
{
    if (s != NULL) {
        pthread_mutex_lock(&s->lock);
        const bool wait = s->busy;
        if (wait) {
            push(&s->first, &s->last, j);
        }
        s->busy = true;
        pthread_mutex_unlock(&s->lock);
        if (wait) {
            return;
        }
    }
    enqueue(e, j);
}
