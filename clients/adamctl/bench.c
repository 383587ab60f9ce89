/* bench.c: times steps on optimizers that it makes and removes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "adamctl.h"

typedef struct lane {
    char name[64];
    adamd_tensor *params, *grads;
    float *values; /* parameters and gradients, one behind the other */
    double began;
    bool made;
} lane;

typedef struct bench {
    ctl_context *ctl;
    uint64_t numel, tensors, steps, parallel;
    lane *lanes;
    char (*names)[24];
    double *seconds; /* of each step that is done */
    uint64_t begun, done;
} bench;

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Elements of one of the tensors: they share them as evenly as can be. */
static uint64_t share(const bench *b, uint64_t i)
{
    return b->numel / b->tensors + (i < b->numel % b->tensors);
}

static adamd_status make_lane(bench *b, lane *l, uint64_t index)
{
    l->params = calloc(b->tensors, sizeof *l->params);
    l->grads = calloc(b->tensors, sizeof *l->grads);
    l->values = malloc((size_t)b->numel * 2 * sizeof(float));
    if (l->params == NULL || l->grads == NULL || l->values == NULL) {
        return ADAMD_NO_MEMORY;
    }
    (void)snprintf(l->name, sizeof l->name, "adamctl-bench-%ld-%" PRIu64, (long)getpid(), index);
    for (uint64_t k = 0; k < 2 * b->numel; k++) {
        l->values[k] = (float)(k % 1000) * 0.001F - 0.5F;
    }
    float *at = l->values;
    for (uint64_t i = 0; i < b->tensors; i++) {
        l->params[i] = (adamd_tensor){b->names[i], ADAMD_FLOAT32, 1, {share(b, i)}, at};
        l->grads[i] = l->params[i];
        l->grads[i].data = at + b->numel;
        at += share(b, i);
    }
    adamd_status status =
        adamd_create(b->ctl->client, l->name, NULL, l->params, b->tensors, &b->ctl->error);
    l->made = status == ADAMD_OK;
    return status;
}

static void free_lanes(bench *b)
{
    for (uint64_t i = 0; b->lanes != NULL && i < b->parallel; i++) {
        lane *l = &b->lanes[i];
        adamd_error ignored;
        if (l->made) {
            (void)adamd_delete(b->ctl->client, l->name, &ignored);
        }
        free(l->params);
        free(l->grads);
        free(l->values);
    }
    free(b->lanes);
    free(b->names);
    free(b->seconds);
}

static adamd_status begin(bench *b, adamd_multi *multi, lane *l)
{
    if (b->begun == b->steps) {
        return ADAMD_OK;
    }
    b->begun++;
    l->began = now();
    return adamd_multi_step(multi, l->name, l->grads, b->tensors, l->params, NULL, l,
                            &b->ctl->error);
}

/* Keeps one step of each lane in flight until all are done. */
static adamd_status run(bench *b, adamd_multi *multi)
{
    static adamd_done done;
    adamd_status status = ADAMD_OK;
    for (uint64_t i = 0; i < b->parallel && status == ADAMD_OK; i++) {
        status = begin(b, multi, &b->lanes[i]);
    }
    while (status == ADAMD_OK && adamd_multi_next(multi, -1, &done)) {
        lane *l = done.tag;
        if (done.status != ADAMD_OK) {
            b->ctl->error = done.error;
            return done.status;
        }
        b->seconds[b->done++] = now() - l->began;
        status = begin(b, multi, l);
    }
    return status;
}

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return left < right ? -1 : left > right;
}

static void report(const bench *b, double seconds)
{
    const double n = (double)b->done;
    const double p50 = b->seconds[b->done / 2] * 1e3;
    const double p99 = b->seconds[(b->done - 1) * 99 / 100] * 1e3;
    const double most = b->seconds[b->done - 1] * 1e3;
    const double bytes = n * (double)b->numel * 8 / seconds; /* gradients out, parameters in */
    char rate[32];
    if (b->ctl->options.json != NULL) {
        (void)printf("{\"steps\": %" PRIu64 ", \"optimizers\": %" PRIu64 ", \"numel\": %" PRIu64
                     ", \"tensors\": %" PRIu64 ", \"seconds\": %.6f, \"steps_per_second\": %.3f, "
                     "\"bytes_per_second\": %.0f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, "
                     "\"max_ms\": %.3f}\n",
                     b->done, b->parallel, b->numel, b->tensors, seconds, n / seconds, bytes, p50,
                     p99, most);
        return;
    }
    (void)printf("%" PRIu64 " steps of %" PRIu64 " float32 in %" PRIu64 " tensors, %" PRIu64
                 " at once, in %.2f s\n",
                 b->done, b->numel, b->tensors, b->parallel, seconds);
    (void)printf("%.1f steps/s, %s/s both ways together\n", n / seconds, ctl_bytes(bytes, rate));
    (void)printf("a step: %.2f ms in the middle, 99 of 100 within %.2f ms, %.2f ms at most\n", p50,
                 p99, most);
}

static adamd_status prepare(bench *b)
{
    adamd_status status = ADAMD_OK;
    b->lanes = calloc(b->parallel, sizeof *b->lanes);
    b->names = calloc(b->tensors, sizeof *b->names);
    b->seconds = calloc(b->steps, sizeof *b->seconds);
    if (b->lanes == NULL || b->names == NULL || b->seconds == NULL) {
        return ADAMD_NO_MEMORY;
    }
    for (uint64_t i = 0; i < b->tensors; i++) {
        (void)snprintf(b->names[i], sizeof b->names[i], "t%" PRIu64, i);
    }
    for (uint64_t i = 0; i < b->parallel && status == ADAMD_OK; i++) {
        status = make_lane(b, &b->lanes[i], i);
    }
    return status;
}

int ctl_bench(ctl_context *ctl)
{
    bench b = {.ctl = ctl, .numel = 1000000, .tensors = 10, .steps = 200, .parallel = 1};
    if (!ctl_number("--numel", ctl->options.numel, 1, UINT64_C(1) << 32, &b.numel) ||
        !ctl_number("--tensors", ctl->options.tensors, 1, 10000, &b.tensors) ||
        !ctl_number("--steps", ctl->options.steps, 1, 100000000, &b.steps) ||
        !ctl_number("--parallel", ctl->options.parallel, 1, 1024, &b.parallel)) {
        return CTL_USAGE;
    }
    adamd_multi *multi = NULL;
    double began = 0;
    adamd_status status = prepare(&b);
    status = status == ADAMD_OK
                 ? adamd_multi_open(ctl->url, &ctl->client_options, 0, &multi, &ctl->error)
                 : status;
    if (status == ADAMD_OK) {
        began = now();
        status = run(&b, multi);
    }
    double seconds = now() - began;
    adamd_multi_close(multi);
    if (status == ADAMD_OK) {
        qsort(b.seconds, b.done, sizeof *b.seconds, by_value);
        report(&b, seconds);
    }
    free_lanes(&b);
    return status == ADAMD_OK ? CTL_OK : ctl_failed(ctl, status);
}
