/* codec_create_internal.h: what the files that read creations share. */
#ifndef ADAMD_CODEC_CREATE_INTERNAL_H
#define ADAMD_CODEC_CREATE_INTERNAL_H

#include "codec_create.h"
#include "codec_grad_options.h"
#include "codec_options.h"

/* Members of every creation's top level beside those that tell the forms apart, and of every group.
 * What is added here is read by creation_read_head and creation_begin_group, for all forms.
 */
#define CREATION_TOP_MEMBERS   "algorithm", "schedule", CODEC_GRAD_OPTION_NAMES, CODEC_TRAINING_NAMES
#define CREATION_GROUP_MEMBERS "params", "schedule", CODEC_OPTION_NAMES

typedef enum creation_form {
    CREATION_LONG,     /* JSON: param_groups, with the parameters in them */
    CREATION_SHORT,    /* JSON: params, and hyperparameters beside it: one group */
    CREATION_COMBINED, /* JSON: params, and param_groups that name them */
    CREATION_FILE,     /* safetensors: tensors, and param_groups that name them */
} creation_form;

/* "X is Y, expected Z". */
codec_status creation_wrong_type(const char *what, const json_value *value, const char *expected,
                                 codec_error *error);

/* ---- codec_create_head.c: what stands beside the parameters ---- */

/* Checks the members of the top level and reads all of them but params and param_groups. */
codec_status creation_read_head(const json_doc *doc, creation_form form, creation *c,
                                codec_error *error);
/* Room for n groups in c->groups. */
codec_status creation_begin_groups(creation *c, size_t n, codec_error *error);
/* Begins group c->n_groups, without parameters: checks its members and reads all of them but
 * params, over c->defaults. */
codec_status creation_begin_group(creation *c, const json_doc *doc, const json_value *object,
                                  codec_error *error);

/* ---- codec_create_params.c: parameters in JSON ---- */

/* Adds a parameter of the long form: {"name", "shape", "dtype", "data"}. */
codec_status creation_read_param(const json_doc *doc, const json_value *object, tensor_list *list,
                                 codec_error *error);
/* The list of `params` by name: a nested list, or {"shape", "dtype", "data"}, each. */
codec_status creation_read_params(buffer_pool *pool, const json_doc *doc, const json_value *params,
                                  tensor_list *list, codec_error *error);

/* ---- codec_create_shelf.c: groups that name their parameters ---- */

/* Shares out n tensors among `groups`, a list of groups that name them, by lists or by regexes;
 * NULL stands for one group of all. Their names are unique; they must outlive c. */
codec_status creation_share_out(buffer_pool *pool, creation *c, const json_value *groups,
                                adam_tensor *tensors, size_t n, codec_error *error);

#endif
