/* test_workers.c: workers.c: what workers did is counted by name; who is silent is gone in time,
 * who sends nothing but NaN is in quarantine until it is removed; all of it within limits. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define MIB          ((size_t)1 << 20)
#define BUDGET_BYTES (32 * MIB)
#include "budget.h"
#include "workers.h"

#define SECOND INT64_C(1000)

static int64_t now;

static int64_t now_ms(void)
{
    return now;
}

/* Workers that are gone after 10 seconds, or never. */
static workers *begin(memory *m, unsigned ttl)
{
    workers *w = workers_create(m, ttl);
    assert_non_null(w);
    workers_set_clock(w, now_ms);
    return w;
}

static void accept(workers *w, const char *name)
{
    workers_accepted(w, name, 1, false, 0);
}

static const char *name_of(size_t i)
{
    static char name[32];
    (void)snprintf(name, sizeof name, "w%zu", i);
    return name;
}

/* What is shown of them, with every time replaced by T. */
static void assert_shown(fixture *f, workers *w, const char *expected)
{
    text t = {.pool = f->pool};
    char got[4096];
    size_t n = 0;
    workers_show(w, &t);
    assert_false(t.failed);
    for (size_t i = 0; i < text_length(&t); i++) {
        const char *at = t.buffer->data + i;
        const size_t rest = text_length(&t) - i;
        if (rest > 26 && memcmp(at, "\"20", 3) == 0 && memcmp(at + 24, "Z\"", 2) == 0) {
            got[n++] = 'T';
            i += 25;
        } else {
            got[n++] = *at;
        }
        assert_true(n < sizeof got);
    }
    got[n] = '\0';
    text_drop(&t);
    assert_string_equal(got, expected);
}

static void test_shown(void **state)
{
    fixture *f = *state;
    workers *w = begin(f->memory, 10);
    unsigned row;
    assert_shown(f, w, "{\"workers\": [], \"gone\": 0}");
    workers_accepted(w, "b", 0.5, true, 7);
    workers_accepted(w, "b", 32, true, 2);
    workers_accepted(w, "b", 32, false, 0); /* says nothing about it */
    workers_stepped(w, "b");
    workers_stepped(w, "b");
    workers_refused(w, "a\"", PROBLEM_STALE);
    workers_refused(w, "a\"", PROBLEM_MALFORMED_JSON);
    workers_refused(w, "a\"", PROBLEM_STALE);
    workers_nonfinite(w, "B", 2);
    workers_nonfinite(w, "B", 2);
    workers_refused(w, "B", PROBLEM_OUT_OF_MEMORY); /* the last of all codes */
    workers_stepped(w, "unknown");
    accept(w, NULL);
    workers_stepped(w, NULL);
    workers_refused(w, NULL, PROBLEM_STALE);
    workers_nonfinite(w, NULL, 1);
    assert_false(workers_quarantined(w, NULL, &row));
    assert_false(workers_remove(w, NULL));
    assert_shown(
        f, w,
        "{\"workers\": [\n {\"name\": \"B\", \"first_seen\": T, \"last_seen\": T, \"steps\": 0, "
        "\"weight\": null, \"staleness\": null, \"nonfinite\": 2, \"consecutive_nonfinite\": 2, "
        "\"quarantined\": true, \"refused\": {\"out-of-memory\": 1}, "
        "\"last_refusal\": {\"time\": T, \"code\": \"out-of-memory\"}},\n"
        " {\"name\": \"a\\\"\", \"first_seen\": T, \"last_seen\": T, \"steps\": 0, "
        "\"weight\": null, \"staleness\": null, \"nonfinite\": 0, \"consecutive_nonfinite\": 0, "
        "\"quarantined\": false, \"refused\": {\"malformed-json\": 1, \"stale\": 2}, "
        "\"last_refusal\": {\"time\": T, \"code\": \"stale\"}},\n"
        " {\"name\": \"b\", \"first_seen\": T, \"last_seen\": T, \"steps\": 2, \"weight\": 32, "
        "\"staleness\": {\"last\": 2, \"max\": 7}, \"nonfinite\": 0, "
        "\"consecutive_nonfinite\": 0, \"quarantined\": false, \"refused\": {}, "
        "\"last_refusal\": null}], \"gone\": 0}");
    workers_free(w);
}

/* A finite gradient ends a row, but no quarantine; removing does. */
static void test_quarantine(void **state)
{
    fixture *f = *state;
    workers *w = begin(f->memory, 10);
    unsigned row;
    for (int i = 0; i < 10; i++) {
        workers_nonfinite(w, "a", 3);
        workers_nonfinite(w, "a", 3);
        assert_false(workers_quarantined(w, "a", &row));
        assert_int_equal(row, 2);
        accept(w, "a");
    }
    assert_false(workers_quarantined(w, "a", &row));
    assert_int_equal(row, 0);
    for (unsigned i = 1; i <= 100; i++) { /* 0: never */
        workers_nonfinite(w, "b", 0);
        assert_false(workers_quarantined(w, "b", &row));
        assert_int_equal(row, i);
    }
    workers_nonfinite(w, "b", 50);
    assert_true(workers_quarantined(w, "b", &row));
    accept(w, "b");
    assert_true(workers_quarantined(w, "b", &row));
    assert_int_equal(row, 101);
    assert_true(workers_remove(w, "b"));
    assert_false(workers_remove(w, "b"));
    assert_false(workers_quarantined(w, "b", &row));
    assert_int_equal(row, 0);
    workers_nonfinite(w, "b", 2);
    assert_false(workers_quarantined(w, "b", &row));
    workers_free(w);
}

/* Who sent a gradient and then nothing is gone, until it or another comes. */
static void test_gone(void **state)
{
    fixture *f = *state;
    workers *w = begin(f->memory, 10);
    assert_int_equal(workers_next_gone_ms(w), -1);
    accept(w, "a");
    accept(w, "b");
    workers_refused(w, "never accepted", PROBLEM_SHAPE_MISMATCH);
    now += 4 * SECOND;
    accept(w, "b");
    assert_int_equal(workers_next_gone_ms(w), 6 * SECOND);
    now += 6 * SECOND - 1;
    assert_int_equal(workers_gone(w), 0);
    assert_int_equal(workers_next_gone_ms(w), 1);
    now += 1;
    assert_int_equal(workers_next_gone_ms(w), 0);
    assert_int_equal(workers_gone(w), 1);
    assert_int_equal(workers_count(w), 1);
    assert_int_equal(workers_next_gone_ms(w), 4 * SECOND);
    workers_refused(w, "b", PROBLEM_STALE); /* is seen, all the same */
    assert_int_equal(workers_next_gone_ms(w), 10 * SECOND);

    workers_refused(w, "a", PROBLEM_STALE);
    assert_int_equal(workers_gone(w), 1);
    accept(w, "a"); /* back */
    assert_int_equal(workers_gone(w), 0);
    now += 10 * SECOND;
    assert_int_equal(workers_gone(w), 2);
    accept(w, "c"); /* new, in the place of one */
    accept(w, "c");
    assert_int_equal(workers_gone(w), 1);
    accept(w, "d");
    accept(w, "e");
    assert_int_equal(workers_gone(w), 0);
    assert_true(workers_remove(w, "e")); /* is not gone */
    assert_int_equal(workers_gone(w), 0);
    workers_free(w);

    w = begin(f->memory, 0);
    accept(w, "a");
    now += 1000000000 * SECOND;
    assert_int_equal(workers_gone(w), 0);
    assert_int_equal(workers_next_gone_ms(w), -1);
    assert_int_equal(workers_count(w), 1);
    workers_free(w);
}

/* Who is in quarantine is gone after that time, whatever it sends, but not forgotten. */
static void test_gone_in_quarantine(void **state)
{
    fixture *f = *state;
    workers *w = begin(f->memory, 10);
    unsigned row;
    accept(w, "a");
    now += 5 * SECOND;
    workers_nonfinite(w, "a", 1);
    workers_nonfinite(w, "never accepted", 1);
    now += 5 * SECOND;
    workers_refused(w, "a", PROBLEM_QUARANTINED);
    accept(w, "b");
    workers_nonfinite(w, "b", 1);
    assert_int_equal(workers_next_gone_ms(w), 5 * SECOND);
    assert_int_equal(workers_gone(w), 0);
    now += 5 * SECOND;
    assert_int_equal(workers_gone(w), 1);
    assert_int_equal(workers_next_gone_ms(w), 5 * SECOND);
    assert_true(workers_remove(w, "never accepted"));
    assert_true(workers_remove(w, "b")); /* the next that would be gone */
    assert_int_equal(workers_next_gone_ms(w), -1);
    now += 100 * SECOND;
    assert_int_equal(workers_gone(w), 1);
    assert_true(workers_quarantined(w, "a", &row));
    assert_true(workers_remove(w, "a"));
    accept(w, "a");
    assert_int_equal(workers_gone(w), 0);
    workers_free(w);
}

/* The one not seen for longest makes room, but for those in quarantine. */
static void test_most(void **state)
{
    fixture *f = *state;
    workers *w = begin(f->memory, 10);
    unsigned row;
    workers_nonfinite(w, "bad", 1);
    for (size_t i = 0; i < WORKERS_MAX - 1; i++) {
        accept(w, name_of(i));
    }
    assert_int_equal(workers_count(w), WORKERS_MAX);
    accept(w, name_of(0)); /* seen again */
    accept(w, "one more");
    assert_int_equal(workers_count(w), WORKERS_MAX);
    assert_true(workers_quarantined(w, "bad", &row));
    assert_true(workers_remove(w, name_of(0)));
    assert_false(workers_remove(w, name_of(1)));
    assert_true(workers_remove(w, name_of(2)));
    assert_int_equal(workers_gone(w), 0);
    assert_true(workers_bytes(w) > WORKERS_MAX * WORKERS_MAX_NAME);
    assert_true(workers_bytes(w) <= memory_used(f->memory));

    for (size_t i = 0; i < WORKERS_MAX; i++) {
        workers_nonfinite(w, name_of(i), 1);
    }
    accept(w, "one more"); /* all are in quarantine: it is not tracked */
    assert_int_equal(workers_count(w), WORKERS_MAX);
    assert_false(workers_remove(w, "one more"));
    text t = {.pool = f->pool};
    workers_show(w, &t);
    assert_false(t.failed);
    text_drop(&t);
    workers_free(w);
}

static void test_name_too_long(void **state)
{
    fixture *f = *state;
    workers *w = begin(f->memory, 10);
    char name[WORKERS_MAX_NAME + 2];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    accept(w, name);
    assert_false(workers_remove(w, name));
    name[WORKERS_MAX_NAME] = '\0';
    accept(w, name);
    assert_true(workers_remove(w, name));
    workers_free(w);
}

/* Without memory workers are not tracked, and those that are go on; what cannot be printed fails.
 */
static void test_no_memory(void **state)
{
    fixture *f = *state;
    workers *w = begin(f->memory, 10);
    accept(w, "a");
    buffer_pool_reclaim(f->pool, BUDGET_BYTES);
    const size_t free_bytes = BUDGET_BYTES - memory_used(f->memory) - 8192;
    void *rest = memory_get(f->memory, free_bytes);
    assert_non_null(rest);
    for (size_t i = 0; i < 100; i++) {
        accept(w, name_of(i));
    }
    assert_true(workers_count(w) < 30);
    workers_stepped(w, "a");
    text t = {.pool = f->pool};
    workers_show(w, &t);
    assert_true(t.failed);
    text_drop(&t);
    memory_put(f->memory, rest, free_bytes);
    assert_true(workers_remove(w, "a"));
    workers_free(w);
}

#define THREADS 4
#define TURNS   3000

static void *work(void *argument)
{
    workers *w = argument;
    unsigned row;
    for (unsigned i = 0; i < TURNS; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "w%u", i % 50);
        accept(w, name);
        workers_nonfinite(w, name, 5);
        workers_stepped(w, "always");
        (void)workers_quarantined(w, name, &row);
        (void)workers_gone(w);
        (void)workers_next_gone_ms(w);
        if (i % 70 == 0) {
            (void)workers_remove(w, name);
        }
    }
    return NULL;
}

static void test_threads(void **state)
{
    fixture *f = *state;
    workers *w = begin(f->memory, 10);
    pthread_t threads[THREADS];
    accept(w, "always");
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, work, w), 0);
    }
    for (int i = 0; i < 50; i++) {
        text t = {.pool = f->pool};
        workers_show(w, &t);
        assert_false(t.failed);
        text_drop(&t);
    }
    for (int i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    text t = {.pool = f->pool};
    char steps[32];
    workers_show(w, &t);
    text_add(&t, "", 1);
    (void)snprintf(steps, sizeof steps, "\"steps\": %d,", THREADS * TURNS);
    assert_non_null(strstr(t.buffer->data, steps));
    text_drop(&t);
    workers_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shown),     cmocka_unit_test(test_quarantine),
        cmocka_unit_test(test_gone),      cmocka_unit_test(test_gone_in_quarantine),
        cmocka_unit_test(test_most),      cmocka_unit_test(test_name_too_long),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
