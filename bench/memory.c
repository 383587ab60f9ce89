/* memory.c: how much memory does a model take, at rest and while it is stepped? */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "body.h"
#include "harness.h"

#define PARAMS      ((size_t)64 << 20)
#define STEPS       3
#define SETTLE      16 /* seconds until the server has let go of what nobody uses */
#define REPLY_SLACK ((size_t)4096)
#define TARGET      1.05

typedef struct setup {
    const char *rest, *busy;
    size_t copies;       /* of the parameters that the state is */
    const char *amsgrad; /* a body for PATCH, or NULL */
} setup;

static const setup setups[] = {
    {"64 M parameters at rest", "64 M parameters stepped and read, peak", 3, NULL},
    {"64 M parameters at rest, amsgrad", "64 M parameters stepped and read, amsgrad, peak", 4,
     "{\"amsgrad\": true}"},
};
#define SETUPS (sizeof setups / sizeof setups[0])

/* Reads all parameters and throws them away. */
static void pull(unsigned port, char *into, size_t room)
{
    static const char request[] = "GET /v1/optimizers/bench/params HTTP/1.1\r\nHost: bench\r\n"
                                  "Accept: " BENCH_SAFETENSORS "\r\nConnection: close\r\n\r\n";
    const int s = bench_connect("127.0.0.1", port);
    bench_send(s, request, sizeof request - 1);
    while (read(s, into, room) > 0) {
    }
    (void)close(s);
}

static void measure(bench_table *t, const char *adamd, const setup *u)
{
    bench_body body = bench_body_make(PARAMS);
    const size_t room = body.length + REPLY_SLACK;
    char *reply = bench_map(room);
    char peer[64];
    bench_server server = bench_server_start(adamd, NULL);
    const double empty = (double)bench_memory(server.pid);
    const int s = bench_connect("127.0.0.1", server.port);
    (void)bench_request(s, "PUT", "/v1/optimizers/bench", BENCH_SAFETENSORS, body.bytes,
                        body.length, reply, room, 201);
    if (u->amsgrad != NULL) {
        (void)bench_request(s, "PATCH", "/v1/optimizers/bench/param_groups/0", "application/json",
                            u->amsgrad, strlen(u->amsgrad), reply, room, 200);
    }
    for (int i = 0; i < STEPS; i++) {
        (void)bench_request(s, "POST", "/v1/optimizers/bench/step", BENCH_SAFETENSORS, body.bytes,
                            body.length, reply, room, 200);
        pull(server.port, reply, room);
    }
    const double busy = (double)bench_peak_memory(server.pid);
    (void)sleep(SETTLE);
    const double rest = (double)bench_memory(server.pid);
    const double copy = 4.0 * (double)PARAMS;
    (void)snprintf(peer, sizeof peer, "%zu bytes a parameter", 4 * u->copies);
    bench_table_add(t, u->rest, (rest - empty) / 0x1p20, "MiB", peer,
                    copy * (double)u->copies / 0x1p20, BENCH_AT_MOST, TARGET);
    bench_table_add(t, u->busy, (busy - empty) / 0x1p20, "MiB", "these, a copy, and a body",
                    copy * (double)(u->copies + 2) / 0x1p20, BENCH_AT_MOST, TARGET);
    (void)close(s);
    bench_server_stop(&server);
    bench_unmap(reply, room);
    bench_body_free(&body);
}

int main(int argc, char **argv)
{
    const bench_options o = bench_options_read(argc, argv);
    bench_table *t = bench_table_create();
    for (size_t i = 0; i < SETUPS; i++) {
        measure(t, o.adamd, &setups[i]);
    }
    bench_table_end(t, o.json);
    return 0;
}
