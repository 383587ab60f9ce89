/* table.h: records by name, in a hash table and in queues by age. Knows neither records nor their
 * memory, which are their owner's, as is the lock. Adding cannot fail.
 *
 * Names come from clients: the hash has a random seed, so that nobody can make them collide. */
#ifndef ADAMD_TABLE_H
#define ADAMD_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "memory.h"

#define TABLE_OWN_CHAINS 8 /* that an empty table has: a power of two */

/* The first member of a record. */
typedef struct table_entry table_entry;
struct table_entry {
    table_entry *chain;         /* the next one with such a hash */
    table_entry *older, *newer; /* in its queue */
    uint64_t hash;
    const char *name;
};

typedef struct table {
    memory *memory;
    uint64_t seed;
    size_t count, n_chains;
    table_entry **chains; /* NULL: own */
    table_entry *own[TABLE_OWN_CHAINS];
} table;

void table_init(table *t, memory *m);
/* Forgets all entries and gives back what the table took for itself. */
void table_clear(table *t);
/* NULL: none of that name. */
table_entry *table_find(const table *t, const char *name);
/* Adds an entry, whose name is not there and lives as long as it does. Where there is no memory to
 * grow, look-ups become slower. */
void table_add(table *t, table_entry *e, const char *name);
void table_remove(table *t, table_entry *e);
/* Beyond the struct. */
size_t table_bytes(const table *t);

/* An entry is in one queue at most. */
typedef struct table_queue {
    table_entry *oldest, *newest;
} table_queue;

void queue_push(table_queue *q, table_entry *e);
void queue_unlink(table_queue *q, table_entry *e);

#endif
