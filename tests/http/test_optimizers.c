/* test_optimizers.c: creating from JSON, summaries, names, removing, and the list. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "peer.h"

#define DEFAULTS                                                                                 \
    "\"betas\": [0.9, 0.999], \"eps\": 1e-08, \"weight_decay\": 0, \"amsgrad\": false, "         \
    "\"maximize\": false, \"foreach\": null, \"capturable\": false, \"differentiable\": false, " \
    "\"fused\": null"

static int clear(void **state)
{
    remove_all(*state);
    return 0;
}

/* The reply without the values that differ from run to run. */
static void assert_summary(const peer *p, int status, const char *name, const char *rest)
{
    char text[512];
    (void)snprintf(text, sizeof text, "{\"name\": \"%s\", \"algorithm\": ", name);
    assert_has(p, status, text);
    assert_has(p, status, rest);
}

/* What is created is described in the reply, which says where it is; GET says the same. */
static void test_create(void **state)
{
    peer *p = *state;
    char *created;
    (void)ask_json(
        p, "PUT", at("mlp", ""),
        "{\"algorithm\": \"adam\", \"defaults\": {\"lr\": 0.1}, \"param_groups\": ["
        "{\"params\": [{\"name\": \"nn1.weight\", \"shape\": [3, 2], \"data\": [[1, 2], "
        "[3, 4], [5, 6]]}, {\"name\": \"nn1.bias\", \"shape\": [3], \"dtype\": "
        "\"float64\"}]}, {\"params\": [{\"name\": \"s\", \"data\": 2}], \"lr\": 0.01}]}");
    assert_summary(p, 201, "mlp",
                   "\"algorithm\": \"adam\", \"step\": 0, \"skipped\": 0, \"epoch\": ");
    assert_has(p, 201, "\"param_groups\": 2, \"params\": 3, \"numel\": 10, \"bytes\": ");
    assert_has(p, 201,
               "\"defaults\": {\"lr\": 0.1, " DEFAULTS
               "}, \"grad_scale\": 1, \"nonfinite\": \"error\", \"max_grad_norm\": null, "
               "\"norm_type\": 2, \"error_if_nonfinite\": false, \"clip_value\": null, "
               "\"aggregation\": {\"mode\": \"immediate\"}, \"input\": \"gradients\", "
               "\"max_consecutive_nonfinite\": null}\n");
    assert_header(p, "Content-Type", JSON_TYPE);
    assert_header(p, "Location", "/v1/optimizers/mlp");
    const char *etag = adamd_response_header(&p->reply, "ETag", 0);
    assert_non_null(etag);
    created = strdup(body_of(p));
    char tag[64];
    (void)snprintf(tag, sizeof tag, "%s", etag);
    (void)get(p, at("mlp", ""));
    assert_status(p, 200);
    assert_string_equal(body_of(p), created);
    assert_header(p, "ETag", tag);
    assert_header(p, "Location", NULL);
    free(created);
}

/* The short form is the long form with one group of float32 parameters. */
static void test_short_form(void **state)
{
    peer *p = *state;
    create(p, "short",
           "{\"params\": {\"w\": [0.5, -1], \"s\": 3, \"d\": {\"shape\": [2], "
           "\"dtype\": \"float64\"}}, \"lr\": 0.1, \"betas\": [0.8, 0.9]}");
    create(p, "long",
           "{\"param_groups\": [{\"params\": [{\"name\": \"w\", \"data\": [0.5, -1]}, {\"name\": "
           "\"s\", \"data\": 3}, {\"name\": \"d\", \"shape\": [2], \"dtype\": \"float64\", "
           "\"data\": [0, 0]}], \"lr\": 0.1, \"betas\": [0.8, 0.9]}]}");
    char *one = state_of(p, "short");
    char *other = state_of(p, "long");
    assert_string_equal(strchr(one, '\n'), strchr(other, '\n')); /* all but the ETag */
    free(one);
    free(other);
}

/* torch's defaults hold where nothing is said; AdamW's weight decay is its own. */
static void test_defaults(void **state)
{
    peer *p = *state;
    create(p, "adam", "{\"params\": {\"w\": [1]}}");
    assert_has(p, 201,
               "\"defaults\": {\"lr\": 0.001, " DEFAULTS
               "}, \"grad_scale\": 1, \"nonfinite\": \"error\", \"max_grad_norm\": null, "
               "\"norm_type\": 2, \"error_if_nonfinite\": false, \"clip_value\": null, "
               "\"aggregation\": {\"mode\": \"immediate\"}, \"input\": \"gradients\", "
               "\"max_consecutive_nonfinite\": null}\n");
    create(p, "adamw", "{\"algorithm\": \"adamw\", \"params\": {\"w\": [1]}}");
    assert_has(p, 201, "\"algorithm\": \"adamw\"");
    assert_has(p, 201,
               "\"lr\": 0.001, \"betas\": [0.9, 0.999], \"eps\": 1e-08, "
               "\"weight_decay\": 0.01, \"amsgrad\": false");
}

/* A name is taken once; the second comer is told so, and nothing has changed. */
static void test_name_taken(void **state)
{
    peer *p = *state;
    create(p, "a", "{\"params\": {\"w\": [1]}}");
    char *before = state_of(p, "a");
    (void)ask_json(p, "PUT", at("a", ""), "{\"params\": {\"w\": [2]}}");
    assert_problem(p, 409, "name-taken", NULL);
    assert_header(p, "Location", NULL);
    (void)ask_json(p, "PUT", at("%61", ""), "{\"params\": {\"w\": [2]}}"); /* the same name */
    assert_problem(p, 409, "name-taken", NULL);
    assert_unchanged(p, "a", before);
}

/* The limits and the alphabet of names. */
static void test_names(void **state)
{
    static const char *const good[] = {"a", "A9", "0", "a.b_c-d", "a..b", "z-"};
    static const char *const bad[] = {".a",  "_a",    "-a",    "a%20b", "a%2Fb", "a%C3%A9",
                                      "a+b", "a%7Fb", "a%0Ab", "a:b",   "~a"};
    peer *p = *state;
    char name[130] = "";
    for (size_t i = 0; i < COUNT(good); i++) {
        create(p, good[i], "{\"params\": {}}");
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        (void)ask_json(p, "PUT", at(bad[i], ""), "{\"params\": {}}");
        assert_problem(p, 422, "invalid-name", NULL);
    }
    memset(name, 'n', 128);
    create(p, name, "{\"params\": {}}");
    (void)get(p, at(name, ""));
    assert_status(p, 200);
    name[128] = 'n';
    (void)ask_json(p, "PUT", at(name, ""), "{\"params\": {}}");
    assert_problem(p, 422, "invalid-name", NULL);
    (void)get(p, at(name, ""));
    assert_problem(p, 404, "no-such-optimizer", NULL);
}

/* What is removed is gone and its name free; a tag of the old one does not fit the new one. */
static void test_delete(void **state)
{
    peer *p = *state;
    char etag[64];
    char line[80];
    create(p, "a", "{\"params\": {\"w\": [1]}}");
    (void)snprintf(etag, sizeof etag, "%s", adamd_response_header(&p->reply, "ETag", 0));
    (void)ask(p, "DELETE", at("a", ""), NULL, NULL, 0);
    assert_empty(p, 204);
    assert_header(p, "ETag", NULL);
    (void)get(p, at("a", ""));
    assert_problem(p, 404, "no-such-optimizer", NULL);
    (void)ask(p, "DELETE", at("a", ""), NULL, NULL, 0);
    assert_problem(p, 404, "no-such-optimizer", NULL);
    create(p, "a", "{\"params\": {\"w\": [1]}}");
    (void)snprintf(line, sizeof line, "If-Match: %s", etag);
    (void)ask_json_with(p, "POST", at("a", "/step"), line, "{\"grads\": {\"w\": [1]}}");
    assert_problem(p, 412, "precondition-failed", NULL);
}

/* An optimizer may have no parameters yet: torch users add groups later. */
static void test_without_parameters(void **state)
{
    peer *p = *state;
    create(p, "none", "{\"params\": {}}");
    assert_has(p, 201, "\"param_groups\": 1, \"params\": 0, \"numel\": 0");
    (void)get(p, at("none", "/params"));
    assert_json(p, 200, "{\"step\": 0, \"params\": {}}");
    (void)ask_json(p, "POST", at("none", "/step"), "{\"grads\": {}}");
    assert_problem(p, 422, "empty", NULL);
}

/* The names of a page, joined by spaces, and what follows. */
static void assert_page(peer *p, const char *query, const char *names, const char *next)
{
    char path[512];
    char got[512] = "";
    (void)snprintf(path, sizeof path, OPTIMIZERS "%s", query);
    (void)get(p, path);
    assert_status(p, 200);
    for (const char *c = body_of(p); (c = strstr(c, "{\"name\": \"")) != NULL;) {
        c += strlen("{\"name\": \"");
        (void)snprintf(got + strlen(got), sizeof got - strlen(got), "%s%.*s", got[0] ? " " : "",
                       (int)strcspn(c, "\""), c);
    }
    assert_string_equal(got, names);
    char end[160];
    (void)snprintf(end, sizeof end,
                   next != NULL ? "], \"next\": \"%s\"}\n" : "], \"next\": null}\n", next);
    const size_t length = strlen(end);
    assert_true(p->reply.length >= length);
    assert_string_equal(body_of(p) + p->reply.length - length, end);
}

/* The list goes by name, a page at a time, and `next` leads through all of it. */
static void test_list(void **state)
{
    static const char *const names[] = {"b2", "a", "b1", "c", "B", "b10", "b"};
    peer *p = *state;
    (void)get(p, OPTIMIZERS);
    assert_json(p, 200, "{\"optimizers\": [], \"next\": null}");
    for (size_t i = 0; i < COUNT(names); i++) {
        create(p, names[i], "{\"params\": {\"w\": [1]}}");
    }
    assert_page(p, "", "B a b b1 b10 b2 c", NULL);
    assert_page(p, "?limit=3", "B a b", "b");
    assert_page(p, "?limit=3&after=b", "b1 b10 b2", "b2");
    assert_page(p, "?limit=3&after=b2", "c", NULL);
    assert_page(p, "?limit=7", "B a b b1 b10 b2 c", NULL);
    assert_page(p, "?prefix=b", "b b1 b10 b2", NULL);
    assert_page(p, "?prefix=b&limit=2", "b b1", "b1");
    assert_page(p, "?prefix=b&limit=2&after=b1", "b10 b2", NULL);
    assert_page(p, "?prefix=b&after=a", "b b1 b10 b2", NULL);
    assert_page(p, "?prefix=b1&after=b1", "b10", NULL);
    assert_page(p, "?prefix=b&after=c", "", NULL);
    assert_page(p, "?after=bb", "c", NULL); /* a name that is not there is a place all the same */
    assert_page(p, "?prefix=x", "", NULL);
    assert_page(p, "?after=c", "", NULL);
    assert_page(p, "?prefix=%62", "b b1 b10 b2", NULL);
    (void)ask(p, "DELETE", at("b1", ""), NULL, NULL, 0);
    assert_page(p, "?prefix=b&limit=2&after=b1", "b10 b2", NULL); /* removed between two pages */
}

/* A prefix longer than any name is a mistake, not an empty list. */
static void test_list_too_long(void **state)
{
    peer *p = *state;
    char path[256] = OPTIMIZERS "?prefix=";
    memset(path + strlen(path), 'p', 129);
    (void)get(p, path);
    assert_problem(p, 400, "invalid-query", NULL);
    path[strlen(path) - 1] = '\0';
    (void)get(p, path);
    assert_json(p, 200, "{\"optimizers\": [], \"next\": null}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_create, clear),
        cmocka_unit_test_setup(test_short_form, clear),
        cmocka_unit_test_setup(test_defaults, clear),
        cmocka_unit_test_setup(test_name_taken, clear),
        cmocka_unit_test_setup(test_names, clear),
        cmocka_unit_test_setup(test_delete, clear),
        cmocka_unit_test_setup(test_without_parameters, clear),
        cmocka_unit_test_setup(test_list, clear),
        cmocka_unit_test_setup(test_list_too_long, clear),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
