/* test_stream.c: stream.c: what a listener is sent, and when it is woken, without a socket: the
 * test plays the connection. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stream.h"

#define MIB          ((size_t)1 << 20)
#define FOLLOWED     (4 * MIB)
#define WAIT_SECONDS 30 /* after which something is taken not to come at all */

typedef struct fixture {
    memory *memory;
    buffer_pool *pool;
    ticker *ticker;
    stream_hub *hub;
    history *history;
} fixture;

/* The connection of a listener. */
typedef struct connection {
    listener *listener;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool suspended, cut;
    unsigned wrong; /* resumed without being suspended, or the other way round */
    char text[8192];
    size_t length;
} connection;

static fixture *begin(unsigned heartbeat, size_t steps)
{
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->memory = memory_create(16 * MIB);
    f->pool = buffer_pool_create(f->memory);
    f->ticker = ticker_create();
    assert_non_null(f->ticker);
    f->hub = stream_hub_create(f->ticker, heartbeat);
    f->history = history_create(f->memory, steps);
    assert_non_null(f->hub);
    return f;
}

static void end(fixture *f)
{
    stream_hub_free(f->hub);
    ticker_free(f->ticker);
    history_drop(f->history);
    buffer_pool_free(f->pool);
    assert_int_equal(memory_used(f->memory), 0);
    memory_free(f->memory);
    free(f);
}

static void set(connection *c, bool *flag, bool value)
{
    pthread_mutex_lock(&c->lock);
    c->wrong += *flag == value;
    *flag = value;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static void suspend(void *context)
{
    connection *c = context;
    set(c, &c->suspended, true);
}

static void resume(void *context)
{
    connection *c = context;
    set(c, &c->suspended, false);
}

static void cut(void *context)
{
    connection *c = context;
    set(c, &c->cut, true);
}

static void wait_for(connection *c, const bool *flag, bool value)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_SECONDS;
    pthread_mutex_lock(&c->lock);
    int status = 0;
    while (*flag != value && status == 0) {
        status = pthread_cond_timedwait(&c->changed, &c->lock, &until);
    }
    const bool came = *flag == value;
    pthread_mutex_unlock(&c->lock);
    assert_true(came);
}

static void open_at(connection *c, fixture *f, const stream_start *start)
{
    *c = (connection){0};
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    c->listener = stream_listen(f->hub, f->history, f->pool, start);
    assert_non_null(c->listener);
    const listener_calls calls = {suspend, resume, cut, c};
    stream_attach(c->listener, &calls);
}

static void close_it(connection *c)
{
    stream_close(c->listener);
    assert_int_equal(c->wrong, 0);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
}

/* Reads, `room` bytes at a time, until it is suspended or at its end; returns whether at its end.
 */
static bool read_all(connection *c, size_t room)
{
    ssize_t n;
    c->length = 0;
    do {
        assert_true(c->length + room < sizeof c->text);
        n = stream_read(c->listener, c->text + c->length, room);
        assert_true(n <= (ssize_t)room);
        c->length += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    c->text[c->length] = '\0';
    return n < 0;
}

static void add(fixture *f, uint64_t step, bool skipped)
{
    const step_record r = {.step = step, .skipped = skipped};
    history_add(f->history, &r);
    stream_notify(f->hub, f->history);
}

/* The next event in what was read: its text up to the data's time. Moves *at on. */
static void assert_event(const char **at, const char *expected)
{
    const size_t length = strlen(expected);
    if (strncmp(*at, expected, length) != 0) {
        fail_msg("expected '%s', got '%s'", expected, *at);
    }
    const char *after = strstr(*at + length, "\n\n");
    *at = length > 1 && strcmp(expected + length - 2, "\n\n") == 0 ? *at + length : after + 2;
    assert_non_null(after != NULL || (*at)[-1] == '\n' ? *at : NULL);
}

#define BEGINNING "retry: 3000\n\n"

/* Steps come as events with ids, skipped ones without, in pieces of any size. */
static void test_events(void **state)
{
    static const size_t rooms[] = {1, 7, 4000};
    (void)state;
    for (size_t i = 0; i < sizeof rooms / sizeof rooms[0]; i++) {
        fixture *f = begin(3600, 100);
        connection c;
        add(f, 1, false);
        const stream_start start = {.place = 1};
        open_at(&c, f, &start);
        assert_false(read_all(&c, rooms[i]));
        assert_string_equal(c.text, BEGINNING);
        assert_true(c.suspended);
        add(f, 2, false);
        wait_for(&c, &c.suspended, false);
        add(f, 2, true);
        add(f, 3, false);
        assert_false(read_all(&c, rooms[i]));
        const char *at = c.text;
        assert_event(&at, "id: 2\nevent: step\ndata: {\"step\": 2, \"time\": \"");
        assert_event(&at, "event: skipped\ndata: {\"step\": 2, \"time\": \"");
        assert_event(&at, "id: 3\nevent: step\ndata: {\"step\": 3, \"time\": \"");
        assert_string_equal(at, "");
        close_it(&c);
        end(f);
    }
}

/* Who comes back too late is told what is the first that is there, and gets it. */
static void test_gap(void **state)
{
    (void)state;
    fixture *f = begin(3600, 3);
    connection c;
    stream_start start = {.gap = true, .last_id = 9};
    open_at(&c, f, &start);
    assert_false(read_all(&c, 4000));
    assert_string_equal(c.text, BEGINNING "event: gap\n"
                                          "data: {\"last_event_id\": 9, \"first_step\": null}\n\n");
    close_it(&c);
    for (uint64_t step = 1; step <= 5; step++) {
        add(f, step, false);
    }
    start = (stream_start){.place = 2, .gap = true, .last_id = 1};
    open_at(&c, f, &start);
    assert_false(read_all(&c, 4000));
    const char *at = c.text;
    assert_event(&at, BEGINNING);
    assert_event(&at, "event: gap\ndata: {\"last_event_id\": 1, \"first_step\": 3}\n\n");
    assert_event(&at, "id: 3\n");
    assert_event(&at, "id: 4\n");
    assert_event(&at, "id: 5\n");
    assert_string_equal(at, "");
    close_it(&c);
    end(f);
}

/* A removed optimizer ends the stream, after everything that came before. */
static void test_removed(void **state)
{
    (void)state;
    fixture *f = begin(3600, 3);
    connection c;
    const stream_start start = {0};
    open_at(&c, f, &start);
    assert_false(read_all(&c, 4000));
    history_close(f->history);
    stream_notify(f->hub, f->history);
    wait_for(&c, &c.suspended, false);
    assert_true(read_all(&c, 4000));
    assert_string_equal(c.text, "event: removed\ndata: {}\n\n");
    close_it(&c);
    open_at(&c, f, &start); /* as one that was on its way meanwhile */
    assert_true(read_all(&c, 4000));
    assert_string_equal(c.text, BEGINNING "event: removed\ndata: {}\n\n");
    close_it(&c);
    end(f);
}

/* Nobody waits for a listener that takes no bytes: when the steps that it has not taken are gone,
 * it is cut off, once. One that is only idle is not. */
static void test_slow(void **state)
{
    (void)state;
    fixture *f = begin(3600, 3);
    connection slow;
    connection idle;
    const stream_start start = {0};
    open_at(&slow, f, &start);
    open_at(&idle, f, &start);
    assert_false(read_all(&idle, 4000));
    char byte;
    assert_int_equal(stream_read(slow.listener, &byte, 1), 1);
    for (uint64_t step = 1; step <= 10; step++) {
        add(f, step, false);
        if (!idle.cut) {
            wait_for(&idle, &idle.suspended, false);
            assert_false(read_all(&idle, 4000));
            assert_true(idle.length > 0);
        }
    }
    wait_for(&slow, &slow.cut, true);
    assert_true(read_all(&slow, 4000)); /* and should it read on: the end, nothing halfway */
    assert_string_equal(slow.text, BEGINNING + 1);
    assert_false(idle.cut);
    close_it(&slow);
    close_it(&idle);
    end(f);
}

/* An idle stream is sent something now and then. */
static void test_heartbeat(void **state)
{
    (void)state;
    fixture *f = begin(1, 3);
    connection c;
    const stream_start start = {0};
    open_at(&c, f, &start);
    assert_false(read_all(&c, 4000));
    for (int i = 0; i < 2; i++) {
        wait_for(&c, &c.suspended, false);
        assert_false(read_all(&c, 4000));
        assert_string_equal(c.text, ": heartbeat\n\n");
    }
    close_it(&c);
    end(f);
}

/* Woken for its connection's sake, it has something to send, by which that is found out. */
static void test_wake(void **state)
{
    (void)state;
    fixture *f = begin(3600, 3);
    connection c;
    const stream_start start = {0};
    open_at(&c, f, &start);
    stream_wake(c.listener); /* not suspended: nothing to do */
    assert_false(read_all(&c, 4000));
    stream_wake(c.listener);
    assert_false(c.suspended);
    stream_wake(c.listener); /* and once is enough */
    assert_false(read_all(&c, 4000));
    assert_string_equal(c.text, ": heartbeat\n\n");
    close_it(&c);
    end(f);
}

/* The end of the hub ends every stream, and new ones at once; none is suspended from then on. */
static void test_hub_ends(void **state)
{
    enum { LISTENERS = 50 };
    static connection all[LISTENERS];
    (void)state;
    fixture *f = begin(3600, 3);
    const stream_start start = {0};
    for (int i = 0; i < LISTENERS; i++) {
        open_at(&all[i], f, &start);
        assert_false(i % 2 == 0 && read_all(&all[i], 4000));
    }
    assert_int_equal(stream_hub_count(f->hub), LISTENERS);
    assert_int_equal(history_listeners(f->history), LISTENERS);
    stream_hub_end(f->hub);
    connection late;
    open_at(&late, f, &start);
    assert_true(read_all(&late, 4000));
    close_it(&late);
    for (int i = 0; i < LISTENERS; i++) {
        assert_false(all[i].suspended);
        assert_true(read_all(&all[i], 4000));
        close_it(&all[i]);
    }
    assert_int_equal(stream_hub_count(f->hub), 0);
    assert_int_equal(history_listeners(f->history), 0);
    end(f);
}

typedef struct follower {
    connection c;
    char *text;
    size_t length;
} follower;

/* Follows until the optimizer is removed. */
static void *follow(void *argument)
{
    follower *w = argument;
    for (bool ended = false; !ended;) {
        wait_for(&w->c, &w->c.suspended, false);
        ssize_t n;
        do {
            assert_true(w->length + 4096 < FOLLOWED);
            n = stream_read(w->c.listener, w->text + w->length, 4096);
            w->length += n > 0 ? (size_t)n : 0;
        } while (n > 0);
        ended = n < 0;
    }
    w->text[w->length] = '\0';
    return NULL;
}

/* Steps and listeners in threads of their own: every listener sees every step, in order. */
static void test_threads(void **state)
{
    enum { STEPS = 5000, FOLLOWERS = 4 };
    static follower all[FOLLOWERS];
    (void)state;
    fixture *f = begin(3600, STEPS);
    pthread_t threads[FOLLOWERS];
    const stream_start start = {0};
    for (int i = 0; i < FOLLOWERS; i++) {
        all[i] = (follower){.text = malloc(FOLLOWED)};
        assert_non_null(all[i].text);
        open_at(&all[i].c, f, &start);
        assert_int_equal(pthread_create(&threads[i], NULL, follow, &all[i]), 0);
    }
    for (uint64_t step = 1; step <= STEPS; step++) {
        add(f, step, false);
    }
    history_close(f->history);
    stream_notify(f->hub, f->history);
    for (int i = 0; i < FOLLOWERS; i++) {
        pthread_join(threads[i], NULL);
        close_it(&all[i].c);
        const char *at = all[i].text;
        for (unsigned long step = 1; step <= STEPS; step++) {
            at = strstr(at, "\nid: ");
            assert_non_null(at);
            at += 5;
            assert_int_equal(strtoul(at, NULL, 10), step);
        }
        assert_non_null(strstr(at, "\n\nevent: removed\ndata: {}\n\n"));
        free(all[i].text);
    }
    end(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events),    cmocka_unit_test(test_gap),
        cmocka_unit_test(test_removed),   cmocka_unit_test(test_slow),
        cmocka_unit_test(test_heartbeat), cmocka_unit_test(test_wake),
        cmocka_unit_test(test_hub_ends),  cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
