/* body.c: see body.h. */
#include "body.h"

#include <libgen.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "harness.h"

char *bench_map(size_t bytes)
{
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
                   -1, 0);
    if (p == MAP_FAILED) {
        bench_fail("no memory for %zu bytes", bytes);
    }
    return p;
}

void bench_unmap(char *memory, size_t bytes)
{
    (void)munmap(memory, bytes);
}

bench_body bench_body_make(size_t n)
{
    bench_body body = {.length = BENCH_HEADER_BYTES + 4 * n};
    char header[BENCH_HEADER_BYTES + 1];
    const uint64_t length = BENCH_HEADER_BYTES - 8;
    body.bytes = bench_map(body.length);
    const int used =
        snprintf(header, sizeof header,
                 "{\"w\":{\"dtype\":\"F32\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}}", n, 4 * n);
    memset(header + used, ' ', length - (size_t)used);
    memcpy(body.bytes, &length, 8);
    memcpy(body.bytes + 8, header, length);
    float *values = (void *)(body.bytes + BENCH_HEADER_BYTES);
    for (size_t i = 0; i < n; i++) {
        values[i] = (float)(i % 1000) * 1e-3F - 0.5F;
    }
    return body;
}

void bench_body_free(bench_body *body)
{
    bench_unmap(body->bytes, body->length);
}

bench_options bench_options_read(int argc, char **argv)
{
    bench_options o = {0};
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--adamd") == 0) {
            o.adamd = argv[i + 1];
        } else if (strcmp(argv[i], "--json") == 0) {
            o.json = argv[i + 1];
        } else {
            bench_fail("unknown option %s", argv[i]);
        }
    }
    if (o.adamd == NULL || argc % 2 == 0) {
        bench_fail("usage: %s --adamd PATH [--json FILE]", argv[0]);
    }
    return o;
}

void bench_beside(const char *self, const char *name, char *out, size_t size)
{
    char copy[4096];
    (void)snprintf(copy, sizeof copy, "%s", self);
    (void)snprintf(out, size, "%s/%s", dirname(copy), name);
}
