/* exchange.c: an optimizer's files from and to the server, as they are, without reading them. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

static adamd_status bad_argument(adamd_error *error, const char *what)
{
    return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT, "expected %s", what);
}

/* The body of a reply goes into a file as it comes. */
typedef struct saving {
    adamdc_output out;
    adamdc_transfer *transfer;
} saving;

static adamd_status on_bytes(void *context, const char *bytes, size_t length, adamd_error *error)
{
    saving *save = context;
    adamd_status status = ADAMD_OK;
    if (save->transfer->received == 0) { /* another try begins the file anew */
        status = adamdc_output_rewind(&save->out, error);
    }
    return status == ADAMD_OK ? adamdc_output_write(&save->out, bytes, length, error) : status;
}

static adamd_status save_file(adamd_client *client, const char *path_on_server, const char *path,
                              adamd_error *error)
{
    static const char *const headers[] = {"Accept: " ADAMDC_SAFETENSORS, NULL};
    saving save;
    adamd_status status = adamdc_output_begin(&save.out, path, error);
    if (status != ADAMD_OK) {
        return status;
    }
    adamdc_transfer transfer = {.client = client,
                                .method = "GET",
                                .path = path_on_server,
                                .headers = headers,
                                .sink = on_bytes,
                                .sink_context = &save};
    save.transfer = &transfer;
    adamdc_call call = {.repeats = true};
    status = adamdc_call_run(&transfer, &call, NULL, error);
    return adamdc_output_end(&save.out, status, error);
}

static adamd_status send_bytes(adamd_client *client, const char *path, const void *bytes,
                               size_t length, adamd_error *error)
{
    static const char *const headers[] = {"Content-Type: " ADAMDC_SAFETENSORS, NULL};
    adamdc_piece piece = {bytes, length};
    adamdc_transfer transfer = {.client = client,
                                .method = "PUT",
                                .path = path,
                                .headers = headers,
                                .has_body = true,
                                .pieces = &piece,
                                .n_pieces = 1,
                                .body_bytes = length};
    adamdc_call call = {0};
    return adamdc_call_run(&transfer, &call, NULL, error);
}

static adamd_status load_file(adamd_client *client, const char *path_on_server, const char *path,
                              adamd_error *error)
{
    adamdc_mapping mapping;
    adamd_status status = adamdc_map(path, &mapping, error);
    if (status == ADAMD_OK) {
        status = send_bytes(client, path_on_server, mapping.bytes, mapping.length, error);
        adamdc_unmap(&mapping);
    }
    return status;
}

/* "/state_dict?load=everything" */
static adamd_status load_path(const adamd_client *client, const char *name, const char *load,
                              char path[ADAMDC_MAX_PATH], adamd_error *error)
{
    if (load == NULL || (strcmp(load, "everything") != 0 && strcmp(load, "params") != 0)) {
        return bad_argument(error, "load \"everything\" or \"params\"");
    }
    char rest[64];
    (void)snprintf(rest, sizeof rest, "/state_dict?load=%s", load);
    return adamdc_path(client, name, rest, path, error);
}

adamd_status adamd_save_params(adamd_client *client, const char *name, const char *dtype,
                               const char *path, adamd_error *error)
{
    char on_server[ADAMDC_MAX_PATH];
    char rest[64] = "/params";
    if (dtype != NULL && strlen(dtype) > 8) {
        return bad_argument(error, "dtype \"f32\", \"f64\", \"bf16\", \"f16\" or NULL");
    }
    if (dtype != NULL) {
        (void)snprintf(rest, sizeof rest, "/params?dtype=%s", dtype);
    }
    adamd_status status = adamdc_path(client, name, rest, on_server, error);
    return status == ADAMD_OK ? save_file(client, on_server, path, error) : status;
}

/* Without the file's metadata, which may be another program's. */
adamd_status adamd_load_params(adamd_client *client, const char *name, const char *path,
                               adamd_error *error)
{
    size_t n = 0;
    adamd_file *file = NULL;
    adamd_status status = adamd_file_open(path, &file, error);
    if (status == ADAMD_OK) {
        const adamd_tensor *tensors = adamd_file_tensors(file, &n);
        status = adamd_put_params(client, name, tensors, n, error);
        adamd_file_close(file);
    }
    return status;
}

adamd_status adamd_save_state_dict(adamd_client *client, const char *name, const char *path,
                                   adamd_error *error)
{
    char on_server[ADAMDC_MAX_PATH];
    adamd_status status = adamdc_path(client, name, "/state_dict", on_server, error);
    return status == ADAMD_OK ? save_file(client, on_server, path, error) : status;
}

adamd_status adamd_load_state_dict(adamd_client *client, const char *name, const char *load,
                                   const char *path, adamd_error *error)
{
    char on_server[ADAMDC_MAX_PATH];
    adamd_status status = load_path(client, name, load, on_server, error);
    return status == ADAMD_OK ? load_file(client, on_server, path, error) : status;
}

adamd_status adamd_get_state_dict(adamd_client *client, const char *name, unsigned char **bytes,
                                  size_t *length, adamd_error *error)
{
    static const char *const headers[] = {"Accept: " ADAMDC_SAFETENSORS, NULL};
    char path[ADAMDC_MAX_PATH];
    *bytes = NULL;
    *length = 0;
    adamd_status status = adamdc_path(client, name, "/state_dict", path, error);
    if (status != ADAMD_OK) {
        return status;
    }
    adamdc_buffer body = {.limit = client->options.max_reply};
    adamdc_transfer transfer = {
        .client = client, .method = "GET", .path = path, .headers = headers, .body = &body};
    adamdc_call call = {.repeats = true};
    status = adamdc_call_run(&transfer, &call, NULL, error);
    if (status != ADAMD_OK) {
        adamdc_buffer_free(&body);
        return status;
    }
    *bytes = (unsigned char *)body.data;
    *length = body.length;
    return ADAMD_OK;
}

adamd_status adamd_put_state_dict(adamd_client *client, const char *name, const char *load,
                                  const void *bytes, size_t length, adamd_error *error)
{
    char path[ADAMDC_MAX_PATH];
    adamd_status status = load_path(client, name, load, path, error);
    if (status == ADAMD_OK && bytes == NULL) {
        status = bad_argument(error, "the bytes of a state_dict");
    }
    return status == ADAMD_OK ? send_bytes(client, path, bytes, length, error) : status;
}
