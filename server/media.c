/* media.c: media types. */
#include "media.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
    media media;
    const char *name;
} names[] = {
    {MEDIA_JSON, "application/json"},
    {MEDIA_MERGE_PATCH, "application/merge-patch+json"},
    {MEDIA_SAFETENSORS, "application/vnd.safetensors"},
    {MEDIA_OCTETS, "application/octet-stream"},
    {MEDIA_YAML, "application/yaml"},
    {MEDIA_EVENTS, "text/event-stream"},
};
#define NAMES_LENGTH (sizeof names / sizeof names[0])

const char *media_name(media m)
{
    for (size_t i = 0; i < NAMES_LENGTH; i++) {
        if (names[i].media == m) {
            return names[i].name;
        }
    }
    return "";
}

/* The part of `text` up to a character of `stops`, without spaces around it. */
static size_t part(const char **text, const char *stops, const char **from)
{
    *text += strspn(*text, " \t");
    *from = *text;
    size_t length = strcspn(*text, stops);
    *text += length;
    while (length > 0 && ((*from)[length - 1] == ' ' || (*from)[length - 1] == '\t')) {
        length--;
    }
    return length;
}

static bool is(const char *from, size_t length, const char *name)
{
    return strlen(name) == length && strncasecmp(from, name, length) == 0;
}

media media_parse(const char *content_type)
{
    const char *from;
    const size_t length = part(&content_type, ";", &from);
    for (size_t i = 0; i < NAMES_LENGTH; i++) {
        if (is(from, length, names[i].name)) {
            return names[i].media;
        }
    }
    return MEDIA_NONE;
}

/* How closely a media range names a type: 3 wholly, 2 "application/<any>", 1 any, 0 not at all. */
static int closeness(const char *range, size_t length, media m)
{
    const char *name = media_name(m);
    const size_t kind = strcspn(name, "/") + 1; /* "application/" */
    if (is(range, length, name)) {
        return 3;
    }
    if (length == kind + 1 && strncasecmp(range, name, kind) == 0 && range[kind] == '*') {
        return 2;
    }
    return is(range, length,
              "*"
              "/"
              "*")
               ? 1
               : 0;
}

/* The quality that `accept` gives a type: that of the closest range. */
static double quality(const char *accept, media m)
{
    int best = 0;
    double result = 0;
    while (*accept != '\0') {
        const char *range;
        const size_t length = part(&accept, ";,", &range);
        double q = 1;
        while (*accept == ';') {
            accept++;
            const char *parameter;
            const size_t parameter_length = part(&accept, ";,", &parameter);
            if (parameter_length > 2 && strncasecmp(parameter, "q=", 2) == 0) {
                q = strtod(parameter + 2, NULL);
            }
        }
        const int close = closeness(range, length, m);
        if (close > best) {
            best = close;
            result = q;
        }
        accept += *accept == ',';
    }
    return result;
}

media media_choose(const char *accept, const media *offers, size_t n)
{
    if (accept == NULL || *accept == '\0') {
        return offers[0];
    }
    media best = MEDIA_NONE;
    double best_quality = 0;
    for (size_t i = 0; i < n; i++) {
        const double q = quality(accept, offers[i]);
        if (q > best_quality) {
            best = offers[i];
            best_quality = q;
        }
    }
    return best;
}
