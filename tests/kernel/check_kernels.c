/* check_kernels.c: every kernel that this processor runs against the scalar one, bit for bit, on
 * random sizes and numbers, between guard pages. After the idea of dav1d's checkasm.
 *
 *     check_kernels            check; the seed is printed, and taken from ADAM_TEST_SEED if set
 *     check_kernels --bench    time */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench_kernels.h"
#include "guarded.h"
#include "kernel.h"
#include "random_real.h"

#define MAX_N       5000
#define ALL_SIZES   131 /* every size below this is tried */
#define SOME_SIZES  3   /* and so many random ones for each setting */
#define MAX_KERNELS 8
#define MAX_REPORTS 20

enum { P, M, V, VMAX, GRAD, OUT, STREAMS };
static const char *const stream_names[STREAMS] = {"p", "m", "v", "vmax", "grad", "out"};

enum out_place { OUT_NONE, OUT_OWN, OUT_IS_GRAD };

/* Everything but the numbers. */
typedef struct setting {
    bool f64, amsgrad;
    enum out_place out;
    adam_scalars scalars;
    size_t n;
} setting;

/* Numbers of one run: before it, or after. In memory of its own, aligned. */
typedef struct numbers {
    _Alignas(64) unsigned char stream[STREAMS][MAX_N * sizeof(double)];
    adam_sums sums;
} numbers;

static guarded rooms[STREAMS];
static numbers before, expected, got;
static size_t checks, failures;
static char doing[400]; /* for the message where a guard page is hit */

/* ---- numbers ---- */

static void put_real(bool f64, unsigned char *stream, size_t i, uint64_t bits)
{
    const uint32_t half = (uint32_t)bits;
    if (f64) {
        memcpy(stream + i * sizeof bits, &bits, sizeof bits);
    } else {
        memcpy(stream + i * sizeof half, &half, sizeof half);
    }
}

static uint64_t get_bits(bool f64, const unsigned char *stream, size_t i)
{
    uint64_t bits = 0;
    const size_t size = f64 ? sizeof(double) : sizeof(float);
    memcpy(&bits, stream + i * size, size);
    return bits;
}

/* New numbers in all streams. Squares are positive, unless everything goes. */
static void fill_before(const setting *s, bool wild)
{
    for (int stream = 0; stream < STREAMS; stream++) {
        const bool square = stream == V || stream == VMAX;
        for (size_t i = 0; i < s->n; i++) {
            put_real(s->f64, before.stream[stream], i, random_real(s->f64, wild, square && !wild));
        }
    }
}

/* ---- running and comparing ---- */

static size_t bytes_of(const setting *s)
{
    return s->n * (s->f64 ? sizeof(double) : sizeof(float));
}

static bool used(const setting *s, int stream)
{
    return !(stream == VMAX && !s->amsgrad) && !(stream == OUT && s->out != OUT_OWN);
}

/* A random place: at either guard page, or, for what may be unaligned, 1 to 63 bytes off. */
static size_t random_shift(int stream)
{
    switch (random_below(3)) {
    case 0: return 0;
    case 1: return GUARDED_END;
    default: return stream == GRAD || stream == OUT ? 1 + random_below(63) : GUARDED_END;
    }
}

static bool run(const adam_kernel *kernel, const setting *s, numbers *after)
{
    void *at[STREAMS] = {NULL};
    const size_t bytes = bytes_of(s);
    bool intact = true;
    for (int i = 0; i < STREAMS; i++) {
        if (used(s, i)) {
            at[i] = guarded_place(&rooms[i], bytes, random_shift(i));
            memcpy(at[i], before.stream[i], bytes);
        }
    }
    const adam_streams streams = {.p = at[P],
                                  .m = at[M],
                                  .v = at[V],
                                  .vmax = at[VMAX],
                                  .grad = at[GRAD],
                                  .out = s->out == OUT_IS_GRAD ? at[GRAD] : at[OUT]};
    adam_kernel_step_fn *step = s->f64 ? kernel->step_f64 : kernel->step_f32;
    after->sums = (adam_sums){-1.0, -1.0, -1.0};
    step(&s->scalars, &streams, s->n, &after->sums);
    for (int i = 0; i < STREAMS; i++) {
        if (used(s, i)) {
            memcpy(after->stream[i], at[i], bytes);
            intact = intact && guarded_intact(&rooms[i], at[i], bytes);
        }
    }
    return intact;
}

static bool same_bits(bool f64, uint64_t a, uint64_t b)
{
    const uint64_t magnitude = bits_of_sign(f64) - 1;
    const uint64_t infinity = bits_of_infinity(f64);
    return a == b || ((a & magnitude) > infinity && (b & magnitude) > infinity); /* both NaN */
}

static void describe(const char *kernel, const setting *s)
{
    const adam_scalars *c = &s->scalars;
    (void)snprintf(doing, sizeof doing,
                   "%s %s n=%zu amsgrad=%d l2=%d decay=%d maximize=%d out=%d weight=%.17g "
                   "beta2=%.17g eps=%g changes_grad=%d unscale=%g clip_coef=%g clip_value=%g",
                   kernel, s->f64 ? "f64" : "f32", s->n, s->amsgrad, c->has_l2, c->has_decay,
                   c->maximize, (int)s->out, c->lerp_weight, c->beta2, c->eps, c->changes_grad,
                   c->unscale, c->clip_coef, c->clip_value);
}

static void __attribute__((format(printf, 1, 2))) report(const char *format, ...)
{
    if (++failures > MAX_REPORTS) {
        return;
    }
    va_list args;
    va_start(args, format);
    printf("FAILED %s: ", doing);
    vprintf(format, args);
    printf("\n");
    va_end(args);
}

static void compare_sum(const char *name, double a, double b)
{
    if (memcmp(&a, &b, sizeof a) != 0 && !(isnan(a) && isnan(b))) {
        report("sum of squares of %s is %a, expected %a", name, a, b);
    }
}

/* `got` against `expected`; element i of one is element (i + turn) mod n of the other. */
static void compare(const setting *s, size_t turn)
{
    for (int stream = 0; stream < STREAMS; stream++) {
        for (size_t i = 0; used(s, stream) && i < s->n; i++) {
            const uint64_t a = get_bits(s->f64, got.stream[stream], i);
            const uint64_t b = get_bits(s->f64, expected.stream[stream], (i + turn) % s->n);
            if (!same_bits(s->f64, a, b)) {
                report("%s[%zu] is 0x%" PRIx64 ", expected 0x%" PRIx64, stream_names[stream], i, a,
                       b);
                break;
            }
        }
    }
}

static void check_one(const adam_kernel *const *kernels, size_t n_kernels, const setting *s,
                      bool wild)
{
    fill_before(s, wild);
    for (size_t k = 0; k < n_kernels; k++) {
        describe(kernels[k]->name, s);
        if (!run(kernels[k], s, k == 0 ? &expected : &got)) {
            report("bytes beside a stream were written");
        }
        checks++;
        if (k > 0) {
            compare(s, 0);
            compare_sum("grad", got.sums.grad, expected.sums.grad);
            compare_sum("param", got.sums.param, expected.sums.param);
            compare_sum("update", got.sums.update, expected.sums.update);
        }
    }
}

/* ---- checks ---- */

/* A setting from the digits of a number below SETTINGS: every combination once. */
#define SETTINGS (2 * 2 * 2 * 3 * 3 * 5 * 3 * 2)
static setting setting_of(size_t number)
{
    static const double weights[] = {0.1, 0.49999999999999994, 0.5, 0.7, 1.0};
    static const double betas2[] = {0.999, 0.5, 0.0};
    setting s = {.f64 = number % 2 != 0, .amsgrad = number / 2 % 2 != 0};
    adam_scalars *c = &s.scalars;
    c->maximize = number / 4 % 2 != 0;
    s.out = (enum out_place)(number / 8 % 3);
    c->has_l2 = number / 24 % 3 == 1;
    c->has_decay = number / 24 % 3 == 2;
    c->lerp_weight = weights[number / 72 % 5];
    c->beta2 = betas2[number / 360 % 3];
    c->eps = number / 1080 % 2 != 0 ? 0.0 : 1e-8;
    const double t = 1.0 + (double)random_below(1000);
    c->one_minus_beta2 = 1.0 - c->beta2;
    c->l2 = c->has_l2 ? 0.01 : 0.0;
    c->decay = c->has_decay ? 1.0 - 0.03 * 0.1 : 1.0;
    c->bias2_sqrt = pow(1.0 - pow(c->beta2, t), 0.5);
    c->minus_step_size = -(0.03 / (1.0 - pow(1.0 - c->lerp_weight, t)));
    const uint64_t change = random_below(4); /* of the gradient; 3: none */
    c->changes_grad = change < 3;
    c->unscale = change == 0 ? 1.0 : (double)(float)(1.0 / 3.0);
    c->clip_coef = change == 1 ? 1.0 : 0.3;
    c->clip_value = change == 2 ? (double)INFINITY : 0.25;
    return s;
}

static void check_steps(const adam_kernel *const *kernels, size_t n_kernels)
{
    for (size_t number = 0; number < SETTINGS; number++) {
        setting s = setting_of(number);
        for (size_t i = 0; i < ALL_SIZES + SOME_SIZES; i++) {
            s.n = i < ALL_SIZES ? i : ALL_SIZES + random_below(MAX_N - ALL_SIZES + 1);
            check_one(kernels, n_kernels, &s, random_below(4) == 0);
        }
    }
}

static void turn_before(const setting *s, size_t by)
{
    static unsigned char turned[sizeof before.stream[0]];
    const size_t bytes = bytes_of(s);
    const size_t first = bytes / s->n * by;
    for (int stream = 0; stream < STREAMS; stream++) {
        memcpy(turned, before.stream[stream] + first, bytes - first);
        memcpy(turned + bytes - first, before.stream[stream], first);
        memcpy(before.stream[stream], turned, bytes);
    }
}

/* An element's result does not depend on where it stands: each is moved through every place, in the
 * vectors and in the tail. */
static void check_places(const adam_kernel *const *kernels, size_t n_kernels)
{
    enum { N = 16 * 4 + 13 };
    for (size_t k = 0; k < n_kernels; k++) {
        for (size_t number = 0; number < SETTINGS; number += 7) {
            setting s = setting_of(number);
            s.n = N;
            describe(kernels[k]->name, &s);
            fill_before(&s, number % 2 == 0);
            (void)run(kernels[k], &s, &expected);
            for (size_t turn = 1; turn < N; turn++) {
                turn_before(&s, 1);
                (void)run(kernels[k], &s, &got);
                compare(&s, turn);
                checks++;
            }
        }
    }
}

static void check_nonfinite_one(const adam_kernel *kernel, const setting *s, size_t want)
{
    adam_kernel_nonfinite_fn *scan = s->f64 ? kernel->nonfinite_f64 : kernel->nonfinite_f32;
    const size_t bytes = bytes_of(s);
    void *place = guarded_place(&rooms[GRAD], bytes, random_shift(GRAD));
    memcpy(place, before.stream[GRAD], bytes);
    (void)snprintf(doing, sizeof doing, "%s nonfinite %s n=%zu", kernel->name,
                   s->f64 ? "f64" : "f32", s->n);
    const size_t found = scan(place, s->n, 1.0);
    checks++;
    if (found != want) {
        report("first at %zu, expected %zu", found, want);
    }
}

/* The first NaN or infinity, at every index of every small size, and none among finite numbers. */
static void check_nonfinite(const adam_kernel *kernel, bool f64)
{
    const uint64_t infinity = bits_of_infinity(f64);
    const uint64_t sign = bits_of_sign(f64);
    const uint64_t bad[] = {infinity,          sign | infinity, infinity | 1, sign | (infinity + 1),
                            sign | (sign - 1), sign - 1};
    setting s = {.f64 = f64};
    for (s.n = 0; s.n < ALL_SIZES; s.n++) {
        fill_before(&s, false);
        if (s.n > 0) {
            put_real(f64, before.stream[GRAD], random_below(s.n), infinity - 1); /* the largest */
        }
        check_nonfinite_one(kernel, &s, s.n);
        for (size_t i = s.n; i-- > 0;) { /* from the end: later ones are there already */
            put_real(f64, before.stream[GRAD], i, bad[random_below(sizeof bad / sizeof bad[0])]);
            check_nonfinite_one(kernel, &s, i);
        }
    }
    s.n = MAX_N;
    for (int i = 0; i < 200; i++) {
        const size_t first = random_below(MAX_N);
        fill_before(&s, false);
        put_real(f64, before.stream[GRAD], first, bad[i % 6]);
        check_nonfinite_one(kernel, &s, first);
    }
}

/* A finite number that only the factor takes out of range counts, and one that it does not does
 * not. */
static void check_nonfinite_scaled(const adam_kernel *kernel, bool f64)
{
    adam_kernel_nonfinite_fn *scan = f64 ? kernel->nonfinite_f64 : kernel->nonfinite_f32;
    setting s = {.f64 = f64};
    (void)snprintf(doing, sizeof doing, "%s nonfinite, scaled", kernel->name);
    for (s.n = 1; s.n < ALL_SIZES; s.n++) {
        const size_t at = random_below(s.n);
        memset(before.stream[GRAD], 0, bytes_of(&s));
        put_real(f64, before.stream[GRAD], at, bits_of_infinity(f64) - 1);
        const size_t half = scan(before.stream[GRAD], s.n, 0.5);
        const size_t twice = scan(before.stream[GRAD], s.n, 2.0);
        checks += 2;
        if (half != s.n || twice != at) {
            report("n=%zu: %zu and %zu, expected %zu and %zu", s.n, half, twice, s.n, at);
        }
    }
}

/* Norms of every kernel against the scalar one's, wild numbers and NaNs among them. */
static void check_norms(const adam_kernel *const *kernels, size_t n_kernels)
{
    static const double scales[] = {1.0, 0.3333333432674408, 4096.0};
    for (size_t round = 0; round < 6 * (ALL_SIZES + SOME_SIZES); round++) {
        setting s = {.f64 = round % 2 != 0};
        const double scale = scales[round / 2 % 3];
        const size_t size = round / 6;
        adam_norms want = {0};
        s.n = size < ALL_SIZES ? size : ALL_SIZES + random_below(MAX_N - ALL_SIZES + 1);
        fill_before(&s, random_below(3) == 0);
        for (size_t k = 0; k < n_kernels; k++) {
            const size_t bytes = bytes_of(&s);
            void *place = guarded_place(&rooms[GRAD], bytes, random_shift(GRAD));
            adam_norms norms = {-1.0, -1.0};
            memcpy(place, before.stream[GRAD], bytes);
            (void)snprintf(doing, sizeof doing, "%s norms %s n=%zu scale=%g", kernels[k]->name,
                           s.f64 ? "f64" : "f32", s.n, scale);
            (s.f64 ? kernels[k]->norms_f64 : kernels[k]->norms_f32)(place, s.n, scale, &norms);
            want = k == 0 ? norms : want;
            compare_sum("numbers", norms.squares, want.squares);
            compare_sum("the largest", norms.largest, want.largest);
            checks++;
        }
    }
}

/* ---- main ---- */

static void on_fault(int number)
{
    static const char text[] = "FAILED out of bounds: ";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0 ||
        write(STDERR_FILENO, doing, strlen(doing)) < 0 || write(STDERR_FILENO, "\n", 1) < 0) {
        _exit(3);
    }
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static void set_up(void)
{
    const char *seed = getenv("ADAM_TEST_SEED");
    const uint64_t number =
        seed != NULL ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) << 20 ^ (uint64_t)getpid();
    random_seed(number);
    printf("ADAM_TEST_SEED=%" PRIu64 "\n", number);
    for (int i = 0; i < STREAMS; i++) {
        rooms[i] = guarded_map(MAX_N * sizeof(double) + 64);
        if (!guarded_works(&rooms[i])) {
            printf("FAILED: the guard pages do not guard\n");
            exit(2);
        }
    }
    (void)signal(SIGSEGV, on_fault);
    (void)signal(SIGBUS, on_fault);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        bench_kernels();
        return 0;
    }
    const adam_kernel *kernels[MAX_KERNELS];
    size_t n_kernels = 0;
    const char *name;
    const adam_kernel *kernel = adam_kernel_at(0, &name);
    set_up();
    for (size_t i = 1; name != NULL; kernel = adam_kernel_at(i++, &name)) {
        printf("%s: %s\n", name, kernel != NULL ? "runs here" : "not on this processor");
        if (kernel != NULL && n_kernels < MAX_KERNELS) {
            kernels[n_kernels++] = kernel;
        }
    }
    check_steps(kernels, n_kernels);
    check_places(kernels, n_kernels);
    check_norms(kernels, n_kernels);
    for (size_t i = 0; i < n_kernels; i++) {
        check_nonfinite(kernels[i], false);
        check_nonfinite(kernels[i], true);
        check_nonfinite_scaled(kernels[i], false);
        check_nonfinite_scaled(kernels[i], true);
    }
    for (int i = 0; i < STREAMS; i++) {
        guarded_unmap(&rooms[i]);
    }
    printf("%zu checks, %zu failed\n", checks, failures);
    return failures == 0 ? 0 : 1;
}
