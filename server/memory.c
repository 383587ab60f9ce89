/* memory.c: the budget, and where its memory comes from. Keeps nothing for reuse: buffer.c does. */
#include "memory.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MEMORY_ALIGNMENT ((size_t)64)
#define MEMORY_HEAP_MORE ((size_t)64) /* that the heap takes beside a block, to align it */
#define MEMORY_PAGE      ((size_t)4096)
#define MEMORY_MAP_MIN   ((size_t)128 << 10) /* from here on, memory is mapped */
#define MEMORY_HUGE_PAGE ((size_t)2 << 20)
#define MEMORY_TRIM_MIN  ((size_t)4 << 20) /* freed in the heap, to be worth a trim */

typedef struct hook {
    void (*reclaim)(void *context, size_t wanted);
    void *context;
} hook;

struct memory {
    size_t limit;
    atomic_size_t used;
    atomic_size_t heap_freed; /* since the last trim */
    hook hooks[MEMORY_MAX_HOOKS];
    unsigned n_hooks;
};

memory *memory_create(size_t limit)
{
    memory *m = calloc(1, sizeof *m);
    if (m != NULL) {
        m->limit = limit;
    }
    return m;
}

void memory_free(memory *m)
{
    free(m);
}

void memory_on_pressure(memory *m, void (*reclaim)(void *context, size_t wanted), void *context)
{
    m->hooks[m->n_hooks++] = (hook){reclaim, context};
}

void memory_drop_hooks(memory *m)
{
    m->n_hooks = 0;
}

size_t memory_limit(const memory *m)
{
    return m->limit;
}

size_t memory_used(const memory *m)
{
    return atomic_load(&m->used);
}

static bool try_take(memory *m, size_t limit, size_t bytes)
{
    size_t used = atomic_load(&m->used);
    do {
        if (bytes > limit || used > limit - bytes) { /* used may be past the limit */
            return false;
        }
    } while (!atomic_compare_exchange_weak(&m->used, &used, used + bytes));
    return true;
}

static bool take(memory *m, size_t bytes)
{
    bool taken = try_take(m, m->limit, bytes);
    for (unsigned i = 0; !taken && bytes <= m->limit && i < m->n_hooks; i++) {
        m->hooks[i].reclaim(m->hooks[i].context, bytes);
        taken = try_take(m, m->limit, bytes);
    }
    return taken;
}

static bool is_mapped(size_t bytes)
{
    return bytes >= MEMORY_MAP_MIN;
}

/* What a block of that size takes from the machine. */
static size_t booked(size_t bytes)
{
    const size_t unit = is_mapped(bytes) ? MEMORY_PAGE : MEMORY_ALIGNMENT;
    const size_t rounded = (bytes + unit - 1) / unit * unit;
    return is_mapped(bytes) ? rounded : rounded + MEMORY_HEAP_MORE;
}

static void *map(size_t bytes)
{
    void *block = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) {
        return NULL;
    }
    if (bytes >= MEMORY_HUGE_PAGE) {
        (void)madvise(block, bytes, MADV_HUGEPAGE); /* advice: without it, all is only slower */
    }
    return block;
}

/* A block of the heap, aligned by hand: aligned_alloc passes by malloc's caches and leaves holes.
 * The byte before the block says how far behind malloc's own it begins. */
static void *heap_get(size_t bytes)
{
    char *own = malloc(bytes + MEMORY_ALIGNMENT);
    if (own == NULL) {
        return NULL;
    }
    const size_t behind = MEMORY_ALIGNMENT - (uintptr_t)own % MEMORY_ALIGNMENT;
    own[behind - 1] = (char)behind;
    return own + behind;
}

static void heap_put(void *block)
{
    char *at = block;
    free(at - at[-1]);
}

/* A block whose bytes are booked already; where there is none, the booking is undone. */
static void *get_booked(memory *m, size_t bytes)
{
    void *block = is_mapped(bytes) ? map(bytes) : heap_get(bytes);
    if (block == NULL) {
        atomic_fetch_sub(&m->used, booked(bytes));
    }
    return block;
}

void *memory_get(memory *m, size_t bytes)
{
    if (bytes > SIZE_MAX / 2 || !take(m, booked(bytes))) {
        return NULL;
    }
    return get_booked(m, bytes);
}

void *memory_get_spare(memory *m, size_t bytes, size_t leave)
{
    if (bytes > SIZE_MAX / 2 || leave > m->limit || !try_take(m, m->limit - leave, booked(bytes))) {
        return NULL;
    }
    return get_booked(m, bytes);
}

void *memory_get_beyond(memory *m, size_t bytes)
{
    atomic_fetch_add(&m->used, booked(bytes));
    return get_booked(m, bytes);
}

void *memory_get_zeroed(memory *m, size_t bytes)
{
    void *block = memory_get(m, bytes);
    return block == NULL || is_mapped(bytes) ? block : memset(block, 0, bytes);
}

void memory_put(memory *m, void *block, size_t bytes)
{
    if (block == NULL) {
        return;
    }
    if (is_mapped(bytes)) {
        (void)munmap(block, bytes);
    } else {
        heap_put(block);
        atomic_fetch_add(&m->heap_freed, bytes);
    }
    atomic_fetch_sub(&m->used, booked(bytes));
}

void memory_trim(memory *m)
{
    if (atomic_load(&m->heap_freed) >= MEMORY_TRIM_MIN) {
        atomic_store(&m->heap_freed, 0);
        (void)malloc_trim(0);
    }
}
