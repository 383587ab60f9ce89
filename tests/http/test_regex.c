/* test_regex.c: param groups that name their parameters, by lists and by regular expressions, in
 * safetensors and in JSON: the same groups from both, and the same refusals. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

#define ACCENTED "\xc3\xa9/x"
#define BROKEN   "line\nbreak.bias"

/* Parameters of every case here, one element each, in an order of their own. */
static const char *const names[] = {"nn1.weight", "nn1.bias", ACCENTED, BROKEN, "nn2.bias"};
static float values[COUNT(names)];

/* Creates "new" with these groups, from a file, or in JSON's combined form. */
static void create_with(peer *p, const char *groups, bool in_file)
{
    if (in_file) {
        char spec[4096];
        adamd_tensor tensors[COUNT(names)];
        for (size_t i = 0; i < COUNT(names); i++) {
            tensors[i] = vector32(names[i], &values[i], 1);
        }
        (void)snprintf(spec, sizeof spec, "{\"param_groups\": %s}", groups);
        file f = file_of(tensors, COUNT(names), "optimizer", spec);
        (void)ask_file(p, "PUT", at("new", ""), NULL, f);
        file_free(&f);
        return;
    }
    char body[8192];
    (void)snprintf(body, sizeof body,
                   "{\"params\": {\"nn1.weight\": [0], \"nn1.bias\": {\"shape\": [1]}, \"" ACCENTED
                   "\": [0], \"line\\nbreak.bias\": {\"data\": [0]}, \"nn2.bias\": [0]}, "
                   "\"param_groups\": %s}",
                   groups);
    (void)ask_json(p, "PUT", at("new", ""), body);
}

/* The names that the groups have, as "a,b;c". */
static void assert_groups(peer *p, const char *expected)
{
    char got[1024] = "";
    (void)get(p, at("new", "/param_groups?data=none"));
    assert_status(p, 200);
    char *flat = flatten(body_of(p));
    for (const char *at_group = strstr(flat, "\"params\":"); at_group != NULL;) {
        const char *next = strstr(at_group + 1, "\"params\":");
        const char *name = at_group;
        while ((name = strstr(name, "\"name\":")) != NULL && (next == NULL || name < next)) {
            name = strchr(name + strlen("\"name\":"), '"') + 1;
            (void)snprintf(got + strlen(got), sizeof got - strlen(got), "%.*s,",
                           (int)strcspn(name, "\""), name);
        }
        if (got[0] != '\0' && got[strlen(got) - 1] == ',') {
            got[strlen(got) - 1] = '\0';
        }
        (void)strcat(got, next != NULL ? ";" : "");
        at_group = next;
    }
    free(flat);
    assert_string_equal(got, expected);
}

/* Lists keep their order, regexes that of the parameters, and both may stand side by side. */
static void test_groups(void **state)
{
    static const struct {
        const char *groups, *expected;
    } good[] = {
        {"[{\"params\": {\"regex\": \"\"}}]",
         "nn1.weight,nn1.bias," ACCENTED ",line\\u000abreak.bias,nn2.bias"},
        {"[{\"params\": {\"regex\": \"\\\\.bias$\"}}, {\"params\": [\"" ACCENTED
         "\", \"nn1.weight\"]}]",
         "nn1.bias,line\\u000abreak.bias,nn2.bias;" ACCENTED ",nn1.weight"},
        {"[{\"params\": {\"regex\": \"^(?!nn)\"}}, {\"params\": []}, "
         "{\"params\": {\"regex\": \"^nn\"}}]",
         ACCENTED ",line\\u000abreak.bias;;nn1.weight,nn1.bias,nn2.bias"},
        {"[{\"params\": {\"regex\": \"^line\\nbreak\"}}, {\"params\": {\"regex\": \"^\\\\w/x$\"}}, "
         "{\"params\": {\"regex\": \"^nn[0-9]\\\\.\"}}]",
         "line\\u000abreak.bias;" ACCENTED ";nn1.weight,nn1.bias,nn2.bias"},
        {"[{\"lr\": 1}]", "nn1.weight,nn1.bias," ACCENTED ",line\\u000abreak.bias,nn2.bias"},
    };
    peer *p = *state;
    for (size_t i = 0; i < 2 * COUNT(good); i++) {
        create_with(p, good[i / 2].groups, i % 2 == 0);
        assert_status(p, 201);
        assert_groups(p, good[i / 2].expected);
        (void)ask(p, "DELETE", at("new", ""), NULL, NULL, 0);
    }
}

/* Options of a group go before `defaults`, and values and types come with their names. */
static void test_options_and_values(void **state)
{
    peer *p = *state;
    create(p, "new",
           "{\"param_groups\": [{\"params\": {\"regex\": \"b$\"}, \"weight_decay\": 0}, "
           "{\"params\": [\"w\"], \"lr\": 0.5}], \"algorithm\": \"adamw\", "
           "\"defaults\": {\"lr\": 0.25, \"weight_decay\": 1}, "
           "\"params\": {\"w\": [[1, 2], [3, 4]], \"b\": {\"shape\": [3]}, "
           "\"a.b\": {\"data\": [0.1], \"dtype\": \"float64\"}}}");
    (void)get(p, at("new", "/param_groups"));
    assert_has(p, 200,
               "\"name\": \"b\", \"shape\": [3], \"dtype\": \"float32\", \"data\": [0, 0, 0]");
    assert_has(p, 200,
               "\"name\": \"a.b\", \"shape\": [1], \"dtype\": \"float64\", \"data\": [0.1]");
    assert_has(p, 200,
               "\"lr\": 0.25, \"betas\": [0.9, 0.999], \"eps\": 1e-08, "
               "\"weight_decay\": 0,");
    assert_has(p, 200,
               "\"name\": \"w\", \"shape\": [2, 2], \"dtype\": \"float32\", "
               "\"data\": [[1, 2], [3, 4]]");
    assert_has(p, 200,
               "\"lr\": 0.5, \"betas\": [0.9, 0.999], \"eps\": 1e-08, "
               "\"weight_decay\": 1,");
    (void)ask_json(p, "POST", at("new", "/step"), "{\"grads\": {\"b\": [1, 1, 1]}}");
    assert_has(p, 200, "\"params\": {\"b\": [-0.24999997, -0.24999997, -0.24999997]}");
    (void)ask(p, "DELETE", at("new", ""), NULL, NULL, 0);
}

typedef struct refusal {
    const char *groups;
    int status;
    const char *code, *member;
} refusal;

static void assert_refused(peer *p, const refusal *r)
{
    if (p->reply.status != r->status || strstr(body_of(p), r->member) == NULL) {
        print_error("with %s: %s\n", r->groups, body_of(p));
    }
    assert_problem(p, r->status, r->code, r->member);
    (void)get(p, at("new", ""));
    assert_problem(p, 404, "no-such-optimizer", NULL);
}

/* Every way in which groups can fail to share out the parameters says which parameter, which groups
 * and which pattern. */
static void test_refused(void **state)
{
    static const refusal bad[] = {
        {"[{\"params\": {\"regex\": \"nn\"}}, {\"params\": {\"regex\": \"bias$\"}}]", 422,
         "duplicate-param",
         "'nn1.bias' is in param group 0 already, and regex 'bias$' of param group 1 matches it "
         "too\", \"param\": \"nn1.bias\""},
        {"[{\"params\": [\"nn2.bias\"]}, {\"params\": {\"regex\": \"bias$\"}}]", 422,
         "duplicate-param",
         "'nn2.bias' is in param group 0 already, and regex 'bias$' of param "
         "group 1 matches it too\", \"param\": \"nn2.bias\""},
        {"[{\"params\": [\"nn1.weight\"]}, {\"params\": {\"regex\": \"bias$\"}}, {\"params\": "
         "[\"nn1.bias\"]}]",
         422, "duplicate-param",
         "'nn1.bias' is in param group 1 already, and param group 2 names "
         "it too\", \"param\": \"nn1.bias\""},
        {"[{\"params\": [\"nn1.bias\", \"nn1.bias\"]}]", 422, "duplicate-param",
         "'nn1.bias' is named twice by param group 0\", \"param\": \"nn1.bias\""},
        {"[{\"params\": {\"regex\": \"\"}}, {\"params\": {\"regex\": \"b[xyz]$\"}}]", 422,
         "invalid-value", "regex 'b[xyz]$' of param group 1 matches no parameter"},
        {"[{\"params\": {\"regex\": \"^nn\"}}]", 422, "invalid-value",
         "is in no param group\", \"param\": \"" ACCENTED "\""},
        {"[{\"params\": [\"absent\"]}]", 422, "invalid-value",
         "param group 0 names 'absent', which is not among the parameters\", \"param\": "
         "\"absent\""},
        {"[{\"params\": {\"regex\": \"nn(\"}}]", 422, "invalid-value",
         "regex 'nn(' of param group 0 is refused by PCRE2 at byte 3: missing closing "
         "parenthesis"},
        {"[{\"params\": {\"regex\": \"n\", \"flags\": \"i\"}}]", 400, "unknown-field",
         "unknown field 'flags' in params of param group 0"},
        {"[{\"params\": {\"regexp\": \"n\"}}]", 400, "unknown-field",
         "unknown field 'regexp' in params of param group 0"},
        {"[{\"params\": {}}]", 422, "invalid-value",
         "regex of param group 0 is missing, expected a string"},
        {"[{\"params\": {\"regex\": [\"n\"]}}]", 422, "invalid-value",
         "regex of param group 0 is a list, expected a string"},
        {"[{\"params\": {\"regex\": null}}]", 422, "invalid-value",
         "regex of param group 0 is null, expected a string"},
        {"[{\"params\": [{\"regex\": \"n\"}]}]", 422, "invalid-value", "params of param group 0"},
        {"[{\"params\": \"nn1.bias\"}]", 422, "invalid-value",
         "params of param group 0 is a string, expected a list of parameter names, or "
         "{\\\"regex\\\": \\\"...\\\"}"},
        {"[{\"params\": {\"regex\": \"\"}}, {}]", 422, "invalid-value",
         "params of param group 1 is missing"},
        {"[{\"params\": {\"regex\": \"\"}, \"momentum\": 1}]", 400, "unknown-field", "momentum"},
        {"[{\"params\": {\"regex\": \"(?R)\"}}]", 422, "invalid-value", "recursion"},
        {"[1, {}]", 422, "invalid-value", "param group 0 is a number, expected an object"},
        {"[]", 422, "invalid-value", "param_groups is"},
        {"{}", 422, "invalid-value", "param_groups is an object"},
        {"null", 422, "invalid-value", "param_groups is null"},
    };
    peer *p = *state;
    for (size_t i = 0; i < 2 * COUNT(bad); i++) {
        create_with(p, bad[i / 2].groups, i % 2 == 0);
        assert_refused(p, &bad[i / 2]);
    }
}

/* A pattern has a limit of its own, and its text, however it is cut, stays UTF-8 in the refusal. */
static void test_long_pattern(void **state)
{
    peer *p = *state;
    char groups[2048];
    char pattern[1026];
    for (size_t i = 0; i < 512; i++) {
        memcpy(pattern + 2 * i, "\xc3\xa9", 2);
    }
    for (size_t over = 0; over < 2; over++) {
        memcpy(pattern + 1024, over == 1 ? "x" : "", 2 - (over == 0));
        (void)snprintf(groups, sizeof groups, "[{\"params\": {\"regex\": \"%s\"}}]", pattern);
        create_with(p, groups, false);
        const refusal r = {groups, 422, over == 1 ? "limit-exceeded" : "invalid-value",
                           over == 1 ? "the regex of param group 0 has 1025 bytes, at most 1024"
                                     : "of param group 0 matches no parameter"};
        assert_refused(p, &r);
    }
}

/* A pattern that would take years is refused, and the server goes on. */
static void test_catastrophe(void **state)
{
    static const size_t lengths[] = {32, 511};
    peer *p = *state;
    for (size_t i = 0; i < COUNT(lengths); i++) {
        char body[1024];
        char name[513];
        memset(name, 'a', lengths[i]);
        (void)strcpy(name + lengths[i], "!");
        (void)snprintf(body, sizeof body,
                       "{\"params\": {\"%s\": 1}, \"param_groups\": "
                       "[{\"params\": {\"regex\": \"(a+)+$\"}}]}",
                       name);
        (void)ask_json(p, "PUT", at("new", ""), body);
        const refusal r = {body, 422, "limit-exceeded",
                           "regex '(a+)+$' of param group 0 takes too long over 'aaaaaaaa"};
        assert_refused(p, &r);
    }
}

/* A name over the limit of names is refused for that, before a pattern looks at it. */
static void test_long_name(void **state)
{
    static const char *const groups[] = {"[{\"params\": {\"regex\": \"a\"}}]", "[{\"lr\": 1}]"};
    peer *p = *state;
    for (size_t i = 0; i < COUNT(groups); i++) {
        char body[1024];
        char name[514];
        memset(name, 'a', sizeof name - 1);
        name[sizeof name - 1] = '\0';
        (void)snprintf(body, sizeof body, "{\"params\": {\"%s\": 1}, \"param_groups\": %s}", name,
                       groups[i]);
        (void)ask_json(p, "PUT", at("new", ""), body);
        const refusal r = {body, 422, "invalid-name",
                           "a parameter name has 513 bytes, expected 1 to 512"};
        assert_refused(p, &r);
    }
}

/* Members of JSON's forms that stand where another form has them are told where they belong. */
static void test_places(void **state)
{
    static const refusal bad[] = {
        {"{\"params\": {\"w\": 1}, \"param_groups\": [{\"params\": [\"w\"]}], \"lr\": 1}", 400,
         "unknown-field",
         "unknown field 'lr' in the optimizer: beside param_groups, hyperparameters stand in "
         "'defaults' or in a param group"},
        {"{\"param_groups\": [{\"params\": []}], \"fused\": null}", 400, "unknown-field",
         "unknown field 'fused' in the optimizer: beside param_groups"},
        {"{\"params\": {\"w\": 1}, \"defaults\": {\"lr\": 1}}", 400, "unknown-field",
         "unknown field 'defaults' in the short form: without param_groups, hyperparameters stand "
         "beside params"},
        {"{\"params\": {\"w\": 1}, \"param_groups\": [{\"params\": [\"w\"]}], \"rho\": 1}", 400,
         "unknown-field", "unknown field 'rho' in the optimizer"},
        {"{\"params\": [1], \"param_groups\": [{\"params\": [\"w\"]}]}", 422, "invalid-value",
         "params is a list of numbers, expected an object of parameters by name"},
        {"{\"params\": null, \"param_groups\": [{\"params\": []}]}", 422, "invalid-value",
         "params is null"},
        {"{\"params\": {\"w\": {}}, \"param_groups\": [{\"params\": [\"w\"]}]}", 422,
         "invalid-value", "\"param\": \"w\""},
        {"{\"params\": {\"w\": 1}, \"param_groups\": [{\"params\": [{\"name\": \"w\", \"data\": "
         "1}]}]}",
         422, "invalid-value", "expected a list of parameter names"},
        {"{\"param_groups\": [{\"params\": {\"regex\": \"w\"}}]}", 422, "invalid-value",
         "params of a param group is an object"},
        {"{\"params\": {\"w\": 1}, \"param_groups\": [{\"params\": [\"w\"]}], "
         "\"defaults\": {\"lr\": -1}}",
         422, "invalid-option", "lr"},
    };
    peer *p = *state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        (void)ask_json(p, "PUT", at("new", ""), bad[i].groups);
        assert_refused(p, &bad[i]);
    }
}

/* A hundred thousand tensors are shared out by patterns, each to its group. */
static void test_many(void **state)
{
    enum { N = 100000, LENGTH = 48 };
    peer *p = *state;
    char(*many)[LENGTH] = calloc(N, sizeof *many);
    adamd_tensor *tensors = calloc(N, sizeof *tensors);
    float zero[] = {0};
    assert_true(many != NULL && tensors != NULL);
    for (size_t i = 0; i < N; i++) {
        (void)snprintf(many[i], LENGTH, "model.layers.%zu.attention.%s", i / 2,
                       i % 2 == 0 ? "weight" : "bias");
        tensors[i] = vector32(many[i], zero, 1);
    }
    file f =
        file_of(tensors, N, "optimizer",
                "{\"param_groups\": ["
                "{\"params\": {\"regex\": \"^model\\\\.layers\\\\.\\\\d+\\\\..*\\\\.bias$\"}}, "
                "{\"params\": {\"regex\": \"layers\\\\.[0-4].*weight$\"}}, "
                "{\"params\": {\"regex\": \"layers\\\\.[5-9].*weight$\"}}]}");
    (void)ask_file(p, "PUT", at("new", ""), NULL, f);
    assert_has(p, 201, "\"param_groups\": 3, \"params\": 100000,");
    (void)get(p, at("new", "/param_groups?data=none"));
    assert_status(p, 200);
    const char *first = strstr(body_of(p), "model.layers.");
    assert_non_null(first);
    assert_int_equal(strncmp(first, "model.layers.0.attention.bias\"", 30), 0);
    const char *last_bias = strstr(body_of(p), "model.layers.49999.attention.bias\"");
    const char *first_weight = strstr(body_of(p), "model.layers.0.attention.weight\"");
    const char *fifth_weight = strstr(body_of(p), "model.layers.5.attention.weight\"");
    assert_true(last_bias != NULL && last_bias < first_weight && first_weight < fifth_weight);
    file_free(&f);
    free(tensors);
    free(many);
    (void)ask(p, "DELETE", at("new", ""), NULL, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups),      cmocka_unit_test(test_options_and_values),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_long_pattern),
        cmocka_unit_test(test_catastrophe), cmocka_unit_test(test_long_name),
        cmocka_unit_test(test_places),      cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
