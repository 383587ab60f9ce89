/* stream.c: who is woken when, and histories as server-sent events. */
#include "stream.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

#define BEGINNING "retry: %d\n\n"
#define HEARTBEAT ": heartbeat\n\n"

struct listener {
    stream_hub *hub;
    history *history;
    buffer_pool *pool;
    /* of the thread that reads */
    text waiting_text; /* printed, of which `sent` bytes are taken */
    size_t sent;
    stream_start start;
    bool begun, ended;
    /* of anyone */
    atomic_uint_fast64_t place;     /* of the next record */
    atomic_int_fast64_t last_bytes; /* when the last bytes were taken: milliseconds, monotonic */
    /* under the hub's lock */
    listener_calls calls;
    bool suspended, beat, was_cut;
    listener *before, *after;
};

struct stream_hub {
    ticker *ticker;
    ticker_entry ticks;   /* rung without the lock, so that who rings never waits for the list */
    int64_t heartbeat;    /* milliseconds */
    pthread_mutex_t lock; /* of the list, and of what listeners have under it */
    listener *first;
    unsigned count;
    bool ending;
};

/* ---- the hub ---- */

static bool has_news(const listener *l)
{
    return history_next(l->history) > atomic_load(&l->place) || history_closed(l->history) ||
           l->hub->ending;
}

static void resume(listener *l)
{
    l->suspended = false;
    l->calls.resume(l->calls.context);
}

/* Wakes a listener that waits for what has come, or for its heartbeat; cuts off one that has been
 * overtaken. Returns when its next heartbeat is due. */
static int64_t look_at(listener *l, int64_t now)
{
    const int64_t due = atomic_load(&l->last_bytes) + l->hub->heartbeat;
    if (l->suspended && (has_news(l) || due <= now)) {
        l->beat = due <= now;
        resume(l);
    } else if (!l->suspended && !l->was_cut && l->calls.cut != NULL &&
               atomic_load(&l->place) < history_first(l->history)) {
        l->was_cut = true;
        l->calls.cut(l->calls.context);
    }
    return l->suspended ? due : now + l->hub->heartbeat;
}

static int64_t tick(void *context)
{
    stream_hub *hub = context;
    const int64_t now = clock_ms();
    int64_t next = now + hub->heartbeat;
    pthread_mutex_lock(&hub->lock);
    for (listener *l = hub->first; l != NULL; l = l->after) {
        const int64_t due = look_at(l, now);
        next = due < next ? due : next;
    }
    pthread_mutex_unlock(&hub->lock);
    return next;
}

stream_hub *stream_hub_create(ticker *t, unsigned heartbeat_seconds)
{
    stream_hub *hub = calloc(1, sizeof *hub);
    if (hub == NULL) {
        return NULL;
    }
    hub->ticker = t;
    hub->ticks.tick = tick;
    hub->ticks.context = hub;
    hub->heartbeat = (int64_t)heartbeat_seconds * 1000;
    pthread_mutex_init(&hub->lock, NULL);
    ticker_add(t, &hub->ticks);
    return hub;
}

void stream_hub_free(stream_hub *hub)
{
    if (hub == NULL) {
        return;
    }
    ticker_remove(hub->ticker, &hub->ticks);
    pthread_mutex_destroy(&hub->lock);
    free(hub);
}

void stream_hub_end(stream_hub *hub)
{
    pthread_mutex_lock(&hub->lock);
    hub->ending = true;
    for (listener *l = hub->first; l != NULL; l = l->after) {
        if (l->suspended) {
            resume(l);
        }
    }
    pthread_mutex_unlock(&hub->lock);
}

unsigned stream_hub_count(stream_hub *hub)
{
    pthread_mutex_lock(&hub->lock);
    const unsigned count = hub->count;
    pthread_mutex_unlock(&hub->lock);
    return count;
}

void stream_notify(stream_hub *hub, const history *h)
{
    if (history_listeners(h) > 0) {
        ticker_ring(hub->ticker, &hub->ticks);
    }
}

/* ---- a listener ---- */

listener *stream_listen(stream_hub *hub, history *h, buffer_pool *pool, const stream_start *start)
{
    listener *l = memory_get_zeroed(buffer_pool_memory(pool), sizeof *l);
    if (l == NULL) {
        return NULL;
    }
    l->hub = hub;
    l->history = history_hold(h);
    l->pool = pool;
    l->waiting_text.pool = pool;
    l->start = *start;
    atomic_store(&l->place, start->place);
    atomic_store(&l->last_bytes, clock_ms());
    history_listen(h, true);
    pthread_mutex_lock(&hub->lock);
    l->after = hub->first;
    if (hub->first != NULL) {
        hub->first->before = l;
    }
    hub->first = l;
    hub->count++;
    pthread_mutex_unlock(&hub->lock);
    return l;
}

void stream_attach(listener *l, const listener_calls *calls)
{
    pthread_mutex_lock(&l->hub->lock);
    l->calls = *calls;
    pthread_mutex_unlock(&l->hub->lock);
}

void stream_wake(listener *l)
{
    pthread_mutex_lock(&l->hub->lock);
    if (l->suspended) {
        l->beat = true; /* something to send: sending finds out */
        resume(l);
    }
    pthread_mutex_unlock(&l->hub->lock);
}

void stream_close(listener *l)
{
    if (l == NULL) {
        return;
    }
    stream_hub *hub = l->hub;
    pthread_mutex_lock(&hub->lock);
    if (l->before != NULL) {
        l->before->after = l->after;
    } else {
        hub->first = l->after;
    }
    if (l->after != NULL) {
        l->after->before = l->before;
    }
    hub->count--;
    pthread_mutex_unlock(&hub->lock);
    history_listen(l->history, false);
    history_drop(l->history);
    text_drop(&l->waiting_text);
    memory_put(buffer_pool_memory(l->pool), l, sizeof *l);
}

/* ---- what is sent ---- */

static void print_event(text *t, const step_record *r)
{
    if (r->skipped) {
        text_add_string(t, "event: skipped\ndata: ");
    } else {
        text_add_format(t, "id: %llu\nevent: step\ndata: ", (unsigned long long)r->step);
    }
    show_step(t, r);
    text_add_string(t, "\n\n");
}

/* What comes before the first event. */
static void print_beginning(listener *l, const step_record *first)
{
    text *t = &l->waiting_text;
    l->begun = true;
    text_add_format(t, BEGINNING, STREAM_RETRY_MS);
    if (l->start.gap) {
        text_add_format(t, "event: gap\ndata: {\"last_event_id\": %llu, \"first_step\": ",
                        (unsigned long long)l->start.last_id);
        if (first != NULL) {
            /* the step of one that was skipped is that of the one before it */
            text_add_format(t, "%llu}\n\n",
                            (unsigned long long)first->step + (first->skipped ? 1 : 0));
        } else {
            text_add_string(t, "null}\n\n");
        }
    }
}

static void print_removed(listener *l)
{
    text_add_string(&l->waiting_text, "event: removed\ndata: {}\n\n");
    l->ended = true;
}

/* Prints the records of one page. */
static void print_page(listener *l, history_page *page)
{
    uint64_t place = atomic_load(&l->place);
    while (page->left > 0) {
        step_record record;
        history_take(page, &record);
        if (!l->begun) {
            print_beginning(l, &record);
        }
        print_event(&l->waiting_text, &record);
        place++;
    }
    atomic_store(&l->place, place);
}

/* Prints what has come, or, where nothing has, what is due. False: nothing is. */
static bool print_more(listener *l, bool beat)
{
    const bool closed = history_closed(l->history); /* before the look for records */
    history_page page = {0};
    switch (history_read(l->history, atomic_load(&l->place), l->pool, &page)) {
    case HISTORY_READ: print_page(l, &page); break;
    case HISTORY_GONE:
    case HISTORY_NO_MEMORY: l->ended = true; break; /* it comes back, with its last id */
    case HISTORY_NONE:
        if (!l->begun) {
            print_beginning(l, NULL);
        } else if (closed) {
            print_removed(l);
        } else if (beat) {
            text_add_string(&l->waiting_text, HEARTBEAT);
        }
        break;
    }
    buffer_drop(page.data);
    if (l->waiting_text.failed) {
        text_drop(&l->waiting_text); /* rather nothing than half an event */
        l->ended = true;
    }
    return l->ended || text_length(&l->waiting_text) > 0;
}

/* Takes from what is printed. */
static size_t take(listener *l, char *to, size_t room)
{
    const size_t left = text_length(&l->waiting_text) - l->sent;
    const size_t n = left < room ? left : room;
    if (n > 0) {
        memcpy(to, l->waiting_text.buffer->data + l->sent, n);
        l->sent += n;
        atomic_store(&l->last_bytes, clock_ms());
    }
    if (n == left) { /* an idle listener holds no buffer */
        text_drop(&l->waiting_text);
        l->sent = 0;
    }
    return n;
}

/* Under the hub's lock, so that nothing comes unnoticed between the look and the suspension.
 * Returns whether it is suspended. */
static bool suspend(listener *l, bool *beat)
{
    stream_hub *hub = l->hub;
    pthread_mutex_lock(&hub->lock);
    const bool wait = !has_news(l) && !l->beat;
    if (wait) {
        l->suspended = true;
        l->calls.suspend(l->calls.context);
    }
    *beat = l->beat;
    l->beat = false;
    l->ended = l->ended || hub->ending;
    pthread_mutex_unlock(&hub->lock);
    return wait;
}

ssize_t stream_read(listener *l, char *to, size_t room)
{
    bool beat = false;
    for (;;) {
        const size_t n = take(l, to, room);
        if (n > 0) {
            return (ssize_t)n;
        }
        if (l->ended) {
            return -1;
        }
        if (!print_more(l, beat) && suspend(l, &beat)) {
            return 0;
        }
    }
}
