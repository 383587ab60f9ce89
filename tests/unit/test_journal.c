/* test_journal.c: journal*.c: what was appended is read back, over segments and openings; what was
 * torn off is cut off; what was damaged is noticed, whatever it is. */
#include "journal_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32c.h"
#include "journal_internal.h"

#define MIB ((size_t)1 << 20)

static void checksum_is_the_standard_one(void **state)
{
    (void)state;
    assert_int_equal(crc32c("123456789", 9), 0xe3069283); /* RFC 3720 */
    assert_int_equal(crc32c_extend(crc32c("1234", 4), "56789", 5), 0xe3069283);
    assert_int_equal(crc32c("", 0), 0);
}

static void records_come_back(void **state)
{
    (void)state;
    char *dir = make_directory();
    assert_int_equal(read_log(dir, 0, 0).status, JOURNAL_END);
    journal *j = open_journal(dir, 0, JOURNAL_NEVER);
    static const size_t lengths[] = {0, 1, 31, 32, 33, 63, 64, 1000, 65536, MIB, MIB + 1, 3 * MIB};
    uint64_t end = 0;
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        const uint64_t before = end;
        end = append(j, k, lengths[k]);
        assert_int_equal(end % JOURNAL_ALIGN, 0);
        assert_true(end - before >= JOURNAL_HEADER_BYTES + lengths[k]);
        assert_int_equal(journal_end(j), end);
        const reading so_far = read_log(dir, 0, 0); /* while it is open */
        assert_int_equal(so_far.status, JOURNAL_END);
        assert_int_equal(so_far.n, k + 1);
        assert_int_equal(so_far.place, end);
    }
    struct stat s;
    assert_int_equal(stat(segment_path(dir, 0), &s), 0);
    assert_int_equal(s.st_mode & 0777, 0600);
    journal_close(j);
    remove_directory(dir);
}

/* One call's parts are limited; a record's are not. */
static void many_parts_make_one_record(void **state)
{
    (void)state;
    enum { PARTS = 3000 };
    char *dir = make_directory();
    journal *j = open_journal(dir, 0, JOURNAL_NEVER);
    static char bytes[PARTS];
    static struct iovec parts[PARTS];
    for (size_t i = 0; i < PARTS; i++) {
        bytes[i] = (char)i;
        parts[i] = (struct iovec){bytes + i, 1};
    }
    const journal_record r = {.type = 3, .meta = "", .meta_length = 0};
    uint64_t end;
    assert_int_equal(journal_append(j, &r, parts, PARTS, &end), JOURNAL_OK);
    char error[512];
    journal_record out;
    journal_reader *reader = journal_reader_open(dir, JOURNAL_FROM_FIRST, error, sizeof error);
    assert_int_equal(journal_read_next(reader, &out), JOURNAL_READ);
    assert_int_equal(out.data_length, PARTS);
    assert_memory_equal(out.data, bytes, PARTS);
    journal_reader_close(reader);
    journal_close(j);
    remove_directory(dir);
}

static void segments_roll_and_are_dropped(void **state)
{
    (void)state;
    char *dir = make_directory();
    journal *j = open_journal(dir, 0, JOURNAL_NEVER);
    uint64_t ends[40];
    for (size_t k = 0; k < 40; k++) { /* number 20 is larger than a segment */
        ends[k] = append(j, k, k == 20 ? (size_t)JOURNAL_SEGMENT_BYTES + 5 : 6 * MIB);
        usleep(k % 10 == 0 ? 20000 : 0); /* now and then the thread has the next one ready */
    }
    struct stat s;
    assert_true(file_exists(segment_path(dir, ends[19])));
    for (int i = 0; i < 500 && journal_durable(j) < ends[20]; i++) {
        usleep(
            10000); /* until the thread has synced what is closed, and let go the space behind it */
    }
    assert_int_equal(stat(segment_path(dir, ends[19]), &s), 0);
    assert_int_equal(s.st_size, ends[20] - ends[19]);
    assert_int_equal(stat(segment_path(dir, 0), &s), 0);
    assert_true((uint64_t)s.st_size <= JOURNAL_SEGMENT_BYTES);
    assert_true(file_exists(segment_path(dir, (uint64_t)s.st_size)));
    reading all = read_log(dir, 0, 0);
    assert_int_equal(all.status, JOURNAL_END);
    assert_int_equal(all.n, 40);
    all = read_log(dir, ends[9], 10); /* from within, too */
    assert_int_equal(all.n, 30);

    journal_drop_before(j, ends[19] - 1);
    assert_true(journal_first(j) < ends[19]);
    assert_true(journal_first(j) > 0);
    assert_false(file_exists(segment_path(dir, 0)));
    journal_drop_before(j, ends[20]);
    assert_int_equal(journal_first(j), ends[20]);
    assert_false(file_exists(segment_path(dir, ends[19])));
    journal_drop_before(j, UINT64_MAX); /* the last one stays */
    const uint64_t first = journal_first(j);
    assert_true(first <= journal_end(j));
    assert_true(file_exists(segment_path(dir, first)));
    const uint64_t end = journal_end(j);
    journal_close(j);

    char error[512];
    assert_null(journal_reader_open(dir, 0, error, sizeof error));
    assert_non_null(strstr(error, "missing"));
    assert_null(
        journal_open(dir, 0, JOURNAL_NEVER, error, sizeof error)); /* no place in this log */
    j = open_journal(dir, end, JOURNAL_NEVER);
    append(j, 40, 10);
    journal_close(j);
    all = read_log(dir, end, 40);
    assert_int_equal(all.n, 1);
    assert_int_equal(all.status, JOURNAL_END);
    remove_directory(dir);
}

static void it_goes_on_where_it_ended(void **state)
{
    (void)state;
    char *dir = make_directory();
    reading r = {0};
    for (uint64_t k = 0; k < 12; k += 3) {
        journal *j = open_journal(dir, r.place, k % 2 == 0 ? JOURNAL_ALWAYS : JOURNAL_EVERYSEC);
        assert_int_equal(journal_durable(j), r.place);
        for (uint64_t i = 0; i < 3; i++) {
            append(j, k + i, 500 * (size_t)i);
        }
        journal_close(j);
        r = read_log(dir, 0, 0);
        assert_int_equal(r.status, JOURNAL_END);
        assert_int_equal(r.n, k + 3);
    }
    assert_true(r.syncs >= 4); /* each close syncs and says so */
    remove_directory(dir);
}

/* A small log, and its bytes up to the end. */
typedef struct small_log {
    char *dir;
    char *path;
    unsigned char *bytes;
    uint64_t ends[5]; /* of its records */
    size_t length;
} small_log;

static small_log make_small_log(journal_fsync policy)
{
    small_log l = {.dir = make_directory()};
    journal *j = open_journal(l.dir, 0, policy);
    for (uint64_t k = 0; k < 5; k++) {
        l.ends[k] = append(j, k, 20 * (size_t)k);
        if (policy == JOURNAL_ALWAYS) {
            assert_true(wait_for(j, l.ends[k]));
            while (journal_end(j) == l.ends[k]) { /* its own record comes after the answer */
                usleep(100);
            }
        }
    }
    const uint64_t end = l.ends[4];
    size_t length;
    l.path = strdup(segment_path(l.dir, 0));
    l.bytes = read_file(l.path, &length);
    l.length = (size_t)end;
    journal_close(j);
    write_file(l.path, l.bytes, l.length);
    return l;
}

static void free_small_log(small_log *l)
{
    remove_directory(l->dir);
    free(l->path);
    free(l->bytes);
}

static uint64_t records_before(const small_log *l, uint64_t place)
{
    uint64_t n = 0;
    while (n < 5 && l->ends[n] <= place) {
        n++;
    }
    return n;
}

static void a_tail_of_any_length_is_cut_off(void **state)
{
    (void)state;
    small_log l = make_small_log(JOURNAL_NEVER);
    for (size_t length = 0; length <= l.length; length++) {
        write_file(l.path, l.bytes, length);
        reading r = read_log(l.dir, 0, 0);
        const uint64_t n = records_before(&l, length);
        const uint64_t end = n > 0 ? l.ends[n - 1] : 0;
        assert_int_equal(r.n, n);
        assert_int_equal(r.place, end);
        assert_int_equal(r.status, length > end ? JOURNAL_TORN : JOURNAL_END);
    }
    free_small_log(&l);
}

static void a_torn_log_goes_on(void **state)
{
    (void)state;
    small_log l = make_small_log(JOURNAL_NEVER);
    for (size_t length = 1; length <= l.length; length += 41) {
        write_file(l.path, l.bytes, length);
        reading r = read_log(l.dir, 0, 0);
        journal *j = open_journal(l.dir, r.place, JOURNAL_NEVER);
        append(j, r.n, 77);
        journal_close(j);
        const reading again = read_log(l.dir, 0, 0);
        assert_int_equal(again.status, JOURNAL_END);
        assert_int_equal(again.n, r.n + 1);
    }
    free_small_log(&l);
}

/* Where the record that has a byte begins. */
static uint64_t begin_of(const small_log *l, uint64_t place)
{
    const uint64_t n = records_before(l, place);
    return n > 0 ? l->ends[n - 1] : 0;
}

/* Only what pads a record may be anything. */
static bool is_padding(const small_log *l, uint64_t place)
{
    const uint64_t begin = begin_of(l, place);
    uint64_t length;
    memcpy(&length, l->bytes + begin + 16, sizeof length);
    return place >= begin + JOURNAL_HEADER_BYTES + length;
}

static void any_flipped_byte_is_noticed(void **state)
{
    (void)state;
    small_log l = make_small_log(JOURNAL_NEVER);
    size_t padding = 0;
    for (size_t i = 0; i < l.length; i++) {
        l.bytes[i] ^= (unsigned char)(1 << i % 8);
        write_file(l.path, l.bytes, l.length);
        l.bytes[i] ^= (unsigned char)(1 << i % 8);
        const reading r = read_log(l.dir, 0, 0);
        if (is_padding(&l, i)) {
            assert_int_equal(r.status, JOURNAL_END);
            assert_int_equal(r.n, 5);
            padding++;
        } else { /* nothing says that it was on disk */
            assert_int_equal(r.status, JOURNAL_TORN);
            assert_int_equal(r.place, begin_of(&l, i));
        }
    }
    assert_true(padding > 0 && padding < 5 * JOURNAL_ALIGN);
    free_small_log(&l);
}

static void a_flipped_byte_of_what_was_synced_is_damage(void **state)
{
    (void)state;
    small_log l = make_small_log(JOURNAL_ALWAYS);
    for (size_t i = 0; i < l.ends[3]; i++) {
        l.bytes[i] ^= 0x10;
        write_file(l.path, l.bytes, l.length);
        l.bytes[i] ^= 0x10;
        const reading r = read_log(l.dir, 0, 0);
        if (r.status == JOURNAL_END) {
            assert_int_equal(r.n, 5); /* padding */
        } else if (r.status == JOURNAL_BAD) {
            assert_true(r.place <= i);
            assert_non_null(strstr(r.reason, "was on disk"));
        } else { /* the journal's own record after the last sync: nothing after it says more */
            assert_true(r.n >= 4);
        }
    }
    free_small_log(&l);
}

/* Unsynced parts of the log reach the disk in any order. */
static void a_hole_is_torn_unless_it_was_synced(void **state)
{
    (void)state;
    static const unsigned char zeros[1024];
    for (int synced = 0; synced < 2; synced++) {
        small_log l = make_small_log(synced ? JOURNAL_ALWAYS : JOURNAL_NEVER);
        write_at(l.path, l.ends[0], zeros, (size_t)(l.ends[1] - l.ends[0]));
        reading r = read_log(l.dir, 0, 0);
        assert_int_equal(r.n, 1);
        if (synced) {
            assert_int_equal(r.status, JOURNAL_BAD);
            assert_true(r.place >= l.ends[0]);
        } else {
            assert_int_equal(r.status, JOURNAL_TORN);
            assert_int_equal(r.place, l.ends[0]);
            /* what stood behind does not come back */
            journal *j = open_journal(l.dir, r.place, JOURNAL_NEVER);
            append(j, 1, 20);
            journal_close(j);
            r = read_log(l.dir, 0, 0);
            assert_int_equal(r.status, JOURNAL_END);
            assert_int_equal(r.n, 2);
        }
        free_small_log(&l);
    }
}

static void bytes_behind_the_end_are_a_torn_tail(void **state)
{
    (void)state;
    small_log l = make_small_log(JOURNAL_NEVER);
    assert_int_equal(truncate(l.path, (off_t)(8 * MIB)), 0);
    assert_int_equal(read_log(l.dir, 0, 0).status, JOURNAL_END);
    static const size_t places[] = {0, 63, 95, 96, 1 * MIB - 1, 8 * MIB - 1 - 2048};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        write_at(l.path, l.length + places[i], "x", 1);
        const reading r = read_log(l.dir, 0, 0);
        write_at(l.path, l.length + places[i], "", 1);
        assert_int_equal(r.status, JOURNAL_TORN);
        assert_int_equal(r.place, l.length);
        assert_int_equal(r.n, 5);
    }
    free_small_log(&l);
}

/* Segments of one large record each. */
static void make_segments(const char *dir, journal_fsync policy, uint64_t ends[4])
{
    journal *j = open_journal(dir, 0, policy);
    for (uint64_t k = 0; k < 4; k++) {
        ends[k] = append(j, k, (size_t)JOURNAL_SEGMENT_BYTES / 2 + MIB);
        if (policy == JOURNAL_ALWAYS) {
            assert_true(wait_for(j, ends[k]));
        }
    }
    journal_close(j);
}

static void a_missing_segment_is_noticed(void **state)
{
    (void)state;
    uint64_t ends[4];
    char *dir = make_directory();
    char error[512] = "";
    make_segments(dir, JOURNAL_ALWAYS, ends);
    journal_reader *r = journal_reader_open(dir, JOURNAL_FROM_FIRST, error, sizeof error);
    journal_record out;
    while (journal_read_next(r, &out) == JOURNAL_READ && out.step != 2) {
    }
    const uint64_t third = out.lsn; /* the journal's own records are in between */
    assert_int_equal(out.step, 2);
    journal_reader_close(r);
    unlink(segment_path(dir, third));
    assert_false(file_exists(segment_path(dir, third)));
    const reading all = read_log(dir, 0, 0);
    assert_int_equal(all.status, JOURNAL_BAD);
    assert_int_equal(all.place, third);
    assert_int_equal(all.n, 2);
    assert_null(journal_reader_open(dir, third + 64, error, sizeof error));
    assert_non_null(strstr(error, "missing"));
    remove_directory(dir);
}

/* The next segment's name may reach the disk before this one's records: what follows goes with
 * them, unless it says that they were there. */
static void segments_behind_a_torn_one_go(void **state)
{
    (void)state;
    char *dir = make_directory();
    journal_close(open_journal(dir, 0, JOURNAL_NEVER));
    unsigned char record[256] = {0};
    journal_record r = {.type = 2};
    journal_header_write(record, &r, 160, crc32c(record + JOURNAL_HEADER_BYTES, 160));
    write_file(segment_path(dir, 0), record, 192); /* 64 bytes are missing */
    r.lsn = r.durable = 256;
    journal_header_write(record, &r, 160, crc32c(record + JOURNAL_HEADER_BYTES, 160));
    write_file(segment_path(dir, 256), record, 256);
    reading all = read_log(dir, 0, 0);
    assert_int_equal(all.status, JOURNAL_BAD);
    assert_int_equal(all.place, 0);

    r.durable = 0;
    journal_header_write(record, &r, 160, crc32c(record + JOURNAL_HEADER_BYTES, 160));
    write_file(segment_path(dir, 256), record, 256);
    all = read_log(dir, 0, 0);
    assert_int_equal(all.status, JOURNAL_TORN);
    assert_int_equal(all.place, 0);
    journal *j = open_journal(dir, all.place, JOURNAL_NEVER);
    assert_false(file_exists(segment_path(dir, 256)));
    append(j, 0, 5);
    journal_close(j);
    all = read_log(dir, 0, 0);
    assert_int_equal(all.n, 1);
    assert_int_equal(all.status, JOURNAL_END);
    remove_directory(dir);
}

static void what_cannot_be_opened_says_why(void **state)
{
    (void)state;
    char error[512] = "";
    assert_null(journal_open("/nonexistent/dir", 0, JOURNAL_NEVER, error, sizeof error));
    assert_non_null(strstr(error, "/nonexistent/dir/journal"));
    assert_non_null(strstr(error, "No such file or directory"));
    char *dir = make_directory();
    assert_null(journal_reader_open(dir, 640, error, sizeof error));
    assert_non_null(strstr(error, "missing"));
    journal *j = open_journal(dir, 0, JOURNAL_NEVER);
    append(j, 0, 0);
    journal_close(j);
    assert_null(journal_open(dir, (uint64_t)1 << 40, JOURNAL_NEVER, error, sizeof error));
    remove_directory(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checksum_is_the_standard_one),
        cmocka_unit_test(records_come_back),
        cmocka_unit_test(many_parts_make_one_record),
        cmocka_unit_test(segments_roll_and_are_dropped),
        cmocka_unit_test(it_goes_on_where_it_ended),
        cmocka_unit_test(a_tail_of_any_length_is_cut_off),
        cmocka_unit_test(a_torn_log_goes_on),
        cmocka_unit_test(any_flipped_byte_is_noticed),
        cmocka_unit_test(a_flipped_byte_of_what_was_synced_is_damage),
        cmocka_unit_test(a_hole_is_torn_unless_it_was_synced),
        cmocka_unit_test(bytes_behind_the_end_are_a_torn_tail),
        cmocka_unit_test(a_missing_segment_is_noticed),
        cmocka_unit_test(segments_behind_a_torn_one_go),
        cmocka_unit_test(what_cannot_be_opened_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
