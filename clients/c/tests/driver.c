/* driver.c: the driver of clients/conformance for this client: a call as a line of JSON in, what it
 * gave as a line of JSON out. */
#include "driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double option(const cJSON *options, const char *name, double otherwise)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(options, name);
    return cJSON_IsNumber(value) ? value->valuedouble : otherwise;
}

static adamd_status open_client(call *c)
{
    adamd_client_options options = {
        .stall_timeout_s = (unsigned)((option(c->options, "timeout_ms", 0) + 999) / 1000),
        .timeout_ms = (unsigned)option(c->options, "deadline_ms", 0)};
    int retries = (int)option(c->options, "retries", 8);
    options.max_retries = retries == 0 ? -1 : retries;
    adamd_close(c->client);
    c->client = NULL;
    const char *url = cJSON_GetStringValue(cJSON_GetObjectItem(c->options, "url"));
    return adamd_open(url, &options, &c->client, &c->error);
}

static cJSON *error_object(const call *c, adamd_status status)
{
    cJSON *error = cJSON_CreateObject();
    const adamd_error *e = &c->error;
    cJSON *members = cJSON_Parse(e->body);
    bool problem = status == ADAMD_REFUSED && e->type[0] != '\0' && members != NULL;
    const char *kind = problem                     ? "problem"
                       : status == ADAMD_REFUSED   ? "status"
                       : status == ADAMD_TRANSPORT ? "connection"
                                                   : "protocol";
    (void)cJSON_AddStringToObject(error, "kind", kind);
    (void)cJSON_AddStringToObject(error, "message", e->message);
    (void)cJSON_AddNumberToObject(error, "status", (double)e->http_status);
    (void)cJSON_AddStringToObject(error, "etag", adamd_last_etag(c->client));
    if (e->retry_after >= 0) {
        (void)cJSON_AddNumberToObject(error, "retry_after", (double)e->retry_after);
    }
    if (problem) {
        char title[256];
        (void)adamd_error_member(e, "title", title, sizeof title);
        (void)cJSON_AddStringToObject(error, "type", e->type);
        (void)cJSON_AddStringToObject(error, "code", adamd_error_code(e));
        (void)cJSON_AddStringToObject(error, "title", title);
        (void)cJSON_AddStringToObject(error, "detail", e->detail);
        (void)cJSON_AddItemToObject(error, "members", members);
    } else {
        cJSON_Delete(members);
    }
    return error;
}

static void answer(call *c)
{
    cJSON *reply = cJSON_CreateObject();
    adamd_status status = ADAMD_OK;
    const char *op = cJSON_GetStringValue(cJSON_GetObjectItem(c->message, "op"));
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(c->message, "optimizer"));
    bool known = true;
    c->options = cJSON_GetObjectItem(c->message, "options");
    c->name = name != NULL ? name : "";
    c->ok = cJSON_CreateObject();
    c->error = (adamd_error){0};
    if (strcmp(op, "client") == 0) {
        status = open_client(c);
    } else {
        known = run_op(c, op, &status);
    }
    if (!known) {
        (void)cJSON_AddStringToObject(reply, "unknown", op);
    } else if (status != ADAMD_OK) {
        (void)cJSON_AddItemToObject(reply, "error", error_object(c, status));
    } else {
        (void)cJSON_AddItemToObject(reply, "ok", c->ok);
        c->ok = NULL;
    }
    cJSON_Delete(c->ok);
    char *text = cJSON_PrintUnformatted(reply);
    (void)puts(text);
    (void)fflush(stdout);
    cJSON_free(text);
    cJSON_Delete(reply);
}

int main(void)
{
    static call c;
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        cJSON *message = cJSON_Parse(line);
        c.message = message;
        c.line = line;
        answer(&c);
        cJSON_Delete(message);
    }
    adamd_close(c.client);
    free(line);
    return EXIT_SUCCESS;
}
