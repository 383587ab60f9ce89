/* quartet.c: see quartet.h. */
#include "quartet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SKIP 77 /* ctest's SKIP_RETURN_CODE */

const size_t quartet_sizes[QUARTET] = {40003, 5, 33, 20000};
const adam_dtype quartet_f32[QUARTET] = {ADAM_FLOAT32, ADAM_FLOAT32, ADAM_FLOAT32, ADAM_FLOAT32};
const adam_dtype quartet_f64[QUARTET] = {ADAM_FLOAT64, ADAM_FLOAT64, ADAM_FLOAT64, ADAM_FLOAT64};
const adam_dtype quartet_mixed[QUARTET] = {ADAM_FLOAT32, ADAM_FLOAT64, ADAM_FLOAT32, ADAM_FLOAT64};
static const char *const names[QUARTET] = {"a", "b", "c", "d"};

quartet quartet_room(const adam_dtype *types)
{
    quartet q;
    for (size_t i = 0; i < QUARTET; i++) {
        const size_t bytes = quartet_sizes[i] * adam_dtype_size(types[i]);
        void *data = malloc(bytes);
        assert_non_null(data);
        memset(data, 0x5a, bytes);
        q.tensors[i] = vector_of(names[i], types[i], quartet_sizes[i], data);
    }
    return q;
}

quartet quartet_convert(const quartet *from, const adam_dtype *types)
{
    quartet q = quartet_room(types);
    for (size_t i = 0; i < QUARTET; i++) {
        adam_convert(types[i], q.tensors[i].data, from->tensors[i].dtype, from->tensors[i].data,
                     quartet_sizes[i]);
    }
    return q;
}

quartet quartet_make(const adam_dtype *types, uint64_t seed)
{
    quartet wide = quartet_room(quartet_f64);
    for (size_t i = 0; i < QUARTET; i++) {
        fill_random(ADAM_FLOAT64, wide.tensors[i].data, quartet_sizes[i], seed * QUARTET + i);
    }
    const quartet q = quartet_convert(&wide, types);
    quartet_drop(&wide);
    return q;
}

void quartet_drop(quartet *q)
{
    for (size_t i = 0; i < QUARTET; i++) {
        free(q->tensors[i].data);
        q->tensors[i].data = NULL;
    }
}

static char *element(const quartet *q, size_t tensor, size_t i)
{
    assert_true(i < quartet_sizes[tensor]);
    return (char *)q->tensors[tensor].data + i * adam_dtype_size(q->tensors[tensor].dtype);
}

double quartet_get(const quartet *q, size_t tensor, size_t i)
{
    double value;
    adam_convert(ADAM_FLOAT64, &value, q->tensors[tensor].dtype, element(q, tensor, i), 1);
    return value;
}

void quartet_set(quartet *q, size_t tensor, size_t i, double value)
{
    adam_convert(q->tensors[tensor].dtype, element(q, tensor, i), ADAM_FLOAT64, &value, 1);
}

adam_optimizer *quartet_optimizer(const adam_dtype *types, const adam_allocator *allocator)
{
    quartet values = quartet_make(types, 1);
    adam_group_spec groups[2] = {{.params = values.tensors, .n_params = 2},
                                 {.params = values.tensors + 2, .n_params = 2}};
    for (int i = 0; i < 2; i++) {
        adam_options_default(ADAM_ALGORITHM_ADAMW, &groups[i].options);
    }
    groups[1].options.amsgrad = true;
    groups[1].options.lr = 0.02;
    adam_optimizer *o = NULL;
    assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAMW, groups, 2, allocator, &o, NULL),
                     ADAM_OK);
    quartet_drop(&values);
    return o;
}

adam_step_stats quartet_step(adam_optimizer *o, const quartet *grads,
                             const adam_grad_options *options, adam_pool *pool)
{
    adam_error error;
    adam_step_stats stats = {0};
    const adam_step_args args = {
        .grads = grads->tensors, .n_grads = QUARTET, .grad_options = options, .pool = pool};
    if (adam_optimizer_step(o, &args, &stats, &error) != ADAM_OK) {
        fail_msg("step: %s", error.message);
    }
    return stats;
}

adam_grad_options grad_defaults(void)
{
    adam_grad_options options;
    adam_grad_options_default(&options);
    return options;
}

int run_on_kernel(int (*run)(void))
{
    adam_error error;
    if (adam_kernel_check(&error) != ADAM_OK) {
        (void)printf("skipped: %s\n", error.message);
        return SKIP;
    }
    (void)printf("kernel %s\n", adam_kernel_name());
    return run();
}
