/* codec_safetensors.c: the safetensors format, checked as the reference implementation does, and
 * beyond that: no duplicate names, no unknown members. Knows tensors, not optimizers. */
#include "codec_safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec_numbers.h"

#define LENGTH_BYTES ((size_t)8)
#define DATA_ALIGN   ((size_t)64)

static codec_status malformed(codec_error *error, const char *name, const char *what)
{
    if (name == NULL) {
        return codec_fail(error, CODEC_MALFORMED_SAFETENSORS, "not a safetensors file: %s", what);
    }
    codec_fail(error, CODEC_MALFORMED_SAFETENSORS,
               "not a safetensors file: '" CODEC_NAME_FORMAT "' %s", CODEC_NAME(name, strlen(name)),
               what);
    codec_error_param(error, name, strlen(name));
    return CODEC_MALFORMED_SAFETENSORS;
}

/* A tensor and where its data lies, for the check for holes and overlaps. */
typedef struct extent {
    const char *name;
    uint64_t begin, end;
} extent;

static int compare_extents(const void *a, const void *b)
{
    const extent *x = a;
    const extent *y = b;
    return x->begin != y->begin ? (x->begin > y->begin) - (x->begin < y->begin)
                                : (x->end > y->end) - (x->end < y->end);
}

static codec_status check_extents(extent *extents, size_t n, uint64_t data_length,
                                  codec_error *error)
{
    if (n > 1) {
        qsort(extents, n, sizeof *extents, compare_extents);
    }
    uint64_t end = 0;
    for (size_t i = 0; i < n; i++) {
        if (extents[i].begin != end) {
            return malformed(error, extents[i].name,
                             extents[i].begin < end ? "overlaps another tensor"
                                                    : "leaves a hole before its data");
        }
        end = extents[i].end;
    }
    if (end != data_length) {
        return codec_fail(
            error, CODEC_MALFORMED_SAFETENSORS,
            "not a safetensors file: the tensors take %llu bytes of data, the file has "
            "%llu",
            (unsigned long long)end, (unsigned long long)data_length);
    }
    return CODEC_OK;
}

const char *safetensors_dtype_name(adam_dtype dtype)
{
    static const char *const names[] = {[ADAM_FLOAT32] = "F32",
                                        [ADAM_FLOAT64] = "F64",
                                        [ADAM_BFLOAT16] = "BF16",
                                        [ADAM_FLOAT16] = "F16"};
    return names[dtype];
}

static codec_status read_dtype(const json_value *value, const char *name, adam_dtype *dtype,
                               codec_error *error)
{
    static const adam_dtype known[] = {ADAM_FLOAT32, ADAM_FLOAT64, ADAM_BFLOAT16, ADAM_FLOAT16};
    if (value == NULL || json_type_of(value) != JSON_STRING) {
        return malformed(error, name, "has no dtype");
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(json_string(value), safetensors_dtype_name(known[i])) == 0) {
            *dtype = known[i];
            return CODEC_OK;
        }
    }
    codec_fail(
        error, CODEC_DTYPE,
        "'" CODEC_NAME_FORMAT "' has dtype '" CODEC_NAME_FORMAT "', expected F32, F64, BF16 or F16",
        CODEC_NAME(name, strlen(name)), CODEC_NAME(json_string(value), strlen(json_string(value))));
    codec_error_param(error, name, strlen(name));
    return CODEC_DTYPE;
}

/* Reads one tensor's description; `data` has `data_length` bytes. */
static codec_status read_tensor(const json_doc *doc, const json_value *member, char *data,
                                uint64_t data_length, adam_tensor *t, extent *e, codec_error *error)
{
    static const char *const allowed[] = {"dtype", "shape", "data_offsets", NULL};
    const char *name = json_name(member);
    if (json_type_of(member) != JSON_OBJECT) {
        return malformed(error, name, "is not described by an object");
    }
    codec_status st =
        json_check_names(member, allowed, "a tensor of the safetensors header", error);
    if (st != CODEC_OK) {
        return st;
    }
    *t = (adam_tensor){.name = name, .name_len = strlen(name)};
    st = read_dtype(json_get(member, "dtype"), name, &t->dtype, error);
    if (st != CODEC_OK) {
        return st;
    }
    size_t rank;
    uint64_t numel;
    const json_value *shape = json_get(member, "shape");
    if (shape == NULL || !numbers_uint_list(doc, shape, ADAM_MAX_RANK, t->shape, &rank)) {
        return malformed(error, name, "needs a shape of at most 8 whole numbers");
    }
    t->rank = (int)rank;
    if (!adam_shape_numel(t->rank, t->shape, &numel)) {
        return malformed(error, name, "has a shape of more than 2^53 elements");
    }
    uint64_t offsets[2];
    size_t n_offsets;
    const json_value *list = json_get(member, "data_offsets");
    if (list == NULL || !numbers_uint_list(doc, list, 2, offsets, &n_offsets) || n_offsets != 2) {
        return malformed(error, name, "needs data_offsets of two whole numbers");
    }
    if (offsets[0] > offsets[1] || offsets[1] > data_length) {
        return malformed(error, name, "has data_offsets that lie outside the file");
    }
    if (offsets[1] - offsets[0] != numel * adam_dtype_size(t->dtype)) {
        return malformed(error, name, "has data_offsets that do not fit its shape and dtype");
    }
    t->data = data + offsets[0];
    *e = (extent){name, offsets[0], offsets[1]};
    return CODEC_OK;
}

static codec_status read_metadata(const json_value *metadata, codec_error *error)
{
    if (json_type_of(metadata) != JSON_OBJECT) {
        return malformed(error, NULL, "__metadata__ is not an object");
    }
    for (const json_value *m = json_first(metadata); m != NULL; m = json_next(m)) {
        if (json_type_of(m) != JSON_STRING) {
            return malformed(error, json_name(m), "in __metadata__ is not a string");
        }
    }
    return CODEC_OK;
}

/* Reads all tensors of the header into file->tensors. */
static codec_status read_tensors(buffer_pool *pool, safetensors *file, char *data,
                                 uint64_t data_length, codec_error *error)
{
    const json_value *root = json_root(file->header);
    const size_t members = json_count(root);
    if (members > CODEC_MAX_TENSORS + (size_t)1) {
        return codec_fail(error, CODEC_LIMIT, "more than %d tensors", CODEC_MAX_TENSORS);
    }
    file->room = buffer_get(pool, (members + 1) * (sizeof(adam_tensor) + sizeof(extent)));
    if (file->room == NULL) {
        return codec_fail(error, CODEC_NO_MEMORY, "no memory for %zu tensors", members);
    }
    file->tensors = (void *)file->room->data;
    extent *extents = (void *)(file->tensors + members + 1);
    for (const json_value *m = json_first(root); m != NULL; m = json_next(m)) {
        codec_status st;
        if (strcmp(json_name(m), "__metadata__") == 0) {
            file->metadata = m;
            st = read_metadata(m, error);
        } else {
            const size_t i = file->n_tensors++;
            st = read_tensor(file->header, m, data, data_length, &file->tensors[i], &extents[i],
                             error);
        }
        if (st != CODEC_OK) {
            return st;
        }
    }
    return check_extents(extents, file->n_tensors, data_length, error);
}

codec_status safetensors_parse(buffer_pool *pool, char *body, size_t length, size_t max_header,
                               safetensors *file, codec_error *error)
{
    *file = (safetensors){0};
    uint64_t header_length;
    if (length < LENGTH_BYTES) {
        return malformed(error, NULL, "it is shorter than its first 8 bytes, the header's length");
    }
    memcpy(&header_length, body, sizeof header_length); /* little-endian, as this machine is */
    if (header_length > length - LENGTH_BYTES) {
        return codec_fail(error, CODEC_MALFORMED_SAFETENSORS,
                          "not a safetensors file: a header of %llu bytes in a file of %zu",
                          (unsigned long long)header_length, length);
    }
    if (header_length > max_header) {
        return codec_fail(error, CODEC_LIMIT, "a safetensors header of %llu bytes, at most %zu",
                          (unsigned long long)header_length, max_header);
    }
    const char *header = body + LENGTH_BYTES;
    if (header_length == 0 || header[0] != '{') {
        return malformed(error, NULL, "its header does not begin with '{'");
    }
    codec_status st = json_parse(pool, header, header_length, &file->header, error);
    if (st != CODEC_OK) {
        return st;
    }
    file->data_offset = LENGTH_BYTES + header_length;
    st = read_tensors(pool, file, body + file->data_offset, length - file->data_offset, error);
    if (st != CODEC_OK) {
        safetensors_drop(file);
    }
    return st;
}

void safetensors_drop(safetensors *file)
{
    json_free(file->header);
    buffer_drop(file->room);
    *file = (safetensors){0};
}

const char *safetensors_metadata(const safetensors *file, const char *key)
{
    const json_value *value = file->metadata != NULL ? json_get(file->metadata, key) : NULL;
    return value != NULL ? json_string(value) : NULL;
}

codec_status safetensors_check_metadata(const safetensors *file, const char *const *allowed,
                                        codec_error *error)
{
    return file->metadata == NULL
               ? CODEC_OK
               : json_check_names(file->metadata, allowed, "__metadata__", error);
}

/* ---- writing ---- */

void safetensors_begin(text *t)
{
    static const char empty_length[LENGTH_BYTES];
    text_add(t, empty_length, sizeof empty_length);
    text_add_string(t, "{\"__metadata__\":{\"format\":\"adamd\"");
}

void safetensors_add_metadata(text *t, const char *key, const char *value, size_t length)
{
    text_add(t, ",", 1);
    json_add_string(t, key, strlen(key));
    text_add(t, ":", 1);
    json_add_string(t, value, length);
}

void safetensors_end_metadata(text *t)
{
    text_add(t, "}", 1);
}

uint64_t safetensors_add_tensor(text *t, const char *prefix, const adam_tensor *tensor,
                                uint64_t offset)
{
    uint64_t numel = 0;
    (void)adam_shape_numel(tensor->rank, tensor->shape, &numel);
    const uint64_t end = offset + numel * adam_dtype_size(tensor->dtype);
    text_add(t, ",", 1);
    char name[ADAM_MAX_NAME + 32];
    char *end_of_prefix = stpcpy(name, prefix);
    memcpy(end_of_prefix, tensor->name, tensor->name_len);
    json_add_string(t, name, (size_t)(end_of_prefix - name) + tensor->name_len);
    text_add_string(t, ":{\"dtype\":\"");
    text_add_string(t, safetensors_dtype_name(tensor->dtype));
    text_add_string(t, "\",\"shape\":");
    json_add_shape(t, tensor->rank, tensor->shape);
    text_add_string(t, ",\"data_offsets\":[");
    text_add_uint(t, offset);
    text_add_string(t, ",");
    text_add_uint(t, end);
    text_add_string(t, "]}");
    return end;
}

void safetensors_end(text *t)
{
    static const char spaces[DATA_ALIGN] =
        "                                                                ";
    text_add(t, "}", 1);
    const size_t over = text_length(t) % DATA_ALIGN;
    if (over > 0) {
        text_add(t, spaces, DATA_ALIGN - over);
    }
    if (!t->failed) {
        const uint64_t header_length = text_length(t) - LENGTH_BYTES;
        memcpy(t->buffer->data, &header_length, sizeof header_length);
    }
}
