/* changes.h: what was changed about an optimizer, and from what to what. Knows lines, not
 * optimizers.
 *
 * Written from the optimizer's strand, read by anyone. Adding a line never fails: where there is no
 * memory, or at the limits, the oldest lines go. */
#ifndef ADAMD_CHANGES_H
#define ADAMD_CHANGES_H

#include "codec_history.h"
#include "codec_training.h"
#include "memory.h"

#define CHANGES_MAX_LINES 1000
#define CHANGES_MAX_BYTES ((size_t)1 << 20)
/* Of one of the texts of a line; in the place of a longer one stands how long it was. */
#define CHANGES_MAX_TEXT ((size_t)16 << 10)

typedef struct changes changes;

/* NULL: no memory. */
changes *changes_create(memory *m);
/* NULL is allowed. */
void changes_free(changes *c);

/* Adds a line; its time is now. `what` is a name, "param_groups[0].lr"; `from` and `to` are JSON
 * texts, NULL: null. */
void changes_add(changes *c, uint64_t step, const char *what, const char *from, const char *to);
/* The same with texts that were printed; takes their buffers. One that failed, or is empty, is
 * null. */
void changes_add_texts(changes *c, uint64_t step, const char *what, text *from, text *to);
/* A line for each hyperparameter of the group that is not what it was. */
void changes_add_options(changes *c, buffer_pool *pool, uint64_t step, size_t group,
                         const adam_options *before, const adam_options *after);

/* A line for each setting of what is done with gradients that is not what it was. */
void changes_add_grad_options(changes *c, buffer_pool *pool, uint64_t step,
                              const adam_grad_options *before, const adam_grad_options *after);

/* A line for each setting of how gradients are gathered that is not what it was. */
void changes_add_training(changes *c, buffer_pool *pool, uint64_t step, const training *before,
                          const training *after);

/* Prints the last `last` lines, oldest first, with commas between them. */
void changes_show(changes *c, size_t last, text *t);

#endif
