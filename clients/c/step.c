/* step.c: a step: what is sent, and what the reply says of it. */
#include "internal.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static bool take_text(adamdc_json *at, const char *text)
{
    size_t n = strlen(text);
    bool there = (size_t)(at->end - at->at) >= n && memcmp(at->at, text, n) == 0;
    at->at += there ? n : 0;
    return there;
}

bool adamdc_etag_parse(const char *etag, uint64_t *epoch, uint64_t *step)
{
    adamdc_json at = {.start = etag, .at = etag, .end = etag + strlen(etag)};
    return take_text(&at, "\"e") && adamdc_json_uint64(&at, epoch) && take_text(&at, "-s") &&
           adamdc_json_uint64(&at, step) && take_text(&at, "\"") && at.at == at.end;
}

static adamd_status fill_result(const adamdc_outcome *outcome, bool minimal, adamd_result *result,
                                adamd_error *error)
{
    const adamdc_stats *stats = &outcome->stats;
    adamd_result filled = {.grad_norm = stats->grad_norm,
                           .param_norm = stats->param_norm,
                           .update_norm = stats->update_norm,
                           .clip_coef = stats->clip_coef,
                           .skipped = stats->skipped,
                           .converted = stats->converted,
                           .pending = outcome->status == 202 && minimal ? 1 : stats->pending,
                           .replayed = outcome->replayed};
    if (!adamdc_etag_parse(outcome->etag, &filled.epoch, &filled.step)) {
        return adamdc_error_set(error, ADAMD_BAD_REPLY,
                                "ETag '%s' of the reply, expected \"e<epoch>-s<step>\"",
                                outcome->etag);
    }
    if (minimal) {
        filled.grad_norm = filled.param_norm = filled.update_norm = filled.clip_coef = NAN;
    } else if (!stats->has_step || (stats->step != filled.step && !outcome->replayed)) {
        return adamdc_error_set(error, ADAMD_BAD_REPLY,
                                "step %" PRIu64 " in the reply's metadata, %" PRIu64 " in its ETag",
                                stats->step, filled.step);
    } else {
        filled.step = stats->step;
    }
    memcpy(filled.etag, outcome->etag, sizeof filled.etag);
    if (result != NULL) {
        *result = filled;
    }
    return ADAMD_OK;
}

adamd_status adamdc_step_make(adamd_client *client, const char *name, const adamd_tensor *grads,
                              size_t n, const adamd_tensor *params_out,
                              const adamd_step_options *options, adamdc_step *step,
                              adamd_error *error)
{
    static const adamd_step_options no_options;
    options = options != NULL ? options : &no_options;
    const adamd_tensor *into = options->minimal ? NULL : params_out;
    const char *dtype = options->minimal ? NULL : options->dtype;
    adamd_status status =
        adamdc_receiving_path(client, name, "/step", dtype, into, n, step->path, error);
    status = status == ADAMD_OK ? adamdc_receiving_path(client, name, "/params", dtype, into, n,
                                                        step->into_path, error)
                                : status;
    if (status == ADAMD_OK && (grads == NULL || (params_out == NULL && !options->minimal))) {
        status = adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                  "adamd_step: expected gradients, and params_out or minimal");
    }
    status = status == ADAMD_OK ? adamdc_step_headers_make(client, options, &step->headers, error)
                                : status;
    if (status != ADAMD_OK) {
        return status;
    }
    adamdc_step_metadata_make(client, options, &step->metadata);
    step->minimal = options->minimal;
    step->outcome = (adamdc_outcome){0};
    step->transfer = (adamdc_transfer){
        .client = client, .method = "POST", .path = step->path, .headers = step->headers.lines};
    step->call = (adamdc_call){.sends = true,
                               .receives = !options->minimal,
                               .repeats = true,
                               .others = true,
                               .send = grads,
                               .n_send = n,
                               .metadata = step->metadata.members,
                               .n_metadata = step->metadata.n,
                               .into = params_out,
                               .n_into = n,
                               .into_path = step->into_path};
    return ADAMD_OK;
}

adamd_status adamdc_step_result(const adamdc_step *step, adamd_result *result, adamd_error *error)
{
    return fill_result(&step->outcome, step->minimal, result, error);
}

adamd_status adamd_step(adamd_client *client, const char *name, const adamd_tensor *grads, size_t n,
                        const adamd_tensor *params_out, const adamd_step_options *options,
                        adamd_result *result, adamd_error *error)
{
    adamdc_step step;
    adamd_status status =
        adamdc_step_make(client, name, grads, n, params_out, options, &step, error);
    if (status != ADAMD_OK) {
        return status;
    }
    status = adamdc_call_run(&step.transfer, &step.call, &step.outcome, error);
    return status == ADAMD_OK ? adamdc_step_result(&step, result, error) : status;
}
