/* path.h: request targets (RFC 3986), taken apart and decoded. */
#ifndef ADAMD_PATH_H
#define ADAMD_PATH_H

#include <stdbool.h>
#include <stddef.h>

#define PATH_MAX_BYTES    8192 /* of a target */
#define PATH_MAX_SEGMENTS 8
#define PATH_MAX_QUERY    8

/* Decoded and terminated; holds no NUL of its own. */
typedef struct path_segment {
    const char *text;
    size_t length;
} path_segment;

typedef struct path {
    char text[PATH_MAX_BYTES + 2 * PATH_MAX_SEGMENTS + 4 * PATH_MAX_QUERY];
    path_segment segments[PATH_MAX_SEGMENTS];
    size_t n_segments;
    struct {
        path_segment key, value;
    } query[PATH_MAX_QUERY];
    size_t n_query;
} path;

/* NULL, or what is wrong with the target: "has a broken percent-encoding". */
const char *path_parse(const char *target, path *out);
/* Whether it has the form of a pattern: "/v1/optimizers/{name}/step". */
bool path_matches(const path *p, const char *pattern);
/* The segment at the place of `variable` in the pattern, or NULL. */
const path_segment *path_variable(const path *p, const char *pattern, const char *variable);
/* A decimal number, at most `most`; false where it is none, or over it. */
bool path_number(const char *text, size_t length, size_t most, size_t *out);

#endif
