/* optimizer.c: the calls that carry parameters: tensors into a request, a reply into tensors. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

adamd_status adamd_create(adamd_client *client, const char *name, const char *optimizer_json,
                          const adamd_tensor *params, size_t n, adamd_error *error)
{
    char path[ADAMDC_MAX_PATH];
    adamd_status status = adamdc_path(client, name, "", path, error);
    if (status != ADAMD_OK) {
        return status;
    }
    static const char *const headers[] = {"Content-Type: " ADAMDC_SAFETENSORS,
                                          "Accept: application/json", NULL};
    adamd_metadata metadata = {"optimizer", optimizer_json};
    adamdc_transfer transfer = {
        .client = client, .method = "PUT", .path = path, .headers = headers};
    adamdc_call call = {.sends = true,
                        .send = params,
                        .n_send = n,
                        .metadata = &metadata,
                        .n_metadata = optimizer_json != NULL};
    status = adamdc_call_run(&transfer, &call, NULL, error);
    return status == ADAMD_OK ? adamdc_check_json(&client->reply, "PUT", path, error) : status;
}

/* Runs a transfer that receives all parameters. */
static adamd_status receive_params(adamdc_transfer *transfer, const adamdc_call *call,
                                   bool *changed, uint64_t *step, adamd_error *error)
{
    adamdc_outcome outcome = {0};
    adamd_status status = adamdc_call_run(transfer, call, &outcome, error);
    *changed = status == ADAMD_OK && outcome.status != 304;
    if (*changed && !outcome.stats.has_step) {
        status = adamdc_error_set(error, ADAMD_BAD_REPLY, "the reply's metadata has no step");
    }
    if (status == ADAMD_OK && *changed && step != NULL) {
        *step = outcome.stats.step;
    }
    return status;
}

adamd_status adamd_get_params(adamd_client *client, const char *name, const adamd_tensor *params,
                              size_t n, uint64_t *step, adamd_error *error)
{
    char path[ADAMDC_MAX_PATH];
    adamd_status status =
        adamdc_receiving_path(client, name, "/params", NULL, params, n, path, error);
    if (status != ADAMD_OK) {
        return status;
    }
    static const char *const headers[] = {"Accept: " ADAMDC_SAFETENSORS, NULL};
    bool changed = false;
    adamdc_transfer transfer = {
        .client = client, .method = "GET", .path = path, .headers = headers};
    adamdc_call call = {.receives = true, .repeats = true, .into = params, .n_into = n};
    return receive_params(&transfer, &call, &changed, step, error);
}

adamd_status adamd_get_param(adamd_client *client, const char *name, const char *dtype,
                             const adamd_tensor *param, adamd_error *error)
{
    static const char *const headers[] = {"Accept: " ADAMDC_SAFETENSORS, NULL};
    if (param == NULL) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT, "adamd_get_param without a tensor");
    }
    dtype = dtype != NULL                    ? dtype
            : param->dtype == ADAMD_BFLOAT16 ? "bf16"
            : param->dtype == ADAMD_FLOAT16  ? "f16"
                                             : "";
    char query[24];
    (void)snprintf(query, sizeof query, dtype[0] != '\0' ? "?dtype=%s" : "%s", dtype);
    char path[ADAMDC_LONG_PATH];
    adamd_status status =
        adamdc_path_with(client, name, "/params/", param->name, query, path, error);
    if (status != ADAMD_OK) {
        return status;
    }
    adamdc_transfer transfer = {
        .client = client, .method = "GET", .path = path, .headers = headers};
    adamdc_call call = {.receives = true, .repeats = true, .into = param, .n_into = 1};
    return adamdc_call_run(&transfer, &call, NULL, error);
}

adamd_status adamd_wait_params(adamd_client *client, const char *name, const char *etag,
                               unsigned seconds, const adamd_tensor *params, size_t n,
                               bool *changed, uint64_t *step, adamd_error *error)
{
    bool ignored = false;
    char path[ADAMDC_MAX_PATH];
    char line[ADAMD_MAX_ETAG + 32];
    changed = changed != NULL ? changed : &ignored;
    *changed = false;
    if (seconds > 300 || (etag != NULL && strlen(etag) >= ADAMD_MAX_ETAG)) {
        return adamdc_error_set(
            error, ADAMD_INVALID_ARGUMENT,
            "adamd_wait_params: expected at most 300 seconds, and an ETag or NULL");
    }
    adamd_status status =
        adamdc_receiving_path(client, name, "/params", NULL, params, n, path, error);
    if (status != ADAMD_OK) {
        return status;
    }
    size_t used = strlen(path);
    if (seconds > 0) {
        (void)snprintf(path + used, sizeof path - used, "%cwait=%u",
                       strchr(path, '?') == NULL ? '?' : '&', seconds);
    }
    (void)snprintf(line, sizeof line, "If-None-Match: %s", etag != NULL ? etag : "");
    const char *headers[] = {"Accept: " ADAMDC_SAFETENSORS, etag != NULL ? line : NULL, NULL};
    adamdc_transfer transfer = {
        .client = client, .method = "GET", .path = path, .headers = headers, .patience_s = seconds};
    adamdc_call call = {
        .receives = true, .repeats = true, .not_modified = true, .into = params, .n_into = n};
    return receive_params(&transfer, &call, changed, step, error);
}

adamd_status adamd_put_params(adamd_client *client, const char *name, const adamd_tensor *params,
                              size_t n, adamd_error *error)
{
    char path[ADAMDC_MAX_PATH];
    adamd_status status = adamdc_path(client, name, "/params", path, error);
    if (status != ADAMD_OK) {
        return status;
    }
    static const char *const headers[] = {"Content-Type: " ADAMDC_SAFETENSORS, NULL};
    adamdc_transfer transfer = {
        .client = client, .method = "PUT", .path = path, .headers = headers};
    adamdc_call call = {.sends = true, .send = params, .n_send = n};
    return adamdc_call_run(&transfer, &call, NULL, error);
}
