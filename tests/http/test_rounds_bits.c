/* test_rounds_bits.c: the gradient that a round comes to, to the bit, whatever the order in which
 * its workers come. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rounds.h"

enum { WORKERS = 3, NUMBERS = 5 };

/* An optimizer that does not move, and whose exp_avg is the last gradient. */
#define STILL "\"lr\": 0, \"betas\": [0, 0.5]"

typedef struct sample {
    const char *reduce;
    bool wide; /* float64 */
    double grads[WORKERS][NUMBERS], weights[WORKERS];
} sample;

static const char *const names[WORKERS] = {"a", "b", "c"};

static void make_sample(sample *s, const char *reduce, bool wide)
{
    uint64_t seed = 88172645463325252U;
    *s = (sample){.reduce = reduce, .wide = wide, .weights = {0.3, 7, 1e-3}};
    for (size_t k = 0; k < WORKERS; k++) {
        for (size_t i = 0; i < NUMBERS; i++) {
            seed = seed * 6364136223846793005U + 1442695040888963407U;
            const double x = ldexp((double)(seed >> 11), -53) - 0.5;
            s->grads[k][i] = wide ? x : (double)(float)x;
        }
    }
}

/* One number of the reduced gradient, in operations of its own type. */
static double reduce_wide(const sample *s, size_t i)
{
    const bool weighted = strcmp(s->reduce, "weighted") == 0;
    volatile double sum = 0;
    double weights = 0;
    for (size_t k = 0; k < WORKERS; k++) {
        const volatile double part = weighted ? s->weights[k] * s->grads[k][i] : s->grads[k][i];
        sum = k == 0 ? part : sum + part;
        weights += s->weights[k];
    }
    return weighted ? sum / weights : strcmp(s->reduce, "mean") == 0 ? sum / WORKERS : sum;
}

static float reduce_narrow(const sample *s, size_t i)
{
    const bool weighted = strcmp(s->reduce, "weighted") == 0;
    volatile float sum = 0;
    double weights = 0;
    for (size_t k = 0; k < WORKERS; k++) {
        const float g = (float)s->grads[k][i];
        const volatile float part = weighted ? (float)s->weights[k] * g : g;
        sum = k == 0 ? part : sum + part;
        weights += s->weights[k];
    }
    return weighted                         ? sum / (float)weights
           : strcmp(s->reduce, "mean") == 0 ? sum / (float)WORKERS
                                            : sum;
}

static int send_part(peer *p, const char *name, const sample *s, size_t k)
{
    char json[512];
    char lines[128];
    size_t n = (size_t)snprintf(json, sizeof json, "{\"grads\": {\"w\": [");
    for (size_t i = 0; i < NUMBERS; i++) {
        n += (size_t)snprintf(json + n, sizeof json - n, "%s%.17g", i > 0 ? ", " : "",
                              s->grads[k][i]);
    }
    (void)snprintf(json + n, sizeof json - n, "]}}");
    (void)snprintf(lines, sizeof lines, "Adam-Worker: %s\r\nAdam-Weight: %g\r\n", names[k],
                   s->weights[k]);
    return begin_step(&p->server, name, lines, json);
}

/* The three workers in this order; the digest after it. */
static char *take_round(peer *p, const sample *s, const char *mode, const size_t *order)
{
    raw_reply r;
    int sockets[WORKERS];
    char json[256];
    double got[NUMBERS];
    const bool sync = strcmp(mode, "sync") == 0;
    (void)snprintf(json, sizeof json,
                   "{\"params\": {\"w\": {\"dtype\": \"%s\", \"data\": [1, 2, 3, 4, 5]}}, " STILL
                   ", \"aggregation\": {\"mode\": \"%s\", \"%s\": 3, \"reduce\": \"%s\"}}",
                   s->wide ? "float64" : "float32", mode, sync ? "workers" : "size", s->reduce);
    create(p, "bits", json);
    for (unsigned i = 0; i < WORKERS; i++) {
        sockets[i] = send_part(p, "bits", s, order[i]);
        if (i + 1 < WORKERS) {
            wait_for_held(p, "bits", i + 1);
        }
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        end_with(sockets[i], &r, sync || i == 2 ? 200 : 202);
    }
    assert_step_of(p, "bits", 1);
    (void)get(p, at("bits", "/state/w?data=all"));
    numbers_of(body_of(p), "data", got, NUMBERS);
    for (size_t i = 0; i < NUMBERS; i++) {
        if (s->wide) {
            assert_true(got[i] == reduce_wide(s, i));
        } else {
            assert_true((float)got[i] == reduce_narrow(s, i));
        }
    }
    char *digest = digest_of(p, "bits");
    (void)ask(p, "DELETE", at("bits", ""), NULL, NULL, 0);
    return digest;
}

/* Mean, sum and weighted mean have the bits that docs/numerics.md gives, in both types, and the
 * order in which the workers come changes none of them. */
static void test_bits(void **state)
{
    static const size_t orders[][WORKERS] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                             {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    static const char *const reductions[] = {"mean", "sum", "weighted"};
    peer *p = *state;
    sample s;
    for (size_t way = 0; way < 12; way++) {
        const char *mode = way % 2 == 0 ? "sync" : "buffered";
        make_sample(&s, reductions[way / 4], way / 2 % 2 == 1);
        char *first = NULL;
        for (size_t i = 0; i < COUNT(orders); i++) {
            char *digest = take_round(p, &s, mode, orders[i]);
            if (first == NULL) {
                first = digest;
                continue;
            }
            assert_string_equal(digest, first);
            free(digest);
        }
        free(first);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
