/* table.c: chains of entries, at most as many entries as chains. */
#include "table.h"

#include <stdbool.h>
#include <string.h>

#include "fingerprint.h"

void table_init(table *t, memory *m)
{
    *t = (table){.memory = m, .seed = fingerprint_seed(), .n_chains = TABLE_OWN_CHAINS};
}

/* Goes back to the chains of its own; there are no entries. */
static void shrink(table *t)
{
    memory_put(t->memory, t->chains, table_bytes(t));
    t->chains = NULL;
    t->n_chains = TABLE_OWN_CHAINS;
    memset(t->own, 0, sizeof t->own);
}

void table_clear(table *t)
{
    shrink(t);
    t->count = 0;
}

size_t table_bytes(const table *t)
{
    return t->chains != NULL ? t->n_chains * sizeof(table_entry *) : 0;
}

static table_entry *const *chains_of(const table *t)
{
    return t->chains != NULL ? t->chains : t->own;
}

/* Where the chain of a hash begins. */
static table_entry **chain_of(table *t, uint64_t hash)
{
    table_entry **chains = t->chains != NULL ? t->chains : t->own;
    return &chains[hash & (t->n_chains - 1)];
}

table_entry *table_find(const table *t, const char *name)
{
    const uint64_t hash = fingerprint_hash(name, strlen(name), t->seed);
    table_entry *e = chains_of(t)[hash & (t->n_chains - 1)];
    while (e != NULL && (e->hash != hash || strcmp(e->name, name) != 0)) {
        e = e->chain;
    }
    return e;
}

static void put_in_chain(table *t, table_entry *e)
{
    table_entry **chain = chain_of(t, e->hash);
    e->chain = *chain;
    *chain = e;
}

/* Twice as many chains, if there is memory. */
static void grow(table *t)
{
    const size_t bytes = 2 * t->n_chains * sizeof(table_entry *);
    table_entry **more = memory_get_spare(t->memory, bytes, 0);
    if (more == NULL) {
        return;
    }
    memset(more, 0, bytes);
    const table before = *t;
    t->chains = more;
    t->n_chains *= 2;
    for (size_t i = 0; i < before.n_chains; i++) {
        table_entry *next;
        for (table_entry *e = chains_of(&before)[i]; e != NULL; e = next) {
            next = e->chain;
            put_in_chain(t, e);
        }
    }
    memory_put(t->memory, before.chains, table_bytes(&before));
}

void table_add(table *t, table_entry *e, const char *name)
{
    if (t->count >= t->n_chains) {
        grow(t);
    }
    e->name = name;
    e->hash = fingerprint_hash(name, strlen(name), t->seed);
    e->older = NULL;
    e->newer = NULL;
    put_in_chain(t, e);
    t->count++;
}

void table_remove(table *t, table_entry *e)
{
    table_entry **at = chain_of(t, e->hash);
    while (*at != e) {
        at = &(*at)->chain;
    }
    *at = e->chain;
    t->count--;
    if (t->count == 0) {
        shrink(t);
    }
}

void queue_push(table_queue *q, table_entry *e)
{
    e->older = q->newest;
    e->newer = NULL;
    *(q->newest != NULL ? &q->newest->newer : &q->oldest) = e;
    q->newest = e;
}

void queue_unlink(table_queue *q, table_entry *e)
{
    *(e->older != NULL ? &e->older->newer : &q->oldest) = e->newer;
    *(e->newer != NULL ? &e->newer->older : &q->newest) = e->older;
    e->older = NULL;
    e->newer = NULL;
}
