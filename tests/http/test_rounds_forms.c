/* test_rounds_forms.c: rounds of workers that speak different forms: each gets its own, of the same
 * step. And the memory that rounds take, which comes back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rounds.h"

static int clear(void **state)
{
    remove_all(*state);
    return 0;
}

typedef struct wish {
    const char *query, *lines;
    bool tensors; /* it sends safetensors */
    int status;
    const char *expected; /* in the reply */
} wish;

static const wish wishes[] = {
    {"", "", false, 200, "\"params\": {\"d\": [2], \"w\": [1.1, -1]}, \"stats\": "},
    {"", "Prefer: return=minimal\r\n", false, 204, "Preference-Applied: return=minimal\r\n"},
    {"", "Accept: application/vnd.safetensors\r\n", false, 200, "\"dtype\": \"F64\""},
    {"", "Accept: application/octet-stream\r\n", false, 200,
     "Content-Type: application/octet-stream"},
    {"?dtype=f64", "", false, 200, "\"w\": [1.100000023841858, -1]"},
    {"?dtype=bf16", "", false, 200, "\"w\": [1.1015625, -1]"},
    {"?dtype=f16", "", false, 200, "\"w\": [1.0996094, -1]"},
    {"?dtype=f32", "", false, 200, "\"w\": [1.1, -1]"},
    {"?dtype=bf16", "Accept: application/vnd.safetensors\r\n", false, 200, "\"dtype\": \"BF16\""},
    {"?dtype=f16", "Accept: application/vnd.safetensors\r\n", false, 200, "\"dtype\": \"F16\""},
    {"?dtype=f64", "Accept: application/vnd.safetensors\r\n", false, 200, "\"dtype\": \"F64\""},
    {"?dtype=f32", "Accept: application/vnd.safetensors\r\n", false, 200, "\"dtype\": \"F32\""},
    {"?dtype=bf16", "Accept: application/octet-stream\r\n", false, 200, "\"dtype\": \"BF16\""},
    {"?dtype=f16", "Accept: application/octet-stream\r\n", false, 200, "\"dtype\": \"F16\""},
    {"?dtype=f64", "Accept: application/octet-stream\r\n", false, 200, "\"dtype\": \"F64\""},
    {"?dtype=f32", "Accept: application/octet-stream\r\n", false, 200, "\"dtype\": \"F32\""},
    {"", "", true, 200, "\"grad_norm\": \"4\""},
    {"", "Accept: application/json\r\n", true, 200, "\"params\": {\"d\": [2], \"w\": [1.1, -1]}"},
    {"?dtype=bf16", "Prefer: return=minimal\r\n", true, 204, "ETag: "},
};

/* Everything before the data of a reply, for text to be looked for. */
static void assert_expected(raw_reply *r, const wish *w)
{
    char *flat = flatten(r->text);
    char *body = flatten(r->body); /* behind a file's length, which may have a NUL */
    char *header = strstr(r->text, "safetensors") != NULL || strstr(r->text, "octet") != NULL
                       ? flatten(r->body + 8)
                       : strdup("");
    char *expected = flatten(w->expected);
    if (strstr(flat, expected) == NULL && strstr(body, expected) == NULL &&
        strstr(header, expected) == NULL) {
        fail_msg("%s %s: no %s in %s%s", w->query, w->lines, expected, r->text, header);
    }
    free(flat);
    free(body);
    free(header);
    free(expected);
}

/* All forms there are in one round: the mean of 4 and 4, in a step of everybody. */
static void test_forms(void **state)
{
    peer *p = *state;
    raw_reply r;
    int sockets[COUNT(wishes)];
    char etag[64] = "";
    float w[] = {4, 0};
    char json[256];
    (void)snprintf(
        json, sizeof json,
        "{\"params\": {\"d\": {\"dtype\": \"float64\", \"data\": [2]}, \"w\": [1.1, -1]}, "
        "\"lr\": 0, \"aggregation\": {\"mode\": \"sync\", \"workers\": %zu}}",
        COUNT(wishes));
    create(p, "a", json);
    for (unsigned i = 0; i < COUNT(wishes); i++) {
        const wish *h = &wishes[i];
        char name[32];
        char lines[160];
        (void)snprintf(name, sizeof name, "a%s", h->query);
        (void)snprintf(lines, sizeof lines, "Adam-Worker: %u\r\n%s", i, h->lines);
        const adamd_tensor t = vector32("w", w, 2);
        sockets[i] = h->tensors ? begin_tensors(&p->server, name, lines, file_of(&t, 1, NULL, NULL))
                                : begin_step(&p->server, name, lines,
                                             "{\"grads\": {\"w\": [4, 0], \"d\": [0]}}");
        if (i + 1 < COUNT(wishes)) {
            wait_for_held(p, "a", i + 1);
        }
    }
    for (size_t i = 0; i < COUNT(wishes); i++) {
        end_with(sockets[i], &r, wishes[i].status);
        assert_expected(&r, &wishes[i]);
        const char *tag = strstr(r.text, "\r\nETag: ");
        assert_non_null(tag);
        if (i == 0) {
            (void)sscanf(tag, "\r\nETag: %63s", etag);
        }
        assert_memory_equal(tag + 8, etag, strlen(etag));
        assert_null(strstr(r.text, "Idempotent-Replayed"));
    }
    assert_step_of(p, "a", 1);
}

/* Buffered gradients too are answered in the form that is wanted. */
static void test_buffered_forms(void **state)
{
    peer *p = *state;
    raw_reply r;
    float w[] = {4, 0};
    const adamd_tensor t = vector32("w", w, 2);
    create(
        p, "a",
        "{\"params\": {\"w\": [1.1, -1]}, \"aggregation\": {\"mode\": \"buffered\", \"size\": 9}}");
    end_with(
        begin_step(&p->server, "a", "Prefer: return=minimal\r\n", "{\"grads\": {\"w\": [4, 0]}}"),
        &r, 202);
    assert_string_equal(r.body, "");
    assert_non_null(strstr(r.text, "Preference-Applied: return=minimal"));
    file f = file_of(&t, 1, NULL, NULL);
    (void)ask_file(p, "POST", at("a", "/step"), NULL, f);
    assert_status(p, 202);
    assert_metadata(p, "pending", "2");
    assert_metadata(p, "step", "0");
    (void)ask_file(p, "POST", at("a", "/step?dtype=bf16"), "application/json", f);
    assert_has(p, 202, "\"params\": {\"w\": [1.1015625, -1]}");
    assert_has(p, 202, "\"pending\": 3}");
    file_free(&f);
}

/* Gradients in each type become numbers of the parameter's. */
static void test_types(void **state)
{
    uint16_t bf16[] = {0x4040, 0xc040}; /* 3, -3 */
    uint16_t f16[] = {0x4a00, 0x4200};  /* 12, 3 */
    double f64[] = {1e-300, 0.1};
    static const char *const params[] = {"float32", "float64"};
    static const char *const expected[] = {"5, 0.033333335", "5, 0.033333333333333"};
    const adamd_tensor tensors[] = {
        {.name = "w", .dtype = ADAMD_BFLOAT16, .rank = 1, .shape = {2}, .data = bf16},
        {.name = "w", .dtype = ADAMD_FLOAT16, .rank = 1, .shape = {2}, .data = f16},
        {.name = "w", .dtype = ADAMD_FLOAT64, .rank = 1, .shape = {2}, .data = f64}};
    peer *p = *state;
    raw_reply r;
    for (size_t i = 0; i < COUNT(params); i++) {
        char text[256];
        int sockets[3];
        (void)snprintf(
            text, sizeof text,
            "{\"params\": {\"w\": {\"dtype\": \"%s\", \"data\": [1, 1]}}, \"lr\": 0, "
            "\"betas\": [0, 0.5], \"aggregation\": {\"mode\": \"sync\", \"workers\": 3}}",
            params[i]);
        create(p, "a", text);
        for (unsigned k = 0; k < 3; k++) {
            (void)snprintf(text, sizeof text, "Adam-Worker: %u\r\n", k);
            sockets[k] = begin_tensors(&p->server, "a", text, file_of(&tensors[k], 1, NULL, NULL));
            if (k < 2) {
                wait_for_held(p, "a", k + 1);
            }
        }
        for (unsigned k = 0; k < 3; k++) {
            end_with(sockets[k], &r, 200);
        }
        (void)get(p, at("a", "/state/w?data=all"));
        (void)snprintf(text, sizeof text, "\"data\": [%s", expected[i]);
        assert_has(p, 200, text);
        (void)ask(p, "DELETE", at("a", ""), NULL, NULL, 0);
    }
}

/* ---- memory ---- */

static unsigned long used_by(peer *p)
{
    unsigned long used = 0;
    (void)get(p, "/");
    const char *text = strstr(body_of(p), "\"used_bytes\": ");
    assert_non_null(text);
    assert_int_equal(sscanf(text, "\"used_bytes\": %lu", &used), 1);
    return used;
}

/* Waits until so much is used at most: replies may still be on their way, and buffers are kept for
 * the next request. */
static void wait_for_used(peer *p, unsigned long most)
{
    const double until = now() + RAW_SECONDS;
    unsigned long used;
    while ((used = used_by(p)) > most) {
        if (now() > until) {
            fail_msg("%lu bytes are used, %lu were before", used, most);
        }
        sleep_ms(100);
    }
}

/* A round that is too large for the budget is refused, whoever waits in it is told, and the
 * optimizer goes on with what fits. In the end all memory is back. */
static void test_memory(void **state)
{
    enum { N = 100000, MANY = 12 };
    static const char *const options[] = {"--max-memory", "5M", NULL};
    static const char *const modes[] = {"\"mode\": \"sync\", \"workers\"",
                                        "\"mode\": \"buffered\", \"size\""};
    static float w[N];
    (void)state;
    peer p;
    serve(&p, options);
    create(&p, "warm", "{\"params\": {\"w\": [1]}}");
    (void)ask(&p, "DELETE", at("warm", ""), NULL, NULL, 0);
    const unsigned long before = used_by(&p);
    const adamd_tensor t = vector32("w", w, N);
    for (size_t way = 0; way < COUNT(modes); way++) {
        char text[256];
        int sockets[MANY];
        unsigned refused = 0;
        (void)snprintf(text, sizeof text,
                       "{\"params\": {\"w\": {\"shape\": [100000]}}, \"aggregation\": {%s: %d}}",
                       modes[way], MANY);
        create(&p, "a", text);
        char *digest = digest_of(&p, "a");
        for (unsigned i = 0; i < MANY; i++) {
            (void)snprintf(text, sizeof text,
                           "Adam-Worker: %u\r\nIdempotency-Key: %u\r\nPrefer: return=minimal\r\n",
                           i, i);
            sockets[i] = begin_tensors(&p.server, "a", text, file_of(&t, 1, NULL, NULL));
            (void)is_silent(sockets[i], 50);
        }
        (void)get(&p, at("a", "/round"));
        assert_has(&p, 200, "\"open\": true");
        (void)ask(&p, "DELETE", at("a", "/round"), NULL, NULL, 0);
        for (unsigned i = 0; i < MANY; i++) {
            raw_reply r;
            end_request(sockets[i], &r);
            refused += r.status == 507 || r.status == 503;
            assert_true(r.status == 507 || r.status == 503 || r.status == (way == 0 ? 409 : 202));
        }
        assert_true(refused > 0 && refused < MANY);
        char *after = digest_of(&p, "a");
        assert_string_equal(digest, after);
        free(digest);
        free(after);
        (void)snprintf(text, sizeof text, "{\"aggregation\": {%s: 2}}", modes[way]);
        (void)ask_json(&p, "PATCH", at("a", ""), text);
        assert_status(&p, 200);
        for (unsigned i = 0; i < 2; i++) { /* keys of refused requests are free again */
            (void)snprintf(text, sizeof text,
                           "Adam-Worker: %u\r\nIdempotency-Key: 1%u\r\nPrefer: return=minimal\r\n",
                           i, i);
            sockets[i] = begin_tensors(&p.server, "a", text, file_of(&t, 1, NULL, NULL));
            wait_for_held(&p, "a", 1 - i);
        }
        for (unsigned i = 0; i < 2; i++) {
            raw_reply r;
            end_with(sockets[i], &r, way == 1 && i == 0 ? 202 : 204);
        }
        assert_step_of(&p, "a", 1);
        (void)ask(&p, "DELETE", at("a", ""), NULL, NULL, 0);
        assert_empty(&p, 204);
        wait_for_used(&p, before + (256UL << 10)); /* less than one gradient */
    }
    serve_end(&p);
}

/* The last gradient of a large buffer reduces them all, which others on its thread need not wait
 * for; it is answered as any other. */
static void test_large_buffer(void **state)
{
    enum { N = 1000000, SIZE = 4 };
    static float w[N];
    peer *p = *state;
    raw_reply r;
    for (size_t i = 0; i < N; i++) {
        w[i] = 1;
    }
    const adamd_tensor t = vector32("w", w, N);
    create(
        p, "a",
        "{\"params\": {\"w\": {\"shape\": [1000000]}}, \"aggregation\": {\"mode\": \"buffered\", "
        "\"size\": 4, \"reduce\": \"sum\"}}");
    for (unsigned i = 1; i <= 2 * SIZE; i++) {
        char line[96];
        (void)snprintf(line, sizeof line, "Prefer: return=minimal\r\nIdempotency-Key: %u\r\n", i);
        end_with(begin_tensors(&p->server, "a", line, file_of(&t, 1, NULL, NULL)), &r,
                 i % SIZE == 0 ? 204 : 202);
        wait_for_held(p, "a", i % SIZE);
        assert_step_of(p, "a", i / SIZE);
    }
    (void)get(p, at("a", "/history"));
    assert_has(p, 200, "\"grad_norm\": 4000, ");
}

/* Rounds, keys and workers, of which some are open when the optimizer goes. */
static void test_memory_is_back(void **state)
{
    static const char *const modes[] = {"null", "{\"mode\": \"sync\", \"workers\": 3}",
                                        "{\"mode\": \"buffered\", \"size\": 7}",
                                        "{\"mode\": \"async\", \"max_staleness\": 1000}"};
    peer *p = *state;
    raw_reply r;
    unsigned long before = 0;
    for (unsigned again = 0; again < 2; again++) {
        for (size_t k = 0; k < COUNT(modes); k++) {
            char json[256];
            (void)snprintf(json, sizeof json, "{\"params\": {\"w\": [1, 2]}, \"aggregation\": %s}",
                           modes[k]);
            create(p, "a", json);
            for (unsigned i = 0; i < 500; i++) {
                char lines[128];
                int sockets[3];
                const unsigned n = k == 1 ? 3 : 1;
                for (unsigned j = 0; j < n; j++) {
                    (void)snprintf(lines, sizeof lines,
                                   "Adam-Worker: w%u\r\nIdempotency-Key: k%u\r\n"
                                   "Adam-Based-On: 0\r\n",
                                   3 * i + j, 3 * i + j);
                    if (k == 1) {
                        *strstr(lines, "Adam-Based-On") = '\0';
                    }
                    sockets[j] = begin_step(&p->server, "a", lines, "{\"grads\": {\"w\": [3, 4]}}");
                }
                for (unsigned j = 0; j < n; j++) {
                    end_request(sockets[j], &r);
                    assert_in_range(r.status, 200, 202);
                }
            }
            const int waits = begin_worker(&p->server, "a", "last", "{\"grads\": {\"w\": [3, 4]}}");
            if (k == 1) {
                wait_for_held(p, "a", 1);
            } else {
                end_request(waits, &r);
            }
            (void)ask(p, "DELETE", at("a", ""), NULL, NULL, 0);
            if (k == 1) {
                end_refused(waits, 404, "no-such-optimizer", NULL);
            }
        }
        if (again == 0) {
            before = used_by(p); /* with the buffers that are kept */
        }
    }
    wait_for_used(p, before + (16UL << 10));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_forms, clear),
        cmocka_unit_test_setup(test_buffered_forms, clear),
        cmocka_unit_test_setup(test_types, clear),
        cmocka_unit_test_setup(test_large_buffer, clear),
        cmocka_unit_test(test_memory),
        cmocka_unit_test_setup(test_memory_is_back, clear),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
