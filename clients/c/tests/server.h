/* server.h: a server of the client's tests: adamd itself, in a process of its own. */
#ifndef ADAMD_CLIENT_SERVER_H
#define ADAMD_CLIENT_SERVER_H

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct server {
    pid_t pid;
    char url[128];
} server;

/* `data_dir` may be NULL. */
static inline void start_server(server *srv, const char *binary, const char *data_dir)
{
    int out[2];
    if (pipe(out) != 0 || (srv->pid = fork()) < 0) {
        perror("start_server");
        exit(EXIT_FAILURE);
    }
    if (srv->pid == 0) {
        (void)dup2(out[1], STDOUT_FILENO);
        (void)close(out[0]);
        (void)close(out[1]);
        (void)execl(binary, binary, "--port", "0", "--log-level", "error",
                    data_dir != NULL ? "--data-dir" : (char *)NULL, data_dir, (char *)NULL);
        perror(binary);
        _exit(127);
    }
    (void)close(out[1]);
    char line[256] = "";
    FILE *stream = fdopen(out[0], "r");
    if (fgets(line, sizeof line, stream) == NULL ||
        sscanf(line, "adamd %*s listening on %127s", srv->url) != 1) {
        (void)fprintf(stderr, "%s said '%s', expected 'adamd VERSION listening on URL'\n", binary,
                      line);
        exit(EXIT_FAILURE);
    }
    (void)fclose(stream);
}

static inline int stop_server(server *srv, int number)
{
    int status = 0;
    (void)kill(srv->pid, number);
    (void)waitpid(srv->pid, &status, 0);
    return status;
}

#endif
