/* codec_create.c: reading creations in JSON. Leaves ranges, names and duplicates to the core. */
#include "codec_create.h"

#include "codec_create_internal.h"
#include "codec_names.h"

void creation_drop(creation *c)
{
    json_free(c->doc);
    safetensors_drop(&c->file);
    tensor_list_drop(&c->list);
    buffer_drop(c->shared_room);
    for (size_t i = 0; i < c->n_schedule_rooms; i++) {
        buffer_drop(c->schedule_rooms[i]);
    }
    buffer_drop(c->schedule_room);
    buffer_drop(c->groups_room);
    *c = (creation){0};
}

/* ---- the long form ---- */

/* Adds a group of the long form, whose parameters stand in it. */
static codec_status add_group(creation *c, const json_value *object, codec_error *error)
{
    codec_status st = creation_begin_group(c, c->doc, object, error);
    if (st != CODEC_OK) {
        return st;
    }
    adam_group_spec *g = &c->groups[c->n_groups];
    g->params = c->list.tensors + c->list.n;
    const json_value *params = json_get(object, "params");
    if (params == NULL ||
        (json_type_of(params) != JSON_LIST && !names_empty_list(c->doc, params))) {
        return creation_wrong_type("params of a param group", params, "a list of parameters",
                                   error);
    }
    for (const json_value *p = json_first(params); p != NULL; p = json_next(p)) {
        st = creation_read_param(c->doc, p, &c->list, error);
        if (st != CODEC_OK) {
            return st;
        }
        g->n_params++;
    }
    c->n_groups++;
    return CODEC_OK;
}

/* The number of parameters in all groups; wrong types count as none here and are refused later. */
static size_t count_params(const json_value *groups)
{
    size_t n = 0;
    for (const json_value *g = json_first(groups); g != NULL; g = json_next(g)) {
        const json_value *params = json_type_of(g) == JSON_OBJECT ? json_get(g, "params") : NULL;
        n += params != NULL && json_type_of(params) == JSON_LIST ? json_count(params) : 0;
    }
    return n;
}

static codec_status read_long_form(buffer_pool *pool, creation *c, codec_error *error)
{
    const json_value *groups = json_get(json_root(c->doc), "param_groups");
    if (json_type_of(groups) != JSON_LIST) {
        return creation_wrong_type("param_groups", groups, "a list of param groups", error);
    }
    codec_status st = creation_begin_groups(c, json_count(groups), error);
    if (st == CODEC_OK) {
        st = tensor_list_begin(pool, count_params(groups), &c->list, error);
    }
    for (const json_value *g = json_first(groups); st == CODEC_OK && g != NULL; g = json_next(g)) {
        st = add_group(c, g, error);
    }
    return st == CODEC_OK ? tensor_list_read(c->doc, &c->list, "data", error) : st;
}

/* ---- the short and the combined form ---- */

/* `params`, and the groups that name them, or one group of all. */
static codec_status read_params_form(buffer_pool *pool, creation *c, codec_error *error)
{
    const json_value *root = json_root(c->doc);
    const json_value *params = json_get(root, "params");
    const json_value *groups = json_get(root, "param_groups");
    if (params == NULL) {
        return creation_wrong_type("param_groups (or params, in the short form)", NULL,
                                   "a list of param groups", error);
    }
    codec_status st = creation_read_params(pool, c->doc, params, &c->list, error);
    if (st == CODEC_OK) {
        st = tensor_list_read(c->doc, &c->list, "data", error);
    }
    return st == CODEC_OK ? creation_share_out(pool, c, groups, c->list.tensors, c->list.n, error)
                          : st;
}

codec_status creation_read_json(buffer_pool *pool, const char *body, size_t length, creation *c,
                                codec_error *error)
{
    *c = (creation){.pool = pool};
    codec_status st = json_parse(pool, body, length, &c->doc, error);
    if (st != CODEC_OK) {
        return st;
    }
    const json_value *root = json_root(c->doc);
    if (json_type_of(root) != JSON_OBJECT) {
        return creation_wrong_type("the body", root, "an object", error);
    }
    const bool groups = json_get(root, "param_groups") != NULL;
    const creation_form form = !groups                            ? CREATION_SHORT
                               : json_get(root, "params") != NULL ? CREATION_COMBINED
                                                                  : CREATION_LONG;
    st = creation_read_head(c->doc, form, c, error);
    if (st != CODEC_OK) {
        return st;
    }
    return form == CREATION_LONG ? read_long_form(pool, c, error)
                                 : read_params_form(pool, c, error);
}

/* ---- one group ---- */

codec_status creation_read_group(buffer_pool *pool, const char *body, size_t length,
                                 const adam_options *defaults, size_t index, creation *c,
                                 codec_error *error)
{
    *c = (creation){.pool = pool, .defaults = *defaults, .first_group = index};
    codec_status st = json_parse(pool, body, length, &c->doc, error);
    if (st != CODEC_OK) {
        return st;
    }
    const json_value *root = json_root(c->doc);
    const json_value *params = json_type_of(root) == JSON_OBJECT ? json_get(root, "params") : NULL;
    st = creation_begin_groups(c, 1, error);
    if (st == CODEC_OK) {
        st = tensor_list_begin(pool, params != NULL ? json_count(params) : 0, &c->list, error);
    }
    if (st == CODEC_OK) {
        st = add_group(c, root, error);
    }
    return st == CODEC_OK ? tensor_list_read(c->doc, &c->list, "data", error) : st;
}
