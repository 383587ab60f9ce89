/* test_fedadam.c: rounds of federated Adam, to the bits of fedadam.txt: what the clients send is
 * reduced by adam_reduce and stepped. make_fedadam.py makes that file and says what it holds; the
 * clients are made here by the same rules. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "adam/adam.h"
#include "numbers.h"

#define ROUNDS  8
#define CASES   24
#define CLIENTS 20 /* at most */
#define W       37 /* elements of the trained parameter, */
#define STAT    5  /* and of the buffer */
#define SKIP    77 /* ctest's SKIP_RETURN_CODE */

enum tensor { TRAINED, BUFFER };

typedef struct fed_case {
    unsigned number, clients;
    int bias_correction, weighted;
    double eps;
} fed_case;

static uint64_t bits_of(const fed_case *c, unsigned round, unsigned client, enum tensor tensor,
                        uint64_t i)
{
    return mix((uint64_t)c->number << 48 | (uint64_t)round << 40 | (uint64_t)client << 32 |
               (uint64_t)tensor << 24 | i);
}

static float number_of(const fed_case *c, unsigned round, unsigned client, enum tensor tensor,
                       uint64_t i)
{
    const uint64_t bits = bits_of(c, round, client, tensor, i);
    return (float)(((double)(bits >> 40) - 8388608.0) * 0x1p-23);
}

static double weight_of(const fed_case *c, unsigned round, unsigned client)
{
    return (double)(1 + bits_of(c, round, client, BUFFER, 0) % 1000) * 0.1;
}

static adam_tensor tensor_of(enum tensor tensor, float *data)
{
    return (adam_tensor){.name = tensor == TRAINED ? "w" : "stat",
                         .name_len = tensor == TRAINED ? 1 : 4,
                         .dtype = ADAM_FLOAT32,
                         .rank = 1,
                         .shape = {tensor == TRAINED ? W : STAT},
                         .data = data};
}

static adam_optimizer *make(const fed_case *c)
{
    float w[W];
    float stat[STAT];
    for (uint64_t i = 0; i < W; i++) {
        w[i] = number_of(c, 0, 0, TRAINED, i);
    }
    for (uint64_t i = 0; i < STAT; i++) {
        stat[i] = number_of(c, 0, 0, BUFFER, i);
    }
    const adam_tensor params[] = {tensor_of(TRAINED, w), tensor_of(BUFFER, stat)};
    adam_group_spec groups[] = {{.params = &params[0], .n_params = 1},
                                {.params = &params[1], .n_params = 1}};
    adam_options_default(ADAM_ALGORITHM_ADAM, &groups[0].options);
    groups[0].options.lr = 0.03;
    groups[0].options.betas[1] = 0.99;
    groups[0].options.eps = c->eps;
    groups[0].options.bias_correction = c->bias_correction != 0;
    groups[1].options = groups[0].options;
    groups[1].options.buffers = true;
    adam_optimizer *o = NULL;
    assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAM, groups, 2, NULL, &o, NULL),
                     ADAM_OK);
    return o;
}

/* What the clients send: the parameter as it is, moved; and values of the buffer. */
typedef struct sent {
    float w[CLIENTS][W], stat[CLIENTS][STAT];
    adam_source trained[CLIENTS], buffer[CLIENTS];
} sent;

static void fill_sent(sent *s, const fed_case *c, unsigned round, const float *current)
{
    for (unsigned k = 0; k < c->clients; k++) {
        for (uint64_t i = 0; i < W; i++) {
            s->w[k][i] = current[i] + number_of(c, round, k, TRAINED, i);
        }
        for (uint64_t i = 0; i < STAT; i++) {
            s->stat[k][i] = number_of(c, round, k, BUFFER, i);
        }
        s->trained[k] = (adam_source){s->w[k], ADAM_FLOAT32, weight_of(c, round, k)};
        s->buffer[k] = (adam_source){s->stat[k], ADAM_FLOAT32, weight_of(c, round, k)};
    }
}

/* One round; the results take the place of what the first client sent. */
static void run_round(adam_optimizer *o, const fed_case *c, unsigned round)
{
    static sent s;
    const void *current = adam_optimizer_param(o, 0).tensor.data;
    fill_sent(&s, c, round, current);
    const adam_reduce_item plain = {.dtype = ADAM_FLOAT32,
                                    .n = c->clients,
                                    .reduction =
                                        c->weighted ? ADAM_REDUCE_WEIGHTED : ADAM_REDUCE_MEAN};
    adam_reduce_item items[] = {plain, plain};
    items[0].out = s.w[0];
    items[0].numel = W;
    items[0].sources = s.trained;
    items[0].base = current;
    items[1].out = s.stat[0];
    items[1].numel = STAT;
    items[1].sources = s.buffer;
    adam_reduce(items, 2, NULL);
    const adam_tensor grads[] = {tensor_of(TRAINED, s.w[0]), tensor_of(BUFFER, s.stat[0])};
    const adam_step_args args = {.grads = grads, .n_grads = 2};
    assert_int_equal(adam_optimizer_step(o, &args, NULL, NULL), ADAM_OK);
}

static void compare(FILE *file, const fed_case *c, unsigned round, const char *what,
                    const void *data, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t want;
        uint32_t got;
        assert_int_equal(fscanf(file, " %" SCNx32, &want), 1);
        memcpy(&got, (const char *)data + i * sizeof got, sizeof got);
        if (got != want) {
            fail_msg("case %u, round %u: %s[%zu] is %08" PRIx32 ", expected %08" PRIx32, c->number,
                     round, what, i, got, want);
        }
    }
}

/* Reads a case; false at the end of the file. */
static bool read_case(FILE *file, fed_case *c)
{
    char word[16];
    assert_int_equal(fscanf(file, " %15s", word), 1);
    if (strcmp(word, "end") == 0) {
        return false;
    }
    assert_int_equal(fscanf(file, " %u bias_correction %d weighted %d clients %u eps %lf",
                            &c->number, &c->bias_correction, &c->weighted, &c->clients, &c->eps),
                     5);
    assert_in_range(c->clients, 1, CLIENTS);
    return true;
}

/* Every case of the file: parameter and buffer after every round, the moments at the end. */
static void test_rounds(void **state)
{
    (void)state;
    fed_case c;
    unsigned cases = 0;
    FILE *file = fopen(FEDADAM_FILE, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "#%*[^\n]"), 0);
    for (; read_case(file, &c); cases++) {
        adam_optimizer *o = make(&c);
        for (unsigned round = 1; round <= ROUNDS; round++) {
            unsigned number;
            run_round(o, &c, round);
            assert_int_equal(fscanf(file, " round %u", &number), 1);
            assert_int_equal(number, round);
            compare(file, &c, round, "w", adam_optimizer_param(o, 0).tensor.data, W);
            compare(file, &c, round, "stat", adam_optimizer_param(o, 1).tensor.data, STAT);
        }
        assert_int_equal(fscanf(file, " moments%*1[ ]"), 0);
        compare(file, &c, ROUNDS, "exp_avg", adam_optimizer_param(o, 0).exp_avg, W);
        compare(file, &c, ROUNDS, "exp_avg_sq", adam_optimizer_param(o, 0).exp_avg_sq, W);
        adam_optimizer_free(o);
    }
    assert_int_equal(cases, CASES);
    (void)fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rounds)};
    adam_error error;
    if (adam_kernel_check(&error) != ADAM_OK) {
        printf("skipped: %s\n", error.message);
        return SKIP;
    }
    return cmocka_run_group_tests_name("fedadam", tests, NULL, NULL);
}
