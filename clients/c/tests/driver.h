/* driver.h: what the files of the conformance driver share. */
#ifndef ADAMD_CLIENT_DRIVER_H
#define ADAMD_CLIENT_DRIVER_H

#include <cjson/cJSON.h>

#include "adamd_client.h"

/* Tensors of a call, with their memory. */
typedef struct wires {
    adamd_tensor *tensors;
    size_t n;
} wires;

/* From {name: {"dtype", "shape", "hex"}}; without hex, zeros. NULL makes none. */
wires wires_read(const cJSON *object);
cJSON *wires_write(const wires *w);
cJSON *wire_write(const adamd_tensor *tensor);
void wires_free(wires *w);

unsigned char *hex_read(const char *text, size_t *length);
char *hex_write(const void *bytes, size_t length);

/* A number, or the word that stands for it. */
cJSON *number_write(double value);

/* One call. */
typedef struct call {
    adamd_client *client;
    const cJSON *message, *options;
    const char *line; /* the message's text, for numbers that a double does not hold */
    const char *name; /* of the optimizer */
    cJSON *ok;        /* the result */
    adamd_error error;
} call;

/* Runs a call; its `op` is known where this is true. */
bool run_op(call *c, const char *op, adamd_status *status);

#endif
