/* test_journal_faults.c: the journal where the system says no: nothing is left of a record that was
 * refused, a failed sync is for good, and those who wait are told. The linker puts the calls below
 * before those of the C library. */
#include "journal_support.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static atomic_int write_error, allocate_error, sync_error;
static atomic_int write_most; /* bytes of a call; 0: all */
static atomic_int writes_before_error;
static atomic_int syncs, sync_us;

ssize_t __real_pwritev(int fd, const struct iovec *parts, int n, off_t offset);
int __real_fallocate(int fd, int mode, off_t offset, off_t length);
int __real_fdatasync(int fd);
ssize_t __wrap_pwritev(int fd, const struct iovec *parts, int n, off_t offset);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t length);
int __wrap_fdatasync(int fd);

ssize_t __wrap_pwritev(int fd, const struct iovec *parts, int n, off_t offset)
{
    const int error = write_error;
    if (error != 0 && writes_before_error-- <= 0) {
        errno = error;
        return -1;
    }
    if (write_most > 0) {
        struct iovec first = parts[0];
        for (int i = 0; i < n && first.iov_len == 0; i++) {
            first = parts[i];
        }
        first.iov_len = first.iov_len < (size_t)write_most ? first.iov_len : (size_t)write_most;
        return __real_pwritev(fd, &first, 1, offset);
    }
    return __real_pwritev(fd, parts, n, offset);
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t length)
{
    if (allocate_error != 0) {
        errno = allocate_error;
        return -1;
    }
    return __real_fallocate(fd, mode, offset, length);
}

int __wrap_fdatasync(int fd)
{
    syncs++;
    if (sync_us > 0) {
        usleep((useconds_t)sync_us);
    }
    if (sync_error != 0) {
        errno = sync_error;
        return -1;
    }
    return __real_fdatasync(fd);
}

static int reset(void **state)
{
    (void)state;
    write_error = allocate_error = sync_error = write_most = writes_before_error = sync_us = 0;
    return 0;
}

/* Until it is so again, for 10 s at most. */
static void wait_for_health(journal *j, journal_status status)
{
    for (int i = 0; i < 1000 && journal_health(j) != status; i++) {
        usleep(10000);
    }
    assert_int_equal(journal_health(j), status);
}

static void writes_in_pieces_make_whole_records(void **state)
{
    (void)state;
    char *dir = make_directory();
    journal *j = open_journal(dir, 0, JOURNAL_NEVER);
    for (int most = 1; most < 200; most += 7) {
        write_most = most;
        append(j, (uint64_t)(most / 7), 1000);
    }
    write_most = 0;
    journal_close(j);
    const reading r = read_log(dir, 0, 0);
    assert_int_equal(r.status, JOURNAL_END);
    assert_int_equal(r.n, 29);
    remove_directory(dir);
}

/* Where space runs out in the midst of a record. */
static void nothing_is_left_of_a_record_without_space(void **state)
{
    (void)state;
    static const int errors[] = {ENOSPC, EDQUOT, EFBIG};
    char *dir = make_directory();
    journal *j = open_journal(dir, 0, JOURNAL_NEVER);
    uint64_t end = append(j, 0, 100);
    uint64_t none;
    for (uint64_t k = 1; k < 40; k++) {
        write_most = 50;
        writes_before_error = (int)k - 1;
        write_error = errors[k % 3];
        assert_int_equal(try_append(j, k, 3000, &none), JOURNAL_NO_SPACE);
        assert_int_equal(journal_health(j), JOURNAL_NO_SPACE);
        assert_int_equal(journal_end(j), end);
        write_error = write_most = 0;
        reading r = read_log(dir, 0, 0);
        assert_int_equal(r.status, JOURNAL_END); /* nothing but zeros behind it */
        assert_int_equal(r.place, end);
        end = append(j, k, 10);
        assert_int_equal(journal_health(j), JOURNAL_OK);
    }
    journal_close(j);
    assert_int_equal(read_log(dir, 0, 0).n, 40);
    remove_directory(dir);
}

static void space_is_looked_for(void **state)
{
    (void)state;
    char *dir = make_directory();
    journal *j = open_journal(dir, 0, JOURNAL_EVERYSEC);
    allocate_error = ENOSPC;
    uint64_t end = 0;
    assert_int_equal(try_append(j, 0, 100, &end), JOURNAL_NO_SPACE);
    assert_int_equal(journal_reserve(j, 100), JOURNAL_NO_SPACE);
    usleep(1500000);
    assert_int_equal(journal_health(j), JOURNAL_NO_SPACE);
    allocate_error = 0;
    wait_for_health(j, JOURNAL_OK);
    append(j, 0, 100);
    journal_close(j);
    assert_int_equal(read_log(dir, 0, 0).n, 1);
    remove_directory(dir);
}

static void what_is_reserved_can_be_appended(void **state)
{
    (void)state;
    char *dir = make_directory();
    journal *j = open_journal(dir, 0, JOURNAL_NEVER);
    append(j, 0, 40 * MIB);
    assert_int_equal(journal_reserve(j, 40 * MIB), JOURNAL_OK); /* in the next segment */
    allocate_error = ENOSPC;
    uint64_t end = append(j, 1, 40 * MIB - 100);
    uint64_t none;
    assert_int_equal(try_append(j, 2, 100 * MIB, &none), JOURNAL_NO_SPACE); /* one of its own */
    assert_true(journal_end(j) - end <= 128); /* the journal may have synced, and said so */
    append(j, 2, 100);
    allocate_error = EOPNOTSUPP; /* a file system that cannot promise space */
    append(j, 3, 100 * MIB);
    allocate_error = 0;
    journal_close(j);
    assert_int_equal(read_log(dir, 0, 0).n, 4);
    remove_directory(dir);
}

static void a_file_size_limit_is_no_space(void **state)
{
    (void)state;
    char *dir = make_directory();
    struct rlimit before;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    const struct rlimit little = {MIB, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
    journal *j = open_journal(dir, 0, JOURNAL_EVERYSEC);
    uint64_t n = 0;
    uint64_t end;
    while (try_append(j, n, 100000, &end) == JOURNAL_OK) {
        n++;
        assert_true(n < 20);
    }
    assert_int_equal(n, 10);
    assert_int_equal(journal_health(j), JOURNAL_NO_SPACE);
    assert_int_equal(read_log(dir, 0, 0).status, JOURNAL_END);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    wait_for_health(j, JOURNAL_OK);
    append(j, n, 100000);
    journal_close(j);
    assert_int_equal(read_log(dir, 0, 0).n, n + 1);
    remove_directory(dir);
}

static void an_io_error_is_for_good(void **state)
{
    (void)state;
    char *dir = make_directory();
    journal *j = open_journal(dir, 0, JOURNAL_ALWAYS);
    uint64_t end = append(j, 0, 100);
    assert_true(wait_for(j, end));
    assert_string_equal(journal_failure(j), "");
    write_error = EIO;
    uint64_t none;
    assert_int_equal(try_append(j, 1, 100, &none), JOURNAL_FAILED);
    write_error = 0;
    assert_int_equal(try_append(j, 1, 100, &none), JOURNAL_FAILED);
    assert_int_equal(journal_reserve(j, 1), JOURNAL_FAILED);
    assert_int_equal(journal_health(j), JOURNAL_FAILED);
    assert_non_null(strstr(journal_failure(j), ".log: Input/output error"));
    assert_false(wait_for(j, end));
    journal_close(j);
    assert_int_equal(read_log(dir, 0, 0).n, 1);
    remove_directory(dir);
}

static void a_failed_sync_is_not_repeated(void **state)
{
    (void)state;
    char *dir = make_directory();
    journal *j = open_journal(dir, 0, JOURNAL_ALWAYS);
    uint64_t end = append(j, 0, 100);
    const uint64_t durable = journal_durable(j);
    sync_error = EIO;
    assert_false(wait_for(j, end));
    sync_error = 0;
    const int before = syncs;
    assert_int_equal(journal_health(j), JOURNAL_FAILED);
    assert_false(wait_for(j, end));
    assert_int_equal(try_append(j, 1, 100, &end), JOURNAL_FAILED);
    assert_int_equal(journal_durable(j), durable);
    journal_close(j);
    assert_int_equal(syncs, before);
    remove_directory(dir);
}

static void once_a_second_when_something_was_written(void **state)
{
    (void)state;
    char *dir = make_directory();
    journal *j = open_journal(dir, 0, JOURNAL_EVERYSEC);
    const int before = syncs;
    uint64_t end = 0;
    for (uint64_t k = 0; k < 250; k++) {
        end = append(j, k, 100);
        assert_true(wait_for(j, end)); /* at once */
        usleep(10000);
    }
    assert_true(syncs - before >= 2 && syncs - before <= 5);
    for (int i = 0; i < 300 && journal_durable(j) < end; i++) {
        usleep(10000);
    }
    assert_true(journal_durable(j) >= end);
    usleep(50000); /* the sync's own record */
    const int then = syncs;
    const uint64_t there = journal_end(j);
    usleep(1500000);
    assert_int_equal(syncs, then); /* not for its own record */
    assert_int_equal(journal_end(j), there);
    journal_close(j);
    assert_int_equal(read_log(dir, 0, 0).n, 250);
    remove_directory(dir);
}

static void never_syncs_at_the_end(void **state)
{
    (void)state;
    char *dir = make_directory();
    journal *j = open_journal(dir, 0, JOURNAL_NEVER);
    const int before = syncs;
    append(j, 0, 100);
    usleep(1300000);
    assert_int_equal(syncs, before);
    assert_int_equal(journal_durable(j), 0);
    journal_close(j);
    assert_int_equal(syncs, before + 1);
    remove_directory(dir);
}

enum { THREADS = 16, APPENDS = 50 };

static void *append_and_wait(void *argument)
{
    journal *j = argument;
    const journal_record r = {.type = 2, .meta = "{}", .meta_length = 2};
    char data[300] = {0};
    const struct iovec part = {data, sizeof data};
    for (int i = 0; i < APPENDS; i++) {
        uint64_t end;
        if (journal_append(j, &r, &part, 1, &end) != JOURNAL_OK || !wait_for(j, end) ||
            journal_durable(j) < end) {
            return argument;
        }
    }
    return NULL;
}

static void many_share_a_sync(void **state)
{
    (void)state;
    char *dir = make_directory();
    journal *j = open_journal(dir, 0, JOURNAL_ALWAYS);
    pthread_t threads[THREADS];
    sync_us = 2000;
    const int before = syncs;
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, append_and_wait, j), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_true(syncs - before < THREADS * APPENDS / 4);
    sync_us = 0;
    journal_close(j);
    journal_record r;
    char error[512];
    int n = 0;
    journal_reader *reader = journal_reader_open(dir, 0, error, sizeof error);
    while (journal_read_next(reader, &r) == JOURNAL_READ) {
        n += r.type == 2;
    }
    assert_int_equal(n, THREADS * APPENDS);
    journal_reader_close(reader);
    remove_directory(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(writes_in_pieces_make_whole_records, reset),
        cmocka_unit_test_setup(nothing_is_left_of_a_record_without_space, reset),
        cmocka_unit_test_setup(space_is_looked_for, reset),
        cmocka_unit_test_setup(what_is_reserved_can_be_appended, reset),
        cmocka_unit_test_setup(a_file_size_limit_is_no_space, reset),
        cmocka_unit_test_setup(an_io_error_is_for_good, reset),
        cmocka_unit_test_setup(a_failed_sync_is_not_repeated, reset),
        cmocka_unit_test_setup(once_a_second_when_something_was_written, reset),
        cmocka_unit_test_setup(never_syncs_at_the_end, reset),
        cmocka_unit_test_setup(many_share_a_sync, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
