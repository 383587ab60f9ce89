/* test_clip.c: what is done with gradients before a step, to torch's bits, from clip.txt.
 * make_clip.py makes that file and says what it holds; parameters and gradients are made here by
 * the same rules. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "adam/adam.h"
#include "numbers.h"

#define STEPS    6
#define PARAMS   4
#define MAX_SIZE 40
#define SKIP     77 /* ctest's SKIP_RETURN_CODE */
#define CASES    1068

static const uint64_t sizes[PARAMS] = {3, 17, 40, 1};

typedef struct clip_case {
    unsigned number;
    char kind[16], bad[8], outcome[STEPS + 1];
    adam_grad_options options;
    bool exact;
    uint64_t params, moments; /* hashes */
} clip_case;

/* Room for one tensor of either type. */
typedef union numbers {
    float f32[MAX_SIZE];
    double f64[MAX_SIZE];
} numbers;

static adam_dtype dtype_of(const clip_case *c, unsigned param)
{
    const bool f64 =
        strcmp(c->kind, "mixed") == 0 ? param % 2 == 1 : strcmp(c->kind, "float64") == 0;
    return f64 ? ADAM_FLOAT64 : ADAM_FLOAT32;
}

/* An element of SHAPES of make_clip.py: gradients of norms 3, 4, 12 and 84. */
static double shape_at(unsigned param, uint64_t i)
{
    switch (param) {
    case 0: return i == 1 ? 1.0 : 2.0;
    case 1: return i < 16 ? 1.0 : 0.0;
    case 2: return i < 36 ? 2.0 : 0.0;
    default: return 84.0;
    }
}

/* An element of a parameter (step 0) or gradient. */
static double number_at(const clip_case *c, unsigned step, unsigned param, uint64_t i)
{
    static const double factors[] = {1.0, 0.125, 32.0, 5.0};
    if (step > 0 && param == c->number % PARAMS && i == 0) {
        if (step == 3 && strcmp(c->bad, "none") != 0) {
            return strcmp(c->bad, "nan") == 0 ? NAN : INFINITY;
        }
        if (step == 5 && strcmp(c->bad, "inf") == 0) {
            return -INFINITY;
        }
    }
    const uint64_t bits =
        mix((uint64_t)c->number << 48 | (uint64_t)step << 40 | (uint64_t)param << 32 | i);
    if (step == 0 || !c->exact) {
        return ((double)(bits >> 40) - 8388608.0) * 0x1p-20;
    }
    const double value = shape_at(param, i) * factors[step % 4] * c->options.grad_scale;
    return (bits & 1) != 0 ? -value : value;
}

static adam_tensor make_tensor(const clip_case *c, unsigned step, unsigned param, numbers *data)
{
    static const char *const names[PARAMS] = {"p0", "p1", "p2", "p3"};
    for (uint64_t i = 0; i < sizes[param]; i++) {
        const double value = number_at(c, step, param, i);
        if (dtype_of(c, param) == ADAM_FLOAT64) {
            data->f64[i] = value;
        } else {
            data->f32[i] = (float)value;
        }
    }
    return (adam_tensor){.name = names[param],
                         .name_len = 2,
                         .dtype = dtype_of(c, param),
                         .rank = 1,
                         .shape = {sizes[param]},
                         .data = data};
}

static adam_optimizer *make(const clip_case *c)
{
    static numbers data[PARAMS];
    adam_tensor params[PARAMS];
    adam_group_spec groups[2];
    adam_optimizer *o = NULL;
    for (unsigned j = 0; j < PARAMS; j++) {
        params[j] = make_tensor(c, 0, j, &data[j]);
    }
    for (unsigned k = 0; k < 2; k++) {
        groups[k] = (adam_group_spec){.params = params + (size_t)2 * k, .n_params = 2};
        adam_options_default(ADAM_ALGORITHM_ADAMW, &groups[k].options);
    }
    groups[1].options.lr = 0.05;
    assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAMW, groups, 2, NULL, &o, NULL),
                     ADAM_OK);
    assert_int_equal(adam_optimizer_set_grad_options(o, &c->options, NULL), ADAM_OK);
    return o;
}

/* What came of it, as make_clip.py's take_step says it. */
static char step(adam_optimizer *o, const clip_case *c, unsigned number)
{
    static numbers data[PARAMS];
    adam_tensor grads[PARAMS];
    adam_step_stats stats;
    for (unsigned j = 0; j < PARAMS; j++) {
        grads[j] = make_tensor(c, number, j, &data[j]);
    }
    const adam_step_args args = {.grads = grads, .n_grads = PARAMS};
    const adam_status st = adam_optimizer_step(o, &args, &stats, NULL);
    if (st == ADAM_NON_FINITE) {
        return 'r';
    }
    assert_int_equal(st, ADAM_OK);
    return stats.skipped ? 'k' : 's';
}

/* Hashes a stream with all NaNs made alike. */
static uint64_t hash_stream(uint64_t hash, const clip_case *c, unsigned param, const void *data)
{
    const size_t size = adam_dtype_size(dtype_of(c, param));
    for (uint64_t i = 0; i < sizes[param]; i++) {
        uint64_t word = 0;
        double value;
        const char *at = (const char *)data + i * size;
        adam_convert(ADAM_FLOAT64, &value, dtype_of(c, param), at, 1);
        memcpy(&word, at, size);
        word = isnan(value) ? 0x7fc00000 : word;
        hash = fnv1a(hash, &word, size);
    }
    return hash;
}

/* Reads a case; false at the end of the file. */
static bool read_case(FILE *file, clip_case *c)
{
    char word[16], norm_type[8], nonfinite[8];
    int error;
    assert_int_equal(fscanf(file, " %15s", word), 1);
    if (strcmp(word, "end") == 0) {
        return false;
    }
    *c = (clip_case){0};
    adam_grad_options *g = &c->options;
    assert_int_equal(
        fscanf(file,
               " %u %15s grad_scale %lf max_grad_norm %lf norm_type %7s error_if_nonfinite %d "
               "clip_value %lf nonfinite %7s bad %7s outcome %6s params %" SCNx64
               " moments %" SCNx64,
               &c->number, c->kind, &g->grad_scale, &g->max_grad_norm, norm_type, &error,
               &g->clip_value, nonfinite, c->bad, c->outcome, &c->params, &c->moments),
        12);
    g->norm_type = strcmp(norm_type, "inf") == 0 ? ADAM_NORM_INF : ADAM_NORM_2;
    c->exact = g->max_grad_norm >= 0 && g->norm_type == ADAM_NORM_2;
    g->max_grad_norm = g->max_grad_norm < 0 ? INFINITY : g->max_grad_norm;
    g->clip_value = g->clip_value < 0 ? INFINITY : g->clip_value;
    g->error_if_nonfinite = error != 0;
    g->nonfinite = strcmp(nonfinite, "skip") == 0 ? ADAM_NONFINITE_SKIP : ADAM_NONFINITE_APPLY;
    return true;
}

/* Every case of the file: what came of each step, and the bits of parameters and moments at the
 * end.
 */
static void test_torch(void **state)
{
    (void)state;
    clip_case c;
    unsigned cases = 0;
    FILE *file = fopen(CLIP_FILE, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "#%*[^\n]"), 0);
    for (; read_case(file, &c); cases++) {
        adam_optimizer *o = make(&c);
        for (unsigned number = 1; number <= STEPS; number++) {
            const char outcome = step(o, &c, number);
            if (outcome != c.outcome[number - 1]) {
                fail_msg("case %u: step %u came to '%c', in torch to '%c'", c.number, number,
                         outcome, c.outcome[number - 1]);
            }
        }
        uint64_t params = FNV_START;
        uint64_t moments = FNV_START;
        for (unsigned j = 0; j < PARAMS; j++) {
            const adam_param_view p = adam_optimizer_param(o, j);
            params = hash_stream(params, &c, j, p.tensor.data);
            moments = hash_stream(moments, &c, j, p.exp_avg);
            moments = hash_stream(moments, &c, j, p.exp_avg_sq);
        }
        if (params != c.params || moments != c.moments) {
            fail_msg("case %u: %s differ from torch's", c.number,
                     params != c.params ? "parameters" : "moments");
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
    return cmocka_run_group_tests_name("clip", tests, NULL, NULL);
}
