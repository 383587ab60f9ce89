/* commands_files.c: get, put, step: safetensors files. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adamctl.h"

int ctl_get(ctl_context *ctl)
{
    const ctl_options *options = &ctl->options;
    if (options->state != NULL && options->dtype != NULL) {
        return ctl_usage("get: --dtype is for parameters, --state takes everything as it is");
    }
    adamd_status status =
        options->state != NULL
            ? adamd_save_state_dict(ctl->client, ctl->argv[0], ctl->argv[1], &ctl->error)
            : adamd_save_params(ctl->client, ctl->argv[0], options->dtype, ctl->argv[1],
                                &ctl->error);
    return status == ADAMD_OK ? CTL_OK : ctl_failed(ctl, status);
}

int ctl_put(ctl_context *ctl)
{
    adamd_status status =
        ctl->options.load != NULL
            ? adamd_load_state_dict(ctl->client, ctl->argv[0], ctl->options.load, ctl->argv[1],
                                    &ctl->error)
            : adamd_load_params(ctl->client, ctl->argv[0], ctl->argv[1], &ctl->error);
    return status == ADAMD_OK ? CTL_OK : ctl_failed(ctl, status);
}

/* The parameter of a gradient, whose type is its own. */
static const cJSON *find_param(const cJSON *groups, const char *name)
{
    const cJSON *group = NULL;
    const cJSON *param = NULL;
    cJSON_ArrayForEach(group, groups)
    {
        cJSON_ArrayForEach(param, cJSON_GetObjectItemCaseSensitive(group, "params"))
        {
            if (strcmp(ctl_text_of(param, "name"), name) == 0) {
                return param;
            }
        }
    }
    return NULL;
}

/* Tensors like the gradients, with the types of their parameters and places of their own. The
 * server says what is wrong with a gradient that has no parameter. */
static adamd_tensor *make_places(const cJSON *groups, const adamd_tensor *grads, size_t n)
{
    adamd_tensor *places = calloc(n > 0 ? n : 1, sizeof *places);
    for (size_t i = 0; places != NULL && i < n; i++) {
        const cJSON *param = find_param(groups, grads[i].name);
        uint64_t numel = 1;
        places[i] = grads[i];
        places[i].dtype =
            strcmp(ctl_text_of(param, "dtype"), "float64") == 0 ? ADAMD_FLOAT64 : ADAMD_FLOAT32;
        for (int d = 0; d < grads[i].rank; d++) {
            numel *= grads[i].shape[d];
        }
        places[i].data = malloc((size_t)numel * 8 + 1);
    }
    return places;
}

static void free_places(adamd_tensor *places, size_t n)
{
    for (size_t i = 0; places != NULL && i < n; i++) {
        free(places[i].data);
    }
    free(places);
}

static bool read_options(ctl_context *ctl, adamd_step_options *step)
{
    const ctl_options *options = &ctl->options;
    step->worker = options->worker;
    step->if_match = options->if_match;
    step->idempotency_key = options->key;
    step->has_based_on = options->based_on != NULL;
    if (options->weight != NULL) {
        char *end = NULL;
        step->weight = strtod(options->weight, &end);
        if (end == options->weight || *end != '\0' || !(step->weight > 0) || isinf(step->weight)) {
            (void)ctl_usage("--weight '%s': expected a number above 0", options->weight);
            return false;
        }
    }
    return ctl_number("--based-on", options->based_on, 0, UINT64_C(1) << 53, &step->based_on);
}

static void print_number(const char *name, double value)
{
    if (isfinite(value)) {
        (void)printf(", \"%s\": %.17g", name, value);
    } else {
        (void)printf(", \"%s\": \"%s\"", name,
                     isnan(value) ? "NaN"
                     : value > 0  ? "Infinity"
                                  : "-Infinity");
    }
}

static void print_result(const ctl_context *ctl, const adamd_result *result)
{
    if (ctl->options.json != NULL) {
        (void)printf("{\"step\": %" PRIu64 ", \"epoch\": %" PRIu64
                     ", \"skipped\": %s, \"pending\": %" PRIu64 ", \"converted\": %" PRIu64
                     ", \"replayed\": %s",
                     result->step, result->epoch, result->skipped ? "true" : "false",
                     result->pending, result->converted, result->replayed ? "true" : "false");
        print_number("grad_norm", result->grad_norm);
        print_number("param_norm", result->param_norm);
        print_number("update_norm", result->update_norm);
        print_number("clip_coef", result->clip_coef);
        (void)puts("}");
        return;
    }
    if (result->pending > 0) {
        (void)printf("held, the %" PRIu64 ". of a step to come; step is %" PRIu64 "\n",
                     result->pending, result->step);
        return;
    }
    (void)printf("step %" PRIu64 "%s%s  grad %.4g  param %.4g  update %.4g", result->step,
                 result->skipped ? " (skipped)" : "", result->replayed ? " (taken before)" : "",
                 result->grad_norm, result->param_norm, result->update_norm);
    if (result->clip_coef != 1) {
        (void)printf("  clip %.4g", result->clip_coef);
    }
    (void)putchar('\n');
}

static adamd_status take_step(ctl_context *ctl, const adamd_step_options *options,
                              const cJSON *groups, const adamd_tensor *grads, size_t n,
                              adamd_result *result)
{
    adamd_tensor *places = make_places(groups, grads, n);
    if (places == NULL) {
        return ADAMD_NO_MEMORY;
    }
    adamd_status status =
        adamd_step(ctl->client, ctl->argv[0], grads, n, places, options, result, &ctl->error);
    if (status == ADAMD_OK && ctl->options.out != NULL) {
        char step[32];
        (void)snprintf(step, sizeof step, "%" PRIu64, result->step);
        adamd_metadata metadata = {"step", step};
        status = adamd_file_write(ctl->options.out, places, n, &metadata, 1, &ctl->error);
    }
    free_places(places, n);
    return status;
}

int ctl_step(ctl_context *ctl)
{
    adamd_step_options options = {0};
    adamd_result result = {0};
    adamd_file *file = NULL;
    char *json = NULL;
    cJSON *groups = NULL;
    if (!read_options(ctl, &options)) {
        return CTL_USAGE;
    }
    adamd_status status = adamd_file_open(ctl->argv[1], &file, &ctl->error);
    if (status == ADAMD_OK) {
        status = adamd_param_groups(ctl->client, ctl->argv[0], "none", &json, NULL, &ctl->error);
    }
    if (status == ADAMD_OK) {
        groups = ctl_read(ctl, json);
        status = groups != NULL ? ADAMD_OK : ADAMD_BAD_REPLY;
    }
    if (status == ADAMD_OK) {
        size_t n = 0;
        const adamd_tensor *grads = adamd_file_tensors(file, &n);
        status = take_step(ctl, &options, groups, grads, n, &result);
    }
    cJSON_Delete(groups);
    adamd_file_close(file);
    if (status != ADAMD_OK) {
        return ctl_failed(ctl, status);
    }
    print_result(ctl, &result);
    return CTL_OK;
}
