/* test_ticker.c: ticker.c: what is called when, and by whom others are held up. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "clock.h"
#include "ticker.h"

#define WAIT_SECONDS 30 /* after which something is taken not to come at all */
#define TICK_MS      20

/* What its tick does: counts, waits at its gate, and returns what it is told. */
typedef struct client {
    ticker *ticker;
    ticker_entry entry;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned calls, inside;
    bool shut;          /* the gate */
    bool rings_itself;  /* once */
    int64_t after;      /* the next call, in milliseconds from this one; or TICKER_NEVER */
    int64_t due;        /* of the next call */
    unsigned too_early; /* calls before it */
    atomic_uint told, seen;
} client;

static int64_t tick(void *context)
{
    client *c = context;
    pthread_mutex_lock(&c->lock);
    c->calls++;
    c->inside++;
    c->too_early += clock_ms() < c->due;
    atomic_store(&c->seen, atomic_load(&c->told));
    pthread_cond_broadcast(&c->changed);
    while (c->shut) {
        pthread_cond_wait(&c->changed, &c->lock);
    }
    if (c->rings_itself) {
        c->rings_itself = false;
        ticker_ring(c->ticker, &c->entry);
    }
    c->inside--;
    c->due = c->after == TICKER_NEVER ? 0 : clock_ms() + c->after;
    const int64_t next = c->after == TICKER_NEVER ? TICKER_NEVER : c->due;
    pthread_mutex_unlock(&c->lock);
    return next;
}

static void init(client *c, ticker *t, int64_t after)
{
    *c = (client){.ticker = t, .after = after, .entry = {.tick = tick, .context = c}};
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
}

static void destroy(client *c)
{
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
}

static void wait_for_calls(client *c, unsigned calls)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_SECONDS;
    pthread_mutex_lock(&c->lock);
    int status = 0;
    while (c->calls < calls && status == 0) {
        status = pthread_cond_timedwait(&c->changed, &c->lock, &until);
    }
    const unsigned came = c->calls;
    pthread_mutex_unlock(&c->lock);
    assert_true(came >= calls);
}

static unsigned calls_of(client *c)
{
    pthread_mutex_lock(&c->lock);
    const unsigned calls = c->calls;
    pthread_mutex_unlock(&c->lock);
    return calls;
}

static void set_gate(client *c, bool shut)
{
    pthread_mutex_lock(&c->lock);
    c->shut = shut;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static void sleep_ms(long ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
}

static ticker *create(void)
{
    ticker *t = ticker_create();
    assert_non_null(t);
    return t;
}

/* An entry is called when it is added, and then at the times that it gives, not before. */
static void test_times(void **state)
{
    (void)state;
    ticker *t = create();
    client often;
    client never;
    init(&often, t, TICK_MS);
    init(&never, t, TICKER_NEVER);
    ticker_add(t, &often.entry);
    ticker_add(t, &never.entry);
    wait_for_calls(&often, 5);
    wait_for_calls(&never, 1);
    ticker_remove(t, &often.entry);
    ticker_remove(t, &never.entry);
    assert_int_equal(often.too_early, 0);
    assert_int_equal(never.calls, 1);
    ticker_free(t);
    destroy(&often);
    destroy(&never);
}

/* A time far away does not keep a nearer one, or one that is rung, from coming. */
static void test_far_times(void **state)
{
    (void)state;
    ticker *t = create();
    client far;
    client near;
    init(&far, t, 3600 * 1000);
    init(&near, t, TICK_MS);
    ticker_add(t, &far.entry);
    wait_for_calls(&far, 1);
    sleep_ms(TICK_MS); /* the thread sleeps until then */
    ticker_add(t, &near.entry);
    wait_for_calls(&near, 3);
    assert_int_equal(calls_of(&far), 1);
    pthread_mutex_lock(&far.lock);
    far.due = 0;
    far.after = TICK_MS;
    pthread_mutex_unlock(&far.lock);
    ticker_ring(t, &far.entry);
    wait_for_calls(&far, 4);
    ticker_remove(t, &near.entry);
    ticker_remove(t, &far.entry);
    assert_int_equal(far.too_early, 0);
    ticker_free(t);
    destroy(&far);
    destroy(&near);
}

/* What is rung while others are called is called once, however often it is rung. */
static void test_rings(void **state)
{
    (void)state;
    ticker *t = create();
    client slow;
    client rung;
    init(&slow, t, TICKER_NEVER);
    init(&rung, t, TICKER_NEVER);
    ticker_add(t, &rung.entry);
    wait_for_calls(&rung, 1);
    slow.shut = true;
    ticker_add(t, &slow.entry);
    wait_for_calls(&slow, 1);
    for (int i = 0; i < 1000; i++) {
        ticker_ring(t, &rung.entry);
    }
    assert_int_equal(calls_of(&rung), 1);
    set_gate(&slow, false);
    wait_for_calls(&rung, 2);
    ticker_ring(t, &slow.entry);
    wait_for_calls(&slow, 2);
    assert_int_equal(calls_of(&rung), 2);
    pthread_mutex_lock(&rung.lock);
    rung.rings_itself = true;
    pthread_mutex_unlock(&rung.lock);
    ticker_ring(t, &rung.entry);
    wait_for_calls(&rung, 4);
    ticker_remove(t, &rung.entry);
    ticker_remove(t, &slow.entry);
    assert_int_equal(rung.calls, 4);
    ticker_free(t);
    destroy(&slow);
    destroy(&rung);
}

typedef struct opener {
    client *client;
    atomic_bool opened;
} opener;

static void *open_later(void *argument)
{
    opener *o = argument;
    sleep_ms(TICK_MS);
    atomic_store(&o->opened, true);
    set_gate(o->client, false);
    return NULL;
}

/* Removing waits for the end of a call, and is the last of them; a ring after it is none. */
static void test_remove(void **state)
{
    (void)state;
    ticker *t = create();
    client c;
    client other;
    pthread_t thread;
    init(&c, t, 0);
    init(&other, t, 0);
    c.shut = true;
    ticker_add(t, &other.entry);
    ticker_add(t, &c.entry);
    wait_for_calls(&c, 1);
    opener o = {.client = &c};
    assert_int_equal(pthread_create(&thread, NULL, open_later, &o), 0);
    ticker_remove(t, &c.entry);
    assert_true(atomic_load(&o.opened));
    assert_int_equal(c.inside, 0);
    const unsigned calls = c.calls;
    pthread_join(thread, NULL);
    ticker_ring(t, &c.entry);
    wait_for_calls(&other, calls_of(&other) + 3);
    assert_int_equal(c.calls, calls);
    ticker_add(t, &c.entry); /* and it may come back */
    wait_for_calls(&c, calls + 2);
    ticker_remove(t, &c.entry);
    ticker_remove(t, &other.entry);
    ticker_free(t);
    destroy(&c);
    destroy(&other);
}

/* One that always has more to do keeps nobody else from being called, nor itself from going. */
static void test_busy(void **state)
{
    enum { BUSY = 3 };
    static client busy[BUSY];
    (void)state;
    ticker *t = create();
    client timed;
    init(&timed, t, TICK_MS);
    for (int i = 0; i < BUSY; i++) {
        init(&busy[i], t, 0);
        ticker_add(t, &busy[i].entry);
    }
    ticker_add(t, &timed.entry);
    wait_for_calls(&timed, 5);
    for (int i = 0; i < BUSY; i++) {
        wait_for_calls(&busy[i], 5);
        ticker_remove(t, &busy[i].entry);
    }
    wait_for_calls(&timed, calls_of(&timed) + 2);
    ticker_remove(t, &timed.entry);
    ticker_free(t);
    for (int i = 0; i < BUSY; i++) {
        destroy(&busy[i]);
    }
    destroy(&timed);
}

#define RINGS 20000

static void *ring_often(void *argument)
{
    client *c = argument;
    for (unsigned i = 0; i < RINGS; i++) {
        atomic_fetch_add(&c->told, 1);
        ticker_ring(c->ticker, &c->entry);
    }
    return NULL;
}

/* Rung from many threads, while others come and go: no ring is lost. */
static void test_threads(void **state)
{
    enum { RINGERS = 4, GUESTS = 500 };
    (void)state;
    pthread_t threads[RINGERS];
    ticker *t = create();
    client c;
    init(&c, t, TICKER_NEVER);
    ticker_add(t, &c.entry);
    for (int i = 0; i < RINGERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, ring_often, &c), 0);
    }
    for (int i = 0; i < GUESTS; i++) {
        client guest;
        init(&guest, t, i % 2);
        ticker_add(t, &guest.entry);
        if (i % 3 > 0) {
            wait_for_calls(&guest, (unsigned)i % 3);
        }
        ticker_remove(t, &guest.entry);
        destroy(&guest);
    }
    for (int i = 0; i < RINGERS; i++) {
        pthread_join(threads[i], NULL);
    }
    const int64_t end = clock_ms() + WAIT_SECONDS * 1000;
    while (atomic_load(&c.seen) < RINGERS * RINGS && clock_ms() < end) {
        sleep_ms(1);
    }
    assert_int_equal(atomic_load(&c.seen), RINGERS * RINGS);
    ticker_remove(t, &c.entry);
    ticker_free(t);
    destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times), cmocka_unit_test(test_far_times),
        cmocka_unit_test(test_rings), cmocka_unit_test(test_remove),
        cmocka_unit_test(test_busy),  cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
