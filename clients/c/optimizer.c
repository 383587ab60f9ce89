/* optimizer.c: the calls on optimizers: tensors into a request, a reply into tensors. */
#include "internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* "/v1/optimizers/{name}{rest}" */
static adamd_status make_path(const adamd_client *client, const char *name, const char *rest,
                              char path[ADAMDC_MAX_PATH], adamd_error *error)
{
    if (client == NULL || name == NULL || *name == '\0') {
        (void)adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                               "expected a client and the name of an optimizer");
        return ADAMD_INVALID_ARGUMENT;
    }
    (void)snprintf(path, ADAMDC_MAX_PATH, "/v1/optimizers/");
    if (!adamd_path_append(path, ADAMDC_MAX_PATH - strlen(rest), name)) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "optimizer name of %zu bytes, expected at most 128", strlen(name));
    }
    (void)snprintf(path + strlen(path), ADAMDC_MAX_PATH - strlen(path), "%s", rest);
    return ADAMD_OK;
}

adamd_status adamd_create(adamd_client *client, const char *name, const char *optimizer_json,
                          const adamd_tensor *params, size_t n, adamd_error *error)
{
    char path[ADAMDC_MAX_PATH];
    adamd_status status = make_path(client, name, "", path, error);
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
    return adamdc_call_run(&transfer, &call, NULL, error);
}

static bool take_text(adamdc_json *at, const char *text)
{
    size_t n = strlen(text);
    bool there = (size_t)(at->end - at->at) >= n && memcmp(at->at, text, n) == 0;
    at->at += there ? n : 0;
    return there;
}

/* "e<epoch>-s<step>", in its quotes. */
static bool parse_etag(const char *etag, uint64_t *epoch, uint64_t *step)
{
    adamdc_json at = {.start = etag, .at = etag, .end = etag + strlen(etag)};
    return take_text(&at, "\"e") && adamdc_json_uint64(&at, epoch) && take_text(&at, "-s") &&
           adamdc_json_uint64(&at, step) && take_text(&at, "\"") && at.at == at.end;
}

static adamd_status fill_result(const adamdc_outcome *outcome, bool minimal, adamd_result *result,
                                adamd_error *error)
{
    const adamdc_stats *stats = &outcome->stats;
    adamd_result filled = {.grad_norm = stats->grad_norm,
                           .param_norm = stats->param_norm,
                           .update_norm = stats->update_norm,
                           .clip_coef = stats->clip_coef,
                           .skipped = stats->skipped,
                           .converted = stats->converted,
                           .pending = outcome->status == 202 && minimal ? 1 : stats->pending,
                           .replayed = outcome->replayed};
    if (!parse_etag(outcome->etag, &filled.epoch, &filled.step)) {
        return adamdc_error_set(error, ADAMD_BAD_REPLY,
                                "ETag '%s' of the reply, expected \"e<epoch>-s<step>\"",
                                outcome->etag);
    }
    if (minimal) {
        filled.grad_norm = filled.param_norm = filled.update_norm = filled.clip_coef = NAN;
    } else if (!stats->has_step || (stats->step != filled.step && !outcome->replayed)) {
        return adamdc_error_set(error, ADAMD_BAD_REPLY,
                                "step %" PRIu64 " in the reply's metadata, %" PRIu64 " in its ETag",
                                stats->step, filled.step);
    } else {
        filled.step = stats->step;
    }
    memcpy(filled.etag, outcome->etag, sizeof filled.etag);
    if (result != NULL) {
        *result = filled;
    }
    return ADAMD_OK;
}

/* What is appended to a path for parameters in the types of `into`: nothing where these are the
 * parameters' own, NULL where they are neither that nor one 16-bit type. */
static const char *dtype_query(const adamd_tensor *into, size_t n)
{
    size_t halves[2] = {0};
    for (size_t i = 0; i < n && into != NULL; i++) {
        halves[0] += into[i].dtype == ADAMD_BFLOAT16;
        halves[1] += into[i].dtype == ADAMD_FLOAT16;
    }
    if (halves[0] + halves[1] == 0) {
        return "";
    }
    return halves[0] == n ? "?dtype=bf16" : halves[1] == n ? "?dtype=f16" : NULL;
}

/* The path of a call that receives parameters. */
static adamd_status make_receiving_path(const adamd_client *client, const char *name,
                                        const char *rest, const adamd_tensor *into, size_t n,
                                        char path[ADAMDC_MAX_PATH], adamd_error *error)
{
    char whole[32];
    const char *query = dtype_query(into, n);
    if (query == NULL) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "tensors to receive: expected the parameters' own dtypes, or all "
                                "bfloat16, or all float16");
    }
    (void)snprintf(whole, sizeof whole, "%s%s", rest, query);
    return make_path(client, name, whole, path, error);
}

adamd_status adamd_step(adamd_client *client, const char *name, const adamd_tensor *grads, size_t n,
                        const adamd_tensor *params_out, const adamd_step_options *options,
                        adamd_result *result, adamd_error *error)
{
    static const adamd_step_options no_options;
    options = options != NULL ? options : &no_options;
    char path[ADAMDC_MAX_PATH];
    char into_path[ADAMDC_MAX_PATH];
    adamdc_step_headers headers;
    const adamd_tensor *into = options->minimal ? NULL : params_out;
    adamd_status status = make_receiving_path(client, name, "/step", into, n, path, error);
    status = status == ADAMD_OK
                 ? make_receiving_path(client, name, "/params", into, n, into_path, error)
                 : status;
    if (status == ADAMD_OK && (grads == NULL || (params_out == NULL && !options->minimal))) {
        status = adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                  "adamd_step: expected gradients, and params_out or minimal");
    }
    status =
        status == ADAMD_OK ? adamdc_step_headers_make(client, options, &headers, error) : status;
    if (status != ADAMD_OK) {
        return status;
    }
    adamdc_step_metadata metadata;
    adamdc_step_metadata_make(client, options, &metadata);
    adamdc_outcome outcome = {0};
    adamdc_transfer transfer = {
        .client = client, .method = "POST", .path = path, .headers = headers.lines};
    adamdc_call call = {.sends = true,
                        .receives = !options->minimal,
                        .repeats = true,
                        .others = true,
                        .send = grads,
                        .n_send = n,
                        .metadata = metadata.members,
                        .n_metadata = metadata.n,
                        .into = params_out,
                        .n_into = n,
                        .into_path = into_path};
    status = adamdc_call_run(&transfer, &call, &outcome, error);
    return status == ADAMD_OK ? fill_result(&outcome, options->minimal, result, error) : status;
}

adamd_status adamd_get_params(adamd_client *client, const char *name, const adamd_tensor *params,
                              size_t n, uint64_t *step, adamd_error *error)
{
    char path[ADAMDC_MAX_PATH];
    adamd_status status = make_receiving_path(client, name, "/params", params, n, path, error);
    if (status != ADAMD_OK) {
        return status;
    }
    static const char *const headers[] = {"Accept: " ADAMDC_SAFETENSORS, NULL};
    adamdc_outcome outcome = {0};
    adamdc_transfer transfer = {
        .client = client, .method = "GET", .path = path, .headers = headers};
    adamdc_call call = {.receives = true, .repeats = true, .into = params, .n_into = n};
    status = adamdc_call_run(&transfer, &call, &outcome, error);
    if (status == ADAMD_OK && !outcome.stats.has_step) {
        status = adamdc_error_set(error, ADAMD_BAD_REPLY, "the reply's metadata has no step");
    }
    if (status == ADAMD_OK && step != NULL) {
        *step = outcome.stats.step;
    }
    return status;
}

adamd_status adamd_put_params(adamd_client *client, const char *name, const adamd_tensor *params,
                              size_t n, adamd_error *error)
{
    char path[ADAMDC_MAX_PATH];
    adamd_status status = make_path(client, name, "/params", path, error);
    if (status != ADAMD_OK) {
        return status;
    }
    static const char *const headers[] = {"Content-Type: " ADAMDC_SAFETENSORS, NULL};
    adamdc_transfer transfer = {
        .client = client, .method = "PUT", .path = path, .headers = headers};
    adamdc_call call = {.sends = true, .send = params, .n_send = n};
    return adamdc_call_run(&transfer, &call, NULL, error);
}

adamd_status adamd_param_groups(adamd_client *client, const char *name, const char *data,
                                char **json, size_t *length, adamd_error *error)
{
    if (json == NULL) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "adamd_param_groups without a place for the text");
    }
    *json = NULL;
    const char *rest = "/param_groups";
    if (data != NULL) {
        rest = strcmp(data, "all") == 0    ? "/param_groups?data=all"
               : strcmp(data, "none") == 0 ? "/param_groups?data=none"
                                           : NULL;
    }
    if (rest == NULL) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "data '%.64s', expected \"all\", \"none\" or NULL", data);
    }
    char path[ADAMDC_MAX_PATH];
    adamd_status status = make_path(client, name, rest, path, error);
    if (status != ADAMD_OK) {
        return status;
    }
    static const char *const headers[] = {"Accept: application/json", NULL};
    adamdc_buffer text = {.limit = client->options.max_reply};
    adamdc_transfer transfer = {
        .client = client, .method = "GET", .path = path, .headers = headers, .body = &text};
    adamdc_call call = {.repeats = true};
    status = adamdc_call_run(&transfer, &call, NULL, error);
    if (status == ADAMD_OK && text.length == 0) {
        status = adamdc_error_set(error, ADAMD_BAD_REPLY, "GET %s: an empty reply", path);
    }
    if (status != ADAMD_OK) {
        adamdc_buffer_free(&text);
        return status;
    }
    *json = text.data;
    if (length != NULL) {
        *length = text.length;
    }
    return ADAMD_OK;
}

adamd_status adamd_delete(adamd_client *client, const char *name, adamd_error *error)
{
    char path[ADAMDC_MAX_PATH];
    adamd_status status = make_path(client, name, "", path, error);
    if (status != ADAMD_OK) {
        return status;
    }
    adamdc_transfer transfer = {.client = client, .method = "DELETE", .path = path};
    adamdc_call call = {0};
    return adamdc_call_run(&transfer, &call, NULL, error);
}
