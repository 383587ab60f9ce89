/* optimizer.c: the calls on optimizers: tensors into a request, a reply into tensors. */
#include "internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PATH 1024

/* "/v1/optimizers/{name}{rest}" */
static adamd_status make_path(const adamd_client *client, const char *name, const char *rest,
                              char path[MAX_PATH], adamd_error *error)
{
    if (client == NULL || name == NULL || *name == '\0') {
        (void)adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                               "expected a client and the name of an optimizer");
        return ADAMD_INVALID_ARGUMENT;
    }
    (void)snprintf(path, MAX_PATH, "/v1/optimizers/");
    if (!adamd_path_append(path, MAX_PATH - strlen(rest), name)) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "optimizer name of %zu bytes, expected at most 128", strlen(name));
    }
    (void)snprintf(path + strlen(path), MAX_PATH - strlen(path), "%s", rest);
    return ADAMD_OK;
}

/* The pieces of a body: the header, then the data in the order that the header gave it. */
static adamd_status make_pieces(const adamdc_buffer *header, const adamd_tensor *tensors, size_t n,
                                adamdc_piece **pieces, adamd_error *error)
{
    *pieces = malloc((n + 1) * sizeof **pieces);
    if (*pieces == NULL) {
        return adamdc_error_no_memory(error, (n + 1) * sizeof **pieces);
    }
    size_t count = 0;
    (*pieces)[count++] = (adamdc_piece){header->data, header->length};
    for (size_t k = 0; k < ADAMDC_N_SIZES; k++) {
        for (size_t i = 0; i < n; i++) {
            if (adamd_dtype_size(tensors[i].dtype) == ADAMDC_SIZES[k]) {
                (*pieces)[count++] =
                    (adamdc_piece){tensors[i].data, (size_t)adamdc_tensor_bytes(&tensors[i])};
            }
        }
    }
    return ADAMD_OK;
}

/* The tensors of one call: those to send and the places of those to receive. None at all is a body
 * too, so flags say whether there is one. */
typedef struct tensor_call {
    bool sends, receives;
    const adamd_tensor *send;
    size_t n_send;
    const adamd_metadata *metadata;
    size_t n_metadata;
    const adamd_tensor *into;
    size_t n_into;
    adamdc_stats *stats;
} tensor_call;

/* Any status but a success is an error; a reply with tensors must have been whole. */
static adamd_status finish(const adamdc_transfer *transfer, const adamdc_scatter *scatter,
                           adamd_error *error)
{
    if (transfer->status < 200 || transfer->status > 299) {
        char what[MAX_PATH + 64];
        (void)snprintf(what, sizeof what, "%s %s", transfer->method, transfer->path);
        const adamdc_buffer *body = transfer->body;
        return adamdc_error_refused(error, what, transfer->status,
                                    body->length > 0 ? body->data : "", body->length);
    }
    if (transfer->scatter == NULL) {
        return ADAMD_OK;
    }
    if (transfer->status != 200) {
        return adamdc_error_set(error, ADAMD_BAD_REPLY, "%s %s: status %ld, expected 200",
                                transfer->method, transfer->path, transfer->status);
    }
    return adamdc_scatter_finish(scatter, error);
}

static adamd_status run(adamdc_transfer *transfer, const tensor_call *call, adamd_error *error)
{
    adamd_client *client = transfer->client;
    adamdc_scatter scatter = {0};
    adamdc_piece *pieces = NULL;
    uint64_t data_bytes = 0;
    adamd_status status = ADAMD_OK;
    if (call->sends) {
        status = adamdc_tensors_check("tensors to send", call->send, call->n_send, error);
        status =
            status == ADAMD_OK
                ? adamdc_safetensors_header(&client->out_header, call->send, call->n_send,
                                            call->metadata, call->n_metadata, &data_bytes, error)
                : status;
        status = status == ADAMD_OK
                     ? make_pieces(&client->out_header, call->send, call->n_send, &pieces, error)
                     : status;
        transfer->has_body = true;
        transfer->pieces = pieces;
        transfer->n_pieces = call->n_send + 1;
        transfer->body_bytes = client->out_header.length + data_bytes;
    }
    if (status == ADAMD_OK && call->receives) {
        status = adamdc_tensors_check("tensors to receive", call->into, call->n_into, error);
        status = status == ADAMD_OK ? adamdc_scatter_begin(&scatter, call->into, call->n_into,
                                                           client->c_locale, error)
                                    : status;
        transfer->scatter = &scatter;
    }
    transfer->body = transfer->body != NULL ? transfer->body : &client->reply;
    status = status == ADAMD_OK ? adamdc_transfer_run(transfer, error) : status;
    status = status == ADAMD_OK ? finish(transfer, &scatter, error) : status;
    if (call->stats != NULL) {
        *call->stats = scatter.stats;
    }
    transfer->scatter = NULL;
    free(pieces);
    adamdc_scatter_end(&scatter);
    return status;
}

adamd_status adamd_create(adamd_client *client, const char *name, const char *optimizer_json,
                          const adamd_tensor *params, size_t n, adamd_error *error)
{
    char path[MAX_PATH];
    adamd_status status = make_path(client, name, "", path, error);
    if (status != ADAMD_OK) {
        return status;
    }
    static const char *const headers[] = {"Content-Type: " ADAMDC_SAFETENSORS,
                                          "Accept: application/json", NULL};
    adamd_metadata metadata = {"optimizer", optimizer_json};
    adamdc_transfer transfer = {
        .client = client, .method = "PUT", .path = path, .headers = headers};
    tensor_call call = {.sends = true,
                        .send = params,
                        .n_send = n,
                        .metadata = &metadata,
                        .n_metadata = optimizer_json != NULL};
    return run(&transfer, &call, error);
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

static adamd_status fill_result(const adamd_client *client, const adamdc_stats *stats, bool minimal,
                                adamd_result *result, adamd_error *error)
{
    adamd_result filled = {.grad_norm = stats->grad_norm,
                           .param_norm = stats->param_norm,
                           .update_norm = stats->update_norm,
                           .clip_coef = stats->clip_coef,
                           .skipped = stats->skipped,
                           .converted = stats->converted};
    if (!parse_etag(client->etag, &filled.epoch, &filled.step)) {
        return adamdc_error_set(error, ADAMD_BAD_REPLY,
                                "ETag '%s' of the reply, expected \"e<epoch>-s<step>\"",
                                client->etag);
    }
    if (minimal) {
        filled.grad_norm = filled.param_norm = filled.update_norm = filled.clip_coef = NAN;
    } else if (!stats->has_step || stats->step != filled.step) {
        return adamdc_error_set(error, ADAMD_BAD_REPLY,
                                "step %" PRIu64 " in the reply's metadata, %" PRIu64 " in its ETag",
                                stats->step, filled.step);
    }
    memcpy(filled.etag, client->etag, sizeof filled.etag);
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
                                        char path[MAX_PATH], adamd_error *error)
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
    char path[MAX_PATH];
    adamdc_step_headers headers;
    const adamd_tensor *into = options->minimal ? NULL : params_out;
    adamd_status status = make_receiving_path(client, name, "/step", into, n, path, error);
    if (status == ADAMD_OK && (grads == NULL || (params_out == NULL && !options->minimal))) {
        status = adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                  "adamd_step: expected gradients, and params_out or minimal");
    }
    status = status == ADAMD_OK ? adamdc_step_headers_make(options, &headers, error) : status;
    if (status != ADAMD_OK) {
        return status;
    }
    adamdc_step_metadata metadata;
    adamdc_step_metadata_make(client, options, &metadata);
    adamdc_stats stats = {0};
    adamdc_transfer transfer = {
        .client = client, .method = "POST", .path = path, .headers = headers.lines};
    tensor_call call = {.sends = true,
                        .receives = !options->minimal,
                        .send = grads,
                        .n_send = n,
                        .metadata = metadata.members,
                        .n_metadata = metadata.n,
                        .into = params_out,
                        .n_into = n,
                        .stats = &stats};
    status = run(&transfer, &call, error);
    return status == ADAMD_OK ? fill_result(client, &stats, options->minimal, result, error)
                              : status;
}

adamd_status adamd_get_params(adamd_client *client, const char *name, const adamd_tensor *params,
                              size_t n, uint64_t *step, adamd_error *error)
{
    char path[MAX_PATH];
    adamd_status status = make_receiving_path(client, name, "/params", params, n, path, error);
    if (status != ADAMD_OK) {
        return status;
    }
    static const char *const headers[] = {"Accept: " ADAMDC_SAFETENSORS, NULL};
    adamdc_stats stats = {0};
    adamdc_transfer transfer = {
        .client = client, .method = "GET", .path = path, .headers = headers};
    tensor_call call = {.receives = true, .into = params, .n_into = n, .stats = &stats};
    status = run(&transfer, &call, error);
    if (status == ADAMD_OK && !stats.has_step) {
        status = adamdc_error_set(error, ADAMD_BAD_REPLY, "the reply's metadata has no step");
    }
    if (status == ADAMD_OK && step != NULL) {
        *step = stats.step;
    }
    return status;
}

adamd_status adamd_put_params(adamd_client *client, const char *name, const adamd_tensor *params,
                              size_t n, adamd_error *error)
{
    char path[MAX_PATH];
    adamd_status status = make_path(client, name, "/params", path, error);
    if (status != ADAMD_OK) {
        return status;
    }
    static const char *const headers[] = {"Content-Type: " ADAMDC_SAFETENSORS, NULL};
    adamdc_transfer transfer = {
        .client = client, .method = "PUT", .path = path, .headers = headers};
    tensor_call call = {.sends = true, .send = params, .n_send = n};
    return run(&transfer, &call, error);
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
    char path[MAX_PATH];
    adamd_status status = make_path(client, name, rest, path, error);
    if (status != ADAMD_OK) {
        return status;
    }
    static const char *const headers[] = {"Accept: application/json", NULL};
    adamdc_buffer text = {.limit = client->options.max_reply};
    adamdc_transfer transfer = {
        .client = client, .method = "GET", .path = path, .headers = headers, .body = &text};
    tensor_call call = {0};
    status = run(&transfer, &call, error);
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
    char path[MAX_PATH];
    adamd_status status = make_path(client, name, "", path, error);
    if (status != ADAMD_OK) {
        return status;
    }
    adamdc_transfer transfer = {.client = client, .method = "DELETE", .path = path};
    tensor_call call = {0};
    return run(&transfer, &call, error);
}
