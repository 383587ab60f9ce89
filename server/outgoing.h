/* outgoing.h: parameters on their way out: in which type, and in which buffer. */
#ifndef ADAMD_OUTGOING_H
#define ADAMD_OUTGOING_H

#include "adam/optimizer.h"
#include "buffer.h"
#include "codec_tensor_body.h"

/* n tensors whose data lies in `data`, from data_offset on. */
typedef struct outgoing {
    const adam_tensor *tensors;
    size_t n;
    buffer *data; /* held */
    size_t data_offset, data_length;
    buffer *room;  /* holds `tensors`, or NULL: they are another's */
    bool own_type; /* each tensor has its parameter's type */
} outgoing;

/* Where a step writes its parameters: over the gradients where the types allow it, else to a buffer
 * of its own. `dtype` NULL: each in its parameter's type. `body` must outlive it. False: no memory.
 * In any case the caller drops it. */
bool outgoing_of_step(buffer_pool *pool, const tensor_body *body, const adam_optimizer *optimizer,
                      const adam_dtype *dtype, outgoing *out);

/* A copy of n parameters from `first` on, in `dtype`. */
bool outgoing_of_params(buffer_pool *pool, const adam_optimizer *optimizer, size_t first, size_t n,
                        adam_dtype dtype, outgoing *out);

/* Room for the values of the parameters that n tensors name, in `dtype` (NULL: each in its own
 * type); outgoing_fill then copies them there, as they are by then. */
bool outgoing_room(buffer_pool *pool, const adam_tensor *named, size_t n,
                   const adam_optimizer *optimizer, const adam_dtype *dtype, outgoing *out);
void outgoing_fill(const adam_optimizer *optimizer, outgoing *out);

void outgoing_drop(outgoing *out);

#endif
