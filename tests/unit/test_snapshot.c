/* test_snapshot.c: snapshot.c: what is written comes back, all of it and to the
 * bit. */
#include "support.h"

#include <math.h>

#define MIB          ((size_t)1 << 20)
#define BUDGET_BYTES (256 * MIB)
#include "budget.h"
#include "codec_options.h"
#include "snapshots.h"

/* ---- an optimizer with everything ---- */

/* A schedule with arguments other than torch's defaults; the caller frees it. */
static adam_schedule *make_schedule(adam_scheduler_kind kind)
{
    const size_t n = kind == ADAM_SEQUENTIAL_LR ? 3 : 1;
    adam_schedule *s = calloc(1, adam_schedule_bytes_of(n));
    assert_non_null(s);
    s->n = n;
    adam_scheduler_default(kind, &s->at[0]);
    adam_scheduler *a = &s->at[0];
    switch (kind) {
    case ADAM_STEP_LR: a->step = (adam_step_lr){.step_size = 3, .gamma = 0.3}; break;
    case ADAM_MULTI_STEP_LR:
        a->multi_step =
            (adam_multi_step_lr){.gamma = 0.7, .n_milestones = 3, .milestones = {5, 2, 2}};
        break;
    case ADAM_EXPONENTIAL_LR: a->exponential.gamma = 0.99; break;
    case ADAM_COSINE_ANNEALING_LR:
        a->cosine = (adam_cosine_annealing_lr){.T_max = 50, .eta_min = 1e-5};
        break;
    case ADAM_COSINE_ANNEALING_WARM_RESTARTS:
        a->warm_restarts.T_0 = 3;
        a->warm_restarts.T_mult = 2;
        break;
    case ADAM_ONE_CYCLE_LR:
        a->one_cycle.max_lr = 0.3;
        a->one_cycle.total_steps = 40;
        a->one_cycle.three_phase = true;
        break;
    case ADAM_SEQUENTIAL_LR:
        a->sequential = (adam_sequential_lr){.n_milestones = 1, .milestones = {4}};
        adam_scheduler_default(ADAM_LINEAR_LR, &s->at[1]);
        adam_scheduler_default(ADAM_EXPONENTIAL_LR, &s->at[2]);
        s->at[2].exponential.gamma = 0.9;
        break;
    default: break;
    }
    return s;
}

enum { GROUPS = ADAM_SCHEDULER_KINDS + 2 };

/* A group for each kind of schedule, float32 and float64 in turn, every second with amsgrad; one
 * without a schedule, one of buffers. */
static adam_optimizer *make_everything(adam_algorithm algorithm)
{
    adam_group_spec groups[GROUPS];
    adam_tensor params[GROUPS][2];
    char names[GROUPS][2][32];
    adam_schedule *schedules[GROUPS] = {NULL};
    double values[6];
    adam_error error;
    adam_optimizer *o = NULL;
    memset(groups, 0, sizeof groups);
    for (size_t g = 0; g < GROUPS; g++) {
        const adam_dtype dtype = g % 2 == 0 ? ADAM_FLOAT32 : ADAM_FLOAT64;
        adam_options_default(algorithm, &groups[g].options);
        groups[g].options.lr = 0.01 * (double)(g + 1) / 3;
        groups[g].options.betas[0] = 0.8;
        groups[g].options.eps = 1e-7 / 3;
        groups[g].options.weight_decay = 0.1 / 3;
        groups[g].options.amsgrad = g % 4 < 2;
        groups[g].options.maximize = g % 3 == 0;
        groups[g].options.foreach = ADAM_FLAG_FALSE;
        groups[g].options.bias_correction = g % 5 != 0;
        groups[g].options.buffers = g == GROUPS - 1;
        fill_random(dtype, values, 6, g);
        for (size_t i = 0; i < 2; i++) {
            (void)snprintf(names[g][i], sizeof names[g][i], "g%zu/\"\xc3\xa9%zu", g, i);
            params[g][i] = vector_of(names[g][i], dtype, 3, NULL);
            if (i == 1) {
                params[g][i].rank = g % 3 == 0 ? 0 : 2;
                params[g][i].shape[0] = g % 3 == 1 ? 0 : 2;
                params[g][i].shape[1] = 2;
            }
        }
        groups[g].params = params[g];
        groups[g].n_params = 2;
        if (g < ADAM_SCHEDULER_KINDS) {
            schedules[g] = make_schedule((adam_scheduler_kind)g);
            groups[g].schedule = schedules[g];
        }
    }
    const adam_status st = adam_optimizer_create(algorithm, groups, GROUPS, NULL, &o, &error);
    if (st != ADAM_OK) {
        print_error("%s\n", error.message);
    }
    assert_int_equal(st, ADAM_OK);
    for (size_t g = 0; g < GROUPS; g++) {
        free(schedules[g]);
    }
    return o;
}

/* A step of all parameters, or of every second one. */
static adam_step_stats step(adam_optimizer *o, uint64_t seed, bool all, bool nan)
{
    adam_tensor grads[2 * GROUPS];
    double values[2 * GROUPS][8];
    adam_step_stats stats;
    size_t n = 0;
    for (size_t i = 0; i < adam_optimizer_param_count(o); i += all ? 1 : 2) {
        grads[n] = adam_optimizer_param(o, i).tensor;
        fill_random(grads[n].dtype, values[n], 8, seed + i);
        if (nan) {
            memset(values[n], 0xff, sizeof values[n]);
        }
        grads[n].data = values[n];
        n++;
    }
    const adam_step_args args = {.grads = grads, .n_grads = n};
    assert_int_equal(adam_optimizer_step(o, &args, &stats, NULL), ADAM_OK);
    return stats;
}

static void set_grad_options(adam_optimizer *o)
{
    adam_grad_options g;
    adam_grad_options_default(&g);
    g.grad_scale = 1024;
    g.nonfinite = ADAM_NONFINITE_SKIP;
    g.max_grad_norm = 0.7;
    g.norm_type = ADAM_NORM_INF;
    g.clip_value = 0.3;
    assert_int_equal(adam_optimizer_set_grad_options(o, &g, NULL), ADAM_OK);
}

/* Those that the digest leaves out, too. */
static void assert_same_options(const adam_optimizer *a, const adam_optimizer *b)
{
    assert_int_equal(adam_optimizer_group_count(a), adam_optimizer_group_count(b));
    for (size_t i = 0; i < adam_optimizer_group_count(a); i++) {
        const adam_group_view x = adam_optimizer_group(a, i);
        const adam_group_view y = adam_optimizer_group(b, i);
        assert_int_equal(options_differ(&x.options, &y.options, 0), OPTIONS_SAME);
        assert_int_equal(x.schedule != NULL, y.schedule != NULL);
    }
}

static void round_trip(const fixture *f, adam_algorithm algorithm, adam_pool *threads)
{
    snapshot_error error;
    adam_options defaults;
    adam_options_default(algorithm, &defaults);
    defaults.lr = 0.1 / 3;
    defaults.bias_correction = false;
    const training how = {.aggregation = {.mode = AGGREGATION_SYNC,
                                          .reduce = ADAM_REDUCE_WEIGHTED,
                                          .strict = true,
                                          .workers = 7,
                                          .quorum = 5,
                                          .timeout_ms = 1234,
                                          .elastic = true},
                          .weights = true,
                          .max_consecutive_nonfinite = 9};
    const uint64_t held[] = {64, UINT64_C(0xffffffffffffffc0)};
    adam_optimizer *o = make_everything(algorithm);
    snapshot_source from = source_of(o, &defaults, &how);
    from.held = held;
    from.n_held = 2;
    for (uint64_t i = 0; i < 12; i++) { /* at every place of the schedules */
        from.lsn += 64;
        assert_int_equal(take(f, &from, threads, &error), SNAPSHOT_OK);
        snapshot_content c = restore(f, &from);
        assert_string_equal(c.name, from.name);
        assert_true(c.id == from.id && c.epoch == from.epoch && c.lsn == from.lsn);
        assert_true(c.time_ms > INT64_C(1500000000000));
        assert_same_options(o, c.optimizer);
        assert_same_digest(o, c.optimizer);
        assert_int_equal(adam_optimizer_skipped_count(o),
                         adam_optimizer_skipped_count(c.optimizer));
        assert_memory_equal(&c.defaults, &defaults, sizeof defaults);
        assert_memory_equal(&c.how, &how, sizeof how);
        assert_int_equal(c.n_held, 2);
        assert_memory_equal(c.held, held, sizeof held);
        assert_true(c.keys == NULL && c.workers == NULL);
        (void)step(c.optimizer, i, i % 3 != 1, false); /* and goes on as the other */
        (void)step(o, i, i % 3 != 1, false);
        assert_same_digest(o, c.optimizer);
        snapshot_content_drop(&c);
        if (i == 3) {
            set_grad_options(o);
            assert_true(step(o, 1, true, true).skipped);
            assert_int_equal(adam_optimizer_skipped_count(o), 1);
        }
    }
    adam_optimizer_free(o);
}

static void test_round_trip(void **state)
{
    fixture *f = *state;
    adam_pool *threads;
    assert_int_equal(adam_pool_create(2, &threads), ADAM_OK);
    round_trip(f, ADAM_ALGORITHM_ADAM, NULL);
    round_trip(f, ADAM_ALGORITHM_ADAMW, threads);
    adam_pool_free(threads);
}

/* The maximum of a parameter that took no step yet, amsgrad switched off again. */
static void test_amsgrad_off(void **state)
{
    fixture *f = *state;
    snapshot_error error;
    adam_optimizer *o = make_small(NULL);
    const snapshot_source from = plain_source(o);
    adam_options options = adam_optimizer_group(o, 1).options;
    options.amsgrad = false;
    assert_int_equal(adam_optimizer_set_options(o, 1, &options, NULL), ADAM_OK);
    assert_int_equal(take(f, &from, NULL, &error), SNAPSHOT_OK);
    snapshot_content c = restore(f, &from);
    step_small(o, 1);
    step_small(c.optimizer, 1);
    assert_same_digest(o, c.optimizer);
    snapshot_content_drop(&c);
    adam_optimizer_free(o);
}

static int64_t now = 1000000;

static int64_t now_ms(void)
{
    return now;
}

/* 10 000 keys, with the norms of groups, not all of them numbers; more than is kept: the newest. */
static void test_keys(void **state)
{
    fixture *f = *state;
    enum { KEYS = 10000 };
    snapshot_error error;
    const adam_group_stats groups[2] = {{1.0 / 3, INFINITY, 5e-324}, {NAN, 2, -0.0}};
    adam_optimizer *o = make_small(NULL);
    snapshot_source from = plain_source(o);
    idempotency *keys = idempotency_create(f->memory, KEYS, 3600);
    assert_non_null(keys);
    from.keys = keys;
    char key[IDEMPOTENCY_MAX_KEY + 1];
    for (uint64_t i = 0; i < KEYS; i++) {
        const adam_step_stats stats = {i, 1.0 / 7, 2, 3e300, 0.5, i % 2 == 1, i % 5};
        (void)snprintf(key, sizeof key, "key \"%llu\\", (unsigned long long)i);
        assert_true(idempotency_begin(keys, key, (fingerprint){i, ~i}, 2));
        idempotency_end(keys, key, i % 3 == 0 ? 202 : 200, i % 4, &stats,
                        i % 2 == 0 ? groups : NULL);
    }
    assert_true(idempotency_begin(keys, "pending", (fingerprint){1, 1}, 0));
    assert_int_equal(take(f, &from, NULL, &error), SNAPSHOT_OK);
    snapshot_content c = restore(f, &from);
    assert_int_equal(idempotency_count(c.keys), KEYS);
    assert_null(idempotency_find(c.keys, "pending"));
    for (uint64_t i = 0; i < KEYS; i++) {
        (void)snprintf(key, sizeof key, "key \"%llu\\", (unsigned long long)i);
        const key_record *r = idempotency_find(c.keys, key);
        assert_non_null(r);
        assert_true(!r->pending && r->body.low == i && r->body.high == ~i);
        assert_int_equal(r->status, i % 3 == 0 ? 202 : 200);
        assert_int_equal(r->held, i % 4);
        assert_true(r->stats.step == i && r->stats.grad_norm == 1.0 / 7 &&
                    r->stats.param_norm == 2 && r->stats.update_norm == 3e300 &&
                    r->stats.clip_coef == 0.5 && r->stats.skipped == (i % 2 == 1) &&
                    r->stats.converted == i % 5);
        assert_int_equal(r->n_groups, i % 2 == 0 ? 2 : 0);
        if (i % 2 == 0) {
            assert_memory_equal(&r->groups[0], &groups[0], sizeof groups[0]);
            assert_true(isnan(r->groups[1].grad_norm) && r->groups[1].param_norm == 2 &&
                        signbit(r->groups[1].update_norm));
        }
    }
    snapshot_content_drop(&c);

    snapshot_settings few = settings_of(f);
    few.max_keys = 10;
    assert_int_equal(snapshot_read(path_of(&from), &few, &c, &error), SNAPSHOT_OK);
    assert_int_equal(idempotency_count(c.keys), 10);
    assert_non_null(idempotency_find(c.keys, "key \"9999\\"));
    assert_null(idempotency_find(c.keys, "key \"9989\\"));
    snapshot_content_drop(&c);
    idempotency_free(keys);
    adam_optimizer_free(o);
}

/* Ages go on where they were, whatever the clock says. */
static void test_ages(void **state)
{
    fixture *f = *state;
    snapshot_error error;
    const adam_step_stats stats = {.step = 1};
    adam_optimizer *o = make_small(NULL);
    snapshot_source from = plain_source(o);
    idempotency *keys = idempotency_create(f->memory, 10, 3600);
    assert_non_null(keys);
    idempotency_set_clock(keys, now_ms);
    assert_true(idempotency_begin(keys, "old", (fingerprint){1, 2}, 0));
    idempotency_end(keys, "old", 200, 0, &stats, NULL);
    now += 3000000;
    assert_true(idempotency_begin(keys, "new", (fingerprint){1, 2}, 0));
    idempotency_end(keys, "new", 200, 0, &stats, NULL);
    from.keys = keys;
    assert_int_equal(take(f, &from, NULL, &error), SNAPSHOT_OK);
    snapshot_settings settings = settings_of(f);
    settings.key_ttl = 2000; /* shorter than the one's age */
    snapshot_content c;
    assert_int_equal(snapshot_read(path_of(&from), &settings, &c, &error), SNAPSHOT_OK);
    assert_null(idempotency_find(c.keys, "old"));
    assert_non_null(idempotency_find(c.keys, "new"));
    snapshot_content_drop(&c);
    c = restore(f, &from);
    assert_non_null(idempotency_find(c.keys, "old"));
    snapshot_content_drop(&c);
    idempotency_free(keys);
    adam_optimizer_free(o);
}

static void fill_workers(workers *w)
{
    workers_set_clock(w, now_ms);
    workers_accepted(w, "gone", 2, false, 0);
    workers_accepted(w, "bad and gone", 2, false, 0);
    workers_nonfinite(w, "bad and gone", 1);
    now += 3600000;
    assert_int_equal(workers_gone(w), 2);
    workers_accepted(w, "a\"\\", 1.0 / 3, true, 7);
    workers_accepted(w, "a\"\\", 1.0 / 3, true, 2);
    workers_stepped(w, "a\"\\");
    workers_refused(w, "a\"\\", PROBLEM_STALE);
    workers_refused(w, "a\"\\", PROBLEM_OUT_OF_MEMORY);
    now += 1000;
    workers_nonfinite(w, "b", 5);
    workers_accepted(w, "bad", 1, false, 0);
    workers_nonfinite(w, "bad", 1);
    now += 1000;
}

/* Counters, quarantine, who is gone and who will be when. */
static void test_workers(void **state)
{
    fixture *f = *state;
    snapshot_error error;
    adam_optimizer *o = make_small(NULL);
    snapshot_source from = plain_source(o);
    workers *w = workers_create(f->memory, 3600);
    assert_non_null(w);
    from.workers = w;
    fill_workers(w);
    text before = {.pool = f->pool};
    text after = {.pool = f->pool};
    workers_show(w, &before);
    assert_int_equal(take(f, &from, NULL, &error), SNAPSHOT_OK);
    snapshot_content c = restore(f, &from);
    workers_show(c.workers, &after);
    assert_int_equal(text_length(&before), text_length(&after));
    assert_memory_equal(before.buffer->data, after.buffer->data, text_length(&before));
    text_drop(&before);
    text_drop(&after);
    unsigned row;
    assert_true(workers_quarantined(c.workers, "bad and gone", &row));
    assert_true(workers_quarantined(c.workers, "bad", &row));
    assert_in_range(workers_next_gone_ms(c.workers), 3598000 - 60000, 3598000);
    assert_int_equal(workers_next_gone_ms(w), 3598000);
    snapshot_content_drop(&c);
    workers_free(w);
    adam_optimizer_free(o);
}

static void test_trainings(void **state)
{
    fixture *f = *state;
    snapshot_error error;
    const training all[] = {
        {.aggregation = {.mode = AGGREGATION_IMMEDIATE}},
        {.aggregation = {.mode = AGGREGATION_BUFFERED, .size = 3, .reduce = ADAM_REDUCE_SUM}},
        {.aggregation = {.mode = AGGREGATION_ASYNC, .max_staleness = ADAM_MAX_STEP, .damps = true}},
        {.aggregation = {.mode = AGGREGATION_SYNC, .workers = 1, .quorum = 1, .timeout_ms = 1}},
    };
    adam_optimizer *o = make_small(NULL);
    for (size_t i = 0; i < COUNT(all); i++) {
        const snapshot_source from = source_of(o, &plain_defaults, &all[i]);
        assert_int_equal(take(f, &from, NULL, &error), SNAPSHOT_OK);
        snapshot_content c = restore(f, &from);
        assert_memory_equal(&c.how, &all[i], sizeof all[i]);
        snapshot_content_drop(&c);
    }
    adam_optimizer_free(o);
}

/* Writes one below `dir`, for tests/unit/check_snapshot.py, and prints its path and digest. */
static void write_one(const char *dir)
{
    fixture *f;
    snapshot_error error;
    char digest[STATE_DIGEST_SIZE];
    assert_int_equal(setup((void **)&f), 0);
    assert_true(strlen(dir) < sizeof data_dir);
    strcpy(data_dir, dir);
    adam_optimizer *o = make_everything(ADAM_ALGORITHM_ADAMW);
    (void)step(o, 1, true, false);
    const snapshot_source from = plain_source(o);
    assert_int_equal(take(f, &from, NULL, &error), SNAPSHOT_OK);
    assert_true(state_digest(o, digest));
    (void)printf("%s\n%s\n", path_of(&from), digest);
    adam_optimizer_free(o);
    assert_int_equal(teardown((void **)&f), 0);
}

int main(int argc, char **argv)
{
    if (argc == 2) {
        write_one(argv[1]);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_amsgrad_off),
        cmocka_unit_test(test_keys),       cmocka_unit_test(test_ages),
        cmocka_unit_test(test_workers),    cmocka_unit_test(test_trainings),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
