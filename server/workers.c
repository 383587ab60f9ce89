/* workers.c: a table of workers; queues of those that are seen and those in quarantine. */
#include "workers.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "codec_history.h"
#include "codec_numbers.h"
#include "table.h"

#define X(name, slug, title) +1
enum { PROBLEMS = 0 PROBLEM_MAP(X) };
#undef X

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
    int64_t first_seen_ms, last_seen_ms, refused_ms;
    uint64_t steps, nonfinite, staleness, max_staleness;
    double weight;
    unsigned in_a_row; /* that were not finite */
    problem_code last_refusal;
    bool accepted; /* once */
    bool has_staleness, any_refused, in_quarantine;
    uint32_t refused[PROBLEMS];
    char name[WORKERS_MAX_NAME + 1];
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
    queue_unlink(k->in_quarantine ? &w->quarantine : &w->seen, &k->entry);
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

/* NULL: there is no room for it. */
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
        *k = (worker){.first_seen_ms = clock_wall_ms()};
        strcpy(k->name, name);
        table_add(&w->table, &k->entry, k->name);
        queue_push(&w->seen, &k->entry);
    }
    return k;
}

static void see_again(workers *w, worker *k)
{
    k->last_seen_ms = clock_wall_ms();
    if (!k->in_quarantine) {
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
    k = k != NULL ? k : add(w, name);
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
        if (!k->accepted && w->gone > 0) {
            w->gone--;
        }
        k->accepted = true;
        k->weight = weight;
        if (!k->in_quarantine) {
            k->in_a_row = 0;
        }
        if (has_staleness) {
            k->has_staleness = true;
            k->staleness = staleness;
            k->max_staleness = k->max_staleness > staleness ? k->max_staleness : staleness;
        }
    }
    pthread_mutex_unlock(&w->lock);
}

void workers_stepped(workers *w, const char *name)
{
    pthread_mutex_lock(&w->lock);
    worker *k = find(w, name);
    if (k != NULL) {
        k->steps++;
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
        k->refused[code]++;
        k->any_refused = true;
        k->last_refusal = code;
        k->refused_ms = k->last_seen_ms;
    }
    pthread_mutex_unlock(&w->lock);
}

static void put_in_quarantine(workers *w, worker *k)
{
    queue_unlink(&w->seen, &k->entry);
    queue_push(&w->quarantine, &k->entry);
    k->in_quarantine = true;
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
        k->nonfinite++;
        k->in_a_row += k->in_a_row < UINT32_MAX;
        if (most > 0 && k->in_a_row >= most && !k->in_quarantine) {
            put_in_quarantine(w, k);
        }
    }
    pthread_mutex_unlock(&w->lock);
}

bool workers_quarantined(workers *w, const char *name, unsigned *in_a_row)
{
    pthread_mutex_lock(&w->lock);
    const worker *k = find(w, name);
    const bool is = k != NULL && k->in_quarantine;
    *in_a_row = k != NULL ? k->in_a_row : 0;
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
        w->gone += k->accepted;
        forget(w, k);
    }
    while (w->staying != NULL && left(w, w->staying) == 0) {
        w->gone += ((worker *)w->staying)->accepted;
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

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const worker *)a)->name, ((const worker *)b)->name);
}

static void show_uint(text *t, const char *name, uint64_t value)
{
    text_add_format(t, ", \"%s\": %llu", name, (unsigned long long)value);
}

static void show_refused(text *t, const worker *k)
{
    const char *before = "";
    text_add_string(t, ", \"refused\": {");
    for (int i = 0; i < PROBLEMS; i++) {
        if (k->refused[i] > 0) {
            text_add_format(t, "%s\"%s\": %u", before, problem_slug((problem_code)i),
                            k->refused[i]);
            before = ", ";
        }
    }
    text_add_string(t, "}, \"last_refusal\": ");
    if (k->any_refused) {
        text_add_string(t, "{\"time\": ");
        show_time(t, k->refused_ms);
        text_add_format(t, ", \"code\": \"%s\"}", problem_slug(k->last_refusal));
    } else {
        text_add_string(t, "null");
    }
}

static void show_worker(text *t, const worker *k)
{
    text_add_string(t, "{\"name\": ");
    json_add_string(t, k->name, strlen(k->name));
    text_add_string(t, ", \"first_seen\": ");
    show_time(t, k->first_seen_ms);
    text_add_string(t, ", \"last_seen\": ");
    show_time(t, k->last_seen_ms);
    show_uint(t, "steps", k->steps);
    text_add_string(t, ", \"weight\": ");
    if (k->accepted) {
        json_add_double(t, k->weight);
    } else {
        text_add_string(t, "null");
    }
    if (k->has_staleness) {
        text_add_format(t, ", \"staleness\": {\"last\": %llu, \"max\": %llu}",
                        (unsigned long long)k->staleness, (unsigned long long)k->max_staleness);
    } else {
        text_add_string(t, ", \"staleness\": null");
    }
    show_uint(t, "nonfinite", k->nonfinite);
    show_uint(t, "consecutive_nonfinite", k->in_a_row);
    text_add_format(t, ", \"quarantined\": %s", k->in_quarantine ? "true" : "false");
    show_refused(t, k);
    text_add_string(t, "}");
}

static size_t copy_queue(const table_queue *q, worker *to)
{
    size_t n = 0;
    for (const table_entry *e = q->oldest; e != NULL; e = e->newer) {
        to[n++] = *(const worker *)e;
    }
    return n;
}

/* Copies all of them, so that nobody waits while they are printed. False: no memory. */
static bool copy_all(workers *w, worker **copy, size_t *n, size_t *room, unsigned *gone)
{
    *room = workers_count(w);
    for (;;) {
        *copy = memory_get(w->memory, (*room + 1) * sizeof **copy);
        if (*copy == NULL) {
            return false;
        }
        pthread_mutex_lock(&w->lock);
        expire(w);
        *n = w->table.count;
        *gone = w->gone;
        if (*n <= *room) {
            const size_t seen = copy_queue(&w->seen, *copy);
            (void)copy_queue(&w->quarantine, *copy + seen);
        }
        pthread_mutex_unlock(&w->lock);
        if (*n <= *room) {
            return true;
        }
        memory_put(w->memory, *copy, (*room + 1) * sizeof **copy);
        *room = *n; /* others have come meanwhile */
    }
}

void workers_show(workers *w, text *t)
{
    worker *copy;
    size_t n;
    size_t room;
    unsigned gone;
    if (!copy_all(w, &copy, &n, &room, &gone)) {
        t->failed = true;
        return;
    }
    qsort(copy, n, sizeof *copy, compare_names);
    text_add_string(t, "{\"workers\": [");
    for (size_t i = 0; i < n && !t->failed; i++) {
        text_add_string(t, i > 0 ? ",\n " : "\n ");
        show_worker(t, &copy[i]);
    }
    text_add_format(t, "], \"gone\": %u}", gone);
    memory_put(w->memory, copy, (room + 1) * sizeof *copy);
}
