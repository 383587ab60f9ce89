/* state_digest.c: SHA-256 over the canonical bytes of a state. The only file that includes OpenSSL.
 *
 * SHA-256 rather than something faster: it is in the standard library of nearly every language, so
 * that anybody can check a digest; and collisions cannot be made, so that equal digests mean equal
 * states also where one of them comes from a stranger. docs/state_dict.md has the bytes; clients
 * compute them too, so they change only with the version. */
#include "state_digest.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec_schedule_table.h"

#define VERSION UINT32_C(2)

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

static void add_text(hasher *h, const char *text)
{
    add_string(h, text, strlen(text));
}

static void add_grad_options(hasher *h, const adam_grad_options *options)
{
    add_f64(h, options->grad_scale);
    add_f64(h, options->max_grad_norm);
    add_f64(h, options->clip_value);
    add_u8(h, options->norm_type == ADAM_NORM_INF ? 1 : 0);
    add_u8(h, options->error_if_nonfinite);
    add_u8(h, options->nonfinite == ADAM_NONFINITE_SKIP    ? 1
              : options->nonfinite == ADAM_NONFINITE_APPLY ? 2
                                                           : 0);
}

/* ---- schedules: the object that a state_dict shows, with a tag before each value ---- */

enum { TAG_NUMBER = 1, TAG_BOOL, TAG_STRING, TAG_LIST, TAG_OBJECT };

#define MAX_MEMBERS 24 /* of one scheduler: arguments, name, position */

/* One member of the object: a value of the scheduler, or a number or text of its own. */
typedef struct member {
    const char *name;
    const argument *argument; /* NULL: `text` or `number` */
    const char *text;         /* NULL: `number` */
    double number;
} member;

static int compare_members(const void *a, const void *b)
{
    return strcmp(((const member *)a)->name, ((const member *)b)->name);
}

/* The members that schedule_add prints, sorted by name. */
static size_t list_members(const adam_schedule *schedule, size_t i, member *out)
{
    const adam_scheduler *s = &schedule->at[i];
    size_t n = 0;
    size_t count;
    const argument *table = schedule_arguments(&count);
    out[n++] = (member){.name = "name", .text = adam_scheduler_name(s->kind)};
    for (size_t k = 0; k < count && n < MAX_MEMBERS - 4; k++) {
        const void *value = (const char *)s + table[k].offset;
        if (table[k].kind == s->kind &&
            (table[k].type != ARGUMENT_COUNT_OR_NONE || *(const uint64_t *)value != 0)) {
            out[n++] = (member){.name = table[k].name, .argument = &table[k]};
        }
    }
    out[n++] = (member){.name = "last_epoch", .number = (double)s->last_epoch};
    if (s->kind == ADAM_COSINE_ANNEALING_WARM_RESTARTS) {
        out[n++] = (member){.name = "T_cur", .number = (double)s->T_cur};
        out[n++] = (member){.name = "T_i", .number = (double)s->T_i};
    }
    if (i > 0) {
        out[n++] = (member){.name = "base_lr", .number = s->base_lr};
    }
    qsort(out, n, sizeof *out, compare_members);
    return n;
}

static void add_number(hasher *h, double value)
{
    add_u8(h, TAG_NUMBER);
    add_f64(h, value);
}

static void add_word(hasher *h, const char *word)
{
    add_u8(h, TAG_STRING);
    add_text(h, word);
}

static void add_list(hasher *h, size_t count)
{
    add_u8(h, TAG_LIST);
    add_u32(h, count);
}

static void add_scheduler(hasher *h, const adam_schedule *schedule, size_t i);

static void add_argument(hasher *h, const adam_schedule *schedule, const adam_scheduler *s,
                         const argument *a)
{
    const void *value = (const char *)s + a->offset;
    const uint64_t *counts = value;
    size_t n;
    switch (a->type) {
    case ARGUMENT_NUMBER: add_number(h, *(const double *)value); break;
    case ARGUMENT_COUNT:
    case ARGUMENT_COUNT_OR_NONE: add_number(h, (double)*counts); break; /* at most 2^53 */
    case ARGUMENT_BOOL:
        add_u8(h, TAG_BOOL);
        add_u8(h, *(const bool *)value);
        break;
    case ARGUMENT_ANNEAL: add_word(h, schedule_anneal_name(*(const adam_anneal *)value)); break;
    case ARGUMENT_MILESTONES:
        memcpy(&n, (const char *)s + a->count, sizeof n);
        add_list(h, n);
        for (size_t k = 0; k < n; k++) {
            add_number(h, (double)counts[k]);
        }
        break;
    case ARGUMENT_SCHEDULERS:
        add_list(h, schedule->n - 1);
        for (size_t k = 1; k < schedule->n; k++) {
            add_scheduler(h, schedule, k);
        }
        break;
    }
}

static void add_scheduler(hasher *h, const adam_schedule *schedule, size_t i)
{
    member members[MAX_MEMBERS];
    const size_t n = list_members(schedule, i, members);
    add_u8(h, TAG_OBJECT);
    add_u32(h, n);
    for (size_t k = 0; k < n; k++) {
        add_text(h, members[k].name);
        if (members[k].argument != NULL) {
            add_argument(h, schedule, &schedule->at[i], members[k].argument);
        } else if (members[k].text != NULL) {
            add_word(h, members[k].text);
        } else {
            add_number(h, members[k].number);
        }
    }
}

/* ---- groups and parameters ---- */

static void add_param(hasher *h, const adam_param_view *p)
{
    const size_t bytes = p->numel * adam_dtype_size(p->tensor.dtype);
    add_string(h, p->tensor.name, p->tensor.name_len);
    add_text(h, adam_dtype_name(p->tensor.dtype));
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
    add_u8(h, g.options.bias_correction);
    add_u8(h, g.options.buffers);
    add_u8(h, g.schedule != NULL);
    if (g.schedule != NULL) {
        add_f64(h, g.schedule->initial_lr);
        add_scheduler(h, g.schedule, 0);
    }
    add_u32(h, g.n_params);
    for (size_t i = g.first_param; i < g.first_param + g.n_params; i++) {
        const adam_param_view p = adam_optimizer_param(o, i);
        add_param(h, &p);
    }
}

static void add_state(hasher *h, const adam_optimizer *o)
{
    const adam_grad_options grad_options = adam_optimizer_grad_options(o);
    add(h, "adamd digest", 12);
    add_u32(h, VERSION);
    add_text(h, adam_algorithm_name(adam_optimizer_algorithm(o)));
    add_u64(h, adam_optimizer_step_count(o));
    add_grad_options(h, &grad_options);
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
