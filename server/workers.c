/* workers.c: a table of workers; queues of those that are seen and those in quarantine. */
#include "workers.h"

#include <pthread.h>
#include <string.h>

#include "clock.h"
#include "table.h"

struct workers {
    memory *memory;
    pthread_mutex_t lock;
    int64_t (*now_ms)(void);
    int64_t ttl_ms; /* 0: for ever */
    unsigned gone;
    table table;
    table_queue seen;       /* by when they were last seen */
    table_queue quarantine; /* by when it began */
    table_entry *staying;   /* of quarantine: the first whose time is not over */
};

typedef struct worker {
    table_entry entry;
    int64_t since_ms; /* its place in the queue */
    worker_record record;
} worker;

workers *workers_create(memory *m, unsigned ttl_seconds)
{
    workers *w = memory_get_zeroed(m, sizeof *w);
    if (w != NULL) {
        w->memory = m;
        w->now_ms = clock_ms;
        w->ttl_ms = (int64_t)ttl_seconds * 1000;
        pthread_mutex_init(&w->lock, NULL);
        table_init(&w->table, m);
    }
    return w;
}

void workers_set_clock(workers *w, int64_t (*now_ms)(void))
{
    w->now_ms = now_ms;
}

static void forget(workers *w, worker *k)
{
    if (w->staying == &k->entry) {
        w->staying = k->entry.newer;
    }
    queue_unlink(k->record.in_quarantine ? &w->quarantine : &w->seen, &k->entry);
    table_remove(&w->table, &k->entry);
    memory_put(w->memory, k, sizeof *k);
}

static void forget_queue(workers *w, table_queue *q)
{
    while (q->oldest != NULL) {
        forget(w, (worker *)q->oldest);
    }
}

void workers_free(workers *w)
{
    if (w != NULL) {
        forget_queue(w, &w->seen);
        forget_queue(w, &w->quarantine);
        table_clear(&w->table);
        pthread_mutex_destroy(&w->lock);
        memory_put(w->memory, w, sizeof *w);
    }
}

static worker *find(const workers *w, const char *name)
{
    return name != NULL ? (worker *)table_find(&w->table, name) : NULL;
}

/* A worker of that name, in no queue. NULL: there is no room for it. */
static worker *add(workers *w, const char *name)
{
    if (w->table.count >= WORKERS_MAX) {
        if (w->seen.oldest == NULL) {
            return NULL;
        }
        forget(w, (worker *)w->seen.oldest);
    }
    /* under the lock: so that memory must not be asked of others */
    worker *k = memory_get_spare(w->memory, sizeof *k, 0);
    if (k != NULL) {
        *k = (worker){.record = {.first_seen_ms = clock_wall_ms()}};
        strcpy(k->record.name, name);
        table_add(&w->table, &k->entry, k->record.name);
    }
    return k;
}

static void see_again(workers *w, worker *k)
{
    k->record.last_seen_ms = clock_wall_ms();
    if (!k->record.in_quarantine) {
        k->since_ms = w->now_ms();
        queue_unlink(&w->seen, &k->entry);
        queue_push(&w->seen, &k->entry);
    }
}

/* The worker of that name, which is seen now; or NULL. */
static worker *see(workers *w, const char *name)
{
    if (name == NULL || strlen(name) > WORKERS_MAX_NAME) {
        return NULL;
    }
    worker *k = find(w, name);
    if (k == NULL) {
        k = add(w, name);
        if (k != NULL) {
            queue_push(&w->seen, &k->entry);
        }
    }
    if (k != NULL) {
        see_again(w, k);
    }
    return k;
}

void workers_accepted(workers *w, const char *name, double weight, bool has_staleness,
                      uint64_t staleness)
{
    pthread_mutex_lock(&w->lock);
    worker *k = see(w, name);
    if (k != NULL) {
        if (!k->record.accepted && w->gone > 0) {
            w->gone--;
        }
        k->record.accepted = true;
        k->record.weight = weight;
        if (!k->record.in_quarantine) {
            k->record.in_a_row = 0;
        }
        if (has_staleness) {
            k->record.has_staleness = true;
            k->record.staleness = staleness;
            k->record.max_staleness =
                k->record.max_staleness > staleness ? k->record.max_staleness : staleness;
        }
    }
    pthread_mutex_unlock(&w->lock);
}

void workers_stepped(workers *w, const char *name)
{
    pthread_mutex_lock(&w->lock);
    worker *k = find(w, name);
    if (k != NULL) {
        k->record.steps++;
    }
    pthread_mutex_unlock(&w->lock);
}

void workers_waits(workers *w, const char *name)
{
    pthread_mutex_lock(&w->lock);
    worker *k = find(w, name);
    if (k != NULL) {
        see_again(w, k);
    }
    pthread_mutex_unlock(&w->lock);
}

void workers_refused(workers *w, const char *name, problem_code code)
{
    pthread_mutex_lock(&w->lock);
    worker *k = see(w, name);
    if (k != NULL) {
        k->record.refused[code]++;
        k->record.any_refused = true;
        k->record.last_refusal = code;
        k->record.refused_ms = k->record.last_seen_ms;
    }
    pthread_mutex_unlock(&w->lock);
}

static void put_in_quarantine(workers *w, worker *k)
{
    queue_unlink(&w->seen, &k->entry);
    queue_push(&w->quarantine, &k->entry);
    k->record.in_quarantine = true;
    k->since_ms = w->now_ms();
    if (w->staying == NULL) {
        w->staying = &k->entry;
    }
}

void workers_nonfinite(workers *w, const char *name, unsigned most)
{
    pthread_mutex_lock(&w->lock);
    worker *k = see(w, name);
    if (k != NULL) {
        k->record.nonfinite++;
        k->record.in_a_row += k->record.in_a_row < UINT32_MAX;
        if (most > 0 && k->record.in_a_row >= most && !k->record.in_quarantine) {
            put_in_quarantine(w, k);
        }
    }
    pthread_mutex_unlock(&w->lock);
}

bool workers_quarantined(workers *w, const char *name, unsigned *in_a_row)
{
    pthread_mutex_lock(&w->lock);
    const worker *k = find(w, name);
    const bool is = k != NULL && k->record.in_quarantine;
    *in_a_row = k != NULL ? k->record.in_a_row : 0;
    pthread_mutex_unlock(&w->lock);
    return is;
}

bool workers_remove(workers *w, const char *name)
{
    pthread_mutex_lock(&w->lock);
    worker *k = find(w, name);
    const bool known = k != NULL;
    if (known) {
        forget(w, k);
    }
    pthread_mutex_unlock(&w->lock);
    return known;
}

/* Milliseconds until the time of an entry is over. */
static int64_t left(const workers *w, const table_entry *e)
{
    const int64_t ms = ((const worker *)e)->since_ms + w->ttl_ms - w->now_ms();
    return ms > 0 ? ms : 0;
}

static void expire(workers *w)
{
    if (w->ttl_ms == 0) {
        return;
    }
    while (w->seen.oldest != NULL && left(w, w->seen.oldest) == 0) {
        worker *k = (worker *)w->seen.oldest;
        w->gone += k->record.accepted;
        forget(w, k);
    }
    while (w->staying != NULL && left(w, w->staying) == 0) {
        w->gone += ((worker *)w->staying)->record.accepted;
        w->staying = w->staying->newer;
    }
}

unsigned workers_gone(workers *w)
{
    pthread_mutex_lock(&w->lock);
    expire(w);
    const unsigned gone = w->gone;
    pthread_mutex_unlock(&w->lock);
    return gone;
}

int64_t workers_next_gone_ms(workers *w)
{
    int64_t next = -1;
    pthread_mutex_lock(&w->lock);
    if (w->ttl_ms > 0 && w->seen.oldest != NULL) {
        next = left(w, w->seen.oldest);
    }
    if (w->ttl_ms > 0 && w->staying != NULL) {
        const int64_t ms = left(w, w->staying);
        next = next < 0 || ms < next ? ms : next;
    }
    pthread_mutex_unlock(&w->lock);
    return next;
}

size_t workers_count(workers *w)
{
    pthread_mutex_lock(&w->lock);
    const size_t count = w->table.count;
    pthread_mutex_unlock(&w->lock);
    return count;
}

size_t workers_bytes(workers *w)
{
    pthread_mutex_lock(&w->lock);
    const size_t bytes = sizeof *w + table_bytes(&w->table) + w->table.count * sizeof(worker);
    pthread_mutex_unlock(&w->lock);
    return bytes;
}

/* Those before w->staying are counted as gone. */
static size_t copy_queue(const workers *w, const table_queue *q, worker_record *to)
{
    const int64_t now = w->now_ms();
    const table_entry *staying = q == &w->quarantine ? w->staying : q->oldest;
    size_t n = 0;
    bool gone = true;
    for (const table_entry *e = q->oldest; e != NULL; e = e->newer) {
        gone = gone && e != staying;
        to[n] = ((const worker *)e)->record;
        to[n].age_ms = now - ((const worker *)e)->since_ms;
        to[n++].gone = gone;
    }
    return n;
}

bool workers_copy(workers *w, workers_copied *out)
{
    *out = (workers_copied){.room = workers_count(w)};
    for (;;) {
        out->records = memory_get(w->memory, (out->room + 1) * sizeof *out->records);
        if (out->records == NULL) {
            return false;
        }
        pthread_mutex_lock(&w->lock);
        expire(w);
        out->n = w->table.count;
        out->gone = w->gone;
        if (out->n <= out->room) {
            const size_t seen = copy_queue(w, &w->seen, out->records);
            (void)copy_queue(w, &w->quarantine, out->records + seen);
        }
        pthread_mutex_unlock(&w->lock);
        if (out->n <= out->room) {
            return true;
        }
        workers_copy_drop(w, out);
        out->room = out->n; /* others have come meanwhile */
    }
}

void workers_copy_drop(workers *w, workers_copied *copy)
{
    memory_put(w->memory, copy->records, (copy->room + 1) * sizeof *copy->records);
    copy->records = NULL;
}

bool workers_restore(workers *w, const worker_record *record)
{
    pthread_mutex_lock(&w->lock);
    const bool fits = w->table.count < WORKERS_MAX && table_find(&w->table, record->name) == NULL;
    worker *k = fits ? add(w, record->name) : NULL;
    if (k != NULL) {
        k->record = *record;
        k->since_ms = w->now_ms() - record->age_ms;
        queue_push(record->in_quarantine ? &w->quarantine : &w->seen, &k->entry);
        if (record->in_quarantine && !record->gone && w->staying == NULL) {
            w->staying = &k->entry;
        }
    }
    pthread_mutex_unlock(&w->lock);
    return k != NULL;
}

void workers_restore_gone(workers *w, unsigned gone)
{
    pthread_mutex_lock(&w->lock);
    w->gone = gone;
    pthread_mutex_unlock(&w->lock);
}
