/* internal.h: what the client's files share. Not for its users.
 *
 * Order of dependencies: error, buffer, json <- safetensors <- scatter <- transfer <- request,
 * retry <- call, step_options <- step, optimizer, text <- multi, files, events. client.c holds the
 * handle itself. */
#ifndef ADAMD_CLIENT_INTERNAL_H
#define ADAMD_CLIENT_INTERNAL_H

#include <curl/curl.h>
#include <locale.h>

#include "adamd_client.h"

/* --- error.c --------------------------------------------------------------------------------- */

/* Fills `error` (NULL is allowed) and returns `status`. */
adamd_status adamdc_error_set(adamd_error *error, adamd_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

adamd_status adamdc_error_no_memory(adamd_error *error, size_t bytes);

/* Fills `error` from a reply that is not a success. `what` is "METHOD path". */
adamd_status adamdc_error_refused(adamd_error *error, const char *what, long http_status,
                                  long retry_after, const char *body, size_t length);

/* --- buffer.c -------------------------------------------------------------------------------- */

/* Bytes that grow, up to `limit`. One more byte is always kept for a terminator. */
typedef struct adamdc_buffer {
    char *data;
    size_t length, capacity, limit;
} adamdc_buffer;

/* Room for `more` bytes behind the present ones. ADAMD_TOO_LARGE over the limit, ADAMD_NO_MEMORY.
 */
adamd_status adamdc_buffer_reserve(adamdc_buffer *buffer, size_t more);
adamd_status adamdc_buffer_append(adamdc_buffer *buffer, const void *bytes, size_t length);
adamd_status adamdc_buffer_puts(adamdc_buffer *buffer, const char *text);
void adamdc_buffer_free(adamdc_buffer *buffer);

/* --- json.c ---------------------------------------------------------------------------------- */

/* A place in JSON text. Each function moves it past what it read, or returns false; `why` then says
 * what was expected. */
typedef struct adamdc_json {
    const char *start, *at, *end;
    const char *why;
} adamdc_json;

/* The character `c`, after white space. */
bool adamdc_json_take(adamdc_json *json, char c);
/* The same, or nothing: whether it was there. */
bool adamdc_json_peek(adamdc_json *json, char c);
/* A string, decoded, into `out`, cleared first and terminated. */
bool adamdc_json_string(adamdc_json *json, adamdc_buffer *out);
/* A whole number without sign, fraction or exponent. */
bool adamdc_json_uint64(adamdc_json *json, uint64_t *value);
/* Whether the text is one value and nothing else. */
bool adamdc_json_valid(const char *text, size_t length);
/* Any value. */
bool adamdc_json_skip(adamdc_json *json);
/* Nothing but white space to the end. */
bool adamdc_json_end(adamdc_json *json);

/* The shortest digits that read back to the same number, with a point whatever the locale. */
void adamdc_number_text(locale_t c_locale, double value, char text[32]);

/* Appends `text` as a JSON string with its quotes. */
adamd_status adamdc_json_quote(adamdc_buffer *out, const char *text);

/* --- safetensors.c --------------------------------------------------------------------------- */

#define ADAMDC_SAFETENSORS "application/vnd.safetensors"

#define ADAMDC_MAX_HEADER ((size_t)100000000) /* bytes of a header, as the reference has it */

/* "float32". */
const char *adamdc_dtype_name(adamd_dtype dtype);

/* Elements of a checked tensor, and its bytes. */
uint64_t adamdc_tensor_bytes(const adamd_tensor *tensor);

/* Whether the tensors can be sent or received: names, ranks, sizes, data. `what` names them. */
adamd_status adamdc_tensors_check(const char *what, const adamd_tensor *tensors, size_t n,
                                  adamd_error *error);

/* Element sizes in the order in which the data of tensors is sent: the widest first, so that every
 * tensor starts at a multiple of its element size. */
#define ADAMDC_SIZES   ((const size_t[]){8, 4, 2})
#define ADAMDC_N_SIZES 3

/* Writes the eight bytes of length and the header into `out`, cleared first. The data stands in the
 * order of ADAMDC_SIZES, and within each in that of the tensors. *data_bytes is what follows the
 * header. */
adamd_status adamdc_safetensors_header(adamdc_buffer *out, const adamd_tensor *tensors, size_t n,
                                       const adamd_metadata *metadata, size_t n_metadata,
                                       uint64_t *data_bytes, adamd_error *error);

/* One tensor as a header names it. */
typedef struct adamdc_entry {
    const char *name; /* terminated; holds until the callback returns */
    adamd_dtype dtype;
    int rank;
    uint64_t shape[ADAMD_MAX_RANK];
    uint64_t begin, end; /* bytes of the data */
} adamdc_entry;

typedef struct adamdc_header_reader {
    void *context;
    /* Either may be NULL. A status other than OK ends the reading; it sets the error itself. */
    adamd_status (*on_metadata)(void *context, const char *key, const char *value,
                                adamd_error *error);
    adamd_status (*on_tensor)(void *context, const adamdc_entry *entry, adamd_error *error);
} adamdc_header_reader;

/* Reads the JSON of a header (without the eight bytes). BAD_REPLY where it is malformed. */
adamd_status adamdc_safetensors_read(const char *text, size_t length,
                                     const adamdc_header_reader *reader, adamd_error *error);

/* --- scatter.c ------------------------------------------------------------------------------- */

/* What the metadata of a reply says. */
typedef struct adamdc_stats {
    bool has_step;
    uint64_t step;
    double grad_norm, param_norm, update_norm, clip_coef;
    bool skipped;
    uint64_t converted, pending;
} adamdc_stats;

typedef struct adamdc_place {
    const adamd_tensor *tensor;
    uint64_t begin, end;
    bool seen;
} adamdc_place;

/* Takes a safetensors file in portions of any size and puts its tensors where they belong. */
typedef struct adamdc_scatter {
    adamdc_place *places; /* by name while the header is read, by offset after it */
    size_t n, next;       /* next: the place that the data has come to */
    bool others;          /* tensors without a place are passed over */
    bool header_done;
    uint64_t header_bytes, at; /* at: bytes of the data so far */
    uint64_t data_bytes, tensor_bytes;
    adamdc_buffer header;
    adamdc_stats stats;
    locale_t c_locale; /* numbers in the metadata have a point, whatever the process prefers */
} adamdc_scatter;

/* The tensors stay the caller's until adamdc_scatter_end. With `others` the file may have more. On
 * an error there is nothing to end. */
adamd_status adamdc_scatter_begin(adamdc_scatter *scatter, const adamd_tensor *tensors, size_t n,
                                  bool others, locale_t c_locale, adamd_error *error);
adamd_status adamdc_scatter_feed(adamdc_scatter *scatter, const unsigned char *bytes, size_t length,
                                 adamd_error *error);
/* Whether the file was whole. */
adamd_status adamdc_scatter_finish(const adamdc_scatter *scatter, adamd_error *error);
void adamdc_scatter_end(adamdc_scatter *scatter);

/* --- transfer.c ------------------------------------------------------------------------------ */

typedef struct adamdc_piece {
    const void *data;
    size_t length;
} adamdc_piece;

/* One request and its reply. Zero it, fill the first part, run it; it can be run again. */
typedef struct adamdc_transfer {
    adamd_client *client;
    const char *method, *path;
    const char *const *headers; /* NULL, or lines up to a NULL, as adamd_request takes them */
    bool has_body;
    const adamdc_piece *pieces;
    size_t n_pieces;
    uint64_t body_bytes;
    adamdc_scatter *scatter; /* takes the body of a 200 or 202, where set */
    /* Takes the body of a 200 or 202 where there is no scatter; NULL: it goes to `body`. A status
     * other than OK ends the transfer; it sets the error itself. */
    adamd_status (*sink)(void *context, const char *bytes, size_t length, adamd_error *error);
    bool (*on_idle)(void *sink_context); /* called about every second; false: stop; may be NULL */
    void *sink_context;
    adamdc_buffer *body;   /* takes every other; may be NULL */
    adamdc_buffer *fields; /* header fields as name NUL value NUL; may be NULL */
    unsigned timeout_ms;   /* 0: no limit */
    unsigned patience_s;   /* beyond the client's for a stall: the server may wait as long */

    long status;
    bool broken;       /* no whole reply came, for a reason that may be gone the next time */
    bool replayed;     /* the reply has Idempotent-Replayed: true */
    bool says_its_end; /* by a length or in chunks, so that libcurl would notice a cut */
    long retry_after;  /* seconds, -1: the reply does not say */
    bool continued;
    long new_connections;
    uint64_t sent;
    uint64_t received; /* bytes of the body so far that the sink took */

    /* transfer.c's own. */
    size_t piece, offset;
    unsigned attempts;
    bool interim, head_done; /* of the header that is being read */
    bool safetensors_reply;
    bool stopped; /* by on_idle */
    struct curl_slist *lines;
    adamd_status sink_status;
    adamd_error *error;
} adamdc_transfer;

/* head.c: libcurl's callback for each line of a reply's header, with the transfer. */
size_t adamdc_on_header(char *line, size_t size, size_t count, void *transfer);

/* Sets the client's handle up. After OK, adamdc_transfer_end must follow, with what libcurl said of
 * the handle. */
adamd_status adamdc_transfer_begin(adamdc_transfer *transfer, adamd_error *error);

/* OK where a whole reply came, whatever its status. */
adamd_status adamdc_transfer_end(adamdc_transfer *transfer, CURLcode code);

/* Both, and the waiting between. */
adamd_status adamdc_transfer_run(adamdc_transfer *transfer, adamd_error *error);

/* --- client.c -------------------------------------------------------------------------------- */

struct adamd_client {
    CURL *easy;
    char *url;  /* scheme, host and port */
    char *base; /* path that stands before every request's, without a slash at its end */
    adamd_client_options options;
    locale_t c_locale;
    char curl_error[CURL_ERROR_SIZE];
    char etag[ADAMD_MAX_ETAG];
    adamdc_buffer out_header; /* reused from call to call */
    adamdc_buffer reply;
};

/* --- retry.c --------------------------------------------------------------------------------- */

/* The repeats of one call. */
typedef struct adamdc_retry {
    unsigned left;     /* that may still follow */
    unsigned tried;    /* how often the call was sent */
    unsigned limit_ms; /* of the next wait */
    uint64_t deadline; /* of the whole call, in ms of the monotonic clock; 0: none */
} adamdc_retry;

void adamdc_retry_begin(adamdc_retry *retry, const adamd_client_options *options, bool repeats);

/* What is left for the next try, in ms, at least 1; 0: no limit. */
unsigned adamdc_retry_time(const adamdc_retry *retry);

/* How long to wait for the next try, which counts as begun: `at_least` seconds where the server
 * said so (-1: it did not). False where none may follow. */
bool adamdc_retry_next(adamdc_retry *retry, long at_least, uint64_t *wait_ms);

void adamdc_retry_sleep(uint64_t wait_ms);

/* Milliseconds of the monotonic clock. */
uint64_t adamdc_now_ms(void);

#define ADAMDC_KEY_SIZE 33 /* 128 bits as hexadecimal digits, with the terminator */

/* A random Idempotency-Key. */
adamd_status adamdc_retry_key(char key[ADAMDC_KEY_SIZE], adamd_error *error);

/* --- call.c ---------------------------------------------------------------------------------- */

#define ADAMDC_MAX_PATH 1024 /* bytes, with the terminator */
#define ADAMDC_LONG_PATH \
    2688 /* of one with a parameter's name, each byte of which may take three */

/* The tensors of one call: those to send and the places of those to receive. None at all is a body
 * too, so flags say whether there is one. */
typedef struct adamdc_call {
    bool sends, receives;
    bool repeats; /* it may be sent again */
    bool others;  /* a reply with more tensors than `into` is fine */
    const adamd_tensor *send;
    size_t n_send;
    const adamd_metadata *metadata;
    size_t n_metadata;
    const adamd_tensor *into;
    size_t n_into;
    /* Where a reply that broke off in its tensors, which may have taken the place of those to send,
     * is gone on with: a path whose GET brings the same tensors. NULL: the call is sent again. */
    const char *into_path;
    bool not_modified; /* 304 is a success */
} adamdc_call;

/* What the reply said. */
typedef struct adamdc_outcome {
    long status;
    bool replayed;
    adamdc_stats stats;
    char etag[ADAMD_MAX_ETAG];
} adamdc_outcome;

/* A call that is under way. */
typedef struct adamdc_run {
    adamdc_transfer *transfer;
    const adamdc_call *call;
    adamdc_outcome *outcome;
    adamd_error *error;
    adamdc_piece *pieces;
    adamdc_retry retry;
    adamdc_scatter scatter;
    bool acted; /* the reply said that the server has acted, and broke off in its tensors */
} adamdc_run;

/* Makes the body. What the pointers point to stays with the caller until adamdc_run_end, which must
 * follow, on an error too. */
adamd_status adamdc_run_begin(adamdc_run *run, adamdc_transfer *transfer, const adamdc_call *call,
                              adamdc_outcome *outcome, adamd_error *error);
/* Sets the handle up for one try. */
adamd_status adamdc_run_try(adamdc_run *run);
/* What came of the try. True where another is to follow after *wait_ms; else *status is the
 * call's. */
bool adamdc_run_tried(adamdc_run *run, CURLcode code, adamd_status *status, uint64_t *wait_ms);
void adamdc_run_end(adamdc_run *run);

/* Runs a transfer of which client, method, path and headers are set; `body` too, where the caller
 * wants it, and pieces where the body is no tensors. Any status but a success is an error.
 * `outcome` may be NULL. */
adamd_status adamdc_call_run(adamdc_transfer *transfer, const adamdc_call *call,
                             adamdc_outcome *outcome, adamd_error *error);

/* --- step_options.c -------------------------------------------------------------------------- */

#define ADAMDC_MAX_WORD          128 /* bytes of Adam-Worker and of Idempotency-Key */
#define ADAMDC_MAX_STEP_METADATA 7
#define ADAMDC_MAX_NUMBER        32 /* bytes of a number's text */

/* The lines of a step's header; those with values of the caller's are held here. */
typedef struct adamdc_step_headers {
    const char *lines[9];
    char key[ADAMDC_MAX_WORD + 32];
    char worker[ADAMDC_MAX_WORD + 32];
    char weight[ADAMDC_MAX_NUMBER + 32];
    char based_on[ADAMDC_MAX_NUMBER + 32];
    char if_match[ADAMD_MAX_ETAG + 32];
} adamdc_step_headers;

/* INVALID_ARGUMENT where a value cannot stand in a header. */
adamd_status adamdc_step_headers_make(const adamd_client *client, const adamd_step_options *options,
                                      adamdc_step_headers *headers, adamd_error *error);

/* The metadata of a step; `numbers` hold texts of its values. */
typedef struct adamdc_step_metadata {
    adamd_metadata members[ADAMDC_MAX_STEP_METADATA];
    size_t n;
    char numbers[ADAMDC_MAX_STEP_METADATA][ADAMDC_MAX_NUMBER];
} adamdc_step_metadata;

void adamdc_step_metadata_make(const adamd_client *client, const adamd_step_options *options,
                               adamdc_step_metadata *metadata);

/* --- path.c ---------------------------------------------------------------------------------- */

/* "/v1/optimizers/{name}{rest}" */
adamd_status adamdc_path(const adamd_client *client, const char *name, const char *rest,
                         char path[ADAMDC_MAX_PATH], adamd_error *error);

/* The same, of a call that receives parameters as `dtype` ("f32"), or, where that is NULL, in the
 * types of `into` (NULL: it does not). */
adamd_status adamdc_receiving_path(const adamd_client *client, const char *name, const char *rest,
                                   const char *dtype, const adamd_tensor *into, size_t n,
                                   char path[ADAMDC_MAX_PATH], adamd_error *error);

/* "/v1/optimizers/{name}{before}{segment}{after}", the segment encoded; it may be a parameter's
 * name. */
adamd_status adamdc_path_with(const adamd_client *client, const char *name, const char *before,
                              const char *segment, const char *after, char path[ADAMDC_LONG_PATH],
                              adamd_error *error);

/* --- step.c ---------------------------------------------------------------------------------- */

/* A step as it is sent; it points into itself, so it stays where it is. */
typedef struct adamdc_step {
    char path[ADAMDC_MAX_PATH], into_path[ADAMDC_MAX_PATH];
    adamdc_step_headers headers;
    adamdc_step_metadata metadata;
    adamdc_outcome outcome;
    adamdc_transfer transfer;
    adamdc_call call;
    bool minimal;
} adamdc_step;

/* Of the options, the JSON of `param_groups` and `grad.nonfinite` stay until the body is made, the
 * tensors until the step is done. */
adamd_status adamdc_step_make(adamd_client *client, const char *name, const adamd_tensor *grads,
                              size_t n, const adamd_tensor *params_out,
                              const adamd_step_options *options, adamdc_step *step,
                              adamd_error *error);

/* Whether it is "e<epoch>-s<step>", in its quotes, and what these are. */
bool adamdc_etag_parse(const char *etag, uint64_t *epoch, uint64_t *step);

/* What the reply said. */
adamd_status adamdc_step_result(const adamdc_step *step, adamd_result *result, adamd_error *error);

/* --- text.c ---------------------------------------------------------------------------------- */

/* BAD_REPLY where a reply is not JSON. */
adamd_status adamdc_check_json(const adamdc_buffer *text, const char *method, const char *path,
                               adamd_error *error);

/* A call whose body, NULL or JSON, and reply are text. GETs are repeated. `json` NULL: the reply is
 * passed over; else on success *json is the caller's, terminated, on an error NULL. */
adamd_status adamdc_text(adamd_client *client, const char *method, const char *path,
                         const char *body, char **json, size_t *length, adamd_error *error);

/* --- output.c -------------------------------------------------------------------------------- */

/* The bytes of a file. Writing to them changes memory alone. */
typedef struct adamdc_mapping {
    unsigned char *bytes; /* NULL where the file is empty */
    size_t length;
} adamdc_mapping;

adamd_status adamdc_map(const char *path, adamdc_mapping *mapping, adamd_error *error);
void adamdc_unmap(adamdc_mapping *mapping);

/* A file that is being written, under another name. */
typedef struct adamdc_output {
    int fd;
    char *path, *part;
} adamdc_output;

/* After OK, adamdc_output_end must follow. */
adamd_status adamdc_output_begin(adamdc_output *out, const char *path, adamd_error *error);
adamd_status adamdc_output_write(adamdc_output *out, const void *bytes, size_t length,
                                 adamd_error *error);
/* Back to nothing, for another try. */
adamd_status adamdc_output_rewind(adamdc_output *out, adamd_error *error);
/* Gives the file its name where `status` is OK, removes it otherwise. Returns `status`, or why the
 * file could not be named. */
adamd_status adamdc_output_end(adamdc_output *out, adamd_status status, adamd_error *error);

#endif
