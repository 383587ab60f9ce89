/* service.c: what does a step over HTTP cost beside moving its bytes, and how much memory does the
 * server take? One client, one parameter, float32, safetensors. */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "body.h"
#include "harness.h"

#define REPLY_SLACK   ((size_t)4096)
#define MEMORY_PARAMS ((size_t)64 << 20)
#define MEMORY_COPIES 5
#define MEMORY_MORE   ((size_t)64 << 20)
#define WARM_UP       5

/* Steps and echoes by turns, so that both see the same machine. */
static void measure(bench_table *t, const char *adamd, size_t n, const char *name, size_t rounds,
                    double target)
{
    bench_body made = bench_body_make(n);
    const char *body = made.bytes;
    const size_t bytes = made.length;
    char *reply = bench_map(bytes + REPLY_SLACK);
    double *step = calloc(rounds, sizeof *step);
    double *echo = calloc(rounds, sizeof *echo);
    pid_t echo_pid;
    const int echo_socket = bench_echo_start(bytes, &echo_pid);
    bench_server server = bench_server_start(adamd, NULL);
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

/* Peak memory of a server that creates, steps and reads a large model. */
static void measure_memory(bench_table *t, const char *adamd)
{
    bench_body made = bench_body_make(MEMORY_PARAMS);
    const char *body = made.bytes;
    const size_t bytes = made.length;
    char *reply = bench_map(bytes + REPLY_SLACK);
    bench_server server = bench_server_start(adamd, NULL);
    const int s = bench_connect("127.0.0.1", server.port);
    (void)bench_request(s, "PUT", "/v1/optimizers/bench", BENCH_SAFETENSORS, body, bytes, reply,
                        bytes + REPLY_SLACK, 201);
    for (int i = 0; i < 3; i++) {
        (void)bench_request(s, "POST", "/v1/optimizers/bench/step", BENCH_SAFETENSORS, body, bytes,
                            reply, bytes + REPLY_SLACK, 200);
        (void)close(bench_connect("127.0.0.1", server.port)); /* a client that does nothing */
    }
    const int reader = bench_connect("127.0.0.1", server.port);
    static const char request[] = "GET /v1/optimizers/bench/params HTTP/1.1\r\nHost: bench\r\n"
                                  "Accept: " BENCH_SAFETENSORS "\r\nConnection: close\r\n\r\n";
    bench_send(reader, request, sizeof request - 1);
    while (read(reader, reply, bytes) > 0) {
    }
    (void)close(reader);
    bench_table_add(
        t, "peak memory, 64 M parameters", (double)bench_peak_memory(server.pid) / 0x1p20, "MiB",
        "5 x 4 bytes a parameter + 64 MiB",
        (double)(MEMORY_COPIES * 4 * MEMORY_PARAMS + MEMORY_MORE) / 0x1p20, BENCH_AT_MOST, 1.0);
    (void)close(s);
    bench_server_stop(&server);
    bench_unmap(reply, bytes + REPLY_SLACK);
    bench_body_free(&made);
}

int main(int argc, char **argv)
{
    const bench_options o = bench_options_read(argc, argv);
    bench_table *t = bench_table_create();
    measure(t, o.adamd, (size_t)1 << 10, "step over safetensors, 1 K parameters", 3000, 2.5);
    measure(t, o.adamd, (size_t)1 << 20, "step over safetensors, 1 M parameters", 300, 1.15);
    measure(t, o.adamd, (size_t)16 << 20, "step over safetensors, 16 M parameters", 20, 1.15);
    measure(t, o.adamd, (size_t)64 << 20, "step over safetensors, 64 M parameters", 10, 1.15);
    measure_memory(t, o.adamd);
    bench_table_end(t, o.json);
    return 0;
}
