/* test_alarm.c: alarms ring in their strands, not before their time and soon after it, as often as
 * they are set. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdatomic.h>
#include <time.h>

#include "alarm.h"

typedef struct bell {
    alarm_entry alarm;
    strand strand;
    executor *jobs;
    atomic_uint kept, rung;
    atomic_uint_fast64_t at; /* when it last rang */
    uint64_t period;         /* rings again after it; 0: not */
    alarm_clock *clock;
} bell;

static void keep(alarm_entry *a)
{
    atomic_fetch_add(&((bell *)a)->kept, 1);
}

static void ring(alarm_entry *a)
{
    bell *b = (bell *)a;
    atomic_store(&b->at, alarm_now());
    if (b->period > 0) {
        alarm_set(b->clock, a, alarm_now() + b->period);
    }
    atomic_fetch_add(&b->rung, 1);
    strand_leave(b->jobs, &b->strand);
}

static void make_bell(bell *b, executor *jobs, alarm_clock *clock)
{
    *b = (bell){.jobs = jobs, .clock = clock};
    strand_init(&b->strand);
    b->alarm = (alarm_entry){.strand = &b->strand, .keep = keep, .ring = ring, .due = ALARM_NEVER};
}

static void sleep_ms(unsigned ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    (void)nanosleep(&t, NULL);
}

static void enter(bell *b)
{
    while (!strand_try_enter(&b->strand)) {
        sleep_ms(1);
    }
}

/* Sets it as what is in the strand does. */
static void set(bell *b, uint64_t due)
{
    enter(b);
    alarm_set(b->clock, &b->alarm, due);
    strand_leave(b->jobs, &b->strand);
}

static void wait_rung(bell *b, unsigned times)
{
    for (int i = 0; i < 5000 && atomic_load(&b->rung) < times; i++) {
        sleep_ms(1);
    }
    assert_int_equal(atomic_load(&b->rung), times);
    assert_int_equal(atomic_load(&b->kept), times);
}

typedef struct fixture {
    ticker *ticker;
    executor *jobs;
    alarm_clock *clock;
} fixture;

static void begin(fixture *f)
{
    f->jobs = executor_create(2);
    assert_non_null(f->jobs);
    f->ticker = ticker_create();
    assert_non_null(f->ticker);
    f->clock = alarm_clock_create(f->ticker, f->jobs);
    assert_non_null(f->clock);
}

static void end(fixture *f)
{
    alarm_clock_stop(f->clock);
    executor_free(f->jobs);
    alarm_clock_free(f->clock);
    ticker_free(f->ticker);
}

static void test_rings(void **state)
{
    (void)state;
    fixture f;
    bell b;
    begin(&f);
    make_bell(&b, f.jobs, f.clock);
    for (unsigned i = 0; i < 3; i++) {
        const uint64_t due = alarm_now() + 30;
        set(&b, due);
        sleep_ms(5);
        assert_int_equal(atomic_load(&b.rung), i);
        wait_rung(&b, i + 1);
        assert_true(atomic_load(&b.at) >= due);
    }
    set(&b, 0); /* long over */
    wait_rung(&b, 4);
    end(&f);
    strand_destroy(&b.strand);
}

/* Earlier, later, the same again, and never. */
static void test_moved(void **state)
{
    (void)state;
    fixture f;
    bell b;
    begin(&f);
    make_bell(&b, f.jobs, f.clock);
    set(&b, alarm_now() + 3600000);
    const uint64_t due = alarm_now() + 20;
    set(&b, due);
    set(&b, due);
    wait_rung(&b, 1);
    set(&b, alarm_now() + 20);
    set(&b, alarm_now() + 3600000);
    sleep_ms(60);
    assert_int_equal(atomic_load(&b.rung), 1);
    set(&b, alarm_now() + 20);
    set(&b, ALARM_NEVER);
    set(&b, ALARM_NEVER);
    sleep_ms(60);
    assert_int_equal(atomic_load(&b.rung), 1);
    set(&b, alarm_now());
    wait_rung(&b, 2);
    set(&b, alarm_now() + 3600000); /* still set at the end: nothing rings */
    end(&f);
    assert_int_equal(atomic_load(&b.rung), 2);
    strand_destroy(&b.strand);
}

/* It waits for its strand; what is set meanwhile is not lost. */
static void test_busy_strand(void **state)
{
    (void)state;
    fixture f;
    bell b;
    begin(&f);
    make_bell(&b, f.jobs, f.clock);
    enter(&b);
    alarm_set(f.clock, &b.alarm, alarm_now());
    sleep_ms(30);
    assert_int_equal(atomic_load(&b.kept), 1);
    assert_int_equal(atomic_load(&b.rung), 0);
    alarm_set(f.clock, &b.alarm, alarm_now() + 80); /* while its job waits */
    strand_leave(f.jobs, &b.strand);
    wait_rung(&b, 1);
    wait_rung(&b, 2);
    end(&f);
    strand_destroy(&b.strand);
}

/* Many, each of which sets itself again. */
static void test_many(void **state)
{
    enum { BELLS = 50 };
    (void)state;
    fixture f;
    static bell bells[BELLS];
    begin(&f);
    for (unsigned i = 0; i < BELLS; i++) {
        make_bell(&bells[i], f.jobs, f.clock);
        bells[i].period = 1 + i % 7;
        set(&bells[i], alarm_now() + i);
    }
    sleep_ms(300);
    for (unsigned i = 0; i < BELLS; i++) {
        enter(&bells[i]);
        bells[i].period = 0;
        alarm_set(f.clock, &bells[i].alarm, ALARM_NEVER);
        strand_leave(f.jobs, &bells[i].strand);
    }
    end(&f);
    for (unsigned i = 0; i < BELLS; i++) {
        assert_true(atomic_load(&bells[i].rung) >= 3);
        assert_int_equal(atomic_load(&bells[i].rung), atomic_load(&bells[i].kept));
        strand_destroy(&bells[i].strand);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rings),
        cmocka_unit_test(test_moved),
        cmocka_unit_test(test_busy_strand),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
