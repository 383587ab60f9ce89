/* test_problem.c: reply_problem: a refusal has the members that it was given, and no others. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdio.h>
#include <string.h>

#define BUDGET_BYTES ((size_t)1 << 20)
#include "budget.h"
#include "reply.h"

static void assert_members(fixture *f, const problem *p, const char *status, const char *members)
{
    reply r = {0};
    char expected[512];
    reply_problem(&r, p, f->pool);
    assert_non_null(r.text);
    text_add(&(text){.pool = f->pool, .buffer = r.text}, "", 1);
    (void)snprintf(expected, sizeof expected, "\"status\": %s, \"detail\": \"why\"%s}\n", status,
                   members);
    const char *from = strstr(r.text->data, "\"status\"");
    assert_string_equal(from, expected);
    reply_drop(&r);
}

static void test_members(void **state)
{
    fixture *f = *state;
    problem p;
    (void)problem_set(&p, PROBLEM_ROUND_CONFLICT, "why");
    assert_members(f, &p, "409", "");

    (void)problem_set(&p, PROBLEM_STALE, "why");
    p.has_step = true;
    p.step = 9;
    p.has_staleness = true;
    p.based_on = 3;
    p.max_staleness = 5;
    assert_members(f, &p, "409", ", \"step\": 9, \"based_on\": 3, \"max_staleness\": 5");

    (void)problem_set(&p, PROBLEM_ROUND_TIMEOUT, "why");
    p.has_step = true;
    p.has_round = true;
    p.quorum = 2;
    assert_members(f, &p, "409", ", \"step\": 0, \"have\": 0, \"quorum\": 2");

    (void)problem_set(&p, PROBLEM_QUARANTINED, "why");
    strcpy(p.worker, "w-\"1\"");
    assert_members(f, &p, "403", ", \"worker\": \"w-\\\"1\\\"\"");

    (void)problem_set(&p, PROBLEM_KEY_REUSED, "why");
    strcpy(p.header, "Idempotency-Key");
    assert_members(f, &p, "422", ", \"header\": \"Idempotency-Key\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_members)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
