/* param_group.c: adding groups of parameters, and changing their options. */
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "optimizer_internal.h"

#define CACHE_LINE ((size_t)64)

/* ---- groups ---- */

static adam_status check_name(const adam_tensor *t, adam_error *error)
{
    if (t->name_len == 0 || t->name_len > ADAM_MAX_NAME) {
        return adam_error_set(error, ADAM_INVALID_NAME,
                              "a parameter name has %zu bytes, expected 1 to %d", t->name_len,
                              ADAM_MAX_NAME);
    }
    if (memchr(t->name, '\0', t->name_len) != NULL || !adam_utf8_valid(t->name, t->name_len)) {
        return adam_error_set(error, ADAM_INVALID_NAME,
                              "a parameter name is not well-formed UTF-8 without NUL");
    }
    return ADAM_OK;
}

/* The type a parameter has in memory, given in `dtype`. */
static adam_dtype stored_dtype(adam_dtype dtype)
{
    return dtype == ADAM_FLOAT64 ? ADAM_FLOAT64 : ADAM_FLOAT32;
}

/* Where a tensor of `bytes` begins at or after `offset`: on a cache line, if it fills one. */
static size_t place(size_t offset, size_t bytes)
{
    const size_t unit = bytes >= CACHE_LINE ? CACHE_LINE : sizeof(double);
    return (offset + unit - 1) / unit * unit;
}

/* Checks the tensors of a group; *bytes is what its state block needs. */
static adam_status measure_group(const adam_group_spec *spec, size_t *bytes, adam_error *error)
{
    size_t end = 0;
    size_t names = 0;
    for (size_t i = 0; i < spec->n_params; i++) {
        const adam_tensor *t = &spec->params[i];
        uint64_t numel;
        adam_status st = check_name(t, error);
        if (st != ADAM_OK) {
            return st;
        }
        if (!adam_shape_numel(t->rank, t->shape, &numel)) {
            adam_error_set(error, ADAM_TOO_LARGE,
                           "parameter '%.*s' is too large: rank at most %d, at most 2^53 elements",
                           (int)t->name_len, t->name, ADAM_MAX_RANK);
            adam_error_param(error, t->name, t->name_len);
            return ADAM_TOO_LARGE;
        }
        const size_t tensor_bytes = numel * adam_dtype_size(stored_dtype(t->dtype));
        for (int stream = 0; stream < 3; stream++) {
            end = place(end, tensor_bytes) + tensor_bytes;
        }
        names += t->name_len + 1;
        if (end > (size_t)1 << 60) {
            return adam_error_no_memory(error, end);
        }
    }
    *bytes = end + names;
    return ADAM_OK;
}

/* Fills the group's parameters from `spec`; the block is zeroed and large enough. */
static void fill_group(adam_optimizer *o, size_t group, const adam_group_spec *spec)
{
    adam_group *g = &o->groups[group];
    char *block = g->state.memory;
    size_t end = 0;
    for (size_t i = 0; i < spec->n_params; i++) {
        adam_param *p = &o->params[g->first_param + i];
        const adam_tensor *t = &spec->params[i];
        *p = (adam_param){.tensor = *t, .group = group};
        p->tensor.dtype = stored_dtype(t->dtype);
        (void)adam_shape_numel(t->rank, t->shape, &p->numel);
        const size_t bytes = p->numel * adam_dtype_size(p->tensor.dtype);
        void *streams[3];
        for (int stream = 0; stream < 3; stream++) {
            end = place(end, bytes);
            streams[stream] = block + end;
            end += bytes;
        }
        p->tensor.data = streams[0];
        p->exp_avg = streams[1];
        p->exp_avg_sq = streams[2];
        if (t->data != NULL && bytes > 0) {
            adam_convert(p->tensor.dtype, p->tensor.data, t->dtype, t->data, p->numel);
        }
        o->numel += p->numel;
    }
    for (size_t i = 0; i < spec->n_params; i++) {
        adam_tensor *t = &o->params[g->first_param + i].tensor;
        memcpy(block + end, t->name, t->name_len);
        t->name = block + end;
        end += t->name_len + 1;
    }
}

/* Undoes what grow() and what came after it did, back to the arrays in `old`. */
static void restore_arrays(adam_optimizer *o, const adam_optimizer *old)
{
    if (o->groups_block.memory != old->groups_block.memory) {
        adam_block_put(o, &o->groups_block);
    }
    if (o->params_block.memory != old->params_block.memory) {
        adam_block_put(o, &o->params_block);
    }
    if (o->by_name_block.memory != old->by_name_block.memory) {
        adam_block_put(o, &o->by_name_block);
    }
    const size_t bytes = o->bytes;
    *o = *old;
    o->bytes = bytes;
}

/* Gives the optimizer longer copies of its arrays. The old ones stay for restore_arrays or
 * drop_arrays. */
static bool grow_arrays(adam_optimizer *o, size_t more_groups, size_t more_params)
{
    const adam_optimizer old = *o;
    if (!adam_block_get(o, (o->n_groups + more_groups) * sizeof *o->groups, &o->groups_block) ||
        !adam_block_get(o, (o->n_params + more_params) * sizeof *o->params, &o->params_block) ||
        !adam_block_get(o, (o->n_params + more_params) * sizeof *o->by_name, &o->by_name_block)) {
        return false;
    }
    o->groups = o->groups_block.memory;
    o->params = o->params_block.memory;
    o->by_name = o->by_name_block.memory;
    if (old.n_groups > 0) {
        memcpy(o->groups, old.groups, old.n_groups * sizeof *o->groups);
    }
    if (old.n_params > 0) {
        memcpy(o->params, old.params, old.n_params * sizeof *o->params);
    }
    return true;
}

/* Appends groups to an optimizer; on an error it is as before. */
adam_status adam_optimizer_append_groups(adam_optimizer *o, const adam_group_spec *specs,
                                         size_t n_specs, adam_error *error)
{
    const adam_optimizer old = *o;
    size_t n_params = 0;
    for (size_t i = 0; i < n_specs; i++) {
        adam_status st = adam_options_check(&specs[i].options, error);
        if (st != ADAM_OK) {
            return st;
        }
        if (specs[i].n_params > ADAM_MAX_PARAMS - o->n_params - n_params) {
            return adam_error_set(error, ADAM_TOO_LARGE, "more than %d parameters",
                                  ADAM_MAX_PARAMS);
        }
        n_params += specs[i].n_params;
    }
    if (n_specs > ADAM_MAX_GROUPS - o->n_groups) {
        return adam_error_set(error, ADAM_TOO_LARGE, "more than %d param groups", ADAM_MAX_GROUPS);
    }
    adam_status st = ADAM_OK;
    if (!grow_arrays(o, n_specs, n_params)) {
        st = adam_error_no_memory(error, (old.n_params + n_params) * sizeof *o->params);
        goto undo;
    }
    for (size_t i = 0; i < n_specs; i++) {
        size_t bytes = 0;
        adam_group *g = &o->groups[o->n_groups];
        *g = (adam_group){
            .options = specs[i].options, .first_param = o->n_params, .n_params = specs[i].n_params};
        st = measure_group(&specs[i], &bytes, error);
        if (st != ADAM_OK) {
            goto undo;
        }
        if (!adam_block_get(o, bytes, &g->state)) {
            st = adam_error_no_memory(error, bytes);
            goto undo;
        }
        o->n_groups++; /* from here undo gives its block back */
        fill_group(o, o->n_groups - 1, &specs[i]);
        o->n_params += specs[i].n_params;
        adam_block block;
        adam_options off = specs[i].options;
        off.amsgrad = false;
        g->options = off;
        st = adam_group_prepare_options(o, o->n_groups - 1, &specs[i].options, &block, error);
        if (st != ADAM_OK) {
            goto undo;
        }
        adam_group_apply_options(o, o->n_groups - 1, &specs[i].options, &block);
        st = adam_group_start_schedule(o, o->n_groups - 1, specs[i].schedule, &g->options,
                                       &g->schedule, error);
        if (st != ADAM_OK) {
            goto undo;
        }
    }
    st = adam_optimizer_sort_names(o, error);
    if (st != ADAM_OK) {
        goto undo;
    }
    adam_optimizer spent = old;
    spent.bytes = 0;
    adam_block_put(o, &spent.groups_block);
    adam_block_put(o, &spent.params_block);
    adam_block_put(o, &spent.by_name_block);
    return ADAM_OK;

undo:
    for (size_t i = old.n_groups; i < o->n_groups; i++) {
        adam_block_put(o, &o->groups[i].state);
        adam_block_put(o, &o->groups[i].max_exp_avg_sq);
        adam_block_put(o, &o->groups[i].schedule);
    }
    restore_arrays(o, &old);
    return st;
}

adam_status adam_optimizer_add_group(adam_optimizer *o, const adam_group_spec *group,
                                     adam_error *error)
{
    return adam_optimizer_append_groups(o, group, 1, error);
}

/* ---- options ---- */

size_t adam_group_max_bytes(const adam_optimizer *o, size_t group)
{
    const adam_group *g = &o->groups[group];
    size_t bytes = 0;
    for (size_t i = 0; i < g->n_params; i++) {
        const adam_param *p = &o->params[g->first_param + i];
        const size_t tensor_bytes = p->numel * adam_dtype_size(p->tensor.dtype);
        bytes = place(bytes, tensor_bytes) + tensor_bytes;
    }
    return bytes > 0 ? bytes : 1; /* a block says that amsgrad has its memory */
}

void adam_group_place_max(adam_optimizer *o, size_t group)
{
    const adam_group *g = &o->groups[group];
    size_t end = 0;
    for (size_t i = 0; i < g->n_params; i++) {
        adam_param *p = &o->params[g->first_param + i];
        const size_t bytes = p->numel * adam_dtype_size(p->tensor.dtype);
        end = place(end, bytes);
        if (p->max_exp_avg_sq == NULL) {
            p->max_exp_avg_sq = (char *)g->max_exp_avg_sq.memory + end;
            memset(p->max_exp_avg_sq, 0, bytes);
        }
        end += bytes;
    }
}

void adam_group_drop_max(adam_optimizer *o, size_t group)
{
    adam_group *g = &o->groups[group];
    adam_block_put(o, &g->max_exp_avg_sq);
    for (size_t i = 0; i < g->n_params; i++) {
        o->params[g->first_param + i].max_exp_avg_sq = NULL;
    }
}

/* Ranges hold for what is written, not for what the group's schedule has made of it: a OneCycleLR
 * may end below 0, and the other options can be changed then, too. */
static adam_status check_change(const adam_group *g, const adam_options *options, adam_error *error)
{
    adam_options written = *options;
    if (g->schedule.memory != NULL && written.lr == g->options.lr) {
        written.lr = 0.0;
    }
    if (g->schedule.memory != NULL && written.betas[0] == g->options.betas[0]) {
        written.betas[0] = 0.0;
    }
    return adam_options_check(&written, error);
}

adam_status adam_group_prepare_options(adam_optimizer *o, size_t group, const adam_options *options,
                                       adam_block *block, adam_error *error)
{
    *block = (adam_block){0};
    if (group >= o->n_groups) {
        return adam_error_set(error, ADAM_NO_SUCH_GROUP,
                              "there is no param group %zu; the optimizer has %zu", group,
                              o->n_groups);
    }
    const adam_group *g = &o->groups[group];
    if (options->buffers != g->options.buffers) {
        return adam_error_set(error, ADAM_INVALID_OPTION,
                              "buffers of param group %zu cannot become %s: it is given when the "
                              "group is made, and stays",
                              group, options->buffers ? "true" : "false");
    }
    adam_status st = check_change(g, options, error);
    if (st != ADAM_OK || !options->amsgrad) {
        return st;
    }
    for (size_t i = 0; i < g->n_params; i++) {
        const adam_param *p = &o->params[g->first_param + i];
        if (p->step > 0 && p->max_exp_avg_sq == NULL) {
            adam_error_set(error, ADAM_STATE_MISMATCH,
                           "amsgrad cannot be switched on: '%s' took its first step without it and "
                           "has no max_exp_avg_sq",
                           p->tensor.name);
            adam_error_param(error, p->tensor.name, p->tensor.name_len);
            return ADAM_STATE_MISMATCH;
        }
    }
    if (g->max_exp_avg_sq.memory != NULL) {
        return ADAM_OK;
    }
    const size_t bytes = adam_group_max_bytes(o, group);
    return adam_block_get(o, bytes, block) ? ADAM_OK : adam_error_no_memory(error, bytes);
}

void adam_group_apply_options(adam_optimizer *o, size_t group, const adam_options *options,
                              const adam_block *block)
{
    adam_group *g = &o->groups[group];
    g->options = *options;
    if (block->memory != NULL) {
        g->max_exp_avg_sq = *block;
    }
    if (options->amsgrad) {
        adam_group_place_max(o, group);
    }
}

adam_status adam_optimizer_set_options(adam_optimizer *o, size_t group, const adam_options *options,
                                       adam_error *error)
{
    adam_block block;
    adam_status st = adam_group_prepare_options(o, group, options, &block, error);
    if (st == ADAM_OK) {
        adam_group_apply_options(o, group, options, &block);
    }
    return st;
}
