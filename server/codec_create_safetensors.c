/* codec_create_safetensors.c: creations whose parameters are the tensors of a file, and whose
 * groups name them. */
#include <stdlib.h>
#include <string.h>

#include "codec_create.h"
#include "codec_create_internal.h"
#include "codec_names.h"

/* The file's tensors sorted by name, to be taken by groups, each once. */
typedef struct shelf {
    const adam_tensor **sorted;
    bool *taken;
    size_t n;
    buffer *room;
} shelf;

static int compare(const void *a, const void *b)
{
    const adam_tensor *x = *(const adam_tensor *const *)a;
    const adam_tensor *y = *(const adam_tensor *const *)b;
    const int order =
        memcmp(x->name, y->name, x->name_len < y->name_len ? x->name_len : y->name_len);
    return order != 0 ? order : (x->name_len > y->name_len) - (x->name_len < y->name_len);
}

static codec_status shelf_fill(buffer_pool *pool, const safetensors *file, shelf *s,
                               codec_error *error)
{
    s->n = file->n_tensors;
    s->room = buffer_get(pool, s->n * (sizeof *s->sorted + sizeof *s->taken));
    if (s->room == NULL) {
        (void)codec_fail(error, CODEC_NO_MEMORY, "no memory for %zu tensors", s->n);
        return CODEC_NO_MEMORY;
    }
    s->sorted = (void *)s->room->data;
    s->taken = (bool *)(s->sorted + s->n);
    for (size_t i = 0; i < s->n; i++) {
        s->sorted[i] = &file->tensors[i];
        s->taken[i] = false;
    }
    if (s->n > 1) {
        qsort(s->sorted, s->n, sizeof *s->sorted, compare);
    }
    return CODEC_OK;
}

/* Takes the tensor of that name, for a group. */
static const adam_tensor *shelf_take(shelf *s, const char *name, size_t length, codec_error *error)
{
    const adam_tensor key = {.name = name, .name_len = length};
    const adam_tensor *const key_pointer = &key;
    const adam_tensor **found =
        s->n > 0 ? bsearch(&key_pointer, s->sorted, s->n, sizeof *s->sorted, compare) : NULL;
    if (found == NULL) {
        codec_fail(error, CODEC_INVALID_VALUE,
                   "a param group names '" CODEC_NAME_FORMAT "', which is not among the tensors",
                   CODEC_NAME(name, length));
    } else if (s->taken[found - s->sorted]) {
        codec_fail(error, CODEC_DUPLICATE_PARAM,
                   "'" CODEC_NAME_FORMAT "' is named twice by param groups",
                   CODEC_NAME(name, length));
    } else {
        s->taken[found - s->sorted] = true;
        return *found;
    }
    codec_error_param(error, name, length);
    return NULL;
}

static codec_status check_all_taken(const shelf *s, codec_error *error)
{
    for (size_t i = 0; i < s->n; i++) {
        if (!s->taken[i]) {
            const adam_tensor *t = s->sorted[i];
            codec_fail(error, CODEC_INVALID_VALUE,
                       "tensor '" CODEC_NAME_FORMAT "' is in no param group",
                       CODEC_NAME(t->name, t->name_len));
            codec_error_param(error, t->name, t->name_len);
            return CODEC_INVALID_VALUE;
        }
    }
    return CODEC_OK;
}

/* Adds a group that names its tensors. */
static codec_status add_group(creation *c, const json_value *object, shelf *s, codec_error *error)
{
    adam_group_spec *g = &c->groups[c->n_groups];
    *g = (adam_group_spec){.params = c->list.tensors + c->list.n};
    codec_status st =
        creation_read_group_options(c, c->doc, object, c->n_groups, &g->options, error);
    if (st != CODEC_OK) {
        return st;
    }
    name_list names;
    if (!names_begin(c->doc, json_get(object, "params"), &names)) {
        return codec_fail(error, CODEC_INVALID_VALUE,
                          "params of param group %zu is expected as a list of tensor names",
                          c->n_groups);
    }
    size_t length;
    for (const char *name = names_next(&names, &length); name != NULL;
         name = names_next(&names, &length)) {
        const adam_tensor *t = shelf_take(s, name, length, error);
        if (t == NULL) {
            return error->status;
        }
        c->list.tensors[c->list.n++] = *t;
        g->n_params++;
    }
    c->n_groups++;
    return CODEC_OK;
}

/* One group of all tensors, with the options of `object`, or the defaults where it is NULL. */
static codec_status add_group_of_all(creation *c, const json_value *object, codec_error *error)
{
    adam_group_spec *g = &c->groups[0];
    *g = (adam_group_spec){
        .options = c->defaults, .params = c->file.tensors, .n_params = c->file.n_tensors};
    c->n_groups = 1;
    return object == NULL ? CODEC_OK
                          : creation_read_group_options(c, c->doc, object, 0, &g->options, error);
}

static codec_status add_groups(buffer_pool *pool, creation *c, const json_value *groups,
                               codec_error *error)
{
    const json_value *first = groups != NULL ? json_first(groups) : NULL;
    codec_status st = creation_begin_groups(pool, c, first != NULL ? json_count(groups) : 1, error);
    if (st != CODEC_OK) {
        return st;
    }
    const bool single = first == NULL || json_next(first) == NULL;
    if (single && (first == NULL ||
                   (json_type_of(first) == JSON_OBJECT && json_get(first, "params") == NULL))) {
        return add_group_of_all(c, first, error);
    }
    shelf s = {0};
    st = shelf_fill(pool, &c->file, &s, error);
    if (st == CODEC_OK) {
        st = tensor_list_begin(pool, s.n, &c->list, error);
    }
    for (const json_value *g = first; st == CODEC_OK && g != NULL; g = json_next(g)) {
        st = add_group(c, g, &s, error);
    }
    if (st == CODEC_OK) {
        st = check_all_taken(&s, error);
    }
    buffer_drop(s.room);
    return st;
}

codec_status creation_read_safetensors(buffer_pool *pool, char *body, size_t length,
                                       size_t max_header, creation *c, codec_error *error)
{
    static const char *const allowed_keys[] = {"format", "optimizer", NULL};
    static const char *const allowed[] = {"algorithm", "defaults", "param_groups", NULL};
    *c = (creation){.algorithm = ADAM_ALGORITHM_ADAM};
    adam_options_default(c->algorithm, &c->defaults);
    codec_status st = safetensors_parse(pool, body, length, max_header, &c->file, error);
    if (st == CODEC_OK) {
        st = safetensors_check_metadata(&c->file, allowed_keys, error);
    }
    const char *description = st == CODEC_OK ? safetensors_metadata(&c->file, "optimizer") : NULL;
    if (description == NULL) {
        return st == CODEC_OK ? add_groups(pool, c, NULL, error) : st;
    }
    st = json_parse(pool, description, strlen(description), &c->doc, error);
    if (st != CODEC_OK) {
        return st;
    }
    const json_value *root = json_root(c->doc);
    if (json_type_of(root) != JSON_OBJECT) {
        return codec_fail(error, CODEC_INVALID_VALUE,
                          "__metadata__.optimizer is %s, expected an object", json_type_text(root));
    }
    st = json_check_names(root, allowed, "__metadata__.optimizer", error);
    if (st == CODEC_OK) {
        st = creation_read_algorithm(root, c, error);
    }
    if (st == CODEC_OK) {
        st = creation_read_defaults(c->doc, root, c, error);
    }
    const json_value *groups = json_get(root, "param_groups");
    if (st == CODEC_OK && groups != NULL && json_type_of(groups) != JSON_LIST) {
        st = codec_fail(error, CODEC_INVALID_VALUE,
                        "param_groups is %s, expected a list of objects", json_type_text(groups));
    }
    return st == CODEC_OK ? add_groups(pool, c, groups, error) : st;
}
