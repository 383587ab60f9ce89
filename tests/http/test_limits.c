/* test_limits.c: what a server takes at most: bodies, memory, connections, groups, parameters. Over
 * a limit a request is refused, and the server goes on. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "raw.h"

/* A peer of a server with these options. */
static void begin(peer *p, const char *const *options)
{
    server s;
    server_start(&s, options);
    peer_open(p, s.url);
    p->server = s;
}

static void end(peer *p)
{
    peer_close(p);
    server_stop(&p->server);
}

/* JSON of exactly `length` bytes that says `head` and then white space. */
static char *padded(const char *head, size_t length)
{
    char *text = malloc(length + 1);
    assert_non_null(text);
    memset(text, ' ', length);
    memcpy(text, head, strlen(head));
    text[length] = '\0';
    return text;
}

/* A body may have as many bytes as the limit says and not one more, whether its length is announced
 * or not; the refusal says the limit, and comes though the client sends first. */
static void test_json_body(void **state)
{
    static const char *const options[] = {"--max-json-body", "1000", "--max-body", "4K", NULL};
    static const char *const chunked[] = {"Content-Type: application/json",
                                          "Transfer-Encoding: chunked", NULL};
    (void)state;
    peer p;
    begin(&p, options);
    create(&p, "a", "{\"params\": {\"w\": [1]}, \"lr\": 0}");
    for (int over = 0; over < 2; over++) {
        char *body = padded("{\"grads\": {\"w\": [1]}}", 1000 + (size_t)over);
        for (int k = 0; k < 2; k++) {
            if (k == 0) {
                (void)ask_json(&p, "POST", at("a", "/step"), body);
            } else {
                (void)ask(&p, "POST", at("a", "/step"), chunked, body, strlen(body));
            }
            if (over) {
                assert_problem(&p, 413, "body-too-large", "\"limit_bytes\": 1000");
            } else {
                assert_status(&p, 200);
            }
            assert_non_null(adamd_response_header(&p.reply, "ETag", 0));
        }
        free(body);
    }
    char *large = padded("{}", 1 << 20);
    (void)ask_json(&p, "POST", at("a", "/step"), large);
    assert_problem(&p, 413, "body-too-large", "\"limit_bytes\": 1000");
    (void)ask(&p, "POST", at("a", "/step"), chunked, large, 1 << 20);
    assert_problem(&p, 413, "body-too-large", "\"limit_bytes\": 1000");
    free(large);
    (void)get(&p, at("a", ""));
    assert_has(&p, 200, "\"step\": 2, ");
    end(&p);
}

/* Tensor bodies have a limit of their own, and their headers that of JSON. */
static void test_tensor_body(void **state)
{
    static const char *const options[] = {"--max-json-body=1000", "--max-body=4096", NULL};
    (void)state;
    peer p;
    float w[1024] = {0};
    begin(&p, options);
    for (int over = 0; over < 2; over++) {
        const size_t n = 1000 + (size_t)over; /* and a header of 88 bytes */
        char header[81];
        (void)snprintf(header, sizeof header,
                       "{\"w\":{\"dtype\":\"F32\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}}", n,
                       n * 4);
        char *text = padded(header, 88);
        file f = file_with(text, w, n * 4);
        assert_int_equal(f.length, 4096 + 4 * over);
        (void)ask_file(&p, "PUT", at("a", ""), NULL, f);
        if (over) {
            assert_problem(&p, 413, "body-too-large", "\"limit_bytes\": 4096");
        } else {
            assert_status(&p, 201);
            (void)ask(&p, "DELETE", at("a", ""), NULL, NULL, 0);
        }
        free(text);
        file_free(&f);
    }
    for (size_t length = 1000; length <= 1001; length++) {
        char *text = padded("{}", length);
        file f = file_with(text, NULL, 0);
        (void)ask_file(&p, "PUT", at("a", ""), NULL, f);
        if (length > 1000) {
            assert_problem(&p, 422, "limit-exceeded", NULL);
        } else {
            assert_status(&p, 201);
            (void)ask(&p, "DELETE", at("a", ""), NULL, NULL, 0);
        }
        free(text);
        file_free(&f);
    }
    end(&p);
}

/* --max-body holds JSON too, where it is the smaller one. */
static void test_small_body_limit(void **state)
{
    static const char *const options[] = {"--max-body", "100", NULL};
    (void)state;
    peer p;
    begin(&p, options);
    char *body = padded("{\"params\": {}}", 101);
    (void)ask_json(&p, "PUT", at("a", ""), body);
    assert_problem(&p, 413, "body-too-large", "\"limit_bytes\": 100");
    body[100] = '\0';
    (void)ask_json(&p, "PUT", at("a", ""), body);
    assert_status(&p, 201);
    free(body);
    end(&p);
}

/* The budget is asked before memory is taken: what does not fit is refused with 507 or 503, and the
 * server goes on with what does. */
static void test_memory(void **state)
{
    static const char *const options[] = {"--max-memory", "4M", NULL};
    static const char *const chunked[] = {"Content-Type: application/json",
                                          "Transfer-Encoding: chunked", NULL};
    (void)state;
    peer p;
    begin(&p, options);
    /* an optimizer that is too large, though its body is small; also one of absurd size */
    (void)ask_json(&p, "PUT", at("a", ""), "{\"params\": {\"w\": {\"shape\": [1000000]}}}");
    assert_problem(&p, 507, "out-of-memory", NULL);
    (void)ask_json(&p, "PUT", at("a", ""), "{\"params\": {\"w\": {\"shape\": [1000000000000]}}}");
    assert_problem(&p, 507, "out-of-memory", NULL);
    /* a body that is too large */
    char *body = padded("{\"params\": {}}", 6 << 20);
    (void)ask_json(&p, "PUT", at("a", ""), body);
    assert_problem(&p, 507, "out-of-memory", "\"limit_bytes\": 4194304");
    (void)ask(&p, "PUT", at("a", ""), chunked, body, 6 << 20);
    assert_problem(&p, 507, "out-of-memory", NULL);
    free(body);
    /* JSON whose structure needs more than there is: small objects are many times their text */
    body = padded("{\"params\": [", 1 << 20);
    char *c = body + strlen("{\"params\": [");
    for (; c + 8 < body + (1 << 20); c += 3) {
        memcpy(c, "{},", 3);
    }
    memcpy(c, "{}]}", 4);
    (void)ask_json(&p, "PUT", at("a", ""), body);
    assert_problem(&p, 507, "out-of-memory", NULL);
    free(body);
    (void)get(&p, at("a", ""));
    assert_problem(&p, 404, "no-such-optimizer", NULL);
    /* what fits is taken until no more fits; room that is made is used */
    char name[16] = "fit0";
    int n = 0;
    while (ask_json(&p, "PUT", at(name, ""), "{\"params\": {\"w\": {\"shape\": [50000]}}}") ==
           201) {
        (void)snprintf(name, sizeof name, "fit%d", ++n);
        assert_true(n < 7); /* 600 kB each of 4 MiB */
    }
    assert_problem(&p, 507, "out-of-memory", NULL);
    assert_true(n >= 3);
    (void)ask(&p, "DELETE", at("fit0", ""), NULL, NULL, 0);
    assert_empty(&p, 204);
    (void)ask_json(&p, "PUT", at(name, ""), "{\"params\": {\"w\": {\"shape\": [50000]}}}");
    assert_status(&p, 201);
    end(&p);
}

/* A step that has no memory for its reply is not taken. */
static void test_memory_for_reply(void **state)
{
    static const char *const options[] = {"--max-memory", "4M", NULL};
    (void)state;
    peer p;
    enum { N = 150000 }; /* 1.8 MB of state, 600 kB of gradients, 3 MB as JSON */
    begin(&p, options);
    (void)ask_json(&p, "PUT", at("a", ""), "{\"params\": {\"w\": {\"shape\": [150000]}}}");
    assert_status(&p, 201);
    float *w = calloc(N, sizeof *w);
    assert_non_null(w);
    w[0] = 1;
    const adamd_tensor t = vector32("w", w, N);
    file f = file_of(&t, 1, NULL, NULL);
    (void)ask_file(&p, "POST", at("a", "/step"), JSON_TYPE, f);
    assert_problem(&p, 507, "out-of-memory", NULL);
    (void)get(&p, at("a", "/state/w?data=none"));
    assert_has(&p, 200, "\"step\": 0, \"exp_avg\": {\"min\": 0, \"max\": 0, ");
    (void)ask_file(&p, "POST", at("a", "/step"), NULL, f);
    assert_status(&p, 200);
    free(w);
    file_free(&f);
    end(&p);
}

/* Parameters that are kept for readers are given up for the next step: an optimizer that could take
 * one step within the budget can take all others. */
static void test_memory_for_readers(void **state)
{
    static const char *const options[] = {"--max-memory", "5M", NULL};
    (void)state;
    peer p;
    enum { N = 1 << 18 }; /* 3 MiB of state, and 1 MiB for each body */
    begin(&p, options);
    float *w = calloc(N, sizeof *w);
    assert_non_null(w);
    const adamd_tensor t = vector32("w", w, N);
    file f = file_of(&t, 1, NULL, NULL);
    (void)ask_file(&p, "PUT", at("a", ""), NULL, f);
    assert_status(&p, 201);
    for (int i = 0; i < 6; i++) {
        (void)ask_file(&p, "POST", at("a", "/step"), NULL, f);
        assert_status(&p, 200);
        if (i % 2) {
            (void)get_with(&p, at("a", "/params"), "Accept: " SAFETENSORS_TYPE);
            assert_status(&p, 200);
        }
    }
    free(w);
    file_free(&f);
    end(&p);
}

/* While another body has the memory, a client is asked to come back; when it is free, it is given.
 */
static void test_busy(void **state)
{
    static const char *const options[] = {"--max-memory", "4M", NULL};
    (void)state;
    peer p;
    raw_reply r;
    begin(&p, options);
    char *body = padded("{\"params\": {}}", 3 << 20);
    const int other = raw_connect(&p.server);
    assert_true(raw_send_text(other, "PUT /v1/optimizers/other HTTP/1.1\r\nHost: x\r\n"
                                     "Content-Type: application/json\r\n"
                                     "Expect: 100-continue\r\nContent-Length: 3145728\r\n\r\n"));
    char text[25];
    for (size_t n = 0; n < sizeof text; n++) {
        assert_int_equal(read(other, text + n, 1), 1); /* 100 Continue: it has the memory */
    }
    (void)ask_json(&p, "PUT", at("a", ""), body);
    assert_problem(&p, 503, "busy", NULL);
    assert_header(&p, "Retry-After", "1");
    assert_true(raw_send(other, body, 3 << 20));
    raw_read(other, &r);
    assert_int_equal(r.status, 201);
    (void)ask_json(&p, "PUT", at("a", ""), body);
    assert_status(&p, 201);
    (void)close(other);
    free(body);
    end(&p);
}

/* A connection over the limit waits for another to end, and is then served. */
static void test_connections(void **state)
{
    static const char *const options[] = {"--max-connections", "2", "--threads", "2", NULL};
    static const char request[] = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    (void)state;
    server s;
    int sockets[3];
    raw_reply r;
    server_start(&s, options);
    for (size_t i = 0; i < COUNT(sockets); i++) {
        sockets[i] = raw_connect(&s);
        assert_true(raw_send_text(sockets[i], request));
        if (i < 2) {
            raw_read(sockets[i], &r);
            assert_int_equal(r.status, 200);
        }
    }
    struct pollfd third = {.fd = sockets[2], .events = POLLIN};
    assert_int_equal(poll(&third, 1, 300), 0);
    (void)close(sockets[0]);
    raw_read(sockets[2], &r);
    assert_int_equal(r.status, 200);
    (void)close(sockets[1]);
    (void)close(sockets[2]);
    server_stop(&s);
}

/* 4096 groups, and 131072 parameters; not one more. */
static void test_counts(void **state)
{
    static const struct {
        const char *before, *after;
        int most;
        const char *expected;
    } cases[] = {
        {"{\"param_groups\": [", "]}", 4096, "\"param_groups\": 4096, "},
        {"{\"params\": {", "}}", 131072, "\"params\": 131072, "},
    };
    (void)state;
    peer p;
    begin(&p, NULL);
    for (size_t i = 0; i < COUNT(cases); i++) {
        for (int over = 1; over >= 0; over--) {
            char *json = malloc((size_t)(cases[i].most + 1) * 20 + 64);
            assert_non_null(json);
            size_t n = (size_t)sprintf(json, "%s", cases[i].before);
            for (int k = 0; k < cases[i].most + over; k++) {
                json[n] = ',';
                n += k > 0;
                n += i == 0 ? (size_t)sprintf(json + n, "{\"params\": []}")
                            : (size_t)sprintf(json + n, "\"p%d\": 1", k);
            }
            (void)strcpy(json + n, cases[i].after);
            (void)ask_json(&p, "PUT", at("many", ""), json);
            free(json);
            if (over) {
                assert_problem(&p, 422, "limit-exceeded", NULL);
            } else {
                assert_has(&p, 201, cases[i].expected);
            }
        }
        (void)ask_json(&p, "POST", at("many", "/param_groups"),
                       "{\"params\": [{\"name\": \"x\", \"data\": 1}]}");
        assert_problem(&p, 422, "limit-exceeded", NULL);
        remove_all(&p);
    }
    end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_body),
        cmocka_unit_test(test_tensor_body),
        cmocka_unit_test(test_small_body_limit),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_memory_for_reply),
        cmocka_unit_test(test_memory_for_readers),
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_connections),
        cmocka_unit_test(test_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
