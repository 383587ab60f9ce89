/* bare_kernels.h: the kernels of the core with something left out, made from the same source: what
 * is left of the time is what the rest costs. */
#ifndef BENCH_BARE_KERNELS_H
#define BENCH_BARE_KERNELS_H

#include <string.h>

#include "kernel.h"

/* Nothing is summed. */
extern const adam_kernel bare_kernel_avx2, bare_kernel_avx512;
/* Only the memory traffic: the step functions read and write the same streams, with one addition
 * each, and never `out`. */
extern const adam_kernel traffic_kernel_avx2, traffic_kernel_avx512;

/* The kernel of that name, or NULL. */
static inline const adam_kernel *bare_kernel(const char *name)
{
    return strcmp(name, "avx2") == 0     ? &bare_kernel_avx2
           : strcmp(name, "avx512") == 0 ? &bare_kernel_avx512
                                         : NULL;
}
static inline const adam_kernel *traffic_kernel(const char *name)
{
    return strcmp(name, "avx2") == 0     ? &traffic_kernel_avx2
           : strcmp(name, "avx512") == 0 ? &traffic_kernel_avx512
                                         : NULL;
}

#endif
