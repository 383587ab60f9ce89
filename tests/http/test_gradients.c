/* test_gradients.c: what is done with gradients, set at creation, by PATCH and with a step, in both
 * forms. The arithmetic is held to torch by tests/golden/test_clip.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

static int clear(void **state)
{
    remove_all(*state);
    return 0;
}

/* Whatever they are called, they stand in the summary, in one order. */
static void test_shown(void **state)
{
    peer *p = *state;
    create(p, "a", "{\"params\": {\"w\": [1]}}");
    (void)get(p, at("a", ""));
    assert_has(
        p, 200,
        "\"grad_scale\": 1, \"nonfinite\": \"error\", \"max_grad_norm\": null, \"norm_type\": "
        "2, \"error_if_nonfinite\": false, \"clip_value\": null");
    assert_has(p, 200, "\"skipped\": 0");
    create(p, "b",
           "{\"params\": {\"w\": [1]}, \"clip_value\": 0.5, \"grad_scale\": 65536, \"norm_type\": "
           "\"inf\", \"max_grad_norm\": 0, \"nonfinite\": \"skip\", \"error_if_nonfinite\": true}");
    assert_has(p, 201,
               "\"grad_scale\": 65536, \"nonfinite\": \"skip\", \"max_grad_norm\": 0, "
               "\"norm_type\": \"inf\", \"error_if_nonfinite\": true, \"clip_value\": 0.5");
}

/* At creation they may stand at the top of every form. */
static void test_creation_forms(void **state)
{
    static const char *const forms[] = {"{\"params\": {\"w\": [1]}, \"clip_value\": 0.5}",
                                        "{\"param_groups\": [{\"params\": [{\"name\": \"w\", "
                                        "\"data\": [1]}]}], \"clip_value\": 0.5}",
                                        "{\"params\": {\"w\": [1]}, \"param_groups\": "
                                        "[{\"params\": [\"w\"]}], \"clip_value\": 0.5}"};
    peer *p = *state;
    float w[] = {1};
    const adamd_tensor t = vector32("w", w, 1);
    for (size_t i = 0; i < COUNT(forms); i++) {
        (void)ask_json(p, "PUT", at("a", ""), forms[i]);
        assert_has(p, 201, "\"clip_value\": 0.5");
        remove_all(p);
    }
    file f = file_of(&t, 1, "optimizer", "{\"clip_value\": 0.5, \"max_grad_norm\": null}");
    (void)ask_file(p, "PUT", at("a", ""), NULL, f);
    assert_has(p, 201, "\"clip_value\": 0.5");
    file_free(&f);
    (void)ask_json(p, "PUT", at("b", ""),
                   "{\"params\": {\"w\": [1]}, \"param_groups\": [{\"params\": [\"w\"], "
                   "\"clip_value\": 0.5}]}");
    assert_problem(p, 400, "unknown-field", NULL); /* they are the optimizer's, not a group's */
    (void)get(p, at("b", ""));
    assert_problem(p, 404, "no-such-optimizer", NULL);
}

/* PATCH changes what it names; null is the default. Neither epoch nor step changes. */
static void test_patch(void **state)
{
    peer *p = *state;
    create(p, "a", "{\"params\": {\"w\": [1]}, \"grad_scale\": 4, \"clip_value\": 2}");
    char *etag = strdup(adamd_response_header(&p->reply, "ETag", 0));
    (void)ask_json(p, "PATCH", at("a", ""), "{\"max_grad_norm\": 1.5, \"clip_value\": null}");
    assert_has(p, 200, "\"grad_scale\": 4, \"nonfinite\": \"error\", \"max_grad_norm\": 1.5, ");
    assert_has(p, 200, "\"clip_value\": null");
    assert_header(p, "ETag", etag);
    static const char merge[] =
        "{\"grad_scale\": null, \"nonfinite\": \"apply\", \"norm_type\": \"inf\", "
        "\"error_if_nonfinite\": true}";
    static const char *const lines[] = {"Content-Type: application/merge-patch+json", NULL};
    (void)ask(p, "PATCH", at("a", ""), lines, merge, sizeof merge - 1);
    assert_has(
        p, 200,
        "\"grad_scale\": 1, \"nonfinite\": \"apply\", \"max_grad_norm\": 1.5, \"norm_type\": "
        "\"inf\", \"error_if_nonfinite\": true");
    (void)ask_json(p, "PATCH", at("a", ""),
                   "{\"nonfinite\": null, \"norm_type\": null, \"error_if_nonfinite\": null, "
                   "\"max_grad_norm\": null}");
    assert_has(p, 200,
               "\"nonfinite\": \"error\", \"max_grad_norm\": null, \"norm_type\": 2, "
               "\"error_if_nonfinite\": false");
    (void)ask_json(p, "PATCH", at("a", ""), "{\"norm_type\": 2.0}");
    assert_has(p, 200, "\"norm_type\": 2,");
    assert_header(p, "ETag", etag);
    free(etag);
    (void)ask_json_with(p, "PATCH", at("a", ""), "If-Match: \"e0-s0\"", "{\"clip_value\": 1}");
    assert_problem(p, 412, "precondition-failed", NULL);
    (void)ask_json(p, "PATCH", at("none", ""), "{\"clip_value\": 1}");
    assert_problem(p, 404, "no-such-optimizer", NULL);
}

/* ---- refused ---- */

/* Values that no setting takes: of another type, another word, or out of range. */
static const struct {
    const char *name, *value, *code;
} wrong[] = {
    {"grad_scale", "\"1\"", "invalid-value"},
    {"grad_scale", "true", "invalid-value"},
    {"grad_scale", "[1]", "invalid-value"},
    {"grad_scale", "0", "invalid-option"},
    {"grad_scale", "-2", "invalid-option"},
    {"grad_scale", "1e39", "invalid-option"},
    {"grad_scale", "1e-39", "invalid-option"},
    {"grad_scale", "\"inf\"", "invalid-value"},
    {"max_grad_norm", "\"Infinity\"", "invalid-value"},
    {"max_grad_norm", "-1", "invalid-option"},
    {"max_grad_norm", "false", "invalid-value"},
    {"max_grad_norm", "{}", "invalid-value"},
    {"norm_type", "1", "invalid-value"},
    {"norm_type", "3", "invalid-value"},
    {"norm_type", "\"2\"", "invalid-value"},
    {"norm_type", "\"Inf\"", "invalid-value"},
    {"norm_type", "true", "invalid-value"},
    {"error_if_nonfinite", "1", "invalid-value"},
    {"error_if_nonfinite", "\"true\"", "invalid-value"},
    {"clip_value", "0", "invalid-option"},
    {"clip_value", "-1", "invalid-option"},
    {"clip_value", "\"NaN\"", "invalid-value"},
    {"nonfinite", "\"raise\"", "invalid-value"},
    {"nonfinite", "\"SKIP\"", "invalid-value"},
    {"nonfinite", "true", "invalid-value"},
    {"nonfinite", "0", "invalid-value"},
};

/* Refused by name wherever they may stand, and nothing has changed or come to be. */
static void test_wrong_values(void **state)
{
    peer *p = *state;
    char body[256];
    create(p, "a", "{\"params\": {\"w\": [1]}}");
    char *before = state_of(p, "a");
    for (size_t i = 0; i < COUNT(wrong); i++) {
        const char *name = wrong[i].name;
        const char *value = wrong[i].value;
        (void)snprintf(body, sizeof body, "{\"params\": {\"w\": [1]}, \"%s\": %s}", name, value);
        (void)ask_json(p, "PUT", at("b", ""), body);
        assert_problem(p, 422, wrong[i].code, name);
        (void)snprintf(body, sizeof body, "{\"%s\": %s}", name, value);
        (void)ask_json(p, "PATCH", at("a", ""), body);
        assert_problem(p, 422, wrong[i].code, name);
        (void)snprintf(body, sizeof body, "{\"grads\": {\"w\": [1]}, \"%s\": %s}", name, value);
        (void)ask_json(p, "POST", at("a", "/step"), body);
        assert_problem(p, 422, wrong[i].code, name);
    }
    assert_unchanged(p, "a", before);
    (void)get(p, at("b", ""));
    assert_problem(p, 404, "no-such-optimizer", NULL);
}

/* In metadata every value is text: a number or word as it would stand in JSON, words without their
 * quotes. */
static void test_wrong_metadata(void **state)
{
    static const struct {
        const char *key, *value, *code;
    } bad[] = {
        {"grad_scale", "", "invalid-value"},
        {"grad_scale", "0", "invalid-option"},
        {"grad_scale", "1,5", "invalid-value"},
        {"grad_scale", "x", "invalid-value"},
        {"max_grad_norm", "-1", "invalid-option"},
        {"max_grad_norm", "inf", "invalid-value"},
        {"norm_type", "2.5", "invalid-value"},
        {"norm_type", "two", "invalid-value"},
        {"error_if_nonfinite", "1", "invalid-value"},
        {"error_if_nonfinite", "True", "invalid-value"},
        {"clip_value", "0", "invalid-option"},
        {"clip_value", "1 2", "invalid-value"},
        {"nonfinite", "none", "invalid-value"},
        {"nonfinite", "skip ", "invalid-value"},
    };
    peer *p = *state;
    float w[] = {1};
    const adamd_tensor t = vector32("w", w, 1);
    create(p, "a", "{\"params\": {\"w\": [1]}}");
    char *before = state_of(p, "a");
    for (size_t i = 0; i < COUNT(bad); i++) {
        file f = file_of(&t, 1, bad[i].key, bad[i].value);
        (void)ask_file(p, "POST", at("a", "/step"), NULL, f);
        assert_problem(p, 422, bad[i].code, bad[i].key);
        file_free(&f);
    }
    file f = file_of(&t, 1, "grad_scales", "1");
    (void)ask_file(p, "POST", at("a", "/step"), NULL, f);
    assert_problem(p, 400, "unknown-field", "grad_scales");
    file_free(&f);
    f = file_of(&t, 1, "clip_value", "1"); /* known, but parameters are no gradients */
    (void)ask_file(p, "PUT", at("a", "/params"), NULL, f);
    assert_problem(p, 400, "unknown-field", "clip_value");
    file_free(&f);
    assert_unchanged(p, "a", before);
}

/* A PATCH takes these settings alone, and only an object. */
static void test_wrong_patch(void **state)
{
    static const char *const unknown[] = {"{\"clip\": 1}", "{\"lr\": 1}", "{\"schedule\": null}",
                                          "{\"clip_value\": 1, \"step\": 0}"};
    static const char *const other[] = {"[]", "1", "null", "\"skip\""};
    peer *p = *state;
    create(p, "a", "{\"params\": {\"w\": [1]}}");
    char *before = state_of(p, "a");
    for (size_t i = 0; i < COUNT(unknown); i++) {
        (void)ask_json(p, "PATCH", at("a", ""), unknown[i]);
        assert_problem(p, 400, "unknown-field", NULL);
        (void)ask_json(p, "PATCH", at("a", ""), other[i]);
        assert_problem(p, 422, "invalid-value", NULL);
    }
    (void)ask_json(p, "PATCH", at("a", ""), "{\"clip_value\": 1");
    assert_problem(p, 400, "malformed-json", NULL);
    (void)ask_json(p, "PATCH", at("a", ""), "{\"clip_value\": 1, \"max_grad_norm\": -1}");
    assert_problem(p, 422, "invalid-option", "max_grad_norm"); /* and not the first of the two */
    assert_unchanged(p, "a", before);
}

/* ---- at work ---- */

/* A step's own settings hold for it alone. grad_norm is unscaled and not clipped. */
static void test_step(void **state)
{
    peer *p = *state;
    create(p, "a", "{\"params\": {\"w\": [0, 0], \"x\": [0]}, \"betas\": [0, 0.999]}");
    (void)ask_json(p, "POST", at("a", "/step"),
                   "{\"grads\": {\"w\": [6, 8]}, \"grad_scale\": 2, \"max_grad_norm\": 2.5}");
    assert_has(p, 200, "\"stats\": {\"grad_norm\": 5, ");
    assert_has(p, 200, "\"clip_coef\": 0.49999");
    assert_has(p, 200,
               "\"skipped\": false, \"converted\": 0, \"param_groups\": [{\"grad_norm\": 5, ");
    (void)get(p, at("a", "/state/w"));
    assert_has(p, 200, "\"exp_avg\": {\"min\": 1.49999");
    (void)ask_json(p, "POST", at("a", "/step"),
                   "{\"grads\": {\"w\": [6, 8]}, \"clip_value\": 7, \"norm_type\": \"inf\", "
                   "\"max_grad_norm\": null}");
    assert_has(p, 200, "\"clip_coef\": 1, ");
    (void)get(p, at("a", "/state/w"));
    assert_has(p, 200, "\"exp_avg\": {\"min\": 6, \"max\": 7, ");
    (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": {\"w\": [6, 8]}}");
    (void)get(p, at("a", "/state/w"));
    assert_has(p, 200, "\"exp_avg\": {\"min\": 6, \"max\": 8, ");
    (void)get(p, at("a", ""));
    assert_has(p, 200, "\"grad_scale\": 1, \"nonfinite\": \"error\", \"max_grad_norm\": null, ");
}

/* The same in metadata, and null there is the default in place of the optimizer's own. */
static void test_step_metadata(void **state)
{
    peer *p = *state;
    float w[] = {6, 8};
    const adamd_tensor t = vector32("w", w, 2);
    create(p, "a", "{\"params\": {\"w\": [0, 0]}, \"betas\": [0, 0.999], \"clip_value\": 7}");
    file f = file_of(&t, 1, "clip_value", "null");
    (void)ask_file(p, "POST", at("a", "/step"), NULL, f);
    assert_metadata(p, "grad_norm", "10");
    (void)get(p, at("a", "/state/w"));
    assert_has(p, 200, "\"exp_avg\": {\"min\": 6, \"max\": 8, ");
    file_free(&f);
    const adamd_metadata settings[] = {{"grad_scale", "2"},      {"max_grad_norm", "2"},
                                       {"norm_type", "inf"},     {"nonfinite", "skip"},
                                       {"clip_value", "1.75"},   {"error_if_nonfinite", "true"},
                                       {"param_groups", "[{}]"}, {"format", "pt"}};
    adamd_error error;
    assert_int_equal(
        adamd_safetensors_pack(&t, 1, settings, COUNT(settings), &f.bytes, &f.length, &error),
        ADAMD_OK);
    (void)ask_file(p, "POST", at("a", "/step"), NULL, f);
    assert_metadata(p, "grad_norm", "5");
    assert_metadata(p, "skipped", "false");
    assert_metadata(p, "converted", "0");
    char text[512];
    assert_true(adamd_safetensors_metadata(p->reply.body, p->reply.length, "param_groups", text,
                                           sizeof text));
    assert_memory_equal(text, "[{\"grad_norm\": 5, ", 18);
    (void)get(p, at("a", "/state/w"));
    assert_has(p, 200, "\"exp_avg\": {\"min\": 1.49999"); /* 3 * 2 / (4 + 1e-6) */
    assert_has(p, 200, "\"max\": 1.75, ");
    file_free(&f);
}

/* ---- policies ---- */

/* All gradients NaN, under each policy and in both forms. */
static void test_policies(void **state)
{
    static const char all_nan[] = "{\"grads\": {\"w\": [\"NaN\", \"NaN\"]}}";
    peer *p = *state;
    uint32_t nan[] = {0x7fc00000, 0xffc00000};
    const adamd_tensor t = {"w", ADAMD_FLOAT32, 1, {2}, nan};
    file f = file_of(&t, 1, NULL, NULL);
    create(p, "a", "{\"params\": {\"w\": [0.5, -1]}, \"lr\": 0.1}");
    char *before = state_of(p, "a");
    (void)ask_json(p, "POST", at("a", "/step"), all_nan);
    assert_problem(p, 422, "non-finite", "\"param\": \"w\", \"index\": 0");
    (void)ask_file(p, "POST", at("a", "/step"), NULL, f);
    assert_problem(p, 422, "non-finite", "\"param\": \"w\", \"index\": 0");
    assert_unchanged(p, "a", before);
    (void)ask_json(p, "PATCH", at("a", ""), "{\"nonfinite\": \"skip\"}");
    before = state_of(p, "a");
    (void)ask_json(p, "POST", at("a", "/step"), all_nan);
    assert_has(p, 200,
               "{\"step\": 0, \"params\": {\"w\": [0.5, -1]}, \"stats\": {\"grad_norm\": \"NaN\", "
               "\"param_norm\": 1.118033988749895, \"update_norm\": 0, \"clip_coef\": 1, "
               "\"skipped\": true, \"converted\": 0");
    (void)ask_file(p, "POST", at("a", "/step"), NULL, f);
    assert_metadata(p, "step", "0");
    assert_metadata(p, "grad_norm", "NaN");
    assert_metadata(p, "skipped", "true");
    float w[2];
    const adamd_tensor out = vector32("w", w, 2);
    take_tensors(p, &out, 1);
    assert_true(w[0] == 0.5F && w[1] == -1.0F);
    assert_unchanged(p, "a", before);
    (void)get(p, at("a", ""));
    assert_has(p, 200, "\"step\": 0, \"skipped\": 2, ");
    (void)ask_json(p, "PATCH", at("a", ""), "{\"nonfinite\": \"apply\"}");
    (void)ask_json(p, "POST", at("a", "/step"), all_nan);
    assert_has(p, 200, "{\"step\": 1, \"params\": {\"w\": [\"NaN\", \"NaN\"]}");
    assert_has(p, 200, "\"skipped\": false");
    (void)get(p, at("a", ""));
    assert_has(p, 200, "\"step\": 1, \"skipped\": 2, ");
    file_free(&f);
}

/* A skipped step with return=minimal: no body, the ETag of before, and the summary counts it. */
static void test_skip_minimal(void **state)
{
    peer *p = *state;
    create(p, "a", "{\"params\": {\"w\": [1]}, \"nonfinite\": \"skip\"}");
    char *etag = strdup(adamd_response_header(&p->reply, "ETag", 0));
    (void)ask_json_with(p, "POST", at("a", "/step"), "Prefer: return=minimal",
                        "{\"grads\": {\"w\": [\"-Infinity\"]}}");
    assert_empty(p, 204);
    assert_header(p, "ETag", etag);
    assert_header(p, "Preference-Applied", "return=minimal");
    (void)get(p, at("a", ""));
    assert_has(p, 200, "\"step\": 0, \"skipped\": 1, ");
    (void)ask_json_with(p, "POST", at("a", "/step"), "If-Match: \"e0-s0\"",
                        "{\"grads\": {\"w\": [\"NaN\"]}}");
    assert_problem(p, 412, "precondition-failed", NULL);
    free(etag);
}

/* Readers after a skipped step, and after one over a published step, see the parameters as they
 * were. Large enough to be published. */
static void test_skip_then_read(void **state)
{
    enum { N = 100000 };
    static float w[N], got[N], after[N];
    peer *p = *state;
    const adamd_tensor t = vector32("w", w, N);
    const adamd_tensor g = vector32("w", got, N);
    const adamd_tensor a = vector32("w", after, N);
    for (size_t i = 0; i < N; i++) {
        w[i] = (float)i;
    }
    file f = file_of(&t, 1, "optimizer", "{\"nonfinite\": \"skip\"}");
    (void)ask_file(p, "PUT", at("a", ""), NULL, f);
    assert_status(p, 201);
    file_free(&f);
    f = file_of(&t, 1, NULL, NULL);
    (void)ask_file(p, "POST", at("a", "/step"), NULL, f);
    take_tensors(p, &g, 1);
    file_free(&f);
    w[N - 1] = 3e38F * 10.0F;
    f = file_of(&t, 1, NULL, NULL);
    (void)ask_file(p, "POST", at("a", "/step"), NULL, f);
    take_tensors(p, &a, 1);
    assert_metadata(p, "skipped", "true");
    assert_memory_equal(after, got, sizeof got);
    (void)get_with(p, at("a", "/params"), "Accept: " SAFETENSORS_TYPE);
    take_tensors(p, &a, 1);
    assert_memory_equal(after, got, sizeof got);
    file_free(&f);
}

/* error_if_nonfinite refuses a total norm that is not finite, where the policy lets it come that
 * far; there is no one element to name. */
static void test_error_if_nonfinite(void **state)
{
    peer *p = *state;
    create(p, "a",
           "{\"params\": {\"w\": [1, 1]}, \"nonfinite\": \"apply\", \"max_grad_norm\": 1, "
           "\"error_if_nonfinite\": true}");
    char *before = state_of(p, "a");
    (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": {\"w\": [\"Infinity\", 1]}}");
    assert_problem(p, 422, "non-finite", "total norm of order 2");
    assert_null(strstr(body_of(p), "\"index\""));
    assert_null(strstr(body_of(p), "\"param\""));
    (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": {\"w\": [3e38, 3e38]}}");
    assert_problem(p, 422, "non-finite", "is Infinity");
    assert_unchanged(p, "a", before);
    (void)ask_json(p, "POST", at("a", "/step"),
                   "{\"grads\": {\"w\": [3e38, 3e38]}, \"error_if_nonfinite\": false}");
    assert_has(p, 200, "\"clip_coef\": 0, ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_shown, clear),
        cmocka_unit_test_setup(test_creation_forms, clear),
        cmocka_unit_test_setup(test_patch, clear),
        cmocka_unit_test_setup(test_wrong_values, clear),
        cmocka_unit_test_setup(test_wrong_metadata, clear),
        cmocka_unit_test_setup(test_wrong_patch, clear),
        cmocka_unit_test_setup(test_step, clear),
        cmocka_unit_test_setup(test_step_metadata, clear),
        cmocka_unit_test_setup(test_policies, clear),
        cmocka_unit_test_setup(test_skip_minimal, clear),
        cmocka_unit_test_setup(test_skip_then_read, clear),
        cmocka_unit_test_setup(test_error_if_nonfinite, clear),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
