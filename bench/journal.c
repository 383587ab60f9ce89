/* journal.c: what does an append to the journal cost, and what do syncs, shared and not? In a new
 * directory below the one that is named, which should be on the disk in question: journal [DIR]. */
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "journal.h"

#define MIB     ((size_t)1 << 20)
#define THREADS 16
#define SECONDS 3.0
/* Between large appends, for the disk to keep up. */
#define PAUSE_US 20000

static char directory[256];

static journal *open_new(journal_fsync policy)
{
    static int n;
    char dir[300];
    char error[512];
    (void)snprintf(dir, sizeof dir, "%s/%d", directory, ++n);
    if (mkdir(dir, 0700) != 0) {
        bench_fail("cannot make %s", dir);
    }
    journal *j = journal_open(dir, 0, policy, error, sizeof error);
    if (j == NULL) {
        bench_fail("%s", error);
    }
    usleep(200000); /* until the spare segment is there */
    return j;
}

static uint64_t append(journal *j, const char *data, size_t length)
{
    const journal_record r = {.type = 2, .meta = "{}", .meta_length = 2};
    const struct iovec part = {(char *)data, length};
    uint64_t end;
    if (journal_append(j, &r, &part, 1, &end) != JOURNAL_OK) {
        bench_fail("an append failed");
    }
    return end;
}

/* Appends, with pauses between them in which the disk may keep up, beside copies of the same bytes.
 */
static void measure_appends(size_t length, size_t n, unsigned pause_us)
{
    char *data = malloc(length);
    char *copy = malloc(length);
    double *us = malloc(n * sizeof *us);
    double *copies = malloc(n * sizeof *us);
    double total = 0;
    journal *j = open_new(JOURNAL_NEVER);
    memset(data, 1, length);
    memset(copy, 2, length);
    for (size_t i = 0; i < n; i++) {
        data[i % length]++;
        if (length > MIB) {
            (void)usleep(PAUSE_US);
        }
        double start = bench_now();
        append(j, data, length);
        us[i] = 1e6 * (bench_now() - start);
        total += us[i];
        start = bench_now();
        memcpy(copy, data, length);
        copies[i] = 1e6 * (bench_now() - start);
        if (copy[i % length] != data[i % length]) {
            bench_fail("copied wrongly");
        }
        usleep(pause_us);
    }
    journal_close(j);
    const double median = bench_median(us, n);
    (void)printf(
        "append of %zu bytes: median %.1f us, mean %.1f, p99 %.1f, longest %.1f; a copy %.1f\n",
        length, median, total / (double)n, us[n * 99 / 100], us[n - 1], bench_median(copies, n));
    free(data);
    free(copy);
    free(us);
    free(copies);
}

typedef struct waiting {
    journal_waiter waiter;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
} waiting;

static void note_done(journal_waiter *self, bool ok)
{
    waiting *w = (waiting *)self;
    if (!ok) {
        bench_fail("a sync failed");
    }
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

typedef struct appender {
    journal *journal;
    pthread_t thread;
    size_t n;
} appender;

static void *append_synced(void *argument)
{
    static const char data[1000];
    appender *a = argument;
    const double end = bench_now() + SECONDS;
    while (bench_now() < end) {
        waiting w = {.waiter.done = note_done,
                     .lock = PTHREAD_MUTEX_INITIALIZER,
                     .changed = PTHREAD_COND_INITIALIZER};
        journal_wait(a->journal, &w.waiter, append(a->journal, data, sizeof data));
        pthread_mutex_lock(&w.lock);
        while (!w.done) {
            pthread_cond_wait(&w.changed, &w.lock);
        }
        pthread_mutex_unlock(&w.lock);
        a->n++;
    }
    return NULL;
}

static double measure_syncs(size_t threads)
{
    appender all[THREADS] = {0};
    double n = 0;
    journal *j = open_new(JOURNAL_ALWAYS);
    for (size_t i = 0; i < threads; i++) {
        all[i].journal = j;
        if (pthread_create(&all[i].thread, NULL, append_synced, &all[i]) != 0) {
            bench_fail("no thread");
        }
    }
    for (size_t i = 0; i < threads; i++) {
        pthread_join(all[i].thread, NULL);
        n += (double)all[i].n;
    }
    journal_close(j);
    (void)printf("synced appends of 1000 bytes, %zu threads: %.0f a second\n", threads,
                 n / SECONDS);
    return n;
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *f)
{
    (void)s;
    (void)kind;
    (void)f;
    return remove(path);
}

int main(int argc, char **argv)
{
    (void)snprintf(directory, sizeof directory, "%s/journal-bench-XXXXXX",
                   argc > 1 ? argv[1] : ".");
    if (mkdtemp(directory) == NULL) {
        bench_fail("cannot make %s", directory);
    }
    measure_appends(1000, 20000, 0);
    measure_appends(4 * MIB, 200, 20000);
    const double one = measure_syncs(1);
    (void)printf("16 threads beside one: %.1f times as many\n", measure_syncs(THREADS) / one);
    return nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0 ? 0 : 1;
}
