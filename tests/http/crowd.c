/* crowd.c: threads that are clients. */
#include "crowd.h"

#include <stdio.h>
#include <string.h>

void worker_fail(worker *w, const char *format, ...)
{
    if (w->failure[0] == '\0') {
        va_list args;
        va_start(args, format);
        (void)vsnprintf(w->failure, sizeof w->failure, format, args);
        va_end(args);
    }
}

bool worker_failed(const worker *w)
{
    return w->failure[0] != '\0';
}

int worker_ask(worker *w, const char *method, const char *path, const char *const *headers,
               const void *body, size_t length)
{
    adamd_error error;
    if (adamd_request(w->client, method, path, headers, body, length, &w->reply, &error) !=
        ADAMD_OK) {
        worker_fail(w, "%s %s: %.400s", method, path, error.message);
        return 0;
    }
    return (int)w->reply.status;
}

int worker_ask_json(worker *w, const char *method, const char *path, const char *json)
{
    static const char *const headers[] = {"Content-Type: application/json", "Expect:", NULL};
    return worker_ask(w, method, path, headers, json, strlen(json));
}

long worker_step(worker *w)
{
    long step = -1;
    const char *etag = adamd_response_header(&w->reply, "ETag", 0);
    if (etag == NULL || sscanf(etag, "\"e%*u-s%ld\"", &step) != 1) {
        worker_fail(w, "an ETag that is none: %s", etag != NULL ? etag : "(absent)");
    }
    return step;
}

static void *thread_main(void *argument)
{
    worker *w = argument;
    w->run(w);
    return NULL;
}

void crowd_run(const char *url, worker *workers, size_t n)
{
    const adamd_client_options options = {.timeout_ms = CROWD_SECONDS * 1000};
    for (size_t i = 0; i < n; i++) {
        workers[i].index = i;
        assert_int_equal(adamd_open(url, &options, &workers[i].client, NULL), ADAMD_OK);
        assert_int_equal(pthread_create(&workers[i].thread, NULL, thread_main, &workers[i]), 0);
    }
    for (size_t i = 0; i < n; i++) {
        (void)pthread_join(workers[i].thread, NULL);
        adamd_response_free(&workers[i].reply);
        adamd_close(workers[i].client);
    }
    for (size_t i = 0; i < n; i++) {
        if (worker_failed(&workers[i])) {
            fail_msg("client %zu: %s", i, workers[i].failure);
        }
    }
}
