/* peer.h: a client in a test: any request through libcurl, and assertions about its reply. Every
 * reply is held to what all replies have in common. */
#ifndef ADAMD_TEST_PEER_H
#define ADAMD_TEST_PEER_H

#include "adamd_client.h"
#include "server.h"

#define JSON_TYPE        "application/json"
#define SAFETENSORS_TYPE "application/vnd.safetensors"
#define OPTIMIZERS       "/v1/optimizers"

typedef struct peer {
    server server; /* where the peer started it; else pid 0 */
    adamd_client *client;
    adamd_response reply; /* of the last request */
    char path[2048];      /* of the last request, for messages */
} peer;

/* cmocka group setup and teardown: *state is a peer with a server of its own. */
int peer_with_server(void **state);
int peer_and_server_end(void **state);

void peer_open(peer *p, const char *url);
void peer_close(peer *p);

/* ---- requests: each returns the status of the reply, which is then in p->reply ---- */

/* `headers` as in adamd_request. Fails the test where no whole reply comes. */
int ask(peer *p, const char *method, const char *path, const char *const *headers, const void *body,
        size_t length);
/* The same, but false instead of a failure where no whole reply comes. */
bool ask_maybe(peer *p, const char *method, const char *path, const char *const *headers,
               const void *body, size_t length);
/* With a JSON body, and one more header, or NULL. */
int ask_json(peer *p, const char *method, const char *path, const char *json);
int ask_json_with(peer *p, const char *method, const char *path, const char *header,
                  const char *json);
/* With a safetensors body, and an Accept, or NULL. */
int ask_tensors(peer *p, const char *method, const char *path, const char *accept, const void *body,
                size_t length);
int get(peer *p, const char *path);
/* With one header line. */
int get_with(peer *p, const char *path, const char *header);

/* "/v1/optimizers/NAME" + rest, in p's memory until the fourth next call. */
const char *at(const char *name, const char *rest);

/* ---- the reply ---- */

const char *body_of(const peer *p);
/* Asserts that the header stands once, or with NULL, not at all. */
void assert_header(const peer *p, const char *name, const char *value);
void assert_status(const peer *p, int status);
/* A copy of JSON without the white space behind the signs that open and separate: how it is laid
 * out in lines is nobody's business. The caller's, to be given to free(). */
char *flatten(const char *text);
/* Status and the exact body, but for line breaks, and the newline that ends every JSON reply. */
void assert_json(const peer *p, int status, const char *json);
/* Status, and that the body holds this text. */
void assert_has(const peer *p, int status, const char *text);
/* Status and no body. */
void assert_empty(const peer *p, int status);
/* A refusal: status, type `urn:adamd:problem:<code>`, and all that a problem must have. `member`,
 * if not NULL, is text that must stand in it: "\"param\": \"w\"". */
void assert_problem(const peer *p, int status, const char *code, const char *member);

/* ---- optimizers ---- */

/* Creates one from JSON; asserts that it succeeds. */
void create(peer *p, const char *name, const char *json);
/* Its whole state with its ETag, as text; the caller's. */
char *state_of(peer *p, const char *name);
/* Asserts that its state is still that, byte for byte; frees it. */
void assert_unchanged(peer *p, const char *name, char *before);
/* Removes all optimizers. */
void remove_all(peer *p);

#endif
