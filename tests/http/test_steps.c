/* test_steps.c: steps in JSON: the reply, partial gradients, overrides, Prefer and Adam-Worker. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

static int clear(void **state)
{
    remove_all(*state);
    return 0;
}

/* The step of the ETag, which is "e<epoch>-s<step>". */
static void assert_etag_step(const peer *p, unsigned step)
{
    unsigned epoch = 0;
    unsigned got = 0;
    char end = 0;
    const char *etag = adamd_response_header(&p->reply, "ETag", 0);
    assert_non_null(etag);
    assert_int_equal(sscanf(etag, "\"e%u-s%u%c", &epoch, &got, &end), 3);
    assert_int_equal(end, '"');
    assert_int_equal(got, step);
}

/* A whole reply, as the documentation shows it. The first step of Adam moves by lr. */
static void test_reply(void **state)
{
    peer *p = *state;
    create(p, "a", "{\"params\": {\"w\": [0.5, -1]}, \"lr\": 0.1}");
    (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": {\"w\": [3, 4]}}");
    assert_has(p, 200,
               "{\"step\": 1, \"params\": {\"w\": [0.4, -1.1]}, \"stats\": {\"grad_norm\": 5, "
               "\"param_norm\": 1.17");
    assert_has(p, 200, ", \"update_norm\": 0.1414213");
    assert_has(p, 200,
               ", \"clip_coef\": 1, \"skipped\": false, \"converted\": 0, \"param_groups\": "
               "[{\"grad_norm\": 5, ");
    assert_has(p, 200, ", \"clip_coef\": 1}]}}\n");
    assert_etag_step(p, 1);
    (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": {\"w\": [3, 4]}}");
    assert_has(p, 200, "{\"step\": 2, \"params\": {\"w\": [0.3");
    assert_etag_step(p, 2);
    (void)get(p, at("a", ""));
    assert_has(p, 200, "\"step\": 2, ");
    assert_etag_step(p, 2);
}

/* A parameter without a gradient is left out, as torch does where grad is None: its values, moments
 * and own step count stay, and the reply does not name it. */
static void test_partial(void **state)
{
    peer *p = *state;
    create(p, "a", "{\"params\": {\"u\": [1], \"v\": [2], \"w\": [3]}, \"lr\": 0.5}");
    (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": {\"w\": [1], \"u\": [-1]}}");
    assert_has(p, 200, "{\"step\": 1, \"params\": {\"w\": [2.5], \"u\": [1.5]}, ");
    (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": {\"v\": [1]}}");
    assert_has(p, 200, "{\"step\": 2, \"params\": {\"v\": [1.5]}, ");
    (void)get(p, at("a", "/params"));
    assert_json(p, 200, "{\"step\": 2, \"params\": {\"u\": [1.5], \"v\": [1.5], \"w\": [2.5]}}");
    (void)get(p, at("a", "/state/u"));
    assert_has(p, 200, "\"step\": 1, \"exp_avg\": {\"min\": -0.1, \"max\": -0.1, ");
    (void)get(p, at("a", "/state/v"));
    assert_has(p, 200, "\"step\": 1, \"exp_avg\": {\"min\": 0.1, \"max\": 0.1, ");
}

/* Overrides come with the step as one change, for each group in order, and stay. */
static void test_overrides(void **state)
{
    peer *p = *state;
    create(p, "a",
           "{\"param_groups\": [{\"params\": [{\"name\": \"u\", \"data\": [1]}], \"lr\": 0},"
           " {\"params\": [{\"name\": \"v\", \"data\": [1]}], \"lr\": 0.25}]}");
    (void)ask_json(p, "POST", at("a", "/step"),
                   "{\"param_groups\": [{}, {\"lr\": 0.125, \"betas\": [0.5, 0.5]}], "
                   "\"grads\": {\"u\": [1], \"v\": [1]}}");
    assert_has(p, 200, "\"params\": {\"u\": [1], \"v\": [0.875]}");
    (void)get(p, at("a", "/param_groups"));
    assert_has(p, 200, "\"lr\": 0, \"betas\": [0.9, 0.999]");
    assert_has(p, 200, "\"lr\": 0.125, \"betas\": [0.5, 0.5]");
    /* refused with the step: neither is applied */
    char *before = state_of(p, "a");
    (void)ask_json(
        p, "POST", at("a", "/step"),
        "{\"grads\": {\"u\": [1], \"v\": [\"NaN\"]}, \"param_groups\": [{\"lr\": 9}, {}]}");
    assert_problem(p, 422, "non-finite", NULL);
    (void)ask_json(p, "POST", at("a", "/step"),
                   "{\"grads\": {\"u\": [1]}, \"param_groups\": [{\"lr\": 9}, {\"lr\": -1}]}");
    assert_problem(p, 422, "invalid-option", NULL);
    assert_unchanged(p, "a", before);
}

/* The same in safetensors, where they stand in the metadata. */
static void test_overrides_in_metadata(void **state)
{
    peer *p = *state;
    float w[] = {1};
    const adamd_tensor t = vector32("w", w, 1);
    create(p, "a", "{\"params\": {\"w\": [1]}, \"lr\": 0.5}");
    file f = file_of(&t, 1, "param_groups", "[{\"lr\": 0.25, \"maximize\": true}]");
    (void)ask_file(p, "POST", at("a", "/step"), NULL, f);
    take_tensors(p, &t, 1);
    assert_true(w[0] == 1.25F);
    assert_metadata(p, "step", "1");
    assert_metadata(p, "grad_norm", "1");
    assert_metadata(p, "param_norm", "1.25");
    assert_metadata(p, "clip_coef", "1");
    file_free(&f);
    (void)get(p, at("a", "/param_groups"));
    assert_has(p, 200, "\"lr\": 0.25, ");
    assert_has(p, 200, "\"maximize\": true, ");
    char *before = state_of(p, "a");
    static const char *const bad[] = {"[]", "[{}, {}]", "{}", "[1]", "[{\"lr\": \"x\"}]"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        f = file_of(&t, 1, "param_groups", bad[i]);
        (void)ask_file(p, "POST", at("a", "/step"), NULL, f);
        assert_problem(p, 422, "invalid-value", NULL);
        file_free(&f);
    }
    f = file_of(&t, 1, "param_groups", "[{\"lr\": 1");
    (void)ask_file(p, "POST", at("a", "/step"), NULL, f);
    assert_problem(p, 400, "malformed-json", NULL);
    file_free(&f);
    assert_unchanged(p, "a", before);
}

/* Prefer: return=minimal steps and sends no parameters; the ETag says what it came to. */
static void test_minimal(void **state)
{
    static const char *const minimal[] = {"Prefer: return=minimal",
                                          "Prefer: respond-async, return=minimal",
                                          "Prefer: return=minimal; foo=bar, wait=3",
                                          "Prefer:\treturn=minimal ,x", "prefer: RETURN=minimal"};
    static const char *const whole[] = {"Prefer: return=representation", "Prefer: xreturn=minimal",
                                        "Prefer: return=minimally", "Prefer: x;return=minimal"};
    peer *p = *state;
    unsigned step = 0;
    create(p, "a", "{\"params\": {\"w\": [1]}, \"lr\": 0}");
    for (size_t i = 0; i < COUNT(minimal); i++) {
        (void)ask_json_with(p, "POST", at("a", "/step"), minimal[i], "{\"grads\": {\"w\": [1]}}");
        assert_empty(p, 204);
        assert_header(p, "Preference-Applied", "return=minimal");
        assert_header(p, "Content-Type", NULL);
        assert_etag_step(p, ++step);
    }
    for (size_t i = 0; i < COUNT(whole); i++) {
        (void)ask_json_with(p, "POST", at("a", "/step"), whole[i], "{\"grads\": {\"w\": [1]}}");
        assert_has(p, 200, "\"params\": {\"w\": [1]}");
        assert_header(p, "Preference-Applied", NULL);
        assert_etag_step(p, ++step);
    }
    const char *const lines[] = {"Content-Type: application/json", "Prefer: wait=3",
                                 "Prefer: return=minimal", NULL};
    static const char body[] = "{\"grads\": {\"w\": [1]}}";
    (void)ask(p, "POST", at("a", "/step"), lines, body, strlen(body));
    assert_empty(p, 204);
    /* a refused step is refused in full */
    (void)ask_json_with(p, "POST", at("a", "/step"), minimal[0], "{\"grads\": {\"w\": [1, 2]}}");
    assert_problem(p, 422, "shape-mismatch", NULL);
    assert_header(p, "Preference-Applied", NULL);
}

/* Adam-Worker is 1 to 128 visible ASCII characters, and no more than one. */
static void test_worker(void **state)
{
    static const char step[] = "{\"grads\": {\"w\": [1]}}";
    static const char *const bad[] = {"Adam-Worker;", "Adam-Worker: a b", "Adam-Worker: \xc3\xa9",
                                      "Adam-Worker: a\x7f"};
    peer *p = *state;
    char line[160] = "Adam-Worker: ";
    create(p, "a", "{\"params\": {\"w\": [1]}}");
    (void)ask_json_with(p, "POST", at("a", "/step"), "Adam-Worker: rank-3", step);
    assert_status(p, 200);
    const size_t length = strlen(line);
    memset(line + length, '~', 128);
    (void)ask_json_with(p, "POST", at("a", "/step"), line, step);
    assert_status(p, 200);
    char *before = state_of(p, "a");
    line[length + 128] = '~';
    (void)ask_json_with(p, "POST", at("a", "/step"), line, step);
    assert_problem(p, 400, "malformed-request", "\"header\": \"Adam-Worker\"");
    for (size_t i = 0; i < COUNT(bad); i++) {
        (void)ask_json_with(p, "POST", at("a", "/step"), bad[i], step);
        assert_problem(p, 400, "malformed-request", "\"header\": \"Adam-Worker\"");
    }
    const char *const twice[] = {"Content-Type: application/json", "Adam-Worker: a",
                                 "Adam-Worker: a", NULL};
    (void)ask(p, "POST", at("a", "/step"), twice, step, strlen(step));
    assert_problem(p, 400, "malformed-request", "\"header\": \"Adam-Worker\"");
    assert_unchanged(p, "a", before);
}

/* A header that would ask for what this version does not do is refused rather than ignored: a
 * client that counts on it must not find out later. */
static void test_unknown_adam_headers(void **state)
{
    static const struct {
        const char *line, *member;
    } bad[] = {{"Adam-Foo: 1", "\"header\": \"Adam-Foo\""},
               {"adam-clip: 1", "\"header\": \"adam-clip\""}};
    peer *p = *state;
    create(p, "a", "{\"params\": {\"w\": [1]}}");
    char *before = state_of(p, "a");
    for (size_t i = 0; i < COUNT(bad); i++) {
        (void)ask_json_with(p, "POST", at("a", "/step"), bad[i].line, "{\"grads\": {\"w\": [1]}}");
        assert_problem(p, 400, "malformed-request", bad[i].member);
        (void)get_with(p, "/livez", bad[i].line);
        assert_problem(p, 400, "malformed-request", bad[i].member);
    }
    assert_unchanged(p, "a", before);
    (void)get_with(p, "/livez", "Adamant: 1"); /* anybody else's headers are not our business */
    assert_status(p, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_reply, clear),
        cmocka_unit_test_setup(test_partial, clear),
        cmocka_unit_test_setup(test_overrides, clear),
        cmocka_unit_test_setup(test_overrides_in_metadata, clear),
        cmocka_unit_test_setup(test_minimal, clear),
        cmocka_unit_test_setup(test_worker, clear),
        cmocka_unit_test_setup(test_unknown_adam_headers, clear),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
