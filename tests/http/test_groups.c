/* test_groups.c: param_groups: shown as torch shows them, added, and patched. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

#define REST                                                                                      \
    "\"eps\": 1e-08, \"weight_decay\": 0, \"amsgrad\": false, \"maximize\": false, \"foreach\": " \
    "null, \"capturable\": false, \"differentiable\": false, \"fused\": null}"

static int clear(void **state)
{
    remove_all(*state);
    create(*state, "a",
           "{\"defaults\": {\"lr\": 0.5}, \"param_groups\": [{\"params\": [{\"name\": \"u\", "
           "\"data\": [[1, 2]]}]}, {\"params\": [{\"name\": \"v\", \"dtype\": \"float64\", "
           "\"data\": 3}], \"betas\": [0.5, 0.75], \"foreach\": false, \"fused\": false}]}");
    return 0;
}

/* The ETag of an optimizer now. */
static void etag_of(peer *p, char *out, size_t size)
{
    (void)get(p, at("a", ""));
    assert_status(p, 200);
    (void)snprintf(out, size, "%s", adamd_response_header(&p->reply, "ETag", 0));
}

/* torch's keys in torch's order, torch's values. */
static void test_show(void **state)
{
    peer *p = *state;
    (void)get(p, at("a", "/param_groups"));
    assert_json(p, 200,
                "[{\"params\": [{\"name\": \"u\", \"shape\": [1, 2], \"dtype\": \"float32\", "
                "\"data\": [[1, 2]]}], \"lr\": 0.5, \"betas\": [0.9, 0.999], " REST
                ", {\"params\": [{\"name\": \"v\", \"shape\": [], \"dtype\": \"float64\", "
                "\"data\": 3}], \"lr\": 0.5, \"betas\": [0.5, 0.75], \"eps\": 1e-08, "
                "\"weight_decay\": 0, \"amsgrad\": false, \"maximize\": false, \"foreach\": false, "
                "\"capturable\": false, \"differentiable\": false, \"fused\": false}]");
    (void)get(p, at("a", "/param_groups?data=none"));
    assert_has(p, 200, "{\"name\": \"u\", \"shape\": [1, 2], \"dtype\": \"float32\"}");
    assert_null(strstr(body_of(p), "\"data\""));
}

/* `data` stands up to 1000 elements, and everywhere or nowhere where that is asked for. */
static void test_data(void **state)
{
    static const char *const paths[] = {"/param_groups", "/state/%s"};
    peer *p = *state;
    create(p, "b",
           "{\"params\": {\"small\": {\"shape\": [10, 100]}, \"large\": {\"shape\": "
           "[7, 11, 13]}}}");
    for (size_t i = 0; i < COUNT(paths); i++) {
        for (int large = 0; large < 2; large++) {
            char path[64];
            char shown[64];
            (void)snprintf(path, sizeof path, paths[i], large ? "large" : "small");
            (void)snprintf(shown, sizeof shown, "\"name\": \"%s\"", large ? "large" : "small");
            (void)get(p, at("b", path));
            assert_has(p, 200, shown);
            const char *from = strstr(body_of(p), shown);
            const char *to = i == 0 ? strchr(from, '}') : from + strlen(from);
            const char *data = strstr(from, "\"data\"");
            assert_int_equal(data != NULL && data < to, !large);
        }
    }
    (void)get(p, at("b", "/param_groups?data=all"));
    assert_has(p, 200, "[7, 11, 13], \"dtype\": \"float32\", \"data\": [[[0, 0");
    (void)get(p, at("b", "/state/large?data=all"));
    assert_has(p, 200, "\"data\": [[[0, 0");
    (void)get(p, at("b", "/state/small?data=none"));
    assert_null(strstr(body_of(p), "\"data\""));
    (void)get(p, at("b", "/params/large")); /* one parameter is asked for its data */
    assert_has(p, 200, "\"data\": [[[0, 0");
}

/* A group of any size comes as a file: its tensors are the parameters, the rest stands in the
 * metadata. What does not fit is refused and changes nothing. */
static void test_add_file(void **state)
{
    static const struct {
        const char *key, *value;
        int status;
        const char *code;
    } bad[] = {
        {"param_groups", "{}", 400, "unknown-field"},
        {"param_group", "{\"params\": [\"x\"]}", 400, "unknown-field"},
        {"param_group", "{\"momentum\": 1}", 400, "unknown-field"},
        {"param_group", "[]", 422, "invalid-value"},
        {"param_group", "{", 400, "malformed-json"},
        {"param_group", "{\"lr\": -1}", 422, "invalid-option"},
        {"param_group", "{\"schedule\": {\"name\": \"StepLR\"}}", 422, "invalid-value"},
    };
    peer *p = *state;
    create(p, "file", "{\"params\": {\"w\": [1]}, \"lr\": 0.5}");
    float x[] = {1, 2, 3};
    double y[] = {4};
    const adamd_tensor tensors[] = {vector32("x", x, 3), vector64("y", y, 1)};
    char *before = state_of(p, "file");
    for (size_t i = 0; i < COUNT(bad); i++) {
        file f = file_of(tensors, 2, bad[i].key, bad[i].value);
        (void)ask_file(p, "POST", at("file", "/param_groups"), NULL, f);
        assert_problem(p, bad[i].status, bad[i].code, NULL);
        file_free(&f);
    }
    assert_unchanged(p, "file", before);
    file f = file_of(tensors, 2, "param_group",
                     "{\"eps\": 1e-6, \"schedule\": {\"name\": \"StepLR\", \"step_size\": 2}}");
    (void)ask_file(p, "POST", at("file", "/param_groups"), NULL, f);
    assert_has(p, 201,
               "{\"name\": \"x\", \"shape\": [3], \"dtype\": \"float32\", \"data\": [1, 2, 3]}");
    assert_has(p, 201, "{\"name\": \"y\", \"shape\": [1], \"dtype\": \"float64\", \"data\": [4]}");
    assert_has(p, 201, "\"lr\": 0.5, \"betas\": [0.9, 0.999], \"eps\": 1e-06, ");
    assert_has(p, 201,
               "\"initial_lr\": 0.5, \"schedule\": {\"name\": \"StepLR\", \"step_size\": 2, ");
    assert_header(p, "Location", "/v1/optimizers/file/param_groups/1");
    (void)ask_file(p, "POST", at("file", "/param_groups"), NULL, f);
    assert_problem(p, 422, "duplicate-param", NULL);
    file_free(&f);
}

/* torch's add_param_group: what it leaves out comes from the optimizer's defaults, its state starts
 * at zero, and the epoch changes. */
static void test_add(void **state)
{
    peer *p = *state;
    char before[64];
    char after[64];
    etag_of(p, before, sizeof before);
    (void)ask_json(p, "POST", at("a", "/param_groups"),
                   "{\"params\": [{\"name\": \"w\", \"data\": [7]}], \"eps\": 1e-06}");
    assert_json(
        p, 201,
        "{\"params\": [{\"name\": \"w\", \"shape\": [1], \"dtype\": \"float32\", \"data\": "
        "[7]}], \"lr\": 0.5, \"betas\": [0.9, 0.999], \"eps\": 1e-06, \"weight_decay\": 0, "
        "\"amsgrad\": false, \"maximize\": false, \"foreach\": null, \"capturable\": false, "
        "\"differentiable\": false, \"fused\": null}");
    assert_header(p, "Location", "/v1/optimizers/a/param_groups/2");
    assert_header(p, "Preference-Applied", NULL);
    etag_of(p, after, sizeof after);
    assert_string_not_equal(before, after);
    assert_has(p, 200, "\"param_groups\": 3, \"params\": 3, \"numel\": 4");
    (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": {\"w\": [1]}}");
    assert_has(p, 200, "\"params\": {\"w\": [6.5000005]}"); /* eps of its own */
}

/* Refused groups leave the optimizer as it was. */
static void test_add_refused(void **state)
{
    static const struct {
        const char *json;
        int status;
        const char *code, *member;
    } bad[] = {
        {"{\"params\": [{\"name\": \"u\", \"data\": [7]}]}", 422, "duplicate-param",
         "\"param\": \"u\""},
        {"{\"params\": [{\"name\": \"x\", \"data\": [7]}, {\"name\": \"x\", \"data\": [7]}]}", 422,
         "duplicate-param", "\"param\": \"x\""},
        {"{\"params\": [{\"name\": \"x\", \"data\": [7]}], \"lr\": -1}", 422, "invalid-option",
         NULL},
        {"{\"params\": [{\"name\": \"x\", \"data\": [7]}], \"defaults\": {}}", 400, "unknown-field",
         NULL},
        {"{\"params\": [{\"name\": \"x\"}]}", 422, "invalid-value", "\"param\": \"x\""},
        {"{\"params\": [\"x\"]}", 422, "invalid-value", NULL},
        {"{\"params\": [1, {\"name\": \"x\", \"data\": [7]}]}", 422, "invalid-value", NULL},
        {"{\"params\": {\"x\": [7]}}", 422, "invalid-value", NULL},
        {"{\"lr\": 1}", 422, "invalid-value", NULL},
        {"[{\"params\": []}]", 422, "invalid-value", NULL},
        {"{\"params\": []", 400, "malformed-json", "\"position\": 13"},
        {"", 400, "malformed-json", "\"position\": 0"},
    };
    peer *p = *state;
    char *before = state_of(p, "a");
    for (size_t i = 0; i < COUNT(bad); i++) {
        (void)ask_json(p, "POST", at("a", "/param_groups"), bad[i].json);
        assert_problem(p, bad[i].status, bad[i].code, bad[i].member);
        assert_header(p, "Location", NULL);
    }
    assert_unchanged(p, "a", before);
}

/* A merge patch changes what it names and nothing else; epoch and step stay. */
static void test_patch(void **state)
{
    static const char *const types[] = {"Content-Type: application/merge-patch+json",
                                        "Content-Type: application/json; charset=utf-8"};
    peer *p = *state;
    char before[64];
    etag_of(p, before, sizeof before);
    for (size_t i = 0; i < COUNT(types); i++) {
        char patch[64];
        char expected[128];
        const char *const headers[] = {types[i], NULL};
        (void)snprintf(patch, sizeof patch, "{\"lr\": 0.%zu, \"maximize\": true}", i + 1);
        (void)ask(p, "PATCH", at("a", "/param_groups/1"), headers, patch, strlen(patch));
        (void)snprintf(expected, sizeof expected, "\"lr\": 0.%zu, \"betas\": [0.5, 0.75]", i + 1);
        assert_has(p, 200, expected);
        assert_has(p, 200, "{\"params\": [{\"name\": \"v\", ");
        assert_has(p, 200, "\"maximize\": true, \"foreach\": false");
        assert_header(p, "ETag", before);
    }
    (void)ask_json(p, "PATCH", at("a", "/param_groups/1"), "{}");
    assert_has(p, 200, "\"lr\": 0.2, \"betas\": [0.5, 0.75]");
    (void)ask_json(p, "PATCH", at("a", "/param_groups/1"), "{\"foreach\": null, \"fused\": null}");
    assert_has(p, 200,
               "\"foreach\": null, \"capturable\": false, \"differentiable\": false, "
               "\"fused\": null}");
    (void)get(p, at("a", "/param_groups"));
    assert_has(p, 200, "\"lr\": 0.5, \"betas\": [0.9, 0.999]"); /* the other group */
}

/* A patch that is refused changes nothing, not even what was right in it. */
static void test_patch_refused(void **state)
{
    static const struct {
        const char *json;
        int status;
        const char *code;
    } bad[] = {
        {"{\"params\": []}", 400, "unknown-field"},
        {"{\"lrate\": 1}", 400, "unknown-field"},
        {"{\"LR\": 1}", 400, "unknown-field"},
        {"{\"lr\": 1, \"lr\": 1}", 400, "malformed-json"},
        {"{\"lr\": 1,}", 400, "malformed-json"},
        {"[]", 422, "invalid-value"},
        {"null", 422, "invalid-value"},
        {"{\"lr\": null}", 422, "invalid-value"},
        {"{\"lr\": \"0.1\"}", 422, "invalid-value"},
        {"{\"lr\": [0.1]}", 422, "invalid-value"},
        {"{\"lr\": 1e999}", 422, "invalid-value"},
        {"{\"lr\": \"NaN\"}", 422, "invalid-value"},
        {"{\"betas\": 0.9}", 422, "invalid-value"},
        {"{\"betas\": [0.9]}", 422, "invalid-value"},
        {"{\"betas\": [0.9, 0.99, 0.999]}", 422, "invalid-value"},
        {"{\"betas\": [[0.9, 0.99]]}", 422, "invalid-value"},
        {"{\"betas\": [0.9, \"x\"]}", 422, "invalid-value"},
        {"{\"amsgrad\": 1}", 422, "invalid-value"},
        {"{\"maximize\": \"true\"}", 422, "invalid-value"},
        {"{\"foreach\": 0}", 422, "invalid-value"},
        {"{\"capturable\": null}", 422, "invalid-value"},
        {"{\"foreach\": true}", 422, "unsupported-option"},
        {"{\"fused\": true}", 422, "unsupported-option"},
        {"{\"capturable\": true}", 422, "unsupported-option"},
        {"{\"differentiable\": true}", 422, "unsupported-option"},
        {"{\"lr\": -0.1}", 422, "invalid-option"},
        {"{\"eps\": -1e-300}", 422, "invalid-option"},
        {"{\"weight_decay\": -1}", 422, "invalid-option"},
        {"{\"betas\": [1, 0.9]}", 422, "invalid-option"},
        {"{\"betas\": [0.9, 1.0]}", 422, "invalid-option"},
        {"{\"betas\": [-0.1, 0.9]}", 422, "invalid-option"},
        {"{\"betas\": [0.9, \"NaN\"]}", 422, "invalid-option"},
        {"{\"maximize\": true, \"lr\": -1}", 422, "invalid-option"},
    };
    peer *p = *state;
    char *before = state_of(p, "a");
    for (size_t i = 0; i < COUNT(bad); i++) {
        (void)ask_json(p, "PATCH", at("a", "/param_groups/0"), bad[i].json);
        assert_problem(p, bad[i].status, bad[i].code, NULL);
    }
    assert_unchanged(p, "a", before);
}

/* Groups are counted from 0, in plain decimal. */
static void test_patch_index(void **state)
{
    static const char *const bad[] = {"/param_groups/2",   "/param_groups/-1",
                                      "/param_groups/1.0", "/param_groups/x",
                                      "/param_groups/+1",  "/param_groups/4097",
                                      "/param_groups/%20", "/param_groups/18446744073709551616"};
    peer *p = *state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        (void)ask_json(p, "PATCH", at("a", bad[i]), "{\"lr\": 1}");
        assert_problem(p, 404, "no-such-group", NULL);
    }
}

/* amsgrad needs its maximum from the first step on; torch raises a KeyError there. */
static void test_patch_amsgrad(void **state)
{
    peer *p = *state;
    (void)ask_json(p, "PATCH", at("a", "/param_groups/1"), "{\"amsgrad\": true}");
    assert_has(p, 200, "\"amsgrad\": true");
    (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": {\"u\": [[1, 1]], \"v\": 1}}");
    assert_status(p, 200);
    (void)get(p, at("a", "/state/v"));
    assert_has(p, 200, "\"max_exp_avg_sq\": {");
    char *before = state_of(p, "a");
    (void)ask_json(p, "PATCH", at("a", "/param_groups/0"), "{\"amsgrad\": true}");
    assert_problem(p, 422, "state-mismatch", NULL);
    (void)ask_json(p, "POST", at("a", "/step"),
                   "{\"grads\": {\"v\": 1}, \"param_groups\": [{\"amsgrad\": true}, {}]}");
    assert_problem(p, 422, "state-mismatch", NULL);
    assert_unchanged(p, "a", before);
    (void)ask_json(p, "PATCH", at("a", "/param_groups/1"), "{\"amsgrad\": false}");
    assert_status(p, 200);
    (void)get(p, at("a", "/state/v"));
    assert_has(p, 200, "\"max_exp_avg_sq\": {"); /* is or was on */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_show, clear),
        cmocka_unit_test_setup(test_data, clear),
        cmocka_unit_test_setup(test_add, clear),
        cmocka_unit_test_setup(test_add_file, clear),
        cmocka_unit_test_setup(test_add_refused, clear),
        cmocka_unit_test_setup(test_patch, clear),
        cmocka_unit_test_setup(test_patch_refused, clear),
        cmocka_unit_test_setup(test_patch_index, clear),
        cmocka_unit_test_setup(test_patch_amsgrad, clear),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
