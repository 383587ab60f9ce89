/* deadline.c: a list of sockets with a time each, of which the late ones are shut down. Their
 * connections then end as if the client had gone. */
#include "deadline.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "clock.h"

#define NEVER   INT64_MAX
#define LOOK_MS 250 /* from one look at all to the next */
#define LOOK_AT 256 /* at a time: asking a socket takes a microsecond */

struct deadline {
    int socket;
    atomic_int_fast64_t at; /* milliseconds, monotonic */
    atomic_bool reading;
    bool seemed_gone;            /* at the last look */
    void (*shut)(void *context); /* NULL: nobody wants to know */
    void *context;
    deadline *before, *after;
};

struct deadline_watch {
    ticker *ticker;
    ticker_entry ticks;
    unsigned seconds;
    int64_t next_look;    /* at all */
    pthread_mutex_t lock; /* of the list, and of `looking` */
    deadline *first;
    deadline *looking; /* the next one of a look that is under way; NULL: none is */
};

static int64_t now_ms(void)
{
    /* a few milliseconds late, and five times as cheap */
    return clock_read_ms(CLOCK_MONOTONIC_COARSE);
}

/* Whether the other side has ended, and nothing that it sent is left to read. */
static bool has_gone(int socket)
{
    struct pollfd p = {.fd = socket, .events = POLLRDHUP};
    int unread = 0;
    return poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0 &&
           ioctl(socket, FIONREAD, &unread) == 0 && unread == 0;
}

static void look_at(deadline *d, int64_t now)
{
    /* twice, since the last bytes may just be on their way to the work */
    const bool gone = atomic_load(&d->reading) && has_gone(d->socket);
    const bool shut = atomic_load(&d->at) <= now || (gone && d->seemed_gone);
    d->seemed_gone = gone;
    if (shut) {
        atomic_store(&d->at, NEVER);
        atomic_store(&d->reading, false);
        (void)shutdown(d->socket, SHUT_RDWR);
        if (d->shut != NULL) {
            d->shut(d->context);
        }
    }
}

/* Looks at some, and goes on with the others when it is called again. */
static int64_t tick(void *context)
{
    deadline_watch *w = context;
    const int64_t now = now_ms();
    pthread_mutex_lock(&w->lock);
    if (w->looking == NULL) {
        w->looking = w->first;
        w->next_look = clock_ms() + LOOK_MS;
    }
    for (int i = 0; i < LOOK_AT && w->looking != NULL; i++) {
        deadline *d = w->looking;
        w->looking = d->after;
        look_at(d, now);
    }
    const int64_t next = w->looking != NULL ? now : w->next_look;
    pthread_mutex_unlock(&w->lock);
    return next;
}

deadline_watch *deadline_watch_create(ticker *t, unsigned seconds)
{
    deadline_watch *w = calloc(1, sizeof *w);
    if (w == NULL) {
        return NULL;
    }
    w->ticker = t;
    w->ticks.tick = tick;
    w->ticks.context = w;
    w->seconds = seconds;
    pthread_mutex_init(&w->lock, NULL);
    ticker_add(t, &w->ticks);
    return w;
}

void deadline_watch_free(deadline_watch *w)
{
    if (w == NULL) {
        return;
    }
    ticker_remove(w->ticker, &w->ticks);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

deadline *deadline_add(deadline_watch *w, int socket)
{
    deadline *d = calloc(1, sizeof *d);
    if (d == NULL) {
        return NULL;
    }
    d->socket = socket;
    deadline_restart(w, d, 0);
    pthread_mutex_lock(&w->lock);
    d->after = w->first;
    if (w->first != NULL) {
        w->first->before = d;
    }
    w->first = d;
    pthread_mutex_unlock(&w->lock);
    return d;
}

void deadline_remove(deadline_watch *w, deadline *d)
{
    if (d == NULL) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    if (w->looking == d) {
        w->looking = d->after;
    }
    if (d->before != NULL) {
        d->before->after = d->after;
    } else {
        w->first = d->after;
    }
    if (d->after != NULL) {
        d->after->before = d->before;
    }
    pthread_mutex_unlock(&w->lock);
    free(d);
}

static int64_t milliseconds(size_t bytes)
{
    return (int64_t)(bytes / (DEADLINE_BYTES_PER_SECOND / 1000));
}

void deadline_extend(deadline *d, size_t bytes)
{
    atomic_fetch_add(&d->at, milliseconds(bytes));
}

void deadline_reading(deadline *d, bool reading)
{
    atomic_store(&d->reading, reading);
}

void deadline_restart(deadline_watch *w, deadline *d, size_t bytes)
{
    atomic_store(&d->at, now_ms() + (int64_t)w->seconds * 1000 + milliseconds(bytes));
}

void deadline_pause(deadline *d)
{
    atomic_store(&d->at, NEVER);
}

void deadline_expire(deadline *d)
{
    atomic_store(&d->at, 0);
}

void deadline_on_shut(deadline_watch *w, deadline *d, void (*shut)(void *context), void *context)
{
    pthread_mutex_lock(&w->lock);
    d->shut = shut;
    d->context = context;
    pthread_mutex_unlock(&w->lock);
}
