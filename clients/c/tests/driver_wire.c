/* driver_wire.c: tensors and numbers as the conformance driver's lines have them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

static const char *const dtypes[] = {"float32", "float64", "bfloat16", "float16"};

unsigned char *hex_read(const char *text, size_t *length)
{
    *length = strlen(text) / 2;
    unsigned char *bytes = malloc(*length + 1);
    for (size_t i = 0; i < *length; i++) {
        const char digits[3] = {text[2 * i], text[2 * i + 1], '\0'};
        bytes[i] = (unsigned char)strtoul(digits, NULL, 16);
    }
    return bytes;
}

char *hex_write(const void *bytes, size_t length)
{
    const unsigned char *at = bytes;
    char *text = malloc(2 * length + 1);
    text[0] = '\0';
    for (size_t i = 0; i < length; i++) {
        (void)sprintf(text + 2 * i, "%02x", at[i]);
    }
    return text;
}

cJSON *number_write(double value)
{
    return isfinite(value) ? cJSON_CreateNumber(value)
                           : cJSON_CreateString(isnan(value) ? "NaN"
                                                : value > 0  ? "Infinity"
                                                             : "-Infinity");
}

static size_t bytes_of(const adamd_tensor *tensor)
{
    size_t n = adamd_dtype_size(tensor->dtype);
    for (int i = 0; i < tensor->rank; i++) {
        n *= (size_t)tensor->shape[i];
    }
    return n;
}

static adamd_tensor read_wire(const cJSON *wire)
{
    adamd_tensor tensor = {.name = strdup(wire->string)};
    const cJSON *dimension = NULL;
    const char *dtype = cJSON_GetStringValue(cJSON_GetObjectItem(wire, "dtype"));
    const char *hex = cJSON_GetStringValue(cJSON_GetObjectItem(wire, "hex"));
    for (unsigned i = 0; i < 4; i++) {
        tensor.dtype = strcmp(dtypes[i], dtype) == 0 ? (adamd_dtype)i : tensor.dtype;
    }
    cJSON_ArrayForEach(dimension, cJSON_GetObjectItem(wire, "shape"))
    {
        tensor.shape[tensor.rank++] = (uint64_t)dimension->valuedouble;
    }
    size_t length = 0;
    tensor.data = hex != NULL ? hex_read(hex, &length) : calloc(bytes_of(&tensor) + 1, 1);
    return tensor;
}

wires wires_read(const cJSON *object)
{
    wires w = {.tensors = calloc((size_t)cJSON_GetArraySize(object) + 1, sizeof *w.tensors)};
    const cJSON *wire = NULL;
    cJSON_ArrayForEach(wire, object)
    {
        w.tensors[w.n++] = read_wire(wire);
    }
    return w;
}

cJSON *wire_write(const adamd_tensor *tensor)
{
    cJSON *wire = cJSON_CreateObject();
    cJSON *shape = cJSON_AddArrayToObject(wire, "shape");
    char *hex = hex_write(tensor->data, bytes_of(tensor));
    (void)cJSON_AddStringToObject(wire, "dtype", dtypes[tensor->dtype]);
    (void)cJSON_AddStringToObject(wire, "hex", hex);
    for (int i = 0; i < tensor->rank; i++) {
        (void)cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)tensor->shape[i]));
    }
    free(hex);
    return wire;
}

cJSON *wires_write(const wires *w)
{
    cJSON *object = cJSON_CreateObject();
    for (size_t i = 0; i < w->n; i++) {
        (void)cJSON_AddItemToObject(object, w->tensors[i].name, wire_write(&w->tensors[i]));
    }
    return object;
}

void wires_free(wires *w)
{
    for (size_t i = 0; i < w->n; i++) {
        free((char *)w->tensors[i].name);
        free(w->tensors[i].data);
    }
    free(w->tensors);
}
