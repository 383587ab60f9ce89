/* support.h: what the core's tests share: tensors from literals, an allocator that counts and
 * fails, and images that show whether anything changed. Asserts with cmocka. */
#ifndef ADAM_TEST_SUPPORT_H
#define ADAM_TEST_SUPPORT_H

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include "adam/adam.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ---- tensors ---- */

/* A tensor of rank 1 with a terminated name. */
adam_tensor vector_of(const char *name, adam_dtype dtype, uint64_t n, void *data);

/* A tensor of any shape, without data. */
adam_tensor shaped(const char *name, int rank, const uint64_t *shape);

/* n numbers of either type in about -2 .. 2, from a seed; never 0. */
void fill_random(adam_dtype dtype, void *data, size_t n, uint64_t seed);

/* ---- memory ---- */

/* Counts what is out; refuses request number `fail_at` (from 1) and all after it; 0: none. */
typedef struct heap {
    size_t requests, fail_at;
    size_t live_blocks, live_bytes;
} heap;

/* Gives blocks of exactly the size asked for, and holds the size that comes back against it. */
adam_allocator heap_allocator(heap *h);

/* ---- optimizers ---- */

/* The optimizer of most tests, Adam with torch's defaults and lr 0.1:
 * group 0: "a" float32 [3], "b" float64 [2, 2]; group 1: "c" float32 [] (a scalar), "d" float32
 * [0]. All values come from fill_random. amsgrad in group 1 only. */
adam_optimizer *make_small(const adam_allocator *allocator);
#define SMALL_PARAMS 4

/* Gradients for all parameters of make_small, held by the caller. */
typedef struct small_grads {
    float a[3];
    double b[4];
    float c[1], d[1];
    adam_tensor tensors[SMALL_PARAMS];
} small_grads;
void fill_small_grads(small_grads *grads, uint64_t seed);

/* One step with all of them; asserts that it succeeds. */
void step_small(adam_optimizer *optimizer, uint64_t seed);

/* ---- images ---- */

/* Everything that the interface shows of an optimizer, as bytes, but the number of skipped steps.
 */
typedef struct image {
    unsigned char *bytes;
    size_t length;
} image;

image image_take(const adam_optimizer *optimizer);
/* Fails the test where the optimizer is not as it was; frees the image. */
void assert_unchanged(image before, const adam_optimizer *optimizer);
/* The same for two optimizers. */
void assert_same(const adam_optimizer *a, const adam_optimizer *b);

#endif
