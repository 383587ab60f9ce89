/* bench_kernels.c: see bench_kernels.h. */
#include "bench_kernels.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernel.h"

#define ELEMENTS ((size_t)1 << 20)
#define ROUNDS   30
#define STREAMS  6 /* p, m, v, vmax, grad, out */

static double now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

typedef struct setup {
    const char *name;
    bool f64, amsgrad, decay, reply;
} setup;

static const setup setups[] = {
    {"step f32", false, false, false, false},
    {"step f32, into the gradient", false, false, false, true},
    {"step f32, amsgrad, decay", false, true, true, false},
    {"step f64", true, false, false, false},
    {"step f64, into the gradient", true, false, false, true},
    {"step f64, amsgrad, decay", true, true, true, false},
};
#define SETUPS (sizeof setups / sizeof setups[0])

/* Numbers of about 1, which keeps denormals out of the timing. */
static void fill(void *stream, bool f64)
{
    for (size_t i = 0; i < ELEMENTS; i++) {
        const double x = 0.5 + (double)(i % 1021) / 1021.0;
        if (f64) {
            ((double *)stream)[i] = x;
        } else {
            ((float *)stream)[i] = (float)x;
        }
    }
}

/* The best of ROUNDS: what the machine can do, with the least of what else it did. */
static double time_step(const adam_kernel *kernel, const setup *s, void *streams[STREAMS])
{
    const adam_scalars scalars = {.lerp_weight = 0.1,
                                  .beta2 = 0.999,
                                  .one_minus_beta2 = 0.001,
                                  .decay = 0.999,
                                  .has_decay = s->decay,
                                  .bias2_sqrt = 0.3,
                                  .eps = 1e-8,
                                  .minus_step_size = -1e-3};
    const adam_streams t = {.p = streams[0],
                            .m = streams[1],
                            .v = streams[2],
                            .vmax = s->amsgrad ? streams[3] : NULL,
                            .grad = streams[4],
                            .out = s->reply ? streams[4] : NULL};
    adam_kernel_step_fn *step = s->f64 ? kernel->step_f64 : kernel->step_f32;
    double best = 1e300;
    for (int i = 0; i < STREAMS; i++) {
        fill(streams[i], s->f64);
    }
    for (int round = 0; round < ROUNDS; round++) {
        adam_sums sums;
        const double start = now_ns();
        step(&scalars, &t, ELEMENTS, &sums);
        const double took = now_ns() - start;
        best = took < best ? took : best;
    }
    return best / (double)ELEMENTS;
}

static double time_nonfinite(const adam_kernel *kernel, bool f64, void *stream)
{
    adam_kernel_nonfinite_fn *scan = f64 ? kernel->nonfinite_f64 : kernel->nonfinite_f32;
    double best = 1e300;
    fill(stream, f64);
    for (int round = 0; round < ROUNDS; round++) {
        const double start = now_ns();
        const size_t found = scan(stream, ELEMENTS, 1.0);
        const double took = now_ns() - start;
        best = took < best && found == ELEMENTS ? took : best;
    }
    return best / (double)ELEMENTS;
}

static void print_line(const char *kernel, const char *what, double ns, double scalar_ns)
{
    printf("%-8s %-30s %8.3f ns/element  scalar %8.3f  x%.1f\n", kernel, what, ns, scalar_ns,
           scalar_ns / ns);
}

void bench_kernels(void)
{
    void *streams[STREAMS];
    for (int i = 0; i < STREAMS; i++) {
        streams[i] = aligned_alloc(64, ELEMENTS * sizeof(double));
        if (streams[i] == NULL) {
            perror("bench");
            exit(2);
        }
    }
    double scalar[SETUPS + 2] = {0};
    const char *name;
    const adam_kernel *kernel = adam_kernel_at(0, &name);
    for (size_t index = 0; name != NULL; kernel = adam_kernel_at(++index, &name)) {
        for (size_t i = 0; kernel != NULL && i < SETUPS + 2; i++) {
            const bool scan = i >= SETUPS;
            const double ns = scan ? time_nonfinite(kernel, i > SETUPS, streams[0])
                                   : time_step(kernel, &setups[i], streams);
            scalar[i] = index == 0 ? ns : scalar[i];
            print_line(name,
                       scan ? (i > SETUPS ? "nonfinite f64" : "nonfinite f32") : setups[i].name, ns,
                       scalar[i]);
        }
    }
    for (int i = 0; i < STREAMS; i++) {
        free(streams[i]);
    }
}
