/* request.c: any request, and the response that holds its reply. Knows no optimizer. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Whether the method is an HTTP token; libcurl would send anything. */
static bool is_token(const char *text)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (const char *c = text; *c != '\0'; c++) {
        bool letter = (*c >= '0' && *c <= '9') || ((*c | 0x20) >= 'a' && (*c | 0x20) <= 'z');
        if (!letter && strchr(others, *c) == NULL) {
            return false;
        }
    }
    return *text != '\0';
}

static adamd_status check(const adamd_client *client, const char *method, const char *path,
                          const void *body, const adamd_response *response, adamd_error *error)
{
    const char *wrong = NULL;
    if (client == NULL || response == NULL) {
        wrong = "a client and a response";
    } else if (method == NULL || !is_token(method)) {
        wrong = "a method that is an HTTP token";
    } else if (path == NULL || path[0] == '\0' || strpbrk(path, "\r\n") != NULL) {
        wrong = "a path without line breaks";
    } else if (body != NULL && strcmp(method, "HEAD") == 0) {
        wrong = "HEAD without a body";
    }
    return wrong == NULL ? ADAMD_OK
                         : adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                            "adamd_request: expected %s", wrong);
}

adamd_status adamd_request(adamd_client *client, const char *method, const char *path,
                           const char *const *headers, const void *body, size_t length,
                           adamd_response *response, adamd_error *error)
{
    adamd_status status = check(client, method, path, body, response, error);
    if (status != ADAMD_OK) {
        return status;
    }
    adamdc_buffer reply = {(char *)response->body, 0, response->body_capacity,
                           client->options.max_reply};
    adamdc_buffer fields = {response->headers, 0, response->headers_capacity, 0};
    adamdc_piece piece = {body, length};
    adamdc_transfer transfer = {.client = client,
                                .method = method,
                                .path = path,
                                .headers = headers,
                                .has_body = body != NULL,
                                .pieces = &piece,
                                .n_pieces = body != NULL,
                                .body_bytes = body != NULL ? length : 0,
                                .body = &reply,
                                .timeout_ms = client->options.timeout_ms,
                                .fields = &fields};
    status = adamdc_transfer_run(&transfer, error);
    if (status == ADAMD_OK && adamdc_buffer_append(&reply, "", 0) != ADAMD_OK) {
        status = adamdc_error_no_memory(error, 1);
    }
    bool ok = status == ADAMD_OK;
    *response = (adamd_response){.status = ok ? transfer.status : 0,
                                 .body = (unsigned char *)reply.data,
                                 .length = ok ? reply.length : 0,
                                 .sent = transfer.sent,
                                 .new_connections = transfer.new_connections,
                                 .continued = transfer.continued,
                                 .body_capacity = reply.capacity,
                                 .headers = fields.data,
                                 .headers_length = ok ? fields.length : 0,
                                 .headers_capacity = fields.capacity};
    return status;
}

const char *adamd_response_header(const adamd_response *response, const char *name, size_t index)
{
    const char *at = response->headers;
    const char *end = at != NULL ? at + response->headers_length : NULL;
    while (at != end) {
        const char *value = at + strlen(at) + 1;
        if (strcasecmp(at, name) == 0 && index-- == 0) {
            return value;
        }
        at = value + strlen(value) + 1;
    }
    return NULL;
}

void adamd_response_free(adamd_response *response)
{
    if (response != NULL) {
        free(response->body);
        free(response->headers);
        memset(response, 0, sizeof *response);
    }
}

bool adamd_path_append(char *out, size_t size, const char *text)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t start = strlen(out);
    size_t used = start;
    /* A segment of dots alone would mean "here" or "above" to whoever tidies the path. */
    bool dots = strcmp(text, ".") == 0 || strcmp(text, "..") == 0;
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        bool plain = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
                     c == '-' || c == '_' || c == '~' || (c == '.' && !dots);
        if (size - used <= (plain ? 1 : 3)) {
            out[start] = '\0';
            return false;
        }
        if (plain) {
            out[used++] = (char)c;
        } else {
            out[used++] = '%';
            out[used++] = digits[c >> 4];
            out[used++] = digits[c & 15];
        }
    }
    out[used] = '\0';
    return true;
}
