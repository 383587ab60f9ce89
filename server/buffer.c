/* buffer.c: the pool of reused buffers, and growing text. Knows bytes, not what they mean.
 *
 * Capacities are powers of two below 1 MiB, and multiples of 64 KiB above, so that the bodies of
 * one model's steps find each other's buffers and no large one is rounded up by much. Each of the
 * powers has a list of its own, where the first fits; the large ones share a list that is searched.
 */
#include "buffer.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_STEP_MIN  ((size_t)1 << 20) /* from here on, classes are BUFFER_STEP apart */
#define BUFFER_STEP      ((size_t)64 << 10)
#define BUFFER_WASTE_DIV 8  /* a kept buffer serves a wish down to 7/8 of it */
#define BUFFER_KEEP_DIV  4  /* at most this part of the budget is kept for reuse */
#define BUFFER_KEEP_MAX  64 /* buffers kept */
#define BUFFER_POWERS    8  /* 4 KiB to 512 KiB */
#define BUFFER_LISTS     (BUFFER_POWERS + 1)
#define BUFFER_OWN_MAX   8  /* of the smallest kept by each thread, */
#define BUFFER_OWN_DIV   16 /* while all threads together keep at most this part of the budget */

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
    pooled *kept[BUFFER_LISTS]; /* by capacity, large ones last; in each, last let go first */
    size_t kept_count, kept_bytes;
    uint64_t trims;
    atomic_uint owners; /* threads that may keep buffers of their own */
    unsigned most_owners;
};

/* The smallest buffers that a thread let go, for itself alone: a small request takes several, and
 * would meet other threads at the pool's lock each time. They stay in the budget, where no other
 * thread can have them given back: so only as many threads keep any as it can spare them for. */
static _Thread_local struct {
    buffer_pool *pool; /* of which the thread is an owner, or NULL */
    pooled *first;
    unsigned count;
} own;
static pthread_key_t own_key; /* for its destructor */
static bool own_works;
static pthread_once_t own_once = PTHREAD_ONCE_INIT;

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

/* The list for buffers of a capacity. */
static pooled **list_of(buffer_pool *pool, size_t capacity)
{
    size_t list = 0;
    while (list < BUFFER_POWERS && BUFFER_MIN << list < capacity) {
        list++;
    }
    return &pool->kept[list];
}

static void destroy(pooled *b)
{
    memory_put(b->pool->memory, b->public.data, b->public.capacity);
    free(b);
}

/* Takes the buffer that a link leads to off its list; under the lock. */
static pooled *unlink_kept(buffer_pool *pool, pooled **link)
{
    pooled *b = *link;
    *link = b->next;
    pool->kept_count--;
    pool->kept_bytes -= b->public.capacity;
    return b;
}

/* Takes buffers off the lists, the largest first and of those the ones that were let go longest
 * ago, while `bytes_wanted` is not yet reached; under the lock. Returns them. */
static pooled *unlink_oldest(buffer_pool *pool, size_t bytes_wanted)
{
    pooled *out = NULL;
    size_t bytes = 0;
    for (size_t list = BUFFER_LISTS; list-- > 0;) {
        while (pool->kept[list] != NULL && bytes < bytes_wanted) {
            pooled **last = &pool->kept[list];
            while ((*last)->next != NULL) {
                last = &(*last)->next;
            }
            pooled *b = unlink_kept(pool, last);
            bytes += b->public.capacity;
            b->next = out;
            out = b;
        }
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

static void destroy_own(void *unused)
{
    (void)unused;
    buffer_pool *pool = own.pool;
    pooled *list = own.first;
    own.pool = NULL;
    own.first = NULL;
    own.count = 0;
    destroy_list(list);
    if (pool != NULL) {
        atomic_fetch_sub(&pool->owners, 1);
    }
}

static void make_own_key(void)
{
    own_works = pthread_key_create(&own_key, destroy_own) == 0;
}

/* Lets the thread keep buffers of the pool, if the budget can spare them. */
static bool become_owner(buffer_pool *pool)
{
    unsigned owners = atomic_load(&pool->owners);
    do {
        if (owners >= pool->most_owners) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&pool->owners, &owners, owners + 1));
    (void)pthread_once(&own_once, make_own_key);
    if (!own_works || pthread_setspecific(own_key, &own) != 0) { /* or no destructor is called */
        atomic_fetch_sub(&pool->owners, 1);
        return false;
    }
    own.pool = pool;
    return true;
}

/* A buffer of the thread's own, or NULL. */
static pooled *take_own(buffer_pool *pool)
{
    pooled *b = own.pool == pool ? own.first : NULL;
    if (b != NULL) {
        own.first = b->next;
        own.count--;
    }
    return b;
}

static bool keep_own(pooled *b)
{
    if (b->public.capacity != BUFFER_MIN || own.count == BUFFER_OWN_MAX) {
        return false;
    }
    if (own.pool != b->pool && (own.pool != NULL || !become_owner(b->pool))) {
        return false;
    }
    b->next = own.first;
    own.first = b;
    own.count++;
    return true;
}

void buffer_pool_reclaim(buffer_pool *pool, size_t wanted)
{
    if (own.pool == pool) {
        destroy_own(NULL);
    }
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
        const size_t owners = memory_limit(m) / BUFFER_OWN_DIV / (BUFFER_OWN_MAX * BUFFER_MIN);
        pool->memory = m;
        pool->most_owners = owners < UINT_MAX ? (unsigned)owners : UINT_MAX;
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
    for (size_t list = 0; list < BUFFER_LISTS; list++) {
        for (pooled **link = &pool->kept[list]; *link != NULL;) {
            if (pool->trims - (*link)->idle_since > 1) {
                pooled *b = unlink_kept(pool, link);
                b->next = old;
                old = b;
            } else {
                link = &(*link)->next;
            }
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
    for (pooled **link = list_of(pool, capacity); *link != NULL; link = &(*link)->next) {
        if ((*link)->public.capacity >= capacity && (*link)->public.capacity <= most) {
            found = unlink_kept(pool, link);
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
    pooled *b = capacity == BUFFER_MIN ? take_own(pool) : NULL;
    if (b == NULL) {
        b = find_kept(pool, capacity);
    }
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
    if (b == NULL || atomic_fetch_sub(&b->holds, 1) != 1 || keep_own(b)) {
        return;
    }
    buffer_pool *pool = b->pool;
    pthread_mutex_lock(&pool->lock);
    const bool keep =
        pool->kept_count < BUFFER_KEEP_MAX &&
        pool->kept_bytes + b->public.capacity <= memory_limit(pool->memory) / BUFFER_KEEP_DIV;
    if (keep) {
        b->idle_since = pool->trims;
        pooled **list = list_of(pool, b->public.capacity);
        b->next = *list;
        *list = b;
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

void text_add_more(text *t, const char *bytes, size_t length)
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

void text_add_uint(text *t, uint64_t value)
{
    char digits[20]; /* of 2^64 */
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    text_add(t, digits + at, sizeof digits - at);
}

void text_add_format(text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    const size_t room =
        t->buffer != NULL && !t->failed ? t->buffer->capacity - t->buffer->length : 0;
    char *to = room > 0 ? t->buffer->data + t->buffer->length : NULL;
    const size_t length = (size_t)vsnprintf(to, room, format, args);
    if (length >= room) {
        to = text_reserve(t, length + 1);
        if (to != NULL) {
            (void)vsnprintf(to, length + 1, format, again);
        }
    }
    if (to != NULL) {
        text_advance(t, length);
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
