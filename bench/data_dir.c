/* data_dir.c: see data_dir.h. */
#include "data_dir.h"

#include <errno.h>
#include <ftw.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* What other programs leave dirty is none of ours. */
#define SETTLED_KIB  ((size_t)16 << 10)
#define SETTLE_TICKS 2000
#define SETTLE_TICK  5000 /* us */
#define MAX_EXTRA    12

void bench_directory_make(const char *adamd, char path[BENCH_PATH_SIZE])
{
    char copy[BENCH_PATH_SIZE];
    const char *above = getenv("TMPDIR");
    (void)snprintf(copy, sizeof copy, "%s", adamd);
    if (above == NULL || above[0] == '\0') {
        above = dirname(copy);
    }
    (void)snprintf(path, BENCH_PATH_SIZE, "%s/bench-disk-XXXXXX", above);
    if (mkdtemp(path) == NULL) {
        bench_fail("cannot make %s: %s", path, strerror(errno));
    }
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *f)
{
    (void)s;
    (void)kind;
    (void)f;
    return remove(path);
}

void bench_directory_remove(const char *path)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0) {
        bench_fail("cannot remove %s: %s", path, strerror(errno));
    }
}

bench_server bench_disk_server(const char *adamd, const char *parent, const char *name,
                               const char *const *extra)
{
    char path[BENCH_PATH_SIZE + 32];
    const char *argv[MAX_EXTRA + 3] = {"--data-dir", path};
    (void)snprintf(path, sizeof path, "%s/%s", parent, name);
    for (int i = 0; extra[i] != NULL && i < MAX_EXTRA; i++) {
        argv[2 + i] = extra[i];
    }
    return bench_server_start(adamd, argv);
}

void bench_server_kill(bench_server *s)
{
    int status = 0;
    (void)kill(s->pid, SIGKILL);
    if (waitpid(s->pid, &status, 0) != s->pid || !WIFSIGNALED(status)) {
        bench_fail("the server ended with wait status 0x%x before it was killed", (unsigned)status);
    }
}

/* KiB that are dirty, or on their way to the disk. */
static size_t unwritten(void)
{
    char line[256];
    size_t all = 0;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "Dirty:", 6) == 0 || strncmp(line, "Writeback:", 10) == 0) {
            all += strtoul(strchr(line, ':') + 1, NULL, 10);
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return all;
}

void bench_disk_settle(void)
{
    sync();
    for (int i = 0; i < SETTLE_TICKS && unwritten() > SETTLED_KIB; i++) {
        (void)usleep(SETTLE_TICK);
    }
}
