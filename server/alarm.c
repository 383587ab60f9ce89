/* alarm.c: a list of times. Few are set at once: one for each optimizer that somebody waits at. */
#include "alarm.h"

#include <stddef.h>
#include <stdlib.h>

#include "clock.h"

struct alarm_clock {
    ticker *ticker;
    ticker_entry ticks;
    executor *jobs;
    pthread_mutex_t lock;
    alarm_entry *first;
    uint64_t next_tick; /* as far as the ticker knows, or is being told */
    bool stopped;
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

static int64_t tick(void *context)
{
    alarm_clock *c = context;
    pthread_mutex_lock(&c->lock);
    const uint64_t next = ring_due(c);
    c->next_tick = next;
    pthread_mutex_unlock(&c->lock);
    return (int64_t)next;
}

alarm_clock *alarm_clock_create(ticker *t, executor *jobs)
{
    alarm_clock *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return NULL;
    }
    c->ticker = t;
    c->ticks.tick = tick;
    c->ticks.context = c;
    c->jobs = jobs;
    pthread_mutex_init(&c->lock, NULL);
    ticker_add(t, &c->ticks);
    return c;
}

void alarm_clock_stop(alarm_clock *c)
{
    if (c != NULL && !c->stopped) {
        ticker_remove(c->ticker, &c->ticks);
        c->stopped = true;
    }
}

void alarm_clock_free(alarm_clock *c)
{
    if (c == NULL) {
        return;
    }
    alarm_clock_stop(c);
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
        if (due < c->next_tick) {
            c->next_tick = due;
            ticker_ring(c->ticker, &c->ticks);
        }
    }
    pthread_mutex_unlock(&c->lock);
}
