/* kernel_select.c: one ladder that picks the kernel of the process. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "adam/optimizer.h"
#include "error.h"
#include "kernel.h"

static bool runs_everywhere(void)
{
    return true;
}
#if defined(__x86_64__)
static bool runs_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static bool runs_avx512(void)
{
    return __builtin_cpu_supports("avx512f");
}
#endif

/* Slowest first. */
static const struct {
    const adam_kernel *kernel;
    bool (*runs)(void);
} ladder[] = {
    {&adam_kernel_scalar, runs_everywhere},
#if defined(__x86_64__)
    {&adam_kernel_avx2, runs_avx2},
    {&adam_kernel_avx512, runs_avx512},
#endif
};
#define LADDER_LENGTH (sizeof ladder / sizeof ladder[0])

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const adam_kernel *chosen;
static const char *refused; /* value of ADAM_KERNEL that names no kernel that runs here */

const adam_kernel *adam_kernel_at(size_t index, const char **name)
{
    if (index >= LADDER_LENGTH) {
        *name = NULL;
        return NULL;
    }
    *name = ladder[index].kernel->name;
    return ladder[index].runs() ? ladder[index].kernel : NULL;
}

static void choose(void)
{
    const char *wanted = getenv("ADAM_KERNEL");
    refused = wanted;
    for (size_t i = 0; i < LADDER_LENGTH; i++) {
        if (!ladder[i].runs()) {
            continue;
        }
        if (wanted == NULL) {
            chosen = ladder[i].kernel;
        } else if (strcmp(wanted, ladder[i].kernel->name) == 0) {
            chosen = ladder[i].kernel;
            refused = NULL;
        }
    }
    if (chosen == NULL) {
        chosen = &adam_kernel_scalar; /* adam_kernel_check says that it is not what was asked for */
    }
}

const adam_kernel *adam_kernel_get(void)
{
    (void)pthread_once(&once, choose);
    return chosen;
}

const char *adam_kernel_name(void)
{
    return adam_kernel_get()->name;
}

adam_status adam_kernel_check(adam_error *error)
{
    (void)adam_kernel_get();
    if (refused == NULL) {
        return ADAM_OK;
    }
    char list[64] = "";
    for (size_t i = 0; i < LADDER_LENGTH; i++) {
        if (ladder[i].runs()) {
            strcat(strcat(list, list[0] ? ", " : ""), ladder[i].kernel->name);
        }
    }
    return adam_error_set(error, ADAM_UNSUPPORTED_OPTION,
                          "ADAM_KERNEL is '%.64s'; this processor runs: %s", refused, list);
}
