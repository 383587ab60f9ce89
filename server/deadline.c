/* deadline.c: a list of sockets with a time each, and a thread that shuts down the late ones. Their
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
#include <time.h>

#define NEVER INT64_MAX

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
    unsigned seconds;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stopping;
    deadline *first;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE,
                  &t); /* a few milliseconds late, and five times as cheap */
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Whether the other side has ended, and nothing that it sent is left to read. */
static bool has_gone(int socket)
{
    struct pollfd p = {.fd = socket, .events = POLLRDHUP};
    int unread = 0;
    return poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0 &&
           ioctl(socket, FIONREAD, &unread) == 0 && unread == 0;
}

static void shut_late(deadline_watch *w)
{
    const int64_t now = now_ms();
    for (deadline *d = w->first; d != NULL; d = d->after) {
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
}

static void *watch(void *argument)
{
    deadline_watch *w = argument;
    pthread_mutex_lock(&w->lock);
    while (!w->stopping) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += 250000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&w->wake, &w->lock, &until);
        shut_late(w);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

deadline_watch *deadline_watch_create(unsigned seconds)
{
    deadline_watch *w = calloc(1, sizeof *w);
    if (w == NULL) {
        return NULL;
    }
    w->seconds = seconds;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&w->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&w->lock, NULL);
    if (pthread_create(&w->thread, NULL, watch, w) != 0) {
        pthread_cond_destroy(&w->wake);
        pthread_mutex_destroy(&w->lock);
        free(w);
        return NULL;
    }
    return w;
}

void deadline_watch_free(deadline_watch *w)
{
    if (w == NULL) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->wake);
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
