/* spawn.c: servers as processes of their own. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

#define MAX_EXTRA 16

bench_server bench_spawn(const char *const *argv)
{
    bench_server s = {0};
    int out[2];
    if (pipe(out) != 0) {
        bench_fail("pipe: %s", strerror(errno));
    }
    s.pid = fork();
    if (s.pid == 0) {
        (void)dup2(out[1], STDOUT_FILENO);
        (void)close(out[0]);
        (void)execv(argv[0], (char *const *)argv);
        bench_fail("%s: %s", argv[0], strerror(errno));
    }
    (void)close(out[1]);
    FILE *ready = fdopen(out[0], "r");
    char line[256] = "";
    const char *port = NULL;
    if (ready != NULL && fgets(line, sizeof line, ready) != NULL) {
        port = strrchr(line, ':');
    }
    if (port == NULL) {
        bench_fail("%s did not say that it listens", argv[0]);
    }
    s.port = (unsigned)strtoul(port + 1, NULL, 10);
    (void)fclose(ready);
    return s;
}

bench_server bench_server_start(const char *adamd, const char *const *extra)
{
    const char *argv[MAX_EXTRA + 6] = {adamd, "--port", "0", "--log-level", "error"};
    for (int i = 0; extra != NULL && extra[i] != NULL && i < MAX_EXTRA; i++) {
        argv[5 + i] = extra[i];
    }
    return bench_spawn(argv);
}

void bench_server_stop(bench_server *s)
{
    int status = 0;
    (void)kill(s->pid, SIGTERM);
    if (waitpid(s->pid, &status, 0) != s->pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        bench_fail("the server ended with wait status 0x%x, not 0", (unsigned)status);
    }
}

/* A line of /proc/PID/status, "VmHWM:" or "VmRSS:", in bytes. */
static size_t read_status(pid_t pid, const char *field)
{
    char path[64];
    char line[256];
    size_t kib = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, field, strlen(field)) == 0) {
            kib = strtoul(line + strlen(field), NULL, 10);
        }
    }
    if (f == NULL || kib == 0) {
        bench_fail("cannot read %s from %s", field, path);
    }
    (void)fclose(f);
    return kib << 10;
}

size_t bench_memory(pid_t pid)
{
    return read_status(pid, "VmRSS:");
}

size_t bench_peak_memory(pid_t pid)
{
    return read_status(pid, "VmHWM:");
}
