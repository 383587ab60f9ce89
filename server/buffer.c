/* buffer.c: the pool of reused buffers, and growing text. Knows bytes, not what they mean.
 *
 * Capacities are rounded to a class: powers of two below 1 MiB, steps of 64 KiB above, so that the
 * bodies of one model's steps find each other's buffers and no large one is rounded up by much. */
#include "buffer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The smallest class is given even where the budget is used up: what a refusal takes, and no client
 * holds more than a few. */
#define BUFFER_MIN       ((size_t)4096)
#define BUFFER_STEP_MIN  ((size_t)1 << 20) /* from here on, classes are BUFFER_STEP apart */
#define BUFFER_STEP      ((size_t)64 << 10)
#define BUFFER_WASTE_DIV 8  /* a kept buffer serves a wish down to 7/8 of it */
#define BUFFER_KEEP_DIV  4  /* at most this part of the budget is kept for reuse */
#define BUFFER_KEEP_MAX  64 /* buffers kept */

typedef struct pooled {
    buffer public; /* first, so that a buffer * is a pooled * */
    buffer_pool *pool;
    atomic_uint holds;
    struct pooled *next; /* in the pool's list */
    uint64_t idle_since; /* trims seen when it was let go */
} pooled;

struct buffer_pool {
    memory *memory;
    pthread_mutex_t lock;
    pooled *kept; /* last let go first */
    size_t kept_count, kept_bytes;
    uint64_t trims;
};

static size_t round_capacity(size_t wanted)
{
    if (wanted >= BUFFER_STEP_MIN) {
        return (wanted + BUFFER_STEP - 1) / BUFFER_STEP * BUFFER_STEP;
    }
    size_t capacity = BUFFER_MIN;
    while (capacity < wanted) {
        capacity *= 2;
    }
    return capacity;
}

static void destroy(pooled *b)
{
    memory_put(b->pool->memory, b->public.data, b->public.capacity);
    free(b);
}

/* Takes buffers off the list while `enough` is not yet reached; under the lock. Returns them. */
static pooled *unlink_oldest(buffer_pool *pool, size_t bytes_wanted)
{
    pooled *out = NULL;
    size_t bytes = 0;
    while (pool->kept != NULL && bytes < bytes_wanted) {
        pooled **last = &pool->kept;
        while ((*last)->next != NULL) {
            last = &(*last)->next;
        }
        pooled *b = *last;
        *last = NULL;
        pool->kept_count--;
        pool->kept_bytes -= b->public.capacity;
        bytes += b->public.capacity;
        b->next = out;
        out = b;
    }
    return out;
}

static void destroy_list(pooled *list)
{
    while (list != NULL) {
        pooled *next = list->next;
        destroy(list);
        list = next;
    }
}

void buffer_pool_reclaim(buffer_pool *pool, size_t wanted)
{
    pthread_mutex_lock(&pool->lock);
    pooled *list = unlink_oldest(pool, wanted);
    pthread_mutex_unlock(&pool->lock);
    destroy_list(list);
}

static void reclaim(void *context, size_t wanted)
{
    buffer_pool_reclaim(context, wanted);
}

buffer_pool *buffer_pool_create(memory *m)
{
    buffer_pool *pool = calloc(1, sizeof *pool);
    if (pool != NULL) {
        pool->memory = m;
        pthread_mutex_init(&pool->lock, NULL);
        memory_on_pressure(m, reclaim, pool);
    }
    return pool;
}

void buffer_pool_free(buffer_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    memory_drop_hooks(pool->memory);
    buffer_pool_reclaim(pool, SIZE_MAX);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

memory *buffer_pool_memory(buffer_pool *pool)
{
    return pool->memory;
}

void buffer_pool_trim(buffer_pool *pool)
{
    pooled *old = NULL;
    pthread_mutex_lock(&pool->lock);
    pool->trims++;
    for (pooled **link = &pool->kept; *link != NULL;) {
        pooled *b = *link;
        if (pool->trims - b->idle_since > 1) {
            *link = b->next;
            pool->kept_count--;
            pool->kept_bytes -= b->public.capacity;
            b->next = old;
            old = b;
        } else {
            link = &b->next;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    destroy_list(old);
}

/* A kept buffer that fits without much waste, or NULL. */
static pooled *find_kept(buffer_pool *pool, size_t capacity)
{
    const size_t most = capacity + capacity / BUFFER_WASTE_DIV;
    pooled *found = NULL;
    pthread_mutex_lock(&pool->lock);
    for (pooled **link = &pool->kept; *link != NULL; link = &(*link)->next) {
        if ((*link)->public.capacity >= capacity && (*link)->public.capacity <= most) {
            found = *link;
            *link = found->next;
            pool->kept_count--;
            pool->kept_bytes -= found->public.capacity;
            break;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return found;
}

buffer *buffer_get(buffer_pool *pool, size_t wanted)
{
    if (wanted > SIZE_MAX / 2) {
        return NULL;
    }
    const size_t capacity = round_capacity(wanted);
    pooled *b = find_kept(pool, capacity);
    if (b == NULL) {
        b = calloc(1, sizeof *b);
        if (b == NULL) {
            return NULL;
        }
        b->pool = pool;
        b->public.capacity = capacity;
        b->public.data = capacity == BUFFER_MIN ? memory_get_beyond(pool->memory, capacity)
                                                : memory_get(pool->memory, capacity);
        if (b->public.data == NULL) {
            free(b);
            return NULL;
        }
    }
    b->public.length = 0;
    atomic_store(&b->holds, 1);
    return &b->public;
}

buffer *buffer_hold(buffer *b)
{
    atomic_fetch_add(&((pooled *)b)->holds, 1);
    return b;
}

void buffer_drop(buffer *public)
{
    pooled *b = (pooled *)public;
    if (b == NULL || atomic_fetch_sub(&b->holds, 1) != 1) {
        return;
    }
    buffer_pool *pool = b->pool;
    pthread_mutex_lock(&pool->lock);
    const bool keep =
        pool->kept_count < BUFFER_KEEP_MAX &&
        pool->kept_bytes + b->public.capacity <= memory_limit(pool->memory) / BUFFER_KEEP_DIV;
    if (keep) {
        b->idle_since = pool->trims;
        b->next = pool->kept;
        pool->kept = b;
        pool->kept_count++;
        pool->kept_bytes += b->public.capacity;
    }
    pthread_mutex_unlock(&pool->lock);
    if (!keep) {
        destroy(b);
    }
}

/* ---- text ---- */

char *text_reserve(text *t, size_t length)
{
    if (t->failed) {
        return NULL;
    }
    const size_t used = t->buffer != NULL ? t->buffer->length : 0;
    if (t->buffer == NULL || t->buffer->capacity - used < length) {
        buffer *bigger = buffer_get(t->pool, used + used / 2 + length);
        if (bigger == NULL) {
            t->failed = true;
            return NULL;
        }
        if (t->buffer != NULL) {
            memcpy(bigger->data, t->buffer->data, used);
            bigger->length = used;
            buffer_drop(t->buffer);
        }
        t->buffer = bigger;
    }
    return t->buffer->data + t->buffer->length;
}

void text_advance(text *t, size_t length)
{
    t->buffer->length += length;
}

void text_add(text *t, const char *bytes, size_t length)
{
    char *to = text_reserve(t, length);
    if (to != NULL) {
        memcpy(to, bytes, length);
        text_advance(t, length);
    }
}

void text_add_string(text *t, const char *string)
{
    text_add(t, string, strlen(string));
}

void text_add_format(text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    const int length = vsnprintf(NULL, 0, format, args);
    char *to = text_reserve(t, (size_t)length + 1);
    if (to != NULL) {
        (void)vsnprintf(to, (size_t)length + 1, format, again);
        text_advance(t, (size_t)length);
    }
    va_end(again);
    va_end(args);
}

size_t text_length(const text *t)
{
    return t->buffer != NULL ? t->buffer->length : 0;
}

void text_drop(text *t)
{
    buffer_drop(t->buffer);
    t->buffer = NULL;
}
