/* test_bad_requests.c: requests that no well-behaved client sends: what a lax reader would take two
 * ways (RFC 9112, section 11), broken targets, and bodies without a plain length. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "peer.h"
#include "raw.h"

#define HOST  "Host: x\r\n"
#define JSON  "Content-Type: application/json\r\n"
#define CHUNK "Transfer-Encoding: chunked\r\n"
#define STEP  "POST /v1/optimizers/a/step HTTP/1.1\r\n" HOST JSON
#define GRADS "{\"grads\": {\"w\": [1]}}" /* 21 bytes */

static char *before;

static int setup(void **state)
{
    remove_all(*state);
    create(*state, "a", "{\"params\": {\"w\": [1]}}");
    before = state_of(*state, "a");
    return 0;
}

static int teardown(void **state)
{
    assert_unchanged(*state, "a", before);
    return 0;
}

/* What could be read two ways is refused, and the connection ends: nobody knows where the next
 * request begins. */
static void test_ambiguous(void **state)
{
    static const struct {
        const char *request;
        int status;
        const char *code, *member;
    } bad[] = {
        {STEP "Content-Length: 21\r\nContent-Length: 21\r\n\r\n" GRADS, 400, "malformed-request",
         "\"header\": \"Content-Length\""},
        {STEP "Content-Length: 21\r\nContent-Length: 3\r\n\r\n" GRADS, 400, "malformed-request",
         "\"header\": \"Content-Length\""},
        {"GET /livez HTTP/1.1\r\n" HOST HOST "\r\n", 400, "malformed-request",
         "\"header\": \"Host\""},
        {"GET /livez HTTP/1.1\r\n\r\n", 400, "malformed-request", "\"header\": \"Host\""},
        {"GET /livez HTTP/1.2\r\n\r\n", 400, "malformed-request", "\"header\": \"Host\""},
        {STEP CHUNK "Content-Length: 21\r\n\r\n" GRADS, 400, "malformed-request",
         "\"header\": \"Transfer-Encoding\""},
        {STEP "Content-Length: 3\r\n" CHUNK "\r\n0\r\n\r\n", 400, "malformed-request",
         "\"header\": \"Transfer-Encoding\""},
        {STEP CHUNK CHUNK "\r\n0\r\n\r\n", 400, "malformed-request",
         "\"header\": \"Transfer-Encoding\""},
        {STEP "Transfer-Encoding: gzip\r\n\r\n", 400, "malformed-request",
         "\"header\": \"Transfer-Encoding\""},
        {STEP "Transfer-Encoding: gzip, chunked\r\n\r\n", 400, "malformed-request",
         "\"header\": \"Transfer-Encoding\""},
        {STEP "Transfer-Encoding: identity\r\nContent-Length: 21\r\n\r\n" GRADS, 400,
         "malformed-request", "\"header\": \"Transfer-Encoding\""},
        {STEP "Content-Length : 21\r\n\r\n" GRADS, 400, "malformed-request", NULL},
        {STEP "Content Length: 21\r\n\r\n" GRADS, 400, "malformed-request", NULL},
        {"GET /livez HTTP/1.1\r\n" HOST "X(y): 1\r\n\r\n", 400, "malformed-request", NULL},
        {"GET /livez HTTP/1.1\r\n" HOST "X\xc3\xa9: 1\r\n\r\n", 400, "malformed-request", NULL},
        {"GET /livez HTTP/1.1\r\n" HOST "Accept: a,\r\n b: c\r\n\r\n", 400, "malformed-request",
         NULL},
        {STEP "Expect: 200-ok\r\nContent-Length: 21\r\n\r\n", 417, "expectation-failed",
         "\"header\": \"Expect\""},
        {STEP "Expect: 100-continue, x\r\nContent-Length: 21\r\n\r\n", 417, "expectation-failed",
         "\"header\": \"Expect\""},
        {STEP "Content-Length: 999999999999999999\r\n\r\n", 413, "body-too-large",
         "\"limit_bytes\": 33554432"},
    };
    peer *p = *state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        raw_reply r;
        raw_ask_closing(&p->server, bad[i].request, &r);
        if (r.status != bad[i].status) {
            print_error("with %s\n", bad[i].request);
        }
        assert_raw_problem(&r, bad[i].status, bad[i].code, bad[i].member);
        assert_non_null(strstr(r.text, "\r\nConnection: close\r\n"));
    }
}

/* What libmicrohttpd refuses by itself, before anyone is asked: the status is right, the connection
 * ends, and the text is its own. */
static void test_not_http(void **state)
{
    static const struct {
        const char *request;
        int status;
    } bad[] = {
        {STEP "Content-Length: x\r\n\r\n", 400},
        {STEP "Content-Length: -1\r\n\r\n", 400},
        {STEP "Content-Length: +21\r\n\r\n" GRADS, 400},
        {STEP "Content-Length: 0x15\r\n\r\n" GRADS, 400},
        {STEP "Content-Length: 18446744073709551637\r\n\r\n" GRADS, 413},
        {STEP CHUNK "\r\nxyz\r\n", 400},
        {STEP CHUNK "\r\n-15\r\n" GRADS, 400},
        {STEP CHUNK "\r\nfffffffffffffffff\r\n", 413},
        {"GET /livez HTTP/1.1\r\n" HOST "nonsense\r\n\r\n", 400},
        {"GET\t/livez HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /livez HTTP/2.0\r\n" HOST "\r\n", 505},
        {"GET /livez\r\n\r\n", 400},
    };
    peer *p = *state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        raw_reply r;
        raw_ask_closing(&p->server, bad[i].request, &r);
        if (r.status != bad[i].status) {
            print_error("with %s\n", bad[i].request);
        }
        assert_int_equal(r.status, bad[i].status);
    }
}

/* Targets that are no paths. */
static void test_targets(void **state)
{
    static const char *const bad[] = {
        "/v1/optimizers/%",
        "/v1/optimizers/%4",
        "/v1/optimizers/%4g",
        "/v1/optimizers/%%61",
        "/v1/optimizers/a%00",
        "/v1/optimizers/%00",
        "/v1/optimizers/a/params/w%00",
        "/v1/optimizers/a/params/%FF",
        "/v1/optimizers/a/params/%C0%AF",
        "/v1/optimizers/a/params/%ED%A0%80",
        "/v1/optimizers/a/params/%C3/%A9",
        "/v1/optimizers/a/params/\xc3\xa9",
        "/v1/optimizers/a/params/\x7f",
        "/v1/optimizers/a/params/a b",
        "/v1/optimizers/a/..",
        "/v1/optimizers/../optimizers",
        "/./livez",
        "/v1/optimizers/a/params/..",
        "/v1/optimizers?prefix=%",
        "/v1/optimizers?%=1",
        "/v1/optimizers?prefix=%00",
        "/v1/optimizers?prefix=%FF",
        "/v1/optimizers?a&b&c&d&e&f&g&h&i",
        "/1/2/3/4/5/6/7/8/9",
        "livez",
        "*",
        "http://x",
        "https://x/livez",
        "ftp://x/livez",
    };
    peer *p = *state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        char request[256];
        raw_reply r;
        (void)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\n" HOST "\r\n", bad[i]);
        raw_ask(&p->server, request, &r);
        if (r.status != 400) {
            print_error("with %s\n", bad[i]);
        }
        assert_raw_problem(&r, 400, "malformed-request", NULL);
    }
}

/* A target in absolute form, as to a proxy, is a target (RFC 9112, section 3.2.2). */
static void test_absolute_form(void **state)
{
    peer *p = *state;
    raw_reply r;
    raw_ask(&p->server, "GET http://elsewhere:1/v1/optimizers?limit=1 HTTP/1.1\r\n" HOST "\r\n",
            &r);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body, "{\"optimizers\": ["));
}

/* A target that holds a NUL is not the target before it. */
static void test_nul_in_target(void **state)
{
    static const char request[] = "DELETE /v1/optimizers/a\0/step HTTP/1.1\r\n" HOST "\r\n";
    peer *p = *state;
    raw_reply r;
    const int socket = raw_connect(&p->server);
    assert_true(raw_send(socket, request, sizeof request - 1));
    raw_read(socket, &r);
    assert_raw_problem(&r, 400, "malformed-request", NULL);
    (void)close(socket);
}

/* Targets and headers at their limits, and over. */
static void test_long(void **state)
{
    static const struct {
        const char *before, *after;
        size_t length;
        int status;
        const char *code;
    } cases[] = {
        {"GET /", " HTTP/1.1\r\n" HOST "\r\n", 8191, 404, "no-such-path"},
        {"GET /", " HTTP/1.1\r\n" HOST "\r\n", 8192, 400, "malformed-request"},
        {"GET /", " HTTP/1.1\r\n" HOST "\r\n", 40000, 414, NULL},
        {"GET /livez HTTP/1.1\r\n" HOST "X: ", "\r\n\r\n", 15000, 200, NULL},
        {"GET /livez HTTP/1.1\r\n" HOST "X: ", "\r\n\r\n", 40000, 431, NULL},
        {"GET /livez HTTP/1.1\r\n" HOST "Accept: */*;", "\r\n\r\n", 1000, 200, NULL},
        {"GET /livez HTTP/1.1\r\n" HOST "Accept: */*;", "\r\n\r\n", 1100, 431, "header-too-large"},
        {"GET /livez HTTP/1.1\r\n" HOST "If-Match: ", "\r\n\r\n", 1100, 431, "header-too-large"},
        {"GET /livez HTTP/1.1\r\n" HOST "Prefer: ", "\r\n\r\n", 1100, 431, "header-too-large"},
    };
    peer *p = *state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        raw_reply r;
        char *request = calloc(1, cases[i].length + 256);
        assert_non_null(request);
        (void)strcpy(request, cases[i].before);
        memset(request + strlen(cases[i].before), 'a', cases[i].length);
        (void)strcat(request, cases[i].after);
        raw_ask(&p->server, request, &r);
        free(request);
        if (cases[i].code != NULL) {
            assert_raw_problem(&r, cases[i].status, cases[i].code, NULL);
        } else {
            assert_int_equal(r.status, cases[i].status);
        }
    }
}

/* A tensor body needs a length; a JSON body may come in chunks. */
static void test_chunked(void **state)
{
    peer *p = *state;
    raw_reply r;
    raw_ask(&p->server,
            "POST /v1/optimizers/a/step HTTP/1.1\r\n" HOST
            "Content-Type: application/vnd.safetensors\r\n" CHUNK "\r\n0\r\n\r\n",
            &r);
    assert_raw_problem(&r, 411, "length-required", NULL);
    raw_ask(&p->server,
            "POST /v1/optimizers/a/step HTTP/1.1\r\n" HOST
            "Content-Type: application/octet-stream\r\n\r\n",
            &r);
    assert_raw_problem(&r, 411, "length-required", NULL);
    raw_ask(&p->server, STEP "\r\n", &r);
    assert_raw_problem(&r, 400, "malformed-json", "\"position\": 0");
    raw_ask(&p->server, STEP CHUNK "\r\n5\r\n{\"gra\r\n0\r\n\r\n", &r);
    assert_raw_problem(&r, 400, "malformed-json", NULL);
    raw_ask(&p->server, "GET /livez HTTP/1.1\r\n" HOST CHUNK "\r\n0\r\n\r\n", &r);
    assert_raw_problem(&r, 400, "malformed-request", NULL);
}

/* A chunked step, in pieces of a byte, with extensions and a trailer, is a step. */
static void test_chunked_step(void **state)
{
    peer *p = *state;
    raw_reply r;
    char request[2048] = "POST /v1/optimizers/b/step HTTP/1.1\r\n" HOST JSON CHUNK "\r\n";
    create(p, "b", "{\"params\": {\"w\": [1]}, \"lr\": 0}");
    for (const char *c = GRADS; *c != '\0'; c++) {
        (void)snprintf(request + strlen(request), sizeof request - strlen(request),
                       "1;x=y\r\n%c\r\n", *c);
    }
    (void)strcat(request, "0\r\nX-Trailer: 1\r\n\r\n");
    raw_ask(&p->server, request, &r);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body, "{\"step\": 1, \"params\": {\"w\": [1]}"));
}

/* A client that asks first is told before it sends: a body that is too large is never sent, one
 * that fits is asked for. */
static void test_expect(void **state)
{
    peer *p = *state;
    raw_reply r;
    char text[26] = "";
    const int socket = raw_connect(&p->server);
    raw_ask_closing(&p->server, STEP "Expect: 100-continue\r\nContent-Length: 999999999\r\n\r\n",
                    &r);
    assert_raw_problem(&r, 413, "body-too-large", "\"limit_bytes\": 33554432");
    assert_null(strstr(r.text, "100 Continue"));
    raw_ask_closing(&p->server,
                    "POST /v1/optimizers/x/step HTTP/1.1\r\n" HOST JSON
                    "Expect: 100-continue\r\nContent-Length: 21\r\n\r\n",
                    &r);
    assert_raw_problem(&r, 404, "no-such-optimizer", NULL);
    assert_true(raw_send_text(socket, "POST /v1/optimizers/a/step HTTP/1.1\r\n" HOST JSON
                                      "Expect: 100-Continue\r\nContent-Length: 3\r\n\r\n"));
    for (size_t n = 0; n + 1 < sizeof text; n++) {
        assert_int_equal(read(socket, text + n, 1), 1);
    }
    assert_string_equal(text, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_true(raw_send_text(socket, "{}x"));
    raw_read(socket, &r);
    assert_raw_problem(&r, 400, "malformed-json", "\"position\": 2");
    (void)close(socket);
}

/* Requests that come in one piece are answered in order, refused ones too. */
static void test_pipelined(void **state)
{
    static const int statuses[] = {200, 404, 400, 422, 200};
    peer *p = *state;
    raw_reply r;
    const int socket = raw_connect(&p->server);
    assert_true(raw_send_text(socket,
                              "GET /livez HTTP/1.1\r\n" HOST "\r\n"
                              "GET /nowhere HTTP/1.1\r\n" HOST "\r\n"
                              "GET /livez HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc" STEP
                              "Content-Length: 2\r\n\r\n{}"
                              "GET / HTTP/1.1\r\n" HOST "\r\n"));
    for (size_t i = 0; i < COUNT(statuses); i++) {
        raw_read(socket, &r);
        assert_int_equal(r.status, statuses[i]);
    }
    assert_non_null(strstr(r.body, "\"name\": \"adamd\""));
    (void)close(socket);
}

/* Any cut of the stream is the same stream. */
static void test_byte_by_byte(void **state)
{
    peer *p = *state;
    raw_reply r;
    const int socket = raw_connect(&p->server);
    for (const char *c = STEP "Content-Length: 2\r\n\r\n{}"; *c != '\0'; c++) {
        assert_true(raw_send(socket, c, 1));
    }
    raw_read(socket, &r);
    assert_raw_problem(&r, 422, "invalid-value", NULL);
    (void)close(socket);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ambiguous, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_http, setup, teardown),
        cmocka_unit_test_setup_teardown(test_targets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_absolute_form, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nul_in_target, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long, setup, teardown),
        cmocka_unit_test_setup_teardown(test_chunked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_chunked_step, setup, teardown),
        cmocka_unit_test_setup_teardown(test_expect, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pipelined, setup, teardown),
        cmocka_unit_test_setup_teardown(test_byte_by_byte, setup, teardown),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
