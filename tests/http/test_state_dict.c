/* test_state_dict.c: a whole state put back, or its parameters alone; what does not fit is refused
 * and says why. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

#define DICT_SIZE 8192
#define STEP_LR   "{\"name\": \"StepLR\", \"step_size\": 2"

static const char *const model =
    "{\"params\": {\"w\": [[1, 2], [3, 4]], \"s\": {\"dtype\": \"float64\", \"data\": 0.5}}, "
    "\"lr\": 0.5}";

static int clear(void **state)
{
    remove_all(*state);
    create(*state, "a", model);
    return 0;
}

static void step_a(peer *p)
{
    (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": {\"w\": [[1, 1], [1, 1]], \"s\": 1}}");
    assert_status(p, 200);
}

/* The reply of the last request, kept. */
static file keep(const peer *p)
{
    file f = {.bytes = malloc(p->reply.length), .length = p->reply.length};
    assert_non_null(f.bytes);
    memcpy(f.bytes, p->reply.body, f.length);
    return f;
}

/* ---- which load ---- */

/* There is no default: what a wrong one would do is not seen until much later. */
static void test_load_is_said(void **state)
{
    static const char *const queries[] = {"",
                                          "?load",
                                          "?load=",
                                          "?load=all",
                                          "?load=Params",
                                          "?Load=params",
                                          "?data=none",
                                          "?load=params&load=params"};
    peer *p = *state;
    char *before = state_of(p, "a");
    const char *good = strchr(before, '\n') + 1;
    for (size_t i = 0; i < COUNT(queries); i++) {
        char rest[64];
        (void)snprintf(rest, sizeof rest, "/state_dict%s", queries[i]);
        (void)ask_json(p, "PUT", at("a", rest), good);
        assert_problem(p, 400, "invalid-query", NULL);
    }
    (void)ask_json(p, "PUT", at("a", "/state_dict"), good);
    assert_has(p, 400,
               "load is missing, expected params (takes the values of the parameters; moments, "
               "step counts and options stay) or everything (makes the optimizer what the "
               "state_dict is)");
    assert_unchanged(p, "a", before);
}

/* The parameters of a state_dict, whole or cut down to them, in both forms; moments, steps and
 * options stay, and what the rest says is not used. */
static void test_load_params(void **state)
{
    static const char *const bodies[] = {
        "{\"params\": {\"w\": {\"shape\": [2, 2], \"dtype\": \"float32\", \"data\": [[5, 6], [7, "
        "8]]}, \"s\": {\"shape\": [], \"dtype\": \"float64\", \"data\": 9}}}",
        "{\"algorithm\": \"adamw\", \"step\": -7, \"param_groups\": [{\"lr\": 9}, {\"params\": "
        "1}], "
        "\"state\": {\"w\": {\"step\": \"x\"}}, \"params\": {\"s\": {\"shape\": [], \"dtype\": "
        "\"float64\", \"data\": 9}, \"w\": {\"shape\": [2, 2], \"dtype\": \"float32\", \"data\": "
        "[[5, 6], [7, 8]]}}}",
    };
    peer *p = *state;
    step_a(p);
    for (size_t i = 0; i < COUNT(bodies); i++) {
        (void)ask_json(p, "PUT", at("a", "/params"),
                       "{\"params\": {\"w\": [[1, 1], [1, 1]], \"s\": 1}}");
        char *before = state_of(p, "a");
        (void)ask_json(p, "PUT", at("a", "/state_dict?load=params"), bodies[i]);
        assert_empty(p, 204);
        char *after = state_of(p, "a");
        assert_true(strncmp(before, after, strcspn(after, "-")) != 0); /* a new epoch */
        assert_non_null(strstr(after, "\"step\": 1, "));
        assert_non_null(strstr(after, "\"lr\": 0.5, "));
        assert_string_equal(strstr(before, "\"state\": {"), strstr(after, "\"state\": {"));
        (void)get(p, at("a", "/params"));
        assert_json(p, 200, "{\"step\": 1, \"params\": {\"w\": [[5, 6], [7, 8]], \"s\": 9}}");
        free(before);
        free(after);
    }
    float w[] = {9, 10, 11, 12};
    double s = 2;
    const adamd_tensor all[] = {
        {.name = "params/w", .dtype = ADAMD_FLOAT32, .rank = 2, .shape = {2, 2}, .data = w},
        {.name = "params/s", .dtype = ADAMD_FLOAT64, .data = &s},
        {.name = "exp_avg/s", .dtype = ADAMD_FLOAT32, .data = w}}; /* not looked at */
    for (size_t n = 2; n <= 3; n++) {
        char *before = state_of(p, "a");
        file f = file_of(all, n, NULL, NULL);
        w[0]++;
        (void)ask_file(p, "PUT", at("a", "/state_dict?load=params"), NULL, f);
        assert_empty(p, 204);
        file_free(&f);
        char *after = state_of(p, "a");
        assert_string_equal(strstr(before, "\"state\": {"), strstr(after, "\"state\": {"));
        free(before);
        free(after);
    }
    (void)get(p, at("a", "/params"));
    assert_json(p, 200, "{\"step\": 1, \"params\": {\"w\": [[10, 10], [11, 12]], \"s\": 2}}");
}

/* Parameters of another model overwrite none, and names are held to those that are known. */
static void test_load_params_refused(void **state)
{
#define S "\"s\": {\"shape\": [], \"dtype\": \"float64\", \"data\": 9}"
#define W "\"w\": {\"shape\": [2, 2], \"dtype\": \"float32\", \"data\": [[5, 6], [7, 8]]}"
    static const struct {
        const char *json;
        int status;
        const char *code, *member;
    } bad[] = {
        {"{\"params\": {" S "}}", 422, "missing-param", "the value of 'w' is missing"},
        {"{\"params\": {" S ", " W ", \"x\": 1}}", 422, "unknown-param", "\"param\": \"x\""},
        {"{\"params\": {" S ", \"w\": [[5, 6], [7, 8]]}}", 422, "invalid-value",
         "the value of 'w' is a list of numbers, expected an object with shape, dtype and data"},
        {"{\"params\": {" S ", " W "}, \"stats\": {}}", 400, "unknown-field", NULL},
        {"{\"params\": {" S ", " W "}, \"param_groups\": [{\"rho\": 1}]}", 400, "unknown-field",
         NULL},
        {"{\"params\": {" S ", " W "}, \"param_groups\": {}}", 422, "invalid-value",
         "param_groups is an object, expected a list"},
        {"{\"params\": {" S ", " W "}, \"state\": {\"x\": {}}}", 422, "unknown-param",
         "\"param\": \"x\""},
        {"{\"params\": {" S ", " W "}, \"state\": {\"w\": {\"rms\": 1}}}", 400, "unknown-field",
         NULL},
        {"{\"params\": [1]}", 422, "invalid-value",
         "params is a list of numbers, expected an object by parameter name"},
        {"{}", 422, "invalid-value", "params is missing, expected an object by parameter name"},
        {"7", 422, "invalid-value", "the body is a number, expected an object"},
    };
#undef S
#undef W
    peer *p = *state;
    step_a(p);
    char *before = state_of(p, "a");
    for (size_t i = 0; i < COUNT(bad); i++) {
        (void)ask_json(p, "PUT", at("a", "/state_dict?load=params"), bad[i].json);
        assert_problem(p, bad[i].status, bad[i].code, bad[i].member);
    }
    float w[] = {9, 10, 11, 12};
    const adamd_tensor short_of[] = {
        {.name = "params/w", .dtype = ADAMD_FLOAT32, .rank = 2, .shape = {2, 2}, .data = w}};
    file f = file_of(short_of, 1, NULL, NULL);
    (void)ask_file(p, "PUT", at("a", "/state_dict?load=params"), NULL, f);
    assert_problem(p, 422, "missing-param", "\"param\": \"s\"");
    file_free(&f);
    f = file_of(short_of, 1, "state_dict", "{\"steps\": {}, \"epoch\": 1}");
    (void)ask_file(p, "PUT", at("a", "/state_dict?load=params"), NULL, f);
    assert_problem(p, 400, "unknown-field", NULL);
    file_free(&f);
    assert_unchanged(p, "a", before);
}

/* ---- what does not fit ---- */

/* The bodies of state_dicts that do not fit, made from one that does: `from` becomes `to`. Each
 * refusal names what is wrong, what was expected and what came. */
static void test_refused(void **state)
{
    static const struct {
        const char *from, *to;
        int status;
        const char *code, *detail;
    } bad[] = {
        {"\"algorithm\": \"adam\"", "\"algorithm\": \"adamw\"", 422, "state-mismatch",
         "algorithm is \\\"adamw\\\", expected \\\"adam\\\""},
        {"\"algorithm\": \"adam\", ", "", 422, "invalid-value", "algorithm is missing, expected"},
        {"\"step\": 1, \"grad_scale", "\"step\": -1, \"grad_scale", 422, "invalid-value",
         "step is -1, expected a whole number from 0 to 2^53"},
        {"\"step\": 1, \"grad_scale", "\"step\": 1.5, \"grad_scale", 422, "invalid-value",
         "step is 1.5, expected"},
        {"\"step\": 1, \"grad_scale", "\"step\": \"1\", \"grad_scale", 422, "invalid-value",
         "step is \\\"1\\\", expected"},
        {"\"step\": 1, \"grad_scale", "\"step\": 1152921504606846976, \"grad_scale", 422,
         "invalid-value", "step is 1152921504606846976, expected"},
        {"\"step\": 1, \"grad_scale", "\"step\": 9007199254740994, \"grad_scale", 422,
         "invalid-value", "step is 9007199254740994, expected"},
        {"\"step\": 1, \"grad_scale", "\"grad_scale", 422, "invalid-value",
         "step is missing, expected"},
        {"\"step\": 1, \"grad_scale", "\"step\": 0, \"grad_scale", 422, "state-mismatch", NULL},
        {"\"step\": 1, \"grad_scale", "\"epoch\": 1, \"step\": 1, \"grad_scale", 400,
         "unknown-field", NULL},
        {"\"param_groups\": [", "\"param_groups\": [{}, ", 422, "state-mismatch",
         "the state has 2 param groups, expected 1"},
        {"\"lr\": 0.5, ", "", 422, "invalid-value", "lr of param group 0 is missing"},
        {"\"lr\": 0.5, ", "\"lr\": -0.5, ", 422, "invalid-option", NULL},
        {"\"lr\": 0.5, ", "\"lr\": 0.5, \"rho\": 1, ", 400, "unknown-field", NULL},
        {"\"amsgrad\": false", "\"amsgrad\": true", 422, "state-mismatch", "max_exp_avg_sq"},
        {"\"foreach\": null", "\"foreach\": true", 422, "unsupported-option", NULL},
        {"\"params\": [\"w\", \"s\"]", "\"params\": [\"w\"]", 422, "missing-param",
         "does not name 's', which the optimizer has there"},
        {"\"params\": [\"w\", \"s\"]", "\"params\": [\"w\", \"x\"]", 422, "unknown-param",
         "\"param\": \"x\""},
        {"\"params\": [\"w\", \"s\"]", "\"params\": \"w\"", 422, "invalid-value",
         "params of param group 0 is \\\"w\\\", expected a list of names"},
        {"\"params\": [\"w\", \"s\"]", "\"params\": [\"w\", \"w\"]", 422, "duplicate-param",
         "\"param\": \"w\""},
        {"\"shape\": [2, 2]", "\"shape\": [4]", 422, "shape-mismatch",
         "\"expected_shape\": [2, 2], \"got_shape\": [4]"},
        {"\"float64\"", "\"float32\"", 422, "dtype-mismatch",
         "the value of 's' has dtype float32, expected float64"},
        {"\"dtype\": \"float64\", ", "", 422, "missing-param", "dtype of 's' is missing"},
        {"\"data\": [[", "\"datum\": [[", 400, "unknown-field", NULL},
        {"\"exp_avg\": [[", "\"exp_avgs\": [[", 400, "unknown-field", NULL},
        {"\"exp_avg\": [[0.1, 0.1], [0.1, 0.1]]", "\"exp_avg\": [[0.1], [0.1]]", 422,
         "shape-mismatch", "exp_avg of 'w' has shape [2, 1], expected [2, 2]"},
        {"\"exp_avg\": [[0.1, 0.1], [0.1, 0.1]], ", "", 422, "missing-param",
         "exp_avg of 'w' is missing"},
        {"\"s\": {\"step\": 1, ", "\"s\": {\"step\": 2, ", 422, "state-mismatch",
         "\"param\": \"s\""},
        {"\"s\": {\"step\": 1, ", "\"s\": {\"step\": -1, ", 422, "invalid-value",
         "step of 's' is -1, expected"},
        {"\"s\": {\"step\": 1, ", "\"s\": {", 422, "invalid-value", "step of 's' is missing"},
        {"\"s\": {\"step\": 1, ", "\"x\": {\"step\": 1, ", 422, "unknown-param",
         "\"param\": \"x\""},
        {"\"state\": {", "\"states\": {", 400, "unknown-field", NULL},
        {"\"grad_scale\": 1", "\"grad_scale\": 0", 422, "invalid-option", "grad_scale"},
        {"\"nonfinite\": \"error\"", "\"nonfinite\": \"maybe\"", 422, "invalid-value",
         "nonfinite of the state_dict is"},
        {"\"clip_value\": null", "\"clip\": null", 400, "unknown-field", NULL},
        {"\"fused\": null", "\"fused\": null, \"initial_lr\": 0.5", 422, "invalid-value",
         "param group 0 has an initial_lr, but no schedule"},
        {"\"fused\": null", "\"fused\": null, \"schedule\": " STEP_LR "}", 422, "invalid-value",
         "initial_lr of param group 0 is missing, expected a number"},
        {"\"fused\": null", "\"fused\": null, \"initial_lr\": \"x\", \"schedule\": " STEP_LR "}",
         422, "invalid-value", "initial_lr of param group 0 is \\\"x\\\", expected a number"},
        {"\"fused\": null", "\"fused\": null, \"initial_lr\": 1, \"schedule\": {}", 422,
         "invalid-value", "schedule of param group 0"},
        {"\"fused\": null", "\"fused\": null, \"initial_lr\": 1, \"schedule\": " STEP_LR "}", 422,
         "invalid-value", "last_epoch is expected"},
        {"\"fused\": null",
         "\"fused\": null, \"initial_lr\": 1, \"schedule\": " STEP_LR ", \"T_cur\": 0}", 400,
         "unknown-field", "T_cur"},
        {"\"state\": {\"w\"", "\"state\": {\"s\": {}, \"w\"", 400, "malformed-json", NULL},
    };
    peer *p = *state;
    step_a(p);
    char *before = state_of(p, "a");
    const char *good = strchr(before, '\n') + 1;
    for (size_t i = 0; i < COUNT(bad); i++) {
        char changed[DICT_SIZE];
        const char *found = strstr(good, bad[i].from);
        if (found == NULL) {
            fail_msg("no %s in %s", bad[i].from, good);
        }
        (void)snprintf(changed, sizeof changed, "%.*s%s%s", (int)(found - good), good, bad[i].to,
                       found + strlen(bad[i].from));
        (void)ask_json(p, "PUT", at("a", "/state_dict?load=everything"), changed);
        if (p->reply.status != bad[i].status) {
            print_error("with %s\n", bad[i].to);
        }
        assert_problem(p, bad[i].status, bad[i].code, bad[i].detail);
    }
    (void)ask_json(p, "PUT", at("a", "/state_dict?load=everything"), good);
    assert_empty(p, 204); /* the one they were made from fits */
    char *after = state_of(p, "a");
    assert_string_equal(good, strchr(after, '\n') + 1);
    free(after);
    free(before);
}

/* The same in safetensors: what its own parts can get wrong. */
static void test_refused_file(void **state)
{
    static const struct {
        const char *from, *to; /* in the header, of the same length */
        const char *code, *detail;
    } bad[] = {
        {"\\\"steps\\\": {\\\"w\\\": 1", "\\\"steps\\\": {\\\"x\\\": 1", "unknown-param", "'x'"},
        {"\\\"steps\\\": {\\\"w\\\": 1", "\\\"steps\\\": {\\\"w\\\":-1", "invalid-value",
         "step of 'w' is -1, expected a whole number from 0 to 2^53"},
        {"\\\"step\\\": 1, ", "\\\"step\\\":-1, ", "invalid-value", "step is -1, expected"},
        {"\"exp_avg/s\"", "\"exp_avg/x\"", "unknown-param", "exp_avg of the state names 'x'"},
        {"\\\"adam\\\"", "\\\"Adam\\\"", "state-mismatch", "expected \\\"adam\\\""},
        {"[2, 2],\"data", "[4],   \"data", "shape-mismatch", "has shape [4], expected [2, 2]"},
    };
    peer *p = *state;
    step_a(p);
    (void)get_with(p, at("a", "/state_dict"), "Accept: " SAFETENSORS_TYPE);
    assert_status(p, 200);
    file good = keep(p);
    char *before = state_of(p, "a");
    for (size_t i = 0; i < COUNT(bad); i++) {
        file changed = {.bytes = malloc(good.length), .length = good.length};
        assert_non_null(changed.bytes);
        memcpy(changed.bytes, good.bytes, good.length);
        assert_int_equal(strlen(bad[i].from), strlen(bad[i].to));
        char *found = memmem(changed.bytes, changed.length, bad[i].from, strlen(bad[i].from));
        if (found == NULL) {
            fail_msg("no %s in %.*s", bad[i].from, (int)good.length - 8, good.bytes + 8);
        }
        memcpy(found, bad[i].to, strlen(bad[i].to));
        (void)ask_file(p, "PUT", at("a", "/state_dict?load=everything"), NULL, changed);
        assert_problem(p, 422, bad[i].code, bad[i].detail);
        file_free(&changed);
    }
    assert_unchanged(p, "a", before);
    file_free(&good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_load_is_said, clear),
        cmocka_unit_test_setup(test_load_params, clear),
        cmocka_unit_test_setup(test_load_params_refused, clear),
        cmocka_unit_test_setup(test_refused, clear),
        cmocka_unit_test_setup(test_refused_file, clear),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
