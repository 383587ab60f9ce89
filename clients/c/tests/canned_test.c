/* canned_test.c: the client against replies that are played back, good and broken ones, without
 * repeats; repeat_test.c has these. */
#include <stdlib.h>
#include <string.h>

#include "adamd_client.h"
#include "canned.h"
#include "check.h"

/* Takes one step of w, float32 [2], against a script; the buffers must be as `after` says. */
static void step_against(const char *what, const canned *script, adamd_status wanted,
                         const char *message, int requests)
{
    server srv;
    start(&srv, script);
    adamd_client *client = NULL;
    adamd_error error = {0};
    adamd_client_options options = {.stall_timeout_s = 5, .max_retries = -1};
    CHECK_STATUS(adamd_open(srv.url, &options, &client, &error), ADAMD_OK, &error);
    adamd_status status = ADAMD_OK;
    for (const canned *c = script; c->reply != NULL && status == ADAMD_OK; c++) {
        float w[2] = {0};
        adamd_tensor grads[] = {{"w", ADAMD_FLOAT32, 1, {2}, w}};
        adamd_result result = {0};
        status = adamd_step(client, "x", grads, 1, grads, NULL, &result, &error);
        if (status == ADAMD_OK) {
            CHECK(result.step == 1 && result.epoch == 1 && result.grad_norm == 2.5 && w[0] == 1);
        }
    }
    adamd_close(client);
    stop(&srv);
    if (status != wanted || (message != NULL && strstr(error.message, message) == NULL) ||
        srv.requests != requests) {
        (void)fprintf(stderr, "%s: %s (%s), %d requests; expected %s (%s), %d\n", what,
                      adamd_status_text(status), error.message, srv.requests,
                      adamd_status_text(wanted), message != NULL ? message : "", requests);
        check_failures++;
    }
}

static void check_steps(void)
{
    static const canned good[] = {
        {TEXT(HEAD "Content-Length: 120\r\n\r\n" FILE_W DATA), false, false},
        {TEXT(HEAD "Content-Length: 120\r\n\r\n" FILE_W DATA), false, false},
        {0}};
    static const canned chunked[] = {{TEXT(HEAD "Transfer-Encoding: chunked\r\n\r\n"
                                                "78\r\n" FILE_W DATA "\r\n0\r\n\r\n"),
                                      false, false},
                                     {0}};
    static const canned cut_header[] = {
        {TEXT(HEAD "Content-Length: 120\r\n\r\n\x68\0\0"), false, true}, {0}};
    static const canned cut_data[] = {
        {TEXT(HEAD "Content-Length: 120\r\n\r\n" FILE_W "\0\0"), false, true}, {0}};
    static const canned no_length[] = {{TEXT(HEAD "\r\n" FILE_W "\0\0"), false, true}, {0}};
    static const canned silent[] = {{TEXT(""), false, true}, {0}};
    static const canned dies_later[] = {
        {TEXT(HEAD "Content-Length: 120\r\n\r\n" FILE_W DATA), false, false},
        {TEXT(""), false, true},
        {TEXT(HEAD "Content-Length: 120\r\n\r\n" FILE_W DATA), false, true},
        {0}};
    static const canned json[] = {
        {TEXT("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"),
         false, true},
        {0}};
    static const canned early[] = {
        {TEXT("HTTP/1.1 412 Precondition Failed\r\nContent-Type: application/problem+json\r\n"
              "Content-Length: 16\r\n\r\n{\"detail\":\"old\"}"),
         true, true},
        {0}};
    static const canned no_etag[] = {
        {TEXT("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.safetensors\r\n"
              "Content-Length: 120\r\n\r\n" FILE_W DATA),
         false, true},
        {0}};
    step_against("good", good, ADAMD_OK, NULL, 2);
    step_against("chunked", chunked, ADAMD_OK, NULL, 1);
    step_against("cut header", cut_header, ADAMD_TRANSPORT, "may have acted on it", 1);
    step_against("cut data", cut_data, ADAMD_TRANSPORT, "may have acted on it", 1);
    step_against("no length", no_length, ADAMD_BAD_REPLY, "ended after 2 of 8", 1);
    step_against("silent", silent, ADAMD_TRANSPORT, "may have acted on it", 1);
    step_against("json", json, ADAMD_BAD_REPLY, "application/vnd.safetensors", 1);
    step_against("early", early, ADAMD_REFUSED, "412: old", 1);
    step_against("no etag", no_etag, ADAMD_BAD_REPLY, "ETag", 1);
    /* On a kept connection, libcurl would send the request again by itself. The third request is
     * this test's own, to bring the script to its end. */
    server srv;
    start(&srv, dies_later);
    adamd_client *client = NULL;
    adamd_error error = {0};
    float w[2] = {0};
    adamd_tensor grads[] = {{"w", ADAMD_FLOAT32, 1, {2}, w}};
    adamd_client_options once = {.max_retries = -1};
    CHECK_STATUS(adamd_open(srv.url, &once, &client, &error), ADAMD_OK, &error);
    CHECK_STATUS(adamd_step(client, "x", grads, 1, grads, NULL, NULL, &error), ADAMD_OK, &error);
    CHECK(!was_sent(&srv, "Expect")); /* a small step does not pay for a round trip more */
    CHECK_STATUS(adamd_step(client, "x", grads, 1, grads, NULL, NULL, &error), ADAMD_TRANSPORT,
                 &error);
    CHECK(strstr(error.message, "may have acted on it") != NULL);
    CHECK(request_count(&srv) == 2);
    CHECK_STATUS(adamd_step(client, "x", grads, 1, grads, NULL, NULL, &error), ADAMD_OK, &error);
    stop(&srv);
    CHECK_STATUS(adamd_step(client, "x", grads, 1, grads, NULL, NULL, &error), ADAMD_TRANSPORT,
                 &error);
    CHECK(strstr(error.message, "may have acted on it") == NULL && error.curl_code != 0);
    adamd_close(client);
}

/* A body-less request that is not safe goes out once too. */
static void check_delete_once(void)
{
    static const canned script[] = {{TEXT("HTTP/1.1 204 No Content\r\n\r\n"), false, false},
                                    {TEXT(""), false, true},
                                    {TEXT("HTTP/1.1 204 No Content\r\n\r\n"), false, true},
                                    {0}};
    server srv;
    start(&srv, script);
    adamd_client *client = NULL;
    adamd_error error = {0};
    CHECK_STATUS(adamd_open(srv.url, NULL, &client, &error), ADAMD_OK, &error);
    CHECK_STATUS(adamd_delete(client, "x", &error), ADAMD_OK, &error);
    CHECK_STATUS(adamd_delete(client, "x", &error), ADAMD_TRANSPORT, &error);
    CHECK(request_count(&srv) == 2);
    CHECK_STATUS(adamd_delete(client, "x", &error), ADAMD_OK, &error);
    adamd_close(client);
    stop(&srv);
}

static void check_request(void)
{
    static const canned script[] = {
        {TEXT("HTTP/1.1 200 OK\r\nA: 1\r\nB:2 \r\na:  3\r\nContent-Length: 3\r\n\r\nx\0y"), false,
         false},
        {TEXT("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), false, false},
        {TEXT("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"), false, false},
        {TEXT("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789"), false, true},
        {TEXT("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"), false, true},
        {0}};
    server srv;
    start(&srv, script);
    adamd_client *client = NULL;
    adamd_error error = {0};
    adamd_response response = {0};
    adamd_client_options options = {.max_reply = 4};
    char url[96];
    (void)snprintf(url, sizeof url, "%s/base/", srv.url);
    CHECK_STATUS(adamd_open(url, &options, &client, &error), ADAMD_OK, &error);
    const char *headers[] = {"X-One: 1", "Accept:", "X-Empty;", NULL};
    CHECK_STATUS(
        adamd_request(client, "BREW", "/a%2Fb/../c?d", headers, NULL, 0, &response, &error),
        ADAMD_OK, &error);
    CHECK(response.status == 200 && response.length == 3 && memcmp(response.body, "x\0y", 4) == 0);
    const char *b = adamd_response_header(&response, "b", 0);
    CHECK(b != NULL && strcmp(b, "2") == 0);
    const char *a = adamd_response_header(&response, "A", 1);
    CHECK(a != NULL && strcmp(a, "3") == 0 && adamd_response_header(&response, "a", 2) == NULL);
    CHECK(response.new_connections == 1 && !response.continued && response.sent == 0);
    CHECK(was_sent(&srv, "BREW /base/a%2Fb/../c?d HTTP/1.1\r\n"));
    CHECK(was_sent(&srv, "X-One: 1\r\n") && was_sent(&srv, "X-Empty:\r\n"));
    CHECK(!was_sent(&srv, "Accept") && !was_sent(&srv, "Content-"));
    CHECK_STATUS(adamd_request(client, "POST", "/", NULL, "", 0, &response, &error), ADAMD_OK,
                 &error);
    CHECK(response.status == 404 && response.length == 0 && response.new_connections == 0);
    CHECK(was_sent(&srv, "Content-Length: 0\r\n"));
    CHECK(!was_sent(&srv, "Content-Type") && !was_sent(&srv, "Expect"));
    CHECK_STATUS(adamd_request(client, "HEAD", "/", NULL, NULL, 0, &response, &error), ADAMD_OK,
                 &error);
    CHECK(response.status == 200 && response.length == 0 && response.new_connections == 0);
    CHECK_STATUS(adamd_request(client, "GET", "/", NULL, NULL, 0, &response, &error),
                 ADAMD_TOO_LARGE, &error);
    CHECK(response.status == 0 && response.length == 0);
    size_t large = (size_t)3 << 20;
    char *body = calloc(large, 1);
    CHECK_STATUS(adamd_request(client, "PUT", "/", NULL, body, large, &response, &error), ADAMD_OK,
                 &error);
    CHECK(response.continued && response.sent == large && response.length == 1);
    CHECK(adamd_response_header(&response, "X-Early", 0) == NULL);
    free(body);
    const char *broken[] = {"A: 1\r\nB: 2", NULL};
    CHECK_STATUS(adamd_request(client, "GET", "/", broken, NULL, 0, &response, &error),
                 ADAMD_INVALID_ARGUMENT, &error);
    CHECK_STATUS(adamd_request(client, "GE T", "/", NULL, NULL, 0, &response, &error),
                 ADAMD_INVALID_ARGUMENT, &error);
    CHECK_STATUS(adamd_request(client, "HEAD", "/", NULL, "", 0, &response, &error),
                 ADAMD_INVALID_ARGUMENT, &error);
    adamd_response_free(&response);
    adamd_close(client);
    stop(&srv);
}

static void check_open(void)
{
    static const char *const wrong[] = {"",     "not a url",     "http://",
                                        "ftp:", "http://h/?q=1", "http://h:99999"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        adamd_client *client = NULL;
        adamd_error error = {0};
        CHECK(adamd_open(wrong[i], NULL, &client, &error) == ADAMD_INVALID_ARGUMENT);
        CHECK(client == NULL && error.message[0] != '\0');
    }
}

int main(void)
{
    check_open();
    check_steps();
    check_delete_once();
    check_request();
    return check_failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
