/* test_federated.c: workers that send the weights they came to instead of gradients: the gradient
 * is what the parameter is less what was sent. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rounds.h"

static int clear(void **state)
{
    remove_all(*state);
    return 0;
}

/* With lr 0 and beta1 0, which leaves the parameters and keeps the gradient in exp_avg. */
static void create_weights(peer *p, const char *params, const char *aggregation)
{
    char json[512];
    (void)snprintf(json, sizeof json,
                   "{\"params\": {%s}, \"lr\": 0, \"betas\": [0, 0.5], \"input\": \"weights\", "
                   "\"aggregation\": %s}",
                   params, aggregation);
    create(p, "a", json);
}

static void assert_gradient(peer *p, const char *param, const char *numbers)
{
    char path[64];
    char text[128];
    (void)snprintf(path, sizeof path, "/state/%s?data=all", param);
    (void)get(p, at("a", path));
    (void)snprintf(text, sizeof text, "\"data\": [%s]}, \"exp_avg_sq\"", numbers);
    assert_has(p, 200, text);
}

/* One worker's weights are a step. */
static void test_immediate(void **state)
{
    peer *p = *state;
    create_weights(p, "\"w\": [10, 20], \"v\": [1]", "null");
    (void)get(p, at("a", ""));
    assert_has(p, 200, "\"aggregation\": {\"mode\": \"immediate\"}, \"input\": \"weights\"");
    (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": {\"w\": [7, 22]}}");
    assert_has(p, 200, "{\"step\": 1, \"params\": {\"w\": [10, 20]}, ");
    assert_gradient(p, "w", "3, -2");
    (void)ask_json(p, "PATCH", at("a", ""), "{\"input\": \"gradients\"}");
    (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": {\"w\": [7, 22]}}");
    assert_gradient(p, "w", "7, 22");
    (void)ask_json(p, "PATCH", at("a", ""), "{\"input\": \"weights\"}");
    (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": {\"w\": [7, 22]}}");
    assert_gradient(p, "w", "3, -2");
}

/* Plain averaging: with an optimizer that moves by the whole gradient, the new parameters are the
 * mean of what was sent. Here Adam's first step shows the direction. */
static void test_moves_towards(void **state)
{
    peer *p = *state;
    create(p, "a", "{\"params\": {\"w\": [10, 20]}, \"lr\": 0.5, \"input\": \"weights\"}");
    (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": {\"w\": [7, 22]}}");
    assert_has(p, 200, "\"params\": {\"w\": [9.5, 20.5]}");
}

/* What cannot be a gradient is refused, and nothing has changed. */
static void test_bad(void **state)
{
    static const char *const bad[] = {
        "{\"grads\": {\"w\": [1]}}",          "{\"grads\": {\"x\": [1]}}",
        "{\"grads\": {\"w\": [1, \"NaN\"]}}", "{\"grads\": {\"w\": [1, \"Infinity\"]}}",
        "{\"params\": {\"w\": [1, 2]}}",      "{\"grads\": {}}"};
    static const char *const modes[] = {"null", "{\"mode\": \"buffered\", \"size\": 2}"};
    peer *p = *state;
    for (size_t k = 0; k < COUNT(modes); k++) {
        create_weights(p, "\"w\": [10, 20]", modes[k]);
        char *before = state_of(p, "a");
        for (size_t i = 0; i < COUNT(bad); i++) {
            (void)ask_json_with(p, "POST", at("a", "/step"), "Idempotency-Key: k", bad[i]);
            assert_in_range(p->reply.status, 400, 422);
            wait_for_held(p, "a", 0);
        }
        assert_unchanged(p, "a", before);
        (void)ask_json_with(p, "POST", at("a", "/step"), "Idempotency-Key: k",
                            "{\"grads\": {\"w\": [1, 2]}}");
        assert_status(p, k == 0 ? 200 : 202);
        (void)ask(p, "DELETE", at("a", ""), NULL, NULL, 0);
    }
}

/* Each difference is rounded, then they are reduced: to the bit, whoever comes first. */
static void test_bits(void **state)
{
    static const char *const reductions[] = {"mean", "sum", "weighted"};
    static const float sent[] = {0.3F, -7.1F, 1e-8F};
    static const char *const texts[] = {"0.3", "-7.1", "1e-8"};
    static const float weights[] = {0.5F, 3, 20};
    peer *p = *state;
    raw_reply r;
    for (size_t way = 0; way < 9; way++) {
        char json[256];
        int sockets[3];
        double got;
        const size_t kind = way / 3;
        (void)snprintf(json, sizeof json,
                       "{\"mode\": \"sync\", \"workers\": 3, \"reduce\": \"%s\"}",
                       reductions[kind]);
        create_weights(p, "\"w\": [0.1]", json);
        for (unsigned i = 0; i < 3; i++) {
            const size_t k = (way + i) % 3;
            char lines[96];
            (void)snprintf(json, sizeof json, "{\"grads\": {\"w\": [%s]}}", texts[k]);
            (void)snprintf(lines, sizeof lines, "Adam-Worker: %c\r\nAdam-Weight: %g\r\n",
                           (char)('a' + k), (double)weights[k]);
            sockets[i] = begin_step(&p->server, "a", lines, json);
            if (i < 2) {
                wait_for_held(p, "a", i + 1);
            }
        }
        for (unsigned i = 0; i < 3; i++) {
            end_with(sockets[i], &r, 200);
            assert_text(r.body, "\"params\": {\"w\": [0.1]}");
        }
        volatile float sum = 0;
        for (size_t k = 0; k < 3; k++) {
            const volatile float g = 0.1F - sent[k];
            const volatile float part = kind == 2 ? weights[k] * g : g;
            sum = k == 0 ? part : sum + part;
        }
        const float expected = kind == 0 ? sum / 3 : kind == 1 ? sum : sum / 23.5F;
        (void)get(p, at("a", "/state/w?data=all"));
        numbers_of(body_of(p), "data", &got, 1);
        assert_true((float)got == expected);
        (void)ask(p, "DELETE", at("a", ""), NULL, NULL, 0);
    }
}

/* Weights are held against the parameters as they are when the step is taken. */
static void test_async(void **state)
{
    static const char *const headers[] = {"Content-Type: application/json", "Adam-Based-On: 0",
                                          NULL};
    static const char *const text = "{\"grads\": {\"w\": [7]}}";
    peer *p = *state;
    create(
        p, "a",
        "{\"params\": {\"w\": [10]}, \"lr\": 1, \"betas\": [0, 0.5], \"input\": \"weights\", "
        "\"aggregation\": {\"mode\": \"async\", \"max_staleness\": 1, \"damping\": \"inverse\"}}");
    (void)ask(p, "POST", at("a", "/step"), headers, text, strlen(text));
    assert_has(p, 200, "\"params\": {\"w\": [9]}");
    assert_gradient(p, "w", "3");
    (void)ask(p, "POST", at("a", "/step"), headers, text, strlen(text));
    assert_status(p, 200);
    assert_gradient(p, "w", "1"); /* (9 - 7) / 2 */
    (void)ask(p, "POST", at("a", "/step"), headers, text, strlen(text));
    assert_problem(p, 409, "stale", NULL);
}

/* Half-precision weights in safetensors beside JSON, each for a part of the parameters. */
static void test_mixed(void **state)
{
    uint16_t half[] = {0x40e0, 0x4000}; /* 7 and 2 in bfloat16 */
    const adamd_tensor t = {
        .name = "w", .dtype = ADAMD_BFLOAT16, .rank = 1, .shape = {2}, .data = half};
    peer *p = *state;
    raw_reply r;
    create_weights(p, "\"v\": [4], \"w\": [10, 20]", "{\"mode\": \"sync\", \"workers\": 2}");
    const int first =
        begin_tensors(&p->server, "a", "Adam-Worker: x\r\nAccept: application/json\r\n",
                      file_of(&t, 1, NULL, NULL));
    wait_for_held(p, "a", 1);
    end_with(begin_worker(&p->server, "a", "y", "{\"grads\": {\"v\": [1], \"w\": [9, 18]}}"), &r,
             200);
    end_with(first, &r, 200);
    assert_text(r.body, "\"params\": {\"v\": [4], \"w\": [10, 20]}");
    assert_gradient(p, "v", "3");
    assert_gradient(p, "w", "2, 10");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_immediate, clear),
        cmocka_unit_test_setup(test_moves_towards, clear),
        cmocka_unit_test_setup(test_bad, clear),
        cmocka_unit_test_setup(test_bits, clear),
        cmocka_unit_test_setup(test_async, clear),
        cmocka_unit_test_setup(test_mixed, clear),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
