/* codec_state_dict_create.c: an optimizer to load a state_dict into, from the state_dict alone. */
#include <stdlib.h>
#include <string.h>

#include "codec_names.h"
#include "codec_options.h"
#include "codec_state_dict.h"

#define PREFIX        "params/"
#define PREFIX_LENGTH (sizeof PREFIX - 1)

/* What is put together. */
typedef struct skeleton {
    const json_doc *doc;
    adam_algorithm algorithm;
    const adam_tensor **by_name; /* of the file's tensors, sorted: those of parameters */
    size_t n_by_name;
    adam_tensor *params; /* in the order of the groups */
    size_t n_params;
    adam_group_spec *groups;
    size_t n_groups;
    codec_error *error;
} skeleton;

static int compare(const char *a, size_t a_length, const char *b, size_t b_length)
{
    const int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    return order != 0 ? order : (a_length > b_length) - (a_length < b_length);
}

static int compare_tensors(const void *a, const void *b)
{
    const adam_tensor *x = *(const adam_tensor *const *)a;
    const adam_tensor *y = *(const adam_tensor *const *)b;
    return compare(x->name, x->name_len, y->name, y->name_len);
}

/* The file's tensor of a parameter, or NULL. */
static const adam_tensor *find(const skeleton *s, const char *name, size_t length)
{
    size_t low = 0;
    size_t high = s->n_by_name;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const adam_tensor *t = s->by_name[middle];
        const int order =
            compare(t->name + PREFIX_LENGTH, t->name_len - PREFIX_LENGTH, name, length);
        if (order == 0) {
            return t;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

/* The parameters that a group names. */
static codec_status read_params(skeleton *s, const json_value *object, adam_group_spec *group)
{
    const json_value *list = json_get(object, "params");
    name_list names;
    if (list == NULL || !names_begin(s->doc, list, &names)) {
        return codec_fail(s->error, CODEC_INVALID_VALUE,
                          "params of a param group of the state are expected as a list of names");
    }
    group->params = s->params + s->n_params;
    size_t length;
    for (const char *name = names_next(&names, &length); name != NULL;
         name = names_next(&names, &length)) {
        const adam_tensor *t = find(s, name, length);
        if (t == NULL || s->n_params == s->n_by_name) {
            codec_fail(s->error, t == NULL ? CODEC_MISSING_PARAM : CODEC_DUPLICATE_PARAM,
                       t == NULL ? "the value of '" CODEC_NAME_FORMAT "' is missing from the state"
                                 : "'" CODEC_NAME_FORMAT "' is named twice in the state",
                       CODEC_NAME(name, length));
            codec_error_param(s->error, name, length);
            return s->error->status;
        }
        adam_tensor *p = &s->params[s->n_params++];
        *p = *t;
        p->name += PREFIX_LENGTH;
        p->name_len -= PREFIX_LENGTH;
        p->data = NULL;
        group->n_params++;
    }
    return CODEC_OK;
}

/* Of the options only `buffers` matters, which loading does not change. */
static codec_status read_group(skeleton *s, const json_value *object, adam_group_spec *group)
{
    if (json_type_of(object) != JSON_OBJECT) {
        return codec_fail(s->error, CODEC_INVALID_VALUE,
                          "a param group of the state is %s, expected an object",
                          json_type_text(object));
    }
    const json_value *buffers = json_get(object, "buffers");
    adam_options_default(s->algorithm, &group->options);
    group->options.buffers =
        buffers != NULL && json_type_of(buffers) == JSON_BOOL && json_bool(buffers);
    return read_params(s, object, group);
}

static codec_status read_algorithm(skeleton *s, const json_value *value)
{
    static const adam_algorithm known[] = {ADAM_ALGORITHM_ADAM, ADAM_ALGORITHM_ADAMW};
    for (size_t i = 0;
         value != NULL && json_type_of(value) == JSON_STRING && i < sizeof known / sizeof known[0];
         i++) {
        if (strcmp(json_string(value), adam_algorithm_name(known[i])) == 0) {
            s->algorithm = known[i];
            return CODEC_OK;
        }
    }
    return codec_fail(s->error, CODEC_INVALID_VALUE,
                      "algorithm of the state is expected as \"adam\" or \"adamw\"");
}

/* Room for everything, in one buffer; and the sorted tensors. */
static codec_status begin(skeleton *s, buffer_pool *pool, const safetensors *file,
                          const json_value *groups, buffer **room)
{
    s->n_groups = groups != NULL && json_type_of(groups) == JSON_LIST ? json_count(groups) : 0;
    const size_t n = file->n_tensors;
    const size_t bytes =
        n * (sizeof *s->params + sizeof(adam_tensor *)) + s->n_groups * sizeof *s->groups;
    *room = buffer_get(pool, bytes);
    if (*room == NULL) {
        codec_fail(s->error, CODEC_NO_MEMORY, "no memory for a state of %zu tensors", n);
        return CODEC_NO_MEMORY;
    }
    memset((*room)->data, 0, bytes);
    s->params = (void *)(*room)->data;
    s->groups = (void *)(s->params + n);
    s->by_name = (void *)(s->groups + s->n_groups);
    for (size_t i = 0; i < n; i++) {
        const adam_tensor *t = &file->tensors[i];
        if (t->name_len > PREFIX_LENGTH && memcmp(t->name, PREFIX, PREFIX_LENGTH) == 0) {
            s->by_name[s->n_by_name++] = t;
        }
    }
    if (s->n_by_name > 1) {
        qsort(s->by_name, s->n_by_name, sizeof(adam_tensor *), compare_tensors);
    }
    return CODEC_OK;
}

static codec_status create(skeleton *s, const adam_allocator *allocator, adam_optimizer **out)
{
    adam_error why;
    const adam_status st =
        adam_optimizer_create(s->algorithm, s->groups, s->n_groups, allocator, out, &why);
    if (st == ADAM_OK) {
        return CODEC_OK;
    }
    return codec_fail(s->error, st == ADAM_NO_MEMORY ? CODEC_NO_MEMORY : CODEC_STATE, "%s",
                      why.message);
}

codec_status state_dict_create(buffer_pool *pool, const safetensors *file,
                               const adam_allocator *allocator, adam_optimizer **out,
                               codec_error *error)
{
    const char *description = safetensors_metadata(file, "state_dict");
    json_doc *doc = NULL;
    buffer *room = NULL;
    *out = NULL;
    if (description == NULL) {
        return codec_fail(error, CODEC_INVALID_VALUE, "__metadata__.state_dict is missing");
    }
    codec_status st = json_parse(pool, description, strlen(description), &doc, error);
    if (st != CODEC_OK) {
        return st;
    }
    skeleton s = {.doc = doc, .error = error};
    const json_value *root = json_root(doc);
    if (json_type_of(root) != JSON_OBJECT) {
        st = codec_fail(error, CODEC_INVALID_VALUE,
                        "__metadata__.state_dict is %s, expected an object", json_type_text(root));
        goto out;
    }
    const json_value *groups = json_get(root, "param_groups");
    st = read_algorithm(&s, json_get(root, "algorithm"));
    if (st == CODEC_OK) {
        st = begin(&s, pool, file, groups, &room);
    }
    const json_value *g = s.n_groups > 0 ? json_first(groups) : NULL;
    for (size_t i = 0; st == CODEC_OK && g != NULL; g = json_next(g)) {
        st = read_group(&s, g, &s.groups[i++]);
    }
    if (st == CODEC_OK) {
        st = create(&s, allocator, out);
    }
out:
    buffer_drop(room);
    json_free(doc);
    return st;
}
