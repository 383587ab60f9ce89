/* test_snapshot_files.c: snapshot_files.c and snapshot_read.c: no byte of a file can change
 * unnoticed; old ones go; whatever fails, those that were there stay. */
#include "support.h"

#include <dirent.h>
#include <errno.h>

#define MIB          ((size_t)1 << 20)
#define BUDGET_BYTES (64 * MIB)
#include "budget.h"
#include "crc32c.h"
#include "snapshots.h"

/* ---- files that are not what was written ---- */

/* A file in memory. */
typedef struct image_file {
    char *bytes;
    size_t length;
} image_file;

static image_file slurp(const char *path)
{
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    image_file i = {malloc((size_t)info.st_size + 1), (size_t)info.st_size};
    FILE *file = fopen(path, "rb");
    assert_true(i.bytes != NULL && file != NULL);
    assert_int_equal(fread(i.bytes, 1, i.length, file), i.length);
    (void)fclose(file);
    return i;
}

static void put(const char *path, const char *bytes, size_t length)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    (void)fclose(file);
}

/* It is refused, with the file's name. */
static void refuse(const fixture *f, const char *path)
{
    snapshot_error error = {""};
    snapshot_content c;
    const snapshot_settings settings = settings_of(f);
    assert_int_equal(snapshot_read(path, &settings, &c, &error), SNAPSHOT_BAD);
    assert_non_null(strstr(error.message, path));
    assert_null(c.optimizer);
}

/* No byte is harmless, spaces included. */
static void test_damaged(void **state)
{
    fixture *f = *state;
    snapshot_error error;
    const adam_step_stats stats = {.step = 1};
    adam_optimizer *o = make_small(NULL);
    snapshot_source from = plain_source(o);
    idempotency *keys = idempotency_create(f->memory, 10, 3600);
    workers *w = workers_create(f->memory, 3600);
    assert_true(keys != NULL && w != NULL);
    assert_true(idempotency_begin(keys, "k", (fingerprint){1, 2}, 0));
    idempotency_end(keys, "k", 200, 0, &stats, NULL);
    workers_accepted(w, "w", 1, false, 0);
    from.keys = keys;
    from.workers = w;
    step_small(o, 1);
    assert_int_equal(take(f, &from, NULL, &error), SNAPSHOT_OK);
    const char *path = path_of(&from);
    image_file good = slurp(path);
    for (size_t i = 0; i < good.length; i++) {
        const char byte = good.bytes[i];
        const int flips[] = {1 << i % 8, 0x20, 0xff};
        for (size_t k = 0; k < COUNT(flips); k++) {
            good.bytes[i] = (char)(byte ^ flips[k]);
            put(path, good.bytes, good.length);
            refuse(f, path);
        }
        good.bytes[i] = byte;
        put(path, good.bytes, i);
        refuse(f, path);
    }
    good.bytes[good.length] = 0; /* one too many */
    put(path, good.bytes, good.length + 1);
    refuse(f, path);
    put(path, good.bytes, good.length);
    snapshot_content c = restore(f, &from);
    snapshot_content_drop(&c);
    free(good.bytes);
    idempotency_free(keys);
    workers_free(w);
    adam_optimizer_free(o);
}

/* Puts the right checksum into a header that was changed. */
static void sign(image_file *file)
{
    const char begin[] = "{\"__metadata__\":{\"format\":\"adamd\",\"header_crc32c\":\"";
    const size_t at = 8 + sizeof begin - 1;
    uint64_t length;
    char digits[9];
    memcpy(&length, file->bytes, sizeof length);
    memcpy(file->bytes + at, "00000000", 8);
    (void)snprintf(digits, sizeof digits, "%08x", crc32c_extend(0, file->bytes, 8 + length));
    memcpy(file->bytes + at, digits, 8);
}

static char *find_text(image_file *file, const char *wanted)
{
    char *at = memmem(file->bytes, file->length, wanted, strlen(wanted));
    assert_non_null(at);
    return at;
}

/* What is refused says what it is, and what was expected. */
static void test_other_files(void **state)
{
    fixture *f = *state;
    snapshot_error error;
    snapshot_content c;
    const snapshot_settings settings = settings_of(f);
    adam_optimizer *o = make_small(NULL);
    const snapshot_source from = plain_source(o);
    assert_int_equal(take(f, &from, NULL, &error), SNAPSHOT_OK);
    const char *path = path_of(&from);
    image_file file = slurp(path);
    file.bytes[file.length - 1] ^= 1; /* of the last tensor that is not empty */
    put(path, file.bytes, file.length);
    assert_int_equal(snapshot_read(path, &settings, &c, &error), SNAPSHOT_BAD);
    assert_non_null(strstr(error.message, ": tensor 'max_exp_avg_sq/c', "));
    file.bytes[file.length - 1] ^= 1;
    char *version = find_text(&file, "version\\\": 1") + strlen("version\\\": ");
    *version = '2';
    sign(&file);
    put(path, file.bytes, file.length);
    assert_int_equal(snapshot_read(path, &settings, &c, &error), SNAPSHOT_BAD);
    assert_non_null(
        strstr(error.message, "it is a snapshot of version 2, and this server reads version 1"));
    *version = '1';
    memcpy(find_text(&file, "header_crc32c"), "Header_crc32c", 13);
    put(path, file.bytes, file.length);
    assert_int_equal(snapshot_read(path, &settings, &c, &error), SNAPSHOT_BAD);
    assert_non_null(strstr(error.message, "it is no snapshot: at byte 8, expected {"));
    free(file.bytes);
    adam_optimizer_free(o);
}

/* A header with one byte changed and the checksum right: refused or read, and nothing worse. */
static void test_changed_headers(void **state)
{
    fixture *f = *state;
    snapshot_error error;
    const snapshot_settings settings = settings_of(f);
    adam_optimizer *o = make_small(NULL);
    const snapshot_source from = plain_source(o);
    step_small(o, 1);
    assert_int_equal(take(f, &from, NULL, &error), SNAPSHOT_OK);
    const char *path = path_of(&from);
    image_file file = slurp(path);
    uint64_t length;
    memcpy(&length, file.bytes, sizeof length);
    for (size_t i = 67; i < 8 + length; i++) {
        const char byte = file.bytes[i];
        const char others[] = {'0', '9', '"', '[', '}', '-', 'e', ' '};
        file.bytes[i] = others[i % sizeof others];
        sign(&file);
        put(path, file.bytes, file.length);
        snapshot_content c;
        if (snapshot_read(path, &settings, &c, &error) == SNAPSHOT_OK) {
            snapshot_content_drop(&c);
        } else {
            assert_non_null(strstr(error.message, path));
        }
        file.bytes[i] = byte;
    }
    free(file.bytes);
    adam_optimizer_free(o);
}

static void test_no_file(void **state)
{
    fixture *f = *state;
    snapshot_error error;
    snapshot_content c;
    const snapshot_settings settings = settings_of(f);
    assert_int_equal(snapshot_read("/nowhere/x", &settings, &c, &error), SNAPSHOT_FAILED);
    assert_string_equal(error.message, "cannot open /nowhere/x: No such file or directory");
    assert_int_equal(snapshot_read("/tmp", &settings, &c, &error), SNAPSHOT_BAD);
    assert_string_equal(error.message, "/tmp: it is no file");
}

/* ---- files that stay, and go ---- */

/* Entries of the directory of an optimizer's name. */
static size_t count_files(const char *name)
{
    char path[256];
    size_t n = 0;
    (void)snprintf(path, sizeof path, "%s/snapshots/%s", data_dir, name);
    DIR *dir = opendir(path);
    for (const struct dirent *d = dir != NULL ? readdir(dir) : NULL; d != NULL; d = readdir(dir)) {
        n += d->d_name[0] != '.';
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return n;
}

/* Two of an optimizer stay, and what others wrote; a file that was left half-written goes. */
static void test_kept(void **state)
{
    fixture *f = *state;
    snapshot_error error;
    adam_optimizer *o = make_small(NULL);
    snapshot_source from = plain_source(o);
    snapshot_list list;
    from.name = "kept";
    assert_int_equal(snapshot_list_read(data_dir, "kept", &list, &error), SNAPSHOT_OK);
    assert_int_equal(list.n, 0);
    snapshot_list_drop(&list);
    from.id = 5;
    assert_int_equal(take(f, &from, NULL, &error), SNAPSHOT_OK);
    char path[512];
    (void)snprintf(path, sizeof path, "%s/snapshots/kept/x.tmp", data_dir);
    put(path, "x", 1);
    (void)snprintf(path, sizeof path, "%s/snapshots/kept/notes.txt", data_dir);
    put(path, "x", 1);
    from.id = 6;
    for (uint64_t i = 1; i <= 5; i++) {
        from.lsn = 64 * i;
        assert_int_equal(take(f, &from, NULL, &error), SNAPSHOT_OK);
        assert_int_equal(count_files("kept"), 2 + (i < 2 ? 1 : 2));
    }
    assert_int_equal(snapshot_list_read(data_dir, "kept", &list, &error), SNAPSHOT_OK);
    assert_int_equal(list.n, 3);
    assert_true(list.entries[0].id == 5);
    assert_true(list.entries[1].id == 6 && list.entries[1].lsn == 320);
    assert_true(list.entries[2].id == 6 && list.entries[2].lsn == 256);
    snapshot_list_drop(&list);
    from.name = "a";
    assert_int_equal(take(f, &from, NULL, &error), SNAPSHOT_OK);
    assert_int_equal(snapshot_list_read(data_dir, NULL, &list, &error), SNAPSHOT_OK);
    assert_true(list.n >= 4);
    assert_string_equal(list.entries[0].name, "a");
    snapshot_list_drop(&list);
    struct stat info;
    assert_int_equal(stat(path_of(&from), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    (void)snprintf(path, sizeof path, "%s/snapshots/a", data_dir);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    adam_optimizer_free(o);
}

/* Where there is no memory, or less room than the state takes, that is said, and nothing is left.
 */
static void test_no_room(void **state)
{
    fixture *f = *state;
    snapshot_error error;
    adam_optimizer *o = make_small(NULL);
    const snapshot_source from = plain_source(o);
    snapshot *s = NULL;
    const size_t used = memory_used(f->memory);
    assert_int_equal(snapshot_begin(f->pool, BUDGET_BYTES, &s, &error), SNAPSHOT_NO_MEMORY);
    assert_non_null(strstr(error.message, "no memory within the budget"));
    assert_null(s);
    assert_true(memory_used(f->memory) <= used);
    assert_int_equal(snapshot_begin(f->pool, 16, &s, &error), SNAPSHOT_OK);
    assert_int_equal(snapshot_copy(s, &from, NULL, &error), SNAPSHOT_OUTGROWN);
    assert_non_null(strstr(error.message, "but 16 were made ready"));
    snapshot_drop(s);
    adam_optimizer_free(o);
}

/* ---- calls that fail ---- */

/* The linker has these calls of the library come here (CMakeLists.txt). */
static unsigned calls, fail_at; /* 0: none */
static bool fail_on, short_writes;

static bool fails(void)
{
    calls++;
    const bool now = fail_at > 0 && (calls == fail_at || (fail_on && calls > fail_at));
    if (now) {
        errno = ENOSPC;
    }
    return now;
}

#define WRAP(type, name, parameters, arguments, failed)      \
    type __real_##name parameters;                           \
    type __wrap_##name parameters;                           \
    type __wrap_##name parameters                            \
    {                                                        \
        return fails() ? (failed) : __real_##name arguments; \
    }

WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), -1)
WRAP(int, open, (const char *path, int flags, mode_t mode), (path, flags, mode), -1)
WRAP(int, openat, (int dir, const char *path, int flags, mode_t mode), (dir, path, flags, mode), -1)
WRAP(int, fsync, (int fd), (fd), -1)
WRAP(int, fdatasync, (int fd), (fd), -1)
WRAP(int, renameat, (int a, const char *x, int b, const char *y), (a, x, b, y), -1)
WRAP(int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags), -1)
WRAP(DIR *, opendir, (const char *path), (path), NULL)

ssize_t __real_write(int fd, const void *bytes, size_t length);
ssize_t __wrap_write(int fd, const void *bytes, size_t length);
ssize_t __wrap_write(int fd, const void *bytes, size_t length)
{
    return fails() ? -1 : __real_write(fd, bytes, short_writes && length > 7 ? 7 : length);
}

/* A third snapshot with that call failing, and all after it with `on`: true where one did. */
static bool fail_at_call(const fixture *f, snapshot_source *from, unsigned at, bool on)
{
    snapshot_error error = {""};
    snapshot_list list;
    from->lsn += 64;
    calls = 0;
    fail_at = at;
    fail_on = on;
    const snapshot_status st = take(f, from, NULL, &error);
    const bool failed = calls >= at;
    fail_at = 0;
    if (st != SNAPSHOT_OK) {
        assert_true(failed);
        assert_int_equal(st, SNAPSHOT_NO_SPACE);
        assert_non_null(strstr(error.message, data_dir));
        assert_non_null(strstr(error.message, "No space left on device"));
    }
    assert_int_equal(snapshot_list_read(data_dir, from->name, &list, &error), SNAPSHOT_OK);
    assert_true(list.n >= 2);
    for (size_t i = 0; i < list.n; i++) { /* all are whole, and the one before is among them */
        snapshot_source one = *from;
        one.lsn = list.entries[i].lsn;
        snapshot_content c = restore(f, &one);
        assert_int_equal(c.lsn, one.lsn);
        snapshot_content_drop(&c);
    }
    assert_true(list.entries[0].lsn == from->lsn || st != SNAPSHOT_OK);
    if (!on) { /* one call failed: nothing lies about */
        assert_int_equal(count_files(from->name), list.n);
    }
    snapshot_list_drop(&list);
    return failed;
}

static void test_failures(void **state)
{
    fixture *f = *state;
    snapshot_error error;
    adam_optimizer *o = make_small(NULL);
    snapshot_source from = plain_source(o);
    from.name = "failures";
    for (int on = 0; on < 2; on++) {
        unsigned failures = 0;
        bool failed = true;
        for (unsigned at = 1; failed; at++) {
            from.lsn += 64;
            assert_int_equal(take(f, &from, NULL, &error), SNAPSHOT_OK);
            from.lsn += 64;
            assert_int_equal(take(f, &from, NULL, &error), SNAPSHOT_OK);
            assert_int_equal(count_files("failures"), 2); /* what lay about is gone */
            failed = fail_at_call(f, &from, at, on != 0);
            failures += failed;
        }
        assert_in_range(failures, 12, 40);
    }
    adam_optimizer_free(o);
}

static void test_short_writes(void **state)
{
    fixture *f = *state;
    snapshot_error error;
    adam_optimizer *o = make_small(NULL);
    const snapshot_source from = plain_source(o);
    short_writes = true;
    assert_int_equal(take(f, &from, NULL, &error), SNAPSHOT_OK);
    short_writes = false;
    snapshot_content c = restore(f, &from);
    assert_same_digest(o, c.optimizer);
    snapshot_content_drop(&c);
    adam_optimizer_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damaged),     cmocka_unit_test(test_no_file),
        cmocka_unit_test(test_kept),        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_other_files), cmocka_unit_test(test_changed_headers),
        cmocka_unit_test(test_failures),    cmocka_unit_test(test_short_writes),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
