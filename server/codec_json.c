/* codec_json.c: JSON documents. The only file that knows cJSON.
 *
 * cJSON is used for structure alone, on a skeleton that json_scan.c has checked and emptied of
 * numbers. Its nodes come from an arena on the memory budget, so that a text cannot make the server
 * allocate past it, and are freed all at once. cJSON's allocator is process-wide; the arena in use
 * is a thread's own. */
#include "codec_json.h"

#include <cjson/cJSON.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_FIRST_BLOCK ((size_t)4096)
#define ARENA_MAX_BLOCK   ((size_t)1 << 20)
#define ARENA_ALIGNMENT   ((size_t)16)

typedef struct arena_block {
    struct arena_block *before;
    size_t bytes;
} arena_block;

/* It stands at the beginning of a buffer, the rest of which is the arena's first block: a small
 * text needs no other. */
struct json_doc {
    buffer *home;
    memory *memory;
    char *room; /* of the block in use: what is left */
    size_t left;
    arena_block *blocks; /* all but the first */
    bool full;           /* the budget ran out */
    text numbers;        /* json_numbers, one behind the other */
    buffer *floats;      /* values of some of them, or NULL */
    cJSON *root;
};

/* ---- the arena ---- */

static _Thread_local json_doc *current;

static size_t align(size_t bytes)
{
    return (bytes + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
}

/* A block with room for `bytes`, twice as large as the one before it. */
static bool add_block(json_doc *doc, size_t bytes)
{
    const size_t least = align(sizeof(arena_block)) + bytes;
    size_t size = doc->blocks != NULL ? doc->blocks->bytes * 2 : ARENA_FIRST_BLOCK;
    size = size < ARENA_MAX_BLOCK ? size : ARENA_MAX_BLOCK;
    size = size > least ? size : least;
    arena_block *b = memory_get(doc->memory, size);
    if (b == NULL) {
        doc->full = true;
        return false;
    }
    *b = (arena_block){.before = doc->blocks, .bytes = size};
    doc->blocks = b;
    doc->room = (char *)b + align(sizeof *b);
    doc->left = size - align(sizeof *b);
    return true;
}

static void *arena_alloc(size_t wanted)
{
    json_doc *doc = current;
    const size_t bytes = align(wanted);
    if (doc->left < bytes && !add_block(doc, bytes)) {
        return NULL;
    }
    void *out = doc->room;
    doc->room += bytes;
    doc->left -= bytes;
    return out;
}

static void arena_free(void *unused)
{
    (void)unused; /* json_free gives all back */
}

void json_init(void)
{
    cJSON_Hooks hooks = {.malloc_fn = arena_alloc, .free_fn = arena_free};
    cJSON_InitHooks(&hooks);
}

/* ---- checks that cJSON does not make ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Refuses an object that has a name twice. */
static codec_status check_duplicates(const cJSON *object, codec_error *error)
{
    const size_t n = json_count(object);
    if (n < 2) {
        return CODEC_OK;
    }
    const char **names = arena_alloc(n * sizeof *names);
    if (names == NULL) {
        return codec_fail(error, CODEC_NO_MEMORY, "no memory to read the JSON");
    }
    size_t i = 0;
    for (const cJSON *member = object->child; member != NULL; member = member->next) {
        names[i++] = member->string;
    }
    qsort(names, n, sizeof *names, compare_names);
    for (i = 1; i < n; i++) {
        if (strcmp(names[i - 1], names[i]) == 0) {
            return codec_fail(error, CODEC_MALFORMED_JSON,
                              "the name '" CODEC_NAME_FORMAT "' stands twice",
                              CODEC_NAME(names[i], strlen(names[i])));
        }
    }
    return CODEC_OK;
}

/* Whether it is the skeleton's "[0]". Alone: a number among other values has a span of its own. */
static bool is_number_list(const cJSON *value)
{
    return cJSON_IsArray(value) && cJSON_IsNumber(value->child) && value->child->next == NULL;
}

/* Numbers are found by where their json_numbers begins, in units of its alignment, which is kept in
 * valueint. */
#define NUMBERS_UNIT alignof(json_numbers)

static const json_numbers *numbers_at(const json_doc *doc, size_t unit)
{
    return (const void *)(doc->numbers.buffer->data + unit * NUMBERS_UNIT);
}

/* Walks the tree in the order of the text: numbers get their place, from *next on, and objects are
 * checked for duplicates. The depth is bounded by the scan. */
static codec_status place_numbers(const json_doc *doc, cJSON *value, size_t *next,
                                  codec_error *error)
{
    if (cJSON_IsNumber(value) || is_number_list(value)) {
        value->valueint = (int)*next;
        *next += json_numbers_bytes(numbers_at(doc, *next)) / NUMBERS_UNIT;
        return CODEC_OK;
    }
    codec_status st = cJSON_IsObject(value) ? check_duplicates(value, error) : CODEC_OK;
    if (cJSON_IsObject(value) || cJSON_IsArray(value)) {
        for (cJSON *item = value->child; st == CODEC_OK && item != NULL; item = item->next) {
            st = place_numbers(doc, item, next, error);
        }
    }
    return st;
}

static codec_status build(json_doc *doc, const text *skeleton, codec_error *error)
{
    const char *end = NULL;
    doc->root =
        cJSON_ParseWithLengthOpts(skeleton->buffer->data, skeleton->buffer->length, &end, 0);
    if (doc->root == NULL) {
        return doc->full ? codec_fail(error, CODEC_NO_MEMORY, "no memory to read the JSON")
                         : codec_fail(error, CODEC_MALFORMED_JSON, "not JSON");
    }
    size_t next = 0;
    return place_numbers(doc, doc->root, &next, error);
}

codec_status json_parse(buffer_pool *pool, const char *json, size_t length, json_doc **out,
                        codec_error *error)
{
    return json_parse_floats(pool, json, length, 0, out, error);
}

/* Room for `floats` values, but for no more than a text of that length can have: each number takes
 * two bytes of it. Without memory for it, none is kept. */
static json_kept begin_floats(buffer_pool *pool, json_doc *doc, size_t floats, size_t length)
{
    const size_t most = floats < length / 2 ? floats : length / 2;
    doc->floats = most > 0 ? buffer_get(pool, most * sizeof(float)) : NULL;
    return doc->floats != NULL ? (json_kept){(void *)doc->floats->data, 0, most} : (json_kept){0};
}

codec_status json_parse_floats(buffer_pool *pool, const char *json, size_t length, size_t floats,
                               json_doc **out, codec_error *error)
{
    buffer *home = buffer_get(pool, ARENA_FIRST_BLOCK);
    if (home == NULL) {
        return codec_fail(error, CODEC_NO_MEMORY, "no memory to read the JSON");
    }
    json_doc *doc = (void *)home->data;
    *doc = (json_doc){.home = home,
                      .memory = buffer_pool_memory(pool),
                      .room = home->data + align(sizeof *doc),
                      .left = home->capacity - align(sizeof *doc),
                      .numbers = {.pool = pool}};
    text skeleton = {.pool = pool};
    json_kept kept = begin_floats(pool, doc, floats, length);
    codec_status st = json_scan(json, length, &kept, &skeleton, &doc->numbers, error);
    if (st == CODEC_OK) {
        current = doc;
        st = build(doc, &skeleton, error);
        current = NULL;
    }
    if (doc->floats != NULL) {
        doc->floats->length = kept.n * sizeof(float);
    }
    text_drop(&skeleton);
    if (st != CODEC_OK) {
        json_free(doc);
        return st;
    }
    *out = doc;
    return CODEC_OK;
}

void json_free(json_doc *doc)
{
    if (doc == NULL) {
        return;
    }
    text_drop(&doc->numbers);
    buffer_drop(doc->floats);
    for (arena_block *b = doc->blocks; b != NULL;) {
        arena_block *before = b->before;
        memory_put(doc->memory, b, b->bytes);
        b = before;
    }
    buffer_drop(doc->home);
}

/* ---- reading ---- */

const json_value *json_root(const json_doc *doc)
{
    return doc->root;
}

json_type json_type_of(const json_value *value)
{
    if (cJSON_IsObject(value)) {
        return JSON_OBJECT;
    }
    if (cJSON_IsArray(value)) {
        return is_number_list(value) ? JSON_NUMBERS : JSON_LIST;
    }
    if (cJSON_IsNumber(value)) {
        return JSON_NUMBER;
    }
    if (cJSON_IsString(value)) {
        return JSON_STRING;
    }
    return cJSON_IsBool(value) ? JSON_BOOL : JSON_NULL;
}

const json_value *json_get(const json_value *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

const json_value *json_first(const json_value *container)
{
    return is_number_list(container) ? NULL : container->child;
}

const json_value *json_next(const json_value *value)
{
    return value->next;
}

size_t json_count(const json_value *container)
{
    size_t n = 0;
    for (const cJSON *item = json_first(container); item != NULL; item = item->next) {
        n++;
    }
    return n;
}

const char *json_name(const json_value *member)
{
    return member->string;
}

const char *json_string(const json_value *value)
{
    return value->valuestring;
}

bool json_bool(const json_value *value)
{
    return cJSON_IsTrue(value);
}

const json_numbers *json_numbers_of(const json_doc *doc, const json_value *value)
{
    return numbers_at(doc, (size_t)value->valueint);
}

buffer *json_floats(const json_doc *doc)
{
    return doc->floats;
}

json_span json_number_text(const json_doc *doc, const json_value *value)
{
    return json_numbers_of(doc, value)->span;
}

codec_status json_check_names(const json_value *object, const char *const *allowed,
                              const char *where, codec_error *error)
{
    for (const cJSON *member = object->child; member != NULL; member = member->next) {
        const char *const *known = allowed;
        while (*known != NULL && strcmp(*known, member->string) != 0) {
            known++;
        }
        if (*known == NULL) {
            return codec_fail(error, CODEC_UNKNOWN_FIELD,
                              "unknown field '" CODEC_NAME_FORMAT "' in %s",
                              CODEC_NAME(member->string, strlen(member->string)), where);
        }
    }
    return CODEC_OK;
}

const char *json_type_text(const json_value *value)
{
    switch (json_type_of(value)) {
    case JSON_NULL: return "null";
    case JSON_BOOL: return "a boolean";
    case JSON_NUMBER: return "a number";
    case JSON_STRING: return "a string";
    case JSON_LIST: return "a list";
    case JSON_NUMBERS: return "a list of numbers";
    case JSON_OBJECT: break;
    }
    return "an object";
}
