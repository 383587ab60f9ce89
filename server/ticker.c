/* ticker.c: a list of entries, and a thread that sleeps until the first of their times. There are
 * as many entries as modules that have something to do in time: a few. */
#include "ticker.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "clock.h"

struct ticker {
    pthread_t thread;
    pthread_mutex_t lock; /* of all below; never held for long */
    pthread_cond_t wake;
    pthread_cond_t called;
    ticker_entry *first;
    ticker_entry *at;      /* the next one to be looked at */
    ticker_entry *calling; /* its call is under way */
    bool woken, stopping;
};

/* Under the lock, which it leaves for the call. */
static void call(ticker *t, ticker_entry *e)
{
    t->calling = e;
    atomic_exchange(&e->rung, false); /* this call may miss what is rung for from now on */
    pthread_mutex_unlock(&t->lock);
    const int64_t due = e->tick(e->context);
    pthread_mutex_lock(&t->lock);
    e->due = due;
    t->calling = NULL;
    pthread_cond_broadcast(&t->called);
}

/* Calls those that are rung or due, each once; under the lock. Returns the first of all times. */
static int64_t call_due(ticker *t)
{
    int64_t first = TICKER_NEVER;
    t->at = t->first;
    while (t->at != NULL) {
        ticker_entry *e = t->at;
        t->at = e->next;
        if (atomic_load(&e->rung) || e->due <= clock_ms()) {
            call(t, e);
        }
        first = e->due < first ? e->due : first;
    }
    return first;
}

static void *thread_main(void *argument)
{
    ticker *t = argument;
    pthread_mutex_lock(&t->lock);
    while (!t->stopping) {
        t->woken = false;
        const int64_t until = call_due(t);
        if (t->woken || t->stopping) {
            continue; /* meanwhile */
        }
        if (until == TICKER_NEVER) {
            pthread_cond_wait(&t->wake, &t->lock);
        } else {
            const struct timespec at = {.tv_sec = (time_t)(until / 1000),
                                        .tv_nsec = (long)(until % 1000) * 1000000};
            (void)pthread_cond_timedwait(&t->wake, &t->lock, &at);
        }
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static void destroy(ticker *t)
{
    pthread_cond_destroy(&t->wake);
    pthread_cond_destroy(&t->called);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

ticker *ticker_create(void)
{
    ticker *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return NULL;
    }
    pthread_condattr_t monotonic;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->called, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&t->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (pthread_create(&t->thread, NULL, thread_main, t) != 0) {
        destroy(t);
        return NULL;
    }
    return t;
}

/* Under the lock. */
static void wake(ticker *t)
{
    t->woken = true;
    pthread_cond_signal(&t->wake);
}

void ticker_free(ticker *t)
{
    if (t == NULL) {
        return;
    }
    pthread_mutex_lock(&t->lock);
    t->stopping = true;
    wake(t);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    destroy(t);
}

void ticker_add(ticker *t, ticker_entry *e)
{
    pthread_mutex_lock(&t->lock);
    e->due = 0;
    e->next = t->first;
    t->first = e;
    wake(t);
    pthread_mutex_unlock(&t->lock);
}

void ticker_remove(ticker *t, ticker_entry *e)
{
    pthread_mutex_lock(&t->lock);
    ticker_entry **link = &t->first;
    while (*link != e) {
        link = &(*link)->next;
    }
    *link = e->next;
    if (t->at == e) {
        t->at = e->next;
    }
    while (t->calling == e) {
        pthread_cond_wait(&t->called, &t->lock);
    }
    pthread_mutex_unlock(&t->lock);
}

void ticker_ring(ticker *t, ticker_entry *e)
{
    if (atomic_exchange(&e->rung, true)) {
        return; /* and so somebody has woken the thread, or is about to */
    }
    pthread_mutex_lock(&t->lock);
    wake(t);
    pthread_mutex_unlock(&t->lock);
}
