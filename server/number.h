/* number.h: numbers as text, each rounded once.
 *
 * The C++ library's <charconv> (GCC 12) does all of it: shortest digits that read back to the same
 * bits, correctly rounded reading straight to float, no locale. C has neither. What tensors are
 * mostly made of goes a shorter way to the same bits, without it. */
#ifndef ADAMD_NUMBER_H
#define ADAMD_NUMBER_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NUMBER_MAX_TEXT 32 /* bytes to print a number to; it may use less, but write to all */
#define NUMBER_MAX_F32  18 /* bytes of the longest float32, "-1234567900000000" */

/* Prints the shortest digits that read back to the same bits, as JSON: Python's layout without a
 * trailing ".0" (but -0.0 keeps its sign: "-0.0"), and "NaN", "Infinity", "-Infinity" as strings.
 * No terminator; returns the length. */
size_t number_print_f32(float value, char out[NUMBER_MAX_TEXT]);
size_t number_print_f64(double value, char out[NUMBER_MAX_TEXT]);
/* Prints n numbers with ", " between them to room for n * (NUMBER_MAX_F32 + 2) + NUMBER_MAX_TEXT
 * bytes. */
size_t number_print_list_f32(const float *values, size_t n, char *out);

/* Reads the JSON number at `text`, whose grammar the caller has checked and which ends before
 * `end`, rounded to nearest even. Returns where it ends; NULL where it overflows. Too small a
 * number is 0 or denormal, as it rounds. */
const char *number_take_f32(const char *text, const char *end, float *value);
const char *number_take_f64(const char *text, const char *end, double *value);

/* Numbers with commas, and white space perhaps, between them. */
typedef struct number_run {
    size_t n;  /* how many there are */
    bool fits; /* none of those that were read overflowed */
} number_run;

/* Reads the numbers that begin at `text`, one at least, as float32, the first `room` of them to
 * `values`; the others are only checked. Nobody need have checked the text. Returns where the last
 * one ends, that has no other behind it, or NULL where one is not as JSON has them. */
const char *number_scan_f32(const char *text, const char *end, float *values, size_t room,
                            number_run *run);

/* Reads a whole JSON number; false where it overflows. */
bool number_read_f32(const char *digits, size_t length, float *value);
bool number_read_f64(const char *digits, size_t length, double *value);

/* The same by <charconv> alone, for any number. */
size_t number_print_any_f32(float value, char out[NUMBER_MAX_TEXT]);
const char *number_take_any_f32(const char *text, const char *end, float *value);
const char *number_take_any_f64(const char *text, const char *end, double *value);

#ifdef __cplusplus
}
#endif
#endif
