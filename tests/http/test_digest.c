/* test_digest.c: the digest of a state, which tells whether two are the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mirror.h"

static const char *const model =
    "{\"params\": {\"w\": [[1, 2], [3, 4]], \"s\": {\"dtype\": \"float64\", \"data\": 0.5}}, "
    "\"lr\": 0.5}";

static int clear(void **state)
{
    remove_all(*state);
    create(*state, "a", model);
    return 0;
}

static void digest_of(peer *p, const char *name, char *out, size_t size)
{
    (void)get(p, at(name, "/digest"));
    assert_has(p, 200, "{\"digest\": \"sha256:");
    (void)snprintf(out, size, "%s", body_of(p));
}

/* Asserts that two optimizers are the same to their next step, by digest and step. */
static void assert_same_digest(peer *p, const char *one, const char *other)
{
    char a[256];
    char b[256];
    digest_of(p, one, a, sizeof a);
    digest_of(p, other, b, sizeof b);
    assert_string_equal(a, b);
}

/* The reply of the last request, kept. */
static file keep(const peer *p)
{
    file f = {.bytes = malloc(p->reply.length), .length = p->reply.length};
    assert_non_null(f.bytes);
    memcpy(f.bytes, p->reply.body, f.length);
    return f;
}

/* A digest tells states apart: each thing that decides a step changes it, and nothing else does. */
static void test_digest_changes(void **state)
{
    static const struct {
        const char *method, *rest, *json;
        bool changes;
    } requests[] = {
        {"GET", "/params", NULL, false},
        {"PATCH", "/param_groups/0", "{\"foreach\": false, \"fused\": false}", false},
        {"PATCH", "/param_groups/0", "{\"lr\": 0.25}", true},
        {"PATCH", "/param_groups/0", "{\"betas\": [0.9, 0.99]}", true},
        {"PATCH", "/param_groups/0", "{\"eps\": 1e-9}", true},
        {"PATCH", "/param_groups/0", "{\"weight_decay\": 0.5}", true},
        {"PATCH", "/param_groups/0", "{\"maximize\": true}", true},
        {"PATCH", "/param_groups/0", "{\"bias_correction\": true, \"buffers\": false}", false},
        {"PATCH", "/param_groups/0", "{\"bias_correction\": false}", true},
        {"PATCH", "/param_groups/0", "{\"amsgrad\": true}", true},
        {"PATCH", "/param_groups/0", "{\"amsgrad\": false}", true},
        {"PATCH", "", "{\"grad_scale\": 2}", true},
        {"PATCH", "", "{\"max_grad_norm\": 1e9}", true},
        {"PATCH", "", "{\"norm_type\": \"inf\"}", true},
        {"PATCH", "", "{\"clip_value\": 1e9}", true},
        {"PATCH", "", "{\"error_if_nonfinite\": true}", true},
        {"PATCH", "", "{\"nonfinite\": \"skip\"}", true},
        {"PATCH", "", "{\"nonfinite\": \"apply\"}", true},
        {"PATCH", "/param_groups/0", "{\"schedule\": {\"name\": \"StepLR\", \"step_size\": 3}}",
         true},
        {"PATCH", "/param_groups/0", "{\"schedule\": {\"name\": \"StepLR\", \"step_size\": 4}}",
         true},
        {"PATCH", "/param_groups/0", "{\"schedule\": null}", true},
        {"POST", "/step", "{\"grads\": {\"s\": 1}}", true},
        {"POST", "/step", "{\"grads\": {\"s\": 1e-30}}", true},
        {"POST", "/param_groups", "{\"params\": []}", true},
        {"POST", "/param_groups", "{\"params\": [{\"name\": \"e\", \"shape\": [0, 2]}]}", true},
        {"PUT", "/params", "{\"params\": {\"w\": [[1, 2], [3, -0.0]], \"s\": 1, \"e\": []}}", true},
        {"PUT", "/params", "{\"params\": {\"w\": [[1, 2], [3, 0.0]], \"s\": 1, \"e\": []}}", true},
        {"PUT", "/params", "{\"params\": {\"w\": [[1, 2], [3, 0.0]], \"s\": 1, \"e\": []}}", false},
    };
    peer *p = *state;
    char before[256];
    char after[256];
    digest_of(p, "a", before, sizeof before);
    for (size_t i = 0; i < COUNT(requests); i++) {
        if (requests[i].json == NULL) {
            (void)get(p, at("a", requests[i].rest));
        } else {
            (void)ask_json(p, requests[i].method, at("a", requests[i].rest), requests[i].json);
        }
        assert_true(p->reply.status < 300);
        digest_of(p, "a", after, sizeof after);
        if ((strcmp(before, after) != 0) != requests[i].changes) {
            fail_msg("%s %s %s: %s, then %s", requests[i].method, requests[i].rest,
                     requests[i].json, before, after);
        }
        memcpy(before, after, sizeof before);
    }
}

/* Equal states have equal digests, whatever way they were reached: by the same steps, or restored
 * from JSON or from safetensors. */
static void test_digest_of_restored(void **state)
{
    static const char *const types[] = {JSON_TYPE, SAFETENSORS_TYPE};
    peer *p = *state;
    mirror m[3];
    static const char *const names[] = {"stepped", "again", "restored"};
    for (size_t i = 0; i < COUNT(names); i++) {
        mirror_create(&m[i], p, names[i], i == 1, i == 2 ? 8 : 7);
        for (int k = 0; k < 3 && i < 2; k++) {
            mirror_step(&m[i], p, names[i], i == 1, i == 1);
        }
    }
    assert_same_digest(p, "stepped", "again");
    for (size_t k = 0; k < COUNT(types); k++) {
        char accept[64];
        char content[64];
        (void)snprintf(accept, sizeof accept, "Accept: %s", types[k]);
        (void)snprintf(content, sizeof content, "Content-Type: %s", types[k]);
        const char *const headers[] = {content, NULL};
        (void)get_with(p, at("stepped", "/state_dict"), accept);
        assert_status(p, 200);
        file dict = keep(p);
        (void)ask(p, "PUT", at("restored", "/state_dict?load=everything"), headers, dict.bytes,
                  dict.length);
        assert_empty(p, 204);
        assert_same_digest(p, "stepped", "restored");
        (void)ask(p, "PUT", at("restored", "/state_dict?load=params"), headers, dict.bytes,
                  dict.length);
        assert_empty(p, 204);
        assert_same_digest(p, "stepped", "restored"); /* the values it had already */
        mirror_step(&m[0], p, "stepped", false, false);
        file_free(&dict);
    }
    for (size_t i = 0; i < COUNT(names); i++) {
        mirror_free(&m[i]);
    }
}

/* A schedule goes with the state, with where it stands: what is restored goes on as the other does,
 * and a state without a schedule takes one away. */
static void test_schedules_are_restored(void **state)
{
    static const char *const schedules[] = {
        "{\"name\": \"StepLR\", \"step_size\": 3}",
        "{\"name\": \"MultiStepLR\", \"milestones\": [5, 2]}",
        "{\"name\": \"OneCycleLR\", \"max_lr\": 0.5, \"total_steps\": 20}",
        "{\"name\": \"CosineAnnealingWarmRestarts\", \"T_0\": 2, \"T_mult\": 2}",
        "{\"name\": \"SequentialLR\", \"milestones\": [3], \"schedulers\": [{\"name\": "
        "\"LinearLR\", \"total_iters\": 3}, {\"name\": \"CosineAnnealingWarmRestarts\", \"T_0\": "
        "2}]}"};
    peer *p = *state;
    create(p, "b", model);
    for (size_t i = 0; i < COUNT(schedules); i++) {
        char body[512];
        (void)snprintf(body, sizeof body, "{\"schedule\": %s}", schedules[i]);
        (void)ask_json(p, "PATCH", at("a", "/param_groups/0"), body);
        assert_status(p, 200);
        for (int k = 0; k < 8; k++) {
            const char *type = k % 2 == 0 ? SAFETENSORS_TYPE : JSON_TYPE;
            char accept[64];
            char content[64];
            (void)snprintf(accept, sizeof accept, "Accept: %s", type);
            (void)snprintf(content, sizeof content, "Content-Type: %s", type);
            const char *const headers[] = {content, NULL};
            (void)get_with(p, at("a", "/state_dict"), accept);
            file dict = keep(p);
            (void)ask(p, "PUT", at("b", "/state_dict?load=everything"), headers, dict.bytes,
                      dict.length);
            assert_empty(p, 204);
            file_free(&dict);
            assert_same_digest(p, "a", "b");
            for (int o = 0; o < 2; o++) {
                (void)ask_json(p, "POST", at(o == 0 ? "a" : "b", "/step"),
                               "{\"grads\": {\"s\": -1}}");
                assert_status(p, 200);
            }
            assert_same_digest(p, "a", "b");
        }
    }
    (void)ask_json(p, "PATCH", at("a", "/param_groups/0"), "{\"schedule\": null}");
    char *plain = state_of(p, "a");
    (void)ask_json(p, "PUT", at("b", "/state_dict?load=everything"), strchr(plain, '\n') + 1);
    assert_empty(p, 204);
    assert_same_digest(p, "a", "b");
    char *other = state_of(p, "b");
    assert_string_equal(strchr(plain, '\n'), strchr(other, '\n'));
    free(plain);
    free(other);
}

/* The kernel and the number of threads leave no trace in a digest. A parameter of three chunks and
 * a tail is shared among threads. */
static void test_digest_of_kernels(void **state)
{
    enum { N = 3 * 16384 + 7 };
    static const struct {
        const char *kernel, *threads;
    } ways[] = {{"ADAM_KERNEL=scalar", "1"},
                {"ADAM_KERNEL=scalar", "4"},
                {"ADAM_KERNEL=avx2", "3"},
                {"ADAM_KERNEL=avx512", "2"}};
    const bool runs[COUNT(ways)] = {true, true, __builtin_cpu_supports("avx2") != 0,
                                    __builtin_cpu_supports("avx512f") != 0};
    (void)state;
    float *data = malloc(N * sizeof *data);
    assert_non_null(data);
    char first[256] = "";
    for (size_t i = 0; i < COUNT(ways); i++) {
        const char *const options[] = {"--threads", ways[i].threads, NULL};
        const char *const environment[] = {ways[i].kernel, NULL};
        server own;
        peer p;
        char digest[256];
        if (!runs[i]) {
            print_message("skipped %s: not on this processor\n", ways[i].kernel);
            continue;
        }
        server_start_in(&own, options, environment);
        peer_open(&p, own.url);
        create(&p, "big", "{\"params\": {\"w\": {\"shape\": [49159]}}, \"amsgrad\": true}");
        for (int k = 1; k <= 3; k++) {
            for (size_t e = 0; e < N; e++) {
                data[e] = (float)((double)((e * 2654435761U + (size_t)k) % 1000003) - 5e5) * 1e-5F;
            }
            const adamd_tensor t = vector32("w", data, N);
            file f = file_of(&t, 1, NULL, NULL);
            (void)ask_file(&p, "POST", at("big", "/step"), NULL, f);
            assert_status(&p, 200);
            file_free(&f);
        }
        digest_of(&p, "big", digest, sizeof digest);
        assert_string_equal(first[0] != '\0' ? first : digest, digest);
        memcpy(first, digest, sizeof first);
        peer_close(&p);
        server_stop(&own);
    }
    free(data);
}

/* The digest of a state that is written down here, so that the format does not change unseen:
 * clients compute it too, and may have kept one. */
static void test_digest_is_fixed(void **state)
{
    peer *p = *state;
    (void)get(p, at("a", "/digest"));
    assert_json(
        p, 200,
        "{\"digest\": \"sha256:e03cbc430e4f4bcdba17ea267731cc3a735efdaad8f457d0fa18dc5ff2bd1326\", "
        "\"step\": 0}");
    (void)get(p, at("none", "/digest"));
    assert_problem(p, 404, "no-such-optimizer", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_digest_changes, clear),
        cmocka_unit_test_setup(test_digest_of_restored, clear),
        cmocka_unit_test_setup(test_schedules_are_restored, clear),
        cmocka_unit_test(test_digest_of_kernels),
        cmocka_unit_test_setup(test_digest_is_fixed, clear),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
