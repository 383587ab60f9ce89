/* adamd_client.h: adamd from C. Tensors travel as safetensors, straight from and into the caller's
 * buffers; libcurl does the HTTP. docs/protocol.md says what travels.
 *
 * Threads: a client is used by one thread at a time; several clients are independent. A client
 * keeps its connection open from one call to the next.
 *
 * Repeats. Every step carries an Idempotency-Key, by which the server takes it once however often
 * it comes. So a step that got no whole reply (the connection could not be made, broke, or stood
 * still), or 503 with Retry-After, is sent again with the same key, as often as
 * `options.max_retries` says, after random waits whose limit doubles from 100 ms to 5 s. So are
 * calls that only read. After any other reply nothing is sent again; and creating, overwriting and
 * removing are never: they carry no key, and a second try could meet what the first one, or
 * somebody else since, has done.
 *
 * Errors: every fallible function returns an adamd_status and, where `error` is not NULL, fills it.
 * On ADAMD_OK the error is left alone. */
#ifndef ADAMD_CLIENT_H
#define ADAMD_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define ADAMD_MAX_RANK    8      /* dimensions of a tensor */
#define ADAMD_MAX_NAME    512    /* bytes of a tensor's name, UTF-8, without its terminator */
#define ADAMD_MAX_TENSORS 131072 /* tensors of one request or reply */
#define ADAMD_MAX_ETAG    64     /* bytes of an entity tag with quotes and terminator */

/* One line a code: name, text. The enum and adamd_status_text are made from it. */
#define ADAMD_STATUS_MAP(X)                                       \
    X(OK, "success")                                              \
    X(INVALID_ARGUMENT, "argument refused, nothing was sent")     \
    X(NO_MEMORY, "out of memory")                                 \
    X(TRANSPORT, "no whole reply came from the server")           \
    X(REFUSED, "the server refused the request; nothing changed") \
    X(BAD_REPLY, "the reply is not what the protocol says")       \
    X(TOO_LARGE, "the reply is over the client's limit")          \
    X(FILE, "a file could not be read or written")

typedef enum adamd_status {
#define X(name, text) ADAMD_##name,
    ADAMD_STATUS_MAP(X)
#undef X
        ADAMD_STATUS_COUNT
} adamd_status;

/* The text of a status: a static string, never NULL. */
const char *adamd_status_text(adamd_status status);

/* Why a call failed. All texts are terminated, and cut where they are longer than their place. */
typedef struct adamd_error {
    adamd_status status;
    int curl_code;      /* CURLcode of a transport error, else 0 */
    long http_status;   /* of the reply, 0 where there was none */
    long retry_after;   /* REFUSED: seconds of the reply's Retry-After, -1: it does not say */
    char message[1536]; /* the whole story in one line, for a person */
    char type[128];     /* REFUSED: the problem's `type`, "urn:adamd:problem:..." */
    char detail[1024];  /* REFUSED: the problem's `detail` */
    char body[4096];    /* REFUSED: the reply's body as it came (application/problem+json) */
} adamd_error;

/* The code of a refusal, "shape-mismatch": what stands behind "urn:adamd:problem:" in `type`; ""
 * where there is none. A later server may have codes that docs/protocol.md does not name yet. */
const char *adamd_error_code(const adamd_error *error);

/* One member of the problem document in `body` ("param", "index", "expected_shape", "limit_bytes",
 * "worker", "step", ...) into `value` (of `size` bytes): a string decoded, anything else as its
 * JSON text. False, with "" in it, where there is no such member or it does not fit. */
bool adamd_error_member(const adamd_error *error, const char *member, char *value, size_t size);

/* Parameters are FLOAT32 or FLOAT64. Gradients may be of any type and are converted to their
 * parameter's; a new optimizer's parameters may be, too, of which the 16-bit ones become FLOAT32.
 */
typedef enum adamd_dtype {
    ADAMD_FLOAT32,
    ADAMD_FLOAT64,
    ADAMD_BFLOAT16,
    ADAMD_FLOAT16,
} adamd_dtype;

/* Bytes of one element: 2, 4 or 8. */
size_t adamd_dtype_size(adamd_dtype dtype);

/* A view of numbers, row-major, little-endian, at any alignment; it owns nothing. Rank 0 is a
 * scalar (one element); a dimension of 0 makes an empty tensor, whose data may be NULL. */
typedef struct adamd_tensor {
    const char *name; /* UTF-8, terminated */
    adamd_dtype dtype;
    int rank;
    uint64_t shape[ADAMD_MAX_RANK];
    void *data; /* only read where the tensor is sent, only written where it is received */
} adamd_tensor;

/* --- the client ------------------------------------------------------------------------------ */

typedef struct adamd_client adamd_client;

/* 0 in a member stands for its default. */
typedef struct adamd_client_options {
    unsigned connect_timeout_ms; /* until the connection stands; 10000 */
    unsigned stall_timeout_s;    /* without a byte in either direction; 120 */
    unsigned timeout_ms;         /* for one whole call with its repeats; no limit */
    int max_retries;             /* repeats of a step, or of a call that reads; 8; -1: none */
    size_t max_reply;            /* bytes of a reply gathered in memory (adamd_request,
                                    adamd_param_groups, adamd_error is apart); 1 GiB */
} adamd_client_options;

/* Makes a client for the server at `url`, "http://127.0.0.1:2326"; a path in it is put before every
 * request's. Connects with the first request. `options` may be NULL. Proxies named in the
 * environment are not used. On success *client is the caller's, for adamd_close; on an error it is
 * NULL. Runs curl_global_init once for the process. Errors: INVALID_ARGUMENT, NO_MEMORY. */
adamd_status adamd_open(const char *url, const adamd_client_options *options, adamd_client **client,
                        adamd_error *error);

/* Closes the connection and frees the client. NULL is allowed. */
void adamd_close(adamd_client *client);

/* The ETag of the client's last reply, with its quotes, "" where it had none. The client's, until
 * its next call. */
const char *adamd_last_etag(const adamd_client *client);

/* The JSON that came with the client's last call where that has no place for it: of adamd_create,
 * the summary. "" where none came. The client's, until its next call. */
const char *adamd_last_json(const adamd_client *client);

/* --- optimizers ------------------------------------------------------------------------------ */

/* Errors of all of these: INVALID_ARGUMENT, NO_MEMORY, TRANSPORT, REFUSED, BAD_REPLY. */

/* Creates optimizer `name` with these parameters (read, not kept). `optimizer_json` is what
 * __metadata__.optimizer takes, e.g. {"algorithm": "adamw", "defaults": {"lr": 0.01}}, or NULL for
 * Adam with torch's defaults over all tensors in one group. */
adamd_status adamd_create(adamd_client *client, const char *name, const char *optimizer_json,
                          const adamd_tensor *params, size_t n, adamd_error *error);

/* What is done with the gradients of one step, as docs/protocol.md says. A member that is 0 stands
 * for the optimizer's own setting. */
typedef struct adamd_grad_options {
    double grad_scale;      /* gradients are multiplied with float32(1 / grad_scale); 1: none */
    const char *nonfinite;  /* "error", "skip" or "apply" */
    double max_grad_norm;   /* > 0; INFINITY: not clipped */
    double norm_type;       /* 2 or INFINITY */
    int error_if_nonfinite; /* 1: true, -1: false */
    double clip_value;      /* > 0; INFINITY: not clipped */
} adamd_grad_options;

/* Zeroed, or NULL in its place: no option. */
typedef struct adamd_step_options {
    const char *worker;       /* Adam-Worker, 1 to 128 visible ASCII characters; or NULL */
    const char *if_match;     /* an ETag with its quotes, as adamd_result.etag; or NULL */
    const char *param_groups; /* JSON: one object of changes for each group; or NULL */
    adamd_grad_options grad;
    /* 1 to 128 visible ASCII characters, the same for two calls only where they are the same step;
     * NULL: a random one. */
    const char *idempotency_key;
    double weight;     /* Adam-Weight, > 0: what these gradients count in a weighted mean; 0: 1 */
    uint64_t based_on; /* Adam-Based-On, where has_based_on: the step of the parameters that the
                          gradients were computed on */
    bool has_based_on;
    bool minimal; /* take the step, send no parameters back */
    /* The type of all parameters on their way back, "f32", "f64", "bf16" or "f16"; NULL: as
     * `params_out` has them. */
    const char *dtype;
} adamd_step_options;

/* What a step did. */
typedef struct adamd_result {
    uint64_t step;  /* the optimizer's step count after it */
    uint64_t epoch; /* changes when history is rewritten */
    char etag[ADAMD_MAX_ETAG];
    /* L2 norms over all elements of the step, and what the gradients were multiplied with. NaN
     * where `minimal` asked for no body. */
    double grad_norm, param_norm, update_norm, clip_coef;
    /* The step was left out for a gradient that is not finite; nothing has changed but the count of
     * skipped steps. With `minimal` false: only `step` tells then. */
    bool skipped;
    uint64_t converted; /* gradients whose dtype was not their parameter's; 0 with `minimal` */
    /* The optimizer gathers gradients (aggregation "buffered") and has not stepped yet: how many it
     * now holds, of which these are one; 1 with `minimal`. 0: it has stepped. */
    uint64_t pending;
    /* The step had been taken before, by an earlier try whose reply was lost or by an earlier call
     * with the same key. The statistics and `step` are that step's, the parameters the current
     * ones. */
    bool replayed;
} adamd_result;

/* Sends `n` gradients, takes one step, and receives the updated values of the same parameters.
 * `params_out` are `n` tensors that name the parameters in any order; their data takes the values.
 * Their dtypes are the parameters' own, or all BFLOAT16, or all FLOAT16: then the values are
 * rounded to that type on their way out. It may be the very array of the gradients, or have the
 * same data: nothing is written before all gradients are on their way. With `minimal` it is not
 * used and may be NULL. `options` and `result` may be NULL. Where several workers make one step
 * (aggregation "sync"), the reply has the parameters of all of them; those that are not in
 * `params_out` are passed over.
 *
 * Where a reply breaks off in its parameters, it is these that are asked for again, since they may
 * have taken the place of the gradients.
 *
 * On ADAMD_OK everything is filled. On REFUSED nothing was written and no step taken. On TRANSPORT,
 * BAD_REPLY and NO_MEMORY the step may have been taken, and the buffers may be partly overwritten:
 * adamd_get_params tells. Where they are whole, calling again with the same `idempotency_key` is
 * safe. */
adamd_status adamd_step(adamd_client *client, const char *name, const adamd_tensor *grads, size_t n,
                        const adamd_tensor *params_out, const adamd_step_options *options,
                        adamd_result *result, adamd_error *error);

/* Receives the values of all parameters. `params` names every one of them, in any order, with its
 * dtype (or all in one of the 16-bit types, as in adamd_step) and shape (BAD_REPLY where the
 * optimizer's differ); their data takes the values, and may be partly overwritten on an error.
 * `step` may be NULL. */
adamd_status adamd_get_params(adamd_client *client, const char *name, const adamd_tensor *params,
                              size_t n, uint64_t *step, adamd_error *error);

/* Overwrites the values of all parameters; moments and step counts stay. */
adamd_status adamd_put_params(adamd_client *client, const char *name, const adamd_tensor *params,
                              size_t n, adamd_error *error);

/* Receives one parameter, named, with its shape and its dtype, a 16-bit one, or the one that
 * `dtype`
 * ("f32", "f64", "bf16", "f16"; may be NULL) asks for. */
adamd_status adamd_get_param(adamd_client *client, const char *name, const char *dtype,
                             const adamd_tensor *param, adamd_error *error);

/* Waits for other parameters than those of `etag` (with its quotes, as adamd_last_etag), for
 * `seconds` (300 at most; 0: does not wait) and receives them as adamd_get_params does. *changed
 * says whether they came; where they did not, nothing was written. `etag` NULL: waits for the next
 * step, and receives the parameters at the end of the wait in any case. `step` may be NULL. */
adamd_status adamd_wait_params(adamd_client *client, const char *name, const char *etag,
                               unsigned seconds, const adamd_tensor *params, size_t n,
                               bool *changed, uint64_t *step, adamd_error *error);

/* --- any request ----------------------------------------------------------------------------- */

/* A whole reply. Zero it before its first use; adamd_request reuses its memory from one call to the
 * next, and adamd_response_free returns it. */
typedef struct adamd_response {
    long status;         /* of the final reply (never 100) */
    unsigned char *body; /* never NULL after ADAMD_OK; a NUL that is not counted stands behind it */
    size_t length;
    uint64_t sent;        /* bytes of the request's body that were taken for sending */
    long new_connections; /* opened for this request: 0 where the last one was used again */
    bool continued;       /* the server said 100 Continue */

    /* Private. */
    size_t body_capacity;
    char *headers; /* name NUL value NUL ... */
    size_t headers_length, headers_capacity;
} adamd_response;

/* Sends one request and gathers its reply, whatever its status: 404 is ADAMD_OK here.
 *
 * `method` is any token. `path` is the target as it goes on the wire, from its first "/" on with
 * its query; nothing is encoded or tidied. `headers` is NULL or a list of lines that ends with
 * NULL: "Name: value" adds or replaces, "Name:" removes one that libcurl would send by itself
 * (Accept, Expect, Content-Length), "Name;" sends it empty. `body` NULL: no body and no
 * Content-Length; not NULL with length 0: an empty body, "Content-Length: 0". HEAD takes no body.
 * Bodies over 1 MiB wait for 100 Continue, at most a second, unless "Expect:" is given.
 * "Transfer-Encoding: chunked" sends the body in chunks.
 *
 * It is sent once, whatever the method: `max_retries` is not for it.
 *
 * On an error the response has status 0 and no body. Errors: INVALID_ARGUMENT, NO_MEMORY,
 * TRANSPORT, TOO_LARGE. */
adamd_status adamd_request(adamd_client *client, const char *method, const char *path,
                           const char *const *headers, const void *body, size_t length,
                           adamd_response *response, adamd_error *error);

/* The value of the index-th header of this name (case does not matter), or NULL. The response's. */
const char *adamd_response_header(const adamd_response *response, const char *name, size_t index);

/* Frees what the response holds and zeroes it. */
void adamd_response_free(adamd_response *response);

/* Appends `text` to the string in `out` (of `size` bytes), percent-encoded as one path segment.
 * False, with `out` as it was, where it does not fit. */
bool adamd_path_append(char *out, size_t size, const char *text);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#include "adamd_calls.h"
#include "adamd_files.h"
#include "adamd_multi.h"

#endif
