/* reduce.c: the gradients of several workers made one. Knows tensors, not optimizers or workers.
 *
 * Work goes in chunks: the sums of one stay in the first cache while the sources are read, a few of
 * them at a time. */
#include "adam/reduce.h"

#include "kernel.h"
#include "pool_run.h"

/* Elements of a chunk. Measured with 8 sources: 1024 to 8192 take the same time. */
#define CHUNK ((uint64_t)2048)

/* Chunks times sources below which it is not worth waking threads, and the parts that the work is
 * cut into: every part looks through the items for its beginning. */
#define POOL_MIN_WORK  128
#define POOL_MAX_PARTS 256

typedef struct job {
    const adam_reduce_item *items;
    size_t n_items, n_parts;
    uint64_t n_chunks;
    const adam_kernel *kernel;
} job;

/* Where a chunk lies in its item. */
typedef struct span {
    const adam_reduce_item *item;
    uint64_t first;
    size_t n;
} span;

/* Room for sources of another type, of one chunk. */
typedef struct conversions {
    _Alignas(64) char bytes[ADAM_KERNEL_TERMS][CHUNK * sizeof(double)];
} conversions;

static uint64_t chunks_of(const adam_reduce_item *item)
{
    return (item->numel + CHUNK - 1) / CHUNK;
}

/* What the sum is divided by; 1: nothing. */
static double divisor_of(const adam_reduce_item *item)
{
    double weights = 0;
    switch (item->reduction) {
    case ADAM_REDUCE_SUM: return 1;
    case ADAM_REDUCE_MEAN: return (double)item->n;
    case ADAM_REDUCE_WEIGHTED: break;
    }
    for (size_t k = 0; k < item->n; k++) {
        weights += item->sources[k].weight;
    }
    return weights;
}

/* The source in the item's type: where it is, or converted to `room`. */
static const void *source_at(const span *s, size_t k, char *room)
{
    const adam_source *source = &s->item->sources[k];
    const char *data = source->data;
    data += s->first * adam_dtype_size(source->dtype);
    if (source->dtype == s->item->dtype) {
        return data;
    }
    adam_convert(s->item->dtype, room, source->dtype, data, s->n);
    return room;
}

/* `room` is not touched where every source has the item's type. */
static void reduce_with(const job *j, const span *s, double divisor, conversions *room)
{
    const adam_reduce_item *item = s->item;
    const bool f64 = item->dtype == ADAM_FLOAT64;
    const size_t offset = s->first * adam_dtype_size(item->dtype);
    adam_kernel_reduce_fn *reduce = f64 ? j->kernel->reduce_f64 : j->kernel->reduce_f32;
    adam_terms terms = {
        .base = item->base != NULL ? (const char *)item->base + offset : NULL,
        .weighted = item->reduction == ADAM_REDUCE_WEIGHTED && item->n > 1,
        .divisor = divisor,
    };
    for (size_t done = 0; done < item->n; done += terms.n) {
        const size_t left = item->n - done;
        terms.n = left < ADAM_KERNEL_TERMS ? left : ADAM_KERNEL_TERMS;
        terms.continues = done > 0;
        terms.divides = terms.n == left && item->n > 1 && item->reduction != ADAM_REDUCE_SUM;
        for (size_t k = 0; k < terms.n; k++) {
            terms.x[k] = source_at(s, done + k, room != NULL ? room->bytes[k] : NULL);
            terms.weight[k] = item->sources[done + k].weight;
        }
        reduce(&terms, (char *)item->out + offset, s->n);
    }
}

static __attribute__((noinline)) void reduce_converted(const job *j, const span *s, double divisor)
{
    conversions room;
    reduce_with(j, s, divisor, &room);
}

static bool converts(const adam_reduce_item *item)
{
    for (size_t k = 0; k < item->n; k++) {
        if (item->sources[k].dtype != item->dtype) {
            return true;
        }
    }
    return false;
}

/* Chunks first .. end - 1 of an item. */
static void reduce_item(const job *j, const adam_reduce_item *item, uint64_t first, uint64_t end)
{
    const bool convert = converts(item);
    const double divisor = divisor_of(item);
    for (uint64_t chunk = first; chunk < end; chunk++) {
        span s = {.item = item, .first = chunk * CHUNK};
        const uint64_t left = item->numel - s.first;
        s.n = (size_t)(left < CHUNK ? left : CHUNK);
        if (convert) {
            reduce_converted(j, &s, divisor);
        } else {
            reduce_with(j, &s, divisor, NULL);
        }
    }
}

/* The chunks of one part, which may be those of many items, or some of one. */
static void reduce_part(void *context, size_t part)
{
    const job *j = context;
    const uint64_t each = j->n_chunks / j->n_parts;
    const uint64_t more = j->n_chunks % j->n_parts; /* of the first parts, one chunk */
    const uint64_t first = each * part + (part < more ? part : more);
    const uint64_t end = first + each + (part < more);
    uint64_t before = 0; /* chunks of the items passed */
    for (size_t i = 0; i < j->n_items && before < end; i++) {
        const uint64_t after = before + chunks_of(&j->items[i]);
        if (after > first) {
            reduce_item(j, &j->items[i], (before > first ? before : first) - before,
                        (after < end ? after : end) - before);
        }
        before = after;
    }
}

void adam_reduce(const adam_reduce_item *items, size_t n_items, adam_pool *pool)
{
    job j = {.items = items, .n_items = n_items, .kernel = adam_kernel_get()};
    uint64_t work = 0;
    for (size_t i = 0; i < n_items; i++) {
        const uint64_t chunks = chunks_of(&items[i]);
        j.n_chunks += chunks;
        work += chunks * items[i].n;
    }
    const bool pooled = pool != NULL && work >= POOL_MIN_WORK;
    j.n_parts = !pooled ? 1 : j.n_chunks < POOL_MAX_PARTS ? (size_t)j.n_chunks : POOL_MAX_PARTS;
    adam_pool_run(pool, j.n_parts, reduce_part, &j);
}
