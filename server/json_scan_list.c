/* json_scan_list.c: lists of numbers: their grammar, their shape, and what is kept of them. Text
 * that is something else, or malformed, is json_scan.c's to judge. */
#include <math.h>
#include <string.h>

#include "json_scan_internal.h"
#include "number.h"

size_t json_numbers_bytes(const json_numbers *n)
{
    return sizeof *n + (n->rank > 0 ? (size_t)n->rank * sizeof n->shape[0] : 0);
}

void json_add_numbers(json_scanner *s, json_numbers *n, const uint64_t *shape)
{
    n->span.length = (size_t)(s->at - n->span.text);
    text_add(s->numbers, (const char *)n, sizeof *n);
    if (n->rank > 0) {
        text_add(s->numbers, (const char *)shape, (size_t)n->rank * sizeof *shape);
    }
}

/* The shape of the lists that are being scanned. */
typedef struct list_shape {
    unsigned depth; /* lists that are open */
    unsigned rank;  /* the most that were */
    unsigned leaf_depth;
    bool any_leaf, ragged;
    bool known[ADAM_MAX_RANK]; /* whether a list at that depth has ended: all are as long */
    uint64_t length[ADAM_MAX_RANK];
    uint64_t items[ADAM_MAX_RANK]; /* of each that is open, so far */
} list_shape;

static void shape_open(list_shape *l)
{
    if (l->depth > 0) {
        l->items[l->depth - 1]++;
    }
    l->items[l->depth++] = 0;
    l->rank = l->depth > l->rank ? l->depth : l->rank;
}

static void shape_close(list_shape *l)
{
    const unsigned at = --l->depth;
    if (!l->known[at]) {
        l->known[at] = true;
        l->length[at] = l->items[at];
    }
    l->ragged = l->ragged || l->length[at] != l->items[at];
}

static void shape_leaves(list_shape *l, size_t n)
{
    if (!l->any_leaf || l->leaf_depth != l->depth) {
        l->ragged = l->ragged || l->any_leaf;
        l->any_leaf = true;
        l->leaf_depth = l->depth;
    }
    l->items[l->depth - 1] += n;
}

/* Passes over "NaN", "Infinity" or "-Infinity", in quotes; false where none stands there. */
static bool scan_special(json_scanner *s, float *value)
{
    static const struct {
        const char *word;
        float value;
    } words[] = {{"\"NaN\"", NAN}, {"\"Infinity\"", INFINITY}, {"\"-Infinity\"", -INFINITY}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (json_at_text(s, words[i].word)) {
            s->at += strlen(words[i].word);
            *value = words[i].value;
            return true;
        }
    }
    return false;
}

/* Scans numbers, or one of the strings that stand for one, and keeps them while *keep; how many, or
 * 0 where there is neither. */
static size_t scan_leaves(json_scanner *s, bool *keep)
{
    json_kept *kept = s->kept;
    const size_t room = *keep ? kept->capacity - kept->n : 0;
    float *values = room > 0 ? kept->values + kept->n : NULL;
    number_run run = {.n = 1, .fits = true};
    if (*s->at == '"') {
        float value;
        if (!scan_special(s, &value)) {
            return 0;
        }
        if (room > 0) {
            *values = value;
        }
    } else {
        const char *end = number_scan_f32(s->at, s->end, values, room, &run);
        if (end == NULL) {
            return 0;
        }
        s->at = end;
    }
    *keep = *keep && run.n <= room && run.fits;
    kept->n += *keep ? run.n : 0;
    return run.n;
}

/* After an item, or in an empty list. */
static void close_lists(json_scanner *s, list_shape *shape)
{
    json_skip_space(s);
    while (shape->depth > 0 && s->at < s->end && *s->at == ']') {
        s->at++;
        shape_close(shape);
        if (shape->depth > 0) {
            json_skip_space(s);
        }
    }
}

bool json_scan_list(json_scanner *s)
{
    const char *from = s->at;
    const size_t kept_before = s->kept->n;
    bool keep = true;
    list_shape shape = {0};
    bool may_close = false; /* after a '[', not after a ',' */
    do {
        json_skip_space(s);
        if (s->at == s->end) {
            goto other;
        }
        if (*s->at == '[') {
            if (shape.depth == ADAM_MAX_RANK || s->depth + shape.depth >= CODEC_MAX_DEPTH) {
                goto other;
            }
            s->at++;
            shape_open(&shape);
            may_close = true;
            continue;
        }
        if (*s->at != ']' || !may_close) {
            const size_t n = scan_leaves(s, &keep);
            if (n == 0) {
                goto other;
            }
            shape_leaves(&shape, n);
        }
        close_lists(s, &shape);
        if (shape.depth > 0 && (s->at == s->end || *s->at++ != ',')) {
            goto other;
        }
        may_close = false;
    } while (shape.depth > 0);
    shape.ragged = shape.ragged || (shape.any_leaf && shape.leaf_depth != shape.rank);
    text_add(s->skeleton, "[0]", 3);
    json_numbers n = {.span = {.text = from},
                      .values = keep ? s->kept->values + kept_before : NULL,
                      .rank = shape.ragged ? JSON_RAGGED : (int)shape.rank};
    json_add_numbers(s, &n, shape.length);
    s->kept->n = keep ? s->kept->n : kept_before;
    return true;
other:
    s->kept->n = kept_before;
    s->at = from;
    return false;
}
