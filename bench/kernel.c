/* kernel.c: does the kernel run at the speed of the memory? Each step beside a loop that only moves
 * the same streams, in the same chunks on the same threads, by turns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "adam/pool.h"
#include "bare_kernels.h"
#include "harness.h"
#include "pool_run.h"

#define CHUNK    ((size_t)16384)
#define MAX_N    ((size_t)64 << 20)
#define STREAMS  5              /* p, m, v, vmax, grad */
#define STAGGER  ((size_t)1024) /* streams that lie a power of two apart would share cache sets */
#define MIN_TIME 0.15           /* seconds of steps for a line */

typedef struct setup {
    const char *name;
    bool f64, amsgrad, decay;
} setup;

static const setup setups[] = {
    {"Adam f32", false, false, false},   {"AdamW f32", false, false, true},
    {"amsgrad f32", false, true, false}, {"Adam f64", true, false, false},
    {"AdamW f64", true, false, true},    {"amsgrad f64", true, true, false},
};
#define SETUPS (sizeof setups / sizeof setups[0])

static const struct {
    size_t n;
    const char *name;
    double target;
} sizes[] = {
    {(size_t)1 << 20, "1 M", 1.25},
    {(size_t)16 << 20, "16 M", 1.05},
    {(size_t)64 << 20, "64 M", 1.05},
};
#define SIZES (sizeof sizes / sizeof sizes[0])

typedef struct pass {
    const setup *setup;
    adam_kernel_step_fn *step;
    char *streams[STREAMS];
    adam_sums *sums;
} pass;

static void run_chunk(void *context, size_t item)
{
    const pass *p = context;
    const size_t at = item * CHUNK * (p->setup->f64 ? sizeof(double) : sizeof(float));
    const adam_scalars scalars = {.lerp_weight = 0.1,
                                  .beta2 = 0.999,
                                  .one_minus_beta2 = 0.001,
                                  .decay = 0.9999,
                                  .has_decay = p->setup->decay,
                                  .bias2_sqrt = 0.3,
                                  .eps = 1e-8,
                                  .minus_step_size = -1e-3};
    const adam_streams t = {.p = p->streams[0] + at,
                            .m = p->streams[1] + at,
                            .v = p->streams[2] + at,
                            .vmax = p->setup->amsgrad ? p->streams[3] + at : NULL,
                            .grad = p->streams[4] + at};
    p->step(&scalars, &t, CHUNK, &p->sums[item]);
}

static double time_pass(pass *p, adam_kernel_step_fn *step, size_t n, adam_pool *pool)
{
    p->step = step;
    const double start = bench_now();
    adam_pool_run(pool, n / CHUNK, run_chunk, p);
    return bench_now() - start;
}

/* Numbers of about 1, which keeps denormals out of the timing. */
static void fill(const pass *p, size_t n)
{
    for (int stream = 0; stream < STREAMS; stream++) {
        for (size_t i = 0; i < n; i++) {
            const double x = 0.5 + (double)(i % 1021) / 1021.0;
            if (p->setup->f64) {
                ((double *)(void *)p->streams[stream])[i] = x;
            } else {
                ((float *)(void *)p->streams[stream])[i] = (float)x;
            }
        }
    }
}

static void measure(bench_table *t, pass *p, size_t size, unsigned threads,
                    const adam_kernel *kernel)
{
    enum { MAX_ROUNDS = 1000, MIN_ROUNDS = 5 };
    static double ours[MAX_ROUNDS];
    static double theirs[MAX_ROUNDS];
    const size_t n = sizes[size].n;
    const bool f64 = p->setup->f64;
    const adam_kernel *traffic = traffic_kernel(kernel->name);
    adam_pool *pool;
    if (adam_pool_create(threads, &pool) != ADAM_OK) {
        bench_fail("no threads");
    }
    fill(p, n);
    size_t rounds = 0;
    for (double sum = 0; rounds < MAX_ROUNDS && (rounds < MIN_ROUNDS || sum < MIN_TIME);) {
        ours[rounds] = time_pass(p, f64 ? kernel->step_f64 : kernel->step_f32, n, pool);
        sum += ours[rounds];
        theirs[rounds++] = time_pass(p, f64 ? traffic->step_f64 : traffic->step_f32, n, pool);
    }
    char name[96];
    (void)snprintf(name, sizeof name, "%s, %s, %s, %u thread%s", p->setup->name, sizes[size].name,
                   kernel->name, threads, threads > 1 ? "s" : "");
    bench_table_add(t, name, bench_median(ours, rounds) * 1e3, "ms", "the memory traffic alone",
                    bench_median(theirs, rounds) * 1e3, BENCH_AT_MOST, sizes[size].target);
    adam_pool_free(pool);
}

static void allocate(pass *p)
{
    const size_t bytes = MAX_N * sizeof(double) + STREAMS * STAGGER;
    for (size_t i = 0; i < STREAMS; i++) {
        char *memory =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) {
            bench_fail("no memory");
        }
        (void)madvise(memory, bytes, MADV_HUGEPAGE); /* as the server's state */
        p->streams[i] = memory + i * STAGGER;
    }
    p->sums = calloc(MAX_N / CHUNK, sizeof *p->sums);
    if (p->sums == NULL) {
        bench_fail("no memory");
    }
}

int main(int argc, char **argv)
{
    const char *json = argc == 3 && strcmp(argv[1], "--json") == 0 ? argv[2] : NULL;
    if (argc != 1 && json == NULL) {
        bench_fail("usage: bench_kernel [--json FILE]");
    }
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    bench_table *t = bench_table_create();
    pass p = {0};
    const char *name;
    allocate(&p);
    const adam_kernel *kernel = adam_kernel_at(0, &name);
    for (size_t i = 1; name != NULL; kernel = adam_kernel_at(i++, &name)) {
        if (kernel == NULL || traffic_kernel(name) == NULL) {
            continue; /* not here, or the reference, whose speed is nobody's concern */
        }
        for (size_t s = 0; s < SETUPS * SIZES; s++) {
            p.setup = &setups[s / SIZES];
            measure(t, &p, s % SIZES, 1, kernel);
            if (cores > 1) {
                measure(t, &p, s % SIZES, (unsigned)cores, kernel);
            }
        }
    }
    bench_table_end(t, json);
    return 0;
}
