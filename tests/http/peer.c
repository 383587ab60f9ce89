/* peer.c: requests through the C client, and assertions about replies. */
#include "peer.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adam/tensor.h"

#define MAX_HEADERS 8
#define EXPECT_MIN \
    ((size_t)1 << 20) /* libcurl asks before it sends any body; here only large ones */

/* ---- setup ---- */

void peer_open(peer *p, const char *url)
{
    adamd_error error;
    memset(p, 0, sizeof *p);
    if (adamd_open(url, NULL, &p->client, &error) != ADAMD_OK) {
        fail_msg("adamd_open: %s", error.message);
    }
}

void peer_close(peer *p)
{
    adamd_response_free(&p->reply);
    adamd_close(p->client);
    p->client = NULL;
}

int peer_with_server(void **state)
{
    server s;
    peer *p = malloc(sizeof *p);
    assert_non_null(p);
    server_start(&s, NULL);
    peer_open(p, s.url);
    p->server = s;
    *state = p;
    return 0;
}

int peer_and_server_end(void **state)
{
    peer *p = *state;
    peer_close(p);
    server_stop(&p->server);
    free(p);
    return 0;
}

/* ---- what every reply has in common ---- */

static const char *type_of(const peer *p)
{
    const char *type = adamd_response_header(&p->reply, "Content-Type", 0);
    return type != NULL ? type : "";
}

/* Parsed by cJSON alone, not by the server's own code. */
static void check_json(const peer *p)
{
    const char *end = NULL;
    const char *text = body_of(p);
    if (p->reply.length == 0) {
        return; /* HEAD */
    }
    if (!adam_utf8_valid(text, p->reply.length)) {
        fail_msg("%s: the reply is not UTF-8: %s", p->path, text);
    }
    cJSON *root = cJSON_ParseWithLengthOpts(text, p->reply.length, &end, 0);
    const bool whole = root != NULL && strcmp(end, "\n") == 0;
    cJSON_Delete(root);
    if (!whole) {
        fail_msg("%s: the reply is not JSON and a newline: %s", p->path, text);
    }
}

static void check_reply(const peer *p)
{
    static const char *const single[] = {"Content-Type", "ETag",           "Location",
                                         "Allow",        "Content-Length", "Date",
                                         "Retry-After",  "Connection",     "Preference-Applied"};
    for (size_t i = 0; i < COUNT(single); i++) {
        if (adamd_response_header(&p->reply, single[i], 1) != NULL) {
            fail_msg("%s: %s stands twice", p->path, single[i]);
        }
    }
    if (strcmp(type_of(p), JSON_TYPE) == 0 || strcmp(type_of(p), "application/problem+json") == 0) {
        check_json(p);
    }
    const bool refused = p->reply.status >= 400;
    if (refused != (strcmp(type_of(p), "application/problem+json") == 0)) {
        fail_msg("%s: %ld with Content-Type '%s'", p->path, p->reply.status, type_of(p));
    }
}

/* ---- requests ---- */

/* Whether a whole reply came; *error says why not. */
static bool ask_once(peer *p, const char *method, const char *path, const char *const *headers,
                     const void *body, size_t length, adamd_error *error)
{
    const char *lines[MAX_HEADERS + 2] = {NULL};
    size_t n = 0;
    for (; headers != NULL && headers[n] != NULL; n++) {
        assert_true(n < MAX_HEADERS);
        lines[n] = headers[n];
    }
    lines[n] = length > EXPECT_MIN ? NULL : "Expect:";
    (void)snprintf(p->path, sizeof p->path, "%s %s", method, path);
    const adamd_status status =
        adamd_request(p->client, method, path, lines, body, length, &p->reply, error);
    if (status == ADAMD_OK) {
        check_reply(p);
    } else if (status != ADAMD_TRANSPORT) {
        fail_msg("%s: %s", p->path, error->message);
    }
    return status == ADAMD_OK;
}

bool ask_maybe(peer *p, const char *method, const char *path, const char *const *headers,
               const void *body, size_t length)
{
    adamd_error error;
    return ask_once(p, method, path, headers, body, length, &error);
}

int ask(peer *p, const char *method, const char *path, const char *const *headers, const void *body,
        size_t length)
{
    adamd_error error;
    if (!ask_once(p, method, path, headers, body, length, &error)) {
        server_explain(&p->server);
        fail_msg("%s: no reply: %s", p->path, error.message);
    }
    return (int)p->reply.status;
}

int ask_json_with(peer *p, const char *method, const char *path, const char *header,
                  const char *json)
{
    const char *const headers[] = {"Content-Type: application/json", header, NULL};
    return ask(p, method, path, headers, json, strlen(json));
}

int ask_json(peer *p, const char *method, const char *path, const char *json)
{
    return ask_json_with(p, method, path, NULL, json);
}

int ask_tensors(peer *p, const char *method, const char *path, const char *accept, const void *body,
                size_t length)
{
    char line[256];
    const char *const headers[] = {"Content-Type: application/vnd.safetensors",
                                   accept != NULL ? line : NULL, NULL};
    (void)snprintf(line, sizeof line, "Accept: %s", accept != NULL ? accept : "");
    return ask(p, method, path, headers, body, length);
}

int get(peer *p, const char *path)
{
    return ask(p, "GET", path, NULL, NULL, 0);
}

int get_with(peer *p, const char *path, const char *header)
{
    const char *const headers[] = {header, NULL};
    return ask(p, "GET", path, headers, NULL, 0);
}

const char *at(const char *name, const char *rest)
{
    static _Thread_local char paths[4][4096];
    static _Thread_local unsigned next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof paths[0], OPTIMIZERS "/%s%s", name, rest);
    return path;
}

/* ---- the reply ---- */

const char *body_of(const peer *p)
{
    return (const char *)p->reply.body;
}

void assert_header(const peer *p, const char *name, const char *value)
{
    const char *got = adamd_response_header(&p->reply, name, 0);
    const bool same = value == NULL || got == NULL ? value == got : strcmp(value, got) == 0;
    if (!same) {
        fail_msg("%s: header %s is '%s', expected '%s'", p->path, name,
                 got != NULL ? got : "(absent)", value != NULL ? value : "(absent)");
    }
}

void assert_status(const peer *p, int status)
{
    if (p->reply.status != status) {
        fail_msg("%s: status %ld, expected %d: %.500s", p->path, p->reply.status, status,
                 body_of(p));
    }
}

char *flatten(const char *text)
{
    char *out = malloc(strlen(text) + 1);
    assert_non_null(out);
    size_t n = 0;
    for (size_t i = 0; text[i] != '\0'; i++) {
        out[n++] = text[i];
        if (strchr(",:[{", text[i]) != NULL) {
            i += strspn(text + i + 1, " \n");
        }
    }
    out[n] = '\0';
    return out;
}

void assert_json(const peer *p, int status, const char *json)
{
    assert_status(p, status);
    assert_header(p, "Content-Type", JSON_TYPE);
    char *got = flatten(body_of(p));
    char *expected = flatten(json);
    const size_t length = strlen(got);
    if (length == 0 || strlen(expected) != length - 1 || memcmp(got, expected, length - 1) != 0) {
        print_error("expected %s\ngot %s", json, body_of(p));
        fail_msg("%s: another reply than expected", p->path);
    }
    free(got);
    free(expected);
}

void assert_has(const peer *p, int status, const char *text)
{
    assert_status(p, status);
    char *got = flatten(body_of(p));
    char *expected = flatten(text);
    if (strstr(got, expected) == NULL) {
        print_error("expected in it %s\ngot %s", text, body_of(p));
        fail_msg("%s: another reply than expected", p->path);
    }
    free(got);
    free(expected);
}

void assert_empty(const peer *p, int status)
{
    assert_status(p, status);
    assert_int_equal(p->reply.length, 0);
}

void assert_problem(const peer *p, int status, const char *code, const char *member)
{
    char text[256];
    assert_status(p, status);
    (void)snprintf(text, sizeof text, "{\"type\": \"urn:adamd:problem:%s\", \"title\": \"", code);
    if (strncmp(body_of(p), text, strlen(text)) != 0) {
        print_error("got %s", body_of(p));
        fail_msg("%s: expected problem %s", p->path, code);
    }
    (void)snprintf(text, sizeof text, "\", \"status\": %d, \"detail\": \"", status);
    assert_has(p, status, text);
    if (strstr(body_of(p), "\"title\": \"\"") != NULL ||
        strstr(body_of(p), "\"detail\": \"\"") != NULL) {
        fail_msg("%s: an empty text in %s", p->path, body_of(p));
    }
    if (member != NULL) {
        assert_has(p, status, member);
    }
}

/* ---- optimizers ---- */

void create(peer *p, const char *name, const char *json)
{
    (void)ask_json(p, "PUT", at(name, ""), json);
    assert_status(p, 201);
}

char *state_of(peer *p, const char *name)
{
    (void)get(p, at(name, "/state_dict"));
    assert_status(p, 200);
    const char *etag = adamd_response_header(&p->reply, "ETag", 0);
    assert_non_null(etag);
    const size_t size = strlen(etag) + p->reply.length + 2;
    char *text = malloc(size);
    assert_non_null(text);
    (void)snprintf(text, size, "%s\n%s", etag, body_of(p));
    return text;
}

void assert_unchanged(peer *p, const char *name, char *before)
{
    char *after = state_of(p, name);
    assert_string_equal(before, after);
    free(before);
    free(after);
}

void remove_all(peer *p)
{
    for (;;) {
        char name[160];
        (void)get(p, OPTIMIZERS "?limit=1");
        if (sscanf(body_of(p), "{\"optimizers\": [{\"name\": \"%159[^\"]", name) != 1) {
            break;
        }
        (void)ask(p, "DELETE", at(name, ""), NULL, NULL, 0);
        assert_empty(p, 204);
    }
}
