/* round.h: gradients that are held until they make a step together. Knows bodies and optimizers,
 * not requests; from the optimizer's strand. */
#ifndef ADAMD_ROUND_H
#define ADAMD_ROUND_H

#include "codec_tensor_body.h"
#include "codec_training.h"
#include "idempotency.h"

#define ROUND_MAX_WORKER 128

struct api_request;

/* One worker's part of a round. */
typedef struct contribution {
    struct contribution *next; /* in the order in which they came */
    memory *memory;            /* it was taken from */
    tensor_body body;
    buffer *held; /* what `body` may point into: the request's body */
    double weight;
    size_t place;                /* among all, where they are sorted */
    uint64_t lsn;                /* behind its record in the journal; 0: none */
    struct api_request *waiting; /* those that want its answer, linked by next_waiting */
    char worker[ROUND_MAX_WORKER + 1], key[IDEMPOTENCY_MAX_KEY + 1]; /* "": none */
} contribution;

typedef struct worker_round {
    contribution *first, *last;
    size_t n;
    uint64_t opened; /* alarm_now() of the first */
} worker_round;

/* Takes `body`, whose numbers are in `held`, which it holds. NULL: no memory; the caller keeps the
 * body. `worker` and `key` may be NULL. */
contribution *contribution_create(memory *m, tensor_body *body, buffer *held, const char *worker,
                                  const char *key, double weight);
void contribution_free(contribution *c);
void round_add(worker_round *r, contribution *c);
contribution *round_find_worker(const worker_round *r, const char *worker);
contribution *round_find_key(const worker_round *r, const char *key);
/* Frees one of them. */
void round_remove(worker_round *r, contribution *c);
/* Frees all contributions; nobody waits for them any more. */
void round_clear(worker_round *r);

/* Whether the two are for the same parameters. */
bool round_same_params(const tensor_body *a, const tensor_body *b);

/* The gradient of a round. */
typedef struct reduced {
    adam_tensor *tensors; /* of the union of the parameters, in the optimizer's order */
    size_t n;
    buffer *data; /* holds their numbers, data_length bytes from the first on */
    size_t data_length;
    buffer *room;
} reduced;

/* Sorts the contributions by worker, those that came first among equals, and reduces them in that
 * order (adam/reduce.h). With `weights`, what was sent are parameters, and the gradient is what
 * they are now less what was sent. False: no memory. In any case the caller drops it. */
bool round_reduce(worker_round *r, const adam_optimizer *optimizer, bool weights,
                  adam_reduction reduction, adam_pool *threads, buffer_pool *pool, reduced *out);
void reduced_drop(reduced *r);

#endif
