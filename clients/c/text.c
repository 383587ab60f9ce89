/* text.c: the calls that read JSON. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

adamd_status adamdc_check_json(const adamdc_buffer *text, const char *method, const char *path,
                               adamd_error *error)
{
    if (text->length > 0 && adamdc_json_valid(text->data, text->length)) {
        return ADAMD_OK;
    }
    return adamdc_error_set(
        error, ADAMD_BAD_REPLY,
        "%s %s: the reply is %s, expected JSON; check the URL, and the proxy if "
        "there is one before the server",
        method, path, text->length == 0 ? "empty" : "something else");
}

adamd_status adamdc_text(adamd_client *client, const char *method, const char *path,
                         const char *body, char **json, size_t *length, adamd_error *error)
{
    static const char *const headers[] = {"Accept: application/json",
                                          "Content-Type: application/json", NULL};
    static const char *const no_body[] = {"Accept: application/json", NULL};
    if (json != NULL) {
        *json = NULL;
    }
    adamdc_buffer text = {.limit = client->options.max_reply};
    adamdc_piece piece = {body, body != NULL ? strlen(body) : 0};
    adamdc_transfer transfer = {.client = client,
                                .method = method,
                                .path = path,
                                .headers = body != NULL ? headers : no_body,
                                .has_body = body != NULL,
                                .pieces = &piece,
                                .n_pieces = body != NULL,
                                .body_bytes = piece.length,
                                .body = &text};
    adamdc_call call = {.repeats = strcmp(method, "GET") == 0};
    adamd_status status = adamdc_call_run(&transfer, &call, NULL, error);
    if (status == ADAMD_OK && json != NULL) {
        status = adamdc_check_json(&text, method, path, error);
    }
    if (status != ADAMD_OK || json == NULL) {
        adamdc_buffer_free(&text);
        return status;
    }
    *json = text.data;
    if (length != NULL) {
        *length = text.length;
    }
    return ADAMD_OK;
}

/* GET /v1/optimizers/{name}{rest} */
static adamd_status read_text(adamd_client *client, const char *name, const char *rest, char **json,
                              size_t *length, adamd_error *error)
{
    char path[ADAMDC_MAX_PATH];
    if (json == NULL) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "GET %s: expected a place for the text", rest);
    }
    *json = NULL;
    adamd_status status = adamdc_path(client, name, rest, path, error);
    return status == ADAMD_OK ? adamdc_text(client, "GET", path, NULL, json, length, error)
                              : status;
}

/* "?data=all", "" for NULL; NULL with an error set where it is neither. */
static const char *data_query(const char *data, adamd_error *error)
{
    if (data == NULL) {
        return "";
    }
    if (strcmp(data, "all") == 0) {
        return "?data=all";
    }
    if (strcmp(data, "none") == 0) {
        return "?data=none";
    }
    (void)adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                           "data '%.64s', expected \"all\", \"none\" or NULL", data);
    return NULL;
}

static adamd_status probe(adamd_client *client, const char *path, adamd_error *error)
{
    if (client == NULL) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT, "GET %s without a client", path);
    }
    adamdc_transfer transfer = {.client = client, .method = "GET", .path = path};
    adamdc_call call = {0};
    return adamdc_call_run(&transfer, &call, NULL, error);
}

adamd_status adamd_livez(adamd_client *client, adamd_error *error)
{
    return probe(client, "/livez", error);
}

adamd_status adamd_readyz(adamd_client *client, adamd_error *error)
{
    return probe(client, "/readyz", error);
}

/* Appends "?key=value" or "&key=value"; false where it does not fit. */
static bool add_query(char *path, const char *key, const char *value)
{
    size_t used = strlen(path);
    (void)snprintf(path + used, ADAMDC_MAX_PATH - used,
                   "%c%s=", strchr(path, '?') == NULL ? '?' : '&', key);
    return adamd_path_append(path, ADAMDC_MAX_PATH, value);
}

adamd_status adamd_list(adamd_client *client, const char *prefix, const char *after, unsigned limit,
                        char **json, size_t *length, adamd_error *error)
{
    char path[ADAMDC_MAX_PATH] = "/v1/optimizers";
    char number[16];
    (void)snprintf(number, sizeof number, "%u", limit);
    if (client == NULL || json == NULL) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "adamd_list: expected a client and a place for the text");
    }
    *json = NULL;
    if ((prefix != NULL && *prefix != '\0' && !add_query(path, "prefix", prefix)) ||
        (after != NULL && *after != '\0' && !add_query(path, "after", after)) ||
        (limit > 0 && !add_query(path, "limit", number))) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "adamd_list: prefix and after, expected at most 128 bytes each");
    }
    return adamdc_text(client, "GET", path, NULL, json, length, error);
}

adamd_status adamd_summary(adamd_client *client, const char *name, char **json, size_t *length,
                           adamd_error *error)
{
    return read_text(client, name, "", json, length, error);
}

adamd_status adamd_param_groups(adamd_client *client, const char *name, const char *data,
                                char **json, size_t *length, adamd_error *error)
{
    char rest[64];
    const char *query = data_query(data, error);
    if (json != NULL) {
        *json = NULL;
    }
    if (query == NULL) {
        return ADAMD_INVALID_ARGUMENT;
    }
    (void)snprintf(rest, sizeof rest, "/param_groups%s", query);
    return read_text(client, name, rest, json, length, error);
}

adamd_status adamd_state(adamd_client *client, const char *name, const char *param,
                         const char *data, char **json, size_t *length, adamd_error *error)
{
    char path[ADAMDC_LONG_PATH];
    const char *query = data_query(data, error);
    if (json == NULL || query == NULL) {
        return query == NULL ? ADAMD_INVALID_ARGUMENT
                             : adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                                "adamd_state: expected a place for the text");
    }
    *json = NULL;
    adamd_status status = adamdc_path_with(client, name, "/state/", param, query, path, error);
    return status == ADAMD_OK ? adamdc_text(client, "GET", path, NULL, json, length, error)
                              : status;
}

adamd_status adamd_digest(adamd_client *client, const char *name, char **json, size_t *length,
                          adamd_error *error)
{
    return read_text(client, name, "/digest", json, length, error);
}

/* With "?last=" where it is not 0. */
static adamd_status read_last(adamd_client *client, const char *name, const char *what,
                              unsigned last, char **json, size_t *length, adamd_error *error)
{
    char rest[64];
    (void)snprintf(rest, sizeof rest, "/%s", what);
    if (last > 0) {
        (void)snprintf(rest, sizeof rest, "/%s?last=%u", what, last);
    }
    return read_text(client, name, rest, json, length, error);
}

adamd_status adamd_history(adamd_client *client, const char *name, unsigned last, char **json,
                           size_t *length, adamd_error *error)
{
    return read_last(client, name, "history", last, json, length, error);
}

adamd_status adamd_changes(adamd_client *client, const char *name, unsigned last, char **json,
                           size_t *length, adamd_error *error)
{
    return read_last(client, name, "changes", last, json, length, error);
}

adamd_status adamd_workers(adamd_client *client, const char *name, char **json, size_t *length,
                           adamd_error *error)
{
    return read_text(client, name, "/workers", json, length, error);
}

adamd_status adamd_round(adamd_client *client, const char *name, char **json, size_t *length,
                         adamd_error *error)
{
    return read_text(client, name, "/round", json, length, error);
}
