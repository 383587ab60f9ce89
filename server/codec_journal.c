/* codec_journal.c: records of the journal, printed and read. */
#include "codec_journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec_grad_options.h"
#include "codec_numbers.h"
#include "codec_options.h"

/* ---- a request ---- */

static const struct header {
    const char *name;
    size_t offset;
} headers[] = {
    {"method", offsetof(journal_request, method)},
    {"target", offsetof(journal_request, target)},
    {"content_type", offsetof(journal_request, content_type)},
    {"worker", offsetof(journal_request, worker)},
    {"key", offsetof(journal_request, key)},
    {"weight", offsetof(journal_request, weight)},
    {"based_on", offsetof(journal_request, based_on)},
};
#define HEADERS (sizeof headers / sizeof headers[0])

void journal_request_add(text *t, const journal_request *rq)
{
    bool any = false;
    text_add(t, "{", 1);
    for (size_t i = 0; i < HEADERS; i++) {
        const char *value =
            *(const char *const *)(const void *)((const char *)rq + headers[i].offset);
        if (value != NULL) {
            text_add_format(t, "%s\"%s\": ", any ? ", " : "", headers[i].name);
            json_add_string(t, value, strlen(value));
            any = true;
        }
    }
    text_add(t, "}", 1);
}

codec_status journal_request_read(const json_doc *doc, journal_request *rq, codec_error *error)
{
    const char *allowed[HEADERS + 1] = {NULL};
    const json_value *root = json_root(doc);
    *rq = (journal_request){0};
    for (size_t i = 0; i < HEADERS; i++) {
        allowed[i] = headers[i].name;
    }
    if (json_type_of(root) != JSON_OBJECT) {
        return codec_fail(error, CODEC_INVALID_VALUE, "a record of a request is no object");
    }
    codec_status st = json_check_names(root, allowed, "a record of a request", error);
    for (size_t i = 0; st == CODEC_OK && i < HEADERS; i++) {
        const json_value *value = json_get(root, headers[i].name);
        if (value != NULL && json_type_of(value) != JSON_STRING) {
            return codec_fail(error, CODEC_INVALID_VALUE, "%s of a request is no string",
                              headers[i].name);
        }
        *(const char **)(void *)((char *)rq + headers[i].offset) =
            value != NULL ? json_string(value) : NULL;
    }
    if (st == CODEC_OK && (rq->method == NULL || rq->target == NULL)) {
        return codec_fail(error, CODEC_INVALID_VALUE, "a request without method or target");
    }
    return st;
}

/* ---- a step ---- */

static void add_part(text *t, const journal_part *part)
{
    text_add_string(t, "{\"weight\": ");
    json_add_double(t, part->weight);
    if (part->worker != NULL) {
        text_add_string(t, ", \"worker\": ");
        json_add_string(t, part->worker, strlen(part->worker));
    }
    if (part->key != NULL) {
        text_add_string(t, ", \"key\": ");
        json_add_string(t, part->key, strlen(part->key));
        text_add_format(t, ", \"body\": \"%016llx%016llx\"", (unsigned long long)part->body[0],
                        (unsigned long long)part->body[1]);
    }
    if (part->has_staleness) {
        text_add_string(t, ", \"staleness\": ");
        text_add_uint(t, part->staleness);
    }
    text_add_string(t, part->held ? ", \"held\": true}" : "}");
}

void journal_step_add(text *t, const journal_step *s)
{
    text_add(t, "{", 1);
    grad_options_add(t, &s->grad_options);
    if (s->overrides != NULL) {
        text_add_string(t, ", \"param_groups\": [");
        for (size_t i = 0; i < s->n_groups; i++) {
            text_add_string(t, i > 0 ? ", {" : "{");
            options_add(t, &s->overrides[i]);
            text_add(t, "}", 1);
        }
        text_add(t, "]", 1);
    }
    text_add_string(t, ", \"tensors\": ");
    text_add_uint(t, s->n_tensors);
    text_add_string(t, s->round ? ", \"round\": true, \"parts\": [" : ", \"parts\": [");
    for (size_t i = 0; i < s->n_parts; i++) {
        text_add_string(t, i > 0 ? ", " : "");
        add_part(t, &s->parts[i]);
    }
    text_add_string(t, "]}");
}

static codec_status wrong(codec_error *error, const char *what)
{
    return codec_fail(error, CODEC_INVALID_VALUE, "a record of a step: %s", what);
}

/* A string member, or NULL; false where it is something else. */
static bool read_string(const json_value *object, const char *name, const char **out)
{
    const json_value *value = json_get(object, name);
    *out = value != NULL && json_type_of(value) == JSON_STRING ? json_string(value) : NULL;
    return value == NULL || *out != NULL;
}

static bool read_fingerprint(const char *hex, uint64_t body[2])
{
    char half[17] = "";
    if (hex == NULL || strlen(hex) != 32 || strspn(hex, "0123456789abcdef") != 32) {
        return false;
    }
    for (size_t i = 0; i < 2; i++) {
        memcpy(half, hex + 16 * i, 16);
        body[i] = strtoull(half, NULL, 16);
    }
    return true;
}

static codec_status read_part(const json_doc *doc, const json_value *object, journal_part *part,
                              codec_error *error)
{
    static const char *const allowed[] = {"weight",    "worker", "key", "body",
                                          "staleness", "held",   NULL};
    if (json_type_of(object) != JSON_OBJECT) {
        return wrong(error, "a part is no object");
    }
    codec_status st = json_check_names(object, allowed, "a part of a step", error);
    if (st != CODEC_OK) {
        return st;
    }
    *part = (journal_part){0};
    const char *body;
    const json_value *weight = json_get(object, "weight");
    const json_value *staleness = json_get(object, "staleness");
    const json_value *held = json_get(object, "held");
    part->has_staleness = staleness != NULL;
    part->held = held != NULL;
    const bool fits = weight != NULL && json_type_of(weight) == JSON_NUMBER &&
                      numbers_double(doc, weight, &part->weight) &&
                      read_string(object, "worker", &part->worker) &&
                      read_string(object, "key", &part->key) &&
                      read_string(object, "body", &body) &&
                      (part->key == NULL || read_fingerprint(body, part->body)) &&
                      (staleness == NULL || (json_type_of(staleness) == JSON_NUMBER &&
                                             numbers_uint(doc, staleness, &part->staleness)));
    return fits ? CODEC_OK : wrong(error, "a part that is not as it should be");
}

static codec_status read_overrides(const json_doc *doc, const json_value *groups,
                                   const adam_optimizer *o, journal_step *s, codec_error *error)
{
    codec_status st = CODEC_OK;
    size_t i = 0;
    if (json_type_of(groups) != JSON_LIST || json_count(groups) != s->n_groups) {
        return wrong(error, "param_groups are not those of the optimizer");
    }
    for (const json_value *g = json_first(groups); st == CODEC_OK && g != NULL; g = json_next(g)) {
        s->overrides[i] = adam_optimizer_group(o, i).options;
        st = options_read(doc, g, "a record of a step", &s->overrides[i], error);
        i++;
    }
    return st;
}

codec_status journal_step_read(buffer_pool *pool, const json_doc *doc, const adam_optimizer *o,
                               journal_step *s, buffer **room, codec_error *error)
{
    static const char *const allowed[] = {
        CODEC_GRAD_OPTION_NAMES, "param_groups", "tensors", "round", "parts", NULL};
    const json_value *root = json_root(doc);
    *room = NULL;
    *s = (journal_step){.n_groups = adam_optimizer_group_count(o)};
    if (json_type_of(root) != JSON_OBJECT) {
        return wrong(error, "it is no object");
    }
    codec_status st = json_check_names(root, allowed, "a record of a step", error);
    const json_value *groups = json_get(root, "param_groups");
    const json_value *parts = json_get(root, "parts");
    const json_value *tensors = json_get(root, "tensors");
    if (st != CODEC_OK) {
        return st;
    }
    if (tensors == NULL || json_type_of(tensors) != JSON_NUMBER ||
        !numbers_uint(doc, tensors, &s->n_tensors) || s->n_tensors == 0 ||
        s->n_tensors > adam_optimizer_param_count(o)) {
        return wrong(error, "it has no number of tensors that could be");
    }
    const bool any = parts != NULL && json_type_of(parts) == JSON_LIST;
    s->n_parts = any ? json_count(parts) : 0;
    if (s->n_parts == 0 || s->n_parts > JOURNAL_MAX_CONTRIBUTIONS) {
        return wrong(error, "it has no parts");
    }
    *room = buffer_get(pool, s->n_groups * sizeof *s->overrides + s->n_parts * sizeof *s->parts);
    if (*room == NULL) {
        return codec_fail(error, CODEC_NO_MEMORY, "no memory for a step of %zu parts", s->n_parts);
    }
    s->overrides = (void *)(*room)->data;
    s->parts = (void *)(s->overrides + s->n_groups);
    s->round = json_get(root, "round") != NULL;
    adam_grad_options_default(&s->grad_options);
    st = grad_options_read(doc, root, "a record of a step", &s->grad_options, error);
    size_t i = 0;
    for (const json_value *m = json_first(parts); st == CODEC_OK && m != NULL; m = json_next(m)) {
        st = read_part(doc, m, &s->parts[i++], error);
    }
    if (st == CODEC_OK && groups != NULL) {
        return read_overrides(doc, groups, o, s, error);
    }
    s->overrides = NULL;
    return st;
}

bool journal_tensors_read(const adam_optimizer *o, const char *data, uint64_t length, size_t n,
                          adam_tensor *tensors)
{
    const uint64_t table = (uint64_t)n * sizeof(journal_tensor);
    if (table > length) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        journal_tensor at;
        memcpy(&at, data + i * sizeof at, sizeof at);
        if (at.param >= adam_optimizer_param_count(o) || at.dtype > ADAM_FLOAT16) {
            return false;
        }
        const adam_param_view v = adam_optimizer_param(o, at.param);
        const uint64_t bytes = v.numel * adam_dtype_size((adam_dtype)at.dtype);
        if (at.offset > length - table || bytes > length - table - at.offset) {
            return false;
        }
        tensors[i] = v.tensor;
        tensors[i].dtype = (adam_dtype)at.dtype;
        tensors[i].data = (char *)data + table + at.offset; /* read alone */
    }
    return true;
}
