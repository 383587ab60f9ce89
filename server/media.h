/* media.h: media types, and which one a client wants (RFC 9110, section 12.5.1). */
#ifndef ADAMD_MEDIA_H
#define ADAMD_MEDIA_H

#include <stdbool.h>
#include <stddef.h>

typedef enum media {
    MEDIA_NONE,
    MEDIA_JSON,
    MEDIA_MERGE_PATCH,
    MEDIA_SAFETENSORS,
    MEDIA_OCTETS, /* safetensors, by another name */
    MEDIA_YAML,
    MEDIA_EVENTS, /* server-sent events */
} media;

const char *media_name(media m);
/* The type that a Content-Type names, its parameters aside; MEDIA_NONE where it is none of these.
 */
media media_parse(const char *content_type);
/* Which of the n `offers`, in order of preference, an Accept header takes best; NULL takes the
 * first. MEDIA_NONE: it takes none. */
media media_choose(const char *accept, const media *offers, size_t n);

#endif
