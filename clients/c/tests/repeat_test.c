/* repeat_test.c: what is sent again, with which key, and what is not, against replies that are
 * played back. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "adamd_client.h"
#include "canned.h"
#include "check.h"

#define GOOD                                                              \
    {                                                                     \
        TEXT(HEAD "Content-Length: 120\r\n\r\n" FILE_W DATA), false, true \
    }
#define SILENT                \
    {                         \
        TEXT(""), false, true \
    }
#define CUT(text)               \
    {                           \
        TEXT(text), false, true \
    }
#define BUSY "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n"

static adamd_client *open_client(const server *srv, int max_retries)
{
    adamd_client *client = NULL;
    adamd_error error = {0};
    adamd_client_options options = {.stall_timeout_s = 5, .max_retries = max_retries};
    CHECK_STATUS(adamd_open(srv->url, &options, &client, &error), ADAMD_OK, &error);
    return client;
}

/* The same step by adamd_step, and in flight. */
static adamd_status take(bool in_flight, const server *srv, int max_retries, float *w,
                         adamd_result *result, adamd_error *error)
{
    adamd_tensor grads[] = {{"w", ADAMD_FLOAT32, 1, {2}, w}};
    if (!in_flight) {
        adamd_client *client = open_client(srv, max_retries);
        adamd_status status = adamd_step(client, "x", grads, 1, grads, NULL, result, error);
        adamd_close(client);
        return status;
    }
    adamd_multi *multi = NULL;
    adamd_client_options options = {.stall_timeout_s = 5, .max_retries = max_retries};
    CHECK_STATUS(adamd_multi_open(srv->url, &options, 0, &multi, error), ADAMD_OK, error);
    adamd_done done = {0};
    CHECK_STATUS(adamd_multi_step(multi, "x", grads, 1, grads, NULL, &done, error), ADAMD_OK,
                 error);
    CHECK(adamd_multi_next(multi, -1, &done) && done.tag == &done);
    adamd_multi_close(multi);
    *result = done.result;
    *error = done.error;
    return done.status;
}

/* Must end so after so many requests. Where it succeeds, everything must be there. */
static void take_against(bool in_flight, const char *what, const canned *script, int max_retries,
                         adamd_status wanted, const char *message, int requests)
{
    server srv;
    start(&srv, script);
    adamd_error error = {0};
    float w[2] = {7, 8};
    adamd_result result = {0};
    adamd_status status = take(in_flight, &srv, max_retries, w, &result, &error);
    stop(&srv);
    if (status != wanted || (message != NULL && strstr(error.message, message) == NULL) ||
        srv.requests != requests) {
        (void)fprintf(stderr, "%s%s: %s (%s), %d requests; expected %s (%s), %d\n", what,
                      in_flight ? " in flight" : "", adamd_status_text(status), error.message,
                      srv.requests, adamd_status_text(wanted), message != NULL ? message : "",
                      requests);
        check_failures++;
        return;
    }
    if (status == ADAMD_OK) {
        CHECK(result.step == 1 && result.grad_norm == 2.5 && w[0] == 1 && w[1] == 2);
    }
    CHECK(strlen(srv.keys[0]) == 32);
    for (int i = 1; i < srv.requests; i++) {
        bool reads = srv.keys[i][0] == '\0'; /* asks for the parameters alone */
        if (!reads && strcmp(srv.keys[i], srv.keys[0]) != 0) {
            (void)fprintf(stderr, "%s: key '%s' after '%s'\n", what, srv.keys[i], srv.keys[0]);
            check_failures++;
        }
    }
}

/* One step of w, float32 [2], in place. */
static void step_against(const char *what, const canned *script, int max_retries,
                         adamd_status wanted, const char *message, int requests)
{
    take_against(false, what, script, max_retries, wanted, message, requests);
    take_against(true, what, script, max_retries, wanted, message, requests);
}

/* Every place where a reply can break off. */
static void check_cuts(void)
{
    static const canned cuts[][3] = {
        {SILENT, GOOD, {0}},
        {CUT("HTT"), GOOD, {0}},
        {CUT("HTTP/1.1 200"), GOOD, {0}},
        {CUT("HTTP/1.1 200 OK\r\nETa"), GOOD, {0}},
        {CUT("HTTP/1.1 200 OK\r\nETag: \"e1-s1\"\r\n"), GOOD, {0}},
        {CUT("HTTP/1.1 100 Continue\r\n\r\n"), GOOD, {0}},
        {CUT(HEAD "Content-Length: 120\r\n\r\n"), GOOD, {0}},
        {CUT(HEAD "Content-Length: 120\r\n\r\n\x68\0\0"), GOOD, {0}},
        {CUT(HEAD "Content-Length: 120\r\n\r\n" FILE_W), GOOD, {0}},
        {CUT(HEAD "\r\n" FILE_W), GOOD, {0}},
        {CUT(HEAD "Transfer-Encoding: chunked\r\n\r\n4\r\n\x68\0"), GOOD, {0}},
        {CUT(BUSY "Retry-After: 0\r\n\r\n"), GOOD, {0}},
        {CUT("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\n\r\n{"), GOOD, {0}},
    };
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        char what[32];
        (void)snprintf(what, sizeof what, "cut %zu", i);
        step_against(what, cuts[i], 0, ADAMD_OK, NULL, 2);
    }
}

static void check_no_repeat(void)
{
    static const canned busy[] = {CUT(BUSY "\r\n"), GOOD, {0}};
    static const canned dated[] = {
        CUT(BUSY "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\n"), GOOD, {0}};
    static const canned away[] = {CUT(BUSY "Retry-After: 3600\r\n\r\n"), GOOD, {0}};
    static const canned full[] = {
        CUT("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"),
        GOOD,
        {0}};
    static const canned conflict[] = {
        CUT("HTTP/1.1 409 Conflict\r\nContent-Length: 16\r\n\r\n{\"detail\":\"old\"}"), GOOD, {0}};
    static const canned silent[] = {SILENT, SILENT, SILENT, GOOD, {0}};
    static const canned wrong[] = {
        CUT("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\n{}"),
        GOOD,
        {0}};
    step_against("503 alone", busy, 0, ADAMD_REFUSED, "503", 1);
    step_against("503 until a date", dated, 0, ADAMD_REFUSED, "503", 1);
    step_against("503 for an hour", away, 0, ADAMD_REFUSED, "503", 1);
    step_against("429", full, 0, ADAMD_REFUSED, "429", 1);
    step_against("409", conflict, 0, ADAMD_REFUSED, "409: old", 1);
    step_against("a wrong type", wrong, 0, ADAMD_BAD_REPLY, "safetensors", 1);
    step_against("no repeats", silent, -1, ADAMD_TRANSPORT, "may have acted on it", 1);
    step_against("two repeats", silent, 2, ADAMD_TRANSPORT, "tried 3 times", 3);
    step_against("three repeats", silent, 3, ADAMD_OK, NULL, 4);
}

/* The data of a reply has come over the gradients, in part: they cannot be sent again, and the
 * parameters are asked for, while the statistics are those of the step. */
static void check_cut_data(void)
{
#define LATER                                                                             \
    "HTTP/1.1 200 OK\r\nETag: \"e1-s9\"\r\nContent-Type: application/vnd.safetensors\r\n" \
    "Content-Length: 156\r\n\r\n\x88\0\0\0\0\0\0\0{\"__metadata__\":{\"step\":\"9\"},"    \
    "\"v\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"                     \
    "\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}\0\0\0\0" DATA
    static const canned later[] = {
        CUT(HEAD "Content-Length: 120\r\n\r\n" FILE_W "\0\0\0\0\0"), SILENT, CUT(LATER), {0}};
    static const canned gone[] = {CUT(HEAD "Content-Length: 120\r\n\r\n" FILE_W "\0\0\0\0\0"),
                                  CUT("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
                                  {0}};
    step_against("cut data", later, 0, ADAMD_OK, NULL, 3);
    step_against("cut data, gone", gone, 0, ADAMD_TRANSPORT, "the step was taken", 2);
    server srv;
    start(&srv, later);
    adamd_client *client = open_client(&srv, 0);
    adamd_error error = {0};
    adamd_result result = {0};
    float w[2] = {0};
    adamd_tensor grads[] = {{"w", ADAMD_FLOAT32, 1, {2}, w}};
    CHECK_STATUS(adamd_step(client, "x", grads, 1, grads, NULL, &result, &error), ADAMD_OK, &error);
    CHECK(was_sent(&srv, "GET /v1/optimizers/x/params HTTP/1.1\r\n"));
    CHECK(!was_sent(&srv, "Content-Length") && !was_sent(&srv, "Idempotency-Key"));
    CHECK(result.epoch == 1 && strcmp(result.etag, "\"e1-s1\"") == 0 && w[1] == 2);
    adamd_close(client);
    stop(&srv);
}

#define FILE_PENDING                                                                       \
    "\x90\0\0\0\0\0\0\0{\"__metadata__\":{\"step\":\"4\",\"grad_norm\":\"0\",\"skipped\":" \
    "\"false\","                                                                           \
    "\"pending\":\"3\",\"new\":\"?\"}," W "    "

/* 202, replays, and the headers of a step. */
static void check_step(void)
{
    static const canned script[] = {
        {TEXT("HTTP/1.1 202 Accepted\r\nETag: \"e1-s4\"\r\nContent-Type: "
              "application/vnd.safetensors\r\nContent-Length: 160\r\n\r\n" FILE_PENDING DATA),
         false, false},
        {TEXT("HTTP/1.1 202 Accepted\r\nETag: \"e1-s4\"\r\nContent-Length: 0\r\n\r\n"), false,
         false},
        {TEXT("HTTP/1.1 200 OK\r\nETag: \"e1-s9\"\r\nIdempotent-Replayed: true\r\nContent-Type: "
              "application/vnd.safetensors\r\nContent-Length: 120\r\n\r\n" FILE_W DATA),
         false, false},
        {TEXT("HTTP/1.1 204 No Content\r\nETag: \"e1-s4\"\r\nIdempotent-Replayed: false\r\n\r\n"),
         false, true},
        {0}};
    server srv;
    start(&srv, script);
    adamd_client *client = open_client(&srv, 0);
    adamd_error error = {0};
    adamd_result result = {0};
    float w[2] = {0};
    adamd_tensor grads[] = {{"w", ADAMD_FLOAT32, 1, {2}, w}};
    adamd_step_options options = {
        .idempotency_key = "k-1", .weight = 0.1, .has_based_on = true, .based_on = UINT64_MAX};
    adamd_step_options minimal = {.minimal = true};
    CHECK_STATUS(adamd_step(client, "x", grads, 1, grads, &options, &result, &error), ADAMD_OK,
                 &error);
    CHECK(result.pending == 3 && result.step == 4 && w[1] == 2 && !result.replayed);
    CHECK(was_sent(&srv, "\r\nIdempotency-Key: k-1\r\n"));
    CHECK(was_sent(&srv, "\r\nAdam-Weight: 0.1\r\n"));
    CHECK(was_sent(&srv, "\r\nAdam-Based-On: 18446744073709551615\r\n"));
    CHECK_STATUS(adamd_step(client, "x", grads, 1, NULL, &minimal, &result, &error), ADAMD_OK,
                 &error);
    CHECK(result.pending == 1 && result.step == 4 && isnan(result.grad_norm));
    CHECK(!was_sent(&srv, "Adam-"));
    CHECK_STATUS(adamd_step(client, "x", grads, 1, grads, NULL, &result, &error), ADAMD_OK, &error);
    CHECK(result.replayed && result.step == 1 && result.pending == 0 && result.grad_norm == 2.5);
    CHECK_STATUS(adamd_step(client, "x", grads, 1, NULL, &minimal, &result, &error), ADAMD_OK,
                 &error);
    CHECK(!result.replayed && result.pending == 0);
    CHECK(strlen(srv.keys[1]) == 32 && strlen(srv.keys[2]) == 32 &&
          strcmp(srv.keys[1], srv.keys[2]) != 0);
    adamd_step_options broken[] = {{.idempotency_key = ""},
                                   {.idempotency_key = "a\r\nb: c"},
                                   {.weight = -1},
                                   {.weight = NAN},
                                   {.weight = INFINITY}};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        CHECK_STATUS(adamd_step(client, "x", grads, 1, grads, &broken[i], NULL, &error),
                     ADAMD_INVALID_ARGUMENT, &error);
    }
    adamd_close(client);
    stop(&srv);
}

/* What reads is sent again; what writes without a key is not, nor is adamd_request. */
static void check_other_calls(void)
{
    static const canned script[] = {
        SILENT,
        GOOD,
        CUT(BUSY "Retry-After: 0\r\n\r\n"),
        {TEXT("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"), false, false},
        SILENT,
        SILENT,
        SILENT,
        SILENT,
        {0}};
    server srv;
    start(&srv, script);
    adamd_client *client = open_client(&srv, 0);
    adamd_error error = {0};
    adamd_response response = {0};
    float w[2] = {0};
    adamd_tensor params[] = {{"w", ADAMD_FLOAT32, 1, {2}, w}};
    char *json = NULL;
    CHECK_STATUS(adamd_get_params(client, "x", params, 1, NULL, &error), ADAMD_OK, &error);
    CHECK(w[1] == 2 && request_count(&srv) == 2);
    CHECK_STATUS(adamd_param_groups(client, "x", NULL, &json, NULL, &error), ADAMD_OK, &error);
    CHECK(json != NULL && strcmp(json, "[]") == 0 && request_count(&srv) == 4);
    free(json);
    CHECK_STATUS(adamd_create(client, "x", NULL, params, 1, &error), ADAMD_TRANSPORT, &error);
    CHECK_STATUS(adamd_put_params(client, "x", params, 1, &error), ADAMD_TRANSPORT, &error);
    CHECK_STATUS(adamd_delete(client, "x", &error), ADAMD_TRANSPORT, &error);
    CHECK_STATUS(adamd_request(client, "GET", "/", NULL, NULL, 0, &response, &error),
                 ADAMD_TRANSPORT, &error);
    CHECK(request_count(&srv) == 8);
    adamd_response_free(&response);
    adamd_close(client);
    stop(&srv);
}

/* timeout_ms holds for a call with all its repeats. */
static void check_deadline(void)
{
    static const canned script[] = {SILENT, {0}};
    server srv;
    start(&srv, script);
    stop(&srv); /* nobody listens there any more */
    adamd_client *client = NULL;
    adamd_error error = {0};
    adamd_client_options options = {.timeout_ms = 400, .max_retries = 1000};
    CHECK_STATUS(adamd_open(srv.url, &options, &client, &error), ADAMD_OK, &error);
    struct timespec before;
    struct timespec after;
    (void)clock_gettime(CLOCK_MONOTONIC, &before);
    float w[2] = {0};
    adamd_tensor grads[] = {{"w", ADAMD_FLOAT32, 1, {2}, w}};
    CHECK_STATUS(adamd_step(client, "x", grads, 1, grads, NULL, NULL, &error), ADAMD_TRANSPORT,
                 &error);
    (void)clock_gettime(CLOCK_MONOTONIC, &after);
    CHECK(after.tv_sec - before.tv_sec < 30);
    CHECK(strstr(error.message, "may have acted on it") == NULL);
    adamd_close(client);
}

int main(void)
{
    check_cuts();
    check_no_repeat();
    check_cut_data();
    check_step();
    check_other_calls();
    check_deadline();
    return check_failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
