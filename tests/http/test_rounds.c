/* test_rounds.c: gradients that become a step together: who is counted, who waits, what fits a
 * round and what does not. */
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

/* An optimizer that does not move, and whose exp_avg is the last gradient. */
#define STILL "\"lr\": 0, \"betas\": [0, 0.5]"

static void create_still(peer *p, const char *name, const char *params, const char *aggregation)
{
    char json[1024];
    (void)snprintf(json, sizeof json, "{\"params\": {%s}, " STILL ", \"aggregation\": {%s}}",
                   params, aggregation);
    create(p, name, json);
}

/* Asserts that the parameter's last gradient was this. */
static void assert_gradient(peer *p, const char *name, const char *param, const char *numbers)
{
    char path[64];
    char text[128];
    (void)snprintf(path, sizeof path, "/state/%s?data=all", param);
    (void)get(p, at(name, path));
    (void)snprintf(text, sizeof text, "\"data\": [%s]}, \"exp_avg_sq\"", numbers);
    assert_has(p, 200, text);
}

/* ---- sync ---- */

/* All get the step of the round at once, and it is one step. */
static void test_sync(void **state)
{
    peer *p = *state;
    raw_reply r;
    create_still(p, "a", "\"w\": [1, 2]", "\"mode\": \"sync\", \"workers\": 2");
    for (unsigned step = 1; step <= 3; step++) {
        char text[64];
        (void)snprintf(text, sizeof text, "{\"step\": %u, \"params\": {\"w\": [1, 2]}", step);
        const int first = begin_worker(&p->server, "a", "x", "{\"grads\": {\"w\": [2, 4]}}");
        wait_for_round(p, "a",
                       "\"open\": true, \"gradients\": 1, \"wanted\": 2, \"quorum\": 2, "
                       "\"waiting\": 1, \"workers\": [\"x\"], \"closes_in_ms\": ");
        assert_true(is_silent(first, 20));
        assert_step_of(p, "a", step - 1);
        const int second = begin_worker(&p->server, "a", "y", "{\"grads\": {\"w\": [4, 8]}}");
        end_with(second, &r, 200);
        assert_text(r.body, text);
        end_with(first, &r, 200);
        assert_text(r.body, text);
        assert_text(r.body, "\"grad_norm\": 6.7082039");
        assert_gradient(p, "a", "w", "3, 6");
    }
    wait_for_round(p, "a", "\"open\": false, \"gradients\": 0, ");
}

/* A round counts a worker once, and needs to know who it is. */
static void test_twice(void **state)
{
    peer *p = *state;
    raw_reply r;
    static const char *const grads = "{\"grads\": {\"w\": [1]}}";
    create_still(p, "a", "\"w\": [1]", "\"mode\": \"sync\", \"workers\": 2");
    end_refused(begin_step(&p->server, "a", "", grads), 400, "malformed-request",
                "\"header\": \"Adam-Worker\"");
    const int first =
        begin_step(&p->server, "a", "Adam-Worker: x\r\nIdempotency-Key: 1\r\n", grads);
    wait_for_held(p, "a", 1);
    end_refused(begin_worker(&p->server, "a", "x", grads), 409, "already-contributed",
                "\"worker\": \"x\", \"step\": 0");
    end_refused(begin_step(&p->server, "a", "Adam-Worker: x\r\nIdempotency-Key: 2\r\n", grads), 409,
                "already-contributed", NULL);
    wait_for_round(p, "a", "\"gradients\": 1, \"wanted\": 2, \"quorum\": 2, \"waiting\": 1, ");
    end_with(begin_worker(&p->server, "a", "y", grads), &r, 200);
    end_with(first, &r, 200);
    /* the key of the refused one is free */
    const int again =
        begin_step(&p->server, "a", "Adam-Worker: x\r\nIdempotency-Key: 2\r\n", grads);
    wait_for_held(p, "a", 1);
    end_with(begin_worker(&p->server, "a", "y", grads), &r, 200);
    end_with(again, &r, 200);
    assert_step_of(p, "a", 2);
}

/* A gradient of another step than the current one is late, or wrong. */
static void test_based_on(void **state)
{
    peer *p = *state;
    raw_reply r;
    static const char *const grads = "{\"grads\": {\"w\": [1]}}";
    create_still(p, "a", "\"w\": [1]", "\"mode\": \"sync\", \"workers\": 1");
    end_refused(begin_step(&p->server, "a", "Adam-Worker: x\r\nAdam-Based-On: 1\r\n", grads), 422,
                "invalid-value", "\"header\": \"Adam-Based-On\"");
    end_with(begin_step(&p->server, "a", "Adam-Worker: x\r\nAdam-Based-On: 0\r\n", grads), &r, 200);
    end_refused(begin_step(&p->server, "a", "Adam-Worker: y\r\nAdam-Based-On: 0\r\n", grads), 409,
                "round-closed", "\"step\": 1");
    end_refused(begin_step(&p->server, "a", "Adam-Worker: y\r\nIf-Match: \"e1-s0\"\r\n", grads),
                412, "precondition-failed", NULL);
    assert_step_of(p, "a", 1);
}

/* A worker that hangs up has sent its gradient nevertheless, once. */
static void test_hang_up(void **state)
{
    peer *p = *state;
    raw_reply r;
    create_still(p, "a", "\"w\": [1]", "\"mode\": \"sync\", \"workers\": 2");
    const int first = begin_worker(&p->server, "a", "x", "{\"grads\": {\"w\": [2]}}");
    wait_for_held(p, "a", 1);
    (void)close(first);
    end_refused(begin_worker(&p->server, "a", "x", "{\"grads\": {\"w\": [2]}}"), 409,
                "already-contributed", NULL);
    end_with(begin_worker(&p->server, "a", "y", "{\"grads\": {\"w\": [6]}}"), &r, 200);
    assert_gradient(p, "a", "w", "4");
    assert_step_of(p, "a", 1);
}

/* ---- different parameters ---- */

/* A round steps all parameters that anybody sent; each is the mean over those who sent it, and
 * everybody gets them all. */
static void test_union(void **state)
{
    peer *p = *state;
    raw_reply r;
    create_still(p, "a", "\"u\": [1], \"v\": [1], \"w\": [1], \"x\": [1]",
                 "\"mode\": \"sync\", \"workers\": 3");
    int sockets[3];
    sockets[0] = begin_worker(&p->server, "a", "1", "{\"grads\": {\"w\": [6], \"u\": [3]}}");
    wait_for_held(p, "a", 1);
    sockets[1] = begin_worker(&p->server, "a", "2", "{\"grads\": {\"w\": [8]}}");
    wait_for_held(p, "a", 2);
    sockets[2] = begin_worker(&p->server, "a", "3", "{\"grads\": {\"v\": [5], \"w\": [1]}}");
    for (int i = 0; i < 3; i++) {
        end_with(sockets[i], &r, 200);
        assert_text(r.body, "\"params\": {\"u\": [1], \"v\": [1], \"w\": [1]}");
    }
    assert_gradient(p, "a", "u", "3");
    assert_gradient(p, "a", "v", "5");
    assert_gradient(p, "a", "w", "5");
    (void)get(p, at("a", "/state/x"));
    assert_has(p, 200, "\"step\": 0");
}

/* Scalars and empty tensors are parameters like others. */
static void test_no_numbers(void **state)
{
    static const char *const grads[] = {"{\"grads\": {\"w\": []}}",
                                        "{\"grads\": {\"s\": 3, \"w\": []}}"};
    peer *p = *state;
    raw_reply r;
    create_still(p, "a", "\"w\": {\"shape\": [0]}, \"s\": 1", "\"mode\": \"sync\", \"workers\": 2");
    for (size_t i = 0; i < COUNT(grads); i++) {
        const int first = begin_worker(&p->server, "a", "1", grads[i]);
        wait_for_held(p, "a", 1);
        end_with(begin_worker(&p->server, "a", "2", grads[i]), &r, 200);
        assert_text(r.body,
                    i == 0 ? "\"params\": {\"w\": []}" : "\"params\": {\"w\": [], \"s\": 1}");
        end_with(first, &r, 200);
    }
}

/* A strict round refuses other parameters than those of its first gradient. */
static void test_strict(void **state)
{
    static const char *const bad[] = {"{\"grads\": {\"v\": [1]}}",
                                      "{\"grads\": {\"v\": [1], \"x\": [1]}}",
                                      "{\"grads\": {\"v\": [1], \"w\": [1], \"x\": [1]}}",
                                      "{\"grads\": {\"x\": [1], \"v\": [1]}}"};
    peer *p = *state;
    raw_reply r;
    create_still(p, "a", "\"v\": [1], \"w\": [1], \"x\": [1]",
                 "\"mode\": \"sync\", \"workers\": 2, \"strict\": true");
    const int first = begin_worker(&p->server, "a", "1", "{\"grads\": {\"v\": [1], \"w\": [1]}}");
    wait_for_held(p, "a", 1);
    for (size_t i = 0; i < COUNT(bad); i++) {
        end_refused(begin_worker(&p->server, "a", "2", bad[i]), 409, "round-conflict", NULL);
    }
    end_with(begin_worker(&p->server, "a", "2", "{\"grads\": {\"w\": [1], \"v\": [1]}}"), &r, 200);
    end_with(first, &r, 200);
    assert_step_of(p, "a", 1);
}

/* Overrides and settings of the step are those of the first; the same again is welcome, others are
 * not. */
static void test_settings(void **state)
{
    static const char *const bad[] = {
        "{\"grads\": {\"w\": [1]}}",
        "{\"grads\": {\"w\": [1]}, \"param_groups\": [{\"lr\": 0.25}], \"grad_scale\": 2}",
        "{\"grads\": {\"w\": [1]}, \"param_groups\": [{\"lr\": 0.5}]}",
        "{\"grads\": {\"w\": [1]}, \"grad_scale\": 2}",
        "{\"grads\": {\"w\": [1]}, \"param_groups\": [{\"lr\": 0.5}], \"grad_scale\": 4}"};
    static const char *const good =
        "{\"grads\": {\"w\": [1]}, \"param_groups\": [{\"lr\": 0.5}], \"grad_scale\": 2}";
    peer *p = *state;
    raw_reply r;
    create(p, "a",
           "{\"params\": {\"w\": [1]}, \"aggregation\": {\"mode\": \"sync\", \"workers\": 2}}");
    const int first = begin_worker(&p->server, "a", "1", good);
    wait_for_held(p, "a", 1);
    for (size_t i = 0; i < COUNT(bad); i++) {
        end_refused(begin_worker(&p->server, "a", "2", bad[i]), 409, "round-conflict", NULL);
    }
    wait_for_held(p, "a", 1);
    end_with(begin_worker(&p->server, "a", "2", good), &r, 200);
    assert_text(r.body, "\"params\": {\"w\": [0.50000006]}, \"stats\": {\"grad_norm\": 0.5, ");
    end_with(first, &r, 200);
}

/* ---- buffered ---- */

/* The gradients before the last are answered at once, and change nothing yet. */
static void test_buffered(void **state)
{
    peer *p = *state;
    raw_reply r;
    create_still(p, "a", "\"v\": [1], \"w\": [1]", "\"mode\": \"buffered\", \"size\": 3");
    for (unsigned step = 0; step < 2; step++) {
        for (unsigned i = 1; i < 3; i++) {
            char text[256];
            char *digest = digest_of(p, "a");
            (void)snprintf(text, sizeof text,
                           "{\"step\": %u, \"params\": {\"w\": [1]}, \"stats\": "
                           "{\"grad_norm\": 0, \"param_norm\": 0, \"update_norm\": 0, ",
                           step);
            end_with(
                begin_step(&p->server, "a", "Adam-Worker: same\r\n", "{\"grads\": {\"w\": [3]}}"),
                &r, 202);
            assert_text(r.body, text);
            (void)snprintf(text, sizeof text, "]}, \"pending\": %u}", i);
            assert_text(r.body, text);
            char *after = digest_of(p, "a");
            assert_string_equal(digest, after);
            free(digest);
            free(after);
        }
        end_with(begin_step(&p->server, "a", "", "{\"grads\": {\"w\": [9], \"v\": [7]}}"), &r, 200);
        assert_null(strstr(r.body, "pending"));
        assert_gradient(p, "a", "w", "5");
        assert_gradient(p, "a", "v", "7");
        assert_step_of(p, "a", step + 1);
    }
}

/* A last gradient that is refused leaves those before it, and can be sent again. */
static void test_refused_last(void **state)
{
    static const char *const bad[] = {"{\"grads\": {\"w\": [\"NaN\"]}}",
                                      "{\"grads\": {\"w\": [1, 2]}}",
                                      "{\"grads\": {\"x\": [1]}}",
                                      "{\"grads\": {}}",
                                      "{\"grads\": {\"w\": [1]}, \"grad_scale\": 2}",
                                      "{\"grads\": "};
    peer *p = *state;
    raw_reply r;
    create_still(p, "a", "\"w\": [1]", "\"mode\": \"buffered\", \"size\": 2, \"reduce\": \"sum\"");
    end_with(begin_step(&p->server, "a", "Idempotency-Key: 1\r\n", "{\"grads\": {\"w\": [1]}}"), &r,
             202);
    for (size_t i = 0; i < COUNT(bad); i++) {
        end_request(begin_step(&p->server, "a", "Idempotency-Key: 2\r\n", bad[i]), &r);
        assert_in_range(r.status, 400, 422);
        wait_for_held(p, "a", 1);
    }
    /* finite alone, but not together: the sum overflows */
    (void)ask(p, "DELETE", at("a", "/round"), NULL, NULL, 0);
    assert_empty(p, 204);
    end_with(begin_step(&p->server, "a", "Adam-Worker: z\r\n", "{\"grads\": {\"w\": [3e38]}}"), &r,
             202);
    end_refused(begin_step(&p->server, "a", "Adam-Worker: y\r\nIdempotency-Key: 2\r\n",
                           "{\"grads\": {\"w\": [3e38]}}"),
                422, "non-finite", NULL);
    wait_for_round(p, "a",
                   "\"gradients\": 1, \"wanted\": 2, \"quorum\": 2, \"waiting\": 0, "
                   "\"workers\": [\"z\"]");
    end_with(begin_step(&p->server, "a", "Adam-Worker: y\r\nIdempotency-Key: 2\r\n",
                        "{\"grads\": {\"w\": [-3e38]}}"),
             &r, 200);
    assert_gradient(p, "a", "w", "0");
    assert_step_of(p, "a", 1);
}

/* ---- NaN and infinity ---- */

static void test_nonfinite(void **state)
{
    static const char *const nan = "{\"grads\": {\"w\": [\"NaN\"]}}";
    static const char *const one = "{\"grads\": {\"w\": [1]}}";
    peer *p = *state;
    raw_reply r;
    create_still(p, "a", "\"w\": [1]", "\"mode\": \"sync\", \"workers\": 2");
    /* refused alone, before it is mixed with others */
    const int first = begin_worker(&p->server, "a", "x", one);
    wait_for_held(p, "a", 1);
    end_refused(begin_worker(&p->server, "a", "y", nan), 422, "non-finite", "\"worker\": \"y\"");
    wait_for_held(p, "a", 1);
    end_with(begin_worker(&p->server, "a", "y", one), &r, 200);
    end_with(first, &r, 200);
    /* or the round's step is skipped, and all are told */
    (void)ask_json(p, "PATCH", at("a", ""), "{\"nonfinite\": \"skip\"}");
    assert_status(p, 200);
    for (int apply = 0; apply < 2; apply++) {
        const int other = begin_worker(&p->server, "a", "x", nan);
        wait_for_held(p, "a", 1);
        end_with(begin_worker(&p->server, "a", "y", one), &r, 200);
        assert_text(r.body, apply ? "\"skipped\": false" : "\"skipped\": true");
        end_with(other, &r, 200);
        assert_text(r.body, apply ? "\"step\": 2" : "\"step\": 1");
        assert_text(r.body, apply ? "\"skipped\": false" : "\"skipped\": true");
        (void)ask_json(p, "PATCH", at("a", ""), "{\"nonfinite\": \"apply\"}");
        assert_status(p, 200);
    }
    assert_gradient(p, "a", "w", "\"NaN\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {

        cmocka_unit_test_setup(test_sync, clear),
        cmocka_unit_test_setup(test_twice, clear),
        cmocka_unit_test_setup(test_based_on, clear),
        cmocka_unit_test_setup(test_hang_up, clear),
        cmocka_unit_test_setup(test_union, clear),
        cmocka_unit_test_setup(test_no_numbers, clear),
        cmocka_unit_test_setup(test_strict, clear),
        cmocka_unit_test_setup(test_settings, clear),
        cmocka_unit_test_setup(test_buffered, clear),
        cmocka_unit_test_setup(test_refused_last, clear),
        cmocka_unit_test_setup(test_nonfinite, clear),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
