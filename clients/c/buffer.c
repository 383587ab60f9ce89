/* buffer.c: bytes that grow up to a hard limit. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

adamd_status adamdc_buffer_reserve(adamdc_buffer *buffer, size_t more)
{
    if (buffer->length > buffer->limit || more > buffer->limit - buffer->length) {
        return ADAMD_TOO_LARGE;
    }
    size_t need = buffer->length + more;
    if (buffer->data != NULL && need < buffer->capacity) {
        return ADAMD_OK;
    }
    size_t capacity = buffer->capacity < 256 ? 256 : buffer->capacity;
    while (capacity <= need) {
        capacity = capacity > SIZE_MAX / 2 ? need + 1 : capacity * 2;
    }
    char *data = realloc(buffer->data, capacity);
    if (data == NULL) {
        return ADAMD_NO_MEMORY;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return ADAMD_OK;
}

adamd_status adamdc_buffer_append(adamdc_buffer *buffer, const void *bytes, size_t length)
{
    adamd_status status = adamdc_buffer_reserve(buffer, length);
    if (status != ADAMD_OK) {
        return status;
    }
    if (length > 0) {
        memcpy(buffer->data + buffer->length, bytes, length);
    }
    buffer->length += length;
    buffer->data[buffer->length] = '\0';
    return ADAMD_OK;
}

adamd_status adamdc_buffer_puts(adamdc_buffer *buffer, const char *text)
{
    return adamdc_buffer_append(buffer, text, strlen(text));
}

void adamdc_buffer_free(adamdc_buffer *buffer)
{
    free(buffer->data);
    buffer->data = NULL;
    buffer->length = buffer->capacity = 0;
}
