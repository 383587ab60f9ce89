/* registry.c: names to counted instances. Knows no requests. */
#include "registry.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct registry {
    memory *memory;
    executor *jobs;
    buffer_pool *buffers;
    size_t history_steps; /* that each instance keeps */
    pthread_rwlock_t lock;
    instance **sorted; /* by name */
    size_t n, capacity;
    atomic_uint_fast64_t epoch;
};

/* Gives back published parameters of optimizers that nobody is at. */
static void reclaim(void *context, size_t wanted)
{
    registry *r = context;
    pthread_rwlock_rdlock(&r->lock);
    for (size_t i = 0; i < r->n; i++) {
        instance *inst = r->sorted[i];
        if (strand_try_enter(&inst->strand)) {
            instance_unpublish(inst);
            strand_leave(r->jobs, &inst->strand);
        }
    }
    pthread_rwlock_unlock(&r->lock);
    buffer_pool_reclaim(r->buffers, wanted); /* where they went to */
}

void registry_trim(registry *r)
{
    pthread_rwlock_rdlock(&r->lock);
    for (size_t i = 0; i < r->n; i++) {
        instance *inst = r->sorted[i];
        if (strand_try_enter(&inst->strand)) {
            if (inst->params.idle++ > 0) {
                instance_unpublish(inst);
            }
            strand_leave(r->jobs, &inst->strand);
        }
    }
    pthread_rwlock_unlock(&r->lock);
}

registry *registry_create(memory *m, executor *jobs, buffer_pool *buffers, size_t history_steps)
{
    registry *r = calloc(1, sizeof *r);
    if (r != NULL) {
        *r = (registry){
            .memory = m, .jobs = jobs, .buffers = buffers, .history_steps = history_steps};
        pthread_rwlock_init(&r->lock, NULL);
        memory_on_pressure(m, reclaim, r);
    }
    return r;
}

void registry_free(registry *r)
{
    if (r == NULL) {
        return;
    }
    for (size_t i = 0; i < r->n; i++) {
        instance_drop(r->sorted[i]);
    }
    free(r->sorted);
    pthread_rwlock_destroy(&r->lock);
    free(r);
}

uint64_t registry_next_epoch(registry *r)
{
    return atomic_fetch_add(&r->epoch, 1) + 1;
}

void registry_set_next_epoch(registry *r, uint64_t epoch)
{
    atomic_store(&r->epoch, epoch - 1);
}

uint64_t registry_last_epoch(registry *r)
{
    return atomic_load(&r->epoch);
}

instance *instance_hold(instance *inst)
{
    pthread_mutex_lock(&inst->shared.lock);
    inst->shared.holds++;
    pthread_mutex_unlock(&inst->shared.lock);
    return inst;
}

void instance_drop(instance *inst)
{
    if (inst == NULL) {
        return;
    }
    pthread_mutex_lock(&inst->shared.lock);
    const bool last = --inst->shared.holds == 0;
    pthread_mutex_unlock(&inst->shared.lock);
    if (last) {
        instance_unpublish(inst);
        round_clear(&inst->round);
        free(inst->kept.held);
        idempotency_free(inst->keys);
        workers_free(atomic_load(&inst->workers));
        history_drop(inst->history);
        changes_free(inst->changes);
        adam_optimizer_free(inst->optimizer);
        strand_destroy(&inst->strand);
        pthread_mutex_destroy(&inst->shared.lock);
        memory_put(inst->memory, inst, sizeof *inst);
    }
}

/* First place whose name is not before `name`; under the lock. */
static size_t lower_bound(const registry *r, const char *name)
{
    size_t low = 0;
    size_t high = r->n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(r->sorted[middle]->name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool is_at(const registry *r, size_t place, const char *name)
{
    return place < r->n && strcmp(r->sorted[place]->name, name) == 0;
}

static bool make_room(registry *r)
{
    if (r->n < r->capacity) {
        return true;
    }
    const size_t capacity = r->capacity > 0 ? r->capacity * 2 : 16;
    instance **bigger = realloc(r->sorted, capacity * sizeof(instance *));
    if (bigger == NULL) {
        return false;
    }
    r->sorted = bigger;
    r->capacity = capacity;
    return true;
}

/* An instance that is held once. NULL: no memory. */
static instance *make_instance(registry *r, const char *name, const adam_options *defaults,
                               const training *how)
{
    instance *inst = memory_get_zeroed(r->memory, sizeof *inst);
    if (inst == NULL) {
        return NULL;
    }
    inst->memory = r->memory;
    strcpy(inst->name, name);
    strand_init(&inst->strand);
    pthread_mutex_init(&inst->shared.lock, NULL);
    inst->shared.holds = 1;
    inst->shared.info.defaults = *defaults;
    inst->training = *how;
    atomic_store(&inst->kept.snapshot_step, UINT64_MAX); /* none */
    inst->alarm = (alarm_entry){.strand = &inst->strand, .due = ALARM_NEVER};
    inst->history = history_create(r->memory, r->history_steps);
    inst->changes = changes_create(r->memory);
    if (inst->history == NULL || inst->changes == NULL) {
        instance_drop(inst);
        return NULL;
    }
    return inst;
}

bool registry_attach(registry *r, instance *inst, bool *no_memory)
{
    pthread_rwlock_wrlock(&r->lock);
    const size_t place = lower_bound(r, inst->name);
    const bool taken = is_at(r, place, inst->name);
    const bool room = taken || make_room(r);
    if (!taken && room) {
        if (inst->kept.id == 0) {
            inst->kept.id = registry_next_epoch(r);
            instance_rewritten(inst, inst->kept.id);
        }
        memmove(r->sorted + place + 1, r->sorted + place, (r->n - place) * sizeof(instance *));
        r->sorted[place] = instance_hold(inst);
        r->n++;
    }
    pthread_rwlock_unlock(&r->lock);
    *no_memory = !room;
    return !taken && room;
}

instance *registry_make(registry *r, const char *name, adam_optimizer *optimizer,
                        const adam_options *defaults, const training *how, uint64_t id,
                        uint64_t epoch)
{
    instance *inst = make_instance(r, name, defaults, how);
    if (inst != NULL) {
        inst->optimizer = optimizer;
        inst->kept.id = id;
        instance_rewritten(inst, epoch);
    }
    return inst;
}

bool registry_add(registry *r, const char *name, adam_optimizer *optimizer,
                  const adam_options *defaults, const training *how, instance **out,
                  bool *no_memory)
{
    instance *inst = make_instance(r, name, defaults, how);
    *no_memory = inst == NULL;
    if (inst == NULL) {
        return false;
    }
    inst->optimizer = optimizer;
    (void)strand_try_enter(&inst->strand); /* the caller's, before anybody sees it */
    if (!registry_attach(r, inst, no_memory)) {
        inst->optimizer = NULL; /* the caller's again */
        instance_drop(inst);
        return false;
    }
    *out = inst;
    return true;
}

instance *registry_hold(registry *r, const char *name)
{
    instance *inst = NULL;
    pthread_rwlock_rdlock(&r->lock);
    const size_t place = lower_bound(r, name);
    if (is_at(r, place, name)) {
        inst = r->sorted[place];
        instance_hold(inst);
    }
    pthread_rwlock_unlock(&r->lock);
    return inst;
}

void registry_remove(registry *r, instance *inst)
{
    pthread_rwlock_wrlock(&r->lock);
    const size_t place = lower_bound(r, inst->name);
    const bool listed = place < r->n && r->sorted[place] == inst;
    if (listed) {
        memmove(r->sorted + place, r->sorted + place + 1, (r->n - place - 1) * sizeof(instance *));
        r->n--;
    }
    pthread_rwlock_unlock(&r->lock);
    atomic_store(&inst->removed, true);
    history_close(inst->history);
    if (listed) {
        instance_drop(inst); /* the list's; the caller has its own */
    }
}

size_t registry_count(registry *r)
{
    pthread_rwlock_rdlock(&r->lock);
    const size_t n = r->n;
    pthread_rwlock_unlock(&r->lock);
    return n;
}

size_t registry_page(registry *r, const char *prefix, const char *after, size_t most,
                     instance **out, bool *more)
{
    const size_t prefix_length = strlen(prefix);
    size_t n = 0;
    pthread_rwlock_rdlock(&r->lock);
    size_t place = lower_bound(r, strcmp(prefix, after) > 0 ? prefix : after);
    if (is_at(r, place, after)) {
        place++;
    }
    while (n < most && place < r->n &&
           strncmp(r->sorted[place]->name, prefix, prefix_length) == 0) {
        out[n] = r->sorted[place++];
        instance_hold(out[n++]);
    }
    *more = place < r->n && strncmp(r->sorted[place]->name, prefix, prefix_length) == 0;
    pthread_rwlock_unlock(&r->lock);
    return n;
}

optimizer_info instance_info(instance *inst)
{
    pthread_mutex_lock(&inst->shared.lock);
    const optimizer_info info = inst->shared.info;
    pthread_mutex_unlock(&inst->shared.lock);
    return info;
}

bool registry_valid_name(const char *name, size_t length)
{
    static const char known[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    return length >= 1 && length <= REGISTRY_MAX_NAME && name[0] != '.' && name[0] != '_' &&
           name[0] != '-' && strspn(name, known) == length;
}

static void renew(instance *inst, uint64_t epoch)
{
    const adam_optimizer *o = inst->optimizer;
    optimizer_info *info = &inst->shared.info;
    pthread_mutex_lock(&inst->shared.lock);
    info->algorithm = adam_optimizer_algorithm(o);
    info->step = adam_optimizer_step_count(o);
    info->epoch = epoch > 0 ? epoch : info->epoch;
    info->numel = adam_optimizer_numel(o);
    info->groups = adam_optimizer_group_count(o);
    info->params = adam_optimizer_param_count(o);
    info->bytes = adam_optimizer_bytes(o);
    info->grad_options = adam_optimizer_grad_options(o);
    info->training = inst->training;
    info->skipped = adam_optimizer_skipped_count(o);
    pthread_mutex_unlock(&inst->shared.lock);
}

void instance_changed(instance *inst)
{
    renew(inst, 0);
}

void instance_rewritten(instance *inst, uint64_t epoch)
{
    renew(inst, epoch);
}

void instance_unpublish(instance *inst)
{
    buffer_drop(inst->params.data);
    buffer_drop(inst->params.offsets);
    inst->params = (published){0};
}
