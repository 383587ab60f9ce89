/* test_forgetful.c: forgetful.c: what was synced is there after the power failed; of the rest, each
 * piece as it was or as it was to be, and each name there or not. Without that, the crash tests
 * would prove nothing. */
#include "journal_support.h"
#include "power.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEEDS 40
#define BYTES 8192

static void must(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        _exit(1);
    }
}

static int make(const char *name, char c)
{
    static char bytes[BYTES];
    const int fd = open(name, O_RDWR | O_CREAT, 0600);
    memset(bytes, c, sizeof bytes);
    must(fd >= 0 && pwrite(fd, bytes, sizeof bytes, 0) == BYTES, name);
    return fd;
}

/* What runs on that disk: all it does, and then it waits for its end. */
__attribute__((noreturn)) static void child(const char *dir)
{
    must(chdir(dir) == 0, dir);
    const int here = open(".", O_RDONLY | O_DIRECTORY);
    const int kept = make("kept", 'a');
    must(fsync(kept) == 0 && fsync(make("removed", 'a')) == 0 && fsync(make("gone", 'a')) == 0 &&
             fsync(make("old", 'a')) == 0,
         "fsync");
    must(mkdir("folder", 0700) == 0 && fsync(here) == 0, "folder");
    must(unlink("gone") == 0 && fsync(here) == 0, "gone");
    make("kept", 'b'); /* and nothing of this is synced */
    must(unlink("removed") == 0, "removed");
    make("new", 'b');
    fsync(make("temporary", 'b'));
    must(rename("temporary", "old") == 0, "rename");
    make("folder/inner", 'b');
    must(write(STDOUT_FILENO, "!", 1) == 1, "write");
    for (;;) {
        pause();
    }
}

/* How many pieces of a file are all of one letter; the test fails where one is neither, or zeros.
 */
static size_t count_pieces(const char *dir, const char *name, char c, bool zeros)
{
    char path[512];
    size_t length;
    size_t n = 0;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    unsigned char *bytes = read_file(path, &length);
    assert_true(length == BYTES || zeros);
    for (size_t i = 0; i < length; i += 512) {
        assert_memory_equal(bytes + i, bytes + i + 1, 511);
        assert_true(bytes[i] == 'a' || bytes[i] == 'b' || (zeros && bytes[i] == 0));
        n += bytes[i] == c;
    }
    free(bytes);
    return n;
}

static bool is_there(const char *dir, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return file_exists(path);
}

static void what_was_not_synced_may_be_lost(void **state)
{
    (void)state;
    size_t new_pieces = 0, removed = 0, new = 0, replaced = 0, inner = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        char *dir = make_directory();
        char said;
        int output;
        const pid_t pid = power_start("files", dir, 0, seed, &output);
        assert_int_equal(read(output, &said, 1), 1);
        kill(pid, SIGUSR1);
        assert_true(power_wait(pid, dir));
        close(output);
        new_pieces += count_pieces(dir, "kept", 'b', false);
        assert_false(is_there(dir, "gone"));
        assert_true(is_there(dir, "folder"));
        if (is_there(dir, "removed")) {
            removed++;
            assert_int_equal(count_pieces(dir, "removed", 'a', false), BYTES / 512);
        }
        if (is_there(dir, "new")) {
            new ++;
            assert_int_equal(count_pieces(dir, "new", 'a', true), 0);
        }
        const size_t b = count_pieces(dir, "old", 'b', false);
        assert_true(b == 0 || b == BYTES / 512); /* it was synced before it was renamed */
        replaced += b > 0;
        inner += is_there(dir, "folder/inner");
        remove_directory(dir);
    }
    assert_in_range(new_pieces, SEEDS * BYTES / 512 / 4, SEEDS * BYTES / 512 * 3 / 4);
    assert_in_range(removed, SEEDS / 8, SEEDS * 7 / 8);
    assert_in_range(new, SEEDS / 8, SEEDS * 7 / 8);
    assert_in_range(replaced, SEEDS / 8, SEEDS * 7 / 8);
    assert_in_range(inner, SEEDS / 8, SEEDS * 7 / 8);
}

static void it_fails_at_the_call_that_is_named(void **state)
{
    (void)state;
    for (unsigned after = 1; after <= 12; after++) {
        char *dir = make_directory();
        int output;
        assert_true(power_wait(power_start("files", dir, after, after, &output), dir));
        close(output);
        if (after > 9 &&
            after < 12) { /* 4 files made and synced, then the directory; 12 is more of it */
            assert_int_equal(count_pieces(dir, "kept", 'a', false), BYTES / 512);
        }
        if (after == 1) {
            assert_false(is_there(dir, "removed"));
        }
        remove_directory(dir);
    }
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        child(argv[2]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_not_synced_may_be_lost),
        cmocka_unit_test(it_fails_at_the_call_that_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
