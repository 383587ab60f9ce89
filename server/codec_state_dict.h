/* codec_state_dict.h: the whole state of an optimizer, out and back in. */
#ifndef ADAMD_CODEC_STATE_DICT_H
#define ADAMD_CODEC_STATE_DICT_H

#include "codec_tensors.h"

/* What is taken from a state_dict: the values of the parameters, or all there is. */
typedef enum state_dict_load {
    STATE_DICT_LOAD_UNSAID,
    STATE_DICT_LOAD_PARAMS,
    STATE_DICT_LOAD_EVERYTHING,
} state_dict_load;

/* A state_dict that was read, ready for the core. */
typedef struct state_dict {
    adam_state_dict dict; /* with LOAD_EVERYTHING */
    adam_tensor *params;  /* with LOAD_PARAMS: values of all parameters, by index */
    size_t n_params;
    json_doc *doc;
    safetensors file;
    tensor_list list;
    adam_grad_options grad_options;
    buffer **schedules; /* of each group: what holds its schedule, or NULL */
    size_t n_groups;
    buffer *room;
} state_dict;

/* Reads one for `optimizer`, whose algorithm and groups of parameters it must have; with
 * LOAD_PARAMS, only the parameters need be there, and the rest is held to known names alone. The
 * caller calls state_dict_drop in any case; `body` must outlive it. */
codec_status state_dict_read_json(buffer_pool *pool, const buffer *body,
                                  const adam_optimizer *optimizer, state_dict_load load,
                                  state_dict *out, codec_error *error);
codec_status state_dict_read_safetensors(buffer_pool *pool, buffer *body, size_t max_header,
                                         const adam_optimizer *optimizer, state_dict_load load,
                                         state_dict *out, codec_error *error);
/* The same from a file that was parsed, whose metadata may have other keys too. Takes `file`. */
codec_status state_dict_read_file(buffer_pool *pool, safetensors *file,
                                  const adam_optimizer *optimizer, state_dict_load load,
                                  state_dict *out, codec_error *error);
void state_dict_drop(state_dict *s);

/* An optimizer that such a file can be loaded into: of its algorithm, with its groups of
 * parameters, all of them zero. On success it is the caller's. */
codec_status state_dict_create(buffer_pool *pool, const safetensors *file,
                               const adam_allocator *allocator, adam_optimizer **out,
                               codec_error *error);

/* Adds it as JSON. */
void state_dict_add_json(text *t, const adam_optimizer *optimizer);
/* Adds what `__metadata__.state_dict` holds: all but the tensors. */
void state_dict_add_description(text *t, const adam_optimizer *optimizer);
/* Visits the tensors in the order of the data of a file, where each is named `prefix` + its name.
 */
typedef void state_dict_visit(void *context, const char *prefix, const adam_tensor *tensor);
void state_dict_each_tensor(const adam_optimizer *optimizer, state_dict_visit *visit,
                            void *context);
/* Adds the header of a safetensors file to an empty text; returns the bytes of data that follow. */
uint64_t state_dict_add_header(text *t, const adam_optimizer *optimizer);
/* Copies those bytes to `data`. */
void state_dict_copy_data(const adam_optimizer *optimizer, char *data);

#endif
