/* error.h: how the core fills an adam_error. Every function takes error == NULL. */
#ifndef ADAM_CORE_ERROR_H
#define ADAM_CORE_ERROR_H

#include "adam/status.h"

/* Sets status and message and clears the other members; returns the status. */
adam_status adam_error_set(adam_error *error, adam_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

adam_status adam_error_no_memory(adam_error *error, size_t bytes);

/* Adds the parameter that the error is about. */
void adam_error_param(adam_error *error, const char *name, size_t name_len);

#define ADAM_MAX_DIGITS 32

/* Prints the fewest digits that read back to `value`; returns `out`. */
const char *adam_digits(double value, char out[ADAM_MAX_DIGITS]);
/* The same in a place of its own, to the end of the block. */
#define ADAM_DIGITS(value) adam_digits((value), (char[ADAM_MAX_DIGITS]){0})

/* Puts "param group N: " before the message. */
void adam_error_in_group(adam_error *error, size_t group);

/* Sets a mismatch of shapes, the message and members both. */
adam_status adam_error_shapes(adam_error *error, const char *what, const adam_tensor *expected,
                              const adam_tensor *got);

#endif
