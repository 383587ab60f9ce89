/* test_bad_training.c: how gradients are gathered, said wrongly: at the creation in both forms, and
 * in a patch. Nothing has changed then. tests/unit/test_training.c reads many more. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rounds.h"

typedef struct refusal {
    const char *members;
    int status;
    const char *code;
} refusal;

static const refusal refusals[] = {
    {"\"aggregation\": \"sync\"", 422, "invalid-value"},
    {"\"aggregation\": []", 422, "invalid-value"},
    {"\"aggregation\": {\"mode\": \"eager\"}", 422, "invalid-value"},
    {"\"aggregation\": {\"mode\": \"sync\"}", 422, "invalid-value"},
    {"\"aggregation\": {\"mode\": \"sync\", \"workers\": 2, \"quorum\": 3}", 422, "invalid-value"},
    {"\"aggregation\": {\"mode\": \"sync\", \"workers\": 0}", 422, "invalid-value"},
    {"\"aggregation\": {\"mode\": \"sync\", \"workers\": 10001}", 422, "invalid-value"},
    {"\"aggregation\": {\"mode\": \"sync\", \"workers\": 2.5}", 422, "invalid-value"},
    {"\"aggregation\": {\"mode\": \"sync\", \"workers\": \"2\"}", 422, "invalid-value"},
    {"\"aggregation\": {\"mode\": \"sync\", \"workers\": 2, \"timeout_ms\": 0}", 422,
     "invalid-value"},
    {"\"aggregation\": {\"mode\": \"sync\", \"workers\": 2, \"timeout_ms\": 3600001}", 422,
     "invalid-value"},
    {"\"aggregation\": {\"mode\": \"sync\", \"workers\": 2, \"reduce\": \"median\"}", 422,
     "invalid-value"},
    {"\"aggregation\": {\"mode\": \"sync\", \"workers\": 2, \"elastic\": \"yes\"}", 422,
     "invalid-value"},
    {"\"aggregation\": {\"mode\": \"sync\", \"workers\": 2, \"size\": 2}", 400, "unknown-field"},
    {"\"aggregation\": {\"mode\": \"sync\", \"workers\": 2, \"Strict\": true}", 400,
     "unknown-field"},
    {"\"aggregation\": {\"mode\": \"immediate\", \"workers\": 2}", 400, "unknown-field"},
    {"\"aggregation\": {\"mode\": \"buffered\"}", 422, "invalid-value"},
    {"\"aggregation\": {\"mode\": \"buffered\", \"size\": 2, \"quorum\": 1}", 400, "unknown-field"},
    {"\"aggregation\": {\"mode\": \"async\"}", 422, "invalid-value"},
    {"\"aggregation\": {\"mode\": \"async\", \"max_staleness\": -1}", 422, "invalid-value"},
    {"\"aggregation\": {\"mode\": \"async\", \"max_staleness\": 1, \"damping\": \"linear\"}", 422,
     "invalid-value"},
    {"\"aggregation\": {\"mode\": \"async\", \"max_staleness\": 1, \"reduce\": \"mean\"}", 400,
     "unknown-field"},
    {"\"input\": \"parameters\"", 422, "invalid-value"},
    {"\"input\": 1", 422, "invalid-value"},
    {"\"max_consecutive_nonfinite\": 0", 422, "invalid-value"},
    {"\"max_consecutive_nonfinite\": 1000001", 422, "invalid-value"},
    {"\"max_consecutive_nonfinite\": true", 422, "invalid-value"},
    {"\"aggregations\": {}", 400, "unknown-field"},
    {"\"aggregation\": {\"mode\": \"async\", \"mode\": \"sync\"}", 400, "malformed-json"},
};

static void test_creation(void **state)
{
    peer *p = *state;
    char json[512];
    float w[] = {1};
    const adamd_tensor t = vector32("w", w, 1);
    remove_all(p);
    for (size_t i = 0; i < COUNT(refusals); i++) {
        const refusal *r = &refusals[i];
        (void)snprintf(json, sizeof json, "{\"params\": {\"w\": [1]}, %s}", r->members);
        (void)ask_json(p, "PUT", at("a", ""), json);
        assert_problem(p, r->status, r->code, NULL);
        (void)snprintf(json, sizeof json, "{%s}", r->members);
        file f = file_of(&t, 1, "optimizer", json);
        (void)ask_file(p, "PUT", at("a", ""), NULL, f);
        file_free(&f);
        assert_problem(p, r->status, r->code, NULL);
        (void)get(p, at("a", ""));
        assert_problem(p, 404, "no-such-optimizer", NULL);
    }
}

static void test_patch(void **state)
{
    static const char *const befores[] = {
        "\"aggregation\": null",
        "\"aggregation\": {\"mode\": \"buffered\", \"size\": 5, \"reduce\": \"sum\"}",
    };
    peer *p = *state;
    char json[512];
    remove_all(p);
    for (size_t k = 0; k < COUNT(befores); k++) {
        (void)snprintf(json, sizeof json, "{\"params\": {\"w\": [1]}, %s}", befores[k]);
        create(p, "a", json);
        (void)get(p, at("a", ""));
        char *before = strdup(body_of(p));
        assert_non_null(before);
        for (size_t i = 0; i < COUNT(refusals); i++) {
            const refusal *r = &refusals[i];
            if (k == 1 && strstr(r->members, "{\"mode\": \"buffered\"}") != NULL) {
                continue; /* which says nothing new */
            }
            (void)snprintf(json, sizeof json, "{\"max_grad_norm\": 1, %s}", r->members);
            (void)ask_json(p, "PATCH", at("a", ""), json);
            assert_problem(p, r->status, r->code, NULL);
            (void)get(p, at("a", ""));
            assert_string_equal(body_of(p), before);
        }
        free(before);
        (void)ask(p, "DELETE", at("a", ""), NULL, NULL, 0);
    }
}

/* Both forms of a creation take them, and the summary shows them whole. */
static void test_taken(void **state)
{
    static const char *const said = "{\"defaults\": {\"lr\": 0.5}, \"aggregation\": {\"mode\": "
                                    "\"buffered\", \"size\": 2}, \"input\": "
                                    "\"weights\", \"max_consecutive_nonfinite\": 7}";
    static const char *const shown =
        "\"aggregation\": {\"mode\": \"buffered\", \"size\": 2, \"reduce\": \"mean\", \"strict\": "
        "false}, \"input\": \"weights\", \"max_consecutive_nonfinite\": 7}";
    peer *p = *state;
    float w[] = {1};
    const adamd_tensor t = vector32("w", w, 1);
    remove_all(p);
    file f = file_of(&t, 1, "optimizer", said);
    (void)ask_file(p, "PUT", at("a", ""), NULL, f);
    file_free(&f);
    assert_has(p, 201, shown);
    (void)get(p, at("a", ""));
    assert_has(p, 200, shown);
    (void)ask_json(p, "PATCH", at("a", ""),
                   "{\"aggregation\": {\"reduce\": \"weighted\"}, \"input\": null, "
                   "\"max_consecutive_nonfinite\": null}");
    assert_has(
        p, 200,
        "\"aggregation\": {\"mode\": \"buffered\", \"size\": 2, \"reduce\": \"weighted\", "
        "\"strict\": false}, \"input\": \"gradients\", \"max_consecutive_nonfinite\": null}");
    (void)ask_json(p, "PATCH", at("a", ""), "{\"aggregation\": null}");
    assert_has(p, 200, "\"aggregation\": {\"mode\": \"immediate\"}");
}

/* What is looked at and ended has no body, and other methods are told so. */
static void test_paths(void **state)
{
    static const char *const rest[] = {"/round", "/workers", "/workers/x"};
    static const char *const allow[] = {"GET, HEAD, DELETE", "GET, HEAD", "DELETE"};
    peer *p = *state;
    remove_all(p);
    create(p, "a", "{\"params\": {\"w\": [1]}}");
    for (size_t i = 0; i < COUNT(rest); i++) {
        (void)ask_json(p, "POST", at("a", rest[i]), "{}");
        assert_problem(p, 405, "method-not-allowed", NULL);
        assert_header(p, "Allow", allow[i]);
        (void)ask(p, i == 1 ? "GET" : "DELETE", at("b", rest[i]), NULL, NULL, 0);
        assert_problem(p, 404, "no-such-optimizer", NULL);
        if (i < 2) {
            (void)get(p, at("a", i == 0 ? "/round?x=1" : "/workers?x=1"));
            assert_problem(p, 400, "invalid-query", NULL);
        }
    }
    (void)get(p, at("a", "/round"));
    assert_json(p, 200,
                "{\"mode\": \"immediate\", \"step\": 0, \"open\": false, \"gradients\": 0, "
                "\"wanted\": 1, \"quorum\": 1, \"waiting\": 0, \"workers\": [], \"closes_in_ms\": "
                "null}");
    (void)ask(p, "DELETE", at("a", "/round"), NULL, NULL, 0);
    assert_empty(p, 204);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_creation),
        cmocka_unit_test(test_patch),
        cmocka_unit_test(test_taken),
        cmocka_unit_test(test_paths),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
