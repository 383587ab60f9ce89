/* mirror.h: the same optimizer in the test's own process, to hold the server's numbers against. */
#ifndef ADAMD_TEST_MIRROR_H
#define ADAMD_TEST_MIRROR_H

#include "adam/adam.h"
#include "files.h"

/* Parameters of every shape that matters: rank 0 to 8, empty, both types. */
#define MIRROR_PARAMS 7
#define MIRROR_NUMEL  64 /* at most, of one */

typedef struct mirror {
    adam_optimizer *optimizer;
    /* values, then gradients, then the server's answer; as tensors of the client */
    adamd_tensor tensors[MIRROR_PARAMS];
    char data[MIRROR_PARAMS][MIRROR_NUMEL * sizeof(double)];
    uint64_t seed;
} mirror;

/* Creates optimizer `name` at the server and in this process: Adam, lr 0.01, amsgrad in the second
 * group, random values from the seed. `json`: from JSON instead of safetensors. */
void mirror_create(mirror *m, peer *p, const char *name, bool json, uint64_t seed);
void mirror_free(mirror *m);

/* Takes one step in both, with the same random gradients, and asserts that the answer has the bits
 * and the statistics of this process. `json_in`, `json_out`: the forms of request and reply. */
void mirror_step(mirror *m, peer *p, const char *name, bool json_in, bool json_out);

/* Asserts that the server's parameters, and the moments in its state_dict, have the same bits. */
void mirror_compare(mirror *m, peer *p, const char *name);

/* The tensors as JSON, {"name": nested list, ...}; the caller's. */
char *mirror_json(const mirror *m);

#endif
