/* codec_create_internal.h: what the two files that read creations share. */
#ifndef ADAMD_CODEC_CREATE_INTERNAL_H
#define ADAMD_CODEC_CREATE_INTERNAL_H

#include "codec_create.h"

/* Room for n groups in c->groups. */
codec_status creation_begin_groups(buffer_pool *pool, creation *c, size_t n, codec_error *error);
/* Sets c->algorithm, and c->defaults to torch's for it. */
codec_status creation_read_algorithm(const json_value *root, creation *c, codec_error *error);
/* `defaults` of the long form, over those. */
codec_status creation_read_defaults(const json_doc *doc, const json_value *root, creation *c,
                                    codec_error *error);
/* The options of group `index`, over c->defaults. */
codec_status creation_read_group_options(const creation *c, const json_doc *doc,
                                         const json_value *object, size_t index,
                                         adam_options *options, codec_error *error);

#endif
