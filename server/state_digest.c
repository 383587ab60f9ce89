/* state_digest.c: SHA-256 over the canonical bytes of a state. The only file that includes OpenSSL.
 *
 * SHA-256 rather than something faster: it is in the standard library of nearly every language, so
 * that anybody can check a digest; and collisions cannot be made, so that equal digests mean equal
 * states also where one of them comes from a stranger. docs/state_dict.md has the bytes; clients
 * compute them too, so they change only with the version. */
#include "state_digest.h"

#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#define VERSION UINT32_C(1)

/* What is hashed, and whether all went well so far. */
typedef struct hasher {
    EVP_MD_CTX *context;
    bool failed;
} hasher;

static void add(hasher *h, const void *bytes, size_t length)
{
    if (!h->failed && length > 0) {
        h->failed = EVP_DigestUpdate(h->context, bytes, length) != 1;
    }
}

/* Numbers are little-endian, which is what the project is built for (see CMakeLists.txt). */
static void add_u8(hasher *h, unsigned value)
{
    const unsigned char byte = (unsigned char)value;
    add(h, &byte, sizeof byte);
}

static void add_u32(hasher *h, size_t value)
{
    const uint32_t number = (uint32_t)value;
    add(h, &number, sizeof number);
}

static void add_u64(hasher *h, uint64_t value)
{
    add(h, &value, sizeof value);
}

static void add_f64(hasher *h, double value)
{
    add(h, &value, sizeof value);
}

static void add_string(hasher *h, const char *string, size_t length)
{
    add_u32(h, length);
    add(h, string, length);
}

/* grad_scale, max_grad_norm, clip_value, norm_type, error_if_nonfinite, nonfinite. */
static void add_grad_options(hasher *h)
{
    add_f64(h, 1);
    add_f64(h, INFINITY);
    add_f64(h, INFINITY);
    add_u8(h, 0);
    add_u8(h, 0);
    add_u8(h, 0);
}

static void add_param(hasher *h, const adam_param_view *p)
{
    const char *dtype = adam_dtype_name(p->tensor.dtype);
    const size_t bytes = p->numel * adam_dtype_size(p->tensor.dtype);
    add_string(h, p->tensor.name, p->tensor.name_len);
    add_string(h, dtype, strlen(dtype));
    add_u32(h, (size_t)p->tensor.rank);
    for (int i = 0; i < p->tensor.rank; i++) {
        add_u64(h, p->tensor.shape[i]);
    }
    add_u64(h, p->step);
    add(h, p->tensor.data, bytes);
    add(h, p->exp_avg, bytes);
    add(h, p->exp_avg_sq, bytes);
    add_u8(h, p->max_exp_avg_sq != NULL);
    if (p->max_exp_avg_sq != NULL) {
        add(h, p->max_exp_avg_sq, bytes);
    }
}

static void add_group(hasher *h, const adam_optimizer *o, size_t index)
{
    const adam_group_view g = adam_optimizer_group(o, index);
    add_f64(h, g.options.lr);
    add_f64(h, g.options.betas[0]);
    add_f64(h, g.options.betas[1]);
    add_f64(h, g.options.eps);
    add_f64(h, g.options.weight_decay);
    add_u8(h, g.options.amsgrad);
    add_u8(h, g.options.maximize);
    add_u8(h, 0); /* no schedule */
    add_u32(h, g.n_params);
    for (size_t i = g.first_param; i < g.first_param + g.n_params; i++) {
        const adam_param_view p = adam_optimizer_param(o, i);
        add_param(h, &p);
    }
}

static void add_state(hasher *h, const adam_optimizer *o)
{
    const char *algorithm = adam_algorithm_name(adam_optimizer_algorithm(o));
    add(h, "adamd digest", 12);
    add_u32(h, VERSION);
    add_string(h, algorithm, strlen(algorithm));
    add_u64(h, adam_optimizer_step_count(o));
    add_grad_options(h);
    add_u32(h, adam_optimizer_group_count(o));
    for (size_t i = 0; i < adam_optimizer_group_count(o); i++) {
        add_group(h, o, i);
    }
}

bool state_digest(const adam_optimizer *o, char out[STATE_DIGEST_SIZE])
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    hasher h = {.context = EVP_MD_CTX_new()};
    h.failed = h.context == NULL || EVP_DigestInit_ex(h.context, EVP_sha256(), NULL) != 1;
    add_state(&h, o);
    h.failed = h.failed || EVP_DigestFinal_ex(h.context, hash, &length) != 1;
    EVP_MD_CTX_free(h.context);
    if (h.failed) {
        return false;
    }
    size_t used = (size_t)snprintf(out, STATE_DIGEST_SIZE, "sha256:");
    for (unsigned i = 0; i < length && used < STATE_DIGEST_SIZE; i++) {
        used += (size_t)snprintf(out + used, STATE_DIGEST_SIZE - used, "%02x", hash[i]);
    }
    return true;
}
