/* core_step.c: takes steps with the core alone, when told to, so that another program can time its
 * own by turns with them. No network; bench/peers/run.py tells it, and keeps the figures.
 *
 * bench_core_step THREADS ELEMENTS error|apply: says its kernel on a line; then for each line that
 * comes in, one step of one float32 parameter, whose seconds it says on a line. `error` looks for
 * gradients that are not finite first, as adamd does unless told; `apply` does not, as torch. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adam/optimizer.h"
#include "harness.h"

static adam_optimizer *make_optimizer(uint64_t n, adam_error *error)
{
    const adam_tensor param = {.name = "w", .name_len = 1, .rank = 1, .shape = {n}};
    adam_group_spec group = {.params = &param, .n_params = 1};
    adam_optimizer *optimizer = NULL;
    adam_options_default(ADAM_ALGORITHM_ADAM, &group.options);
    if (adam_optimizer_create(ADAM_ALGORITHM_ADAM, &group, 1, NULL, &optimizer, error) != ADAM_OK) {
        bench_fail("%s", error->message);
    }
    return optimizer;
}

static float *make_gradient(uint64_t n)
{
    float *values = aligned_alloc(64, (n * sizeof *values + 63) / 64 * 64);
    if (values == NULL) {
        bench_fail("no memory");
    }
    for (uint64_t i = 0; i < n; i++) {
        values[i] = (float)(i % 1000) * 1e-3F - 0.5F;
    }
    return values;
}

int main(int argc, char **argv)
{
    const unsigned threads = argc == 4 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    const uint64_t n = argc == 4 ? strtoull(argv[2], NULL, 10) : 0;
    adam_error error = {0};
    adam_pool *pool = NULL;
    if (threads == 0 || n == 0 ||
        (strcmp(argv[3], "error") != 0 && strcmp(argv[3], "apply") != 0)) {
        bench_fail("usage: bench_core_step THREADS ELEMENTS error|apply");
    }
    if (adam_pool_create(threads, &pool) != ADAM_OK) {
        bench_fail("no threads");
    }
    adam_optimizer *optimizer = make_optimizer(n, &error);
    float *values = make_gradient(n);
    const adam_tensor grad = {.name = "w", .name_len = 1, .rank = 1, .shape = {n}, .data = values};
    adam_grad_options options;
    adam_grad_options_default(&options);
    options.nonfinite = strcmp(argv[3], "apply") == 0 ? ADAM_NONFINITE_APPLY : ADAM_NONFINITE_ERROR;
    const adam_step_args args = {
        .grads = &grad, .n_grads = 1, .grad_options = &options, .pool = pool};
    printf("%s\n", adam_kernel_name());
    (void)fflush(stdout);
    for (int c = getchar(); c != EOF; c = getchar()) {
        if (c != '\n') {
            continue;
        }
        const double start = bench_now();
        if (adam_optimizer_step(optimizer, &args, NULL, &error) != ADAM_OK) {
            bench_fail("%s", error.message);
        }
        printf("%.9f\n", bench_now() - start);
        (void)fflush(stdout);
    }
    adam_optimizer_free(optimizer);
    adam_pool_free(pool);
    free(values);
    return 0;
}
