/* rounds.c: requests over sockets of their own. */
#include "rounds.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void serve(peer *p, const char *const *options)
{
    server s;
    server_start(&s, options);
    peer_open(p, s.url);
    p->server = s;
}

void serve_end(peer *p)
{
    peer_close(p);
    server_stop(&p->server);
}

static int begin_post(const server *s, const char *name, const char *type, const char *lines,
                      const void *body, size_t length)
{
    char head[1024];
    const int n = snprintf(head, sizeof head,
                           "POST /v1/optimizers/%s HTTP/1.1\r\nHost: x\r\n%s"
                           "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n",
                           name, lines, type, length);
    assert_in_range(n, 1, sizeof head - 1);
    const int socket = raw_connect(s);
    assert_true(raw_send_text(socket, head) && raw_send(socket, body, length));
    return socket;
}

/* The path of a step, where `name` may end with a query. */
static const char *step_path(const char *name)
{
    static _Thread_local char path[256];
    const size_t length = strcspn(name, "?");
    (void)snprintf(path, sizeof path, "%.*s/step%s", (int)length, name, name + length);
    return path;
}

int begin_step(const server *s, const char *name, const char *lines, const char *json)
{
    return begin_post(s, step_path(name), JSON_TYPE, lines, json, strlen(json));
}

int begin_worker(const server *s, const char *name, const char *worker, const char *json)
{
    char line[256];
    (void)snprintf(line, sizeof line, "Adam-Worker: %s\r\n", worker);
    return begin_step(s, name, line, json);
}

int begin_tensors(const server *s, const char *name, const char *lines, file f)
{
    const int socket = begin_post(s, step_path(name), SAFETENSORS_TYPE, lines, f.bytes, f.length);
    file_free(&f);
    return socket;
}

int begin_get(const server *s, const char *path, const char *lines)
{
    char head[1024];
    (void)snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, lines);
    const int socket = raw_connect(s);
    assert_true(raw_send_text(socket, head));
    return socket;
}

void end_request(int socket, raw_reply *r)
{
    raw_read(socket, r);
    (void)close(socket);
}

void end_with(int socket, raw_reply *r, int status)
{
    end_request(socket, r);
    if (r->status != status) {
        fail_msg("status %d, expected %d: %s", r->status, status, r->text);
    }
}

void end_refused(int socket, int status, const char *code, const char *member)
{
    raw_reply r;
    end_request(socket, &r);
    assert_raw_problem(&r, status, code, member);
}

bool is_silent(int socket, unsigned ms)
{
    struct pollfd wait = {.fd = socket, .events = POLLIN};
    return poll(&wait, 1, (int)ms) == 0;
}

void wait_for_round(peer *p, const char *name, const char *text)
{
    const double until = now() + RAW_SECONDS;
    for (;;) {
        (void)get(p, at(name, "/round"));
        assert_status(p, 200);
        char *flat = flatten(body_of(p));
        char *expected = flatten(text);
        const bool there = strstr(flat, expected) != NULL;
        free(flat);
        free(expected);
        if (there) {
            return;
        }
        if (now() > until) {
            fail_msg("no %s in %s", text, body_of(p));
        }
        sleep_ms(2);
    }
}

void wait_for_held(peer *p, const char *name, unsigned gradients)
{
    char text[32];
    (void)snprintf(text, sizeof text, "\"gradients\": %u,", gradients);
    wait_for_round(p, name, text);
}

void assert_step_of(peer *p, const char *name, unsigned step)
{
    char text[32];
    (void)get(p, at(name, ""));
    (void)snprintf(text, sizeof text, "\"step\": %u,", step);
    assert_has(p, 200, text);
}

void assert_text(const char *text, const char *expected)
{
    char *flat = flatten(text);
    char *wanted = flatten(expected);
    if (strstr(flat, wanted) == NULL) {
        fail_msg("no '%s' in '%s'", wanted, flat);
    }
    free(flat);
    free(wanted);
}

void numbers_of(const char *text, const char *name, double *out, size_t n)
{
    char begin[80];
    char *flat = flatten(text);
    (void)snprintf(begin, sizeof begin, "\"%s\":[", name);
    const char *from = strstr(flat, begin);
    if (from == NULL) {
        fail_msg("no %s in '%s'", begin, flat);
        return;
    }
    from += strlen(begin);
    for (size_t i = 0; i < n; i++) {
        char *end;
        out[i] = strtod(from, &end);
        assert_ptr_not_equal(end, from);
        from = end + 1;
    }
    free(flat);
}

char *digest_of(peer *p, const char *name)
{
    (void)get(p, at(name, "/digest"));
    assert_status(p, 200);
    char *text = strdup(body_of(p));
    assert_non_null(text);
    return text;
}
