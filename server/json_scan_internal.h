/* json_scan_internal.h: what the scan of JSON and that of lists of numbers share. */
#ifndef ADAMD_JSON_SCAN_INTERNAL_H
#define ADAMD_JSON_SCAN_INTERNAL_H

#include <string.h>

#include "json_scan.h"

typedef struct json_scanner {
    const char *start, *at, *end;
    json_kept *kept;
    text *skeleton, *numbers;
    unsigned depth;
    codec_error *error;
} json_scanner;

static inline void json_skip_space(json_scanner *s)
{
    while (s->at < s->end &&
           (*s->at == ' ' || *s->at == '\n' || *s->at == '\t' || *s->at == '\r')) {
        s->at++;
    }
}

static inline bool json_at_text(const json_scanner *s, const char *word)
{
    const size_t n = strlen(word);
    return (size_t)(s->end - s->at) >= n && memcmp(s->at, word, n) == 0;
}

/* Sets aside what stands from n->span.text to s->at; `shape` has n->rank lengths. */
void json_add_numbers(json_scanner *s, json_numbers *n, const uint64_t *shape);

/* Tries to scan a list of numbers. False: it is something else, or malformed, which the general
 * scan will say; s->at is then where it was. Lists of numbers nest at most as deep as tensors. */
bool json_scan_list(json_scanner *s);

#endif
