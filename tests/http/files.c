/* files.c: safetensors files by hand and by the C client. */
#include "files.h"

#include <stdlib.h>
#include <string.h>

adamd_tensor vector32(const char *name, float *data, uint64_t n)
{
    return (adamd_tensor){
        .name = name, .dtype = ADAMD_FLOAT32, .rank = 1, .shape = {n}, .data = data};
}

adamd_tensor vector64(const char *name, double *data, uint64_t n)
{
    return (adamd_tensor){
        .name = name, .dtype = ADAMD_FLOAT64, .rank = 1, .shape = {n}, .data = data};
}

file file_of(const adamd_tensor *tensors, size_t n, const char *key, const char *value)
{
    file f;
    adamd_error error;
    const adamd_metadata metadata = {key, value};
    if (adamd_safetensors_pack(tensors, n, key != NULL ? &metadata : NULL, key != NULL, &f.bytes,
                               &f.length, &error) != ADAMD_OK) {
        fail_msg("%s", error.message);
    }
    return f;
}

file file_raw(uint64_t said, const char *header, const void *data, size_t data_length)
{
    const size_t header_length = strlen(header);
    file f = {.length = sizeof said + header_length + data_length};
    f.bytes = malloc(f.length);
    assert_non_null(f.bytes);
    memcpy(f.bytes, &said, sizeof said);
    memcpy(f.bytes + sizeof said, header, header_length);
    if (data_length > 0) {
        memcpy(f.bytes + sizeof said + header_length, data, data_length);
    }
    return f;
}

file file_with(const char *header, const void *data, size_t data_length)
{
    return file_raw(strlen(header), header, data, data_length);
}

void file_free(file *f)
{
    free(f->bytes);
    *f = (file){0};
}

int ask_file(peer *p, const char *method, const char *path, const char *accept, file f)
{
    return ask_tensors(p, method, path, accept, f.bytes, f.length);
}

void take_tensors(peer *p, const adamd_tensor *tensors, size_t n)
{
    adamd_error error;
    assert_status(p, 200);
    if (adamd_safetensors_unpack(p->reply.body, p->reply.length, tensors, n, &error) != ADAMD_OK) {
        fail_msg("%s: %s", p->path, error.message);
    }
}

void assert_metadata(const peer *p, const char *key, const char *value)
{
    char got[4096];
    if (!adamd_safetensors_metadata(p->reply.body, p->reply.length, key, got, sizeof got)) {
        fail_msg("%s: no __metadata__.%s", p->path, key);
    }
    assert_string_equal(got, value);
}

char *header_text(const peer *p)
{
    uint64_t length;
    assert_true(p->reply.length >= sizeof length);
    memcpy(&length, p->reply.body, sizeof length);
    assert_true(length <= p->reply.length - sizeof length);
    char *text = strndup(body_of(p) + sizeof length, length);
    assert_non_null(text);
    return text;
}
