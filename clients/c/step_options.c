/* step_options.c: the options of a step as header lines and metadata. Does no HTTP. */
#include "internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* Whether a header's value can be sent: `limit` visible ASCII characters at most. */
static bool is_visible(const char *text, size_t limit)
{
    size_t n = 0;
    while (text[n] > ' ' && text[n] < 0x7F) {
        n++;
    }
    return n > 0 && n <= limit && text[n] == '\0';
}

/* "Adam-Worker: VALUE"; `what` is the option's name. */
static adamd_status word_line(char *line, size_t size, const char *name, const char *what,
                              const char *value, adamd_error *error)
{
    if (!is_visible(value, ADAMDC_MAX_WORD)) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "%s '%.128s': expected 1 to 128 visible ASCII characters", what,
                                value);
    }
    (void)snprintf(line, size, "%s: %s", name, value);
    return ADAMD_OK;
}

/* The caller's key, or one that nobody else has. */
static adamd_status key_line(adamdc_step_headers *headers, const char *key, adamd_error *error)
{
    char own[ADAMDC_KEY_SIZE];
    adamd_status status = key == NULL ? adamdc_retry_key(own, error) : ADAMD_OK;
    return status != ADAMD_OK ? status
                              : word_line(headers->key, sizeof headers->key, "Idempotency-Key",
                                          "idempotency_key", key != NULL ? key : own, error);
}

static adamd_status weight_line(const adamd_client *client, adamdc_step_headers *headers,
                                double weight, adamd_error *error)
{
    if (!(weight > 0) || isinf(weight)) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "weight %g: expected a finite number above 0", weight);
    }
    char text[ADAMDC_MAX_NUMBER];
    adamdc_number_text(client->c_locale, weight, text);
    (void)snprintf(headers->weight, sizeof headers->weight, "Adam-Weight: %s", text);
    return ADAMD_OK;
}

adamd_status adamdc_step_headers_make(const adamd_client *client, const adamd_step_options *options,
                                      adamdc_step_headers *headers, adamd_error *error)
{
    size_t n = 0;
    headers->lines[n++] = "Content-Type: " ADAMDC_SAFETENSORS;
    headers->lines[n++] = "Accept: " ADAMDC_SAFETENSORS;
    adamd_status status = key_line(headers, options->idempotency_key, error);
    headers->lines[n++] = headers->key;
    if (status == ADAMD_OK && options->worker != NULL) {
        status = word_line(headers->worker, sizeof headers->worker, "Adam-Worker", "worker",
                           options->worker, error);
        headers->lines[n++] = headers->worker;
    }
    if (status == ADAMD_OK && options->weight != 0) {
        status = weight_line(client, headers, options->weight, error);
        headers->lines[n++] = headers->weight;
    }
    if (status != ADAMD_OK) {
        return status;
    }
    if (options->has_based_on) {
        (void)snprintf(headers->based_on, sizeof headers->based_on, "Adam-Based-On: %" PRIu64,
                       options->based_on);
        headers->lines[n++] = headers->based_on;
    }
    if (options->if_match != NULL) {
        if (!is_visible(options->if_match, ADAMD_MAX_ETAG - 1)) {
            return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                    "if_match '%.64s': expected an ETag with its quotes",
                                    options->if_match);
        }
        (void)snprintf(headers->if_match, sizeof headers->if_match, "If-Match: %s",
                       options->if_match);
        headers->lines[n++] = headers->if_match;
    }
    if (options->minimal) {
        headers->lines[n++] = "Prefer: return=minimal";
    }
    headers->lines[n] = NULL;
    return ADAMD_OK;
}

static void add_member(adamdc_step_metadata *m, const char *key, const char *value)
{
    m->members[m->n++] = (adamd_metadata){key, value};
}

/* A number; 0: the optimizer's own, infinity: the word. */
static void add_number(const adamd_client *client, adamdc_step_metadata *m, const char *key,
                       double value, const char *infinity)
{
    if (value == 0) {
        return;
    }
    char *text = m->numbers[m->n];
    adamdc_number_text(client->c_locale, value, text);
    add_member(m, key, isinf(value) && value > 0 ? infinity : text);
}

void adamdc_step_metadata_make(const adamd_client *client, const adamd_step_options *options,
                               adamdc_step_metadata *m)
{
    const adamd_grad_options *g = &options->grad;
    m->n = 0;
    add_number(client, m, "grad_scale", g->grad_scale, "inf");
    add_number(client, m, "max_grad_norm", g->max_grad_norm, "null");
    add_number(client, m, "norm_type", g->norm_type, "inf");
    add_number(client, m, "clip_value", g->clip_value, "null");
    if (g->nonfinite != NULL) {
        add_member(m, "nonfinite", g->nonfinite);
    }
    if (g->error_if_nonfinite != 0) {
        add_member(m, "error_if_nonfinite", g->error_if_nonfinite > 0 ? "true" : "false");
    }
    if (options->param_groups != NULL) {
        add_member(m, "param_groups", options->param_groups);
    }
}
