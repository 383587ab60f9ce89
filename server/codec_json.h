/* codec_json.h: a parsed JSON text: structure by cJSON, numbers from the text itself.
 *
 * A document takes its memory from the budget and gives it back as a whole. Its strings, names and
 * numbers live as long as it does, and as long as the text that it was read from. */
#ifndef ADAMD_CODEC_JSON_H
#define ADAMD_CODEC_JSON_H

#include "buffer.h"
#include "codec.h"
#include "json_scan.h"

typedef struct json_doc json_doc;
typedef struct cJSON json_value;

typedef enum json_type {
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_STRING,
    JSON_LIST,    /* of values; an empty list is JSON_NUMBERS */
    JSON_NUMBERS, /* a list of numbers, nested or not, or an empty list */
    JSON_OBJECT,
} json_type;

/* Call once, before any thread parses. */
void json_init(void);

/* Parses strictly: the whole text is one value; no duplicate names; depth at most CODEC_MAX_DEPTH.
 * On success *doc is the caller's, to be freed with json_free. `text` must outlive it. */
codec_status json_parse(buffer_pool *pool, const char *text, size_t length, json_doc **doc,
                        codec_error *error);
/* The same; but the numbers of lists, up to `floats` of them, are also read as float32 at once, as
 * json_numbers has it: what is wanted so need not be read from the text again. */
codec_status json_parse_floats(buffer_pool *pool, const char *text, size_t length, size_t floats,
                               json_doc **doc, codec_error *error);
/* The buffer that holds all those values, or NULL; the caller may hold it for longer. */
buffer *json_floats(const json_doc *doc);
void json_free(json_doc *doc);

const json_value *json_root(const json_doc *doc);
json_type json_type_of(const json_value *value);
/* Of an object, by name, case-sensitive; NULL where it has none. */
const json_value *json_get(const json_value *object, const char *name);
/* The first member or item, and the next; NULL at the end. */
const json_value *json_first(const json_value *container);
const json_value *json_next(const json_value *value);
size_t json_count(const json_value *container);
const char *json_name(const json_value *member);
const char *json_string(const json_value *value);
bool json_bool(const json_value *value);
/* The text of a JSON_NUMBER or JSON_NUMBERS, with its shape. */
const json_numbers *json_numbers_of(const json_doc *doc, const json_value *value);
json_span json_number_text(const json_doc *doc, const json_value *value);

/* Refuses members of `object` that are not in the NULL-terminated `allowed`. `where` names the
 * object in the message: "a step". */
codec_status json_check_names(const json_value *object, const char *const *allowed,
                              const char *where, codec_error *error);

/* What a value is, for messages: "a string". */
const char *json_type_text(const json_value *value);

#endif
