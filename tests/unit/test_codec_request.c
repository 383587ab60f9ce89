/* test_codec_request.c: what is read from the text of a request: media types (media.c), targets
 * (path.c) and headers (guard.c), without a socket. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guard.h"
#include "media.h"
#include "path.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* A media type is read whatever its case, spaces and parameters, and not guessed. */
static void test_media_parse(void **state)
{
    static const struct {
        const char *type;
        media media;
    } cases[] = {
        {"application/json", MEDIA_JSON},
        {" application/json ", MEDIA_JSON},
        {"APPLICATION/JSON;charset=utf-8", MEDIA_JSON},
        {"application/json ; q=1", MEDIA_JSON},
        {"application/merge-patch+json", MEDIA_MERGE_PATCH},
        {"application/vnd.safetensors", MEDIA_SAFETENSORS},
        {"application/octet-stream", MEDIA_OCTETS},
        {"application/yaml", MEDIA_YAML},
        {"", MEDIA_NONE},
        {";", MEDIA_NONE},
        {"application/jsonp", MEDIA_NONE},
        {"application/jso", MEDIA_NONE},
        {"*/*", MEDIA_NONE},
        {"application/json, text/html", MEDIA_NONE},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (media_parse(cases[i].type) != cases[i].media) {
            fail_msg("'%s' is taken for %s", cases[i].type, media_name(media_parse(cases[i].type)));
        }
    }
}

/* The choice between safetensors and JSON, the first preferred. */
static void test_media_choose(void **state)
{
    static const media offers[] = {MEDIA_SAFETENSORS, MEDIA_JSON};
    static const struct {
        const char *accept;
        media chosen;
    } cases[] = {
        {NULL, MEDIA_SAFETENSORS},
        {"", MEDIA_SAFETENSORS},
        {"*/*", MEDIA_SAFETENSORS},
        {"application/*", MEDIA_SAFETENSORS},
        {"application/json", MEDIA_JSON},
        {"application/json, application/vnd.safetensors", MEDIA_SAFETENSORS},
        {"application/json, application/vnd.safetensors;q=0.9", MEDIA_JSON},
        {"application/vnd.safetensors;q=0, */*", MEDIA_JSON},
        {"application/*;q=0.5, application/json;q=0.1", MEDIA_SAFETENSORS},
        {"*/*;q=0.5, application/json", MEDIA_JSON},
        {"*/*, application/vnd.safetensors;q=0.3, application/json;q=0.4", MEDIA_JSON},
        {"application/json;q=0, application/vnd.safetensors;q=0", MEDIA_NONE},
        {"text/*, image/png", MEDIA_NONE},
        {"*/*;q=0", MEDIA_NONE},
        {",,application/json,,", MEDIA_JSON},
        {"application/json;profile=x;q=0.2, application/vnd.safetensors;Q=0.1", MEDIA_JSON},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const media chosen = media_choose(cases[i].accept, offers, COUNT(offers));
        if (chosen != cases[i].chosen) {
            fail_msg("'%s' chooses '%s'", cases[i].accept, media_name(chosen));
        }
    }
}

/* Segments and query come decoded, each by itself. */
static void test_path_parse(void **state)
{
    path p;
    (void)state;
    assert_null(path_parse("/v1/optimizers/a%2Fb/params/%C3%a9?data=all&x=%26%3D&y", &p));
    assert_int_equal(p.n_segments, 5);
    assert_string_equal(p.segments[2].text, "a/b");
    assert_int_equal(p.segments[2].length, 3);
    assert_string_equal(p.segments[4].text, "\xc3\xa9");
    assert_int_equal(p.n_query, 3);
    assert_string_equal(p.query[0].key.text, "data");
    assert_string_equal(p.query[0].value.text, "all");
    assert_string_equal(p.query[1].value.text, "&=");
    assert_string_equal(p.query[2].key.text, "y");
    assert_string_equal(p.query[2].value.text, "");
    assert_true(path_matches(&p, "/v1/optimizers/{name}/params/{param}"));
    assert_false(path_matches(&p, "/v1/optimizers/{name}/params"));
    assert_false(path_matches(&p, "/v1/optimizers/{name}/state/{param}"));
    const path_segment *name = path_variable(&p, "/v1/optimizers/{name}/params/{param}", "{name}");
    assert_ptr_equal(name, &p.segments[2]);
    assert_null(path_variable(&p, "/v1/optimizers/{name}/params/{param}", "{index}"));
    assert_null(path_parse("/", &p));
    assert_true(path_matches(&p, "/"));
    assert_false(path_matches(&p, "/livez"));
    assert_null(path_parse("/v1/optimizers/", &p));
    assert_false(path_matches(&p, "/v1/optimizers/{name}")); /* an empty name is none */
    assert_null(path_parse("/a?b=c=d", &p));
    assert_string_equal(p.query[0].value.text, "c=d");
}

/* Targets that could name two things, or nothing. */
static void test_path_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "x",
                                      "/%",
                                      "/%4",
                                      "/%zz",
                                      "/%00",
                                      "/a b",
                                      "/\t",
                                      "/\x80",
                                      "/%80",
                                      "/%ED%A0%80",
                                      "/.",
                                      "/..",
                                      "/a/../b",
                                      "/a/.",
                                      "/1/2/3/4/5/6/7/8/9",
                                      "/?a&b&c&d&e&f&g&h&i",
                                      "/?%",
                                      "/?a=%ff",
                                      "*"};
    (void)state;
    path p;
    char target[PATH_MAX_BYTES + 2] = "/";
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (path_parse(bad[i], &p) == NULL) {
            fail_msg("'%s' is taken", bad[i]);
        }
    }
    memset(target, '/', 1);
    memset(target + 1, 'a', PATH_MAX_BYTES);
    assert_non_null(path_parse(target, &p));
    target[PATH_MAX_BYTES] = '\0';
    assert_null(path_parse(target, &p));
    memset(target, '/', PATH_MAX_SEGMENTS); /* as many segments as there may be, all empty */
    target[PATH_MAX_SEGMENTS] = '\0';
    assert_null(path_parse(target, &p));
}

/* A number in a path is digits, without a sign, and within its limit. */
static void test_path_number(void **state)
{
    static const struct {
        const char *text;
        size_t most;
        bool taken;
    } cases[] = {{"0", 10, true},
                 {"10", 10, true},
                 {"11", 10, false},
                 {"", 10, false},
                 {"-1", 10, false},
                 {"1x", 10, false},
                 {" 1", 10, false},
                 {"007", 10, true},
                 {"999999999999999999", SIZE_MAX, true},
                 {"9999999999999999999", SIZE_MAX, false}};
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t value;
        assert_int_equal(path_number(cases[i].text, strlen(cases[i].text), cases[i].most, &value),
                         cases[i].taken);
    }
}

/* Takes "Name: value" lines, and says how they end. */
static bool take_lines(guard *g, const char *const *lines, size_t n, const char *version)
{
    guard_begin(g);
    for (size_t i = 0; i < n; i++) {
        static char names[16][64];
        const size_t length = strcspn(lines[i], ":");
        assert_true(i < COUNT(names) && length < sizeof names[0]);
        memcpy(names[i], lines[i], length);
        names[i][length] = '\0';
        const char *value = lines[i] + length + 2;
        guard_take(g, names[i], length, value, strlen(value));
    }
    return guard_finish(g, version);
}

/* What a request's headers say is gathered, whatever their case, several lines of a list as one. */
static void test_guard_takes(void **state)
{
    static const char *const lines[] = {
        "host: a",           "content-LENGTH: 12",   "Content-Type: x", "Accept: a/b",
        "accept: c/d;q=0.1", "If-Match: \"x\"",      "if-match: \"y\"", "Prefer: return=minimal",
        "adam-worker: w",    "Expect: 100-CONTINUE", "X-Other: y",      "x-other: z"};
    (void)state;
    guard g;
    assert_true(take_lines(&g, lines, COUNT(lines), "HTTP/1.1"));
    assert_string_equal(g.headers.content_type, "x");
    assert_string_equal(g.headers.accept, "a/b, c/d;q=0.1");
    assert_string_equal(g.headers.if_match, "\"x\", \"y\"");
    assert_string_equal(g.headers.prefer, "return=minimal");
    assert_string_equal(g.headers.worker, "w");
    assert_true(g.headers.has_body && g.headers.has_length && g.expects_continue && !g.chunked);
    assert_int_equal(g.headers.length, 12);
    static const char *const old[] = {"Accept: a/b"};
    assert_true(take_lines(&g, old, 1, "HTTP/1.0")); /* which needs no Host */
    assert_null(g.headers.content_type);
    assert_false(g.headers.has_body);
    static const char *const chunked[] = {"Host: a", "Transfer-Encoding: Chunked"};
    assert_true(take_lines(&g, chunked, 2, "HTTP/1.1"));
    assert_true(g.chunked && g.headers.has_body && !g.headers.has_length);
}

/* What could be read two ways, or asks for what is not done, is refused, and its header named. */
static void test_guard_refuses(void **state)
{
    static const struct {
        const char *first, *second;
        problem_code code;
        const char *header;
    } cases[] = {
        {"Content-Length: 1", "Content-Length: 1", PROBLEM_MALFORMED_REQUEST, "Content-Length"},
        {"Content-Length: 1", "Transfer-Encoding: chunked", PROBLEM_MALFORMED_REQUEST,
         "Transfer-Encoding"},
        {"Transfer-Encoding: chunked", "Transfer-Encoding: chunked", PROBLEM_MALFORMED_REQUEST,
         "Transfer-Encoding"},
        {"Transfer-Encoding: gzip", "X: y", PROBLEM_MALFORMED_REQUEST, "Transfer-Encoding"},
        {"Host: b", "X: y", PROBLEM_MALFORMED_REQUEST, "Host"},
        {"Content-Length: 1 ", "X: y", PROBLEM_MALFORMED_REQUEST, "Content-Length"},
        {"Content-Length: ", "X: y", PROBLEM_MALFORMED_REQUEST, "Content-Length"},
        {"Content-Length: 1, 1", "X: y", PROBLEM_MALFORMED_REQUEST, "Content-Length"},
        {"X y: z", "X: y", PROBLEM_MALFORMED_REQUEST, ""},
        {"X\xc3\xa9: z", "X: y", PROBLEM_MALFORMED_REQUEST, ""},
        {": z", "X: y", PROBLEM_MALFORMED_REQUEST, ""},
        {"Expect: 100-continued", "X: y", PROBLEM_EXPECTATION_FAILED, "Expect"},
        {"Content-Encoding: br", "X: y", PROBLEM_UNSUPPORTED_MEDIA_TYPE, "Content-Encoding"},
        {"Idempotency-Key: k", "Idempotency-Key: k", PROBLEM_MALFORMED_REQUEST, "Idempotency-Key"},
        {"adam-x: k", "X: y", PROBLEM_MALFORMED_REQUEST, "adam-x"},
        {"Adam-Worker: a", "Adam-Worker: b", PROBLEM_MALFORMED_REQUEST, "Adam-Worker"},
        {"Content-Type: a", "Content-Type: a", PROBLEM_MALFORMED_REQUEST, "Content-Type"},
        {"X y: the first counts", "Host: b", PROBLEM_MALFORMED_REQUEST, ""},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *const lines[] = {"Host: a", cases[i].first, cases[i].second};
        guard g;
        if (take_lines(&g, lines, 3, "HTTP/1.1")) {
            fail_msg("'%s' is taken", cases[i].first);
        }
        assert_int_equal(g.problem.code, cases[i].code);
        assert_string_equal(g.problem.header, cases[i].header);
    }
    guard g;
    assert_false(take_lines(&g, NULL, 0, "HTTP/1.1"));
    assert_string_equal(g.problem.header, "Host");
    guard_begin(&g);
    guard_take(&g, "Host", 4, "a", 1);
    guard_take(&g, "X", 1, "a\0b", 3);
    assert_false(guard_finish(&g, "HTTP/1.1"));
}

/* A list header has room for 1 KiB, all its lines together. */
static void test_guard_long_list(void **state)
{
    (void)state;
    char value[GUARD_JOINED];
    guard g;
    memset(value, 'a', sizeof value);
    value[GUARD_JOINED - 4] = '\0';
    guard_begin(&g);
    guard_take(&g, "Host", 4, "a", 1);
    guard_take(&g, "Accept", 6, value, strlen(value));
    assert_true(guard_finish(&g, "HTTP/1.1"));
    guard_take(&g, "Accept", 6, "bb", 2);
    assert_false(guard_finish(&g, "HTTP/1.1"));
    assert_int_equal(g.problem.code, PROBLEM_HEADER_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_media_parse),   cmocka_unit_test(test_media_choose),
        cmocka_unit_test(test_path_parse),    cmocka_unit_test(test_path_refused),
        cmocka_unit_test(test_path_number),   cmocka_unit_test(test_guard_takes),
        cmocka_unit_test(test_guard_refuses), cmocka_unit_test(test_guard_long_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
