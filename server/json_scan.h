/* json_scan.h: strict JSON (RFC 8259), with the numbers set aside.
 *
 * cJSON takes texts that are not JSON and keeps a node of 80 bytes and only a double for each
 * number. So a text is checked here first, and copied without white space to a skeleton in which
 * every number is "0" and every list of numbers "[0]"; where they stood, and which shape the lists
 * have, is kept in order. cJSON then gives the structure, and the numbers are read from the text
 * itself, once, to their own type.
 */
#ifndef ADAMD_JSON_SCAN_H
#define ADAMD_JSON_SCAN_H

#include <stdint.h>

#include "buffer.h"
#include "codec.h"

/* A piece of the text. */
typedef struct json_span {
    const char *text;
    size_t length;
} json_span;

#define JSON_RAGGED (-1)

/* A number or a list of numbers, as it stands in the text. */
typedef struct json_numbers {
    json_span span;
    const float *values; /* of a list: its numbers, where they were kept; or NULL */
    int rank;         /* lists around each number; 0: a number alone. JSON_RAGGED: lists at the same
                         depth differ in length, or numbers in depth */
    uint64_t shape[]; /* of a list: `rank` lengths, the outermost first */
} json_numbers;

/* Room for numbers that are read while they are scanned, as float32, which most of them will be
 * wanted as: a list is kept where it has room as a whole and fits float32. */
typedef struct json_kept {
    float *values;
    size_t n, capacity;
} json_kept;

/* Bytes of one, to find the next behind it. */
size_t json_numbers_bytes(const json_numbers *n);

/* Scans the whole text. On success *skeleton and *numbers are filled: numbers holds a json_numbers
 * for each "0" and "[0]" of the skeleton, in order. A list of numbers is one whose leaves, at any
 * depth, are numbers or the strings "NaN", "Infinity", "-Infinity", or that has none; it is one
 * json_numbers as a whole. The caller drops both texts in either case. The spans point into `json`,
 * the values into what *kept has. */
codec_status json_scan(const char *json, size_t length, json_kept *kept, text *skeleton,
                       text *numbers, codec_error *error);

#endif
