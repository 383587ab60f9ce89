/* test_codec_pattern.c: regular expressions over names: what they match, and that each of them
 * comes to an end, in work and in memory. */
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

#include "name_pattern.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define WHERE        "param group 3"

typedef struct fixture {
    memory *memory;
    name_effort effort;
    codec_error error;
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->memory = memory_create((size_t)64 << 20);
    f->effort.left = NAME_PATTERN_ALL_STEPS;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    assert_int_equal(memory_used(f->memory), 0);
    memory_free(f->memory);
    free(f);
    return 0;
}

static name_pattern *compile(fixture *f, const char *regex)
{
    name_pattern *p = NULL;
    if (name_pattern_compile(f->memory, regex, strlen(regex), WHERE, &p, &f->error) != CODEC_OK) {
        fail_msg("%s: %s", regex, f->error.message);
    }
    return p;
}

/* Compiles, matches with one name and frees. */
static codec_status match(fixture *f, const char *regex, const char *name, bool *matches)
{
    name_pattern *p = compile(f, regex);
    const codec_status st =
        name_pattern_match(p, name, strlen(name), &f->effort, matches, &f->error);
    name_pattern_free(p);
    return st;
}

/* A text of n times the same piece, then an end; in the memory of the caller. */
static const char *repeated(char *out, size_t size, const char *piece, size_t n, const char *end)
{
    const size_t length = strlen(piece);
    assert_true(n * length + strlen(end) < size);
    for (size_t i = 0; i < n; i++) {
        memcpy(out + i * length, piece, length);
    }
    memcpy(out + n * length, end, strlen(end) + 1);
    return out;
}

/* Patterns are searched for, characters are those of Unicode, and a newline is LF alone. */
static void test_matches(void **state)
{
    static const struct {
        const char *regex, *name;
        bool matches;
    } cases[] = {
        {"\\.bias$", "nn1.bias", true},
        {"\\.bias$", "nn1.bias.x", false},
        {"\\.bias$", "nn1_bias", false},
        {"nn", "a/nn1.bias", true},
        {"^nn", "a/nn1.bias", false},
        {"^a/.*/b$", "a/x/y/b", true},
        {"", "anything", true},
        {"^.$", "\xc3\xa9", true},
        {"^\\w+$", "caf\xc3\xa9", true},
        {"^\\d$", "\xd9\xa3", true},
        {"\\bbias\\b",
         "\xc3\xa9"
         "bias",
         false},
        {"\xe5\xb1\xa4\\.[0-3]\\.", "\xe5\xb1\xa4.2.w", true},
        {"(?i)\xc3\x89", "\xc3\xa9", true},
        {"a.b", "a\nb", false},
        {"(?s)a.b", "a\nb", true},
        {"(?m)^b$", "a\nb\nc", true},
        {"a.b", "a\rb", true},
        {"a\\Rb",
         "a\xe2\x80\xa8"
         "b",
         true},
        {"a$", "a\n", true},
        {"a\\z", "a\n", false},
        {"(?<=weight)_v$", "fc.weight_v", true},
        {"(?P<n>ab)(?P=n)", "xababx", true},
        {"(?C1)a(?C2)", "a", true}, /* a callout of the client's means nothing */
    };
    fixture *f = *state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        bool matches = !cases[i].matches;
        if (match(f, cases[i].regex, cases[i].name, &matches) != CODEC_OK ||
            matches != cases[i].matches) {
            fail_msg("'%s' with '%s'", cases[i].regex, cases[i].name);
        }
    }
}

/* A pattern that is none is refused with PCRE2's reason and the place. */
static void test_refused(void **state)
{
    static const struct {
        const char *regex, *place, *reason;
    } cases[] = {
        {"ab(", "at byte 3", "missing closing parenthesis"},
        {"ab)", "at byte 2", "unmatched closing parenthesis"},
        {"*a", "at byte 0", "quantifier does not follow"},
        {"[z-a]", "at byte 3", "range out of order"},
        {"\xc3\xa9[", "at byte 3", "missing terminating ]"},
        {"a\\C", "at byte 3", "\\C is disabled"},
        {"\\p{Nope}", "at byte", "unknown property"},
        {"(?<=a+)b", "at byte 0", "lookbehind"},
        {"(?u)a", "at byte", "unrecognized character"},
    };
    fixture *f = *state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        name_pattern *p = NULL;
        assert_int_equal(name_pattern_compile(f->memory, cases[i].regex, strlen(cases[i].regex),
                                              WHERE, &p, &f->error),
                         CODEC_INVALID_VALUE);
        assert_null(p);
        if (strstr(f->error.message, cases[i].place) == NULL ||
            strstr(f->error.message, cases[i].reason) == NULL ||
            strstr(f->error.message, cases[i].regex) == NULL ||
            strstr(f->error.message, WHERE) == NULL) {
            fail_msg("'%s': %s", cases[i].regex, f->error.message);
        }
    }
}

/* The longest pattern, and the deepest, are taken; one more is not. */
static void test_size_limits(void **state)
{
    fixture *f = *state;
    char regex[NAME_PATTERN_MAX_BYTES + 2];
    name_pattern *p = NULL;
    bool matches;
    (void)repeated(regex, sizeof regex, "a", NAME_PATTERN_MAX_BYTES, "");
    assert_int_equal(match(f, regex, "a", &matches), CODEC_OK);
    assert_false(matches);
    (void)repeated(regex, sizeof regex, "a", NAME_PATTERN_MAX_BYTES, "a");
    assert_int_equal(name_pattern_compile(f->memory, regex, strlen(regex), WHERE, &p, &f->error),
                     CODEC_LIMIT);
    assert_non_null(strstr(f->error.message, "1025 bytes, at most 1024"));
    for (size_t deep = 0; deep < 2; deep++) {
        char end[NAME_PATTERN_MAX_PARENS + 2];
        (void)repeated(end, sizeof end, ")", NAME_PATTERN_MAX_PARENS + deep, "");
        (void)repeated(regex, sizeof regex, "(", NAME_PATTERN_MAX_PARENS + deep, end);
        assert_int_equal(
            name_pattern_compile(f->memory, regex, strlen(regex), WHERE, &p, &f->error),
            deep == 0 ? CODEC_OK : CODEC_INVALID_VALUE);
        name_pattern_free(p);
        p = NULL;
    }
    assert_non_null(strstr(f->error.message, "too deeply nested"));
}

/* What would run for years, or recurse without end, is stopped, each by the limit that is in its
 * way, and told apart from what does not match. */
static void test_catastrophes(void **state)
{
    static char long_name[ADAM_MAX_NAME + 1];
    static char many_groups[NAME_PATTERN_MAX_BYTES + 1];
    static char many_choices[NAME_PATTERN_MAX_BYTES + 1];
    char choices_end[256];
    (void)repeated(long_name, sizeof long_name, "a", ADAM_MAX_NAME - 1, "!");
    (void)repeated(many_groups, sizeof many_groups, "()", 480, "(?:(?:a|b))*!$");
    (void)repeated(choices_end, sizeof choices_end, "|b)", 40, "*!");
    (void)repeated(many_choices, sizeof many_choices, "(?:", 40, "a");
    (void)strcat(many_choices, choices_end);
    const struct {
        const char *regex, *name;
        codec_status status;
        const char *reason;
    } cases[] = {
        {"(a+)+$", long_name, CODEC_LIMIT, "too many steps"},
        {"(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", CODEC_LIMIT, "match limit exceeded"},
        {"(a|a)*$", long_name, CODEC_LIMIT, "too many steps"},
        {"(.*)*(.*)*(.*)*[xy]$", long_name, CODEC_LIMIT, "too many steps"},
        {many_choices, long_name, CODEC_LIMIT, "depth limit"},
        {many_groups, long_name, CODEC_LIMIT, "heap limit"},
        {"(?R)", "a", CODEC_INVALID_VALUE, "recursion"},
    };
    fixture *f = *state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        bool matches = true;
        f->effort.left = NAME_PATTERN_ALL_STEPS;
        const codec_status st = match(f, cases[i].regex, cases[i].name, &matches);
        if (st != cases[i].status || matches) {
            fail_msg("'%s': status %d", cases[i].regex, (int)st);
        }
        if (strstr(f->error.message, cases[i].reason) == NULL ||
            strstr(f->error.message, WHERE) == NULL) {
            fail_msg("'%s': %s", cases[i].regex, f->error.message);
        }
        assert_string_equal(f->error.param, cases[i].name);
    }
}

/* Many names that are each within their limit end at that of all together, and always at the same
 * one. */
static void test_effort(void **state)
{
    static const char regex[] = "(a+)+$";
    fixture *f = *state;
    size_t taken[2] = {0};
    for (size_t round = 0; round < COUNT(taken); round++) {
        name_pattern *p = compile(f, regex);
        f->effort.left = 100000;
        bool matches;
        while (name_pattern_match(p, "aaaaaaaaaa!", 11, &f->effort, &matches, &f->error) ==
               CODEC_OK) {
            assert_false(matches);
            taken[round]++;
        }
        assert_int_equal(f->error.status, CODEC_LIMIT);
        assert_non_null(strstr(f->error.message, "over all names"));
        name_pattern_free(p);
    }
    assert_true(taken[0] > 2 && taken[0] < 100000);
    assert_int_equal(taken[0], taken[1]);
    name_pattern *p = compile(f, "zzz"); /* what does not even begin to match counts too */
    f->effort.left = 10;
    bool matches;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(name_pattern_match(p, "a", 1, &f->effort, &matches, &f->error), CODEC_OK);
    }
    assert_int_equal(name_pattern_match(p, "a", 1, &f->effort, &matches, &f->error), CODEC_LIMIT);
    name_pattern_free(p);
}

/* With any budget, PCRE2's memory is taken from it or refused, and given back. */
static void test_memory(void **state)
{
    static const char regex[] = "^(?:(layer)\\.(\\d+)\\.)+(weight|bias)$";
    static const char name[] = "layer.1.layer.2.layer.3.weight";
    fixture *f = *state;
    size_t refused = 0;
    bool enough = false;
    for (size_t limit = 0; limit < 200000 && !enough; limit += 512) {
        memory *m = memory_create(limit);
        name_pattern *p = NULL;
        bool matches = false;
        codec_status st = name_pattern_compile(m, regex, sizeof regex - 1, WHERE, &p, &f->error);
        if (st == CODEC_OK) {
            f->effort.left = NAME_PATTERN_ALL_STEPS;
            st = name_pattern_match(p, name, sizeof name - 1, &f->effort, &matches, &f->error);
        }
        if (st == CODEC_OK) {
            assert_true(matches);
            enough = true;
        } else {
            assert_int_equal(st, CODEC_NO_MEMORY);
            refused++;
        }
        name_pattern_free(p);
        assert_int_equal(memory_used(m), 0);
        memory_free(m);
    }
    assert_true(enough && refused > 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_matches, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_size_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_catastrophes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_effort, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
