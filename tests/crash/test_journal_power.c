/* test_journal_power.c: the journal on a disk that forgets: after the power failed, every record
 * that was said to be on disk is there, in order and whole; what is missing is a torn tail, never
 * damage. */
#include "journal_support.h"
#include "power.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RUNS    18
#define APPENDS 60
#define MIB     ((size_t)1 << 20)

/* Goes on with what there is, and prints a byte for each record that it was told is on disk. */
static int child(const char *policy, const char *dir)
{
    const reading r = read_log(dir, 0, 0);
    journal *j = open_journal(dir, r.place, policy[0] == 'a' ? JOURNAL_ALWAYS : JOURNAL_NEVER);
    for (uint64_t k = r.n; k < r.n + APPENDS; k++) {
        const uint64_t end = append(j, k, k % 20 == 13 ? 30 * MIB : (size_t)(k * 977 % 9000));
        if (policy[0] == 'a' && k % 3 != 0) {
            if (!wait_for(j, end)) {
                return 1;
            }
            dprintf(STDOUT_FILENO, "%llu\n", (unsigned long long)k);
        }
    }
    journal_close(j);
    return 0;
}

static void run(const char *mode)
{
    for (uint64_t seed = 1; seed <= RUNS / 3; seed++) {
        char *dir = make_directory();
        uint64_t synced = 0; /* records that are on disk for sure */
        for (int life = 0; life < 3; life++) {
            int output;
            unsigned long long k;
            const unsigned after = 1 + (unsigned)(seed * 37 + (uint64_t)life * 11) % 100;
            const pid_t pid = power_start(mode, dir, after, seed * 3 + (uint64_t)life, &output);
            FILE *f = fdopen(output, "r");
            while (fscanf(f, "%llu", &k) == 1) {
                synced = k + 1;
            }
            fclose(f);
            const int failed = power_wait(pid, dir);
            const reading r = read_log(dir, 0, 0);
            if (r.status == JOURNAL_BAD) {
                print_message("seed %d, life %d: %s\n", (int)seed, life, r.reason);
            }
            assert_true(r.status == JOURNAL_END || r.status == JOURNAL_TORN);
            assert_true(r.n >= synced);
            synced = failed ? synced : r.n;
        }
        remove_directory(dir);
    }
}

static void what_was_synced_is_there(void **state)
{
    (void)state;
    run("always");
}

static void a_log_that_is_not_synced_is_never_bad(void **state)
{
    (void)state;
    run("never");
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        return child(argv[1], argv[2]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_synced_is_there),
        cmocka_unit_test(a_log_that_is_not_synced_is_never_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
