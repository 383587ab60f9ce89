/* history.c: records of steps in a ring, with a lock that nobody holds for long. */
#include "history.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "ring.h"

/* Bytes that a page has at first, and records that are looked at under one lock. */
#define PAGE_BYTES  ((size_t)16 << 10)
#define FIND_SLICE  4096
#define MAX_WORKER  128 /* bytes of a worker's name that are kept */
#define CLOCK_TO_MS 1000000

struct history {
    memory *memory;
    pthread_mutex_t lock;
    ring ring;
    /* of the last record */
    uint64_t last_step;
    bool any, last_skipped;
    /* the ring's, to be read without the lock */
    atomic_uint_fast64_t first, next;
    atomic_size_t bytes;
    atomic_uint holds, listeners;
    atomic_bool closed;
};

/* A record as it is kept: groups follow, then the worker. */
typedef struct kept {
    uint64_t step;
    int64_t time_ms;
    double grad_norm, param_norm, update_norm, clip_coef;
    uint32_t n_groups;
    uint16_t worker_length;
    bool skipped;
    bool after_skipped;   /* so was the record before it */
    uint64_t step_before; /* of that record */
    group_record groups[];
} kept;

history *history_create(memory *m, size_t steps)
{
    history *h = memory_get_zeroed(m, sizeof *h);
    if (h != NULL) {
        h->memory = m;
        pthread_mutex_init(&h->lock, NULL);
        ring_init(&h->ring, m, steps, HISTORY_MAX_BYTES);
        atomic_store(&h->holds, 1);
    }
    return h;
}

history *history_hold(history *h)
{
    atomic_fetch_add(&h->holds, 1);
    return h;
}

void history_drop(history *h)
{
    if (h != NULL && atomic_fetch_sub(&h->holds, 1) == 1) {
        ring_clear(&h->ring);
        pthread_mutex_destroy(&h->lock);
        memory_put(h->memory, h, sizeof *h);
    }
}

static int64_t wall_clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / CLOCK_TO_MS;
}

void history_add(history *h, const step_record *r)
{
    const size_t groups = r->n_groups * sizeof(group_record);
    const size_t worker = r->worker_length < MAX_WORKER ? r->worker_length : MAX_WORKER;
    const int64_t now = wall_clock_ms();
    pthread_mutex_lock(&h->lock);
    kept *k = ring_add(&h->ring, sizeof *k + groups + worker);
    if (k != NULL) {
        *k = (kept){.step = r->step,
                    .time_ms = now,
                    .grad_norm = r->grad_norm,
                    .param_norm = r->param_norm,
                    .update_norm = r->update_norm,
                    .clip_coef = r->clip_coef,
                    .n_groups = (uint32_t)r->n_groups,
                    .worker_length = (uint16_t)worker,
                    .skipped = r->skipped,
                    .after_skipped = h->any && h->last_skipped,
                    .step_before = h->any ? h->last_step : r->step - !r->skipped};
        if (groups > 0) {
            memcpy(k->groups, r->groups, groups);
        }
        if (worker > 0) {
            memcpy((char *)(k + 1) + groups, r->worker, worker);
        }
    }
    h->any = true;
    h->last_step = r->step;
    h->last_skipped = r->skipped;
    atomic_store(&h->first, h->ring.first);
    atomic_store(&h->next, h->ring.next);
    atomic_store(&h->bytes, h->ring.bytes);
    pthread_mutex_unlock(&h->lock);
}

void history_close(history *h)
{
    atomic_store(&h->closed, true);
}

bool history_closed(const history *h)
{
    return atomic_load(&h->closed);
}

uint64_t history_first(const history *h)
{
    return atomic_load(&h->first);
}

uint64_t history_next(const history *h)
{
    return atomic_load(&h->next);
}

size_t history_bytes(const history *h)
{
    return atomic_load(&h->bytes);
}

void history_listen(history *h, bool begins)
{
    atomic_fetch_add(&h->listeners, begins ? 1U : -1U);
}

unsigned history_listeners(const history *h)
{
    return atomic_load(&h->listeners);
}

static const kept *kept_at(const history *h, uint64_t place)
{
    size_t length;
    return ring_at(&h->ring, place, &length);
}

/* Looks at some records from *place on, and moves it past them. *after gets the place behind the
 * last one that was `step`. False at the end. */
static bool find_in_slice(history *h, uint64_t step, uint64_t *place, uint64_t *after)
{
    pthread_mutex_lock(&h->lock);
    *place = *place > h->ring.first ? *place : h->ring.first;
    if (*place < h->ring.next) {
        ring_cursor c = ring_begin(&h->ring, *place);
        for (int i = 0; i < FIND_SLICE && c.place < h->ring.next; i++) {
            size_t length;
            const kept *k = ring_next(&c, &length);
            if (k->step == step && !k->skipped) {
                *after = c.place;
            }
        }
        *place = c.place;
    }
    const bool more = *place < h->ring.next;
    pthread_mutex_unlock(&h->lock);
    return more;
}

/* A step count can come twice, where a state was loaded: the last one counts. */
bool history_find(history *h, uint64_t step, uint64_t *place)
{
    uint64_t at = 0;
    uint64_t after = 0;
    while (find_in_slice(h, step, &at, &after)) {
    }
    bool known = after > 0;
    pthread_mutex_lock(&h->lock);
    if (known) {
        *place = after;
    } else {
        /* or it is the one right before the first that is here */
        *place = h->ring.first;
        const kept *first = h->ring.first < h->ring.next ? kept_at(h, h->ring.first) : NULL;
        known = first != NULL && first->step_before == step && !first->after_skipped;
    }
    pthread_mutex_unlock(&h->lock);
    return known;
}

history_status history_read(history *h, uint64_t place, buffer_pool *pool, history_page *page)
{
    size_t needed = PAGE_BYTES;
    page->left = 0;
    for (;;) {
        if (page->data == NULL || page->data->capacity < needed) {
            buffer_drop(page->data);
            page->data = buffer_get(pool, needed);
            if (page->data == NULL) {
                return HISTORY_NO_MEMORY;
            }
        }
        page->at = page->data->data;
        pthread_mutex_lock(&h->lock);
        if (place < h->ring.first || place >= h->ring.next) {
            const bool gone = place < h->ring.first;
            pthread_mutex_unlock(&h->lock);
            return gone ? HISTORY_GONE : HISTORY_NONE;
        }
        page->left = ring_copy(&h->ring, place, page->data->data, page->data->capacity, &needed);
        pthread_mutex_unlock(&h->lock);
        if (page->left > 0) {
            return HISTORY_READ;
        }
    }
}

void history_take(history_page *page, step_record *record)
{
    size_t length;
    const kept *k = ring_copied(&page->at, &length);
    page->left--;
    *record = (step_record){.step = k->step,
                            .time_ms = k->time_ms,
                            .worker = (const char *)(k->groups + k->n_groups),
                            .worker_length = k->worker_length,
                            .skipped = k->skipped,
                            .grad_norm = k->grad_norm,
                            .param_norm = k->param_norm,
                            .update_norm = k->update_norm,
                            .clip_coef = k->clip_coef,
                            .groups = k->groups,
                            .n_groups = k->n_groups};
}
