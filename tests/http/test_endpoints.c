/* test_endpoints.c: what holds for every path: methods, HEAD, what is not there, queries, and the
 * endpoints about the server itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "peer.h"
#include "router.h"

static const char *const methods[] = {"GET",   "HEAD",   "PUT",     "POST",
                                      "PATCH", "DELETE", "OPTIONS", "TRACE"};

/* An optimizer "a" with a parameter "w", which the paths below are about. */
static int setup(void **state)
{
    (void)peer_with_server(state);
    create(*state, "a", "{\"params\": {\"w\": [0.5, -1]}}");
    return 0;
}

/* The pattern with its variables filled in. */
static void fill_in(const char *pattern, char *path, size_t size)
{
    size_t n = 0;
    for (const char *c = pattern; *c != '\0' && n + 2 < size; c++) {
        if (*c == '{') {
            path[n++] = c[1] == 'n' ? 'a' : c[1] == 'p' ? 'w' : '0';
            c = strchr(c, '}');
        } else {
            path[n++] = *c;
        }
    }
    path[n] = '\0';
}

static bool in_table(const char *pattern, const char *method)
{
    size_t n;
    const route *routes = router_routes(&n);
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(routes[i].pattern, pattern) == 0 && strcmp(routes[i].method, wanted) == 0) {
            return true;
        }
    }
    return false;
}

static bool in_list(const char *list, const char *word)
{
    const size_t length = strlen(word);
    for (const char *c = list; *c != '\0'; c += strspn(c, ", ")) {
        const size_t n = strcspn(c, ", ");
        if (n == length && memcmp(c, word, n) == 0) {
            return true;
        }
        c += n;
    }
    return false;
}

/* A method that a path does not take is answered with 405 and an Allow that lists exactly those
 * that it takes. */
static void test_methods(void **state)
{
    peer *p = *state;
    char path[256];
    size_t n;
    const route *routes = router_routes(&n);
    for (size_t i = 0; i < n; i++) {
        fill_in(routes[i].pattern, path, sizeof path);
        for (size_t m = 0; m < COUNT(methods); m++) {
            if (in_table(routes[i].pattern, methods[m])) {
                continue;
            }
            (void)ask(p, methods[m], path, NULL, NULL, 0);
            if (strcmp(methods[m], "HEAD") == 0) {
                assert_empty(p, 405);
            } else {
                assert_problem(p, 405, "method-not-allowed", NULL);
            }
            const char *allow = adamd_response_header(&p->reply, "Allow", 0);
            assert_non_null(allow);
            for (size_t k = 0; k < COUNT(methods); k++) {
                if (in_list(allow, methods[k]) != in_table(routes[i].pattern, methods[k])) {
                    fail_msg("%s: Allow is '%s'", path, allow);
                }
            }
        }
    }
}

/* HEAD says of every readable path what GET says, without the body. */
static void test_head(void **state)
{
    static const char *const same[] = {"Content-Type", "Content-Length", "ETag", "Allow"};
    peer *p = *state;
    char path[256];
    size_t n;
    const route *routes = router_routes(&n);
    for (size_t i = 0; i < n; i++) {
        char values[COUNT(same)][128] = {""};
        if (strcmp(routes[i].method, "GET") != 0 || routes[i].answer == REPLY_AS_EVENTS) {
            continue; /* a stream has no end to wait for; test_events.c asks its HEAD */
        }
        fill_in(routes[i].pattern, path, sizeof path);
        (void)get(p, path);
        assert_status(p, 200);
        assert_true(p->reply.length > 0);
        for (size_t k = 0; k < COUNT(same); k++) {
            const char *value = adamd_response_header(&p->reply, same[k], 0);
            (void)snprintf(values[k], sizeof values[k], "%s", value != NULL ? value : "");
        }
        (void)ask(p, "HEAD", path, NULL, NULL, 0);
        assert_empty(p, 200);
        for (size_t k = 0; k < COUNT(same); k++) {
            assert_header(p, same[k], values[k][0] != '\0' ? values[k] : NULL);
        }
    }
    /* what is not there is not there for HEAD either */
    (void)ask(p, "HEAD", at("nobody", ""), NULL, NULL, 0);
    assert_empty(p, 404);
}

/* A path that no pattern has is 404, however close it comes. */
static void test_no_such_path(void **state)
{
    static const char *const paths[] = {"/x",
                                        "/v1",
                                        "/V1/optimizers",
                                        "/v1/optimizers/",
                                        "/v1/optimizers/a/",
                                        "/v1/optimizers/a/steps",
                                        "/v1/optimizers/a/Step",
                                        "/v1/optimizers/a/params/",
                                        "/v1/optimizers/a/params/w/x",
                                        "/v1/optimizers//step",
                                        "/v1//optimizers",
                                        "//livez",
                                        "/livez/",
                                        "/livez/x"};
    peer *p = *state;
    for (size_t i = 0; i < COUNT(paths); i++) {
        (void)get(p, paths[i]);
        assert_problem(p, 404, "no-such-path", NULL);
    }
}

/* Every path below an optimizer says so where there is none, whatever else the request lacks. */
static void test_no_such_optimizer(void **state)
{
    static const char *const names[] = {"nobody", "-a", ".a", "_a", "a%20", "%C3%A9"};
    peer *p = *state;
    size_t n;
    const route *routes = router_routes(&n);
    for (size_t i = 0; i < n; i++) {
        char tail[256];
        const char *rest = strstr(routes[i].pattern, "{name}");
        if (rest == NULL || routes[i].handler == api_create) {
            continue;
        }
        fill_in(rest + strlen("{name}"), tail, sizeof tail);
        for (size_t k = 0; k < COUNT(names); k++) {
            (void)ask(p, routes[i].method, at(names[k], tail), NULL, NULL, 0);
            assert_problem(p, 404, "no-such-optimizer", NULL);
            assert_header(p, "ETag", NULL);
        }
    }
}

/* A query that a path does not take is refused, not ignored; so is one given twice. */
static void test_queries(void **state)
{
    static const char *const refused[] = {
        "/?x=1",
        "/livez?data=all",
        OPTIMIZERS "?limits=3",
        OPTIMIZERS "?Limit=3",
        OPTIMIZERS "?data=all",
        OPTIMIZERS "?limit=1&limit=1",
        OPTIMIZERS "?prefix=&prefix=",
        OPTIMIZERS "?limit=0",
        OPTIMIZERS "?limit=1001",
        OPTIMIZERS "?limit=-1",
        OPTIMIZERS "?limit=1.0",
        OPTIMIZERS "?limit=",
        OPTIMIZERS "?limit",
        OPTIMIZERS "?limit=99999999999999999999",
        OPTIMIZERS "?&",
        OPTIMIZERS "/a?data=all",
        OPTIMIZERS "/a/params?data=all",
        OPTIMIZERS "/a/params/w?data=all",
        OPTIMIZERS "/a/state_dict?data=all",
        OPTIMIZERS "/a/state_dict?load=params", /* of a GET */
        OPTIMIZERS "/a/digest?data=all",
        OPTIMIZERS "/a/param_groups?data=some",
        OPTIMIZERS "/a/param_groups?data=",
        OPTIMIZERS "/a/param_groups?data=all&data=none",
        OPTIMIZERS "/a/state/w?data=ALL",
        OPTIMIZERS "/a/state/w?limit=1",
    };
    static const char *const taken[] = {
        OPTIMIZERS "?",
        OPTIMIZERS "?limit=1000&prefix=a&after=",
        OPTIMIZERS "?%6Cimit=%31",
        OPTIMIZERS "/a/param_groups?data=all",
        OPTIMIZERS "/a/state/w?data=none",
    };
    peer *p = *state;
    for (size_t i = 0; i < COUNT(refused); i++) {
        (void)get(p, refused[i]);
        assert_problem(p, 400, "invalid-query", NULL);
    }
    for (size_t i = 0; i < COUNT(taken); i++) {
        (void)get(p, taken[i]);
        assert_status(p, 200);
    }
}

/* No path that only reads or removes takes a body, and a refusal says so before any is used. */
static void test_no_body(void **state)
{
    peer *p = *state;
    char path[256];
    size_t n;
    const route *routes = router_routes(&n);
    for (size_t i = 0; i < n; i++) {
        if (routes[i].body == ROUTE_NO_BODY) {
            fill_in(routes[i].pattern, path, sizeof path);
            (void)ask_json(p, routes[i].method, path, "{}");
            assert_problem(p, 400, "malformed-request", NULL);
        }
    }
    (void)get(p, at("a", ""));
    assert_status(p, 200); /* DELETE with a body did not delete */
    (void)ask(p, "GET", "/livez", NULL, "", 0);
    assert_status(p, 200); /* "Content-Length: 0" is no body */
}

/* A refusal does not cost the client its connection. */
static void test_refusal_keeps_connection(void **state)
{
    peer *p = *state;
    (void)get(p, "/livez");
    (void)get(p, "/nowhere");
    assert_problem(p, 404, "no-such-path", NULL);
    assert_int_equal(p->reply.new_connections, 0);
    (void)ask_json(p, "PUT", at("a", ""), "{\"params\": {}}");
    assert_problem(p, 409, "name-taken", NULL);
    assert_int_equal(p->reply.new_connections, 0);
    (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": 1}");
    assert_problem(p, 422, "invalid-value", NULL);
    assert_int_equal(p->reply.new_connections, 0);
    (void)get(p, "/livez");
    assert_int_equal(p->reply.new_connections, 0);
}

/* GET / tells a client what it talks to and where to go on. */
static void test_root(void **state)
{
    peer *p = *state;
    char expected[128];
    (void)get(p, "/");
    (void)snprintf(expected, sizeof expected,
                   "{\"name\": \"adamd\", \"version\": \"%s\", \"kernel\": \"%s\"",
                   p->server.version, adam_kernel_name());
    assert_has(p, 200, expected);
    assert_has(p, 200, "\"optimizers\": 1, \"memory\": {\"used_bytes\": ");
    assert_has(p, 200,
               "\"links\": {\"optimizers\": \"/v1/optimizers\", \"openapi\": \"/openapi.yaml\"}}");
    assert_header(p, "Content-Type", JSON_TYPE);
    assert_header(p, "ETag", NULL);
}

/* The probes of an orchestrator. */
static void test_probes(void **state)
{
    peer *p = *state;
    (void)get(p, "/livez");
    assert_json(p, 200, "{\"status\": \"ok\"}");
    (void)get(p, "/readyz");
    assert_json(p, 200, "{\"status\": \"ok\"}");
}

/* The served contract is the one that is in the documentation, byte for byte. */
static void test_openapi(void **state)
{
    peer *p = *state;
    (void)get(p, "/openapi.yaml");
    assert_status(p, 200);
    assert_header(p, "Content-Type", "application/yaml");
    FILE *f = fopen(OPENAPI_FILE, "rb");
    assert_non_null(f);
    char *expected = malloc(p->reply.length + 1);
    assert_non_null(expected);
    const size_t length = fread(expected, 1, p->reply.length + 1, f);
    (void)fclose(f);
    assert_int_equal(length, p->reply.length);
    assert_memory_equal(expected, p->reply.body, length);
    free(expected);
}

/* The replies that the contract shows are those that the server gives. */
static void test_examples(void **state)
{
    static const struct {
        const char *method, *rest, *json;
    } requests[] = {
        {"POST", "/step", "{\"grads\": {\"w\": [1, -2]}, \"param_groups\": [{\"lr\": 0.05}]}"},
        {"GET", "/state/w", NULL},
    };
    peer *p = *state;
    (void)get(p, "/openapi.yaml");
    char *document = flatten(body_of(p));
    create(p, "mlp", "{\"params\": {\"w\": [0.5, -1]}, \"lr\": 0.1}");
    for (size_t i = 0; i < COUNT(requests); i++) {
        if (requests[i].json != NULL) {
            (void)ask_json(p, requests[i].method, at("mlp", requests[i].rest), requests[i].json);
        } else {
            (void)get(p, at("mlp", requests[i].rest));
        }
        assert_status(p, 200);
        char *shown = flatten(body_of(p));
        shown[strlen(shown) - 1] = '\0'; /* the newline */
        if (strstr(document, shown) == NULL) {
            fail_msg("not in docs/openapi.yaml: %s", shown);
        }
        free(shown);
    }
    free(document);
    (void)ask(p, "DELETE", at("mlp", ""), NULL, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_no_such_path),
        cmocka_unit_test(test_no_such_optimizer),
        cmocka_unit_test(test_queries),
        cmocka_unit_test(test_no_body),
        cmocka_unit_test(test_refusal_keeps_connection),
        cmocka_unit_test(test_root),
        cmocka_unit_test(test_probes),
        cmocka_unit_test(test_openapi),
        cmocka_unit_test(test_examples),
    };
    return cmocka_run_group_tests(tests, setup, peer_and_server_end);
}
