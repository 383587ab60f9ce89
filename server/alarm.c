/* alarm.c: a list of times, and a thread that sleeps until the next one. Few are set at a time: one
 * for each optimizer that somebody waits at. */
#include "alarm.h"

#include <stddef.h>
#include <stdlib.h>

#include "clock.h"

struct alarm_clock {
    executor *jobs;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    alarm_entry *first;
    uint64_t wakes; /* when the thread does */
    bool stopping, stopped;
    pthread_t thread;
};

uint64_t alarm_now(void)
{
    return (uint64_t)clock_ms();
}

static void unlist(alarm_clock *c, alarm_entry *a)
{
    if (a->previous != NULL) {
        a->previous->next = a->next;
    } else {
        c->first = a->next;
    }
    if (a->next != NULL) {
        a->next->previous = a->previous;
    }
    a->due = ALARM_NEVER;
}

static void run(job *j)
{
    alarm_entry *a = (alarm_entry *)((char *)j - offsetof(alarm_entry, job));
    pthread_mutex_lock(&a->clock->lock);
    a->ringing = false;
    pthread_mutex_unlock(&a->clock->lock);
    a->ring(a);
}

/* Rings what is due; under the lock. Returns when the next one is. */
static uint64_t ring_due(alarm_clock *c)
{
    const uint64_t now = alarm_now();
    uint64_t next_due = ALARM_NEVER;
    alarm_entry *next;
    for (alarm_entry *a = c->first; a != NULL; a = next) {
        next = a->next;
        if (a->due > now) {
            next_due = a->due < next_due ? a->due : next_due;
        } else if (!a->ringing) { /* one that is under way sets its next time itself */
            unlist(c, a);
            a->ringing = true;
            a->keep(a);
            a->job.run = run;
            executor_submit(c->jobs, a->strand, &a->job);
        }
    }
    return next_due;
}

static void *clock_main(void *argument)
{
    alarm_clock *c = argument;
    pthread_mutex_lock(&c->lock);
    while (!c->stopping) {
        c->wakes = ring_due(c);
        if (c->wakes == ALARM_NEVER) {
            pthread_cond_wait(&c->changed, &c->lock);
        } else {
            const struct timespec until = {.tv_sec = (time_t)(c->wakes / 1000),
                                           .tv_nsec = (long)(c->wakes % 1000) * 1000000};
            (void)pthread_cond_timedwait(&c->changed, &c->lock, &until);
        }
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

alarm_clock *alarm_clock_create(executor *jobs)
{
    alarm_clock *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return NULL;
    }
    pthread_condattr_t monotonic;
    c->jobs = jobs;
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    c->stopped = pthread_create(&c->thread, NULL, clock_main, c) != 0;
    if (c->stopped) {
        alarm_clock_free(c);
        return NULL;
    }
    return c;
}

void alarm_clock_stop(alarm_clock *c)
{
    if (c->stopped) {
        return;
    }
    pthread_mutex_lock(&c->lock);
    c->stopping = true;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    c->stopped = true;
}

void alarm_clock_free(alarm_clock *c)
{
    if (c == NULL) {
        return;
    }
    alarm_clock_stop(c);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

void alarm_set(alarm_clock *c, alarm_entry *a, uint64_t due)
{
    pthread_mutex_lock(&c->lock);
    a->clock = c;
    if (a->due == due) {
        pthread_mutex_unlock(&c->lock);
        return;
    }
    if (a->due != ALARM_NEVER) {
        unlist(c, a);
    }
    if (due != ALARM_NEVER) {
        a->due = due;
        a->previous = NULL;
        a->next = c->first;
        if (c->first != NULL) {
            c->first->previous = a;
        }
        c->first = a;
        if (due < c->wakes) {
            pthread_cond_signal(&c->changed);
        }
    }
    pthread_mutex_unlock(&c->lock);
}
