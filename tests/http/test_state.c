/* test_state.c: parameters and state, read; parameters, overwritten. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

static int clear(void **state)
{
    remove_all(*state);
    create(
        *state, "a",
        "{\"params\": {\"w\": [[1, 2], [3, 4]], \"s\": {\"dtype\": \"float64\", \"data\": 0.5}}, "
        "\"lr\": 0.5}");
    return 0;
}

static void tag_of(const peer *p, char *out, size_t size)
{
    const char *etag = adamd_response_header(&p->reply, "ETag", 0);
    assert_non_null(etag);
    (void)snprintf(out, size, "%s", etag);
}

/* All parameters, and one. */
static void test_read_params(void **state)
{
    peer *p = *state;
    (void)get(p, at("a", "/params"));
    assert_json(p, 200, "{\"step\": 0, \"params\": {\"w\": [[1, 2], [3, 4]], \"s\": 0.5}}");
    (void)get(p, at("a", "/params/w"));
    assert_json(p, 200,
                "{\"name\": \"w\", \"shape\": [2, 2], \"dtype\": \"float32\", \"data\": [[1, 2], "
                "[3, 4]]}");
    (void)get(p, at("a", "/params/s"));
    assert_json(p, 200, "{\"name\": \"s\", \"shape\": [], \"dtype\": \"float64\", \"data\": 0.5}");
    (void)get(p, at("a", "/params/x"));
    assert_problem(p, 404, "no-such-param", "\"param\": \"x\"");
    (void)get(p, at("a", "/state/x"));
    assert_problem(p, 404, "no-such-param", "\"param\": \"x\"");
}

/* Names of parameters are any UTF-8, percent-encoded in a path, "/" and dots too. */
static void test_param_names(void **state)
{
    static const char *const names[] = {"a/b",
                                        "..",
                                        ".",
                                        "%",
                                        "\xc3\xa9\xf0\x9f\x90\x88",
                                        "with space",
                                        "?#&=+;",
                                        "tab\\tand\\\"quote\\\\",
                                        "\\u0001",
                                        "NaN",
                                        "__metadata",
                                        ""};
    static const char *const paths[] = {"a%2Fb",
                                        "%2E%2e",
                                        "%2E",
                                        "%25",
                                        "%C3%A9%F0%9F%90%88",
                                        "with%20space",
                                        "%3F%23&=+;",
                                        "tab%09and%22quote%5C",
                                        "%01",
                                        "NaN",
                                        "__metadata"};
    peer *p = *state;
    char json[1024] = "{\"params\": {";
    for (size_t i = 0; i < COUNT(paths); i++) {
        (void)snprintf(json + strlen(json), sizeof json - strlen(json), "%s\"%s\": %zu",
                       i > 0 ? ", " : "", names[i], i);
    }
    (void)strcat(json, "}}");
    create(p, "names", json);
    for (size_t i = 0; i < COUNT(paths); i++) {
        char rest[64];
        char expected[64];
        (void)snprintf(rest, sizeof rest, "/params/%s", paths[i]);
        (void)snprintf(expected, sizeof expected, "\"data\": %zu}", i);
        (void)get(p, at("names", rest));
        assert_has(p, 200, expected);
        (void)snprintf(rest, sizeof rest, "/state/%s", paths[i]);
        (void)get(p, at("names", rest));
        assert_has(p, 200, "\"exp_avg_sq\": {");
    }
}

/* 512 bytes of name are taken, 513 are not; nor is none at all. */
static void test_param_name_length(void **state)
{
    peer *p = *state;
    char name[514] = "";
    char json[640];
    char rest[640];
    memset(name, 'p', 512);
    for (int over = 0; over < 2; over++) {
        name[512] = over ? 'p' : '\0';
        (void)snprintf(json, sizeof json, "{\"params\": {\"%s\": 1}}", name);
        (void)snprintf(rest, sizeof rest, "/params/%s", name);
        (void)ask_json(p, "PUT", at("long", ""), json);
        if (over) {
            assert_problem(p, 422, "invalid-name", NULL);
            (void)get(p, at("a", rest));
            assert_problem(p, 404, "no-such-param", NULL);
        } else {
            assert_status(p, 201);
            (void)get(p, at("long", rest));
            assert_has(p, 200, "\"data\": 1}");
            (void)ask(p, "DELETE", at("long", ""), NULL, NULL, 0);
        }
    }
    (void)ask_json(p, "PUT", at("long", ""), "{\"params\": {\"\": 1}}");
    assert_problem(p, 422, "invalid-name", NULL);
    (void)get(p, at("long", ""));
    assert_problem(p, 404, "no-such-optimizer", NULL);
}

/* Moments with their statistics, before and after a step. */
static void test_read_state(void **state)
{
    peer *p = *state;
    (void)get(p, at("a", "/state/s"));
    assert_json(p, 200,
                "{\"name\": \"s\", \"shape\": [], \"dtype\": \"float64\", \"step\": 0, "
                "\"exp_avg\": {\"min\": 0, \"max\": 0, \"mean\": 0, \"norm\": 0, \"data\": 0}, "
                "\"exp_avg_sq\": {\"min\": 0, \"max\": 0, \"mean\": 0, \"norm\": 0, \"data\": "
                "0}}");
    (void)ask_json(
        p, "POST", at("a", "/step"),
        "{\"param_groups\": [{\"betas\": [0.5, 0.75]}], \"grads\": {\"w\": [[2, -4], [6, "
        "8]], \"s\": 2}}");
    assert_status(p, 200);
    (void)get(p, at("a", "/state/w"));
    assert_json(
        p, 200,
        "{\"name\": \"w\", \"shape\": [2, 2], \"dtype\": \"float32\", \"step\": 1, \"exp_avg\": "
        "{\"min\": -2, \"max\": 4, \"mean\": 1.5, \"norm\": 5.477225575051661, \"data\": [[1, "
        "-2], [3, 4]]}, \"exp_avg_sq\": {\"min\": 1, \"max\": 16, \"mean\": 7.5, \"norm\": "
        "18.81488772222678, \"data\": [[1, 4], [9, 16]]}}");
    create(p, "empty", "{\"params\": {\"e\": {\"shape\": [0, 3]}}, \"amsgrad\": true}");
    (void)get(p, at("empty", "/state/e"));
    assert_has(p, 200,
               "\"exp_avg\": {\"min\": null, \"max\": null, \"mean\": null, \"norm\": 0, "
               "\"data\": []}");
    assert_has(p, 200, "\"max_exp_avg_sq\": {\"min\": null");
}

/* Overwritten parameters: all of them, by name; moments and step stay, the epoch changes, and the
 * next step goes on from there. */
static void test_write_params(void **state)
{
    peer *p = *state;
    char before[64];
    char after[64];
    char tensors[64];
    (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": {\"w\": [[1, 1], [1, 1]], \"s\": 1}}");
    assert_status(p, 200);
    tag_of(p, before, sizeof before);
    (void)ask_json(p, "PUT", at("a", "/params"),
                   "{\"params\": {\"s\": -0.0, \"w\": [[5, 6], [7, 8]]}}");
    assert_empty(p, 204);
    tag_of(p, after, sizeof after);
    assert_string_not_equal(before, after);
    assert_non_null(strstr(after, "-s1\""));
    (void)get(p, at("a", "/params"));
    assert_json(p, 200, "{\"step\": 1, \"params\": {\"w\": [[5, 6], [7, 8]], \"s\": -0.0}}");
    (void)get(p, at("a", "/state/s"));
    assert_has(p, 200, "\"step\": 1, \"exp_avg\": {\"min\": 0.09999999999999998");
    float w[] = {9, 10, 11, 12};
    double s = 2;
    const adamd_tensor all[] = {
        {.name = "w", .dtype = ADAMD_FLOAT32, .rank = 2, .shape = {2, 2}, .data = w},
        {.name = "s", .dtype = ADAMD_FLOAT64, .data = &s}};
    file f = file_of(all, 2, NULL, NULL);
    (void)ask_file(p, "PUT", at("a", "/params"), NULL, f);
    assert_empty(p, 204);
    tag_of(p, tensors, sizeof tensors);
    assert_string_not_equal(after, tensors);
    file_free(&f);
    (void)get(p, at("a", "/params"));
    assert_json(p, 200, "{\"step\": 1, \"params\": {\"w\": [[9, 10], [11, 12]], \"s\": 2}}");
}

/* Values that do not fit all parameters overwrite none. */
static void test_write_params_refused(void **state)
{
    static const struct {
        const char *json;
        int status;
        const char *code, *member;
    } bad[] = {
        {"{\"params\": {\"w\": [[5, 6], [7, 8]]}}", 422, "missing-param", "\"param\": \"s\""},
        {"{\"params\": {}}", 422, "missing-param", NULL},
        {"{\"params\": {\"w\": [[5, 6], [7, 8]], \"s\": 1, \"x\": 1}}", 422, "unknown-param",
         "\"param\": \"x\""},
        {"{\"params\": {\"w\": [5, 6, 7, 8], \"s\": 1}}", 422, "shape-mismatch",
         "\"expected_shape\": [2, 2], \"got_shape\": [4]"},
        {"{\"params\": {\"w\": [[5, 6], [7, 8]], \"s\": [1]}}", 422, "shape-mismatch",
         "\"expected_shape\": [], \"got_shape\": [1]"},
        {"{\"params\": {\"w\": [[5, 6], [7]], \"s\": 1}}", 422, "invalid-value",
         "\"param\": \"w\""},
        {"{\"params\": {\"w\": [[5, 6], [7, 1e39]], \"s\": 1}}", 422, "invalid-value",
         "\"param\": \"w\""},
        {"{\"params\": {\"s\": 1, \"s\": 1}}", 400, "malformed-json", NULL},
        {"{\"params\": {\"s\": 1}, \"step\": 1}", 400, "unknown-field", NULL},
        {"{\"grads\": {\"s\": 1}}", 400, "unknown-field", NULL},
        {"{}", 422, "invalid-value", NULL},
        {"[]", 422, "invalid-value", NULL},
    };
    peer *p = *state;
    char *before = state_of(p, "a");
    for (size_t i = 0; i < COUNT(bad); i++) {
        (void)ask_json(p, "PUT", at("a", "/params"), bad[i].json);
        assert_problem(p, bad[i].status, bad[i].code, bad[i].member);
    }
    float w[] = {1, 2, 3, 4};
    float s[] = {1};
    const adamd_tensor wrong[] = {
        {.name = "w", .dtype = ADAMD_FLOAT32, .rank = 2, .shape = {2, 2}, .data = w},
        {.name = "s", .dtype = ADAMD_FLOAT32, .data = s}};
    file f = file_of(wrong, 2, NULL, NULL);
    (void)ask_file(p, "PUT", at("a", "/params"), NULL, f);
    assert_problem(p, 422, "dtype-mismatch", "\"param\": \"s\"");
    file_free(&f);
    f = file_of(wrong, 2, "param_groups", "[{}]"); /* which only a step takes */
    (void)ask_file(p, "PUT", at("a", "/params"), NULL, f);
    assert_problem(p, 400, "unknown-field", NULL);
    file_free(&f);
    assert_unchanged(p, "a", before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_read_params, clear),
        cmocka_unit_test_setup(test_param_names, clear),
        cmocka_unit_test_setup(test_param_name_length, clear),
        cmocka_unit_test_setup(test_read_state, clear),
        cmocka_unit_test_setup(test_write_params, clear),
        cmocka_unit_test_setup(test_write_params_refused, clear),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
