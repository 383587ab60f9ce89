/* stats.c: what do the statistics of a step cost? A step as the core runs it (a look for non-finite
 * gradients, then the kernel, in chunks on a pool), beside the same with a kernel without sums,
 * over 16 M parameters. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adam/pool.h"
#include "bare_kernels.h"
#include "harness.h"
#include "pool_run.h"

#define ELEMENTS ((size_t)16 << 20)
#define CHUNK    ((size_t)16384)
#define ROUNDS   15
#define STREAMS  4    /* p, m, v, grad, which gets the new parameters too */
#define TARGET   1.10 /* with the statistics, of the time without */

typedef struct pass {
    adam_kernel_step_fn *step;
    adam_kernel_nonfinite_fn *scan;
    size_t size;
    char *streams[STREAMS];
    adam_sums *sums;
} pass;

static void scan_chunk(void *context, size_t item)
{
    const pass *p = context;
    if (p->scan(p->streams[3] + item * CHUNK * p->size, CHUNK, 1.0) != CHUNK) {
        bench_fail("the numbers went out of range");
    }
}

static void run_chunk(void *context, size_t item)
{
    static const adam_scalars scalars = {.lerp_weight = 0.1,
                                         .beta2 = 0.999,
                                         .one_minus_beta2 = 0.001,
                                         .decay = 1.0,
                                         .bias2_sqrt = 0.3,
                                         .eps = 1e-8,
                                         .minus_step_size = -1e-3};
    const pass *p = context;
    const size_t at = item * CHUNK * p->size;
    const adam_streams t = {.p = p->streams[0] + at,
                            .m = p->streams[1] + at,
                            .v = p->streams[2] + at,
                            .grad = p->streams[3] + at,
                            .out = p->streams[3] + at};
    p->step(&scalars, &t, CHUNK, &p->sums[item]);
}

/* Numbers of about 1, which keeps denormals out of the timing. */
static void fill(const pass *p)
{
    for (int stream = 0; stream < STREAMS; stream++) {
        for (size_t i = 0; i < ELEMENTS; i++) {
            const double x = 0.5 + (double)(i % 1021) / 1021.0;
            const float single = (float)x;
            memcpy(p->streams[stream] + i * p->size,
                   p->size == sizeof x ? (const void *)&x : (const void *)&single, p->size);
        }
    }
}

static double time_pass(pass *p, adam_kernel_step_fn *step, adam_pool *pool)
{
    p->step = step;
    const double start = bench_now();
    adam_pool_run(pool, ELEMENTS / CHUNK, scan_chunk, p);
    adam_pool_run(pool, ELEMENTS / CHUNK, run_chunk, p);
    return (bench_now() - start) * 1e3;
}

static void measure(bench_table *t, bool f64, unsigned threads, const adam_kernel *kernel,
                    const adam_kernel *bare)
{
    pass p = {.size = f64 ? sizeof(double) : sizeof(float),
              .scan = f64 ? kernel->nonfinite_f64 : kernel->nonfinite_f32};
    adam_kernel_step_fn *with = f64 ? kernel->step_f64 : kernel->step_f32;
    adam_kernel_step_fn *without = f64 ? bare->step_f64 : bare->step_f32;
    adam_pool *pool;
    double a[ROUNDS];
    double b[ROUNDS];
    p.sums = calloc(ELEMENTS / CHUNK, sizeof *p.sums);
    for (int i = 0; i < STREAMS; i++) {
        p.streams[i] = aligned_alloc(64, ELEMENTS * p.size);
        if (p.streams[i] == NULL) {
            bench_fail("no memory");
        }
    }
    if (p.sums == NULL || adam_pool_create(threads, &pool) != ADAM_OK) {
        bench_fail("no memory or threads");
    }
    fill(&p);
    for (int i = -1; i < ROUNDS; i++) { /* by turns, so that both see the same machine */
        const double first = time_pass(&p, with, pool);
        const double second = time_pass(&p, without, pool);
        if (i >= 0) {
            a[i] = first;
            b[i] = second;
        }
    }
    char label[64];
    (void)snprintf(label, sizeof label, "step of 16 M %s, %s, %u thread%s", f64 ? "f64" : "f32",
                   kernel->name, threads, threads > 1 ? "s" : "");
    bench_table_add(t, label, bench_median(a, ROUNDS), "ms", "the same without norms",
                    bench_median(b, ROUNDS), BENCH_AT_MOST, TARGET);
    adam_pool_free(pool);
    for (int i = 0; i < STREAMS; i++) {
        free(p.streams[i]);
    }
    free(p.sums);
}

int main(int argc, char **argv)
{
    const char *json = argc == 3 && strcmp(argv[1], "--json") == 0 ? argv[2] : NULL;
    if (argc != 1 && json == NULL) {
        bench_fail("usage: bench_stats [--json FILE]");
    }
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    bench_table *t = bench_table_create();
    const char *name;
    const adam_kernel *kernel = adam_kernel_at(0, &name);
    for (size_t i = 1; name != NULL; kernel = adam_kernel_at(i++, &name)) {
        const adam_kernel *bare = kernel != NULL ? bare_kernel(name) : NULL;
        if (bare == NULL) {
            continue; /* not here, or the reference, whose speed is nobody's concern */
        }
        for (long threads = 1; threads <= cores; threads = threads < cores ? cores : cores + 1) {
            measure(t, false, (unsigned)threads, kernel, bare);
            measure(t, true, (unsigned)threads, kernel, bare);
        }
    }
    bench_table_end(t, json);
    return 0;
}
