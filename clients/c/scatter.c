/* scatter.c: takes a safetensors file as it arrives and copies its tensors to their places.
 * Knows nothing of HTTP. */
#include "internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b)
{
    const adamdc_place *left = a;
    const adamdc_place *right = b;
    return strcmp(left->tensor->name, right->tensor->name);
}

static int by_offset(const void *a, const void *b)
{
    const adamdc_place *left = a;
    const adamdc_place *right = b;
    if (left->begin != right->begin) {
        return left->begin < right->begin ? -1 : 1;
    }
    return left->end < right->end ? -1 : left->end > right->end; /* empty tensors first */
}

adamd_status adamdc_scatter_begin(adamdc_scatter *scatter, const adamd_tensor *tensors, size_t n,
                                  bool others, locale_t c_locale, adamd_error *error)
{
    memset(scatter, 0, sizeof *scatter);
    scatter->others = others;
    scatter->header.limit = ADAMDC_MAX_HEADER + 8;
    scatter->c_locale = c_locale;
    scatter->n = n;
    scatter->places = calloc(n > 0 ? n : 1, sizeof *scatter->places);
    if (scatter->places == NULL) {
        return adamdc_error_no_memory(error, n * sizeof *scatter->places);
    }
    for (size_t i = 0; i < n; i++) {
        scatter->places[i].tensor = &tensors[i];
    }
    qsort(scatter->places, n, sizeof *scatter->places, by_name);
    for (size_t i = 1; i < n; i++) {
        if (by_name(&scatter->places[i - 1], &scatter->places[i]) == 0) {
            adamd_status status =
                adamdc_error_set(error, ADAMD_INVALID_ARGUMENT, "tensor '%s' is named twice",
                                 scatter->places[i].tensor->name);
            adamdc_scatter_end(scatter);
            return status;
        }
    }
    return ADAMD_OK;
}

void adamdc_scatter_end(adamdc_scatter *scatter)
{
    free(scatter->places);
    scatter->places = NULL;
    adamdc_buffer_free(&scatter->header);
}

static adamd_status read_number(locale_t c_locale, const char *key, const char *text, double *value,
                                adamd_error *error)
{
    char *end = NULL;
    *value = strtod_l(text, &end, c_locale);
    if (end == text || *end != '\0') {
        return adamdc_error_set(error, ADAMD_BAD_REPLY,
                                "metadata '%s' is '%.64s', expected a number", key, text);
    }
    return ADAMD_OK;
}

static adamd_status read_count(const char *key, const char *text, uint64_t *value,
                               adamd_error *error)
{
    adamdc_json json = {.start = text, .at = text, .end = text + strlen(text)};
    if (adamdc_json_uint64(&json, value) && json.at == json.end) {
        return ADAMD_OK;
    }
    return adamdc_error_set(error, ADAMD_BAD_REPLY, "metadata '%s' is '%.64s', expected a count",
                            key, text);
}

/* Members that are not named here are a later server's, or for people. */
static adamd_status on_metadata(void *context, const char *key, const char *value,
                                adamd_error *error)
{
    adamdc_scatter *scatter = context;
    adamdc_stats *stats = &scatter->stats;
    if (strcmp(key, "step") == 0) {
        stats->has_step = true;
        return read_count(key, value, &stats->step, error);
    }
    if (strcmp(key, "converted") == 0) {
        return read_count(key, value, &stats->converted, error);
    }
    if (strcmp(key, "pending") == 0) {
        return read_count(key, value, &stats->pending, error);
    }
    if (strcmp(key, "skipped") == 0) {
        stats->skipped = strcmp(value, "true") == 0;
        return stats->skipped || strcmp(value, "false") == 0
                   ? ADAMD_OK
                   : adamdc_error_set(error, ADAMD_BAD_REPLY,
                                      "metadata 'skipped' is '%.64s', expected true or false",
                                      value);
    }
    double *number = strcmp(key, "grad_norm") == 0     ? &stats->grad_norm
                     : strcmp(key, "param_norm") == 0  ? &stats->param_norm
                     : strcmp(key, "update_norm") == 0 ? &stats->update_norm
                     : strcmp(key, "clip_coef") == 0   ? &stats->clip_coef
                                                       : NULL;
    return number == NULL ? ADAMD_OK : read_number(scatter->c_locale, key, value, number, error);
}

/* "float32 [3, 2]" */
static void format_kind(char *out, size_t size, adamd_dtype dtype, int rank, const uint64_t *shape)
{
    size_t used = (size_t)snprintf(out, size, "%s [", adamdc_dtype_name(dtype));
    for (int i = 0; i < rank && used < size; i++) {
        used +=
            (size_t)snprintf(out + used, size - used, i > 0 ? ", %" PRIu64 : "%" PRIu64, shape[i]);
    }
    if (used < size) {
        (void)snprintf(out + used, size - used, "]");
    }
}

static adamd_status on_tensor(void *context, const adamdc_entry *entry, adamd_error *error)
{
    adamdc_scatter *scatter = context;
    adamd_tensor named = {.name = entry->name};
    adamdc_place key = {.tensor = &named};
    adamdc_place *place =
        bsearch(&key, scatter->places, scatter->n, sizeof *scatter->places, by_name);
    scatter->tensor_bytes += entry->end - entry->begin;
    scatter->data_bytes = entry->end > scatter->data_bytes ? entry->end : scatter->data_bytes;
    if (place == NULL && scatter->others) {
        return ADAMD_OK;
    }
    if (place == NULL || place->seen) {
        return adamdc_error_set(error, ADAMD_BAD_REPLY, "tensor '%.512s' came %s", entry->name,
                                place == NULL ? "though it was not asked for" : "twice");
    }
    const adamd_tensor *want = place->tensor;
    if (entry->dtype != want->dtype || entry->rank != want->rank ||
        memcmp(entry->shape, want->shape, sizeof want->shape[0] * (size_t)want->rank) != 0) {
        char got[256];
        char expected[256];
        format_kind(got, sizeof got, entry->dtype, entry->rank, entry->shape);
        format_kind(expected, sizeof expected, want->dtype, want->rank, want->shape);
        return adamdc_error_set(error, ADAMD_BAD_REPLY, "tensor '%s' is %s, expected %s",
                                want->name, got, expected);
    }
    place->seen = true;
    place->begin = entry->begin;
    place->end = entry->end;
    return ADAMD_OK;
}

/* Every tensor is there, and they fill the data without holes or overlaps; of others, only that
 * there are as many bytes. */
static adamd_status check_layout(adamdc_scatter *scatter, adamd_error *error)
{
    for (size_t i = 0; i < scatter->n; i++) {
        if (!scatter->places[i].seen) {
            return adamdc_error_set(error, ADAMD_BAD_REPLY, "tensor '%s' is missing",
                                    scatter->places[i].tensor->name);
        }
    }
    qsort(scatter->places, scatter->n, sizeof *scatter->places, by_offset);
    uint64_t at = 0;
    for (size_t i = 0; i < scatter->n; i++) {
        const adamdc_place *place = &scatter->places[i];
        if (place->begin < at || (place->begin > at && !scatter->others)) {
            return adamdc_error_set(error, ADAMD_BAD_REPLY,
                                    "tensor '%s' begins at byte %" PRIu64
                                    " of the data, expected %" PRIu64,
                                    place->tensor->name, place->begin, at);
        }
        at = place->end;
    }
    if (scatter->tensor_bytes != scatter->data_bytes) {
        return adamdc_error_set(error, ADAMD_BAD_REPLY,
                                "tensors of %" PRIu64 " bytes end at byte %" PRIu64 " of the data",
                                scatter->tensor_bytes, scatter->data_bytes);
    }
    return ADAMD_OK;
}

/* Takes bytes of the header; *used says how many. */
static adamd_status feed_header(adamdc_scatter *scatter, const unsigned char *bytes, size_t length,
                                size_t *used, adamd_error *error)
{
    uint64_t goal = scatter->header_bytes > 0 ? scatter->header_bytes : 8;
    size_t rest = (size_t)(goal - scatter->header.length);
    *used = length < rest ? length : rest;
    if (adamdc_buffer_reserve(&scatter->header, rest) != ADAMD_OK) {
        return adamdc_error_no_memory(error, rest);
    }
    (void)adamdc_buffer_append(&scatter->header, bytes, *used);
    if (scatter->header.length < goal) {
        return ADAMD_OK;
    }
    if (scatter->header_bytes == 0) {
        uint64_t text = 0;
        for (int i = 7; i >= 0; i--) {
            text = text << 8 | (unsigned char)scatter->header.data[i];
        }
        if (text == 0 || text > ADAMDC_MAX_HEADER) {
            return adamdc_error_set(error, ADAMD_BAD_REPLY,
                                    "safetensors header of %" PRIu64 " bytes, expected 1 to %zu",
                                    text, ADAMDC_MAX_HEADER);
        }
        scatter->header_bytes = 8 + text;
        return ADAMD_OK;
    }
    adamdc_header_reader reader = {scatter, on_metadata, on_tensor};
    adamd_status status =
        adamdc_safetensors_read(scatter->header.data + 8, (size_t)goal - 8, &reader, error);
    scatter->header_done = true;
    return status == ADAMD_OK ? check_layout(scatter, error) : status;
}

static adamd_status feed_data(adamdc_scatter *scatter, const unsigned char *bytes, size_t length,
                              adamd_error *error)
{
    if (length > scatter->data_bytes - scatter->at) {
        return adamdc_error_set(error, ADAMD_BAD_REPLY,
                                "more data than the %" PRIu64 " bytes that the tensors take",
                                scatter->data_bytes);
    }
    while (length > 0) {
        const adamdc_place *place =
            scatter->next < scatter->n ? &scatter->places[scatter->next] : NULL;
        bool wanted = place != NULL && scatter->at >= place->begin;
        uint64_t end = wanted ? place->end : place != NULL ? place->begin : scatter->data_bytes;
        uint64_t rest = end - scatter->at;
        size_t n = length < rest ? length : (size_t)rest;
        if (wanted && n > 0) {
            memcpy((char *)place->tensor->data + (scatter->at - place->begin), bytes, n);
        }
        scatter->at += n;
        bytes += n;
        length -= n;
        scatter->next += wanted && scatter->at == place->end;
    }
    return ADAMD_OK;
}

adamd_status adamdc_scatter_feed(adamdc_scatter *scatter, const unsigned char *bytes, size_t length,
                                 adamd_error *error)
{
    while (length > 0 && !scatter->header_done) {
        size_t used = 0;
        adamd_status status = feed_header(scatter, bytes, length, &used, error);
        if (status != ADAMD_OK) {
            return status;
        }
        bytes += used;
        length -= used;
    }
    return length > 0 ? feed_data(scatter, bytes, length, error) : ADAMD_OK;
}

adamd_status adamdc_scatter_finish(const adamdc_scatter *scatter, adamd_error *error)
{
    if (!scatter->header_done) {
        return adamdc_error_set(error, ADAMD_BAD_REPLY,
                                "the body ended in the safetensors header, after %zu bytes",
                                scatter->header.length);
    }
    if (scatter->at != scatter->data_bytes) {
        return adamdc_error_set(error, ADAMD_BAD_REPLY,
                                "the body ended after %" PRIu64 " of %" PRIu64 " bytes of data",
                                scatter->at, scatter->data_bytes);
    }
    return ADAMD_OK;
}
