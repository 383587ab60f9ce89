/* name_pattern.h: regular expressions over parameter names, with an end to the work that one may
 * make. PCRE2's syntax over UTF-8; matches are searched for anywhere in a name. */
#ifndef ADAMD_NAME_PATTERN_H
#define ADAMD_NAME_PATTERN_H

#include "buffer.h"
#include "codec.h"

#define NAME_PATTERN_MAX_BYTES  1024                  /* of the text of a pattern */
#define NAME_PATTERN_MAX_PARENS 100                   /* depth of its parentheses */
#define NAME_PATTERN_NAME_STEPS ((uint64_t)500000)    /* of a match with one name */
#define NAME_PATTERN_ALL_STEPS  ((uint64_t)100000000) /* of all matches of a request */
/* PCRE2's own limits on a match: tries from one place of the name; depth of backtracking; KiB */
#define NAME_PATTERN_MAX_TRIES 200000
#define NAME_PATTERN_MAX_DEPTH 10000
#define NAME_PATTERN_MAX_KIB   4096

typedef struct name_pattern name_pattern;

/* Work that is left for the matches of a request: NAME_PATTERN_ALL_STEPS at first. A step is an
 * item of a pattern that is tried somewhere; it counts for more with a long name. No clock: the
 * same request always ends the same way, however busy the machine is. */
typedef struct name_effort {
    uint64_t left;
} name_effort;

/* Compiles `regex`, within the memory budget. `where` is for messages, here and later, and must
 * outlive the pattern, as `regex` must: "param group 1". On success *out is the caller's, to be
 * given to name_pattern_free. */
codec_status name_pattern_compile(memory *m, const char *regex, size_t length, const char *where,
                                  name_pattern **out, codec_error *error);
/* NULL is allowed. */
void name_pattern_free(name_pattern *p);

/* Whether the pattern matches somewhere in a name, which is UTF-8 of at most ADAM_MAX_NAME bytes.
 */
codec_status name_pattern_match(name_pattern *p, const char *name, size_t length,
                                name_effort *effort, bool *matches, codec_error *error);

#endif
