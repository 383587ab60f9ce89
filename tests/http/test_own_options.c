/* test_own_options.c: what adamd's groups have beside torch's options: bias_correction and buffers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

static int clear(void **state)
{
    remove_all(*state);
    create(*state, "a",
           "{\"defaults\": {\"lr\": 0.5}, \"param_groups\": [{\"params\": [{\"name\": \"u\", "
           "\"data\": [[1, 2]]}]}, {\"params\": [{\"name\": \"v\", \"dtype\": \"float64\", "
           "\"data\": 3}], \"betas\": [0.5, 0.75], \"foreach\": false, \"fused\": false}]}");
    return 0;
}

/* adamd's own options stand behind torch's keys, and only where they are not as by default. */
static void test_own_options(void **state)
{
    peer *p = *state;
    (void)ask_json(p, "PATCH", at("a", "/param_groups/0"), "{\"bias_correction\": false}");
    assert_has(p, 200, "\"fused\": null, \"bias_correction\": false}");
    (void)ask_json(p, "POST", at("a", "/step"), "{\"grads\": {\"u\": [[1, 1]]}}");
    assert_has(p, 200, "\"u\": [[-0.58113"); /* 1 - 0.5 * 0.1 / sqrt(0.001) */
    (void)get(p, at("a", "/changes"));
    assert_has(p, 200,
               "\"what\": \"param_groups[0].bias_correction\", \"from\": true, \"to\": false");
    (void)get(p, at("a", "/state_dict"));
    assert_has(p, 200, "\"fused\": null, \"bias_correction\": false}");
    (void)ask_json(
        p, "POST", at("a", "/step"),
        "{\"grads\": {\"u\": [[1, 1]]}, \"param_groups\": [{\"bias_correction\": true}, {}]}");
    assert_status(p, 200);
    (void)get(p, at("a", "/param_groups"));
    assert_status(p, 200);
    assert_null(strstr(body_of(p), "bias_correction"));
    create(p, "b", "{\"params\": {\"w\": [1]}, \"bias_correction\": false}");
    (void)get(p, at("b", ""));
    assert_has(p, 200, "\"fused\": null, \"bias_correction\": false}");
    (void)ask_json(p, "PATCH", at("b", "/param_groups/0"), "{\"bias_correction\": 0}");
    assert_problem(p, 422, "invalid-value", NULL);
}

/* A group of buffers takes values, and is what it was made as. */
static void test_buffers(void **state)
{
    static const struct {
        const char *method, *rest, *json;
    } refused[] = {
        {"PATCH", "/param_groups/2", "{\"buffers\": false}"},
        {"PATCH", "/param_groups/0", "{\"buffers\": true}"},
        {"POST", "/step",
         "{\"grads\": {\"v\": 1}, \"param_groups\": [{}, {\"buffers\": true}, {}]}"},
    };
    peer *p = *state;
    (void)ask_json(p, "POST", at("a", "/param_groups"),
                   "{\"params\": [{\"name\": \"mean\", \"data\": [7, 8]}], \"buffers\": true}");
    assert_has(p, 201, "\"fused\": null, \"buffers\": true}");
    (void)ask_json(p, "POST", at("a", "/step"),
                   "{\"grads\": {\"mean\": [0.1, -3]}, \"max_grad_norm\": 0.5}");
    assert_has(p, 200, "\"params\": {\"mean\": [0.1, -3]}");
    assert_has(p, 200, "\"grad_norm\": 0, ");
    (void)get(p, at("a", "/state/mean"));
    assert_has(p, 200, "\"step\": 1, \"exp_avg\": {\"min\": 0, \"max\": 0, ");
    char *before = state_of(p, "a");
    for (size_t i = 0; i < COUNT(refused); i++) {
        (void)ask_json(p, refused[i].method, at("a", refused[i].rest), refused[i].json);
        assert_problem(p, 422, "invalid-option", NULL);
    }
    assert_unchanged(p, "a", before);
    (void)ask_json(p, "PATCH", at("a", "/param_groups/2"), "{\"buffers\": true, \"lr\": 1}");
    assert_status(p, 200);
}

/* Both forms of a state_dict hold both options, and a state goes only where the groups are alike.
 */
static void test_own_options_restored(void **state)
{
    static const char *const twins[] = {"{\"params\": [\"n\"], \"buffers\": true}",
                                        "{\"params\": [\"n\"]}"};
    static const char *const types[] = {"Accept: application/json",
                                        "Accept: application/vnd.safetensors"};
    peer *p = *state;
    char json[256];
    char digest[256];
    create(p, "one",
           "{\"params\": {\"w\": [1], \"n\": [2]}, \"param_groups\": [{\"params\": [\"w\"], "
           "\"bias_correction\": false}, {\"params\": [\"n\"], \"buffers\": true}]}");
    (void)ask_json(p, "POST", at("one", "/step"), "{\"grads\": {\"w\": [1], \"n\": [3]}}");
    (void)get(p, at("one", "/digest"));
    (void)snprintf(digest, sizeof digest, "%s", body_of(p));
    for (size_t i = 0; i < 2 * COUNT(types); i++) {
        const char *const accept[] = {types[i / 2], NULL};
        const char *const sent[] = {i < 2 ? "Content-Type: application/json"
                                          : "Content-Type: application/vnd.safetensors",
                                    NULL};
        (void)ask(p, "GET", at("one", "/state_dict"), accept, NULL, 0);
        assert_status(p, 200);
        const size_t length = p->reply.length;
        char *body = malloc(length);
        assert_non_null(body);
        memcpy(body, p->reply.body, length);
        (void)snprintf(json, sizeof json,
                       "{\"params\": {\"w\": [0], \"n\": [0]}, \"param_groups\": [{\"params\": "
                       "[\"w\"]}, %s]}",
                       twins[i % 2]);
        (void)ask(p, "DELETE", at("twin", ""), NULL, NULL, 0);
        create(p, "twin", json);
        (void)ask(p, "PUT", at("twin", "/state_dict?load=everything"), sent, body, length);
        if (i % 2 == 0) {
            assert_true(p->reply.status < 300);
            (void)get(p, at("twin", "/digest"));
            assert_string_equal(body_of(p), digest);
        } else {
            assert_problem(p, 422, "state-mismatch", NULL);
        }
        free(body);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_own_options, clear),
        cmocka_unit_test_setup(test_buffers, clear),
        cmocka_unit_test_setup(test_own_options_restored, clear),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
