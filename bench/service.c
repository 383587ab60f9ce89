/* service.c: what does a step over HTTP cost beside moving its bytes? One client, one parameter,
 * float32, safetensors. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "body.h"
#include "harness.h"

#define REPLY_SLACK ((size_t)4096)
#define WARM_UP     5

/* Where the client and the servers run. Left to itself the system puts two small processes on one
 * core or on two for as long as they live, and what they take differs by four; so it is told, and
 * tells the echo the same. */
typedef enum place { ANYWHERE, ONE_CORE, TWO_CORES } place;

static void pin(place where, bool server)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int i = 0; i < cores && i < CPU_SETSIZE; i++) {
        const bool mine = where == ANYWHERE || i == (where == TWO_CORES && server ? 1 : 0);
        if (mine) {
            CPU_SET(i, &set);
        }
    }
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        bench_fail("sched_setaffinity: %s", strerror(errno));
    }
}

/* Steps and echoes by turns, so that both see the same machine. */
static void measure(bench_table *t, const char *adamd, size_t n, const char *name, size_t rounds,
                    place where, double target)
{
    bench_body made = bench_body_make(n);
    const char *body = made.bytes;
    const size_t bytes = made.length;
    char *reply = bench_map(bytes + REPLY_SLACK);
    double *step = calloc(rounds, sizeof *step);
    double *echo = calloc(rounds, sizeof *echo);
    pid_t echo_pid;
    pin(where, true);
    const int echo_socket = bench_echo_start(bytes, &echo_pid);
    bench_server server = bench_server_start(adamd, NULL);
    pin(where, false);
    const int s = bench_connect("127.0.0.1", server.port);
    if (step == NULL || echo == NULL) {
        bench_fail("no memory");
    }
    (void)bench_request(s, "PUT", "/v1/optimizers/bench", BENCH_SAFETENSORS, body, bytes, reply,
                        bytes + REPLY_SLACK, 201);
    for (size_t i = 0; i < rounds + WARM_UP; i++) {
        const double start = bench_now();
        bench_send(echo_socket, body, bytes);
        bench_receive(echo_socket, reply, bytes);
        const double middle = bench_now();
        (void)bench_request(s, "POST", "/v1/optimizers/bench/step", BENCH_SAFETENSORS, body, bytes,
                            reply, bytes + REPLY_SLACK, 200);
        const double end = bench_now();
        if (i >= WARM_UP) {
            echo[i - WARM_UP] = (middle - start) * 1e3;
            step[i - WARM_UP] = (end - middle) * 1e3;
        }
    }
    bench_table_add(t, name, bench_median(step, rounds), "ms", "raw TCP echo of the bytes",
                    bench_median(echo, rounds), BENCH_AT_MOST, target);
    (void)close(s);
    (void)close(echo_socket);
    (void)waitpid(echo_pid, NULL, 0);
    bench_server_stop(&server);
    bench_unmap(reply, bytes + REPLY_SLACK);
    bench_body_free(&made);
    free(step);
    free(echo);
}

int main(int argc, char **argv)
{
    const bench_options o = bench_options_read(argc, argv);
    bench_table *t = bench_table_create();
    measure(t, o.adamd, (size_t)1 << 10, "step of 1 K, one core", 3000, ONE_CORE, 2.5);
    if (sysconf(_SC_NPROCESSORS_ONLN) > 1) {
        measure(t, o.adamd, (size_t)1 << 10, "step of 1 K, client and server on two cores", 3000,
                TWO_CORES, 2.5);
    }
    measure(t, o.adamd, (size_t)1 << 20, "step of 1 M", 400, ANYWHERE, 1.15);
    measure(t, o.adamd, (size_t)16 << 20, "step of 16 M", 30, ANYWHERE, 1.15);
    measure(t, o.adamd, (size_t)64 << 20, "step of 64 M", 10, ANYWHERE, 1.15);
    bench_table_end(t, o.json);
    return 0;
}
