/* reduce.h: the gradients of several workers made one, to the bit as docs/numerics.md says. */
#ifndef ADAM_REDUCE_H
#define ADAM_REDUCE_H

#include "adam/pool.h"
#include "adam/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum adam_reduction {
    ADAM_REDUCE_MEAN,     /* the sum over the number of sources */
    ADAM_REDUCE_SUM,      /* the sum */
    ADAM_REDUCE_WEIGHTED, /* the sum of weight times source, over the sum of the weights */
} adam_reduction;

/* What one worker sent for a tensor. */
typedef struct adam_source {
    const void *data;
    adam_dtype dtype; /* any: another than the result's is converted first (adam_convert) */
    double weight;    /* finite, > 0; read by ADAM_REDUCE_WEIGHTED alone */
} adam_source;

/* One tensor to be made of its sources: out[i] is the reduction of sources[k][i] over k, or with
 * `base` of base[i] - sources[k][i]. Added in the order of the sources, every operation rounded to
 * the tensor's type; one source alone is taken as it is, whatever it weighs. All data may be at any
 * alignment. */
typedef struct adam_reduce_item {
    void *out;
    adam_dtype dtype; /* FLOAT32 or FLOAT64 */
    uint64_t numel;
    const adam_source *sources;
    size_t n; /* of sources, >= 1 */
    adam_reduction reduction;
    const void *base; /* NULL: none; of the same dtype */
} adam_reduce_item;

/* Reduces all items on the pool's threads (NULL: the calling one alone); cannot fail. An item's
 * `out` may be the data of its sources[0] where that has the item's dtype, and overlaps nothing
 * else. */
void adam_reduce(const adam_reduce_item *items, size_t n_items, adam_pool *pool);

#ifdef __cplusplus
}
#endif

#endif
