/* test_golden.c: the bits that torch.optim.Adam and AdamW give, from adam.txt. make_golden.py makes
 * that file and says what it holds; the numbers that go in are made here by the same rules. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adam/adam.h"
#include "numbers.h"

#define STEPS    20
#define PARAMS   10
#define IN_GROUP 5 /* parameters of each of the two groups */
#define MAX_SIZE 1003
#define TAIL     16 /* reference.py: what torch may take one by one is fewer than this */
#define SKIP     77 /* ctest's SKIP_RETURN_CODE */
#define CASES    192

static const uint64_t sizes[PARAMS] = {1, 3, 7, 8, 15, 16, 17, 31, 33, MAX_SIZE};
static const double group_lr[2] = {0.003, 0.05};

typedef struct golden_case {
    unsigned number;
    adam_algorithm algorithm;
    adam_dtype dtype;
    adam_options options; /* but lr */
    uint64_t after[STEPS];
} golden_case;

/* exponent_field of make_golden.py. */
static uint64_t exponent_field(uint64_t bits, unsigned step, uint64_t bias)
{
    const uint64_t spread = (bits >> 7) & 31;
    if (step == 0) {
        return bias + spread % 8 - 6;
    }
    const bool rare = ((bits >> 12) & 7) == 0;
    switch (bits & 63) {
    case 1: return 0;
    case 2: return 1 + spread;
    case 3: return rare ? bias + bias / 2 + spread : bias + spread - 20;
    case 4: return bias + 20 + spread;
    default: return bias + spread - 20;
    }
}

/* Element of a parameter's values (step 0) or of its gradient for a step. zero_sign: 0, 1, or -1
 * where a zero has a sign of its own. */
static void put_number(adam_dtype dtype, uint64_t bits, unsigned step, int zero_sign, void *to)
{
    const bool f64 = dtype == ADAM_FLOAT64;
    const bool own_sign = (bits & 63) != 0 || zero_sign < 0;
    const unsigned mantissa_bits = f64 ? 52 : 23;
    const unsigned sign_shift = f64 ? 63 : 31;
    uint64_t word = (own_sign ? (bits >> 6) & 1 : (uint64_t)zero_sign) << sign_shift;
    if ((bits & 63) != 0) {
        word |= exponent_field(bits, step, f64 ? 1023 : 127) << mantissa_bits;
        word |= bits >> (64 - mantissa_bits);
    }
    const uint32_t half = (uint32_t)word;
    if (f64) {
        memcpy(to, &word, sizeof word);
    } else {
        memcpy(to, &half, sizeof half);
    }
}

/* Fills the numbers of one parameter into `data`, room for MAX_SIZE doubles. */
static adam_tensor numbers(const golden_case *c, unsigned step, unsigned param, void *data)
{
    static const char *const names[PARAMS] = {"p0", "p1", "p2", "p3", "p4",
                                              "p5", "p6", "p7", "p8", "p9"};
    const size_t size = adam_dtype_size(c->dtype);
    /* reference.py: zero_sign, tail_start */
    const bool pinned = step > 0 && c->options.betas[0] == 0.0;
    const uint64_t tail = sizes[param] - sizes[param] % TAIL;
    for (uint64_t i = 0; i < sizes[param]; i++) {
        const uint64_t counter =
            (uint64_t)c->number << 48 | (uint64_t)step << 40 | (uint64_t)param << 32 | i;
        const int zero_sign = pinned && i >= tail ? c->options.maximize : -1;
        put_number(c->dtype, mix(counter), step, zero_sign, (char *)data + i * size);
    }
    return (adam_tensor){.name = names[param],
                         .name_len = 2,
                         .dtype = c->dtype,
                         .rank = 1,
                         .shape = {sizes[param]},
                         .data = data};
}

static adam_optimizer *make(const golden_case *c)
{
    static double data[PARAMS][MAX_SIZE];
    adam_tensor params[PARAMS];
    adam_group_spec groups[2];
    adam_error error;
    adam_optimizer *o = NULL;
    for (unsigned j = 0; j < PARAMS; j++) {
        params[j] = numbers(c, 0, j, data[j]);
    }
    for (unsigned k = 0; k < 2; k++) {
        groups[k] = (adam_group_spec){
            .options = c->options, .params = params + (size_t)IN_GROUP * k, .n_params = IN_GROUP};
        groups[k].options.lr = group_lr[k];
    }
    assert_int_equal(adam_optimizer_create(c->algorithm, groups, 2, NULL, &o, &error), ADAM_OK);
    return o;
}

static void step(adam_optimizer *o, const golden_case *c, unsigned number)
{
    static double data[PARAMS][MAX_SIZE];
    adam_tensor grads[PARAMS];
    adam_error error;
    size_t n = 0;
    for (unsigned j = 0; j < PARAMS; j++) {
        if ((7 * number + 3 * j) % 5 != 0) { /* has_gradient of make_golden.py */
            grads[n] = numbers(c, number, j, data[n]);
            n++;
        }
    }
    const adam_step_args args = {.grads = grads, .n_grads = n};
    assert_int_equal(adam_optimizer_step(o, &args, NULL, &error), ADAM_OK);
    uint64_t hash = FNV_START;
    for (unsigned j = 0; j < PARAMS; j++) {
        hash = fnv1a(hash, adam_optimizer_param(o, j).tensor.data,
                     sizes[j] * adam_dtype_size(c->dtype));
    }
    if (hash != c->after[number - 1]) {
        fail_msg("case %u: parameters differ from step %u on", c->number, number);
    }
}

/* Reads "case" and "after" lines. False at the end of the file. */
static bool read_case(FILE *file, golden_case *c)
{
    char word[16], algorithm[16], dtype[16];
    int amsgrad, maximize;
    assert_int_equal(fscanf(file, "%15s", word), 1);
    if (strcmp(word, "end") == 0) {
        return false;
    }
    assert_string_equal(word, "case");
    *c = (golden_case){0};
    assert_int_equal(fscanf(file,
                            "%u %15s %15s amsgrad %d maximize %d weight_decay %lf betas %lf %lf "
                            "eps %lf after",
                            &c->number, algorithm, dtype, &amsgrad, &maximize,
                            &c->options.weight_decay, &c->options.betas[0], &c->options.betas[1],
                            &c->options.eps),
                     9);
    c->algorithm = strcmp(algorithm, "adamw") == 0 ? ADAM_ALGORITHM_ADAMW : ADAM_ALGORITHM_ADAM;
    c->dtype = strcmp(dtype, "float64") == 0 ? ADAM_FLOAT64 : ADAM_FLOAT32;
    c->options.amsgrad = amsgrad != 0;
    c->options.maximize = maximize != 0;
    c->options.bias_correction = true;
    for (int i = 0; i < STEPS; i++) {
        assert_int_equal(fscanf(file, "%" SCNx64, &c->after[i]), 1);
    }
    return true;
}

/* One stream against its hash and first element; "-" stands for a stream that is not there. */
static void check_stream(const golden_case *c, unsigned param, const char *what, const void *data,
                         const char *hash, const char *first)
{
    if (strcmp(hash, "-") == 0) {
        assert_null(data);
        return;
    }
    assert_non_null(data);
    const size_t size = adam_dtype_size(c->dtype);
    uint64_t word = 0;
    memcpy(&word, data, size);
    if (word != strtoull(first, NULL, 16)) {
        fail_msg("case %u: first element of %s of p%u is %" PRIx64 ", torch has %s", c->number,
                 what, param, word, first);
    }
    if (fnv1a(FNV_START, data, sizes[param] * size) != strtoull(hash, NULL, 16)) {
        fail_msg("case %u: %s of p%u differs from torch's", c->number, what, param);
    }
}

/* Reads a "param" line and holds the optimizer's own against it. */
static void check_param(FILE *file, const golden_case *c, const adam_optimizer *o, unsigned param)
{
    unsigned number;
    uint64_t steps;
    char hash[4][20], first[4][20];
    assert_int_equal(fscanf(file,
                            " param %u step %" SCNu64 " %19s %19s %19s %19s first %19s %19s %19s "
                            "%19s",
                            &number, &steps, hash[0], hash[1], hash[2], hash[3], first[0], first[1],
                            first[2], first[3]),
                     10);
    assert_int_equal(number, param);
    const adam_param_view p = adam_optimizer_param(o, param);
    assert_int_equal(p.step, steps);
    check_stream(c, param, "the values", p.tensor.data, hash[0], first[0]);
    check_stream(c, param, "exp_avg", p.exp_avg, hash[1], first[1]);
    check_stream(c, param, "exp_avg_sq", p.exp_avg_sq, hash[2], first[2]);
    check_stream(c, param, "max_exp_avg_sq", p.max_exp_avg_sq, hash[3], first[3]);
}

/* Every case of the file, to the bit, after every step and at the end. */
static void test_torch(void **state)
{
    (void)state;
    golden_case c;
    unsigned cases = 0;
    FILE *file = fopen(GOLDEN_FILE, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "#%*[^\n]"), 0);
    for (; read_case(file, &c); cases++) {
        adam_optimizer *o = make(&c);
        for (unsigned number = 1; number <= STEPS; number++) {
            step(o, &c, number);
        }
        for (unsigned j = 0; j < PARAMS; j++) {
            check_param(file, &c, o, j);
        }
        adam_optimizer_free(o);
    }
    assert_int_equal(cases, CASES);
    (void)fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_torch)};
    adam_error error;
    if (adam_kernel_check(&error) != ADAM_OK) {
        printf("skipped: %s\n", error.message);
        return SKIP;
    }
    printf("kernel %s\n", adam_kernel_name());
    return cmocka_run_group_tests_name("golden", tests, NULL, NULL);
}
