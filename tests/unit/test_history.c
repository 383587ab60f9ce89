/* test_history.c: history.c and changes.c: what is recorded is read back, from other threads too.
 */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "changes.h"
#include "history.h"

#define MIB          ((size_t)1 << 20)
#define BUDGET_BYTES (64 * MIB)
#include "budget.h"

/* A record that is told by its step: as many groups, up to 50, all numbers the same. */
static void add(history *h, uint64_t step, bool skipped)
{
    group_record groups[50];
    const double x = (double)step;
    const size_t n = (size_t)(step % 51);
    for (size_t i = 0; i < n; i++) {
        groups[i] = (group_record){x, x + 1, x + 2, x + (double)i};
    }
    char worker[32];
    (void)snprintf(worker, sizeof worker, "worker-%d", (int)step);
    const step_record r = {.step = step,
                           .worker = worker,
                           .worker_length = step % 2 == 0 ? strlen(worker) : 0,
                           .skipped = skipped,
                           .grad_norm = x,
                           .param_norm = x + 1,
                           .update_norm = x + 2,
                           .clip_coef = x + 3,
                           .groups = groups,
                           .n_groups = n};
    history_add(h, &r);
}

static bool is_whole(const step_record *r)
{
    const double x = (double)r->step;
    char worker[32];
    (void)snprintf(worker, sizeof worker, "worker-%d", (int)r->step);
    bool whole = r->n_groups == r->step % 51 && r->grad_norm == x && r->param_norm == x + 1 &&
                 r->update_norm == x + 2 && r->clip_coef == x + 3 && r->time_ms > 0 &&
                 r->worker_length == (r->step % 2 == 0 ? strlen(worker) : 0) &&
                 memcmp(r->worker, worker, r->worker_length) == 0;
    for (size_t i = 0; whole && i < r->n_groups; i++) {
        whole = r->groups[i].lr == x && r->groups[i].grad_norm == x + 1 &&
                r->groups[i].param_norm == x + 2 && r->groups[i].update_norm == x + (double)i;
    }
    return whole;
}

/* Everything recorded is read back in pages, and nothing else; groups may become more. */
static void test_reads_back(void **state)
{
    fixture *f = *state;
    history *h = history_create(f->memory, 300);
    history_page page = {0};
    assert_int_equal(history_read(h, 0, f->pool, &page), HISTORY_NONE);
    for (uint64_t step = 1; step <= 1000; step++) {
        add(h, step, step % 7 == 0);
    }
    assert_int_equal(history_next(h), 1000);
    assert_int_equal(history_first(h), 700);
    assert_int_equal(history_read(h, 699, f->pool, &page), HISTORY_GONE);
    uint64_t place = 700;
    while (history_read(h, place, f->pool, &page) == HISTORY_READ) {
        while (page.left > 0) {
            step_record r;
            history_take(&page, &r);
            assert_true(is_whole(&r));
            assert_int_equal(r.step, ++place);
            assert_int_equal(r.skipped, place % 7 == 0);
        }
    }
    assert_int_equal(place, 1000);
    buffer_drop(page.data);
    assert_true(history_bytes(h) < MIB);
    history_drop(h);
}

/* A record larger than a page, as of thousands of groups, is read all the same. */
static void test_many_groups(void **state)
{
    enum { GROUPS = 4096 };
    fixture *f = *state;
    history *h = history_create(f->memory, 10);
    group_record *groups = calloc(GROUPS, sizeof *groups);
    assert_non_null(groups);
    for (size_t i = 0; i < GROUPS; i++) {
        groups[i].lr = (double)i;
    }
    step_record r = {.step = 1, .groups = groups, .n_groups = GROUPS};
    history_page page = {0};
    for (uint64_t i = 0; i < 30; i++) {
        history_add(h, &r);
        assert_int_equal(history_read(h, i, f->pool, &page), HISTORY_READ);
        assert_int_equal(page.left, 1);
        step_record got;
        history_take(&page, &got);
        assert_int_equal(got.n_groups, GROUPS);
        assert_memory_equal(got.groups, groups, GROUPS * sizeof *groups);
    }
    buffer_drop(page.data);
    free(groups);
    history_drop(h);
}

/* Before its first step an optimizer pays little to have a history and a list of changes. */
static void test_idle_is_cheap(void **state)
{
    fixture *f = *state;
    const size_t before = memory_used(f->memory);
    history *h = history_create(f->memory, 1000000);
    changes *c = changes_create(f->memory);
    assert_true(memory_used(f->memory) - before <= 1024);
    history_drop(h);
    changes_free(c);
    changes_free(NULL);
    history_drop(NULL);
}

/* Where one goes on after a step: behind it, the last time it was; a skipped step is not it. */
static void test_find(void **state)
{
    fixture *f = *state;
    history *h = history_create(f->memory, 5);
    uint64_t place;
    assert_false(history_find(h, 0, &place));
    assert_int_equal(place, 0);
    add(h, 1, false);
    assert_true(history_find(h, 0, &place)); /* all that there ever was is there */
    assert_int_equal(place, 0);
    assert_true(history_find(h, 1, &place));
    assert_int_equal(place, 1);
    add(h, 1, true);
    assert_true(history_find(h, 1, &place)); /* the skipped one came after it */
    assert_int_equal(place, 1);
    for (uint64_t step = 2; step <= 7; step++) {
        add(h, step, false);
    }
    /* 3 4 5 6 7 */
    assert_true(history_find(h, 2, &place));
    assert_int_equal(place, 3);
    assert_false(history_find(h, 1, &place));
    assert_int_equal(place, 3);
    assert_false(history_find(h, 8, &place));
    assert_int_equal(place, 3);
    add(h, 4, false); /* a state was loaded */
    assert_true(history_find(h, 4, &place));
    assert_int_equal(place, 9);
    assert_true(history_find(h, 7, &place));
    assert_int_equal(place, 8);
    for (int i = 0; i < 5; i++) {
        add(h, 4, true);
    }
    assert_true(history_find(h, 4, &place)); /* skipped ones alone: they come after it */
    assert_int_equal(place, history_first(h));
    add(h, 4, true); /* and the first of them is gone */
    assert_false(history_find(h, 4, &place));
    assert_int_equal(place, history_first(h));
    add(h, 5, false);
    assert_false(history_find(h, 4, &place));
    history_drop(h);
}

/* Over many pieces, and a range of records that are looked at under one lock. */
static void test_find_far(void **state)
{
    fixture *f = *state;
    history *h = history_create(f->memory, 20000);
    uint64_t place;
    for (uint64_t step = 1; step <= 30000; step++) {
        add(h, step, false);
    }
    for (uint64_t step = 10000; step <= 30000; step += 1000) {
        assert_true(history_find(h, step, &place));
        assert_int_equal(place, step);
    }
    assert_false(history_find(h, 9999, &place));
    history_drop(h);
}

typedef struct reader {
    history *history;
    buffer_pool *pool;
    atomic_bool stop;
    uint64_t read, missed;
    bool torn;
} reader;

static void *read_along(void *argument)
{
    reader *w = argument;
    history_page page = {0};
    uint64_t place = 0;
    uint64_t first;
    for (bool last = false; !last;) {
        last = atomic_load(&w->stop);
        switch (history_read(w->history, place, w->pool, &page)) {
        case HISTORY_READ:
            while (page.left > 0) {
                step_record r;
                history_take(&page, &r);
                w->torn = w->torn || !is_whole(&r) || r.step != place;
                place++;
                w->read++;
            }
            last = false;
            break;
        case HISTORY_GONE:
            first = history_first(w->history);
            w->missed += first - place;
            place = first;
            last = false;
            break;
        default: break;
        }
    }
    buffer_drop(page.data);
    return NULL;
}

/* Threads that read along while a small ring turns over see whole records, in order, and know what
 * they missed. */
static void test_threads(void **state)
{
    enum { STEPS = 20000, READERS = 3 };
    fixture *f = *state;
    history *h = history_create(f->memory, 8);
    reader readers[READERS];
    pthread_t threads[READERS];
    for (int i = 0; i < READERS; i++) {
        readers[i] = (reader){.history = history_hold(h), .pool = f->pool};
        assert_int_equal(pthread_create(&threads[i], NULL, read_along, &readers[i]), 0);
    }
    for (uint64_t step = 0; step < STEPS; step++) {
        add(h, step, false);
    }
    for (int i = 0; i < READERS; i++) {
        atomic_store(&readers[i].stop, true);
        pthread_join(threads[i], NULL);
        assert_false(readers[i].torn);
        assert_int_equal(readers[i].read + readers[i].missed, STEPS);
        history_drop(h);
    }
    history_drop(h);
}

/* One line, as clients read it; what is not finite is a word. */
static void test_show_step(void **state)
{
    fixture *f = *state;
    const group_record groups[] = {{0.1, 1, 2, 3}, {0.2, INFINITY, 5, NAN}};
    step_record r = {.step = 7,
                     .time_ms = INT64_C(1795544400123),
                     .grad_norm = NAN,
                     .param_norm = 1.5,
                     .update_norm = 0.25,
                     .clip_coef = 0.5,
                     .groups = groups,
                     .n_groups = 2};
    text t = {.pool = f->pool};
    show_step(&t, &r);
    text_add(&t, "", 1);
    assert_string_equal(
        t.buffer->data,
        "{\"step\": 7, \"time\": \"2026-11-24T18:20:00.123Z\", \"worker\": null, \"skipped\": "
        "false, "
        "\"grad_norm\": \"NaN\", \"param_norm\": 1.5, \"update_norm\": 0.25, \"clip_coef\": 0.5, "
        "\"param_groups\": [{\"lr\": 0.1, \"grad_norm\": 1, \"param_norm\": 2, \"update_norm\": 3, "
        "\"clip_coef\": 0.5}, {\"lr\": 0.2, \"grad_norm\": \"Infinity\", \"param_norm\": 5, "
        "\"update_norm\": \"NaN\", \"clip_coef\": 0.5}]}");
    text_drop(&t);
    r.worker = "a\"b";
    r.worker_length = 3;
    r.skipped = true;
    r.n_groups = 0;
    show_step(&t, &r);
    text_add(&t, "", 1);
    assert_non_null(strstr(t.buffer->data, "\"worker\": \"a\\\"b\", \"skipped\": true, "));
    assert_non_null(strstr(t.buffer->data, "\"param_groups\": []}"));
    text_drop(&t);
}

static void test_show_time(void **state)
{
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {{0, "\"1970-01-01T00:00:00.000Z\""},
                 {999, "\"1970-01-01T00:00:00.999Z\""},
                 {-1, "\"1969-12-31T23:59:59.999Z\""},
                 {INT64_C(1709164800007), "\"2024-02-29T00:00:00.007Z\""}};
    fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        text t = {.pool = f->pool};
        show_time(&t, cases[i].ms);
        text_add(&t, "", 1);
        assert_string_equal(t.buffer->data, cases[i].text);
        text_drop(&t);
    }
}

/* ---- changes ---- */

/* All lines, without their times; the caller's. */
static char *lines_of(changes *c, buffer_pool *pool, size_t last)
{
    text t = {.pool = pool};
    changes_show(c, last, &t);
    text_add(&t, "", 1);
    char *out = malloc(text_length(&t));
    assert_non_null(out);
    char *to = out;
    for (const char *at = t.buffer->data; *at != '\0';) {
        if (strncmp(at, "\"time\": \"", 9) == 0) {
            at += 9 + strlen("2026-11-24T18:20:00.123Z\", ");
        } else {
            *to++ = *at++;
        }
    }
    *to = '\0';
    text_drop(&t);
    return out;
}

static void assert_lines(changes *c, buffer_pool *pool, size_t last, const char *expected)
{
    char *lines = lines_of(c, pool, last);
    assert_string_equal(lines, expected);
    free(lines);
}

/* A line a change; the last ones, oldest first. */
static void test_changes(void **state)
{
    fixture *f = *state;
    changes *c = changes_create(f->memory);
    assert_lines(c, f->pool, 1000, "");
    changes_add(c, 3, "params", NULL, NULL);
    changes_add(c, 4, "state_dict", "{\"step\": 4}", "{\"step\": 2}");
    assert_lines(c, f->pool, 1000,
                 "\n {\"step\": 3, \"what\": \"params\", \"from\": null, \"to\": null},"
                 "\n {\"step\": 4, \"what\": \"state_dict\", \"from\": {\"step\": 4}, "
                 "\"to\": {\"step\": 2}}");
    assert_lines(c, f->pool, 1,
                 "\n {\"step\": 4, \"what\": \"state_dict\", \"from\": {\"step\": 4}, "
                 "\"to\": {\"step\": 2}}");
    for (uint64_t i = 0; i < 2 * CHANGES_MAX_LINES; i++) {
        char from[32];
        (void)snprintf(from, sizeof from, "%d", (int)i);
        changes_add(c, i, "x", from, NULL);
    }
    char *lines = lines_of(c, f->pool, CHANGES_MAX_LINES);
    size_t n = 0;
    for (const char *at = lines; (at = strstr(at, "\"from\": ")) != NULL; n++) {
        at += strlen("\"from\": ");
        assert_int_equal(strtoul(at, NULL, 10), CHANGES_MAX_LINES + n);
    }
    assert_int_equal(n, CHANGES_MAX_LINES);
    free(lines);
    changes_free(c);
}

/* A line for each hyperparameter that differs, none for those that do not. */
static void test_options(void **state)
{
    fixture *f = *state;
    changes *c = changes_create(f->memory);
    adam_options a;
    adam_options_default(ADAM_ALGORITHM_ADAM, &a);
    adam_options b = a;
    changes_add_options(c, f->pool, 5, 0, &a, &b);
    assert_lines(c, f->pool, 1000, "");
    b.lr = 0.5;
    b.betas[1] = 0.25;
    b.amsgrad = true;
    b.fused = ADAM_FLAG_FALSE;
    changes_add_options(c, f->pool, 5, 2, &a, &b);
    assert_lines(
        c, f->pool, 1000,
        "\n {\"step\": 5, \"what\": \"param_groups[2].lr\", \"from\": 0.001, \"to\": 0.5},"
        "\n {\"step\": 5, \"what\": \"param_groups[2].betas\", \"from\": [0.9, 0.999], "
        "\"to\": [0.9, 0.25]},"
        "\n {\"step\": 5, \"what\": \"param_groups[2].amsgrad\", \"from\": false, \"to\": true},"
        "\n {\"step\": 5, \"what\": \"param_groups[2].fused\", \"from\": null, \"to\": false}");
    changes_free(c);
    c = changes_create(f->memory);
    adam_grad_options g;
    adam_grad_options_default(&g);
    adam_grad_options h = g;
    changes_add_grad_options(c, f->pool, 5, &g, &h);
    assert_lines(c, f->pool, 1000, "");
    h.max_grad_norm = 2;
    h.nonfinite = ADAM_NONFINITE_SKIP;
    changes_add_grad_options(c, f->pool, 5, &g, &h);
    assert_lines(c, f->pool, 1000,
                 "\n {\"step\": 5, \"what\": \"nonfinite\", \"from\": \"error\", \"to\": \"skip\"},"
                 "\n {\"step\": 5, \"what\": \"max_grad_norm\", \"from\": null, \"to\": 2}");
    changes_free(c);
}

/* Texts have a limit, and so has all of it together; a text over its limit is said to be. */
static void test_long_texts(void **state)
{
    fixture *f = *state;
    changes *c = changes_create(f->memory);
    char *value = malloc(CHANGES_MAX_TEXT + 2);
    assert_non_null(value);
    memset(value, '1', CHANGES_MAX_TEXT + 1);
    value[CHANGES_MAX_TEXT + 1] = '\0';
    changes_add(c, 1, "x", value, value + 1);
    char *lines = lines_of(c, f->pool, 1000);
    assert_non_null(strstr(lines, "\"from\": {\"omitted_bytes\": 16385}, \"to\": 1111"));
    assert_true(strlen(lines) > CHANGES_MAX_TEXT);
    free(lines);
    for (int i = 0; i < 1000; i++) {
        changes_add(c, 1, "x", value + 1, value + 1);
        assert_true(memory_used(f->memory) < CHANGES_MAX_BYTES + 256 * 1024);
    }
    free(value);
    changes_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reads_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_groups, setup, teardown),
        cmocka_unit_test_setup_teardown(test_idle_is_cheap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_find_far, setup, teardown),
        cmocka_unit_test_setup_teardown(test_find, setup, teardown),
        cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_show_step, setup, teardown),
        cmocka_unit_test_setup_teardown(test_show_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_options, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_texts, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
