#include "journal_support.h"

#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *make_directory(void)
{
    const char *where = getenv("TMPDIR");
    char *dir;
    assert_true(asprintf(&dir, "%s/adamd-journal-XXXXXX", where != NULL ? where : "/tmp") > 0);
    assert_non_null(mkdtemp(dir));
    return dir;
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *f)
{
    (void)s;
    (void)kind;
    (void)f;
    return remove(path);
}

void remove_directory(char *dir)
{
    assert_int_equal(nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
    free(dir);
}

const char *segment_path(const char *dir, uint64_t first)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/journal/%016" PRIx64 ".log", dir, first);
    return path;
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

journal *open_journal(const char *dir, uint64_t end, journal_fsync policy)
{
    char error[512] = "";
    journal *j = journal_open(dir, end, policy, error, sizeof error);
    assert_string_equal(error, "");
    assert_non_null(j);
    return j;
}

static void fill(char *data, uint64_t k, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        data[i] = (char)(k * 131 + i * 7 + 1);
    }
}

journal_status try_append(journal *j, uint64_t k, size_t length, uint64_t *end)
{
    char meta[64];
    char *data = malloc(length + 1);
    const int n = snprintf(meta, sizeof meta, "{\"record\": %" PRIu64 "}", k);
    const journal_record r = {.type = 2,
                              .optimizer = k + 1,
                              .epoch = k + 2,
                              .step = k,
                              .time_ms = -(int64_t)k,
                              .meta = meta,
                              .meta_length = (size_t)n};
    fill(data, k, length);
    const size_t a = length / 3;
    const size_t b = length / 2;
    const struct iovec parts[] = {
        {data, a}, {data + a, 0}, {data + a, b - a}, {data + b, length - b}};
    const journal_status status = journal_append(j, &r, parts, 4, end);
    free(data);
    return status;
}

uint64_t append(journal *j, uint64_t k, size_t length)
{
    uint64_t end = 0;
    assert_int_equal(try_append(j, k, length, &end), JOURNAL_OK);
    return end;
}

typedef struct waiting {
    journal_waiter waiter;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done, ok;
} waiting;

static void note_done(journal_waiter *self, bool ok)
{
    waiting *w = (waiting *)self;
    pthread_mutex_lock(&w->lock);
    w->done = true;
    w->ok = ok;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

bool wait_for(journal *j, uint64_t lsn)
{
    waiting w = {.waiter.done = note_done,
                 .lock = PTHREAD_MUTEX_INITIALIZER,
                 .changed = PTHREAD_COND_INITIALIZER};
    journal_wait(j, &w.waiter, lsn);
    pthread_mutex_lock(&w.lock);
    while (!w.done) {
        pthread_cond_wait(&w.changed, &w.lock);
    }
    pthread_mutex_unlock(&w.lock);
    return w.ok;
}

static void check_record(const journal_record *r, uint64_t k)
{
    char meta[64];
    const int n = snprintf(meta, sizeof meta, "{\"record\": %" PRIu64 "}", k);
    char *data = malloc(r->data_length + 1);
    fill(data, k, r->data_length);
    assert_int_equal(r->type, 2);
    assert_int_equal(r->optimizer, k + 1);
    assert_int_equal(r->epoch, k + 2);
    assert_int_equal(r->step, k);
    assert_int_equal(r->time_ms, -(int64_t)k);
    assert_int_equal(r->meta_length, n);
    assert_memory_equal(r->meta, meta, n);
    assert_memory_equal(r->data, data, r->data_length);
    free(data);
}

reading read_log(const char *dir, uint64_t from, uint64_t k)
{
    char error[512] = "";
    reading result = {0};
    journal_record r;
    journal_reader *reader = journal_reader_open(dir, from, error, sizeof error);
    assert_string_equal(error, "");
    uint64_t place = journal_reader_place(reader);
    while ((result.status = journal_read_next(reader, &r)) == JOURNAL_READ) {
        assert_int_equal(r.lsn, place);
        assert_true(r.durable <= r.lsn);
        place = journal_reader_place(reader);
        if (r.type == JOURNAL_TYPE_SYNC) {
            assert_int_equal(r.meta_length + r.data_length, 0);
            result.syncs++;
        } else {
            check_record(&r, k++);
            result.n++;
        }
    }
    assert_int_equal(journal_read_next(reader, &r), result.status); /* and stays so */
    result.place = journal_reader_place(reader);
    assert_true(journal_reader_done(reader) <= journal_reader_total(reader));
    snprintf(result.reason, sizeof result.reason, "%s", journal_reader_reason(reader));
    journal_reader_close(reader);
    return result;
}

unsigned char *read_file(const char *path, size_t *length)
{
    struct stat s;
    const int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &s) == 0);
    unsigned char *bytes = malloc((size_t)s.st_size + 1);
    *length = (size_t)s.st_size;
    assert_int_equal(read(fd, bytes, *length), s.st_size);
    close(fd);
    return bytes;
}

void write_file(const char *path, const void *bytes, size_t length)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, length), length);
    close(fd);
}

void write_at(const char *path, uint64_t offset, const void *bytes, size_t length)
{
    const int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, length, (off_t)offset), length);
    close(fd);
}
