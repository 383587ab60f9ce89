/* safetensors.c: writes and reads the header of a safetensors file. Knows neither the data's
 * bytes nor HTTP. */
#include "internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT    64                  /* of the data's first byte */
#define MAX_ELEMENTS (UINT64_C(1) << 53) /* of one tensor */

#define DTYPES 4

static const struct dtype {
    size_t size;
    const char *code, *name;
} dtypes[DTYPES] = {
    [ADAMD_FLOAT32] = {4, "F32", "float32"},
    [ADAMD_FLOAT64] = {8, "F64", "float64"},
    [ADAMD_BFLOAT16] = {2, "BF16", "bfloat16"},
    [ADAMD_FLOAT16] = {2, "F16", "float16"},
};

size_t adamd_dtype_size(adamd_dtype dtype)
{
    return dtypes[dtype].size;
}

const char *adamdc_dtype_name(adamd_dtype dtype)
{
    return dtypes[dtype].name;
}

/* Elements of a shape. False where they are more than a tensor may have. */
static bool shape_numel(int rank, const uint64_t *shape, uint64_t *numel)
{
    uint64_t product = 1;
    bool empty = false;
    for (int i = 0; i < rank; i++) {
        if (shape[i] == 0) {
            empty = true;
        } else if (shape[i] > MAX_ELEMENTS / product) {
            return false;
        } else {
            product *= shape[i];
        }
    }
    *numel = empty ? 0 : product;
    return true;
}

uint64_t adamdc_tensor_bytes(const adamd_tensor *tensor)
{
    uint64_t numel = 0;
    (void)shape_numel(tensor->rank, tensor->shape, &numel);
    return numel * adamd_dtype_size(tensor->dtype);
}

adamd_status adamdc_tensors_check(const char *what, const adamd_tensor *tensors, size_t n,
                                  adamd_error *error)
{
    if (n > ADAMD_MAX_TENSORS || (n > 0 && tensors == NULL)) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "%s: %zu tensors at %p, expected at most %d and a place", what, n,
                                (const void *)tensors, ADAMD_MAX_TENSORS);
    }
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++) {
        const adamd_tensor *tensor = &tensors[i];
        uint64_t numel = 0;
        const char *wrong = NULL;
        if (tensor->name == NULL || strlen(tensor->name) > ADAMD_MAX_NAME) {
            wrong = "a name of at most 512 bytes";
        } else if ((unsigned)tensor->dtype >= DTYPES) {
            wrong = "dtype ADAMD_FLOAT32, ADAMD_FLOAT64, ADAMD_BFLOAT16 or ADAMD_FLOAT16";
        } else if (tensor->rank < 0 || tensor->rank > ADAMD_MAX_RANK) {
            wrong = "a rank of 0 to 8";
        } else if (!shape_numel(tensor->rank, tensor->shape, &numel)) {
            wrong = "a shape of at most 2^53 elements";
        } else if (numel > 0 && tensor->data == NULL) {
            wrong = "data";
        } else {
            total += numel * adamd_dtype_size(tensor->dtype);
            wrong = total > (UINT64_C(1) << 62) ? "at most 2^62 bytes with those before it" : NULL;
        }
        if (wrong != NULL) {
            return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                    "%s: tensor %zu ('%.64s'): expected %s", what, i,
                                    tensor->name != NULL ? tensor->name : "", wrong);
        }
    }
    return ADAMD_OK;
}

static adamd_status put_format(adamdc_buffer *out, const char *format, uint64_t value)
{
    char text[48];
    (void)snprintf(text, sizeof text, format, value);
    return adamdc_buffer_puts(out, text);
}

static adamd_status put_metadata(adamdc_buffer *out, const adamd_metadata *metadata, size_t n)
{
    adamd_status status = adamdc_buffer_puts(out, "\"__metadata__\":{");
    for (size_t i = 0; i < n && status == ADAMD_OK; i++) {
        status = i > 0 ? adamdc_buffer_puts(out, ",") : ADAMD_OK;
        status = status == ADAMD_OK ? adamdc_json_quote(out, metadata[i].key) : status;
        status = status == ADAMD_OK ? adamdc_buffer_puts(out, ":") : status;
        status = status == ADAMD_OK ? adamdc_json_quote(out, metadata[i].value) : status;
    }
    return status == ADAMD_OK ? adamdc_buffer_puts(out, "}") : status;
}

static adamd_status put_tensor(adamdc_buffer *out, const adamd_tensor *tensor, uint64_t begin)
{
    adamd_status status = adamdc_json_quote(out, tensor->name);
    status = status == ADAMD_OK ? adamdc_buffer_puts(out, ":{\"dtype\":\"") : status;
    status = status == ADAMD_OK ? adamdc_buffer_puts(out, dtypes[tensor->dtype].code) : status;
    status = status == ADAMD_OK ? adamdc_buffer_puts(out, "\",\"shape\":[") : status;
    for (int i = 0; i < tensor->rank && status == ADAMD_OK; i++) {
        status = put_format(out, i > 0 ? ",%" PRIu64 : "%" PRIu64, tensor->shape[i]);
    }
    status =
        status == ADAMD_OK ? put_format(out, "],\"data_offsets\":[%" PRIu64 ",", begin) : status;
    uint64_t end = begin + adamdc_tensor_bytes(tensor);
    return status == ADAMD_OK ? put_format(out, "%" PRIu64 "]}", end) : status;
}

static adamd_status put_tensors(adamdc_buffer *out, const adamd_tensor *tensors, size_t n,
                                uint64_t *data_bytes)
{
    uint64_t next[ADAMDC_N_SIZES] = {0}; /* where the next of each size begins */
    uint64_t end = 0;
    for (size_t k = 0; k < ADAMDC_N_SIZES; k++) {
        next[k] = end;
        for (size_t i = 0; i < n; i++) {
            const bool here = adamd_dtype_size(tensors[i].dtype) == ADAMDC_SIZES[k];
            end += here ? adamdc_tensor_bytes(&tensors[i]) : 0;
        }
    }
    adamd_status status = ADAMD_OK;
    for (size_t i = 0; i < n && status == ADAMD_OK; i++) {
        size_t k = 0;
        while (ADAMDC_SIZES[k] != adamd_dtype_size(tensors[i].dtype)) {
            k++;
        }
        status = i > 0 ? adamdc_buffer_puts(out, ",") : ADAMD_OK;
        status = status == ADAMD_OK ? put_tensor(out, &tensors[i], next[k]) : status;
        next[k] += adamdc_tensor_bytes(&tensors[i]);
    }
    *data_bytes = end;
    return status;
}

adamd_status adamdc_safetensors_header(adamdc_buffer *out, const adamd_tensor *tensors, size_t n,
                                       const adamd_metadata *metadata, size_t n_metadata,
                                       uint64_t *data_bytes, adamd_error *error)
{
    out->length = 0;
    adamd_status status = adamdc_buffer_append(out, "\0\0\0\0\0\0\0\0{", 9);
    if (status == ADAMD_OK && n_metadata > 0) {
        status = put_metadata(out, metadata, n_metadata);
    }
    if (status == ADAMD_OK && n_metadata > 0 && n > 0) {
        status = adamdc_buffer_puts(out, ",");
    }
    status = status == ADAMD_OK ? put_tensors(out, tensors, n, data_bytes) : status;
    status = status == ADAMD_OK ? adamdc_buffer_puts(out, "}") : status;
    while (status == ADAMD_OK && out->length % ALIGNMENT != 0) {
        status = adamdc_buffer_puts(out, " ");
    }
    if (status == ADAMD_TOO_LARGE) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "names, shapes and metadata take more than the %zu bytes of a "
                                "safetensors header",
                                out->limit);
    }
    if (status != ADAMD_OK) {
        return adamdc_error_no_memory(error, out->length);
    }
    for (int i = 0; i < 8; i++) {
        out->data[i] = (char)((out->length - 8) >> (8 * i));
    }
    return ADAMD_OK;
}

/* --- reading --------------------------------------------------------------------------------- */

/* The header's text, and a decoded string, both reused from member to member. */
typedef struct reading {
    adamdc_json json;
    adamdc_buffer name, text;
    adamd_error *error;
} reading;

static bool read_shape(adamdc_json *json, adamdc_entry *entry)
{
    if (!adamdc_json_take(json, '[')) {
        return false;
    }
    if (adamdc_json_peek(json, ']')) {
        return true;
    }
    do {
        if (entry->rank == ADAMD_MAX_RANK) {
            json->why = "expected at most 8 dimensions";
            return false;
        }
        if (!adamdc_json_uint64(json, &entry->shape[entry->rank])) {
            return false;
        }
        entry->rank++;
    } while (adamdc_json_peek(json, ','));
    return adamdc_json_take(json, ']');
}

static bool read_offsets(adamdc_json *json, adamdc_entry *entry)
{
    if (!adamdc_json_take(json, '[') || !adamdc_json_uint64(json, &entry->begin)) {
        return false;
    }
    if (!adamdc_json_peek(json, ',')) {
        json->why = "expected two offsets";
        return false;
    }
    return adamdc_json_uint64(json, &entry->end) && adamdc_json_take(json, ']');
}

static bool read_dtype(reading *in, adamdc_entry *entry)
{
    if (!adamdc_json_string(&in->json, &in->text)) {
        return false;
    }
    unsigned i = 0;
    while (i < DTYPES && strcmp(in->text.data, dtypes[i].code) != 0) {
        i++;
    }
    if (i == DTYPES) {
        in->json.why = "expected dtype F32, F64, BF16 or F16";
        return false;
    }
    entry->dtype = (adamd_dtype)i;
    return true;
}

/* The object behind a tensor's name. */
static bool read_entry(reading *in, adamdc_entry *entry)
{
    static const char *const members[] = {"dtype", "shape", "data_offsets"};
    adamdc_json *json = &in->json;
    unsigned seen = 0;
    if (!adamdc_json_take(json, '{')) {
        return false;
    }
    do {
        if (!adamdc_json_string(json, &in->text) || !adamdc_json_take(json, ':')) {
            return false;
        }
        unsigned which = 0;
        while (which < 3 && strcmp(in->text.data, members[which]) != 0) {
            which++;
        }
        if (which == 3 || (seen >> which & 1) != 0) {
            json->why = "expected dtype, shape and data_offsets, once each";
            return false;
        }
        seen |= 1U << which;
        if (!(which == 0   ? read_dtype(in, entry)
              : which == 1 ? read_shape(json, entry)
                           : read_offsets(json, entry))) {
            return false;
        }
    } while (adamdc_json_peek(json, ','));
    if (!adamdc_json_take(json, '}')) {
        return false;
    }
    uint64_t numel = 0;
    if (seen != 7) {
        json->why = "expected dtype, shape and data_offsets, once each";
    } else if (!shape_numel(entry->rank, entry->shape, &numel)) {
        json->why = "expected at most 2^53 elements";
    } else if (entry->end < entry->begin ||
               entry->end - entry->begin != numel * adamd_dtype_size(entry->dtype)) {
        json->why = "expected data_offsets as far apart as shape and dtype say";
    } else {
        return true;
    }
    return false;
}

static bool read_metadata(reading *in, const adamdc_header_reader *reader, adamd_status *status)
{
    adamdc_json *json = &in->json;
    if (!adamdc_json_take(json, '{')) {
        return false;
    }
    if (adamdc_json_peek(json, '}')) {
        return true;
    }
    do {
        if (!adamdc_json_string(json, &in->name) || !adamdc_json_take(json, ':') ||
            !adamdc_json_string(json, &in->text)) {
            return false;
        }
        if (reader->on_metadata != NULL) {
            *status = reader->on_metadata(reader->context, in->name.data, in->text.data, in->error);
        }
    } while (*status == ADAMD_OK && adamdc_json_peek(json, ','));
    return *status == ADAMD_OK && adamdc_json_take(json, '}');
}

/* One member of the header. False with *status OK where the text is malformed. */
static bool read_member(reading *in, const adamdc_header_reader *reader, bool *metadata_seen,
                        adamd_status *status)
{
    adamdc_json *json = &in->json;
    if (!adamdc_json_string(json, &in->name) || !adamdc_json_take(json, ':')) {
        return false;
    }
    if (strcmp(in->name.data, "__metadata__") == 0) {
        if (*metadata_seen) {
            json->why = "expected __metadata__ once";
            return false;
        }
        *metadata_seen = true;
        return read_metadata(in, reader, status);
    }
    adamdc_entry entry = {.name = in->name.data};
    if (!read_entry(in, &entry)) {
        return false;
    }
    if (reader->on_tensor != NULL) {
        *status = reader->on_tensor(reader->context, &entry, in->error);
    }
    return *status == ADAMD_OK;
}

adamd_status adamdc_safetensors_read(const char *text, size_t length,
                                     const adamdc_header_reader *reader, adamd_error *error)
{
    reading in = {.json = {.start = text, .at = text, .end = text + length},
                  .name = {.limit = length},
                  .text = {.limit = length},
                  .error = error};
    adamd_status status = ADAMD_OK;
    bool metadata_seen = false;
    bool good = false;
    if (length == 0 || *text != '{') {
        in.json.why = "expected '{' as the first byte";
    } else if (adamdc_json_take(&in.json, '{')) {
        good = true;
        if (!adamdc_json_peek(&in.json, '}')) {
            do {
                good = read_member(&in, reader, &metadata_seen, &status);
            } while (good && adamdc_json_peek(&in.json, ','));
            good = good && adamdc_json_take(&in.json, '}');
        }
        good = good && adamdc_json_end(&in.json);
    }
    if (!good && status == ADAMD_OK) {
        status = adamdc_error_set(
            error, ADAMD_BAD_REPLY, "malformed safetensors header at byte %zu: %s",
            (size_t)(in.json.at - in.json.start), in.json.why != NULL ? in.json.why : "no reason");
    }
    adamdc_buffer_free(&in.name);
    adamdc_buffer_free(&in.text);
    return status;
}
