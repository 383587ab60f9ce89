/* path.c: the paths of the calls. Sends nothing. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

adamd_status adamdc_path(const adamd_client *client, const char *name, const char *rest,
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

adamd_status adamdc_receiving_path(const adamd_client *client, const char *name, const char *rest,
                                   const char *dtype, const adamd_tensor *into, size_t n,
                                   char path[ADAMDC_MAX_PATH], adamd_error *error)
{
    char whole[48];
    char asked[24] = "";
    if (dtype != NULL && strlen(dtype) > 4) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "dtype '%.32s', expected f32, f64, bf16 or f16", dtype);
    }
    (void)snprintf(asked, sizeof asked, "?dtype=%s", dtype != NULL ? dtype : "");
    const char *query = dtype != NULL ? asked : dtype_query(into, n);
    if (query == NULL) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "tensors to receive: expected the parameters' own dtypes, or all "
                                "bfloat16, or all float16");
    }
    (void)snprintf(whole, sizeof whole, "%s%s", rest, query);
    return adamdc_path(client, name, whole, path, error);
}

adamd_status adamdc_path_with(const adamd_client *client, const char *name, const char *before,
                              const char *segment, const char *after, char path[ADAMDC_LONG_PATH],
                              adamd_error *error)
{
    adamd_status status = adamdc_path(client, name, before, path, error);
    if (status != ADAMD_OK) {
        return status;
    }
    if (segment == NULL || *segment == '\0' || strlen(segment) > ADAMD_MAX_NAME) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "expected a name of 1 to %d bytes behind %s", ADAMD_MAX_NAME,
                                before);
    }
    (void)adamd_path_append(path, ADAMDC_LONG_PATH, segment);
    size_t used = strlen(path);
    (void)snprintf(path + used, ADAMDC_LONG_PATH - used, "%s", after);
    return ADAMD_OK;
}
