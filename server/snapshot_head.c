/* snapshot_head.c: the header of a snapshot, as docs/persistence.md has it. snapshot_about.c reads
 * it. */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "codec_numbers.h"
#include "codec_options.h"
#include "crc32c.h"
#include "snapshot_internal.h"

/* `"name": "000000000000002a"`: as text, since most readers of JSON keep but 53 bits of a number.
 */
static void add_u64(text *t, const char *before, const char *name, uint64_t value)
{
    text_add_format(t, "%s\"%s\": \"%016llx\"", before, name, (unsigned long long)value);
}

static void add_bool(text *t, const char *name, bool value)
{
    text_add_format(t, ", \"%s\": %s", name, value ? "true" : "false");
}

static void add_uint(text *t, const char *name, uint64_t value)
{
    text_add_format(t, ", \"%s\": %llu", name, (unsigned long long)value);
}

static void add_ms(text *t, const char *name, int64_t value)
{
    text_add_format(t, ", \"%s\": %lld", name, (long long)value);
}

static void add_numbers(text *t, const double *numbers, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        text_add_string(t, i > 0 ? ", " : "[");
        json_add_double(t, numbers[i]);
    }
    text_add(t, "]", 1);
}

/* ---- keys ---- */

typedef struct key_writer {
    text *text;
    bool any;
} key_writer;

static void add_key(void *context, const char *key, int64_t age_ms, const key_record *r)
{
    key_writer *w = context;
    text *t = w->text;
    text_add_string(t, w->any ? ", {\"key\": " : "{\"key\": ");
    w->any = true;
    json_add_string(t, key, strlen(key));
    text_add_format(t, ", \"body\": \"%016llx%016llx\"", (unsigned long long)r->body.high,
                    (unsigned long long)r->body.low);
    add_ms(t, "age_ms", age_ms);
    add_uint(t, "status", (uint64_t)r->status);
    add_uint(t, "held", r->held);
    add_uint(t, "step", r->stats.step);
    add_bool(t, "skipped", r->stats.skipped);
    add_uint(t, "converted", r->stats.converted);
    text_add_string(t, ", \"norms\": ");
    add_numbers(t,
                (const double[]){r->stats.grad_norm, r->stats.param_norm, r->stats.update_norm,
                                 r->stats.clip_coef},
                4);
    text_add_string(t, ", \"groups\": [");
    for (size_t i = 0; i < r->n_groups; i++) {
        const adam_group_stats *g = &r->groups[i];
        text_add_string(t, i > 0 ? ", " : "");
        add_numbers(t, (const double[]){g->grad_norm, g->param_norm, g->update_norm}, 3);
    }
    text_add_string(t, "]}");
}

/* ---- workers ---- */

static void add_refused(text *t, const worker_record *w)
{
    const char *before = "";
    text_add_string(t, ", \"refused\": {");
    for (int i = 0; i < WORKERS_PROBLEMS; i++) {
        if (w->refused[i] > 0) {
            text_add_format(t, "%s\"%s\": %u", before, problem_slug((problem_code)i),
                            w->refused[i]);
            before = ", ";
        }
    }
    text_add(t, "}", 1);
    if (w->any_refused) {
        text_add_format(t, ", \"last_refusal\": {\"code\": \"%s\"", problem_slug(w->last_refusal));
        add_ms(t, "time_ms", w->refused_ms);
        text_add(t, "}", 1);
    } else {
        text_add_string(t, ", \"last_refusal\": null");
    }
}

static void add_worker(text *t, const worker_record *w)
{
    text_add_string(t, "{\"name\": ");
    json_add_string(t, w->name, strlen(w->name));
    add_ms(t, "age_ms", w->age_ms);
    add_ms(t, "first_seen_ms", w->first_seen_ms);
    add_ms(t, "last_seen_ms", w->last_seen_ms);
    add_uint(t, "steps", w->steps);
    text_add_string(t, ", \"weight\": ");
    if (w->accepted) {
        json_add_double(t, w->weight);
    } else {
        text_add_string(t, "null");
    }
    if (w->has_staleness) {
        text_add_format(t, ", \"staleness\": [%llu, %llu]", (unsigned long long)w->staleness,
                        (unsigned long long)w->max_staleness);
    } else {
        text_add_string(t, ", \"staleness\": null");
    }
    add_uint(t, "nonfinite", w->nonfinite);
    add_uint(t, "consecutive_nonfinite", w->in_a_row);
    add_bool(t, "quarantined", w->in_quarantine);
    add_bool(t, "gone", w->gone);
    add_refused(t, w);
    text_add(t, "}", 1);
}

static void add_workers(text *t, workers *all)
{
    workers_copied copy;
    if (all == NULL) {
        text_add_string(t, "null");
        return;
    }
    if (!workers_copy(all, &copy)) {
        t->failed = true;
        return;
    }
    text_add_format(t, "{\"gone\": %u, \"records\": [", copy.gone);
    for (size_t i = 0; i < copy.n && !t->failed; i++) {
        text_add_string(t, i > 0 ? ", " : "");
        add_worker(t, &copy.records[i]);
    }
    text_add_string(t, "]}");
    workers_copy_drop(all, &copy);
}

/* ---- the whole ---- */

void snapshot_add_about(snapshot *s, const snapshot_source *from)
{
    text *t = &s->about;
    key_writer keys = {.text = t};
    text_add_format(t, "{\"version\": %d, \"name\": ", SNAPSHOT_VERSION);
    json_add_string(t, from->name, strlen(from->name));
    add_u64(t, ", ", "id", from->id);
    add_u64(t, ", ", "epoch", from->epoch);
    add_u64(t, ", ", "lsn", from->lsn);
    add_ms(t, "time_ms", clock_wall_ms());
    add_uint(t, "skipped", adam_optimizer_skipped_count(from->optimizer));
    text_add_string(t, ", \"defaults\": {");
    options_add(t, from->defaults);
    text_add_string(t, "}, ");
    training_add(t, from->how);
    text_add_string(t, ", \"held\": [");
    for (size_t i = 0; i < from->n_held; i++) {
        text_add_format(t, "%s\"%016llx\"", i > 0 ? ", " : "", (unsigned long long)from->held[i]);
    }
    text_add_string(t, "], \"keys\": [");
    if (from->keys != NULL) {
        idempotency_each(from->keys, add_key, &keys);
    }
    text_add_string(t, "], \"workers\": ");
    add_workers(t, from->workers);
}

void snapshot_crc_digits(uint32_t crc, char out[SNAPSHOT_DIGITS + 1])
{
    (void)snprintf(out, SNAPSHOT_DIGITS + 1, "%08x", crc);
}

uint32_t snapshot_header_crc(const char *header, size_t length)
{
    const uint32_t crc =
        crc32c_extend(crc32c_extend(0, header, SNAPSHOT_CRC_AT), "00000000", SNAPSHOT_DIGITS);
    const size_t behind = SNAPSHOT_CRC_AT + SNAPSHOT_DIGITS;
    return crc32c_extend(crc, header + behind, length - behind);
}

static void add_checksums(snapshot *s)
{
    text *t = &s->about;
    text_add_string(t, ", \"checksums\": {");
    for (size_t i = 0; i < s->n_tensors; i++) {
        const snapshot_tensor *own = &s->tensors[i];
        char name[ADAM_MAX_NAME + 32];
        char *end = stpcpy(name, own->prefix);
        memcpy(end, own->tensor.name, own->tensor.name_len);
        text_add_string(t, i > 0 ? ", " : "");
        json_add_string(t, name, (size_t)(end - name) + own->tensor.name_len);
        text_add_format(t, ": \"%08x\"", crc32c_extend(0, own->tensor.data, own->bytes));
    }
    text_add_string(t, "}}");
}

void snapshot_make_header(snapshot *s)
{
    text *t = &s->header;
    uint64_t offset = 0;
    add_checksums(s);
    safetensors_begin(t);
    safetensors_add_metadata(t, "header_crc32c", "00000000", SNAPSHOT_DIGITS);
    if (s->about.failed) {
        t->failed = true;
        return;
    }
    safetensors_add_metadata(t, "state_dict", s->description.buffer->data,
                             text_length(&s->description));
    safetensors_add_metadata(t, "adamd_snapshot", s->about.buffer->data, text_length(&s->about));
    safetensors_end_metadata(t);
    for (size_t i = 0; i < s->n_tensors; i++) {
        offset = safetensors_add_tensor(t, s->tensors[i].prefix, &s->tensors[i].tensor, offset);
    }
    safetensors_end(t);
    if (!t->failed) {
        char digits[SNAPSHOT_DIGITS + 1];
        snapshot_crc_digits(snapshot_header_crc(t->buffer->data, text_length(t)), digits);
        memcpy(t->buffer->data + SNAPSHOT_CRC_AT, digits, SNAPSHOT_DIGITS);
    }
}
