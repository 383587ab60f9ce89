/* test_openapi.c: the routes and problem codes of the server held against docs/openapi.yaml, in
 * both directions, so that neither can change without the other. Reads the YAML by lines and
 * indentation, as the document is written; a real parser has checked it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "openapi.h"
#include "problem.h"
#include "router.h"

#define MAX_OPERATIONS 64

typedef struct operation {
    char method[16], path[128];
} operation;

typedef struct document {
    operation operations[MAX_OPERATIONS];
    size_t n;
} document;

/* The next line of the document, copied; false at the end. */
static bool next_line(size_t *at, char *line, size_t size)
{
    if (*at >= openapi_yaml_length) {
        return false;
    }
    const char *from = (const char *)openapi_yaml + *at;
    const char *end = memchr(from, '\n', openapi_yaml_length - *at);
    const size_t length = end != NULL ? (size_t)(end - from) : openapi_yaml_length - *at;
    (void)snprintf(line, size, "%.*s", (int)length, from);
    *at += length + 1;
    return true;
}

/* Takes a line of `paths`: a path at two spaces, a method at four. */
static void take_line(document *d, const char *line, char *path, size_t path_size)
{
    static const char *const methods[] = {"get", "put", "post", "patch", "delete"};
    if (strncmp(line, "  /", 3) == 0) {
        (void)snprintf(path, path_size, "%.*s", (int)strcspn(line + 2, ":"), line + 2);
    }
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        const size_t n = strlen(methods[i]);
        if (strncmp(line, "    ", 4) == 0 && strncmp(line + 4, methods[i], n) == 0 &&
            strcmp(line + 4 + n, ":") == 0) {
            assert_true(d->n < MAX_OPERATIONS);
            operation *o = &d->operations[d->n++];
            for (size_t k = 0; k <= n; k++) {
                o->method[k] = (char)toupper((unsigned char)methods[i][k]);
            }
            (void)snprintf(o->path, sizeof o->path, "%s", path);
        }
    }
}

static void read_document(document *d)
{
    char line[512];
    char path[128] = "";
    bool in_paths = false;
    size_t at = 0;
    d->n = 0;
    while (next_line(&at, line, sizeof line)) {
        if (line[0] != ' ' && line[0] != '\0') {
            in_paths = strcmp(line, "paths:") == 0;
        } else if (in_paths) {
            take_line(d, line, path, sizeof path);
        }
    }
}

static bool has_route(const operation *o)
{
    size_t n;
    const route *routes = router_routes(&n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(routes[i].method, o->method) == 0 && strcmp(routes[i].pattern, o->path) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_documented(const document *d, const route *r)
{
    for (size_t i = 0; i < d->n; i++) {
        if (strcmp(d->operations[i].method, r->method) == 0 &&
            strcmp(d->operations[i].path, r->pattern) == 0) {
            return true;
        }
    }
    return false;
}

/* A client generated from the document must find every operation, and no other. */
static void test_routes(void **state)
{
    (void)state;
    document d;
    read_document(&d);
    size_t n;
    const route *routes = router_routes(&n);
    for (size_t i = 0; i < n; i++) {
        if (!is_documented(&d, &routes[i])) {
            fail_msg("%s %s is not in docs/openapi.yaml", routes[i].method, routes[i].pattern);
        }
    }
    for (size_t i = 0; i < d.n; i++) {
        if (!has_route(&d.operations[i])) {
            fail_msg("%s %s of docs/openapi.yaml is no route", d.operations[i].method,
                     d.operations[i].path);
        }
    }
    assert_int_equal(d.n, n);
}

/* The enum of problem types is the list of codes, in both directions. */
static void test_problems(void **state)
{
    (void)state;
    static const char *const slugs[] = {
#define X(name, slug, title) slug,
        PROBLEM_MAP(X)
#undef X
    };
    const size_t n = sizeof slugs / sizeof slugs[0];
    bool seen[sizeof slugs / sizeof slugs[0]] = {false};
    char line[512];
    size_t at = 0;
    while (next_line(&at, line, sizeof line)) {
        const char *item = strstr(line, "- urn:adamd:problem:");
        if (item == NULL) {
            continue;
        }
        item += strlen("- urn:adamd:problem:");
        bool known = false;
        for (size_t i = 0; i < n; i++) {
            if (strcmp(item, slugs[i]) == 0) {
                known = seen[i] = true;
            }
        }
        if (!known) {
            fail_msg("%s of docs/openapi.yaml is no problem code", item);
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (!seen[i]) {
            fail_msg("problem code %s is not in docs/openapi.yaml", slugs[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_routes),
                                       cmocka_unit_test(test_problems)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
