/* codec_create_shelf.c: groups that name their parameters, by lists of names or by regexes, whether
 * the parameters came as tensors of a file or in JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec_create_internal.h"
#include "codec_names.h"
#include "name_pattern.h"

#define NO_GROUP UINT32_MAX

/* All tensors, to be taken by groups, each once. */
typedef struct shelf {
    const adam_tensor *tensors;
    const adam_tensor **sorted; /* by name */
    uint32_t *owners;           /* the group that has taken it, or NO_GROUP; as `tensors` */
    size_t n;
    adam_tensor *out; /* taken tensors, group by group; there is room for n */
    size_t n_out;
    name_effort effort;
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

/* A shelf of these tensors, whose places after the sharing are c->shared_room's. */
static codec_status shelf_fill(buffer_pool *pool, creation *c, const adam_tensor *tensors, size_t n,
                               shelf *s, codec_error *error)
{
    *s = (shelf){.tensors = tensors, .n = n, .effort = {NAME_PATTERN_ALL_STEPS}};
    s->room = buffer_get(pool, n * (sizeof *s->sorted + sizeof *s->owners));
    c->shared_room = buffer_get(pool, n * sizeof *s->out);
    if (s->room == NULL || c->shared_room == NULL) {
        (void)codec_fail(error, CODEC_NO_MEMORY, "no memory for %zu tensors", n);
        return CODEC_NO_MEMORY;
    }
    s->out = (void *)c->shared_room->data;
    s->sorted = (void *)s->room->data;
    s->owners = (void *)(s->sorted + n);
    for (size_t i = 0; i < n; i++) {
        s->sorted[i] = &tensors[i];
        s->owners[i] = NO_GROUP;
    }
    if (n > 1) {
        qsort(s->sorted, n, sizeof *s->sorted, compare);
    }
    return CODEC_OK;
}

/* Gives a tensor to a group. `pattern` is the text of the regex that wants it, or NULL where the
 * group names it. */
static codec_status shelf_take(shelf *s, size_t index, size_t group, const char *pattern,
                               codec_error *error)
{
    const adam_tensor *t = &s->tensors[index];
    const uint32_t owner = s->owners[index];
    if (owner == NO_GROUP) {
        s->owners[index] = (uint32_t)group;
        s->out[s->n_out++] = *t;
        return CODEC_OK;
    }
    if (pattern != NULL) {
        codec_fail(
            error, CODEC_DUPLICATE_PARAM,
            "'" CODEC_NAME_FORMAT "' is in param group %u already, and regex '" CODEC_NAME_FORMAT
            "' of param group %zu matches it too",
            CODEC_NAME(t->name, t->name_len), owner, CODEC_NAME(pattern, strlen(pattern)), group);
    } else if (owner == group) {
        codec_fail(error, CODEC_DUPLICATE_PARAM,
                   "'" CODEC_NAME_FORMAT "' is named twice by param group %zu",
                   CODEC_NAME(t->name, t->name_len), group);
    } else {
        codec_fail(error, CODEC_DUPLICATE_PARAM,
                   "'" CODEC_NAME_FORMAT "' is in param group %u already, and param group %zu "
                   "names it too",
                   CODEC_NAME(t->name, t->name_len), owner, group);
    }
    codec_error_param(error, t->name, t->name_len);
    return CODEC_DUPLICATE_PARAM;
}

static codec_status take_named(shelf *s, name_list *names, size_t group, codec_error *error)
{
    size_t length;
    for (const char *name = names_next(names, &length); name != NULL;
         name = names_next(names, &length)) {
        const adam_tensor key = {.name = name, .name_len = length};
        const adam_tensor *const key_pointer = &key;
        const adam_tensor **found =
            s->n > 0 ? bsearch(&key_pointer, s->sorted, s->n, sizeof *s->sorted, compare) : NULL;
        if (found == NULL) {
            codec_fail(error, CODEC_INVALID_VALUE,
                       "param group %zu names '" CODEC_NAME_FORMAT
                       "', which is not among the parameters",
                       group, CODEC_NAME(name, length));
            codec_error_param(error, name, length);
            return CODEC_INVALID_VALUE;
        }
        codec_status st = shelf_take(s, (size_t)(*found - s->tensors), group, NULL, error);
        if (st != CODEC_OK) {
            return st;
        }
    }
    return CODEC_OK;
}

/* ---- regexes ---- */

/* Takes all tensors whose names match, in their order. */
static codec_status take_matching(shelf *s, name_pattern *pattern, const char *regex, size_t group,
                                  codec_error *error)
{
    const size_t before = s->n_out;
    for (size_t i = 0; i < s->n; i++) {
        const adam_tensor *t = &s->tensors[i];
        bool matches = false;
        if (t->name_len > ADAM_MAX_NAME) {
            codec_fail(error, CODEC_INVALID_NAME,
                       "a parameter name has %zu bytes, expected 1 to %d", t->name_len,
                       ADAM_MAX_NAME);
            return CODEC_INVALID_NAME;
        }
        codec_status st =
            name_pattern_match(pattern, t->name, t->name_len, &s->effort, &matches, error);
        if (st == CODEC_OK && matches) {
            st = shelf_take(s, i, group, regex, error);
        }
        if (st != CODEC_OK) {
            return st;
        }
    }
    if (s->n_out == before) {
        return codec_fail(error, CODEC_INVALID_VALUE,
                          "regex '" CODEC_NAME_FORMAT "' of param group %zu matches no parameter",
                          CODEC_NAME(regex, strlen(regex)), group);
    }
    return CODEC_OK;
}

/* Takes what {"regex": pattern} matches. */
static codec_status take_by_regex(buffer_pool *pool, shelf *s, const json_value *params,
                                  size_t group, codec_error *error)
{
    static const char *const allowed[] = {"regex", NULL};
    char params_where[48];
    char regex_where[48];
    (void)snprintf(params_where, sizeof params_where, "params of param group %zu", group);
    (void)snprintf(regex_where, sizeof regex_where, "regex of param group %zu", group);
    codec_status st = json_check_names(params, allowed, params_where, error);
    if (st != CODEC_OK) {
        return st;
    }
    const json_value *value = json_get(params, "regex");
    if (value == NULL || json_type_of(value) != JSON_STRING) {
        return creation_wrong_type(regex_where, value, "a string", error);
    }
    const char *regex = json_string(value);
    const char *where = regex_where + strlen("regex of ");
    name_pattern *pattern = NULL;
    st = name_pattern_compile(buffer_pool_memory(pool), regex, strlen(regex), where, &pattern,
                              error);
    if (st == CODEC_OK) {
        st = take_matching(s, pattern, regex, group, error);
    }
    name_pattern_free(pattern);
    return st;
}

/* ---- groups ---- */

/* Adds a group and what it names. */
static codec_status add_group(buffer_pool *pool, creation *c, const json_value *object, shelf *s,
                              codec_error *error)
{
    const size_t index = c->n_groups;
    const size_t before = s->n_out;
    codec_status st = creation_begin_group(c, c->doc, object, error);
    if (st != CODEC_OK) {
        return st;
    }
    name_list names;
    const json_value *params = json_get(object, "params");
    if (params != NULL && json_type_of(params) == JSON_OBJECT) {
        st = take_by_regex(pool, s, params, index, error);
    } else if (names_begin(c->doc, params, &names)) {
        st = take_named(s, &names, index, error);
    } else {
        return codec_fail(error, CODEC_INVALID_VALUE,
                          "params of param group %zu is %s, expected a list of parameter names, or "
                          "{\"regex\": \"...\"}",
                          index,
                          params == NULL                      ? "missing"
                          : json_type_of(params) == JSON_LIST ? "a list of other things"
                                                              : json_type_text(params));
    }
    c->groups[index].params = s->out + before;
    c->groups[index].n_params = s->n_out - before;
    c->n_groups++;
    return st;
}

static codec_status check_all_taken(const shelf *s, codec_error *error)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->owners[i] == NO_GROUP) {
            const adam_tensor *t = &s->tensors[i];
            codec_fail(error, CODEC_INVALID_VALUE,
                       "parameter '" CODEC_NAME_FORMAT "' is in no param group",
                       CODEC_NAME(t->name, t->name_len));
            codec_error_param(error, t->name, t->name_len);
            return CODEC_INVALID_VALUE;
        }
    }
    return CODEC_OK;
}

/* One group of all tensors, with the options of `object`, or the defaults where it is NULL. */
static codec_status add_group_of_all(creation *c, const json_value *object, adam_tensor *tensors,
                                     size_t n, codec_error *error)
{
    codec_status st = CODEC_OK;
    if (object != NULL) {
        st = creation_begin_group(c, c->doc, object, error);
    } else {
        c->groups[0] = (adam_group_spec){.options = c->defaults, .schedule = c->schedule};
    }
    c->groups[0].params = tensors;
    c->groups[0].n_params = n;
    c->n_groups = 1;
    return st;
}

codec_status creation_share_out(buffer_pool *pool, creation *c, const json_value *groups,
                                adam_tensor *tensors, size_t n, codec_error *error)
{
    if (groups != NULL && json_type_of(groups) != JSON_LIST) {
        return creation_wrong_type("param_groups", groups, "a list of param groups", error);
    }
    const json_value *first = groups != NULL ? json_first(groups) : NULL;
    codec_status st = creation_begin_groups(c, first != NULL ? json_count(groups) : 1, error);
    if (st != CODEC_OK) {
        return st;
    }
    const bool single = first == NULL || json_next(first) == NULL;
    if (single && (first == NULL ||
                   (json_type_of(first) == JSON_OBJECT && json_get(first, "params") == NULL))) {
        return add_group_of_all(c, first, tensors, n, error);
    }
    shelf s;
    st = shelf_fill(pool, c, tensors, n, &s, error);
    for (const json_value *g = first; st == CODEC_OK && g != NULL; g = json_next(g)) {
        st = add_group(pool, c, g, &s, error);
    }
    if (st == CODEC_OK) {
        st = check_all_taken(&s, error);
    }
    buffer_drop(s.room);
    return st;
}
