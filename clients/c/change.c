/* change.c: the calls that change an optimizer by JSON, or remove what it has. Sent once each. */
#include "internal.h"

#include <inttypes.h>
#include <stdio.h>

/* METHOD /v1/optimizers/{name}{rest} with a body, which may be NULL. */
static adamd_status change(adamd_client *client, const char *method, const char *name,
                           const char *rest, const char *body, char **json, size_t *length,
                           adamd_error *error)
{
    char path[ADAMDC_MAX_PATH];
    if (json != NULL) {
        *json = NULL;
    }
    adamd_status status = adamdc_path(client, name, rest, path, error);
    return status == ADAMD_OK ? adamdc_text(client, method, path, body, json, length, error)
                              : status;
}

static adamd_status no_text(const char *what, char **json, adamd_error *error)
{
    if (json != NULL) {
        *json = NULL;
    }
    return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT, "expected %s", what);
}

adamd_status adamd_create_json(adamd_client *client, const char *name, const char *optimizer_json,
                               char **json, size_t *length, adamd_error *error)
{
    return optimizer_json == NULL
               ? no_text("the optimizer as JSON", json, error)
               : change(client, "PUT", name, "", optimizer_json, json, length, error);
}

adamd_status adamd_configure(adamd_client *client, const char *name, const char *settings_json,
                             char **json, size_t *length, adamd_error *error)
{
    return settings_json == NULL
               ? no_text("settings as JSON", json, error)
               : change(client, "PATCH", name, "", settings_json, json, length, error);
}

adamd_status adamd_add_param_group(adamd_client *client, const char *name, const char *group_json,
                                   const adamd_tensor *params, size_t n, adamd_error *error)
{
    if (params == NULL) {
        return group_json == NULL
                   ? no_text("a group as JSON, or parameters", NULL, error)
                   : change(client, "POST", name, "/param_groups", group_json, NULL, NULL, error);
    }
    static const char *const headers[] = {"Content-Type: " ADAMDC_SAFETENSORS,
                                          "Accept: application/json", NULL};
    char path[ADAMDC_MAX_PATH];
    adamd_status status = adamdc_path(client, name, "/param_groups", path, error);
    if (status != ADAMD_OK) {
        return status;
    }
    adamd_metadata metadata = {"param_group", group_json};
    adamdc_transfer transfer = {
        .client = client, .method = "POST", .path = path, .headers = headers};
    adamdc_call call = {.sends = true,
                        .send = params,
                        .n_send = n,
                        .metadata = &metadata,
                        .n_metadata = group_json != NULL};
    return adamdc_call_run(&transfer, &call, NULL, error);
}

adamd_status adamd_patch_param_group(adamd_client *client, const char *name, unsigned index,
                                     const char *changes_json, char **json, size_t *length,
                                     adamd_error *error)
{
    char rest[48];
    (void)snprintf(rest, sizeof rest, "/param_groups/%u", index);
    return changes_json == NULL
               ? no_text("changes as JSON", json, error)
               : change(client, "PATCH", name, rest, changes_json, json, length, error);
}

adamd_status adamd_remove_worker(adamd_client *client, const char *name, const char *worker,
                                 adamd_error *error)
{
    char path[ADAMDC_LONG_PATH];
    adamd_status status = adamdc_path_with(client, name, "/workers/", worker, "", path, error);
    return status == ADAMD_OK ? adamdc_text(client, "DELETE", path, NULL, NULL, NULL, error)
                              : status;
}

adamd_status adamd_drop_round(adamd_client *client, const char *name, adamd_error *error)
{
    return change(client, "DELETE", name, "/round", NULL, NULL, NULL, error);
}

adamd_status adamd_delete(adamd_client *client, const char *name, adamd_error *error)
{
    return change(client, "DELETE", name, "", NULL, NULL, NULL, error);
}

adamd_status adamd_snapshot(adamd_client *client, const char *name, char **json, size_t *length,
                            adamd_error *error)
{
    return change(client, "POST", name, "/snapshot", NULL, json, length, error);
}

adamd_status adamd_rollback(adamd_client *client, const char *name, uint64_t step, char **json,
                            size_t *length, adamd_error *error)
{
    char body[48];
    (void)snprintf(body, sizeof body, "{\"step\": %" PRIu64 "}", step);
    return change(client, "POST", name, "/rollback", body, json, length, error);
}

adamd_status adamd_fork(adamd_client *client, const char *name, const char *new_name,
                        const uint64_t *step, char **json, size_t *length, adamd_error *error)
{
    if (new_name == NULL) {
        return no_text("a name for the fork", json, error);
    }
    char number[48] = "}";
    if (step != NULL) {
        (void)snprintf(number, sizeof number, ", \"step\": %" PRIu64 "}", *step);
    }
    adamdc_buffer body = {.limit = 4096};
    adamd_status status = adamdc_buffer_puts(&body, "{\"name\": ");
    status = status == ADAMD_OK ? adamdc_json_quote(&body, new_name) : status;
    status = status == ADAMD_OK ? adamdc_buffer_puts(&body, number) : status;
    status = status == ADAMD_OK
                 ? change(client, "POST", name, "/fork", body.data, json, length, error)
                 : no_text("a shorter name for the fork", json, error);
    adamdc_buffer_free(&body);
    return status;
}
