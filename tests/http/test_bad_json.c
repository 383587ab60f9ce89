/* test_bad_json.c: JSON that is none, or says what it must not. Each is refused with its status,
 * problem and members, and nothing has changed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "peer.h"

static char *before; /* the state of "a", which no test may change */

static int setup(void **state)
{
    remove_all(*state);
    create(*state, "a",
           "{\"params\": {\"w\": [1, 2], \"m\": [[1, 2], [3, 4]], \"d\": {\"shape\": [1], "
           "\"dtype\": \"float64\"}, \"s\": 1, \"e\": {\"shape\": [0]}}}");
    before = state_of(*state, "a");
    return 0;
}

static int teardown(void **state)
{
    assert_unchanged(*state, "a", before);
    return 0;
}

/* A step whose body is this text. */
static void refuse(peer *p, const char *json, size_t length, int status, const char *code,
                   const char *member)
{
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    (void)ask(p, "POST", at("a", "/step"), headers, json, length);
    if (p->reply.status != status) {
        print_error("with %.*s\n", (int)length, json);
    }
    assert_problem(p, status, code, member);
    assert_non_null(adamd_response_header(&p->reply, "ETag", 0)); /* it is about an optimizer */
}

/* A body that breaks off anywhere is refused, at the byte where it does. */
static void test_truncated(void **state)
{
    static const char good[] = "{\"grads\": {\"w\": [1, -2.5e-1], \"\\u0064\": [\"NaN\"]}, "
                               "\"param_groups\": [{\"amsgrad\": true, \"foreach\": null}]}";
    for (size_t length = 0; length + 1 < sizeof good; length++) {
        refuse(*state, good, length, 400, "malformed-json", "\"position\": ");
    }
}

/* What cJSON and other lenient readers take for JSON is not JSON. */
static void test_grammar(void **state)
{
    static const struct {
        const char *json;
        int position;
    } bad[] = {
        {"{\"grads\": {\"w\": [01, 2]}}", 18},
        {"{\"grads\": {\"w\": [-01, 2]}}", 19},
        {"{\"grads\": {\"w\": [1., 2]}}", 19},
        {"{\"grads\": {\"w\": [.5, 2]}}", 17},
        {"{\"grads\": {\"w\": [+1, 2]}}", 17},
        {"{\"grads\": {\"w\": [1e, 2]}}", 19},
        {"{\"grads\": {\"w\": [1e+, 2]}}", 20},
        {"{\"grads\": {\"w\": [-, 2]}}", 18},
        {"{\"grads\": {\"w\": [0x1, 2]}}", 18},
        {"{\"grads\": {\"w\": [NaN, 2]}}", 17},
        {"{\"grads\": {\"w\": [Infinity, 2]}}", 17},
        {"{\"grads\": {\"w\": [-Infinity, 2]}}", 18},
        {"{\"grads\": {\"w\": [1, 2,]}}", 22},
        {"{\"grads\": {\"w\": [, 1]}}", 17},
        {"{\"grads\": {\"w\": [1 2]}}", 19},
        {"{\"grads\": {\"w\": [1, 2]},}", 24},
        {"{\"grads\": {\"w\": [1, 2]}} x", 25},
        {"{\"grads\": {\"w\": [1, 2]}}{}", 24},
        {"{\"grads\" {\"w\": [1, 2]}}", 9},
        {"{\"grads\": {\"w\", [1, 2]}}", 14},
        {"{\"grads\": {w: [1, 2]}}", 11},
        {"{'grads': {}}", 1},
        {"{\"grads\": {}, 1}", 14},
        {"{\"grads\": tru}", 10},
        {"{\"grads\": True}", 10},
        {"{\"grads\": nul}", 10},
        {"{\"grads\": /* */ {}}", 10},
        {"{\"grads\": {\"w\": [1, 2]}", 23},
        {"]", 0},
        {"\xef\xbb\xbf{\"grads\": {\"w\": [1, 2]}}", 0},
        {"{\"a\x01\": 1}", 3},
        {"{\"a\n\": 1}", 3},
        {"{\"a\t\": 1}", 3},
        {"{\"\xff\": 1}", 2},
        {"{\"\xc0\xaf\": 1}", 2},
        {"{\"\xed\xa0\x80\": 1}", 2},
        {"{\"\xf4\x90\x80\x80\": 1}", 2},
        {"{\"a\xc3\": 1}", 2},
        {"{\"\\x41\": 1}", 3},
        {"{\"\\u12\": 1}", 4},
        {"{\"\\u12g4\": 1}", 4},
        {"{\"\\u0000\": 1}", 4},
        {"{\"\\udc00\": 1}", 4},
        {"{\"\\ud800\": 1}", 8},
        {"{\"\\ud800\\n\": 1}", 8},
        {"{\"\\ud800\\u0041\": 1}", 10},
        {"{\"\\ud800\\ud800\": 1}", 10},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        char member[32];
        (void)snprintf(member, sizeof member, "\"position\": %d}", bad[i].position);
        refuse(*state, bad[i].json, strlen(bad[i].json), 400, "malformed-json", member);
    }
    refuse(*state, "{}\0", 3, 400, "malformed-json", "\"position\": 2");
    refuse(*state, "{\"\0\": 1}", 8, 400, "malformed-json", "\"position\": 2");
}

/* A name that stands twice in an object, at any level, however it is written. */
static void test_duplicates(void **state)
{
    static const char *const bad[] = {
        "{\"grads\": {\"w\": [1, 2]}, \"grads\": {}}",
        "{\"grads\": {\"w\": [1, 2], \"w\": [1, 2]}}",
        "{\"grads\": {\"w\": [1, 2], \"m\": [[1, 2], [3, 4]], \"\\u0077\": [1, 2]}}",
        "{\"grads\": {\"w\": [1, 2]}, \"param_groups\": [{\"lr\": 1, \"eps\": 1, \"lr\": 1}]}",
        "{\"x\": [0, {\"a\": [{\"b\": 1, \"b\": 1}]}]}",
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        refuse(*state, bad[i], strlen(bad[i]), 400, "malformed-json", "stands twice");
    }
}

/* 64 levels are read, and then found to be an unknown field; 65 are over the limit. Objects, lists,
 * and lists of numbers, which are read apart, count alike. */
static void test_depth(void **state)
{
    static const struct {
        const char *open, *inside, *close;
        int levels; /* of one `open`, with what is inside */
    } shapes[] = {{"{\"a\":", "1", "}", 0}, {"[", "\"x\"", "]", 0}, {"[", "1", "]", 0},
                  {"[", "[]", "]", 1},      {"[", "{}", "]", 1},    {"[1,", "true", "]", 0}};
    for (size_t i = 0; i < COUNT(shapes); i++) {
        for (int depth = 64; depth <= 65; depth++) {
            char json[1024] = "{\"deep\":";
            const int opened = depth - 1 - shapes[i].levels;
            for (int k = 0; k < opened; k++) {
                (void)strcat(json, shapes[i].open);
            }
            (void)strcat(json, shapes[i].inside);
            for (int k = 0; k < opened; k++) {
                (void)strcat(json, shapes[i].close);
            }
            (void)strcat(json, "}");
            refuse(*state, json, strlen(json), depth == 64 ? 400 : 422,
                   depth == 64 ? "unknown-field" : "limit-exceeded", NULL);
        }
    }
}

/* A hundred thousand levels do not reach the stack. */
static void test_abyss(void **state)
{
    enum { DEPTH = 100000 };
    char *json = malloc(DEPTH);
    assert_non_null(json);
    memset(json, '[', DEPTH);
    refuse(*state, json, DEPTH, 422, "limit-exceeded", NULL);
    free(json);
}

/* JSON, but not a step. */
static void test_wrong_types(void **state)
{
    static const char *const bad[] = {
        "null",
        "1",
        "\"grads\"",
        "true",
        "[]",
        "[{\"grads\": {}}]",
        "{}",
        "{\"param_groups\": [{}]}",
        "{\"grads\": null}",
        "{\"grads\": []}",
        "{\"grads\": [[1, 2]]}",
        "{\"grads\": \"NaN\"}",
        "{\"grads\": {\"w\": null}}",
        "{\"grads\": {\"w\": true}}",
        "{\"grads\": {\"w\": {}}}",
        "{\"grads\": {\"w\": \"1\"}}",
        "{\"grads\": {\"w\": [\"1\", 2]}}",
        "{\"grads\": {\"w\": [\"nan\", 2]}}",
        "{\"grads\": {\"w\": [1, null]}}",
        "{\"grads\": {\"w\": [1, \"x\"]}}",
        "{\"grads\": {\"w\": [1, \"x\", 3], \"d\": [1]}}",
        "{\"grads\": {\"w\": [1, {\"a\": 2}]}}",
        "{\"grads\": {\"w\": [1, true, [2]]}}",
        "{\"grads\": {\"w\": [1, [2]]}}",
        "{\"grads\": {\"w\": [[1], 2]}}",
        "{\"grads\": {\"m\": [[1, 2], [3]]}}",
        "{\"grads\": {\"m\": [[1, 2], []]}}",
        "{\"grads\": {\"m\": [[], [1, 2]]}}",
        "{\"grads\": {\"m\": [[[1]], [2]]}}",
        "{\"grads\": {\"w\": [[[[[[[[[1]]]]]]]]]}}",
        "{\"grads\": {\"w\": [1e999, 2]}}",
        "{\"grads\": {\"w\": [-1e999, 2]}}",
        "{\"grads\": {\"w\": [3.4028236e38, 2]}}",
        "{\"grads\": {\"d\": [1.8e308]}}",
        "{\"grads\": {\"w\": [1, 2]}, \"param_groups\": {}}",
        "{\"grads\": {\"w\": [1, 2]}, \"param_groups\": null}",
        "{\"grads\": {\"w\": [1, 2]}, \"param_groups\": []}",
        "{\"grads\": {\"w\": [1, 2]}, \"param_groups\": [{}, {}]}",
        "{\"grads\": {\"w\": [1, 2]}, \"param_groups\": [1]}",
        "{\"grads\": {\"w\": [1, 2]}, \"param_groups\": [1, {}]}",
        "{\"grads\": {\"w\": [1, 2]}, \"param_groups\": [null]}",
        "{\"grads\": {\"w\": [1, 2]}, \"param_groups\": [{\"lr\": \"1\"}]}",
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        refuse(*state, bad[i], strlen(bad[i]), 422, "invalid-value", NULL);
    }
}

/* Right in form, but not what the optimizer has or can take; the members say what. */
static void test_refused_by_the_core(void **state)
{
    static const struct {
        const char *json;
        int status;
        const char *code, *member;
    } bad[] = {
        {"{\"grads\": {}}", 422, "empty", NULL},
        {"{\"grads\": {\"x\": [1, 2]}}", 422, "unknown-param", "\"param\": \"x\""},
        {"{\"grads\": {\"W\": [1, 2]}}", 422, "unknown-param", "\"param\": \"W\""},
        {"{\"grads\": {\"\": 1}}", 422, "unknown-param", NULL},
        {"{\"grads\": {\"w\": [1, 2, 3]}}", 422, "shape-mismatch",
         "\"param\": \"w\", \"expected_shape\": [2], \"got_shape\": [3]"},
        {"{\"grads\": {\"w\": []}}", 422, "shape-mismatch",
         "\"expected_shape\": [2], \"got_shape\": [0]"},
        {"{\"grads\": {\"w\": 1}}", 422, "shape-mismatch",
         "\"expected_shape\": [2], \"got_shape\": []"},
        {"{\"grads\": {\"m\": [1, 2, 3, 4]}}", 422, "shape-mismatch",
         "\"expected_shape\": [2, 2], \"got_shape\": [4]"},
        {"{\"grads\": {\"s\": [1]}}", 422, "shape-mismatch",
         "\"expected_shape\": [], \"got_shape\": [1]"},
        {"{\"grads\": {\"e\": [1]}}", 422, "shape-mismatch",
         "\"expected_shape\": [0], \"got_shape\": [1]"},
        {"{\"grads\": {\"w\": [1, \"NaN\"]}}", 422, "non-finite", "\"param\": \"w\", \"index\": 1"},
        {"{\"grads\": {\"m\": [[1, 2], [\"Infinity\", 4]]}}", 422, "non-finite",
         "\"param\": \"m\", \"index\": 2"},
        {"{\"grads\": {\"w\": [1, 2], \"d\": [\"-Infinity\"]}}", 422, "non-finite",
         "\"param\": \"d\", \"index\": 0"},
        {"{\"grads\": {\"s\": \"NaN\"}}", 422, "non-finite", "\"param\": \"s\", \"index\": 0"},
        {"{\"grads\": {\"w\": [1, 2]}, \"param_groups\": [{\"lr\": -1}]}", 422, "invalid-option",
         NULL},
        {"{\"grads\": {\"w\": [1, 2]}, \"param_groups\": [{\"betas\": [0.9, 1]}]}", 422,
         "invalid-option", NULL},
        {"{\"grads\": {\"w\": [1, 2]}, \"param_groups\": [{\"fused\": true}]}", 422,
         "unsupported-option", NULL},
        {"{\"grads\": {\"w\": [1, 2]}, \"lr\": 1}", 400, "unknown-field", NULL},
        {"{\"grads\": {\"w\": [1, 2]}, \"Grads\": {}}", 400, "unknown-field", NULL},
        {"{\"grads\": {\"w\": [1, 2]}, \"param_groups\": [{\"LR\": 1}]}", 400, "unknown-field",
         NULL},
        {"{\"grads\": {\"w\": [1, 2]}, \"param_groups\": [{\"params\": []}]}", 400, "unknown-field",
         NULL},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        refuse(*state, bad[i].json, strlen(bad[i].json), bad[i].status, bad[i].code, bad[i].member);
    }
}

/* What comes back of a client's text is UTF-8, wherever it is cut. */
static void test_long_names(void **state)
{
    char name[700];
    char json[800];
    for (int shift = 0; shift < 4; shift++) {
        memset(name, 'a', sizeof name);
        for (size_t i = (size_t)shift; i + 2 < sizeof name; i += 2) {
            memcpy(name + i, "\xc3\xa9", 2);
        }
        name[680 + shift] = '\0';
        (void)snprintf(json, sizeof json, "{\"%s\": 1}", name);
        refuse(*state, json, strlen(json), 400, "unknown-field", NULL);
        (void)snprintf(json, sizeof json, "{\"grads\": {\"%s\": 1}}", name);
        refuse(*state, json, strlen(json), 422, "unknown-param", "\"param\": \"");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_truncated, setup, teardown),
        cmocka_unit_test_setup_teardown(test_grammar, setup, teardown),
        cmocka_unit_test_setup_teardown(test_duplicates, setup, teardown),
        cmocka_unit_test_setup_teardown(test_depth, setup, teardown),
        cmocka_unit_test_setup_teardown(test_abyss, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_types, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_by_the_core, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_names, setup, teardown),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
