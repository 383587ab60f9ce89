/* test_concurrent.c: several clients at once: every step counts, none is torn, and what is removed
 * is gone for all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adam/adam.h"
#include "crowd.h"
#include "files.h"

#define STEP "{\"grads\": {\"w\": [1, -2, 0.5]}}"

static int clear(void **state)
{
    remove_all(*state);
    return 0;
}

/* ---- small steps ---- */

enum { STEPS = 150, STEPPERS = 3 };

typedef struct counting {
    const char *path, *json;
    atomic_uint seen[STEPPERS * STEPS + 1]; /* replies that said this step */
} counting;

static void count_steps(worker *w)
{
    counting *c = w->context;
    for (int i = 0; i < STEPS && !worker_failed(w); i++) {
        if (worker_ask_json(w, "POST", c->path, c->json) != 200) {
            worker_fail(w, "status %ld: %s", w->reply.status, (const char *)w->reply.body);
            return;
        }
        const long step = worker_step(w);
        if (step < 1 || step > STEPPERS * STEPS) {
            worker_fail(w, "step %ld", step);
            return;
        }
        atomic_fetch_add(&c->seen[step], 1);
    }
}

/* The parameters after n such steps, by this process. */
static void steps_here(unsigned n, float out[3])
{
    adam_optimizer *o = NULL;
    float w[] = {1, 2, 3};
    const adam_tensor param = {
        .name = "w", .name_len = 1, .dtype = ADAM_FLOAT32, .rank = 1, .shape = {3}, .data = w};
    adam_group_spec group = {.params = &param, .n_params = 1};
    adam_options_default(ADAM_ALGORITHM_ADAM, &group.options);
    assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAM, &group, 1, NULL, &o, NULL),
                     ADAM_OK);
    for (unsigned i = 0; i < n; i++) {
        float g[] = {1, -2, 0.5F};
        adam_tensor grad = param;
        grad.data = g;
        const adam_step_args args = {.grads = &grad, .n_grads = 1};
        assert_int_equal(adam_optimizer_step(o, &args, NULL, NULL), ADAM_OK);
    }
    memcpy(out, adam_optimizer_param(o, 0).tensor.data, sizeof w);
    adam_optimizer_free(o);
}

static void assert_params(peer *p, const char *name, unsigned steps)
{
    float got[3];
    float expected[3];
    const adamd_tensor t = vector32("w", got, 3);
    steps_here(steps, expected);
    (void)get_with(p, at(name, "/params"), "Accept: " SAFETENSORS_TYPE);
    take_tensors(p, &t, 1);
    assert_memory_equal(got, expected, sizeof got);
}

/* Several clients step, and each step is somebody's. */
static void run_counting(peer *p, counting *c)
{
    worker workers[STEPPERS] = {0};
    for (size_t i = 0; i < STEPPERS; i++) {
        workers[i] = (worker){.run = count_steps, .context = c};
    }
    crowd_run(p->server.url, workers, STEPPERS);
    for (size_t i = 1; i <= STEPPERS * STEPS; i++) {
        assert_int_equal(atomic_load(&c->seen[i]), 1);
    }
}

/* Clients that step one optimizer at once take its steps one after the other: each reply has a step
 * of its own, and the end is that of so many steps. */
static void test_one_optimizer(void **state)
{
    peer *p = *state;
    static counting c;
    memset(&c, 0, sizeof c);
    c.path = OPTIMIZERS "/one/step";
    c.json = STEP;
    create(p, "one", "{\"params\": {\"w\": [1, 2, 3]}}");
    run_counting(p, &c);
    assert_params(p, "one", STEPPERS * STEPS);
}

/* The same with steps that take a while on the connections' own threads: long JSON, both ways. */
static void test_longer_steps(void **state)
{
    enum { N = 6000 };
    peer *p = *state;
    static counting c;
    char *json = malloc(N * 4 + 64);
    assert_non_null(json);
    memset(&c, 0, sizeof c);
    c.path = OPTIMIZERS "/longer/step";
    size_t n = (size_t)sprintf(json, "{\"grads\": {\"w\": [");
    for (size_t i = 0; i < N; i++) {
        n += (size_t)sprintf(json + n, i > 0 ? ",1.5" : "1.5");
    }
    (void)strcpy(json + n, "]}}");
    c.json = json;
    create(p, "longer", "{\"params\": {\"w\": {\"shape\": [6000]}}}");
    run_counting(p, &c);
    (void)get(p, at("longer", "/state/w?data=none"));
    assert_has(p, 200, "\"step\": 450, ");
    free(json);
}

/* Optimizers side by side do not touch each other. */
static void test_side_by_side(void **state)
{
    peer *p = *state;
    static counting c[STEPPERS];
    static char paths[STEPPERS][64];
    worker workers[STEPPERS] = {0};
    char name[16];
    memset(c, 0, sizeof c);
    for (size_t i = 0; i < STEPPERS; i++) {
        (void)snprintf(name, sizeof name, "side%zu", i);
        (void)snprintf(paths[i], sizeof paths[i], "%s", at(name, "/step"));
        c[i].path = paths[i];
        c[i].json = STEP;
        create(p, name, "{\"params\": {\"w\": [1, 2, 3]}}");
        workers[i] = (worker){.run = count_steps, .context = &c[i]};
    }
    crowd_run(p->server.url, workers, STEPPERS);
    for (size_t i = 0; i < STEPPERS; i++) {
        for (size_t k = 1; k <= STEPS; k++) {
            assert_int_equal(atomic_load(&c[i].seen[k]), 1);
        }
        (void)snprintf(name, sizeof name, "side%zu", i);
        assert_params(p, name, STEPS);
    }
}

/* If-Match makes a step a compare-and-swap: of several clients that try from the same tag, one gets
 * through each time. */
static void step_if_match(worker *w)
{
    atomic_uint *done = w->context;
    char line[96];
    const char *const headers[] = {"Content-Type: application/json", "Expect:", line, NULL};
    while (!worker_failed(w)) {
        if (worker_ask(w, "GET", OPTIMIZERS "/cas", NULL, NULL, 0) != 200 || worker_step(w) >= 60) {
            return;
        }
        (void)snprintf(line, sizeof line, "If-Match: %s",
                       adamd_response_header(&w->reply, "ETag", 0));
        const int status =
            worker_ask(w, "POST", OPTIMIZERS "/cas/step", headers, STEP, strlen(STEP));
        if (status == 200) {
            atomic_fetch_add(done, 1);
        } else if (status != 412) {
            worker_fail(w, "status %d", status);
        }
    }
}

/* Sixty tags, sixty steps, whoever took them. */
static void test_compare_and_swap(void **state)
{
    peer *p = *state;
    static atomic_uint done;
    worker workers[STEPPERS] = {0};
    atomic_store(&done, 0);
    create(p, "cas", "{\"params\": {\"w\": [1, 2, 3]}}");
    for (size_t i = 0; i < STEPPERS; i++) {
        workers[i] = (worker){.run = step_if_match, .context = &done};
    }
    crowd_run(p->server.url, workers, STEPPERS);
    assert_int_equal(atomic_load(&done), 60);
    assert_params(p, "cas", 60);
}

/* ---- large steps and readers ---- */

enum { LARGE = 300000, LARGE_STEPS = 40 };

typedef struct reading {
    file grads;
    atomic_bool stop;
    atomic_uint reads;
} reading;

static void step_large(worker *w)
{
    static const char *const headers[] = {"Content-Type: application/octet-stream",
                                          "Expect:", NULL};
    reading *r = w->context;
    for (int i = 0; i < LARGE_STEPS && !worker_failed(w); i++) {
        const int status = worker_ask(w, "POST", OPTIMIZERS "/large/step", headers, r->grads.bytes,
                                      r->grads.length);
        if (status != 200) {
            worker_fail(w, "status %d", status);
        }
    }
    atomic_store(&r->stop, true);
}

/* All elements of a whole step are equal; steps do not go back. */
static void read_large(worker *w)
{
    static const char *const headers[] = {"Accept: application/octet-stream", NULL};
    reading *r = w->context;
    long last = 0;
    while (!atomic_load(&r->stop) && !worker_failed(w)) {
        if (worker_ask(w, "GET", OPTIMIZERS "/large/params", headers, NULL, 0) != 200) {
            worker_fail(w, "status %ld", w->reply.status);
            return;
        }
        char said[32];
        const float *values =
            (const void *)(w->reply.body + w->reply.length - LARGE * sizeof(float));
        const long step = worker_step(w);
        (void)adamd_safetensors_metadata(w->reply.body, w->reply.length, "step", said, sizeof said);
        if (step < last || strtol(said, NULL, 10) != step) {
            worker_fail(w, "step %ld with metadata %s after step %ld", step, said, last);
        }
        for (size_t i = 1; i < LARGE; i++) {
            if (memcmp(&values[i], &values[0], sizeof values[0]) != 0) {
                worker_fail(w, "torn at step %ld: %g beside %g", step, (double)values[i],
                            (double)values[0]);
                return;
            }
        }
        last = step;
        atomic_fetch_add(&r->reads, 1);
    }
}

/* A reader sees the parameters of one step, never of two. */
static void test_readers(void **state)
{
    peer *p = *state;
    static reading r;
    float *w = malloc(LARGE * sizeof *w);
    assert_non_null(w);
    for (size_t i = 0; i < LARGE; i++) {
        w[i] = 1;
    }
    const adamd_tensor t = vector32("w", w, LARGE);
    memset(&r, 0, sizeof r);
    r.grads = file_of(&t, 1, NULL, NULL);
    (void)ask_file(p, "PUT", at("large", ""), NULL, r.grads);
    assert_status(p, 201);
    worker workers[] = {{.run = step_large, .context = &r},
                        {.run = read_large, .context = &r},
                        {.run = read_large, .context = &r}};
    crowd_run(p->server.url, workers, COUNT(workers));
    assert_true(atomic_load(&r.reads) > 0);
    (void)get(p, at("large", ""));
    assert_has(p, 200, "\"step\": 40, ");
    file_free(&r.grads);
    free(w);
}

/* ---- removing ---- */

typedef struct removing {
    atomic_bool stop;
    atomic_uint steps, gone;
} removing;

/* Steps of 200 kB, which wait for each other in the executor. */
static void step_removed(worker *w)
{
    static const char *const headers[] = {"Content-Type: application/octet-stream",
                                          "Expect:", "Prefer: return=minimal", NULL};
    removing *r = w->context;
    float *g = calloc(50000, sizeof *g);
    unsigned char *bytes;
    size_t length;
    const adamd_tensor t = vector32("w", g, 50000);
    if (g == NULL || adamd_safetensors_pack(&t, 1, NULL, 0, &bytes, &length, NULL) != ADAMD_OK) {
        worker_fail(w, "no memory");
        return;
    }
    while (!atomic_load(&r->stop) && !worker_failed(w)) {
        const int status = worker_ask(w, "POST", OPTIMIZERS "/brief/step", headers, bytes, length);
        if (status == 204) {
            atomic_fetch_add(&r->steps, 1);
        } else if (status == 404) {
            atomic_fetch_add(&r->gone, 1);
        } else {
            worker_fail(w, "status %d", status);
        }
    }
    free(bytes);
    free(g);
}

static void remove_and_create(worker *w)
{
    removing *r = w->context;
    for (int i = 0; (i < 30 || atomic_load(&r->gone) == 0) && i < 2000 && !worker_failed(w); i++) {
        const int deleted = worker_ask(w, "DELETE", OPTIMIZERS "/brief", NULL, NULL, 0);
        const int created = worker_ask_json(w, "PUT", OPTIMIZERS "/brief",
                                            "{\"params\": {\"w\": {\"shape\": [50000]}}}");
        if (deleted != 204 || created != 201) {
            worker_fail(w, "DELETE %d, PUT %d", deleted, created);
        }
        const unsigned before = atomic_load(&r->steps);
        for (int k = 0; k < 1000 && atomic_load(&r->steps) == before; k++) {
            sleep_ms(1); /* let some steps through */
        }
    }
    atomic_store(&r->stop, true);
}

/* An optimizer that is removed while steps on it run and wait: each either was taken or finds that
 * there is no such optimizer. */
static void test_removed_while_stepping(void **state)
{
    peer *p = *state;
    static removing r;
    memset(&r, 0, sizeof r);
    create(p, "brief", "{\"params\": {\"w\": {\"shape\": [50000]}}}");
    worker workers[] = {{.run = remove_and_create, .context = &r},
                        {.run = step_removed, .context = &r},
                        {.run = step_removed, .context = &r},
                        {.run = step_removed, .context = &r}};
    crowd_run(p->server.url, workers, COUNT(workers));
    assert_true(atomic_load(&r.steps) > 0);
    assert_true(atomic_load(&r.gone) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_one_optimizer, clear),
        cmocka_unit_test_setup(test_longer_steps, clear),
        cmocka_unit_test_setup(test_side_by_side, clear),
        cmocka_unit_test_setup(test_compare_and_swap, clear),
        cmocka_unit_test_setup(test_readers, clear),
        cmocka_unit_test_setup(test_removed_while_stepping, clear),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
