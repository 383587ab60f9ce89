/* idempotency.c: a table of keys, and queues of the pending and the answered. */
#include "idempotency.h"

#include <string.h>

#include "clock.h"
#include "table.h"

/* Keys that one call lets go of because of their age: more than it adds, but never so many that a
 * step would wait for it. */
#define EXPIRE_MOST 32

struct idempotency {
    memory *memory;
    int64_t (*now_ms)(void);
    int64_t ttl_ms;
    size_t most, answered, bytes;
    table keys;
    table_queue pending, done; /* the answered, by when */
};

/* A record as it is kept; the key follows the groups. */
typedef struct kept {
    table_entry entry;
    size_t bytes;
    int64_t answered_ms;
    key_record record;
    adam_group_stats groups[];
} kept;

idempotency *idempotency_create(memory *m, size_t most, unsigned ttl_seconds)
{
    idempotency *k = memory_get_zeroed(m, sizeof *k);
    if (k != NULL) {
        k->memory = m;
        k->now_ms = clock_ms;
        k->ttl_ms = (int64_t)ttl_seconds * 1000;
        k->most = most;
        table_init(&k->keys, m);
    }
    return k;
}

void idempotency_set_clock(idempotency *k, int64_t (*now_ms)(void))
{
    k->now_ms = now_ms;
}

static void drop(idempotency *k, kept *r)
{
    queue_unlink(r->record.pending ? &k->pending : &k->done, &r->entry);
    k->answered -= !r->record.pending;
    table_remove(&k->keys, &r->entry);
    k->bytes -= r->bytes;
    memory_put(k->memory, r, r->bytes);
}

static void drop_queue(idempotency *k, table_queue *q)
{
    while (q->oldest != NULL) {
        drop(k, (kept *)q->oldest);
    }
}

void idempotency_free(idempotency *k)
{
    if (k != NULL) {
        drop_queue(k, &k->pending);
        drop_queue(k, &k->done);
        table_clear(&k->keys);
        memory_put(k->memory, k, sizeof *k);
    }
}

static bool is_old(const idempotency *k, const kept *r)
{
    return k->now_ms() - r->answered_ms >= k->ttl_ms;
}

static void drop_old(idempotency *k)
{
    for (int i = 0; i < EXPIRE_MOST && k->done.oldest != NULL; i++) {
        kept *oldest = (kept *)k->done.oldest;
        if (!is_old(k, oldest)) {
            return;
        }
        drop(k, oldest);
    }
}

const key_record *idempotency_find(idempotency *k, const char *key)
{
    drop_old(k);
    kept *r = (kept *)table_find(&k->keys, key);
    if (r != NULL && !r->record.pending && is_old(k, r)) {
        drop(k, r);
        r = NULL;
    }
    return r != NULL ? &r->record : NULL;
}

bool idempotency_begin(idempotency *k, const char *key, fingerprint body, size_t n_groups)
{
    drop_old(k);
    const size_t groups = n_groups * sizeof(adam_group_stats);
    const size_t name = strlen(key) + 1;
    const size_t bytes = sizeof(kept) + groups + name;
    kept *r = memory_get(k->memory, bytes);
    if (r == NULL) {
        return false;
    }
    *r = (kept){.bytes = bytes, .record = {.body = body, .pending = true, .n_groups = n_groups}};
    char *own_key = (char *)(r->groups + n_groups);
    memcpy(own_key, key, name);
    table_add(&k->keys, &r->entry, own_key);
    queue_push(&k->pending, &r->entry);
    k->bytes += bytes;
    return true;
}

void idempotency_end(idempotency *k, const char *key, int status, uint64_t held,
                     const adam_step_stats *stats, const adam_group_stats *groups)
{
    kept *r = (kept *)table_find(&k->keys, key);
    if (r == NULL || !r->record.pending) {
        return;
    }
    key_record *record = &r->record;
    record->pending = false;
    record->status = status;
    record->held = held;
    record->stats = *stats;
    if (groups != NULL && record->n_groups > 0) {
        memcpy(r->groups, groups, record->n_groups * sizeof *groups);
        record->groups = r->groups;
    } else {
        record->n_groups = 0;
    }
    r->answered_ms = k->now_ms();
    queue_unlink(&k->pending, &r->entry);
    queue_push(&k->done, &r->entry);
    k->answered++;
    drop_old(k);
    if (k->answered > k->most) {
        drop(k, (kept *)k->done.oldest);
    }
}

void idempotency_abort(idempotency *k, const char *key)
{
    kept *r = (kept *)table_find(&k->keys, key);
    if (r != NULL && r->record.pending) {
        drop(k, r);
    }
}

void idempotency_each(const idempotency *k, idempotency_visit *visit, void *context)
{
    const int64_t now = k->now_ms();
    for (const table_entry *e = k->done.oldest; e != NULL; e = e->newer) {
        const kept *r = (const kept *)e;
        visit(context, e->name, now - r->answered_ms, &r->record);
    }
}

bool idempotency_restore(idempotency *k, const char *key, int64_t age_ms, const key_record *record)
{
    if (!idempotency_begin(k, key, record->body, record->n_groups)) {
        return false;
    }
    idempotency_end(k, key, record->status, record->held, &record->stats, record->groups);
    kept *r = (kept *)table_find(&k->keys, key);
    if (r != NULL) { /* it may be the one too many */
        r->answered_ms -= age_ms;
    }
    return true;
}

size_t idempotency_count(const idempotency *k)
{
    return k->keys.count;
}

size_t idempotency_bytes(const idempotency *k)
{
    return sizeof *k + table_bytes(&k->keys) + k->bytes;
}
