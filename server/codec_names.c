/* codec_names.c: lists of names. */
#include "codec_names.h"

#include <string.h>

/* Whether a list's text holds strings alone, not nested. */
static bool only_strings(json_span list)
{
    bool quoted = false;
    for (size_t i = 1; i + 1 < list.length; i++) {
        const char c = list.text[i];
        if (c == '"') {
            quoted = !quoted;
        } else if (!quoted && strchr(" \n\t\r,", c) == NULL) {
            return false;
        }
    }
    return true;
}

bool names_begin(const json_doc *doc, const json_value *value, name_list *list)
{
    *list = (name_list){0};
    if (value == NULL) {
        return false;
    }
    if (json_type_of(value) == JSON_NUMBERS) {
        const json_span span = json_number_text(doc, value);
        list->at = span.text;
        list->end = span.text + span.length;
        return only_strings(span);
    }
    if (json_type_of(value) != JSON_LIST) {
        return false;
    }
    list->item = json_first(value);
    for (const json_value *item = list->item; item != NULL; item = json_next(item)) {
        if (json_type_of(item) != JSON_STRING) {
            return false;
        }
    }
    return true;
}

const char *names_next(name_list *list, size_t *length)
{
    if (list->item != NULL) {
        const char *name = json_string(list->item);
        *length = strlen(name);
        list->item = json_next(list->item);
        return name;
    }
    const char *open =
        list->at != NULL ? memchr(list->at, '"', (size_t)(list->end - list->at)) : NULL;
    if (open == NULL) {
        return NULL;
    }
    const char *close = memchr(open + 1, '"', (size_t)(list->end - open - 1));
    list->at = close + 1;
    *length = (size_t)(close - open - 1);
    return open + 1;
}

bool names_empty_list(const json_doc *doc, const json_value *value)
{
    name_list list;
    size_t length;
    return json_type_of(value) == JSON_NUMBERS && names_begin(doc, value, &list) &&
           names_next(&list, &length) == NULL;
}
