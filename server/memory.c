/* memory.c: the budget, and where its memory comes from. Keeps nothing for reuse: buffer.c does. */
#include "memory.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MEMORY_ALIGNMENT ((size_t)64)
#define MEMORY_MAP_MIN   ((size_t)1 << 20) /* from here on, memory is mapped */
#define MEMORY_HUGE_PAGE ((size_t)2 << 20)

struct memory {
    size_t limit;
    atomic_size_t used;
    void (*reclaim)(void *context, size_t wanted);
    void *reclaim_context;
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
    m->reclaim = reclaim;
    m->reclaim_context = context;
}

size_t memory_limit(const memory *m)
{
    return m->limit;
}

size_t memory_used(const memory *m)
{
    return atomic_load(&m->used);
}

static bool try_take(memory *m, size_t bytes)
{
    size_t used = atomic_load(&m->used);
    do {
        if (bytes > m->limit || used > m->limit - bytes) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&m->used, &used, used + bytes));
    return true;
}

static bool take(memory *m, size_t bytes)
{
    if (try_take(m, bytes)) {
        return true;
    }
    if (m->reclaim == NULL || bytes > m->limit) {
        return false;
    }
    m->reclaim(m->reclaim_context, bytes);
    return try_take(m, bytes);
}

/* Mapped memory starts on a huge page where it holds one, so that the advice can be followed. */
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

static void *get(memory *m, size_t bytes, bool zeroed)
{
    if (!take(m, bytes)) {
        return NULL;
    }
    void *block;
    if (bytes >= MEMORY_MAP_MIN) {
        block = map(bytes);
    } else {
        const size_t rounded = (bytes + MEMORY_ALIGNMENT - 1) / MEMORY_ALIGNMENT * MEMORY_ALIGNMENT;
        block = aligned_alloc(MEMORY_ALIGNMENT, rounded > 0 ? rounded : MEMORY_ALIGNMENT);
        if (block != NULL && zeroed) {
            memset(block, 0, bytes);
        }
    }
    if (block == NULL) {
        atomic_fetch_sub(&m->used, bytes);
    }
    return block;
}

void *memory_get(memory *m, size_t bytes)
{
    return get(m, bytes, false);
}

void *memory_get_zeroed(memory *m, size_t bytes)
{
    return get(m, bytes, true);
}

void memory_put(memory *m, void *block, size_t bytes)
{
    if (block == NULL) {
        return;
    }
    if (bytes >= MEMORY_MAP_MIN) {
        (void)munmap(block, bytes);
    } else {
        free(block);
    }
    atomic_fetch_sub(&m->used, bytes);
}
