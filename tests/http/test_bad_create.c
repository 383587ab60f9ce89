/* test_bad_create.c: creations that are refused, in both forms. Afterwards the name is still free.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

typedef struct refusal {
    const char *text;
    int status;
    const char *code, *member;
} refusal;

static void assert_refused(peer *p, const refusal *r)
{
    if (p->reply.status != r->status) {
        print_error("with %s\n", r->text);
    }
    assert_problem(p, r->status, r->code, r->member);
    assert_header(p, "Location", NULL);
    assert_header(p, "ETag", NULL);
    (void)get(p, at("new", ""));
    assert_problem(p, 404, "no-such-optimizer", NULL);
}

static void refuse_all(peer *p, const refusal *refusals, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        (void)ask_json(p, "PUT", at("new", ""), refusals[i].text);
        assert_refused(p, &refusals[i]);
    }
}

/* A field that is not known is an error at every level, not ignored. */
static void test_unknown_fields(void **state)
{
    static const refusal bad[] = {
        {"{\"param_groups\": [{\"params\": []}], \"lr\": 1}", 400, "unknown-field", NULL},
        {"{\"param_groups\": [{\"params\": []}], \"default\": {}}", 400, "unknown-field", NULL},
        {"{\"param_groups\": [{\"params\": []}], \"defaults\": {\"rho\": 1}}", 400, "unknown-field",
         NULL},
        {"{\"param_groups\": [{\"params\": [], \"momentum\": 1}]}", 400, "unknown-field", NULL},
        {"{\"param_groups\": [{\"params\": [{\"name\": \"w\", \"data\": 1, \"grad\": 1}]}]}", 400,
         "unknown-field", NULL},
        {"{\"params\": {}, \"defaults\": {}}", 400, "unknown-field", NULL},
        {"{\"params\": {}, \"Lr\": 1}", 400, "unknown-field", NULL},
        {"{\"params\": {\"w\": {\"shape\": [1], \"name\": \"w\"}}}", 400, "unknown-field", NULL},
    };
    refuse_all(*state, bad, COUNT(bad));
}

/* JSON of the wrong shape is told what was expected, not half understood. */
static void test_wrong_types(void **state)
{
    static const refusal bad[] = {
        {"null", 422, "invalid-value", NULL},
        {"[]", 422, "invalid-value", NULL},
        {"[1, {}]", 422, "invalid-value", NULL},
        {"{}", 422, "invalid-value", NULL},
        {"{\"params\": []}", 422, "invalid-value", NULL},
        {"{\"params\": null}", 422, "invalid-value", NULL},
        {"{\"param_groups\": {}}", 422, "invalid-value", NULL},
        {"{\"param_groups\": null}", 422, "invalid-value", NULL},
        {"{\"param_groups\": []}", 422, "invalid-value", NULL},
        {"{\"param_groups\": [1, {}]}", 422, "invalid-value", NULL},
        {"{\"param_groups\": [null]}", 422, "invalid-value", NULL},
        {"{\"param_groups\": [{}]}", 422, "invalid-value", NULL},
        {"{\"param_groups\": [{\"params\": {}}]}", 422, "invalid-value", NULL},
        {"{\"param_groups\": [{\"params\": [1]}]}", 422, "invalid-value", NULL},
        {"{\"param_groups\": [{\"params\": [\"w\"]}]}", 422, "invalid-value", NULL},
        {"{\"param_groups\": [{\"params\": [1, {\"name\": \"w\", \"data\": 1}]}]}", 422,
         "invalid-value", NULL},
        {"{\"param_groups\": [{\"params\": [{\"data\": 1}]}]}", 422, "invalid-value", NULL},
        {"{\"param_groups\": [{\"params\": [{\"name\": 1, \"data\": 1}]}]}", 422, "invalid-value",
         NULL},
        {"{\"algorithm\": \"sgd\", \"params\": {}}", 422, "invalid-value", NULL},
        {"{\"algorithm\": \"Adam\", \"params\": {}}", 422, "invalid-value", NULL},
        {"{\"algorithm\": 1, \"params\": {}}", 422, "invalid-value", NULL},
        {"{\"defaults\": [], \"param_groups\": [{\"params\": []}]}", 422, "invalid-value", NULL},
        {"{\"params\": {}, \"lr\": \"0.1\"}", 422, "invalid-value", NULL},
    };
    refuse_all(*state, bad, COUNT(bad));
}

/* Parameters that contradict themselves, each other, or the limits. */
static void test_parameters(void **state)
{
    static const refusal bad[] = {
        {"{\"params\": {\"w\": {}}}", 422, "invalid-value", "\"param\": \"w\""},
        {"{\"params\": {\"w\": {\"shape\": 3}}}", 422, "invalid-value", "\"param\": \"w\""},
        {"{\"params\": {\"w\": {\"shape\": [-1]}}}", 422, "invalid-value", "\"param\": \"w\""},
        {"{\"params\": {\"w\": {\"shape\": [1.5]}}}", 422, "invalid-value", "\"param\": \"w\""},
        {"{\"params\": {\"w\": {\"shape\": [1.0]}}}", 422, "invalid-value", "\"param\": \"w\""},
        {"{\"params\": {\"w\": {\"shape\": [\"NaN\"]}}}", 422, "invalid-value", "\"param\": \"w\""},
        {"{\"params\": {\"w\": {\"shape\": [[1]]}}}", 422, "invalid-value", "\"param\": \"w\""},
        {"{\"params\": {\"w\": {\"shape\": [1, null]}}}", 422, "invalid-value", "\"param\": \"w\""},
        {"{\"params\": {\"w\": {\"shape\": [1,1,1,1,1,1,1,1,1]}}}", 422, "invalid-value",
         "\"param\": \"w\""},
        {"{\"params\": {\"w\": [[[[[[[[[1]]]]]]]]]}}", 422, "invalid-value", "\"param\": \"w\""},
        {"{\"params\": {\"w\": {\"shape\": [9007199254740994]}}}", 422, "invalid-value",
         "\"param\": \"w\""},
        {"{\"params\": {\"w\": {\"shape\": [4294967296, 4294967296, 4294967296]}}}", 422,
         "invalid-value", "\"param\": \"w\""},
        {"{\"params\": {\"w\": {\"shape\": [3], \"data\": [1, 2]}}}", 422, "invalid-value",
         "\"param\": \"w\""},
        {"{\"params\": {\"w\": {\"shape\": [2, 1], \"data\": [1, 2]}}}", 422, "invalid-value",
         "\"param\": \"w\""},
        {"{\"params\": {\"w\": {\"shape\": [], \"data\": [1]}}}", 422, "invalid-value",
         "\"param\": \"w\""},
        {"{\"params\": {\"w\": [[1, 2], [3]]}}", 422, "invalid-value", "\"param\": \"w\""},
        {"{\"params\": {\"w\": [1, \"x\"]}}", 422, "invalid-value", "\"param\": \"w\""},
        {"{\"params\": {\"w\": \"x\"}}", 422, "invalid-value", "\"param\": \"w\""},
        {"{\"params\": {\"w\": null}}", 422, "invalid-value", "\"param\": \"w\""},
        {"{\"params\": {\"w\": [1e39]}}", 422, "invalid-value", "\"param\": \"w\""},
        {"{\"params\": {\"w\": {\"shape\": [1], \"dtype\": \"float16\"}}}", 422, "dtype-mismatch",
         "\"param\": \"w\""},
        {"{\"params\": {\"w\": {\"shape\": [1], \"dtype\": \"F32\"}}}", 422, "dtype-mismatch",
         "\"param\": \"w\""},
        {"{\"params\": {\"w\": {\"shape\": [1], \"dtype\": 32}}}", 422, "dtype-mismatch",
         "\"param\": \"w\""},
        {"{\"params\": {\"\": 1}}", 422, "invalid-name", NULL},
        {"{\"params\": {\"w\": 1, \"w\": 1}}", 400, "malformed-json", NULL},
        {"{\"param_groups\": [{\"params\": [{\"name\": \"w\", \"data\": 1}, {\"name\": \"w\", "
         "\"data\": "
         "1}]}]}",
         422, "duplicate-param", "\"param\": \"w\""},
        {"{\"param_groups\": [{\"params\": [{\"name\": \"w\", \"data\": 1}]}, {\"params\": "
         "[{\"name\": "
         "\"w\", \"data\": 1}]}]}",
         422, "duplicate-param", "\"param\": \"w\""},
        {"{\"params\": {\"w\": {\"shape\": [1125899906842624]}}}", 507, "out-of-memory", NULL},
    };
    refuse_all(*state, bad, COUNT(bad));
}

/* Hyperparameters out of range, or asking for what a server cannot do, wherever they stand. */
static void test_options(void **state)
{
    static const refusal bad[] = {
        {"{\"params\": {}, \"lr\": -1}", 422, "invalid-option", NULL},
        {"{\"params\": {}, \"eps\": -1}", 422, "invalid-option", NULL},
        {"{\"params\": {}, \"weight_decay\": -0.1}", 422, "invalid-option", NULL},
        {"{\"params\": {}, \"betas\": [1, 0.9]}", 422, "invalid-option", NULL},
        {"{\"params\": {}, \"betas\": [0.9, -0.1]}", 422, "invalid-option", NULL},
        {"{\"params\": {}, \"betas\": [\"Infinity\", 0.9]}", 422, "invalid-option", NULL},
        {"{\"params\": {}, \"betas\": [0.9]}", 422, "invalid-value", NULL},
        {"{\"params\": {}, \"lr\": 1e400}", 422, "invalid-value", NULL},
        {"{\"params\": {}, \"foreach\": true}", 422, "unsupported-option", NULL},
        {"{\"params\": {}, \"capturable\": true}", 422, "unsupported-option", NULL},
        {"{\"defaults\": {\"fused\": true}, \"param_groups\": [{\"params\": []}]}", 422,
         "unsupported-option", NULL},
        {"{\"param_groups\": [{\"params\": [], \"lr\": -1}]}", 422, "invalid-option", NULL},
        {"{\"param_groups\": [{\"params\": []}, {\"params\": [], \"differentiable\": true}]}", 422,
         "unsupported-option", NULL},
    };
    refuse_all(*state, bad, COUNT(bad));
}

/* Defaults out of range are refused too, where every group has values of its own. */
static void test_unused_defaults(void **state)
{
    static const refusal bad[] = {
        {"{\"defaults\": {\"lr\": -1}, \"param_groups\": [{\"params\": [], \"lr\": 1}]}", 422,
         "invalid-option", NULL},
    };
    refuse_all(*state, bad, COUNT(bad));
}

/* __metadata__.optimizer: groups that do not share out the tensors, and what is no description. */
static void test_metadata(void **state)
{
    static const refusal bad[] = {
        {"{\"param_groups\": [{\"params\": [\"u\"]}]}", 422, "invalid-value", "\"param\": \"v\""},
        {"{\"param_groups\": [{\"params\": [\"u\"]}, {\"params\": [\"v\", \"u\"]}]}", 422,
         "duplicate-param", "\"param\": \"u\""},
        {"{\"param_groups\": [{\"params\": [\"u\", \"v\", \"w\"]}]}", 422, "invalid-value",
         "\"param\": \"w\""},
        {"{\"param_groups\": [{\"params\": [\"u\", \"NaN\"]}]}", 422, "invalid-value",
         "\"param\": \"NaN\""},
        {"{\"param_groups\": [{\"params\": [\"NaN\"]}]}", 422, "invalid-value",
         "\"param\": \"NaN\""},
        {"{\"param_groups\": [{\"params\": []}]}", 422, "invalid-value", NULL},
        {"{\"param_groups\": [{}, {}]}", 422, "invalid-value", NULL},
        {"{\"param_groups\": [{\"params\": [\"u\", \"v\"]}, {}]}", 422, "invalid-value", NULL},
        {"{\"param_groups\": [{\"params\": \"u\"}]}", 422, "invalid-value", NULL},
        {"{\"param_groups\": [{\"params\": [{\"name\": \"u\"}]}]}", 422, "invalid-value", NULL},
        {"{\"param_groups\": [{\"params\": [[\"u\", \"v\"]]}]}", 422, "invalid-value", NULL},
        {"{\"param_groups\": [{\"params\": [1, \"u\"]}]}", 422, "invalid-value", NULL},
        {"{\"param_groups\": {}}", 422, "invalid-value", NULL},
        {"{\"param_groups\": [{\"lr\": -1}]}", 422, "invalid-option", NULL},
        {"{\"params\": {}}", 400, "unknown-field", NULL},
        {"{\"lr\": 1}", 400, "unknown-field", NULL},
        {"{\"defaults\": {\"Lr\": 1}}", 400, "unknown-field", NULL},
        {"{\"algorithm\": \"sgd\"}", 422, "invalid-value", NULL},
        {"[]", 422, "invalid-value", NULL},
        {"1", 422, "invalid-value", NULL},
        {"", 400, "malformed-json", NULL},
        {"{\"algorithm\": \"adam\"", 400, "malformed-json", NULL},
        {"{\"algorithm\": \"adam\", \"algorithm\": \"adam\"}", 400, "malformed-json", NULL},
    };
    peer *p = *state;
    float u[] = {1};
    const adamd_tensor tensors[] = {vector32("u", u, 1), vector32("v", u, 1)};
    for (size_t i = 0; i < COUNT(bad); i++) {
        file f = file_of(tensors, 2, "optimizer", bad[i].text);
        (void)ask_file(p, "PUT", at("new", ""), NULL, f);
        assert_refused(p, &bad[i]);
        file_free(&f);
    }
    file f = file_of(tensors, 2, "optimiser", "{}");
    const refusal unknown = {"optimiser", 400, "unknown-field", NULL};
    (void)ask_file(p, "PUT", at("new", ""), NULL, f);
    assert_refused(p, &unknown);
    file_free(&f);
}

/* What other writers of safetensors add is taken, and every way to write the groups means what it
 * says. */
static void test_good_metadata(void **state)
{
    static const struct {
        const char *key, *value, *groups;
    } good[] = {
        {NULL, NULL, "\"param_groups\": 1, \"params\": 2"},
        {"format", "pt", "\"param_groups\": 1, \"params\": 2"},
        {"optimizer", "{}", "\"param_groups\": 1, \"params\": 2"},
        {"optimizer", "{\"param_groups\": [{\"lr\": 1}]}", "\"param_groups\": 1, \"params\": 2"},
        {"optimizer", "{\"param_groups\": [{\"params\": [\"v\", \"u\"]}, {\"params\": []}]}",
         "\"param_groups\": 2, \"params\": 2"},
    };
    peer *p = *state;
    float u[] = {1};
    const adamd_tensor tensors[] = {vector32("u", u, 1), vector32("v", u, 1)};
    for (size_t i = 0; i < COUNT(good); i++) {
        file f = file_of(tensors, 2, good[i].key, good[i].value);
        (void)ask_file(p, "PUT", at("good", ""), NULL, f);
        assert_has(p, 201, good[i].groups);
        file_free(&f);
        (void)get(p, at("good", "/params"));
        assert_json(p, 200,
                    i == 4 ? "{\"step\": 0, \"params\": {\"v\": [1], \"u\": [1]}}"
                           : "{\"step\": 0, \"params\": {\"u\": [1], \"v\": [1]}}");
        (void)ask(p, "DELETE", at("good", ""), NULL, NULL, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown_fields),  cmocka_unit_test(test_wrong_types),
        cmocka_unit_test(test_parameters),      cmocka_unit_test(test_options),
        cmocka_unit_test(test_unused_defaults), cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_good_metadata),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
