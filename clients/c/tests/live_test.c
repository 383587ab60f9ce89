/* live_test.c: the client's calls against a real server, whose binary is the one argument. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "adamd_client.h"
#include "check.h"
#include "server.h"

static adamd_client *connect_to(const server *srv)
{
    adamd_client *client = NULL;
    adamd_error error;
    adamd_client_options options = {.max_retries = 1}; /* servers are killed here for good */
    CHECK_STATUS(adamd_open(srv->url, &options, &client, &error), ADAMD_OK, &error);
    return client;
}

/* Create, step into the gradients' own memory, read, overwrite, remove. */
static void check_life(const server *srv)
{
    adamd_client *client = connect_to(srv);
    adamd_error error;
    adamd_result result;
    float w[6] = {1, 2, 3, 4, 5, 6};
    double d[2] = {0.5, -0.5};
    adamd_tensor params[] = {{"w/\xC3\xA9 \"1\"", ADAMD_FLOAT32, 2, {3, 2}, w},
                             {"d", ADAMD_FLOAT64, 1, {2}, d},
                             {"empty", ADAMD_FLOAT32, 2, {0, 7}, NULL}};
    CHECK_STATUS(adamd_create(client, "life", "{\"algorithm\":\"adam\",\"defaults\":{\"lr\":0.5}}",
                              params, 3, &error),
                 ADAMD_OK, &error);
    CHECK(strncmp(adamd_last_etag(client), "\"e", 2) == 0);
    CHECK_STATUS(adamd_create(client, "life", NULL, params, 3, &error), ADAMD_REFUSED, &error);
    CHECK(error.http_status == 409 && strcmp(error.type, "urn:adamd:problem:name-taken") == 0);
    float gw[6] = {1, -1, 1, -1, 1, -1};
    double gd[2] = {2, -2};
    adamd_tensor grads[] = {params[2], params[1], params[0]}; /* the order does not matter */
    grads[1].data = gd;
    grads[2].data = gw;
    adamd_step_options options = {.worker = "test"};
    CHECK_STATUS(adamd_step(client, "life", grads, 3, grads, &options, &result, &error), ADAMD_OK,
                 &error);
    CHECK(result.step == 1 && strcmp(result.etag, adamd_last_etag(client)) == 0);
    CHECK(fabs(result.grad_norm - sqrt(14)) < 1e-12 && result.clip_coef == 1);
    CHECK(fabsf(gw[0] - 0.5F) < 1e-6F && fabsf(gw[1] - 2.5F) < 1e-6F && fabs(gd[0]) < 1e-6);
    uint64_t step = 0;
    CHECK_STATUS(adamd_get_params(client, "life", params, 3, &step, &error), ADAMD_OK, &error);
    CHECK(step == 1 && same_bytes(w, gw, sizeof w) && same_bytes(d, gd, sizeof d));
    w[0] = 42;
    CHECK_STATUS(adamd_put_params(client, "life", params, 3, &error), ADAMD_OK, &error);
    w[0] = 0;
    CHECK_STATUS(adamd_get_params(client, "life", params, 3, NULL, &error), ADAMD_OK, &error);
    CHECK(w[0] == 42 && strcmp(result.etag, adamd_last_etag(client)) != 0);
    char *json = NULL;
    size_t length = 0;
    CHECK_STATUS(adamd_param_groups(client, "life", "none", &json, &length, &error), ADAMD_OK,
                 &error);
    CHECK(json != NULL && strlen(json) == length && strstr(json, "\"lr\": 0.5") != NULL);
    free(json);
    CHECK_STATUS(adamd_param_groups(client, "none", NULL, &json, NULL, &error), ADAMD_REFUSED,
                 &error);
    CHECK(json == NULL && error.http_status == 404);
    CHECK_STATUS(adamd_delete(client, "life", &error), ADAMD_OK, &error);
    CHECK_STATUS(adamd_delete(client, "life", &error), ADAMD_REFUSED, &error);
    adamd_close(client);
}

/* If-Match, overrides, minimal, and gradients that the server refuses. */
static void check_options(const server *srv)
{
    adamd_client *client = connect_to(srv);
    adamd_error error;
    adamd_result first;
    adamd_result result;
    float w[3] = {0};
    adamd_tensor params[] = {{"w", ADAMD_FLOAT32, 1, {3}, w}};
    CHECK_STATUS(adamd_create(client, "options", NULL, params, 1, &error), ADAMD_OK, &error);
    float g[3] = {1, 1, 1};
    adamd_tensor grads[] = {{"w", ADAMD_FLOAT32, 1, {3}, g}};
    adamd_step_options minimal = {.minimal = true, .param_groups = "[{\"lr\": 0.25}]"};
    CHECK_STATUS(adamd_step(client, "options", grads, 1, NULL, &minimal, &first, &error), ADAMD_OK,
                 &error);
    CHECK(first.step == 1 && isnan(first.grad_norm) && g[0] == 1);
    CHECK_STATUS(adamd_get_params(client, "options", params, 1, NULL, &error), ADAMD_OK, &error);
    CHECK(fabsf(w[0] + 0.25F) < 1e-6F);
    adamd_step_options guarded = {.if_match = "\"e0-s0\""};
    CHECK_STATUS(adamd_step(client, "options", grads, 1, grads, &guarded, NULL, &error),
                 ADAMD_REFUSED, &error);
    CHECK(error.http_status == 412 && strcmp(adamd_last_etag(client), first.etag) == 0);
    guarded.if_match = first.etag;
    CHECK_STATUS(adamd_step(client, "options", grads, 1, grads, &guarded, &result, &error),
                 ADAMD_OK, &error);
    CHECK(result.step == 2 && result.epoch == first.epoch);
    adamd_tensor wrong[] = {{"w", ADAMD_FLOAT32, 2, {1, 3}, g}};
    float before = g[0];
    CHECK_STATUS(adamd_step(client, "options", wrong, 1, wrong, NULL, NULL, &error), ADAMD_REFUSED,
                 &error);
    CHECK(error.http_status == 422 && strstr(error.detail, "[1, 3]") != NULL && g[0] == before);
    CHECK_STATUS(adamd_get_params(client, "options", wrong, 1, NULL, &error), ADAMD_BAD_REPLY,
                 &error);
    CHECK_STATUS(adamd_step(client, "options", grads, 0, grads, NULL, NULL, &error), ADAMD_REFUSED,
                 &error);
    adamd_step_options broken[] = {{.worker = "a\r\nB: c"}, {.worker = ""}, {.if_match = "a b"}};
    for (size_t i = 0; i < 3; i++) {
        CHECK_STATUS(adamd_step(client, "options", grads, 1, grads, &broken[i], NULL, &error),
                     ADAMD_INVALID_ARGUMENT, &error);
    }
    CHECK_STATUS(adamd_step(client, "options", grads, 1, NULL, NULL, NULL, &error),
                 ADAMD_INVALID_ARGUMENT, &error);
    CHECK_STATUS(adamd_get_params(client, "options", NULL, 1, NULL, &error), ADAMD_INVALID_ARGUMENT,
                 &error);
    adamd_close(client);
}

/* Settings of one step, the four types in both directions, and what a step says of itself. */
static void check_gradients(const server *srv)
{
    adamd_client *client = connect_to(srv);
    adamd_error error;
    adamd_result result;
    float w[2] = {1, 2};
    adamd_tensor params[] = {{"w", ADAMD_FLOAT32, 1, {2}, w}};
    CHECK_STATUS(adamd_create(client, "care", "{\"defaults\": {\"lr\": 0}}", params, 1, &error),
                 ADAMD_OK, &error);
    float g[2] = {6, 8};
    adamd_tensor grads[] = {{"w", ADAMD_FLOAT32, 1, {2}, g}};
    adamd_step_options options = {
        .grad = {.grad_scale = 2, .max_grad_norm = 2.5, .norm_type = 2, .clip_value = 0.125}};
    CHECK_STATUS(adamd_step(client, "care", grads, 1, params, &options, &result, &error), ADAMD_OK,
                 &error);
    CHECK(result.grad_norm == 5 && fabs(result.clip_coef - 0.5) < 1e-6 && !result.skipped);
    options.grad = (adamd_grad_options){.max_grad_norm = 2, .norm_type = INFINITY};
    CHECK_STATUS(adamd_step(client, "care", grads, 1, params, &options, &result, &error), ADAMD_OK,
                 &error);
    CHECK(result.grad_norm == 10 && fabs(result.clip_coef - 0.25) < 1e-6);
    options.grad = (adamd_grad_options){.nonfinite = "skip",
                                        .max_grad_norm = INFINITY,
                                        .clip_value = INFINITY,
                                        .error_if_nonfinite = -1};
    g[1] = NAN;
    CHECK_STATUS(adamd_step(client, "care", grads, 1, params, &options, &result, &error), ADAMD_OK,
                 &error);
    CHECK(result.skipped && result.step == 2 && result.converted == 0 && w[0] == 1 && w[1] == 2);
    options.minimal = true;
    CHECK_STATUS(adamd_step(client, "care", grads, 1, NULL, &options, &result, &error), ADAMD_OK,
                 &error);
    CHECK(!result.skipped && result.step == 2);
    options = (adamd_step_options){
        .grad = {.nonfinite = "apply", .max_grad_norm = 1, .error_if_nonfinite = 1}};
    CHECK_STATUS(adamd_step(client, "care", grads, 1, params, &options, &result, &error),
                 ADAMD_REFUSED, &error);
    CHECK(strcmp(error.type, "urn:adamd:problem:non-finite") == 0);
    options.grad = (adamd_grad_options){.grad_scale = -1};
    CHECK_STATUS(adamd_step(client, "care", grads, 1, params, &options, &result, &error),
                 ADAMD_REFUSED, &error);
    CHECK(strcmp(error.type, "urn:adamd:problem:invalid-option") == 0);
    uint16_t h[2] = {0x3f80, 0x4000}; /* bfloat16 1, 2 */
    adamd_tensor halves[] = {{"w", ADAMD_BFLOAT16, 1, {2}, h}};
    CHECK_STATUS(adamd_step(client, "care", halves, 1, params, NULL, &result, &error), ADAMD_OK,
                 &error);
    CHECK(result.converted == 1 && result.step == 3 && w[0] == 1 && w[1] == 2);
    h[0] = 0x4040;
    CHECK_STATUS(adamd_step(client, "care", halves, 1, halves, NULL, &result, &error), ADAMD_OK,
                 &error);
    CHECK(h[0] == 0x3f80 && h[1] == 0x4000);
    halves[0].dtype = ADAMD_FLOAT16;
    CHECK_STATUS(adamd_get_params(client, "care", halves, 1, NULL, &error), ADAMD_OK, &error);
    CHECK(h[0] == 0x3c00 && h[1] == 0x4000);
    adamd_tensor mixed[] = {params[0], {"v", ADAMD_FLOAT16, 1, {2}, h}};
    CHECK_STATUS(adamd_get_params(client, "care", mixed, 2, NULL, &error), ADAMD_INVALID_ARGUMENT,
                 &error);
    CHECK_STATUS(adamd_put_params(client, "care", halves, 1, &error), ADAMD_REFUSED, &error);
    CHECK_STATUS(adamd_delete(client, "care", &error), ADAMD_OK, &error);
    CHECK_STATUS(adamd_create(client, "care",
                              "{\"schedule\": {\"name\": \"StepLR\", "
                              "\"step_size\": 1}, \"clip_value\": 1}",
                              halves, 1, &error),
                 ADAMD_OK, &error);
    CHECK_STATUS(adamd_get_params(client, "care", params, 1, NULL, &error), ADAMD_OK, &error);
    CHECK(w[0] == 1 && w[1] == 2);
    CHECK_STATUS(adamd_delete(client, "care", &error), ADAMD_OK, &error);
    adamd_close(client);
}

/* A key that comes again, gradients that wait for others, and weights. */
static void check_workers(const server *srv)
{
    adamd_client *client = connect_to(srv);
    adamd_error error;
    adamd_result result;
    float w[2] = {1, 2};
    float out[2] = {0};
    adamd_tensor params[] = {{"w", ADAMD_FLOAT32, 1, {2}, w}, {"v", ADAMD_FLOAT32, 1, {2}, w}};
    adamd_tensor got[] = {{"w", ADAMD_FLOAT32, 1, {2}, out}};
    adamd_tensor other[] = {{"v", ADAMD_FLOAT32, 1, {2}, out}};
    CHECK_STATUS(adamd_create(client, "buffered",
                              "{\"aggregation\": {\"mode\": \"buffered\", \"size\": 3, "
                              "\"reduce\": \"weighted\"}}",
                              params, 2, &error),
                 ADAMD_OK, &error);
    adamd_step_options options = {.idempotency_key = "one", .worker = "a", .weight = 3};
    CHECK_STATUS(adamd_step(client, "buffered", params, 1, got, &options, &result, &error),
                 ADAMD_OK, &error);
    CHECK(result.pending == 1 && result.step == 0 && !result.replayed && out[1] == 2);
    CHECK_STATUS(adamd_step(client, "buffered", params, 1, got, &options, &result, &error),
                 ADAMD_OK, &error);
    CHECK(result.pending == 1 && result.step == 0 && result.replayed && out[1] == 2);
    adamd_step_options minimal = {.worker = "b", .minimal = true};
    CHECK_STATUS(adamd_step(client, "buffered", params, 1, NULL, &minimal, &result, &error),
                 ADAMD_OK, &error);
    CHECK(result.pending == 1 && result.step == 0);
    /* The last one brings the parameters of all, of which it asked for one. */
    adamd_step_options last = {.worker = "c", .has_based_on = true};
    CHECK_STATUS(adamd_step(client, "buffered", params + 1, 1, other, &last, &result, &error),
                 ADAMD_OK, &error);
    CHECK(result.pending == 0 && result.step == 1 && result.grad_norm > 0 && out[1] < 2);
    w[0] = 7;
    CHECK_STATUS(adamd_step(client, "buffered", params, 1, got, &options, &result, &error),
                 ADAMD_REFUSED, &error);
    CHECK(strcmp(error.type, "urn:adamd:problem:key-reused") == 0);
    adamd_step_options early = {.has_based_on = true, .based_on = 9};
    CHECK_STATUS(adamd_step(client, "buffered", params, 1, got, &early, &result, &error),
                 ADAMD_REFUSED, &error);
    CHECK(error.http_status == 422);
    CHECK_STATUS(adamd_delete(client, "buffered", &error), ADAMD_OK, &error);
    adamd_close(client);
}

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* 16M numbers: in place, whole, on one connection; and refused before they are sent. */
static void check_large(const server *srv)
{
    enum { N = 1 << 24, STEPS = 5 };
    adamd_client *client = connect_to(srv);
    adamd_error error;
    float *w = malloc(N * sizeof *w);
    float *p = malloc(N * sizeof *p);
    for (size_t i = 0; i < N; i++) {
        w[i] = (float)(i % 1000) / 1000;
    }
    adamd_tensor params[] = {{"w", ADAMD_FLOAT32, 2, {4096, 4096}, w}};
    adamd_tensor copy[] = {{"w", ADAMD_FLOAT32, 2, {4096, 4096}, p}};
    CHECK_STATUS(adamd_create(client, "large", NULL, params, 1, &error), ADAMD_OK, &error);
    double began = now();
    for (int i = 0; i < STEPS; i++) {
        CHECK_STATUS(adamd_step(client, "large", params, 1, params, NULL, NULL, &error), ADAMD_OK,
                     &error);
    }
    (void)printf("16M float32: %.0f ms a step\n", (now() - began) / STEPS * 1e3);
    CHECK_STATUS(adamd_get_params(client, "large", copy, 1, NULL, &error), ADAMD_OK, &error);
    CHECK(same_bytes(w, p, N * sizeof *w));
    adamd_response response = {0};
    const char *const guard[] = {"Content-Type: application/vnd.safetensors", "If-Match: \"e0-s0\"",
                                 NULL};
    CHECK_STATUS(adamd_request(client, "POST", "/v1/optimizers/large/step", guard, w, N * sizeof *w,
                               &response, &error),
                 ADAMD_OK, &error);
    CHECK(response.status == 412 && response.sent == 0 && !response.continued);
    adamd_response_free(&response);
    CHECK_STATUS(adamd_delete(client, "large", &error), ADAMD_OK, &error);
    free(w);
    free(p);
    adamd_close(client);
}

/* The server dies while a reply is under way; the next server is none of the client's business. */
static void check_killed(const char *binary)
{
    enum { N = 1 << 24 };
    float *w = calloc(N, sizeof *w);
    adamd_tensor params[] = {{"w", ADAMD_FLOAT32, 1, {N}, w}};
    for (int round = 0; round < 5; round++) {
        server srv = {0};
        adamd_error error;
        start_server(&srv, binary, NULL);
        adamd_client *client = connect_to(&srv);
        CHECK_STATUS(adamd_create(client, "x", NULL, params, 1, &error), ADAMD_OK, &error);
        pid_t killer = fork();
        if (killer == 0) {
            struct timespec pause = {0, 20000000 + round * 3000000};
            (void)nanosleep(&pause, NULL);
            (void)kill(srv.pid, SIGKILL);
            _exit(0);
        }
        adamd_status status = ADAMD_OK;
        for (int i = 0; i < 10000 && status == ADAMD_OK; i++) {
            status = round % 2 == 0
                         ? adamd_get_params(client, "x", params, 1, NULL, &error)
                         : adamd_step(client, "x", params, 1, params, NULL, NULL, &error);
        }
        CHECK_STATUS(status, ADAMD_TRANSPORT, &error);
        (void)printf("killed: %s\n", error.message);
        (void)waitpid(killer, NULL, 0);
        (void)stop_server(&srv, SIGKILL);
        adamd_close(client);
    }
    free(w);
}

/* HEAD, PATCH and a HEAD's headers through the general call, on one connection. */
static void check_request(const server *srv)
{
    adamd_client *client = connect_to(srv);
    adamd_error error;
    adamd_response response = {0};
    static const char body[] = "{\"params\": {\"w\": [0.5, -1]}, \"lr\": 0.1}";
    const char *const json[] = {"Content-Type: application/json", NULL};
    CHECK_STATUS(adamd_request(client, "PUT", "/v1/optimizers/r", json, body, sizeof body - 1,
                               &response, &error),
                 ADAMD_OK, &error);
    const char *location = adamd_response_header(&response, "location", 0);
    CHECK(response.status == 201 && location != NULL && strcmp(location, "/v1/optimizers/r") == 0);
    CHECK_STATUS(
        adamd_request(client, "HEAD", "/v1/optimizers/r", NULL, NULL, 0, &response, &error),
        ADAMD_OK, &error);
    CHECK(response.status == 200 && response.length == 0 && response.new_connections == 0);
    CHECK(adamd_response_header(&response, "ETag", 0) != NULL);
    CHECK_STATUS(adamd_request(client, "PATCH", "/v1/optimizers/r/param_groups/0", json,
                               "{\"lr\": 2}", 9, &response, &error),
                 ADAMD_OK, &error);
    CHECK(response.status == 200 && strstr((char *)response.body, "\"lr\": 2") != NULL);
    CHECK_STATUS(
        adamd_request(client, "POST", "/v1/optimizers/r/step", json, "", 0, &response, &error),
        ADAMD_OK, &error);
    CHECK(response.status == 400);
    CHECK_STATUS(adamd_request(client, "BREW", "/livez", NULL, NULL, 0, &response, &error),
                 ADAMD_OK, &error);
    CHECK(response.status == 405 && adamd_response_header(&response, "Allow", 0) != NULL);
    adamd_response_free(&response);
    adamd_close(client);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: %s PATH-OF-ADAMD\n", argv[0]);
        return EXIT_FAILURE;
    }
    server srv = {0};
    start_server(&srv, argv[1], NULL);
    (void)setvbuf(stdout, NULL, _IOLBF, 0); /* nothing is left in it when the tests fork */
    check_life(&srv);
    check_options(&srv);
    check_gradients(&srv);
    check_workers(&srv);
    check_large(&srv);
    check_request(&srv);
    int status = stop_server(&srv, SIGTERM);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    check_killed(argv[1]);
    return check_failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
