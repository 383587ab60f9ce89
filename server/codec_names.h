/* codec_names.h: a list of names in JSON. */
#ifndef ADAMD_CODEC_NAMES_H
#define ADAMD_CODEC_NAMES_H

#include "codec_json.h"

/* A place in a list of strings. A list of nothing but "NaN" and the like was set aside as numbers
 * by the scan, and is read from its text. */
typedef struct name_list {
    const json_value *item;
    const char *at, *end;
} name_list;

/* Begins a list; false where the value is no list of strings. */
bool names_begin(const json_doc *doc, const json_value *value, name_list *list);
/* The next name, or NULL at the end. */
const char *names_next(name_list *list, size_t *length);

/* Whether the value is []. */
bool names_empty_list(const json_doc *doc, const json_value *value);

#endif
