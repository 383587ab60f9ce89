/* server.c: starts adamd, reads its ready line, stops it and holds it to a clean end. */
#include "server.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_SECONDS 30
#define STOP_SECONDS  90
#define MAX_ARGUMENTS 32

extern char **environ;

double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void sleep_ms(unsigned ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    (void)nanosleep(&t, NULL);
}

/* In the child: a test's server must not depend on the environment that the tests run in. */
static void clean_environment(void)
{
    char name[256];
    for (char **line = environ; *line != NULL;) {
        const size_t length = strcspn(*line, "=");
        if (strncmp(*line, "ADAMD_", 6) == 0 && length < sizeof name) {
            memcpy(name, *line, length);
            name[length] = '\0';
            (void)unsetenv(name);
            line = environ; /* the list has moved */
        } else {
            line++;
        }
    }
}

/* Starts adamd with its standard output and error on these descriptors. */
static pid_t spawn(const char *const *first, const char *const *more,
                   const char *const *environment, int out, int err)
{
    const char *argv[MAX_ARGUMENTS + 2] = {ADAMD_BINARY};
    size_t n = 1;
    for (; first != NULL && *first != NULL && n < MAX_ARGUMENTS; first++) {
        argv[n++] = *first;
    }
    for (; more != NULL && *more != NULL && n < MAX_ARGUMENTS; more++) {
        argv[n++] = *more;
    }
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0) {
        return pid;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* it must not outlive a test that was killed */
    clean_environment();
    for (; environment != NULL && *environment != NULL; environment++) {
        (void)putenv((char *)*environment);
    }
    if (dup2(out, STDOUT_FILENO) < 0 || dup2(err, STDERR_FILENO) < 0) {
        _exit(126);
    }
    (void)execv(argv[0], (char *const *)argv);
    _exit(127);
}

static int nameless_file(void)
{
    const int file = memfd_create("adamd-test", MFD_CLOEXEC);
    assert_true(file >= 0);
    return file;
}

static size_t read_file(int file, char *out, size_t size)
{
    size_t length = 0;
    while (length + 1 < size) {
        const ssize_t n = pread(file, out + length, size - 1 - length, (off_t)length);
        if (n <= 0) {
            break;
        }
        length += (size_t)n;
    }
    out[length] = '\0';
    return length;
}

char *server_log(const server *s)
{
    struct stat about;
    assert_int_equal(fstat(s->log, &about), 0);
    const size_t size = (size_t)about.st_size + 1;
    char *text = malloc(size);
    assert_non_null(text);
    (void)read_file(s->log, text, size);
    return text;
}

int server_descriptors(const server *s)
{
    char path[64];
    int n = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/fd", (int)s->pid);
    DIR *directory = opendir(path);
    assert_non_null(directory);
    while (readdir(directory) != NULL) {
        n++;
    }
    (void)closedir(directory);
    return n;
}

static void print_log(const server *s)
{
    char *log = server_log(s);
    print_error("the server's log:\n%s\n", log);
    free(log);
}

void server_explain(const server *s)
{
    siginfo_t end = {0};
    if (s->pid <= 0 || waitid(P_PID, (id_t)s->pid, &end, WEXITED | WNOHANG | WNOWAIT) != 0) {
        return;
    }
    if (end.si_pid == 0) {
        print_error("the server is running\n");
    } else {
        print_error("the server has ended, %s %d\n",
                    end.si_code == CLD_EXITED ? "with status" : "by signal", end.si_status);
    }
    print_log(s);
}

/* Waits for the child to end; -1 where it does not, and is then killed. */
static int wait_for(pid_t pid)
{
    const double until = now() + STOP_SECONDS;
    int status;
    pid_t done;
    while ((done = waitpid(pid, &status, WNOHANG)) == 0 && now() < until) {
        sleep_ms(2);
    }
    if (done == pid) {
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, &status, 0);
    return -1;
}

/* Reads the first line of standard output into `line`. */
static bool read_line(int out, char *line, size_t size)
{
    const double until = now() + START_SECONDS;
    size_t length = 0;
    while (length + 1 < size) {
        struct pollfd wait = {.fd = out, .events = POLLIN};
        const double left = until - now();
        if (left <= 0 || poll(&wait, 1, (int)(left * 1000) + 1) <= 0 ||
            read(out, line + length, 1) != 1) {
            break;
        }
        if (line[length] == '\n') {
            line[length] = '\0';
            return true;
        }
        length++;
    }
    line[length] = '\0';
    return false;
}

void server_start_in(server *s, const char *const *options, const char *const *environment)
{
    static const char *const port[] = {"--port", "0", NULL};
    int ends[2];
    char line[256];
    assert_int_equal(pipe(ends), 0);
    *s = (server){.out = ends[0], .log = nameless_file()};
    s->pid = spawn(port, options, environment, ends[1], s->log);
    (void)close(ends[1]);
    const bool ready = read_line(s->out, line, sizeof line) &&
                       sscanf(line, "adamd %31s listening on %63s", s->version, s->url) == 2;
    const char *colon = ready ? strrchr(s->url, ':') : NULL;
    if (colon == NULL || sscanf(colon, ":%u", &s->port) != 1) {
        (void)kill(s->pid, SIGKILL);
        (void)wait_for(s->pid);
        print_log(s);
        fail_msg("adamd does not start; its first line is '%s'", line);
    }
}

void server_start(server *s, const char *const *options)
{
    server_start_in(s, options, NULL);
}

/* Waits for the end; `expected` decides whether the log is of interest. */
static int end_of(server *s, int expected, ssize_t *printed)
{
    char rest[256];
    const int status = wait_for(s->pid);
    *printed = read(s->out, rest, sizeof rest);
    if (status != expected) {
        print_log(s);
    }
    (void)close(s->out);
    (void)close(s->log);
    s->pid = 0;
    if (status == -1) {
        fail_msg("adamd has not ended %d seconds after its signal", STOP_SECONDS);
    }
    return status;
}

void server_join(server *s)
{
    ssize_t printed;
    assert_int_equal(end_of(s, 0, &printed), 0);
    assert_int_equal(printed, 0);
}

int server_wait(server *s)
{
    ssize_t printed;
    return end_of(s, 1, &printed);
}

void server_stop(server *s)
{
    if (s->pid > 0) {
        (void)kill(s->pid, SIGTERM);
        server_join(s);
    }
}

void server_run(const char *const *arguments, const char *const *environment, run *r)
{
    const int out = nameless_file();
    const int err = nameless_file();
    r->status = wait_for(spawn(arguments, NULL, environment, out, err));
    (void)read_file(out, r->out, sizeof r->out);
    (void)read_file(err, r->err, sizeof r->err);
    (void)close(out);
    (void)close(err);
}
