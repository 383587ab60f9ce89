/* codec_create.h: what creates an optimizer or adds a param group to one. */
#ifndef ADAMD_CODEC_CREATE_H
#define ADAMD_CODEC_CREATE_H

#include "codec_tensors.h"
#include "codec_training.h"

/* A description, ready for the core. Everything points into the body and into what it holds. */
typedef struct creation {
    buffer_pool *pool;
    adam_algorithm algorithm;
    adam_options defaults;
    adam_grad_options grad_options;
    training training;
    adam_schedule *schedule; /* of groups that do not say otherwise, or NULL */
    adam_group_spec *groups;
    size_t n_groups;
    size_t first_group; /* index that groups[0] will have */
    json_doc *doc;
    safetensors file;
    tensor_list list;    /* parameters in JSON */
    buffer *shared_room; /* holds the tensors of groups that name them */
    buffer *groups_room;
    buffer *schedule_room;
    buffer **schedule_rooms; /* of each group, or NULL; in groups_room */
    size_t n_schedule_rooms;
} creation;

/* In each, the caller calls creation_drop in any case; `body` must outlive it. */
codec_status creation_read_json(buffer_pool *pool, const char *body, size_t length, creation *c,
                                codec_error *error);
codec_status creation_read_safetensors(buffer_pool *pool, char *body, size_t length,
                                       size_t max_header, creation *c, codec_error *error);
/* One param group, as in the `param_groups` of a creation: c->groups[0], to become group `index`.
 * What it leaves out comes from `defaults`. */
codec_status creation_read_group(buffer_pool *pool, const char *body, size_t length,
                                 const adam_options *defaults, size_t index, creation *c,
                                 codec_error *error);
/* The same from a safetensors file, whose tensors are the parameters; `__metadata__.param_group`,
 * optional, holds the rest of the group as JSON. */
codec_status creation_read_group_safetensors(buffer_pool *pool, char *body, size_t length,
                                             size_t max_header, const adam_options *defaults,
                                             size_t index, creation *c, codec_error *error);
void creation_drop(creation *c);

#endif
