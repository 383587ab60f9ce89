/* test_schedules.c: the bits that torch's learning-rate schedulers give, from schedules.txt.
 * make_schedules.py makes that file and says what it holds. Each schedule is read from its JSON,
 * and on its way is printed with its position and read again, so that one that was saved and loaded
 * goes on to the same bits. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adam/adam.h"
#include "codec_schedule.h"

#define BUDGET_BYTES ((size_t)16 << 20)
#include "../unit/budget.h"

#define STEPS        1000
#define CASES        432
#define RELOAD_EVERY 37 /* steps between two saves */
#define MAX_LINE     4096
#define MAX_BY_HAND  8

/* A value that the user writes to the group, before the schedule's step `at`. */
typedef struct by_hand {
    int at;
    bool beta1;
    double value;
} by_hand;

typedef struct golden_case {
    int number;
    double lr, beta1;
    char json[MAX_LINE];
    by_hand by_hand[MAX_BY_HAND];
    size_t n_by_hand;
    int pairs;       /* the start and every step that torch took; 0: it refused to start */
    bool raised;     /* at the next step */
    uint64_t hash;   /* of all pairs */
    char shown[256]; /* " step:lr" of some steps, to say where it goes wrong */
} golden_case;

/* ---- the file ---- */

static void read_line(FILE *file, char *line, size_t size)
{
    assert_non_null(fgets(line, (int)size, file));
    assert_non_null(strchr(line, '\n'));
}

/* "3:lr:0x1p-5 100:beta1:0x1p-1 ." */
static void read_by_hand(golden_case *c, const char *at)
{
    for (; *at != '.'; at += strspn(at, " ")) {
        char *end;
        assert_true(c->n_by_hand < MAX_BY_HAND);
        by_hand *h = &c->by_hand[c->n_by_hand++];
        h->at = (int)strtol(at, &end, 10);
        h->beta1 = strncmp(end, ":beta1:", 7) == 0;
        assert_true(h->beta1 || strncmp(end, ":lr:", 4) == 0);
        h->value = strtod(end + (h->beta1 ? 7 : 4), &end);
        at = end;
    }
}

/* False at the end of the file. */
static bool read_case(FILE *file, golden_case *c)
{
    char line[MAX_LINE];
    char raised[32];
    int at = 0;
    *c = (golden_case){0};
    read_line(file, line, sizeof line);
    if (strcmp(line, "end\n") == 0) {
        return false;
    }
    assert_int_equal(
        sscanf(line, "case %d lr %lf beta1 %lf by hand %n", &c->number, &c->lr, &c->beta1, &at), 3);
    assert_true(at > 0);
    read_by_hand(c, line + at);
    read_line(file, c->json, sizeof c->json);
    read_line(file, line, sizeof line);
    assert_int_equal(sscanf(line, "pairs %d raised %31s hash %" SCNx64 " lr%255[^\n]", &c->pairs,
                            raised, &c->hash, c->shown),
                     4);
    c->raised = strcmp(raised, "-") != 0;
    return true;
}

/* ---- the schedule ---- */

static void read_schedule(fixture *f, const golden_case *c, const char *json, bool position,
                          buffer **room, adam_schedule **schedule)
{
    json_doc *doc = NULL;
    codec_error error;
    if (json_parse(f->pool, json, strlen(json), &doc, &error) != CODEC_OK ||
        schedule_read(f->pool, doc, json_root(doc), "param group 0", position, room, schedule,
                      &error) != CODEC_OK) {
        fail_msg("case %d: %s", c->number, error.message);
    }
    json_free(doc);
}

/* Prints the schedule and reads it back in its place. */
static void reload(fixture *f, const golden_case *c, buffer **room, adam_schedule **schedule)
{
    text t = {.pool = f->pool};
    const double initial_lr = (*schedule)->initial_lr;
    const size_t bytes = adam_schedule_bytes(*schedule);
    buffer *before = *room;
    adam_error error;
    schedule_add(&t, *schedule);
    text_add(&t, "", 1);
    assert_false(t.failed);
    read_schedule(f, c, t.buffer->data, true, room, schedule);
    (*schedule)->initial_lr = initial_lr;
    assert_int_equal(adam_schedule_bytes(*schedule), bytes);
    if (adam_schedule_check(*schedule, &error) != ADAM_OK) {
        fail_msg("case %d: %s: %s", c->number, t.buffer->data, error.message);
    }
    text_drop(&t);
    buffer_drop(before);
}

static uint64_t hash_pair(uint64_t hash, const adam_options *o)
{
    const double pair[2] = {o->lr, o->betas[0]};
    unsigned char bytes[sizeof pair];
    memcpy(bytes, pair, sizeof pair);
    for (size_t i = 0; i < sizeof bytes; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* Holds an lr against the file's, at a step that it shows. */
static void check_shown(const golden_case *c, int step, double lr)
{
    char word[24];
    (void)snprintf(word, sizeof word, " %d:", step);
    const char *found = strstr(c->shown, word);
    if (found != NULL && strtod(found + strlen(word), NULL) != lr) {
        fail_msg("case %d: %s lr after step %d is %a, torch has %.40s", c->number, c->json, step,
                 lr, found);
    }
}

static void write_by_hand(const golden_case *c, int step, adam_options *o)
{
    for (size_t i = 0; i < c->n_by_hand; i++) {
        if (c->by_hand[i].at == step) {
            *(c->by_hand[i].beta1 ? &o->betas[0] : &o->lr) = c->by_hand[i].value;
        }
    }
}

static void run_case(fixture *f, const golden_case *c)
{
    buffer *room = NULL;
    adam_schedule *schedule = NULL;
    adam_options options;
    adam_error error;
    adam_options_default(ADAM_ALGORITHM_ADAM, &options);
    options.lr = c->lr;
    options.betas[0] = c->beta1;
    read_schedule(f, c, c->json, false, &room, &schedule);
    const adam_status st = adam_schedule_check(schedule, &error);
    if ((st == ADAM_OK) != (c->pairs > 0)) {
        fail_msg("case %d: %s %s", c->number, c->json, st == ADAM_OK ? "is taken" : error.message);
    }
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    if (c->pairs > 0) {
        adam_schedule_start(schedule, &options);
        check_shown(c, 0, options.lr);
        hash = hash_pair(hash, &options);
    }
    for (int step = 1; step < c->pairs; step++) {
        write_by_hand(c, step, &options);
        if (adam_schedule_can_step(schedule, &error) != ADAM_OK) {
            fail_msg("case %d: %s step %d: %s", c->number, c->json, step, error.message);
        }
        adam_schedule_step(schedule, &options);
        check_shown(c, step, options.lr);
        hash = hash_pair(hash, &options);
        if (step % RELOAD_EVERY == 0 || step == 1) {
            reload(f, c, &room, &schedule);
        }
    }
    if (hash != c->hash) {
        fail_msg("case %d: %s differs from torch's", c->number, c->json);
    }
    if (c->pairs > 0 && (adam_schedule_can_step(schedule, &error) != ADAM_OK) != c->raised &&
        (c->raised || c->pairs != STEPS + 1)) {
        fail_msg("case %d: %s goes on after step %d, where torch raises", c->number, c->json,
                 c->pairs - 1);
    }
    buffer_drop(room);
}

/* Every case of the file, to the bit, after every step, up to where torch raises. */
static void test_torch(void **state)
{
    golden_case c;
    int cases = 0;
    char line[MAX_LINE];
    FILE *file = fopen(SCHEDULES_FILE, "r");
    assert_non_null(file);
    read_line(file, line, sizeof line); /* the comment */
    for (; read_case(file, &c); cases++) {
        assert_int_equal(c.number, cases);
        run_case(*state, &c);
    }
    assert_int_equal(cases, CASES);
    (void)fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_torch)};
    return cmocka_run_group_tests_name("schedules", tests, setup, teardown);
}
