/* pack.c: safetensors in one piece, for tests and tools. Does no HTTP. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

adamd_status adamd_safetensors_pack(const adamd_tensor *tensors, size_t n,
                                    const adamd_metadata *metadata, size_t n_metadata,
                                    unsigned char **bytes, size_t *length, adamd_error *error)
{
    *bytes = NULL;
    *length = 0;
    adamdc_buffer out = {.limit = ADAMDC_MAX_HEADER + 8};
    uint64_t data_bytes = 0;
    adamd_status status = adamdc_tensors_check("tensors to pack", tensors, n, error);
    status = status == ADAMD_OK ? adamdc_safetensors_header(&out, tensors, n, metadata, n_metadata,
                                                            &data_bytes, error)
                                : status;
    if (status == ADAMD_OK) {
        out.limit = SIZE_MAX / 2;
        if (adamdc_buffer_reserve(&out, (size_t)data_bytes) != ADAMD_OK) {
            status = adamdc_error_no_memory(error, (size_t)data_bytes);
        }
    }
    if (status != ADAMD_OK) {
        adamdc_buffer_free(&out);
        return status;
    }
    for (size_t k = 0; k < ADAMDC_N_SIZES; k++) {
        for (size_t i = 0; i < n; i++) {
            if (adamd_dtype_size(tensors[i].dtype) == ADAMDC_SIZES[k]) {
                (void)adamdc_buffer_append(&out, tensors[i].data,
                                           (size_t)adamdc_tensor_bytes(&tensors[i]));
            }
        }
    }
    *bytes = (unsigned char *)out.data;
    *length = out.length;
    return ADAMD_OK;
}

adamd_status adamd_safetensors_unpack(const void *bytes, size_t length, const adamd_tensor *tensors,
                                      size_t n, adamd_error *error)
{
    adamdc_scatter scatter;
    adamd_status status = adamdc_tensors_check("tensors to unpack", tensors, n, error);
    if (status != ADAMD_OK) {
        return status;
    }
    locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c_locale == (locale_t)0) {
        return adamdc_error_no_memory(error, sizeof scatter);
    }
    status = adamdc_scatter_begin(&scatter, tensors, n, false, c_locale, error);
    if (status == ADAMD_OK) {
        status = adamdc_scatter_feed(&scatter, bytes, length, error);
        status = status == ADAMD_OK ? adamdc_scatter_finish(&scatter, error) : status;
        adamdc_scatter_end(&scatter);
    }
    freelocale(c_locale);
    return status;
}

/* What is looked for, and its place. */
typedef struct wanted {
    const char *key;
    char *value;
    size_t size;
    bool found;
} wanted;

static adamd_status on_metadata(void *context, const char *key, const char *value,
                                adamd_error *error)
{
    (void)error;
    wanted *want = context;
    if (strcmp(key, want->key) == 0 && strlen(value) < want->size) {
        memcpy(want->value, value, strlen(value) + 1);
        want->found = true;
    }
    return ADAMD_OK;
}

bool adamd_safetensors_metadata(const void *bytes, size_t length, const char *key, char *value,
                                size_t size)
{
    const unsigned char *at = bytes;
    uint64_t header = 0;
    if (size == 0 || length < 8) {
        return false;
    }
    value[0] = '\0';
    for (int i = 7; i >= 0; i--) {
        header = header << 8 | at[i];
    }
    wanted want = {.key = key, .value = value, .size = size};
    adamdc_header_reader reader = {.context = &want, .on_metadata = on_metadata};
    bool good =
        header <= length - 8 &&
        adamdc_safetensors_read((const char *)at + 8, (size_t)header, &reader, NULL) == ADAMD_OK;
    if (!good) {
        value[0] = '\0';
    }
    return good && want.found;
}
