/* codec_create_safetensors.c: creations whose parameters are the tensors of a file, and whose
 * groups name them. */
#include <string.h>

#include "codec_create.h"
#include "codec_create_internal.h"

codec_status creation_read_safetensors(buffer_pool *pool, char *body, size_t length,
                                       size_t max_header, creation *c, codec_error *error)
{
    static const char *const allowed_keys[] = {"format", "optimizer", NULL};
    *c = (creation){.pool = pool, .algorithm = ADAM_ALGORITHM_ADAM};
    adam_options_default(c->algorithm, &c->defaults);
    adam_grad_options_default(&c->grad_options);
    codec_status st = safetensors_parse(pool, body, length, max_header, &c->file, error);
    if (st == CODEC_OK) {
        st = safetensors_check_metadata(&c->file, allowed_keys, error);
    }
    if (st != CODEC_OK) {
        return st;
    }
    const json_value *groups = NULL;
    const char *description = safetensors_metadata(&c->file, "optimizer");
    if (description != NULL) {
        st = json_parse(pool, description, strlen(description), &c->doc, error);
        if (st != CODEC_OK) {
            return st;
        }
        const json_value *root = json_root(c->doc);
        if (json_type_of(root) != JSON_OBJECT) {
            return creation_wrong_type("__metadata__.optimizer", root, "an object", error);
        }
        st = creation_read_head(c->doc, CREATION_FILE, c, error);
        groups = json_get(root, "param_groups");
    }
    return st == CODEC_OK
               ? creation_share_out(pool, c, groups, c->file.tensors, c->file.n_tensors, error)
               : st;
}

/* ---- one group ---- */

/* What `__metadata__.param_group` says. */
static codec_status read_group_description(creation *c, const char *description, codec_error *error)
{
    codec_status st = json_parse(c->pool, description, strlen(description), &c->doc, error);
    if (st != CODEC_OK) {
        return st;
    }
    const json_value *root = json_root(c->doc);
    if (json_type_of(root) == JSON_OBJECT && json_get(root, "params") != NULL) {
        return codec_fail(error, CODEC_UNKNOWN_FIELD,
                          "unknown field 'params' in __metadata__.param_group: the group's "
                          "parameters are the tensors of the file");
    }
    return creation_begin_group(c, c->doc, root, error);
}

codec_status creation_read_group_safetensors(buffer_pool *pool, char *body, size_t length,
                                             size_t max_header, const adam_options *defaults,
                                             size_t index, creation *c, codec_error *error)
{
    static const char *const allowed_keys[] = {"format", "param_group", NULL};
    *c = (creation){.pool = pool, .defaults = *defaults, .first_group = index};
    codec_status st = safetensors_parse(pool, body, length, max_header, &c->file, error);
    if (st == CODEC_OK) {
        st = safetensors_check_metadata(&c->file, allowed_keys, error);
    }
    if (st == CODEC_OK) {
        st = creation_begin_groups(c, 1, error);
    }
    if (st != CODEC_OK) {
        return st;
    }
    const char *description = safetensors_metadata(&c->file, "param_group");
    c->groups[0].options = c->defaults;
    if (description != NULL) {
        st = read_group_description(c, description, error);
    }
    c->groups[0].params = c->file.tensors;
    c->groups[0].n_params = c->file.n_tensors;
    c->n_groups = 1;
    return st;
}
