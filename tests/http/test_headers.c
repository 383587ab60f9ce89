/* test_headers.c: what request headers decide: If-Match, Accept, Content-Type, Content-Encoding. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

static const char step[] = "{\"grads\": {\"w\": [1]}}";

static int clear(void **state)
{
    remove_all(*state);
    create(*state, "a", "{\"params\": {\"w\": [1]}, \"lr\": 0}");
    return 0;
}

/* The optimizer's ETag without its quotes. */
static void tag_of(peer *p, const char *name, char *out, size_t size)
{
    (void)get(p, at(name, ""));
    assert_status(p, 200);
    const char *etag = adamd_response_header(&p->reply, "ETag", 0);
    assert_true(etag != NULL && etag[0] == '"' && etag[strlen(etag) - 1] == '"');
    (void)snprintf(out, size, "%.*s", (int)strlen(etag) - 2, etag + 1);
}

/* Steps with an If-Match in which "@" stands for the current tag. */
static void step_if(peer *p, const char *if_match)
{
    char tag[64];
    char line[512] = "If-Match: ";
    tag_of(p, "a", tag, sizeof tag);
    for (const char *c = if_match; *c != '\0'; c++) {
        const char plain[] = {*c, '\0'};
        (void)strcat(line, *c == '@' ? tag : plain);
    }
    (void)ask_json_with(p, "POST", at("a", "/step"), if_match[0] != '\0' ? line : "If-Match;",
                        step);
}

/* A step goes through on "*" or where the current tag is among those given. */
static void test_if_match_holds(void **state)
{
    static const char *const lines[] = {
        "\"@\"",          "*",          "\"e0-s0\", \"@\"", "\"@\",\"e0-s0\"",
        "W/\"@\", \"@\"", ", ,\"@\" ,", "\"a,b\", \"@\""};
    peer *p = *state;
    for (size_t i = 0; i < COUNT(lines); i++) {
        step_if(p, lines[i]);
        assert_status(p, 200);
    }
}

/* And not on another, nor on a weak one; the reply says where the optimizer is. */
static void test_if_match_fails(void **state)
{
    static const char *const lines[] = {"\"e0-s0\"", "W/\"@\"",   "\"@ \"", "\"E1-S0\"",
                                        "\"*\"",     "\"@\"\"\"", "\"\"",   "\"x\", \"y\""};
    peer *p = *state;
    char expected[96];
    char tag[64];
    char *before = state_of(p, "a");
    for (size_t i = 0; i < COUNT(lines); i++) {
        if (strcmp(lines[i], "\"@\"\"\"") == 0) {
            continue; /* that one holds: two tags */
        }
        step_if(p, lines[i]);
        tag[0] = '\0';
        assert_problem(p, 412, "precondition-failed", "\"header\": \"If-Match\"");
        (void)snprintf(expected, sizeof expected, "%s",
                       adamd_response_header(&p->reply, "ETag", 0));
        tag_of(p, "a", tag, sizeof tag);
        assert_memory_equal(expected + 1, tag, strlen(tag));
    }
    assert_unchanged(p, "a", before);
}

/* The tag of the last reply stands in the problem too, for clients that see no headers. */
static void test_if_match_member(void **state)
{
    peer *p = *state;
    char tag[64];
    char member[96];
    tag_of(p, "a", tag, sizeof tag);
    (void)snprintf(member, sizeof member, "\"etag\": \"\\\"%s\\\"\"", tag);
    (void)ask_json_with(p, "POST", at("a", "/step"), "If-Match: \"x\"", step);
    assert_problem(p, 412, "precondition-failed", member);
}

/* An If-Match that is none is not taken for one that fails. */
static void test_if_match_malformed(void **state)
{
    static const char *const lines[] = {"e1-s0", "\"open", "W/",       "w/\"@\"", "\"x\" *",
                                        "",      ",",      "\"x\", y", "**"};
    peer *p = *state;
    char *before = state_of(p, "a");
    for (size_t i = 0; i < COUNT(lines); i++) {
        step_if(p, lines[i]);
        assert_problem(p, 400, "malformed-request", "\"header\": \"If-Match\"");
    }
    assert_unchanged(p, "a", before);
}

/* If-Match holds every request that changes something, and reads; several lines are one list. */
static void test_if_match_everywhere(void **state)
{
    static const struct {
        const char *method, *rest, *json;
    } requests[] = {
        {"GET", "", NULL},
        {"GET", "/params", NULL},
        {"GET", "/state/w", NULL},
        {"GET", "/state_dict", NULL},
        {"GET", "/digest", NULL},
        {"POST", "/param_groups", "{\"params\": []}"},
        {"PATCH", "/param_groups/0", "{}"},
        {"PUT", "/params", "{\"params\": {\"w\": [1]}}"},
        {"PUT", "/state_dict?load=everything", "{}"},
        {"DELETE", "", NULL},
    };
    peer *p = *state;
    char *before = state_of(p, "a");
    for (size_t i = 0; i < COUNT(requests); i++) {
        const char *json = requests[i].json;
        const char *const headers[] = {"If-Match: \"x\"", "If-Match: \"y\"",
                                       json != NULL ? "Content-Type: application/json" : NULL,
                                       NULL};
        (void)ask(p, requests[i].method, at("a", requests[i].rest), headers, json,
                  json != NULL ? strlen(json) : 0);
        assert_problem(p, 412, "precondition-failed", NULL);
    }
    (void)ask_json_with(p, "PUT", at("new", ""), "If-Match: *", "{\"params\": {}}");
    assert_problem(p, 412, "precondition-failed", NULL); /* there is nothing that could match */
    (void)get(p, at("new", ""));
    assert_problem(p, 404, "no-such-optimizer", NULL);
    assert_unchanged(p, "a", before);
}

/* Accept: which form, by quality and then by closeness; 406 where none is acceptable. */
static void test_accept(void **state)
{
    static const struct {
        const char *accept, *type; /* NULL: 406 */
    } cases[] = {
        {"application/json", JSON_TYPE},
        {"application/vnd.safetensors", SAFETENSORS_TYPE},
        {"Application/Vnd.SafeTensors", SAFETENSORS_TYPE},
        {"application/octet-stream", "application/octet-stream"},
        {"*/*", JSON_TYPE},
        {"text/html, */*;q=0.1", JSON_TYPE},
        {"application/json;q=0.5, application/vnd.safetensors", SAFETENSORS_TYPE},
        {"application/json;q=0.5, application/vnd.safetensors;q=0.4", JSON_TYPE},
        {"application/json; q=0, */*", SAFETENSORS_TYPE},
        {"application/json;q=0, application/*;q=0.2", SAFETENSORS_TYPE},
        {"*/*;q=0.9, application/octet-stream;q=1.0", "application/octet-stream"},
        {"application/vnd.safetensors;v=1;q=1, application/json;q=0.99", SAFETENSORS_TYPE},
        {"application/vnd.safetensors ; q=0.3 , application/json ; q=0.2", SAFETENSORS_TYPE},
        {"text/html", NULL},
        {"text/*", NULL},
        {"application/x-safetensors", NULL},
        {"application/json;q=0", NULL},
        {"*/*;q=0", NULL},
        {"application/*;q=0.0, */*;q=0.000", NULL},
    };
    peer *p = *state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char line[128];
        (void)snprintf(line, sizeof line, "Accept: %s", cases[i].accept);
        (void)get_with(p, at("a", "/params"), line);
        if (cases[i].type != NULL) {
            assert_status(p, 200);
            assert_header(p, "Content-Type", cases[i].type);
        } else {
            assert_problem(p, 406, "not-acceptable", "\"header\": \"Accept\"");
        }
    }
    const char *const two[] = {"Accept: application/json;q=0.1", "Accept: application/octet-stream",
                               NULL};
    (void)ask(p, "GET", at("a", "/params"), two, NULL, 0);
    assert_header(p, "Content-Type", "application/octet-stream");
}

/* What has one form only says so instead of sending another. A refused step changes nothing. */
static void test_not_acceptable(void **state)
{
    static const char *const paths[] = {"/",
                                        "/livez",
                                        OPTIMIZERS,
                                        OPTIMIZERS "/a",
                                        OPTIMIZERS "/a/param_groups",
                                        OPTIMIZERS "/a/state/w"};
    peer *p = *state;
    for (size_t i = 0; i < COUNT(paths); i++) {
        (void)get_with(p, paths[i], "Accept: " SAFETENSORS_TYPE);
        assert_problem(p, 406, "not-acceptable", "\"header\": \"Accept\"");
        (void)get_with(p, paths[i], "Accept: text/html,application/xhtml+xml,*/*;q=0.8");
        assert_status(p, 200); /* a browser */
    }
    (void)get_with(p, "/openapi.yaml", "Accept: " JSON_TYPE);
    assert_problem(p, 406, "not-acceptable", "\"header\": \"Accept\"");
    char *before = state_of(p, "a");
    (void)ask_json_with(p, "POST", at("a", "/step"), "Accept: text/csv", step);
    assert_problem(p, 406, "not-acceptable", "\"header\": \"Accept\"");
    assert_unchanged(p, "a", before);
}

/* A body is taken by its Content-Type, never guessed. */
static void test_content_type(void **state)
{
    static const struct {
        const char *method, *rest, *type;
        int status;
    } cases[] = {
        {"POST", "/step", "Content-Type:", 415},
        {"POST", "/step", "Content-Type;", 415},
        {"POST", "/step", "Content-Type: text/plain", 415},
        {"POST", "/step", "Content-Type: application/x-www-form-urlencoded", 415},
        {"POST", "/step", "Content-Type: application/jsonx", 415},
        {"POST", "/step", "Content-Type: application/merge-patch+json", 415},
        {"POST", "/step", "Content-Type: application/json", 200},
        {"POST", "/step", "Content-Type: APPLICATION/JSON ; charset=utf-8", 200},
        {"POST", "/step", "Content-Type: application/vnd.safetensors", 400},
        {"POST", "/step", "Content-Type: application/octet-stream", 400},
        {"POST", "/param_groups", "Content-Type: text/csv", 415},
        {"POST", "/param_groups", "Content-Type: application/merge-patch+json", 415},
        {"PATCH", "/param_groups/0", "Content-Type: application/octet-stream", 415},
        {"PUT", "/params", "Content-Type: application/yaml", 415},
        {"PUT", "/state_dict?load=everything", "Content-Type: text/json", 415},
    };
    peer *p = *state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *const headers[] = {cases[i].type, NULL};
        (void)ask(p, cases[i].method, at("a", cases[i].rest), headers, step, strlen(step));
        if (cases[i].status == 415) {
            assert_problem(p, 415, "unsupported-media-type", "\"header\": \"Content-Type\"");
        } else if (cases[i].status == 400) {
            assert_problem(p, 400, "malformed-safetensors", NULL);
        } else {
            assert_status(p, cases[i].status);
        }
    }
    const char *const twice[] = {"Content-Type: application/json", "Content-Type: application/json",
                                 NULL};
    (void)ask(p, "POST", at("a", "/step"), twice, step, strlen(step));
    assert_problem(p, 400, "malformed-request", "\"header\": \"Content-Type\"");
}

/* An encoded body is refused, not read as if it were plain. */
static void test_content_encoding(void **state)
{
    peer *p = *state;
    (void)ask_json_with(p, "POST", at("a", "/step"), "Content-Encoding: gzip", step);
    assert_problem(p, 415, "unsupported-media-type", "\"header\": \"Content-Encoding\"");
    (void)ask_json_with(p, "POST", at("a", "/step"), "Content-Encoding: identity", step);
    assert_status(p, 200);
}

/* Header text that is no UTF-8 comes back in a reply that is. */
static void test_foreign_bytes(void **state)
{
    peer *p = *state;
    const char *const headers[] = {"Content-Type: text/\xff\xc3", NULL};
    (void)ask(p, "POST", at("a", "/step"), headers, step, strlen(step));
    assert_problem(p, 415, "unsupported-media-type", "text/??,");
    (void)get_with(p, "/livez", "Accept: \xe2\x82");
    assert_problem(p, 406, "not-acceptable", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_if_match_holds, clear),
        cmocka_unit_test_setup(test_if_match_fails, clear),
        cmocka_unit_test_setup(test_if_match_member, clear),
        cmocka_unit_test_setup(test_if_match_malformed, clear),
        cmocka_unit_test_setup(test_if_match_everywhere, clear),
        cmocka_unit_test_setup(test_accept, clear),
        cmocka_unit_test_setup(test_not_acceptable, clear),
        cmocka_unit_test_setup(test_content_type, clear),
        cmocka_unit_test_setup(test_content_encoding, clear),
        cmocka_unit_test_setup(test_foreign_bytes, clear),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
