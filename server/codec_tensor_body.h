/* codec_tensor_body.h: bodies that hold tensors for an optimizer's parameters by name: the
 * gradients of a step, or new values. */
#ifndef ADAMD_CODEC_TENSOR_BODY_H
#define ADAMD_CODEC_TENSOR_BODY_H

#include "codec_tensors.h"

typedef enum tensor_body_kind { TENSOR_BODY_GRADS, TENSOR_BODY_PARAMS } tensor_body_kind;

typedef struct tensor_body {
    adam_tensor *tensors;
    size_t n;
    adam_options *overrides;  /* one for each param group, or NULL */
    const json_value *groups; /* that they were read from, in `doc` */
    /* of gradients: the optimizer's, with what the body overrides */
    adam_grad_options grad_options;
    bool own_grad_options; /* it overrides some */
    buffer *data;          /* holds the numbers: the body itself, or what was read from JSON */
    size_t data_offset, data_length;
    json_doc *doc;
    safetensors file;
    tensor_list list;
    buffer *overrides_room;
} tensor_body;

/* Reads a JSON body, `{"grads": {name: nested list}}` or `{"params": …}`, or a safetensors file.
 * Names, shapes and dtypes are the core's to check. Gradients may come with overrides of
 * hyperparameters. The caller calls tensor_body_drop in any case; `body` must outlive it. */
codec_status tensor_body_read_json(buffer_pool *pool, const buffer *body, tensor_body_kind kind,
                                   const adam_optimizer *optimizer, tensor_body *out,
                                   codec_error *error);
codec_status tensor_body_read_safetensors(buffer_pool *pool, buffer *body, size_t max_header,
                                          tensor_body_kind kind, const adam_optimizer *optimizer,
                                          tensor_body *out, codec_error *error);
/* Reads the overrides and settings again, over what the optimizer's are now. On an error the body
 * has what it had. */
codec_status tensor_body_reread_overrides(buffer_pool *pool, const adam_optimizer *optimizer,
                                          tensor_body *body, codec_error *error);
void tensor_body_drop(tensor_body *b);

#endif
