/* test_exactly_once.c: workers whose connections are cut, delayed and doubled leave the server with
 * the bits of a run in which nothing happened: every step was taken once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crowd.h"
#include "cutter.h"
#include "files.h"

enum { WORKERS = 4, STEPS = 120, ROUNDS = 50, W = 600, V = 40, LEAST_CUTS = 200 };

#define SHARED "shared"

/* One worker's parameters, which the gradients are made of, and the gradients. */
typedef struct model {
    float w[W], gw[W];
    double v[V], gv[V];
    adamd_tensor params[2], grads[2];
} model;

/* A run of all workers, with cuts or without. */
typedef struct course {
    const char *urls[WORKERS];
    atomic_uint replays;
} course;

static uint64_t seed(void)
{
    const char *text = getenv("CUTTER_SEED");
    return text != NULL ? strtoull(text, NULL, 10) : 5;
}

static void model_begin(model *m)
{
    for (size_t i = 0; i < W; i++) {
        m->w[i] = 0.5F;
    }
    for (size_t i = 0; i < V; i++) {
        m->v[i] = -0.5;
    }
    m->params[0] = vector32("w", m->w, W);
    m->params[1] = vector64("v", m->v, V);
    m->grads[0] = vector32("w", m->gw, W);
    m->grads[1] = vector64("v", m->gv, V);
}

/* A number in [-0.5, 0.5), of these four alone. */
static double noise(size_t who, unsigned step, size_t tensor, size_t i)
{
    uint64_t z = ((who * 1000 + step) * 2 + tensor) * 1000 + i + 1;
    z *= UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return (double)(z >> 11) * 0x1p-53 - 0.5;
}

/* Of the parameters too: a wrong one that came back would be seen in all that follows. */
static void model_gradients(model *m, size_t who, unsigned step)
{
    for (size_t i = 0; i < W; i++) {
        m->gw[i] = m->w[i] * 0.25F + (float)noise(who, step, 0, i);
    }
    for (size_t i = 0; i < V; i++) {
        m->gv[i] = m->v[i] * 0.25 + noise(who, step, 1, i);
    }
}

/* Steps so often, each time on the parameters that came back. Every other worker has its parameters
 * come back over its gradients; the others guard their own optimizers with If-Match. */
static void take_steps(worker *w, adamd_client *client, const char *name, unsigned steps)
{
    course *c = w->context;
    model *m = calloc(1, sizeof *m);
    if (m == NULL) {
        worker_fail(w, "no memory");
        return;
    }
    model_begin(m);
    const bool in_place = w->index % 2 == 1;
    const bool shared = strcmp(name, SHARED) == 0;
    char name_of_worker[16];
    (void)snprintf(name_of_worker, sizeof name_of_worker, "worker-%zu", w->index);
    adamd_result result = {0};
    for (unsigned i = 0; i < steps && !worker_failed(w); i++) {
        char etag[ADAMD_MAX_ETAG];
        memcpy(etag, result.etag, sizeof etag);
        adamd_step_options options = {
            .worker = name_of_worker, .has_based_on = true, .based_on = i};
        options.if_match = !shared && !in_place && etag[0] != '\0' ? etag : NULL;
        adamd_error error = {0};
        model_gradients(m, w->index, i);
        const adamd_status status = adamd_step(
            client, name, m->grads, 2, in_place ? m->grads : m->params, &options, &result, &error);
        if (status != ADAMD_OK) {
            worker_fail(w, "%s: step %u: %.300s", name, i + 1, error.message);
        } else if (result.step != i + 1) {
            worker_fail(w, "%s: step %u answers %llu", name, i + 1,
                        (unsigned long long)result.step);
        }
        if (in_place) {
            memcpy(m->w, m->gw, sizeof m->w);
            memcpy(m->v, m->gv, sizeof m->v);
        }
        atomic_fetch_add(&c->replays, result.replayed);
    }
    free(m);
}

static void own_name(char name[16], size_t who)
{
    (void)snprintf(name, 16, "own-%zu", who);
}

static void work(worker *w)
{
    const course *c = w->context;
    adamd_client *client = NULL;
    adamd_error error;
    if (adamd_open(c->urls[w->index], NULL, &client, &error) != ADAMD_OK) {
        worker_fail(w, "%.300s", error.message);
        return;
    }
    char name[16];
    own_name(name, w->index);
    take_steps(w, client, name, STEPS);
    take_steps(w, client, SHARED, ROUNDS);
    adamd_close(client);
}

static void create_all(peer *p)
{
    model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    model_begin(m);
    adamd_error error = {0};
    char name[16];
    for (size_t i = 0; i < WORKERS; i++) {
        own_name(name, i);
        assert_int_equal(
            adamd_create(p->client, name, "{\"defaults\": {\"lr\": 0.01}}", m->params, 2, &error),
            ADAMD_OK);
    }
    const adamd_status status =
        adamd_create(p->client, SHARED,
                     "{\"aggregation\": {\"mode\": \"sync\", \"workers\": 4}, \"defaults\": "
                     "{\"lr\": 0.01, \"amsgrad\": true}}",
                     m->params, 2, &error);
    if (status != ADAMD_OK) {
        fail_msg("%s", error.message);
    }
    free(m);
}

static void run_all(peer *p, course *c)
{
    worker workers[WORKERS] = {0};
    for (size_t i = 0; i < WORKERS; i++) {
        workers[i] = (worker){.run = work, .context = c, .index = i};
    }
    create_all(p);
    crowd_run(p->server.url, workers, WORKERS);
}

/* The reply has the digest and the step. */
static char *digest_of(peer *p, const char *name)
{
    assert_int_equal(get(p, at(name, "/digest")), 200);
    return strdup(body_of(p));
}

static void assert_same(peer *cut, peer *smooth)
{
    for (size_t i = 0; i <= WORKERS; i++) {
        char name[16] = SHARED;
        if (i < WORKERS) {
            own_name(name, i);
        }
        char *got = digest_of(cut, name);
        char *expected = digest_of(smooth, name);
        if (strcmp(got, expected) != 0) {
            fail_msg("seed %llu: '%s' is %s\nwithout cuts %s", (unsigned long long)seed(), name,
                     got, expected);
        }
        char step[32];
        (void)snprintf(step, sizeof step, "\"step\": %d", i < WORKERS ? STEPS : ROUNDS);
        assert_non_null(strstr(got, step));
        free(got);
        free(expected);
    }
}

static void check_counts(cutter *cutters, const course *c)
{
    unsigned cuts = 0;
    unsigned twins = 0;
    unsigned late = 0;
    unsigned delays = 0;
    unsigned requests = 0;
    unsigned lost = 0;
    unsigned by_place[CUT_PLACES] = {0};
    for (size_t i = 0; i < WORKERS; i++) {
        cuts += cutter_cuts(&cutters[i]);
        twins += cutters[i].twins;
        late += cutters[i].late_twins;
        delays += cutters[i].delays;
        requests += cutters[i].requests;
        lost += cutters[i].lost;
        for (size_t k = 0; k < CUT_PLACES; k++) {
            by_place[k] += cutters[i].cuts[k];
        }
    }
    print_message("seed %llu: %u requests, %u cuts (%u before, %u in and %u after the request, %u "
                  "before and %u in the reply), %u delays, %u twins, %u late; %u replays\n",
                  (unsigned long long)seed(), requests, cuts, by_place[0], by_place[1], by_place[2],
                  by_place[3], by_place[4], delays, twins, late, atomic_load(&c->replays));
    assert_true(cuts >= LEAST_CUTS);
    for (size_t k = 0; k < CUT_PLACES; k++) {
        assert_true(by_place[k] > 0);
    }
    assert_true(twins > 0 && late > 0 && delays > 0 && atomic_load(&c->replays) > 0);
    assert_int_equal(lost, 0);
}

static void test_every_step_is_taken_once(void **state)
{
    peer smooth;
    peer *p = *state;
    server s;
    server_start(&s, NULL);
    peer_open(&smooth, s.url);
    smooth.server = s;
    course without = {0};
    course with = {0};
    cutter cutters[WORKERS];
    for (size_t i = 0; i < WORKERS; i++) {
        without.urls[i] = s.url;
        assert_true(cutter_start(&cutters[i], p->server.port, seed() * WORKERS + i));
        with.urls[i] = cutters[i].url;
    }
    print_message("seed %llu (CUTTER_SEED)\n", (unsigned long long)seed());
    run_all(&smooth, &without);
    run_all(p, &with);
    for (size_t i = 0; i < WORKERS; i++) {
        cutter_stop(&cutters[i]);
    }
    assert_same(p, &smooth);
    assert_int_equal(atomic_load(&without.replays), 0);
    check_counts(cutters, &with);
    peer_close(&smooth);
    server_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_step_is_taken_once)};
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
