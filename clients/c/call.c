/* call.c: one call: tensors into a request, a reply into tensors, and again where it broke. Knows
 * no path. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* The pieces of a body: the header, then the data in the order that the header gave it. */
static adamd_status make_pieces(const adamdc_buffer *header, const adamd_tensor *tensors, size_t n,
                                adamdc_piece **pieces, adamd_error *error)
{
    *pieces = malloc((n + 1) * sizeof **pieces);
    if (*pieces == NULL) {
        return adamdc_error_no_memory(error, (n + 1) * sizeof **pieces);
    }
    size_t count = 0;
    (*pieces)[count++] = (adamdc_piece){header->data, header->length};
    for (size_t k = 0; k < ADAMDC_N_SIZES; k++) {
        for (size_t i = 0; i < n; i++) {
            if (adamd_dtype_size(tensors[i].dtype) == ADAMDC_SIZES[k]) {
                (*pieces)[count++] =
                    (adamdc_piece){tensors[i].data, (size_t)adamdc_tensor_bytes(&tensors[i])};
            }
        }
    }
    return ADAMD_OK;
}

/* The body of the request, where it has one. The pieces are the caller's, on an error too. */
static adamd_status make_body(adamdc_transfer *transfer, const adamdc_call *call,
                              adamdc_piece **pieces, adamd_error *error)
{
    if (!call->sends) {
        return ADAMD_OK;
    }
    adamdc_buffer *header = &transfer->client->out_header;
    uint64_t data_bytes = 0;
    adamd_status status = adamdc_tensors_check("tensors to send", call->send, call->n_send, error);
    status = status == ADAMD_OK
                 ? adamdc_safetensors_header(header, call->send, call->n_send, call->metadata,
                                             call->n_metadata, &data_bytes, error)
                 : status;
    status =
        status == ADAMD_OK ? make_pieces(header, call->send, call->n_send, pieces, error) : status;
    transfer->has_body = true;
    transfer->pieces = *pieces;
    transfer->n_pieces = call->n_send + 1;
    transfer->body_bytes = header->length + data_bytes;
    return status;
}

/* Any status but a success is an error; a reply with tensors must have been whole. */
static adamd_status finish(adamdc_transfer *transfer, bool not_modified, adamd_error *error)
{
    char what[ADAMDC_MAX_PATH + 64];
    (void)snprintf(what, sizeof what, "%s %s", transfer->method, transfer->path);
    if (transfer->status == 304 && not_modified) {
        return ADAMD_OK;
    }
    if (transfer->status < 200 || transfer->status > 299) {
        const adamdc_buffer *body = transfer->body;
        return adamdc_error_refused(error, what, transfer->status, transfer->retry_after,
                                    body->length > 0 ? body->data : "", body->length);
    }
    if (transfer->scatter == NULL) {
        return ADAMD_OK;
    }
    if (transfer->status != 200 && transfer->status != 202) {
        return adamdc_error_set(error, ADAMD_BAD_REPLY, "%s: status %ld, expected 200 or 202", what,
                                transfer->status);
    }
    adamd_status status = adamdc_scatter_finish(transfer->scatter, error);
    /* What was to say its end itself was cut off. */
    transfer->broken = status != ADAMD_OK && !transfer->says_its_end;
    return status;
}

static void note(adamdc_outcome *outcome, const adamdc_transfer *transfer,
                 const adamdc_scatter *scatter)
{
    outcome->status = transfer->status;
    outcome->replayed = transfer->replayed;
    outcome->stats = scatter->stats;
    memcpy(outcome->etag, transfer->client->etag, sizeof outcome->etag);
}

/* The reply said what became of the request and broke off in its tensors, which may lie where those
 * to send were: from now on they alone are asked for. */
static void ask_for_tensors(adamdc_transfer *transfer, const adamdc_call *call)
{
    static const char *const headers[] = {"Accept: " ADAMDC_SAFETENSORS, NULL};
    transfer->method = "GET";
    transfer->path = call->into_path;
    transfer->headers = headers;
    transfer->has_body = false;
    transfer->n_pieces = 0;
    transfer->body_bytes = 0;
}

/* What an error says where the call was sent more than once. */
static adamd_status explain(adamd_error *error, adamd_status status, unsigned tried, bool acted)
{
    /* What was acted on was not refused, whatever came of asking for the tensors. */
    status = acted && status == ADAMD_REFUSED ? ADAMD_TRANSPORT : status;
    if (error == NULL) {
        return status;
    }
    error->status = status;
    size_t used = strlen(error->message);
    if (acted) {
        used += (size_t)snprintf(error->message + used, sizeof error->message - used,
                                 "; the step was taken, but its reply broke off");
    }
    if (tried > 1 && used < sizeof error->message) {
        (void)snprintf(error->message + used, sizeof error->message - used, "; tried %u times",
                       tried);
    }
    return status;
}

adamd_status adamdc_run_begin(adamdc_run *run, adamdc_transfer *transfer, const adamdc_call *call,
                              adamdc_outcome *outcome, adamd_error *error)
{
    *run = (adamdc_run){.transfer = transfer, .call = call, .outcome = outcome, .error = error};
    adamd_status status = make_body(transfer, call, &run->pieces, error);
    if (status == ADAMD_OK && call->receives) {
        status = adamdc_tensors_check("tensors to receive", call->into, call->n_into, error);
    }
    transfer->client->reply.length = 0;
    transfer->body = transfer->body != NULL ? transfer->body : &transfer->client->reply;
    adamdc_retry_begin(&run->retry, &transfer->client->options, call->repeats);
    return status;
}

adamd_status adamdc_run_try(adamdc_run *run)
{
    adamdc_transfer *transfer = run->transfer;
    const adamdc_call *call = run->call;
    transfer->timeout_ms = adamdc_retry_time(&run->retry);
    run->scatter = (adamdc_scatter){0};
    if (call->receives) {
        adamd_status status =
            adamdc_scatter_begin(&run->scatter, call->into, call->n_into, call->others,
                                 transfer->client->c_locale, run->error);
        if (status != ADAMD_OK) {
            return status;
        }
        transfer->scatter = &run->scatter;
    }
    adamd_status status = adamdc_transfer_begin(transfer, run->error);
    if (status != ADAMD_OK && transfer->scatter != NULL) {
        transfer->scatter = NULL;
        adamdc_scatter_end(&run->scatter);
    }
    return status;
}

bool adamdc_run_tried(adamdc_run *run, CURLcode code, adamd_status *status, uint64_t *wait_ms)
{
    adamdc_transfer *transfer = run->transfer;
    *status = adamdc_transfer_end(transfer, code);
    *status = *status == ADAMD_OK && !transfer->stopped
                  ? finish(transfer, run->call->not_modified, run->error)
                  : *status;
    if (!run->acted) {
        note(run->outcome, transfer, &run->scatter);
    }
    bool again = *status != ADAMD_OK &&
                 (transfer->broken || (transfer->status == 503 && transfer->retry_after >= 0));
    if (again && !run->acted && run->call->into_path != NULL && run->scatter.at > 0) {
        run->acted = true;
        ask_for_tensors(transfer, run->call);
    }
    if (transfer->scatter != NULL) {
        transfer->scatter = NULL;
        adamdc_scatter_end(&run->scatter);
    }
    again = again && adamdc_retry_next(&run->retry, transfer->retry_after, wait_ms);
    if (!again && *status != ADAMD_OK) {
        *status = explain(run->error, *status, run->retry.tried, run->acted);
    }
    return again;
}

void adamdc_run_end(adamdc_run *run)
{
    free(run->pieces);
    run->pieces = NULL;
}

adamd_status adamdc_call_run(adamdc_transfer *transfer, const adamdc_call *call,
                             adamdc_outcome *outcome, adamd_error *error)
{
    adamdc_outcome ignored;
    adamdc_run run;
    uint64_t wait_ms = 0;
    bool again = true;
    adamd_status status =
        adamdc_run_begin(&run, transfer, call, outcome != NULL ? outcome : &ignored, error);
    while (status == ADAMD_OK && again) {
        status = adamdc_run_try(&run);
        if (status != ADAMD_OK) {
            break;
        }
        again =
            adamdc_run_tried(&run, curl_easy_perform(transfer->client->easy), &status, &wait_ms);
        if (again) {
            adamdc_retry_sleep(wait_ms);
            status = ADAMD_OK;
        }
    }
    adamdc_run_end(&run);
    return status;
}
