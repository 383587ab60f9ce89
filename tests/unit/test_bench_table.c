/* test_bench_table.c: bench/table.c: the file that ./dev bench --json writes, by several programs
 * one after the other, is JSON. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"

static const char expected[] =
    "[{\"name\": \"printing\", \"value\": 1, \"unit\": \"ns\", \"peer\": "
    "\"printf(\\\"%.9g\\\\n\\\")\", "
    "\"peer_value\": 2, \"ratio\": 0.5, \"target\": 0.5, \"met\": true},\n"
    " {\"name\": \"rate\", \"value\": 1, \"unit\": \"1/s\", \"peer\": \"twice\", "
    "\"peer_value\": 2, \"ratio\": 0.5, \"target\": 0.7, \"met\": false},\n"
    " {\"name\": \"more\", \"value\": 3, \"unit\": \"ms\", \"peer\": \"it\", "
    "\"peer_value\": 2, \"ratio\": 1.5, \"target\": null, \"met\": null}]\n";

/* Names are quoted as JSON has it; what a second program adds joins the array. */
static void test_file(void **state)
{
    char path[] = "/tmp/adamd-bench-XXXXXX";
    char text[2 * sizeof expected];
    (void)state;
    const int file = mkstemp(path);
    assert_true(file >= 0);
    bench_table *first = bench_table_create();
    bench_table_add(first, "printing", 1, "ns", "printf(\"%.9g\\n\")", 2, BENCH_AT_MOST, 0.5);
    bench_table_add(first, "rate", 1, "1/s", "twice", 2, BENCH_AT_LEAST, 0.7);
    bench_table_end(first, path);
    bench_table *second = bench_table_create();
    bench_table_add(second, "more", 3, "ms", "it", 2, BENCH_NO_GOAL, 0);
    bench_table_end(second, path);
    const ssize_t length = read(file, text, sizeof text - 1);
    (void)close(file);
    (void)unlink(path);
    assert_true(length >= 0);
    text[length] = '\0';
    assert_string_equal(text, expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
