/* codec_grad_options.c: one table of what is done with gradients, read and printed. */
#include "codec_grad_options.h"

#include <math.h>
#include <string.h>

#include "codec_numbers.h"

typedef enum option_type {
    OPTION_NUMBER,
    OPTION_LIMIT, /* a number, or null: none, which is infinity in the core */
    OPTION_BOOL,
    OPTION_NONFINITE,
    OPTION_NORM,
} option_type;

static const struct option {
    const char *name;
    option_type type;
    size_t offset; /* of the member of adam_grad_options */
    const char *expected;
} table[] = {
    {"grad_scale", OPTION_NUMBER, offsetof(adam_grad_options, grad_scale), "a number"},
    {"nonfinite", OPTION_NONFINITE, offsetof(adam_grad_options, nonfinite),
     "\"error\", \"skip\" or \"apply\""},
    {"max_grad_norm", OPTION_LIMIT, offsetof(adam_grad_options, max_grad_norm), "a number or null"},
    {"norm_type", OPTION_NORM, offsetof(adam_grad_options, norm_type), "2 or \"inf\""},
    {"error_if_nonfinite", OPTION_BOOL, offsetof(adam_grad_options, error_if_nonfinite),
     "true or false"},
    {"clip_value", OPTION_LIMIT, offsetof(adam_grad_options, clip_value), "a number or null"},
};
#define TABLE_LENGTH (sizeof table / sizeof table[0])

static const char *const nonfinite_names[] = {[ADAM_NONFINITE_ERROR] = "error",
                                              [ADAM_NONFINITE_SKIP] = "skip",
                                              [ADAM_NONFINITE_APPLY] = "apply"};

static void *member_of(const struct option *o, adam_grad_options *options)
{
    return (char *)options + o->offset;
}

static void set_default(const struct option *o, adam_grad_options *options)
{
    adam_grad_options fresh;
    adam_grad_options_default(&fresh);
    switch (o->type) {
    case OPTION_NUMBER:
    case OPTION_LIMIT: memcpy(member_of(o, options), member_of(o, &fresh), sizeof(double)); break;
    case OPTION_BOOL: options->error_if_nonfinite = fresh.error_if_nonfinite; break;
    case OPTION_NONFINITE: options->nonfinite = fresh.nonfinite; break;
    case OPTION_NORM: options->norm_type = fresh.norm_type; break;
    }
}

/* Takes one of the names that an option may have; false: it is none of them. */
static bool take_word(const struct option *o, const char *word, adam_grad_options *options)
{
    if (o->type == OPTION_NORM && strcmp(word, "inf") == 0) {
        options->norm_type = ADAM_NORM_INF;
        return true;
    }
    for (size_t i = 0; o->type == OPTION_NONFINITE && i <= ADAM_NONFINITE_APPLY; i++) {
        if (strcmp(word, nonfinite_names[i]) == 0) {
            options->nonfinite = (adam_nonfinite)i;
            return true;
        }
    }
    return false;
}

/* Takes a number; false: the option has none, or not that one. */
static bool take_number(const struct option *o, double number, adam_grad_options *options)
{
    if (o->type == OPTION_NUMBER || o->type == OPTION_LIMIT) {
        memcpy(member_of(o, options), &number, sizeof number);
        return true;
    }
    if (o->type == OPTION_NORM && !(number < 2.0) && !(number > 2.0)) {
        options->norm_type = ADAM_NORM_2;
        return true;
    }
    return false;
}

static codec_status read_option(const json_doc *doc, const struct option *o,
                                const json_value *value, const char *where,
                                adam_grad_options *options, codec_error *error)
{
    double number;
    bool taken = false;
    switch (json_type_of(value)) {
    case JSON_NULL:
        set_default(o, options);
        taken = true;
        break;
    case JSON_BOOL:
        taken = o->type == OPTION_BOOL;
        options->error_if_nonfinite = taken ? json_bool(value) : options->error_if_nonfinite;
        break;
    case JSON_STRING: taken = take_word(o, json_string(value), options); break;
    case JSON_NUMBER:
        taken = numbers_double(doc, value, &number) && take_number(o, number, options);
        break;
    default: break;
    }
    return taken ? CODEC_OK
                 : codec_fail(error, CODEC_INVALID_VALUE, "%s of %s is %s, expected %s", o->name,
                              where,
                              json_type_of(value) == JSON_NUMBER && o->type == OPTION_NORM
                                  ? "another number"
                                  : json_type_text(value),
                              o->expected);
}

codec_status grad_options_read(const json_doc *doc, const json_value *object, const char *where,
                               adam_grad_options *options, codec_error *error)
{
    codec_status st = CODEC_OK;
    for (size_t i = 0; st == CODEC_OK && i < TABLE_LENGTH; i++) {
        const json_value *value = json_get(object, table[i].name);
        if (value != NULL) {
            st = read_option(doc, &table[i], value, where, options, error);
        }
    }
    return st;
}

codec_status grad_options_read_metadata(buffer_pool *pool, const safetensors *file,
                                        adam_grad_options *options, codec_error *error)
{
    codec_status st = CODEC_OK;
    for (size_t i = 0; st == CODEC_OK && i < TABLE_LENGTH; i++) {
        const char *value = safetensors_metadata(file, table[i].name);
        if (value == NULL || take_word(&table[i], value, options)) {
            continue;
        }
        json_doc *doc = NULL;
        if (json_parse(pool, value, strlen(value), &doc, error) != CODEC_OK) {
            return codec_fail(error, CODEC_INVALID_VALUE,
                              "__metadata__.%s is '" CODEC_NAME_FORMAT "', expected %s",
                              table[i].name, CODEC_NAME(value, strlen(value)), table[i].expected);
        }
        st = read_option(doc, &table[i], json_root(doc), "__metadata__", options, error);
        json_free(doc);
    }
    return st;
}

const char *grad_option_name(size_t i)
{
    return i < TABLE_LENGTH ? table[i].name : NULL;
}

void grad_option_add_value(text *t, const adam_grad_options *options, size_t i)
{
    double number;
    switch (table[i].type) {
    case OPTION_NUMBER:
    case OPTION_LIMIT:
        memcpy(&number, (const char *)options + table[i].offset, sizeof number);
        if (isfinite(number)) {
            json_add_double(t, number);
        } else {
            text_add_string(t, "null");
        }
        break;
    case OPTION_BOOL: text_add_string(t, options->error_if_nonfinite ? "true" : "false"); break;
    case OPTION_NONFINITE: text_add_format(t, "\"%s\"", nonfinite_names[options->nonfinite]); break;
    case OPTION_NORM:
        text_add_string(t, options->norm_type == ADAM_NORM_INF ? "\"inf\"" : "2");
        break;
    }
}

void grad_options_add(text *t, const adam_grad_options *options)
{
    for (size_t i = 0; i < TABLE_LENGTH; i++) {
        text_add_format(t, "%s\"%s\": ", i > 0 ? ", " : "", table[i].name);
        grad_option_add_value(t, options, i);
    }
}
