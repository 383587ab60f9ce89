/* test_rounds_end.c: what ends a round but its last gradient: time, workers that are gone, changes
 * to the optimizer, hands, and the end of the server. Nobody waits for ever, and everybody is told
 * what came of it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rounds.h"

static const char *const one = "{\"grads\": {\"w\": [1]}}";

static int clear(void **state)
{
    remove_all(*state);
    return 0;
}

static void create_sync(peer *p, const char *members)
{
    char json[256];
    (void)snprintf(
        json, sizeof json,
        "{\"params\": {\"w\": [1]}, \"lr\": 0, \"aggregation\": {\"mode\": \"sync\", %s}}",
        members);
    create(p, "a", json);
}

/* ---- time ---- */

/* Without its quorum a round comes to nothing, and the next one is not harmed. */
static void test_timeout(void **state)
{
    peer *p = *state;
    raw_reply r;
    create_sync(p, "\"workers\": 3, \"quorum\": 2, \"timeout_ms\": 150");
    char *before = state_of(p, "a");
    for (int again = 0; again < 2; again++) {
        const double begin = now();
        const int first =
            begin_step(&p->server, "a", "Adam-Worker: x\r\nIdempotency-Key: k\r\n", one);
        end_refused(first, 409, "round-timeout", "\"have\": 1, \"quorum\": 2");
        assert_true(now() - begin >= 0.14 && now() - begin < 5);
    }
    wait_for_round(p, "a", "\"open\": false, \"gradients\": 0, ");
    assert_unchanged(p, "a", before);
    int sockets[3];
    for (unsigned i = 0; i < 3; i++) {
        char name[2] = {(char)('x' + i), '\0'};
        sockets[i] = begin_worker(&p->server, "a", name, one);
    }
    for (unsigned i = 0; i < 3; i++) {
        end_with(sockets[i], &r, 200);
    }
    assert_step_of(p, "a", 1);
}

/* With its quorum it is a step of those who came; who comes later is of the next round. */
static void test_quorum(void **state)
{
    peer *p = *state;
    raw_reply r;
    create_sync(p, "\"workers\": 3, \"quorum\": 2, \"timeout_ms\": 200");
    const double begin = now();
    const int first = begin_worker(&p->server, "a", "x", "{\"grads\": {\"w\": [1]}}");
    wait_for_held(p, "a", 1);
    const int second = begin_worker(&p->server, "a", "y", "{\"grads\": {\"w\": [3]}}");
    end_with(first, &r, 200);
    assert_true(now() - begin >= 0.19);
    assert_text(r.body, "{\"step\": 1, ");
    assert_text(r.body, "\"grad_norm\": 2, ");
    end_with(second, &r, 200);
    end_refused(begin_step(&p->server, "a", "Adam-Worker: z\r\nAdam-Based-On: 0\r\n", one), 409,
                "round-closed", "\"step\": 1");
    end_refused(begin_worker(&p->server, "a", "z", one), 409, "round-timeout", "\"step\": 1");
}

/* ---- workers that are gone ---- */

/* An elastic round does not wait for a worker that was not seen for --worker-ttl, and waits for it
 * again when it is back. */
static void test_elastic(void **state)
{
    static const char *const options[] = {"--worker-ttl", "1", NULL};
    (void)state;
    peer p;
    raw_reply r;
    serve(&p, options);
    create_sync(&p, "\"workers\": 2, \"elastic\": true");
    for (int again = 0; again < 2; again++) {
        const int x = begin_worker(&p.server, "a", "x", one);
        wait_for_round(&p, "a", "\"gradients\": 1, \"wanted\": 2,");
        end_with(begin_worker(&p.server, "a", "y", one), &r, 200);
        end_with(x, &r, 200);
        const double begin = now();
        sleep_ms(500);
        end_with(begin_worker(&p.server, "a", "x", one), &r, 200); /* without y */
        assert_true(now() - begin >= 0.9 && now() - begin < 10);
        wait_for_round(&p, "a", "\"wanted\": 1, \"quorum\": 1,");
        end_with(begin_worker(&p.server, "a", "y", one), &r, 200);
    }
    serve_end(&p);
}

/* A worker that waits is not gone, however long it does: it takes no place of one that is there. */
static void test_waiting_is_there(void **state)
{
    static const char *const options[] = {"--worker-ttl", "1", NULL};
    (void)state;
    peer p;
    raw_reply r;
    serve(&p, options);
    create_sync(&p, "\"workers\": 3, \"elastic\": true");
    int sockets[3];
    for (unsigned round = 0; round < 2; round++) {
        sockets[0] = begin_worker(&p.server, "a", "x", one);
        wait_for_held(&p, "a", 1);
        if (round == 1) { /* x waits for 1.2 s; y and z are heard of within their second */
            sleep_ms(600);
            for (unsigned i = 1; i < 3; i++) {
                char name[2] = {(char)('x' + i), '\0'};
                end_refused(begin_worker(&p.server, "a", name, "{\"grads\": {\"v\": [1]}}"), 422,
                            "unknown-param", NULL);
            }
            sleep_ms(600);
            wait_for_round(&p, "a", "\"gradients\": 1, \"wanted\": 3,");
        }
        sockets[1] = begin_worker(&p.server, "a", "y", one);
        wait_for_held(&p, "a", 2);
        sockets[2] = begin_worker(&p.server, "a", "z", one);
        for (unsigned i = 0; i < 3; i++) {
            end_with(sockets[i], &r, 200);
        }
    }
    serve_end(&p);
}

/* ---- changes to the optimizer ---- */

static const char *const patches[] = {
    "{\"aggregation\": {\"mode\": \"immediate\"}}",
    "{\"aggregation\": null}",
    "{\"aggregation\": {\"workers\": 1}}",
    "{\"aggregation\": {\"reduce\": \"sum\"}}",
    "{\"aggregation\": {\"mode\": \"buffered\", \"size\": 2}}",
    "{\"input\": \"weights\"}",
};

/* How gradients are gathered does not change while some are held; what does not touch them may. */
static void test_patch(void **state)
{
    peer *p = *state;
    raw_reply r;
    create_sync(p, "\"workers\": 2");
    const int first = begin_worker(&p->server, "a", "x", one);
    wait_for_held(p, "a", 1);
    (void)get(p, at("a", ""));
    char *before = strdup(body_of(p));
    for (size_t i = 0; i < COUNT(patches); i++) {
        (void)ask_json(p, "PATCH", at("a", ""), patches[i]);
        assert_problem(p, 409, "round-open", NULL);
    }
    (void)ask_json(p, "PATCH", at("a", ""), "{\"nonfinite\": \"skip\", \"input\": \"weights\"}");
    assert_problem(p, 409, "round-open", NULL);
    (void)get(p, at("a", ""));
    assert_string_equal(body_of(p), before);
    free(before);
    (void)ask_json(p, "PATCH", at("a", ""), "{\"aggregation\": {\"workers\": 2}, \"input\": null}");
    assert_status(p, 200);
    (void)ask_json(p, "PATCH", at("a", ""), "{\"max_consecutive_nonfinite\": 3}");
    assert_status(p, 200);
    (void)ask_json(p, "PATCH", at("a", "/param_groups/0"), "{\"weight_decay\": 0.5}");
    assert_status(p, 200);
    end_with(begin_worker(&p->server, "a", "y", one), &r, 200);
    end_with(first, &r, 200);
    for (size_t i = 0; i < COUNT(patches); i++) {
        (void)ask_json(p, "PATCH", at("a", ""), patches[i]);
        assert_true(p->reply.status == 200 || i == 2 || i == 3); /* immediate has no such members */
    }
}

/* Settings of the step are laid over what the optimizer has when the step is taken: those of the
 * first are still those of the second after a patch of others. */
static void test_settings_patched(void **state)
{
    static const char *const json =
        "{\"grads\": {\"w\": [8]}, \"grad_scale\": 2, \"param_groups\": [{\"betas\": [0, 0.5]}]}";
    peer *p = *state;
    raw_reply r;
    create_sync(p, "\"workers\": 2");
    const int first = begin_worker(&p->server, "a", "x", json);
    wait_for_held(p, "a", 1);
    (void)ask_json(p, "PATCH", at("a", ""), "{\"clip_value\": 3}");
    assert_status(p, 200);
    (void)ask_json(p, "PATCH", at("a", "/param_groups/0"), "{\"lr\": 0.5}");
    assert_status(p, 200);
    end_with(begin_worker(&p->server, "a", "y", json), &r, 200);
    assert_text(r.body, "\"params\": {\"w\": [0.5]}");
    end_with(first, &r, 200);
    (void)get(p, at("a", "/state/w?data=all"));
    assert_has(p, 200, "\"data\": [3]}, \"exp_avg_sq\"");
}

/* An optimizer that is given other parameters, another state or more groups drops the gradients
 * that were of the old ones; those that wait are told, and so is who waits at one that is removed.
 */
static void test_rewritten(void **state)
{
    static const char *const methods[] = {"PUT", "PUT", "POST", "DELETE", "DELETE"};
    static const char *const paths[] = {"/params", "/state_dict?load=everything", "/param_groups",
                                        "/round", ""};
    static const char *const bodies[] = {"{\"params\": {\"w\": [5]}}", NULL,
                                         "{\"params\": [{\"name\": \"v\", \"data\": [1]}]}", "",
                                         ""};
    peer *p = *state;
    for (size_t i = 0; i < COUNT(paths); i++) {
        create_sync(p, "\"workers\": 3");
        (void)get(p, at("a", "/state_dict"));
        char *dict = strdup(body_of(p));
        const int first =
            begin_step(&p->server, "a", "Adam-Worker: x\r\nIdempotency-Key: k\r\n", one);
        wait_for_held(p, "a", 1);
        const int second = begin_worker(&p->server, "a", "y", one);
        wait_for_held(p, "a", 2);
        const char *body = bodies[i] != NULL ? bodies[i] : dict;
        if (body[0] == '\0') {
            (void)ask(p, methods[i], at("a", paths[i]), NULL, NULL, 0);
        } else {
            (void)ask_json(p, methods[i], at("a", paths[i]), body);
        }
        if (p->reply.status >= 300) {
            fail_msg("%s", body_of(p));
        }
        const bool removed = paths[i][0] == '\0';
        end_refused(first, removed ? 404 : 409, removed ? "no-such-optimizer" : "round-ended",
                    NULL);
        end_refused(second, removed ? 404 : 409, removed ? "no-such-optimizer" : "round-ended",
                    NULL);
        if (!removed) {
            wait_for_round(p, "a", "\"open\": false, \"gradients\": 0, ");
            assert_step_of(p, "a", 0);
            (void)ask(p, "DELETE", at("a", ""), NULL, NULL, 0);
        }
        assert_empty(p, 204);
        free(dict);
    }
}

/* The same where nobody waits: buffered gradients are dropped too. */
static void test_buffered_rewritten(void **state)
{
    peer *p = *state;
    raw_reply r;
    create(p, "a",
           "{\"params\": {\"w\": [1]}, \"aggregation\": {\"mode\": \"buffered\", \"size\": 2}}");
    end_with(begin_step(&p->server, "a", "", one), &r, 202);
    (void)ask_json(p, "PATCH", at("a", ""), patches[0]);
    assert_problem(p, 409, "round-open", NULL);
    (void)ask_json(p, "PUT", at("a", "/params"), "{\"params\": {\"w\": [5]}}");
    assert_status(p, 204);
    end_with(begin_step(&p->server, "a", "", one), &r, 202);
    assert_text(r.body, "\"pending\": 1");
    (void)ask(p, "DELETE", at("a", "/round"), NULL, NULL, 0);
    assert_empty(p, 204);
    (void)ask(p, "DELETE", at("a", "/round"), NULL, NULL, 0); /* of nothing */
    assert_empty(p, 204);
    (void)ask_json(p, "PATCH", at("a", ""), patches[0]);
    assert_status(p, 200);
    assert_step_of(p, "a", 0);
}

/* ---- the end of the server ---- */

/* All that wait are told at once, gradients and pulls, and the server ends. */
static void test_drain(void **state)
{
    (void)state;
    peer p;
    int sockets[8];
    serve(&p, NULL);
    create_sync(&p, "\"workers\": 9");
    create(&p, "b",
           "{\"params\": {\"w\": [1]}, \"aggregation\": {\"mode\": \"buffered\", \"size\": 9}}");
    (void)ask_json(&p, "POST", at("b", "/step"), one);
    assert_status(&p, 202);
    for (unsigned i = 0; i < 8; i++) {
        char name[2] = {(char)('a' + i), '\0'};
        sockets[i] = i % 2 == 0
                         ? begin_worker(&p.server, "a", name, one)
                         : begin_get(&p.server, at(i % 4 == 1 ? "a" : "b", "/params?wait=300"),
                                     i < 4 ? "" : "If-None-Match: *\r\n");
    }
    wait_for_held(&p, "a", 4);
    sleep_ms(100); /* for the pulls */
    const double begin = now();
    assert_int_equal(kill(p.server.pid, SIGTERM), 0);
    for (unsigned i = 0; i < 8; i++) {
        end_refused(sockets[i], 503, "draining", NULL);
    }
    peer_close(&p);
    server_join(&p.server);
    assert_true(now() - begin < 5);
}

/* Nor does it matter what comes at the same moment: time, a last gradient, a change. */
static void test_drain_at_once(void **state)
{
    enum { TIMES = 20, ROUNDS = 4, PARTS = 3 };
    (void)state;
    for (unsigned i = 0; i < TIMES; i++) {
        peer p;
        int sockets[ROUNDS][PARTS];
        serve(&p, NULL);
        for (unsigned k = 0; k < ROUNDS; k++) {
            char json[256];
            char name[2] = {(char)('a' + k), '\0'};
            (void)snprintf(json, sizeof json,
                           "{\"params\": {\"w\": [1]}, \"aggregation\": {\"mode\": \"sync\", "
                           "\"workers\": 3, \"quorum\": %u, \"timeout_ms\": %u}}",
                           k + 1 < PARTS ? k + 1 : 2, 10 + i / 2 + k);
            create(&p, name, json);
        }
        for (unsigned k = 0; k < ROUNDS * PARTS; k++) {
            char name[2] = {(char)('a' + k % ROUNDS), '\0'};
            char worker[32];
            (void)snprintf(worker, sizeof worker, "w%u", k / ROUNDS);
            sockets[k % ROUNDS][k / ROUNDS] =
                k / ROUNDS == 0 ? begin_get(&p.server, at(name, "/params?wait=1"), "")
                                : begin_worker(&p.server, name, worker, one);
        }
        sleep_ms(i);
        assert_int_equal(kill(p.server.pid, SIGTERM), 0);
        for (unsigned k = 0; k < ROUNDS * PARTS; k++) {
            raw_reply r;
            end_request(sockets[k % ROUNDS][k / ROUNDS], &r);
            if (r.status != 200 && r.status != 503 && r.status != 409 && r.status != 0) {
                fail_msg("%s", r.text);
            }
        }
        peer_close(&p);
        server_join(&p.server);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_timeout, clear),
        cmocka_unit_test_setup(test_quorum, clear),
        cmocka_unit_test(test_elastic),
        cmocka_unit_test(test_waiting_is_there),
        cmocka_unit_test_setup(test_patch, clear),
        cmocka_unit_test_setup(test_settings_patched, clear),
        cmocka_unit_test_setup(test_rewritten, clear),
        cmocka_unit_test_setup(test_buffered_rewritten, clear),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_drain_at_once),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
