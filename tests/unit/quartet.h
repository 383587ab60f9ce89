/* quartet.h: four tensors for the tests of what is done with gradients: of any types, over several
 * chunks, in two groups. */
#ifndef ADAM_TEST_QUARTET_H
#define ADAM_TEST_QUARTET_H

#include "support.h"

/* "a" [40003] and "b" [5] in group 0, "c" [33] and "d" [20000] in group 1. */
#define QUARTET 4
extern const size_t quartet_sizes[QUARTET];

/* Types of all four: float32, float64, and each once. */
extern const adam_dtype quartet_f32[QUARTET], quartet_f64[QUARTET], quartet_mixed[QUARTET];

typedef struct quartet {
    adam_tensor tensors[QUARTET];
} quartet;

/* Random numbers of these types; the data is the caller's, for quartet_drop. */
quartet quartet_make(const adam_dtype *types, uint64_t seed);
/* The same numbers in other types, by adam_convert. */
quartet quartet_convert(const quartet *from, const adam_dtype *types);
/* Room of these types, filled with a pattern. */
quartet quartet_room(const adam_dtype *types);
void quartet_drop(quartet *q);

/* An element as a double, and setting it from one. */
double quartet_get(const quartet *q, size_t tensor, size_t i);
void quartet_set(quartet *q, size_t tensor, size_t i, double value);

/* AdamW over such parameters, from a seed: group 1 has amsgrad and another lr. */
adam_optimizer *quartet_optimizer(const adam_dtype *types, const adam_allocator *allocator);

/* A step that must succeed. `options` NULL: the optimizer's own. */
adam_step_stats quartet_step(adam_optimizer *o, const quartet *grads,
                             const adam_grad_options *options, adam_pool *pool);

adam_grad_options grad_defaults(void);

/* Runs the tests, or says with 77 that the kernel of ADAM_KERNEL cannot run here. */
int run_on_kernel(int (*run)(void));

#endif
