/* transfer.c: one request out, one reply in. The only file that drives libcurl, with multi.c; knows
 * no optimizer. */
#include "internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define MAX_FIELDS    ((size_t)1 << 20) /* bytes of a reply's header fields */
#define RECEIVE_BYTES (128L * 1024)     /* libcurl's buffers: larger than its own 16 and 64 KiB */
#define SEND_BYTES    (512L * 1024)     /* for fewer calls, and still at home in the cache */
/* Bodies of more bytes than this wait for 100 Continue. */
#define ASK_FIRST_BYTES ((size_t)1 << 20)

/* Whether the method only reads, so that a second try does no harm. */
static bool is_safe(const char *method)
{
    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

/* libcurl calls this before each sending of the request, and sends again by itself where an old
 * connection turns out to be dead. A server that died after taking the step looks just like that,
 * so a request that could have arrived whole is not sent again. */
static int before_request(void *context, char *peer, char *local, int peer_port, int local_port)
{
    (void)peer;
    (void)local;
    (void)peer_port;
    (void)local_port;
    adamdc_transfer *transfer = context;
    bool cannot_have_arrived =
        transfer->has_body && transfer->body_bytes > 0 && transfer->sent == 0;
    bool again = transfer->attempts++ > 0;
    return again && !is_safe(transfer->method) && !cannot_have_arrived ? CURL_PREREQFUNC_ABORT
                                                                       : CURL_PREREQFUNC_OK;
}

static size_t on_read(char *out, size_t size, size_t count, void *context)
{
    adamdc_transfer *transfer = context;
    size_t room = size * count;
    size_t done = 0;
    while (done < room && transfer->piece < transfer->n_pieces) {
        const adamdc_piece *piece = &transfer->pieces[transfer->piece];
        size_t rest = piece->length - transfer->offset;
        size_t n = rest < room - done ? rest : room - done;
        if (n > 0) {
            memcpy(out + done, (const char *)piece->data + transfer->offset, n);
        }
        done += n;
        transfer->offset += n;
        if (transfer->offset == piece->length) {
            transfer->piece++;
            transfer->offset = 0;
        }
    }
    transfer->sent += done;
    return done;
}

static adamd_status scatter_body(adamdc_transfer *transfer, const char *bytes, size_t length)
{
    if (!transfer->safetensors_reply) {
        return adamdc_error_set(transfer->error, ADAMD_BAD_REPLY,
                                "%s %s: the reply is not of type application/vnd.safetensors",
                                transfer->method, transfer->path);
    }
    if (transfer->sent < transfer->body_bytes) {
        /* The caller's buffers are still being sent and must not be written to. */
        return adamdc_error_set(transfer->error, ADAMD_BAD_REPLY,
                                "%s %s: success came before the request was whole",
                                transfer->method, transfer->path);
    }
    return adamdc_scatter_feed(transfer->scatter, (const unsigned char *)bytes, length,
                               transfer->error);
}

/* A success goes to who asked for it as it comes. */
static adamd_status sink_body(adamdc_transfer *transfer, const char *bytes, size_t length)
{
    adamd_status status = transfer->sink(transfer->sink_context, bytes, length, transfer->error);
    transfer->received += length;
    return status;
}

static adamd_status gather_body(adamdc_transfer *transfer, const char *bytes, size_t length)
{
    adamdc_buffer *body = transfer->body;
    if (body == NULL) {
        return ADAMD_OK;
    }
    curl_off_t whole = -1;
    adamd_status status = ADAMD_OK;
    if (body->length == 0 &&
        curl_easy_getinfo(transfer->client->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &whole) ==
            CURLE_OK &&
        whole > 0) {
        status = (uint64_t)whole > body->limit ? ADAMD_TOO_LARGE
                                               : adamdc_buffer_reserve(body, (size_t)whole);
    }
    status = status == ADAMD_OK ? adamdc_buffer_append(body, bytes, length) : status;
    if (status != ADAMD_OK) {
        (void)adamdc_error_set(
            transfer->error, status, "%s %s: the reply does not fit: %s (limit: %zu bytes)",
            transfer->method, transfer->path, adamd_status_text(status), body->limit);
    }
    return status;
}

static size_t on_write(char *bytes, size_t size, size_t count, void *context)
{
    adamdc_transfer *transfer = context;
    size_t length = size * count;
    long code = 0;
    (void)curl_easy_getinfo(transfer->client->easy, CURLINFO_RESPONSE_CODE, &code);
    bool success = code == 200 || code == 202;
    transfer->sink_status =
        success && transfer->scatter != NULL ? scatter_body(transfer, bytes, length)
        : success && transfer->sink != NULL  ? sink_body(transfer, bytes, length)
                                             : gather_body(transfer, bytes, length);
    /* Any other number than the length ends the transfer. */
    return transfer->sink_status == ADAMD_OK ? length : length + 1;
}

/* libcurl calls this now and then, and about every second where nothing comes. */
static int on_progress(void *context, curl_off_t down, curl_off_t down_now, curl_off_t up,
                       curl_off_t up_now)
{
    (void)down;
    (void)down_now;
    (void)up;
    (void)up_now;
    adamdc_transfer *transfer = context;
    transfer->stopped = transfer->stopped || !transfer->on_idle(transfer->sink_context);
    return transfer->stopped;
}

static void set_options(adamdc_transfer *transfer)
{
    adamd_client *client = transfer->client;
    const adamd_client_options *options = &client->options;
    CURL *easy = client->easy;
    client->curl_error[0] = '\0';
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, client->curl_error);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "adamd-client-c");
    curl_easy_setopt(easy, CURLOPT_MAXCONNECTS, 1L);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, RECEIVE_BYTES);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, SEND_BYTES);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)options->connect_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME,
                     (long)options->stall_timeout_s + (long)transfer->patience_s);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)transfer->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, before_request);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, adamdc_on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->lines);
    if (transfer->on_idle != NULL) {
        curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(easy, CURLOPT_XFERINFODATA, transfer);
    }
    if (strcmp(transfer->method, "HEAD") == 0) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
        return;
    }
    if (transfer->has_body) {
        curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)transfer->body_bytes);
        curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(easy, CURLOPT_READDATA, transfer);
    }
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, transfer->method);
}

/* Whether what happened to the connection may not happen to the next one. */
static bool may_be_gone(CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_FAIL_REWIND:                 /* libcurl's own repeat, held back */
    case CURLE_ABORTED_BY_CALLBACK: return true; /* the same, by before_request */
    default: return false;
    }
}

/* What a person can do about it. */
static const char *advice(CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST: return "; check the host name of the URL";
    case CURLE_COULDNT_CONNECT:
        return "; check that adamd runs there and the URL's port is its own";
    case CURLE_OPERATION_TIMEDOUT:
        return "; the server is slow or stands still: look at its log, or allow more time";
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_ABORTED_BY_CALLBACK:
        return "; the server or a proxy before it cut the connection: look at their logs";
    default: return "";
    }
}

/* What libcurl said, and whether the server may have acted on the request all the same. */
static adamd_status transport_error(adamdc_transfer *transfer, CURLcode code)
{
    transfer->broken = may_be_gone(code);
    const adamd_client *client = transfer->client;
    const char *text =
        client->curl_error[0] != '\0' ? client->curl_error : curl_easy_strerror(code);
    bool may_have_arrived = transfer->attempts > 0 && !is_safe(transfer->method) &&
                            transfer->sent == transfer->body_bytes;
    if (code == CURLE_ABORTED_BY_CALLBACK) {
        text = "the connection was lost before a reply came";
    }
    long status = 0;
    (void)curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)adamdc_error_set(
        transfer->error, ADAMD_TRANSPORT, "%s %s%s%s: %s%s%s", transfer->method, client->url,
        client->base, transfer->path, text,
        may_have_arrived ? "; the request was sent whole, so the server may have acted on it" : "",
        advice(code));
    if (transfer->error != NULL) {
        transfer->error->curl_code = (int)code;
        transfer->error->http_status = status;
    }
    return ADAMD_TRANSPORT;
}

static adamd_status add_line(const adamdc_transfer *transfer, const char *line,
                             struct curl_slist **list)
{
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (longer == NULL) {
        return adamdc_error_no_memory(transfer->error, strlen(line));
    }
    *list = longer;
    return ADAMD_OK;
}

/* libcurl asks before every upload; for a small body that costs more than it can save. */
static adamd_status build_headers(const adamdc_transfer *transfer, struct curl_slist **list)
{
    bool ask = !transfer->has_body || transfer->body_bytes > ASK_FIRST_BYTES;
    for (size_t i = 0; transfer->headers != NULL && transfer->headers[i] != NULL; i++) {
        const char *line = transfer->headers[i];
        if (strpbrk(line, "\r\n") != NULL) {
            return adamdc_error_set(transfer->error, ADAMD_INVALID_ARGUMENT,
                                    "header %zu has a line break in it", i);
        }
        ask = ask || strncasecmp(line, "Expect", 6) == 0; /* the caller has decided */
        adamd_status status = add_line(transfer, line, list);
        if (status != ADAMD_OK) {
            return status;
        }
    }
    return ask ? ADAMD_OK : add_line(transfer, "Expect:", list);
}

/* Address and target; libcurl copies them. The target goes out as it is, so that an encoded name
 * arrives as it was encoded. */
static adamd_status set_target(const adamdc_transfer *transfer)
{
    const adamd_client *client = transfer->client;
    adamdc_buffer target = {.limit = (size_t)1 << 20};
    adamd_status status = adamdc_buffer_puts(&target, client->base);
    status = status == ADAMD_OK ? adamdc_buffer_puts(&target, transfer->path) : status;
    if (status == ADAMD_OK &&
        (curl_easy_setopt(client->easy, CURLOPT_URL, client->url) != CURLE_OK ||
         curl_easy_setopt(client->easy, CURLOPT_REQUEST_TARGET, target.data) != CURLE_OK)) {
        status = ADAMD_NO_MEMORY;
    }
    if (status != ADAMD_OK) {
        (void)adamdc_error_set(transfer->error, status, "the path of %zu bytes: %s",
                               strlen(transfer->path), adamd_status_text(status));
    }
    adamdc_buffer_free(&target);
    return status;
}

static void rewind_transfer(adamdc_transfer *transfer)
{
    transfer->status = 0;
    transfer->broken = false;
    transfer->replayed = false;
    transfer->retry_after = -1;
    transfer->continued = false;
    transfer->new_connections = 0;
    transfer->sent = transfer->received = 0;
    transfer->piece = transfer->offset = 0;
    transfer->attempts = 0;
    transfer->head_done = false;
    transfer->stopped = false;
    transfer->sink_status = ADAMD_OK;
}

adamd_status adamdc_transfer_begin(adamdc_transfer *transfer, adamd_error *error)
{
    adamd_client *client = transfer->client;
    transfer->error = error;
    client->etag[0] = '\0';
    if (transfer->fields != NULL) {
        transfer->fields->limit = MAX_FIELDS;
        transfer->fields->length = 0;
    }
    if (transfer->body != NULL) {
        transfer->body->length = 0;
    }
    rewind_transfer(transfer);
    curl_easy_reset(client->easy);
    adamd_status status = build_headers(transfer, &transfer->lines);
    status = status == ADAMD_OK ? set_target(transfer) : status;
    if (status != ADAMD_OK) {
        curl_slist_free_all(transfer->lines);
        transfer->lines = NULL;
        return status;
    }
    set_options(transfer);
    return ADAMD_OK;
}

adamd_status adamdc_transfer_end(adamdc_transfer *transfer, CURLcode code)
{
    CURL *easy = transfer->client->easy;
    adamd_status status = ADAMD_OK;
    if (transfer->sink_status != ADAMD_OK) {
        status = transfer->sink_status;
    } else if (transfer->stopped) {
        (void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &transfer->status);
    } else if (code != CURLE_OK) {
        status = transport_error(transfer, code);
    } else if (!transfer->head_done) { /* libcurl takes a header that was cut off for whole */
        status = transport_error(transfer, CURLE_PARTIAL_FILE);
    } else {
        (void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &transfer->status);
        (void)curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &transfer->new_connections);
    }
    curl_slist_free_all(transfer->lines);
    transfer->lines = NULL;
    return status;
}

adamd_status adamdc_transfer_run(adamdc_transfer *transfer, adamd_error *error)
{
    adamd_status status = adamdc_transfer_begin(transfer, error);
    return status == ADAMD_OK
               ? adamdc_transfer_end(transfer, curl_easy_perform(transfer->client->easy))
               : status;
}
