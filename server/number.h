/* number.h: numbers as text, each rounded once.
 *
 * Done by the C++ library's <charconv> (GCC 12): shortest digits that read back to the same bits,
 * correctly rounded reading straight to float, no locale. C has neither. */
#ifndef ADAMD_NUMBER_H
#define ADAMD_NUMBER_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NUMBER_MAX_TEXT 32 /* bytes of the longest printed number, with quotes */

/* Prints the shortest digits that read back to the same bits, as JSON: Python's layout without a
 * trailing ".0" (but -0.0 keeps its sign: "-0.0"), and "NaN", "Infinity", "-Infinity" as strings.
 * No terminator; returns the length. */
size_t number_print_f32(float value, char out[NUMBER_MAX_TEXT]);
size_t number_print_f64(double value, char out[NUMBER_MAX_TEXT]);

/* Reads a whole JSON number (its grammar is the caller's to check), rounded to nearest even. False
 * where it overflows. Too small a number is 0 or denormal, as it rounds. */
bool number_read_f32(const char *digits, size_t length, float *value);
bool number_read_f64(const char *digits, size_t length, double *value);

#ifdef __cplusplus
}
#endif
#endif
