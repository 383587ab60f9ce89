/* optimizer.c: creation, param groups, look-up and views. Leaves steps to step.c, overwriting to
 * state.c. */
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "kernel.h"
#include "optimizer_internal.h"

#define ALIGNMENT ((size_t)64)

static void *libc_alloc(void *context, size_t bytes)
{
    (void)context;
    void *memory = aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    return memory == NULL ? NULL : memset(memory, 0, bytes);
}

static void libc_release(void *context, void *memory, size_t bytes)
{
    (void)context;
    (void)bytes;
    free(memory);
}

bool adam_block_get(adam_optimizer *o, size_t bytes, adam_block *block)
{
    *block = (adam_block){0};
    if (bytes == 0) {
        return true;
    }
    void *memory = o->allocator.alloc(o->allocator.context, bytes);
    if (memory == NULL) {
        return false;
    }
    *block = (adam_block){memory, bytes};
    o->bytes += bytes;
    return true;
}

void adam_block_put(adam_optimizer *o, adam_block *block)
{
    if (block->memory != NULL) {
        o->allocator.release(o->allocator.context, block->memory, block->bytes);
        o->bytes -= block->bytes;
        *block = (adam_block){0};
    }
}

/* ---- look-up ---- */

static int compare_names(const char *a, size_t a_len, const char *b, size_t b_len)
{
    const int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

static int compare_by_name(const void *a, const void *b, void *params)
{
    const adam_tensor *x = &((const adam_param *)params)[*(const size_t *)a].tensor;
    const adam_tensor *y = &((const adam_param *)params)[*(const size_t *)b].tensor;
    return compare_names(x->name, x->name_len, y->name, y->name_len);
}

bool adam_optimizer_find(const adam_optimizer *o, const char *name, size_t name_len, size_t *param)
{
    size_t low = 0;
    size_t high = o->n_params;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const adam_tensor *t = &o->params[o->by_name[middle]].tensor;
        const int order = compare_names(name, name_len, t->name, t->name_len);
        if (order == 0) {
            *param = o->by_name[middle];
            return true;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return false;
}

adam_status adam_optimizer_match_shape(const adam_optimizer *o, const adam_tensor *tensor,
                                       const char *what, size_t *param, adam_error *error)
{
    if (!adam_optimizer_find(o, tensor->name, tensor->name_len, param)) {
        adam_error_set(error, ADAM_UNKNOWN_PARAM,
                       "%s of '%.*s': the optimizer has no such parameter", what,
                       (int)tensor->name_len, tensor->name);
        adam_error_param(error, tensor->name, tensor->name_len);
        return ADAM_UNKNOWN_PARAM;
    }
    const adam_tensor *own = &o->params[*param].tensor;
    return adam_shape_equal(own->rank, own->shape, tensor->rank, tensor->shape)
               ? ADAM_OK
               : adam_error_shapes(error, what, own, tensor);
}

adam_status adam_optimizer_match(const adam_optimizer *o, const adam_tensor *tensor,
                                 const char *what, size_t *param, adam_error *error)
{
    adam_status st = adam_optimizer_match_shape(o, tensor, what, param, error);
    const adam_tensor *own = st == ADAM_OK ? &o->params[*param].tensor : NULL;
    if (own != NULL && own->dtype != tensor->dtype) {
        adam_error_set(error, ADAM_DTYPE_MISMATCH, "%s of '%s' has dtype %s, expected %s", what,
                       own->name, adam_dtype_name(tensor->dtype), adam_dtype_name(own->dtype));
        adam_error_param(error, own->name, own->name_len);
        return ADAM_DTYPE_MISMATCH;
    }
    return st;
}

adam_status adam_optimizer_sort_names(adam_optimizer *o, adam_error *error)
{
    for (size_t i = 0; i < o->n_params; i++) {
        o->by_name[i] = i;
    }
    if (o->n_params > 1) {
        qsort_r(o->by_name, o->n_params, sizeof *o->by_name, compare_by_name, o->params);
    }
    for (size_t i = 1; i < o->n_params; i++) {
        if (compare_by_name(&o->by_name[i - 1], &o->by_name[i], o->params) == 0) {
            const adam_tensor *t = &o->params[o->by_name[i]].tensor;
            adam_error_set(error, ADAM_DUPLICATE_PARAM, "parameter '%s' is named twice", t->name);
            adam_error_param(error, t->name, t->name_len);
            return ADAM_DUPLICATE_PARAM;
        }
    }
    return ADAM_OK;
}

/* ---- creation ---- */

adam_status adam_optimizer_create(adam_algorithm algorithm, const adam_group_spec *groups,
                                  size_t n_groups, const adam_allocator *allocator,
                                  adam_optimizer **optimizer, adam_error *error)
{
    static const adam_allocator libc = {libc_alloc, libc_release, NULL};
    adam_status st = adam_kernel_check(error);
    if (st != ADAM_OK) {
        return st;
    }
    if (n_groups == 0) {
        return adam_error_set(error, ADAM_EMPTY, "an optimizer needs at least one param group");
    }
    const adam_allocator *from = allocator != NULL ? allocator : &libc;
    adam_optimizer *o = from->alloc(from->context, sizeof *o);
    if (o == NULL) {
        return adam_error_no_memory(error, sizeof *o);
    }
    o->allocator = *from;
    o->algorithm = algorithm;
    o->bytes = sizeof *o;
    adam_grad_options_default(&o->grad_options);
    st = adam_optimizer_append_groups(o, groups, n_groups, error);
    if (st != ADAM_OK) {
        adam_optimizer_free(o);
        return st;
    }
    *optimizer = o;
    return ADAM_OK;
}

void adam_optimizer_free(adam_optimizer *o)
{
    if (o == NULL) {
        return;
    }
    for (size_t i = 0; i < o->n_groups; i++) {
        adam_block_put(o, &o->groups[i].state);
        adam_block_put(o, &o->groups[i].max_exp_avg_sq);
        adam_block_put(o, &o->groups[i].schedule);
    }
    adam_block_put(o, &o->groups_block);
    adam_block_put(o, &o->params_block);
    adam_block_put(o, &o->by_name_block);
    const adam_allocator allocator = o->allocator;
    allocator.release(allocator.context, o, sizeof *o);
}

adam_status adam_optimizer_set_grad_options(adam_optimizer *o, const adam_grad_options *options,
                                            adam_error *error)
{
    adam_status st = adam_grad_options_check(options, error);
    if (st == ADAM_OK) {
        o->grad_options = *options;
    }
    return st;
}

/* ---- views ---- */

adam_algorithm adam_optimizer_algorithm(const adam_optimizer *o)
{
    return o->algorithm;
}
size_t adam_optimizer_group_count(const adam_optimizer *o)
{
    return o->n_groups;
}
size_t adam_optimizer_param_count(const adam_optimizer *o)
{
    return o->n_params;
}
uint64_t adam_optimizer_step_count(const adam_optimizer *o)
{
    return o->step;
}
uint64_t adam_optimizer_skipped_count(const adam_optimizer *o)
{
    return o->skipped;
}
adam_grad_options adam_optimizer_grad_options(const adam_optimizer *o)
{
    return o->grad_options;
}
uint64_t adam_optimizer_numel(const adam_optimizer *o)
{
    return o->numel;
}
size_t adam_optimizer_bytes(const adam_optimizer *o)
{
    return o->bytes;
}

adam_group_view adam_optimizer_group(const adam_optimizer *o, size_t group)
{
    const adam_group *g = &o->groups[group];
    return (adam_group_view){
        .options = g->options,
        .schedule = adam_group_schedule(g),
        .first_param = g->first_param,
        .n_params = g->n_params,
    };
}

adam_param_view adam_optimizer_param(const adam_optimizer *o, size_t param)
{
    const adam_param *p = &o->params[param];
    return (adam_param_view){
        .tensor = p->tensor,
        .numel = p->numel,
        .group = p->group,
        .step = p->step,
        .exp_avg = p->exp_avg,
        .exp_avg_sq = p->exp_avg_sq,
        /* torch makes it with the first step; the place for it is there before */
        .max_exp_avg_sq =
            p->step > 0 || o->groups[p->group].options.amsgrad ? p->max_exp_avg_sq : NULL,
    };
}
