/* file.c: a safetensors file as tensors, and tensors as a file. Does no HTTP. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct member {
    char *key, *value;
} member;

struct adamd_file {
    adamdc_mapping mapping;
    unsigned char *data; /* behind the header */
    uint64_t data_bytes;
    adamd_tensor *tensors;
    size_t n;
    member *members;
    size_t n_members;
};

/* Makes room for one more of `size` bytes each; NULL where there is none. */
static void *grow(void *list, size_t n, size_t size)
{
    return (n & (n - 1)) == 0 ? realloc(list, (n > 0 ? 2 * n : 1) * size) : list;
}

static adamd_status on_metadata(void *context, const char *key, const char *value,
                                adamd_error *error)
{
    adamd_file *file = context;
    member *members = grow(file->members, file->n_members, sizeof *members);
    if (members == NULL) {
        return adamdc_error_no_memory(error, sizeof *members);
    }
    file->members = members;
    member *m = &members[file->n_members++];
    *m = (member){strdup(key), strdup(value)};
    return m->key != NULL && m->value != NULL
               ? ADAMD_OK
               : adamdc_error_no_memory(error, strlen(key) + strlen(value));
}

static adamd_status on_tensor(void *context, const adamdc_entry *entry, adamd_error *error)
{
    adamd_file *file = context;
    if (entry->end > file->data_bytes) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "tensor '%.512s' ends behind the end of the file", entry->name);
    }
    adamd_tensor *tensors = grow(file->tensors, file->n, sizeof *tensors);
    char *name = strdup(entry->name);
    if (tensors == NULL || name == NULL) {
        file->tensors = tensors != NULL ? tensors : file->tensors;
        free(name);
        return adamdc_error_no_memory(error, sizeof *tensors);
    }
    file->tensors = tensors;
    adamd_tensor *tensor = &tensors[file->n++];
    *tensor = (adamd_tensor){.name = name,
                             .dtype = entry->dtype,
                             .rank = entry->rank,
                             .data = file->data + entry->begin};
    memcpy(tensor->shape, entry->shape, sizeof tensor->shape);
    return ADAMD_OK;
}

static int by_data(const void *a, const void *b)
{
    const adamd_tensor *left = a;
    const adamd_tensor *right = b;
    if (left->data != right->data) {
        return (const char *)left->data < (const char *)right->data ? -1 : 1;
    }
    return (adamdc_tensor_bytes(left) > 0) - (adamdc_tensor_bytes(right) > 0); /* empty first */
}

/* The tensors fill the data without holes or overlaps. */
static adamd_status check_layout(const adamd_file *file, adamd_error *error)
{
    const unsigned char *at = file->data;
    for (size_t i = 0; i < file->n; i++) {
        if (file->tensors[i].data != at) {
            return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                    "tensor '%s' does not begin where the one before it ends",
                                    file->tensors[i].name);
        }
        at += adamdc_tensor_bytes(&file->tensors[i]);
    }
    return at == file->data + file->data_bytes
               ? ADAMD_OK
               : adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                  "there are bytes behind the last tensor");
}

static adamd_status read_file(adamd_file *file, adamd_error *error)
{
    const adamdc_mapping *mapping = &file->mapping;
    uint64_t header = 0;
    if (mapping->length < 8) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "%zu bytes, expected a safetensors file", mapping->length);
    }
    for (int i = 7; i >= 0; i--) {
        header = header << 8 | mapping->bytes[i];
    }
    if (header > mapping->length - 8 || header > ADAMDC_MAX_HEADER) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "no safetensors file, or cut off in its header");
    }
    file->data = mapping->bytes + 8 + header;
    file->data_bytes = mapping->length - 8 - header;
    adamdc_header_reader reader = {file, on_metadata, on_tensor};
    adamd_status status =
        adamdc_safetensors_read((const char *)mapping->bytes + 8, (size_t)header, &reader, error);
    if (status != ADAMD_OK) {
        return status;
    }
    if (file->n > 0) {
        qsort(file->tensors, file->n, sizeof *file->tensors, by_data);
    }
    return check_layout(file, error);
}

adamd_status adamd_file_open(const char *path, adamd_file **file, adamd_error *error)
{
    adamd_error why = {0};
    *file = NULL;
    adamd_file *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return adamdc_error_no_memory(error, sizeof *made);
    }
    adamd_status status = adamdc_map(path, &made->mapping, error);
    if (status == ADAMD_OK) {
        status = read_file(made, &why);
        if (status != ADAMD_OK) {
            status = status == ADAMD_BAD_REPLY ? ADAMD_INVALID_ARGUMENT : status;
            (void)adamdc_error_set(error, status, "%s: %s", path, why.message);
        }
    }
    if (status != ADAMD_OK) {
        adamd_file_close(made);
        return status;
    }
    *file = made;
    return ADAMD_OK;
}

const adamd_tensor *adamd_file_tensors(const adamd_file *file, size_t *n)
{
    static const adamd_tensor none;
    *n = file->n;
    return file->tensors != NULL ? file->tensors : &none;
}

const char *adamd_file_metadata(const adamd_file *file, const char *key)
{
    for (size_t i = 0; i < file->n_members; i++) {
        if (strcmp(file->members[i].key, key) == 0) {
            return file->members[i].value;
        }
    }
    return NULL;
}

void adamd_file_close(adamd_file *file)
{
    if (file == NULL) {
        return;
    }
    for (size_t i = 0; i < file->n; i++) {
        free((char *)file->tensors[i].name);
    }
    for (size_t i = 0; i < file->n_members; i++) {
        free(file->members[i].key);
        free(file->members[i].value);
    }
    free(file->tensors);
    free(file->members);
    adamdc_unmap(&file->mapping);
    free(file);
}

adamd_status adamd_file_write(const char *path, const adamd_tensor *tensors, size_t n,
                              const adamd_metadata *metadata, size_t n_metadata, adamd_error *error)
{
    adamdc_buffer header = {.limit = ADAMDC_MAX_HEADER + 8};
    adamdc_output out;
    uint64_t data_bytes = 0;
    adamd_status status = adamdc_tensors_check("tensors to write", tensors, n, error);
    status = status == ADAMD_OK ? adamdc_safetensors_header(&header, tensors, n, metadata,
                                                            n_metadata, &data_bytes, error)
                                : status;
    status = status == ADAMD_OK ? adamdc_output_begin(&out, path, error) : status;
    if (status != ADAMD_OK) {
        adamdc_buffer_free(&header);
        return status;
    }
    status = adamdc_output_write(&out, header.data, header.length, error);
    for (size_t k = 0; k < ADAMDC_N_SIZES; k++) {
        for (size_t i = 0; i < n && status == ADAMD_OK; i++) {
            if (adamd_dtype_size(tensors[i].dtype) == ADAMDC_SIZES[k]) {
                status = adamdc_output_write(&out, tensors[i].data,
                                             (size_t)adamdc_tensor_bytes(&tensors[i]), error);
            }
        }
    }
    adamdc_buffer_free(&header);
    return adamdc_output_end(&out, status, error);
}
