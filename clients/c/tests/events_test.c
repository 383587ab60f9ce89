/* events_test.c: a stream of events that breaks off and goes on, against replies that are played
 * back. */
#include <stdlib.h>
#include <string.h>

#include "adamd_client.h"
#include "canned.h"
#include "check.h"

#define STREAM "HTTP/1.1 200 OK\r\nETag: \"e1-s4\"\r\nContent-Type: text/event-stream\r\n"
#define OPEN   STREAM "Transfer-Encoding: chunked\r\n\r\n"
#define CUT(text)               \
    {                           \
        TEXT(text), false, true \
    }

typedef struct said {
    char text[256];
    int until; /* events */
} said;

static bool on_event(void *context, const adamd_event *event)
{
    said *all = context;
    if (event == NULL) {
        return true;
    }
    size_t used = strlen(all->text);
    (void)snprintf(all->text + used, sizeof all->text - used, "%s(%s)%s ", event->type, event->id,
                   event->data);
    return --all->until > 0;
}

static void expect(const canned *script, int until, int max_retries, adamd_status wanted,
                   const char *text, const char *last_request, int requests)
{
    server srv;
    said all = {.until = until};
    adamd_error error = {0};
    adamd_client *client = NULL;
    adamd_client_options options = {.max_retries = max_retries};
    start(&srv, script);
    CHECK_STATUS(adamd_open(srv.url, &options, &client, &error), ADAMD_OK, &error);
    CHECK_STATUS(adamd_events(client, "x", NULL, on_event, &all, &error), wanted, &error);
    adamd_close(client);
    CHECK(was_sent(&srv, last_request));
    stop(&srv);
    CHECK(srv.requests == requests);
    if (strcmp(all.text, text) != 0) {
        (void)fprintf(stderr, "got '%s', expected '%s'\n", all.text, text);
        check_failures++;
    }
}

int main(void)
{
    static const canned resumed[] = {
        CUT(STREAM
            "\r\nretry: 3000\n\n: hello\n\nid: 5\nevent: step\nda"), /* after the ETag's step */
        CUT(STREAM
            "\r\nid: 5\r\nevent: step\r\ndata: {\"step\": 5}\r\n\r\nevent: skipped\ndata:{}\n\n"),
        CUT("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"),
        CUT(OPEN "12\r\ndata: a\ndata: b\n\n\r\nff\r\nevent"), /* cut in a chunk */
        CUT(STREAM "\r\nevent: news\nid: 6\nother: 1\ndata\n\n"),
        {0}};
    expect(resumed, 4, 3, ADAMD_OK, "step(5){\"step\": 5} skipped(){} message()a\nb news(6) ",
           "Last-Event-ID: 5", 5);
    static const canned removed[] = {CUT(STREAM "\r\nevent: removed\ndata: {}\n\n"), {0}};
    expect(removed, 9, 3, ADAMD_OK, "removed(){} ", "Accept: text/event-stream", 1);
    static const canned silent[] = {CUT(""), CUT(STREAM "\r\n"), CUT(STREAM "\r\n"), {0}};
    expect(silent, 9, 2, ADAMD_TRANSPORT, "", "Last-Event-ID: 4", 3);
    static const canned refused[] = {CUT("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"),
                                     {0}};
    expect(refused, 9, 2, ADAMD_REFUSED, "", "GET", 1);
    return check_failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
