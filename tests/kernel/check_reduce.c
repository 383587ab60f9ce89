/* check_reduce.c: the reductions of every kernel that this processor runs against the scalar one's,
 * bit for bit, on random sizes and numbers, between guard pages. The seed is printed, and taken
 * from ADAM_TEST_SEED if set.
 *
 *     check_reduce            check
 *     check_reduce --bench    time adam_reduce beside reading the same bytes */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "adam/adam.h"
#include "guarded.h"
#include "kernel.h"
#include "random_real.h"

#define MAX_N      3000
#define ALL_SIZES  131 /* every size below this is tried */
#define SOME_SIZES 20  /* and so many random ones for each kind */
#define KINDS      32  /* of terms: type, base, weights, continued, divided */

enum { SUM, BASE, SOURCES, STREAMS = SOURCES + ADAM_KERNEL_TERMS };

static guarded rooms[STREAMS];
static _Alignas(64) unsigned char before[STREAMS][MAX_N * sizeof(double)];
static unsigned char expected[MAX_N * sizeof(double)];
static size_t checks, failures;

/* Everything but the numbers. `places` are those of the streams; `own` writes the sum over the
 * first source. */
typedef struct setting {
    bool f64, own;
    adam_terms terms;
    size_t n, places[STREAMS];
} setting;

static size_t size_of(const setting *s)
{
    return s->f64 ? sizeof(double) : sizeof(float);
}

/* At either guard page, or 1 to 63 bytes off. */
static size_t random_shift(void)
{
    switch (random_below(3)) {
    case 0: return 0;
    case 1: return GUARDED_END;
    default: return 1 + random_below(63);
    }
}

static setting make_setting(size_t kind, size_t n)
{
    static const double weights[] = {1.0, 0.1, 3.0, 60000.0, 1e-7};
    setting s = {.f64 = kind % 2 != 0, .n = n};
    s.terms.n = 1 + random_below(ADAM_KERNEL_TERMS);
    s.terms.base = kind / 2 % 2 != 0 ? before : NULL; /* for run() to set */
    s.terms.weighted = kind / 4 % 2 != 0;
    s.terms.continues = kind / 8 % 2 != 0;
    s.terms.divides = kind / 16 % 2 != 0;
    s.terms.divisor = random_below(2) != 0 ? (double)(1 + random_below(20)) : 0.3;
    s.own = !s.terms.continues && random_below(3) == 0;
    const bool wild = random_below(3) == 0;
    for (size_t i = 0; i < STREAMS; i++) {
        s.places[i] = random_shift();
        for (size_t k = 0; k < n; k++) {
            const uint64_t bits = random_real(s.f64, wild, false);
            memcpy(before[i] + k * size_of(&s), &bits, size_of(&s)); /* little-endian */
        }
    }
    for (size_t k = 0; k < s.terms.n; k++) {
        s.terms.weight[k] = weights[random_below(5)];
    }
    return s;
}

/* The sums of a kernel, in rooms[SUM] or that of the first source. NULL where it wrote beside them,
 * or to what it should only read. */
static const unsigned char *run(const adam_kernel *kernel, const setting *s)
{
    unsigned char *at[STREAMS];
    const size_t bytes = s->n * size_of(s);
    for (size_t i = 0; i < STREAMS; i++) {
        at[i] = guarded_place(&rooms[i], bytes, s->places[i]);
        memcpy(at[i], before[i], bytes);
    }
    adam_terms terms = s->terms;
    terms.base = terms.base != NULL ? at[BASE] : NULL;
    for (size_t k = 0; k < terms.n; k++) {
        terms.x[k] = at[SOURCES + k];
    }
    const size_t out = s->own ? SOURCES : SUM;
    (s->f64 ? kernel->reduce_f64 : kernel->reduce_f32)(&terms, at[out], s->n);
    bool intact = true;
    for (size_t i = 0; i < STREAMS; i++) {
        intact = intact && guarded_intact(&rooms[i], at[i], bytes);
        intact = intact && (i == out || memcmp(at[i], before[i], bytes) == 0);
    }
    return intact ? at[out] : NULL;
}

static uint64_t bits_at(const setting *s, const unsigned char *numbers, size_t i)
{
    uint64_t bits = 0;
    memcpy(&bits, numbers + i * size_of(s), size_of(s));
    return bits;
}

static bool same_bits(bool f64, uint64_t a, uint64_t b)
{
    const uint64_t magnitude = bits_of_sign(f64) - 1;
    const uint64_t infinity = bits_of_infinity(f64);
    return a == b || ((a & magnitude) > infinity && (b & magnitude) > infinity); /* both NaN */
}

static void check(const adam_kernel *kernel, const setting *s)
{
    const unsigned char *got = run(kernel, s);
    checks++;
    size_t i = 0;
    while (got != NULL && i < s->n &&
           same_bits(s->f64, bits_at(s, got, i), bits_at(s, expected, i))) {
        i++;
    }
    if (got == NULL || i < s->n) {
        failures++;
        printf("FAILED %s %s n=%zu terms=%zu base=%d weighted=%d continues=%d divides=%d own=%d: ",
               kernel->name, s->f64 ? "f64" : "f32", s->n, s->terms.n, s->terms.base != NULL,
               s->terms.weighted, s->terms.continues, s->terms.divides, s->own);
        if (got == NULL) {
            printf("bytes beside the sums were written\n");
        } else {
            printf("[%zu] is 0x%" PRIx64 ", expected 0x%" PRIx64 "\n", i, bits_at(s, got, i),
                   bits_at(s, expected, i));
        }
    }
}

static void check_kernels(void)
{
    for (size_t round = 0; round < KINDS * (ALL_SIZES + SOME_SIZES) && failures < 20; round++) {
        const size_t size = round / KINDS;
        const setting s = make_setting(
            round % KINDS, size < ALL_SIZES ? size : random_below(MAX_N - ALL_SIZES) + ALL_SIZES);
        const char *name;
        const adam_kernel *kernel = adam_kernel_at(0, &name);
        const unsigned char *scalar = run(kernel, &s);
        if (scalar != NULL) {
            memcpy(expected, scalar, s.n * size_of(&s));
        } else {
            check(kernel, &s); /* says so */
        }
        for (size_t i = 1; name != NULL; i++) {
            kernel = adam_kernel_at(i, &name);
            if (kernel != NULL) {
                check(kernel, &s);
            }
        }
    }
}

/* ---- bench ---- */

#define BENCH_N       ((size_t)1 << 20)
#define BENCH_SOURCES 8
#define BENCH_ROUNDS  50

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Reads the sources as the norms do, on one thread. */
static double read_all(const adam_source *sources)
{
    double sum = 0;
    for (size_t k = 0; k < BENCH_SOURCES; k++) {
        adam_norms norms;
        adam_kernel_get()->norms_f32(sources[k].data, BENCH_N, 1.0, &norms);
        sum += norms.squares;
    }
    return sum;
}

/* What is timed: reading, or reducing. The best of many. */
static double time_one(adam_reduce_item *item, adam_pool *pool, bool reads)
{
    double best = 1e9;
    for (int i = 0; i < BENCH_ROUNDS; i++) {
        const double start = now();
        if (reads) {
            (void)read_all(item->sources);
        } else {
            adam_reduce(item, 1, pool);
        }
        const double took = now() - start;
        best = took < best ? took : best;
    }
    return best;
}

static void bench(void)
{
    adam_source sources[BENCH_SOURCES];
    const size_t bytes = BENCH_N * sizeof(float);
    const double read_bytes = (double)(bytes * BENCH_SOURCES);
    float *out = malloc(bytes);
    float *base = malloc(bytes);
    for (size_t k = 0; k < BENCH_SOURCES; k++) {
        float *data = malloc(bytes);
        for (size_t i = 0; i < BENCH_N; i++) {
            data[i] = base[i] = out[i] = (float)(i % 1021) / 1021.0F;
        }
        sources[k] = (adam_source){data, ADAM_FLOAT32, 1.0 + (double)k};
    }
    adam_reduce_item item = {.out = out,
                             .dtype = ADAM_FLOAT32,
                             .numel = BENCH_N,
                             .sources = sources,
                             .n = BENCH_SOURCES};
    const double reading = time_one(&item, NULL, true);
    printf("reading 8 x 1 M float32: %.3f ms, %.1f GB/s\n", reading * 1e3,
           read_bytes / reading * 1e-9);
    for (int kind = 0; kind < 3; kind++) {
        static const char *const names[] = {"mean", "weighted", "weighted, from a base"};
        item.reduction = kind == 0 ? ADAM_REDUCE_MEAN : ADAM_REDUCE_WEIGHTED;
        item.base = kind == 2 ? base : NULL;
        for (unsigned threads = 1; threads <= 2; threads++) {
            adam_pool *pool = NULL;
            (void)adam_pool_create(threads, &pool);
            const double took = time_one(&item, pool, false);
            printf("%s, %u threads: %.3f ms, %.1f GB/s read\n", names[kind], threads, took * 1e3,
                   read_bytes / took * 1e-9);
            adam_pool_free(pool);
        }
    }
    for (size_t k = 0; k < BENCH_SOURCES; k++) {
        free((void *)sources[k].data);
    }
    free(out);
    free(base);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        bench();
        return 0;
    }
    const char *seed = getenv("ADAM_TEST_SEED");
    const uint64_t number =
        seed != NULL ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) << 20 ^ (uint64_t)getpid();
    random_seed(number);
    printf("ADAM_TEST_SEED=%" PRIu64 "\n", number);
    for (size_t i = 0; i < STREAMS; i++) {
        rooms[i] = guarded_map(MAX_N * sizeof(double) + 64);
    }
    check_kernels();
    for (size_t i = 0; i < STREAMS; i++) {
        guarded_unmap(&rooms[i]);
    }
    printf("%zu checks, %zu failed\n", checks, failures);
    return failures == 0 ? 0 : 1;
}
