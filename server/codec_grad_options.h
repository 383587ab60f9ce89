/* codec_grad_options.h: what is done with gradients before a step, in JSON and in metadata. */
#ifndef ADAMD_CODEC_GRAD_OPTIONS_H
#define ADAMD_CODEC_GRAD_OPTIONS_H

#include "adam/optimizer.h"
#include "codec_json.h"
#include "codec_safetensors.h"

/* The names, for lists of allowed members and metadata keys. */
#define CODEC_GRAD_OPTION_NAMES \
    "grad_scale", "nonfinite", "max_grad_norm", "norm_type", "error_if_nonfinite", "clip_value"

/* Overwrites in `options` what `object` names; null is the default. Ranges are the core's to check.
 * `where` is for messages: "the step". */
codec_status grad_options_read(const json_doc *doc, const json_value *object, const char *where,
                               adam_grad_options *options, codec_error *error);
/* The same from the metadata of a file, whose values are the same as text: "0.5", "skip", "null".
 */
codec_status grad_options_read_metadata(buffer_pool *pool, const safetensors *file,
                                        adam_grad_options *options, codec_error *error);

/* Adds `"grad_scale": 1, ... "clip_value": null`, without braces. */
void grad_options_add(text *t, const adam_grad_options *options);
/* The value of option i alone, as JSON, and its name; NULL behind the last. */
const char *grad_option_name(size_t i);
void grad_option_add_value(text *t, const adam_grad_options *options, size_t i);

#endif
