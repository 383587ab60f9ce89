/* json_scan.h: strict JSON (RFC 8259), with the numbers set aside.
 *
 * cJSON takes texts that are not JSON and keeps a node of 80 bytes and only a double for each
 * number. So a text is checked here first, and copied without white space to a skeleton in which
 * every number is "0" and every list of numbers "[0]"; where they stood is kept in order. cJSON
 * then gives the structure, and the numbers are read from the text itself, once, to their own type.
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

/* Scans the whole text. On success *skeleton and *spans are filled: spans holds a json_span for
 * each "0" and "[0]" of the skeleton, in order. A list of numbers is one whose leaves, at any
 * depth, are numbers or the strings "NaN", "Infinity", "-Infinity", or that has none; it is one
 * span as a whole. The caller drops both texts in either case. The spans point into `json`. */
codec_status json_scan(const char *json, size_t length, text *skeleton, text *spans,
                       codec_error *error);

#endif
