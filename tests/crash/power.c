#include "power.h"

#include "journal_support.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void in_child(const char *mode, const char *dir, unsigned after, uint64_t seed)
{
    char shadow[512], number[32], seed_text[32];
    snprintf(shadow, sizeof shadow, "%s.shadow", dir);
    snprintf(number, sizeof number, "%u", after);
    snprintf(seed_text, sizeof seed_text, "%llu", (unsigned long long)seed);
    setenv("FORGETFUL_DIR", dir, 1);
    setenv("FORGETFUL_SHADOW", shadow, 1);
    setenv("FORGETFUL_AFTER", after > 0 ? number : "-1", 1);
    setenv("FORGETFUL_SEED", seed_text, 1);
    setenv("LD_PRELOAD", FORGETFUL, 1);
    execl("/proc/self/exe", "child", mode, dir, (char *)NULL);
    _exit(98);
}

pid_t power_start(const char *mode, const char *dir, unsigned after, uint64_t seed, int *output)
{
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(pipes[1], STDOUT_FILENO);
        close(pipes[0]);
        close(pipes[1]);
        in_child(mode, dir, after, seed);
    }
    close(pipes[1]);
    *output = pipes[0];
    return pid;
}

int power_wait(pid_t pid, const char *dir)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    char *shadow;
    assert_true(asprintf(&shadow, "%s.shadow", dir) > 0);
    remove_directory(shadow);
    if (WIFSIGNALED(status)) {
        assert_int_equal(WTERMSIG(status), SIGKILL);
        return 1;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    return 0;
}
