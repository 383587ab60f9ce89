/* snapshot_about.c: reading `__metadata__.adamd_snapshot`: all but the state, and the checksums. */
#include <stdlib.h>
#include <string.h>

#include "codec_names.h"
#include "codec_numbers.h"
#include "codec_options.h"
#include "crc32c.h"
#include "snapshot_internal.h"
#include "snapshot_values.h"

/* ---- keys ---- */

/* A list of three numbers for each group, in room that the caller drops. */
static codec_status read_groups(const snapshot_reader *r, const json_value *v, const char *where,
                                key_record *record, buffer **room)
{
    int rank;
    uint64_t shape[ADAM_MAX_RANK];
    if (v != NULL && names_empty_list(r->doc, v)) {
        return CODEC_OK;
    }
    if (v == NULL || json_type_of(v) != JSON_NUMBERS ||
        !numbers_have_shape(r->doc, v, &rank, shape) || rank != 2 || shape[1] != 3 ||
        shape[0] > ADAM_MAX_GROUPS) {
        return snapshot_wrong(r, "groups", where, "a list of three numbers for each param group");
    }
    _Static_assert(sizeof(adam_group_stats) == 3 * sizeof(double), "read as three numbers each");
    *room = buffer_get(r->with->pool, shape[0] * sizeof(adam_group_stats));
    if (*room == NULL) {
        return codec_fail(r->error, CODEC_NO_MEMORY, "no memory for the groups of %s", where);
    }
    record->n_groups = shape[0];
    record->groups = (void *)(*room)->data;
    return numbers_read(r->doc, v, "groups", ADAM_FLOAT64, (*room)->data, r->error);
}

static codec_status read_key(const snapshot_reader *r, const json_value *v, idempotency *keys)
{
    static const char *const allowed[] = {"key",   "body",   "age_ms",  "status",
                                          "held",  "step",   "skipped", "converted",
                                          "norms", "groups", NULL};
    static const char where[] = "an idempotency key";
    char key[IDEMPOTENCY_MAX_KEY + 1];
    char body[33];
    int64_t age_ms = 0;
    uint64_t status = 0;
    uint64_t converted = 0;
    double norms[4] = {0};
    key_record record = {.pending = false};
    buffer *room = NULL;
    codec_status st = snapshot_check_object(r, v, allowed, where);
    THEN(snapshot_get_text(r, v, "key", where, key, sizeof key))
    THEN(snapshot_get_text(r, v, "body", where, body, sizeof body))
    THEN(strlen(body) == 32 && snapshot_read_hex(body, &record.body.high) &&
                 snapshot_read_hex(body + 16, &record.body.low)
             ? CODEC_OK
             : snapshot_wrong(r, "body", where, "32 hex digits"))
    THEN(snapshot_get_ms(r, v, "age_ms", where, &age_ms))
    THEN(snapshot_get_uint(r, v, "status", where, 599, &status))
    THEN(snapshot_get_uint(r, v, "held", where, ADAM_MAX_STEP, &record.held))
    THEN(snapshot_get_uint(r, v, "step", where, ADAM_MAX_STEP, &record.stats.step))
    THEN(snapshot_get_bool(r, v, "skipped", where, &record.stats.skipped))
    THEN(snapshot_get_uint(r, v, "converted", where, ADAM_MAX_PARAMS, &converted))
    THEN(snapshot_get_numbers(r, json_get(v, "norms"), "norms", where, 4, norms))
    THEN(read_groups(r, json_get(v, "groups"), where, &record, &room))
    record.status = (int)status;
    record.stats.converted = (size_t)converted;
    record.stats.grad_norm = norms[0];
    record.stats.param_norm = norms[1];
    record.stats.update_norm = norms[2];
    record.stats.clip_coef = norms[3];
    if (st == CODEC_OK && idempotency_find(keys, key) != NULL) {
        st = codec_fail(r->error, CODEC_INVALID_VALUE, "idempotency key '%s' stands twice", key);
    }
    if (st == CODEC_OK && !idempotency_restore(keys, key, age_ms, &record)) {
        st = codec_fail(r->error, CODEC_NO_MEMORY, "no memory for the idempotency keys");
    }
    buffer_drop(room);
    return st;
}

static codec_status read_keys(const snapshot_reader *r, const json_value *root, const char *where,
                              snapshot_content *out)
{
    const json_value *key = NULL;
    codec_status st = snapshot_get_list(r, root, "keys", where, &key);
    if (st != CODEC_OK || key == NULL) {
        return st;
    }
    out->keys =
        idempotency_create(buffer_pool_memory(r->with->pool), r->with->max_keys, r->with->key_ttl);
    if (out->keys == NULL) {
        return codec_fail(r->error, CODEC_NO_MEMORY, "no memory for the idempotency keys");
    }
    for (; st == CODEC_OK && key != NULL; key = json_next(key)) {
        st = read_key(r, key, out->keys);
    }
    return st;
}

/* ---- workers ---- */

static codec_status read_code(const snapshot_reader *r, const char *slug, const char *where,
                              problem_code *out)
{
    for (int i = 0; i < WORKERS_PROBLEMS; i++) {
        if (strcmp(problem_slug((problem_code)i), slug) == 0) {
            *out = (problem_code)i;
            return CODEC_OK;
        }
    }
    return codec_fail(r->error, CODEC_UNKNOWN_FIELD, "%s was refused with the unknown code '%.64s'",
                      where, slug);
}

static codec_status read_refused(const snapshot_reader *r, const json_value *v, const char *where,
                                 worker_record *w)
{
    static const char *const allowed[] = {"code", "time_ms", NULL};
    const json_value *refused = json_get(v, "refused");
    const json_value *last = json_get(v, "last_refusal");
    codec_status st = CODEC_OK;
    if (refused == NULL || json_type_of(refused) != JSON_OBJECT || last == NULL) {
        return snapshot_wrong(r, "refused", where, "an object, with last_refusal beside it");
    }
    for (const json_value *m = json_first(refused); m != NULL && st == CODEC_OK; m = json_next(m)) {
        problem_code code = 0;
        uint64_t count = 0;
        st = read_code(r, json_name(m), where, &code);
        THEN(snapshot_get_uint(r, refused, json_name(m), where, UINT32_MAX, &count))
        w->refused[code] = (uint32_t)count;
    }
    if (st != CODEC_OK || json_type_of(last) == JSON_NULL) {
        return st;
    }
    char code[64];
    w->any_refused = true;
    st = snapshot_check_object(r, last, allowed, "last_refusal");
    THEN(snapshot_get_text(r, last, "code", "last_refusal", code, sizeof code))
    THEN(read_code(r, code, where, &w->last_refusal))
    THEN(snapshot_get_ms(r, last, "time_ms", "last_refusal", &w->refused_ms))
    return st;
}

/* What stands as null where there was none. */
static codec_status read_optional(const snapshot_reader *r, const json_value *v, const char *where,
                                  worker_record *w)
{
    const json_value *weight = json_get(v, "weight");
    const json_value *staleness = json_get(v, "staleness");
    if (weight == NULL || staleness == NULL) {
        return snapshot_wrong(r, weight == NULL ? "weight" : "staleness", where, "a value or null");
    }
    if (json_type_of(weight) != JSON_NULL) {
        w->accepted = true;
        if (json_type_of(weight) != JSON_NUMBER || !numbers_double(r->doc, weight, &w->weight)) {
            return snapshot_wrong(r, "weight", where, "a number or null");
        }
    }
    if (json_type_of(staleness) != JSON_NULL) {
        uint64_t both[2];
        size_t n;
        w->has_staleness = true;
        if (!numbers_uint_list(r->doc, staleness, 2, both, &n) || n != 2) {
            return snapshot_wrong(r, "staleness", where, "two whole numbers or null");
        }
        w->staleness = both[0];
        w->max_staleness = both[1];
    }
    return CODEC_OK;
}

static codec_status read_worker(const snapshot_reader *r, const json_value *v, workers *all)
{
    static const char *const allowed[] = {
        "name",         "age_ms",    "first_seen_ms",         "last_seen_ms", "steps", "weight",
        "staleness",    "nonfinite", "consecutive_nonfinite", "quarantined",  "gone",  "refused",
        "last_refusal", NULL};
    static const char where[] = "a worker";
    worker_record w = {0};
    uint64_t in_a_row = 0;
    codec_status st = snapshot_check_object(r, v, allowed, where);
    THEN(snapshot_get_text(r, v, "name", where, w.name, sizeof w.name))
    THEN(snapshot_get_ms(r, v, "age_ms", where, &w.age_ms))
    THEN(snapshot_get_ms(r, v, "first_seen_ms", where, &w.first_seen_ms))
    THEN(snapshot_get_ms(r, v, "last_seen_ms", where, &w.last_seen_ms))
    THEN(snapshot_get_uint(r, v, "steps", where, ADAM_MAX_STEP, &w.steps))
    THEN(snapshot_get_uint(r, v, "nonfinite", where, ADAM_MAX_STEP, &w.nonfinite))
    THEN(snapshot_get_uint(r, v, "consecutive_nonfinite", where, UINT32_MAX, &in_a_row))
    THEN(snapshot_get_bool(r, v, "quarantined", where, &w.in_quarantine))
    THEN(snapshot_get_bool(r, v, "gone", where, &w.gone))
    THEN(read_optional(r, v, where, &w))
    THEN(read_refused(r, v, where, &w))
    w.in_a_row = (unsigned)in_a_row;
    if (st == CODEC_OK && !workers_restore(all, &w)) {
        st = codec_fail(r->error, CODEC_LIMIT,
                        "worker '%s' stands twice, or there is no memory for it, or there are more "
                        "than %d",
                        w.name, WORKERS_MAX);
    }
    return st;
}

static codec_status read_workers(const snapshot_reader *r, const json_value *v,
                                 snapshot_content *out)
{
    static const char *const allowed[] = {"gone", "records", NULL};
    const json_value *record = NULL;
    uint64_t gone = 0;
    if (v != NULL && json_type_of(v) == JSON_NULL) {
        return CODEC_OK;
    }
    codec_status st = snapshot_check_object(r, v, allowed, "workers");
    THEN(snapshot_get_uint(r, v, "gone", "workers", UINT32_MAX, &gone))
    THEN(snapshot_get_list(r, v, "records", "workers", &record))
    if (st != CODEC_OK) {
        return st;
    }
    out->workers = workers_create(buffer_pool_memory(r->with->pool), r->with->worker_ttl);
    if (out->workers == NULL) {
        return codec_fail(r->error, CODEC_NO_MEMORY, "no memory for the workers");
    }
    for (; st == CODEC_OK && record != NULL; record = json_next(record)) {
        st = read_worker(r, record, out->workers);
    }
    workers_restore_gone(out->workers, (unsigned)gone);
    return st;
}

/* ---- the rest ---- */

static codec_status read_held(const snapshot_reader *r, const json_value *root, const char *where,
                              snapshot_content *out)
{
    const json_value *item = NULL;
    const codec_status st = snapshot_get_list(r, root, "held", where, &item);
    if (st != CODEC_OK || item == NULL) {
        return st;
    }
    out->held = calloc(json_count(json_get(root, "held")), sizeof *out->held);
    if (out->held == NULL) {
        return codec_fail(r->error, CODEC_NO_MEMORY, "no memory for the held gradients");
    }
    for (; item != NULL; item = json_next(item)) {
        const char *hex = json_type_of(item) == JSON_STRING ? json_string(item) : "";
        if (strlen(hex) != 16 || !snapshot_read_hex(hex, &out->held[out->n_held++])) {
            return snapshot_wrong(r, "held", where, "a list of 16 hex digits each");
        }
    }
    return CODEC_OK;
}

/* Every tensor is what was written. */
static codec_status check_tensors(const snapshot_reader *r, const json_value *root,
                                  const safetensors *file)
{
    const json_value *checksums = json_get(root, "checksums");
    if (checksums == NULL || json_type_of(checksums) != JSON_OBJECT) {
        return snapshot_wrong(r, "checksums", "adamd_snapshot", "an object");
    }
    const json_value *member = json_first(checksums); /* they have the order of the tensors */
    for (size_t i = 0; i < file->n_tensors; i++) {
        const adam_tensor *t = &file->tensors[i];
        uint64_t numel = 0;
        char digits[SNAPSHOT_DIGITS + 1];
        if (member == NULL || strcmp(json_name(member), t->name) != 0 ||
            json_type_of(member) != JSON_STRING) {
            return codec_fail(r->error, CODEC_INVALID_VALUE,
                              "checksums: expected that of '" CODEC_NAME_FORMAT "' in its place",
                              CODEC_NAME(t->name, t->name_len));
        }
        (void)adam_shape_numel(t->rank, t->shape, &numel);
        const uint64_t bytes = numel * adam_dtype_size(t->dtype);
        snapshot_crc_digits(crc32c_extend(0, t->data, bytes), digits);
        if (strcmp(json_string(member), digits) != 0) {
            const size_t at = (size_t)((const char *)t->data - (const char *)file->tensors->data);
            return codec_fail(r->error, CODEC_STATE,
                              "tensor '" CODEC_NAME_FORMAT
                              "', %llu bytes at byte %zu of the data, has the CRC-32C %s, "
                              "expected %.16s: it is damaged",
                              CODEC_NAME(t->name, t->name_len), (unsigned long long)bytes, at,
                              digits, json_string(member));
        }
        member = json_next(member);
    }
    return member == NULL
               ? CODEC_OK
               : codec_fail(r->error, CODEC_INVALID_VALUE,
                            "checksums: that of '%.200s' is of no tensor", json_name(member));
}

static codec_status read_version(const snapshot_reader *r, const json_value *root)
{
    uint64_t version = 0;
    if (json_type_of(root) != JSON_OBJECT) {
        return codec_fail(r->error, CODEC_INVALID_VALUE,
                          "__metadata__.adamd_snapshot is %s, expected an object",
                          json_type_text(root));
    }
    codec_status st =
        snapshot_get_uint(r, root, "version", "adamd_snapshot", ADAM_MAX_STEP, &version);
    if (st == CODEC_OK && version != SNAPSHOT_VERSION) {
        st = codec_fail(r->error, CODEC_INVALID_VALUE,
                        "it is a snapshot of version %llu, and this server reads version %d",
                        (unsigned long long)version, SNAPSHOT_VERSION);
    }
    return st;
}

static codec_status read_root(const snapshot_reader *r, const json_value *root,
                              const safetensors *file, snapshot_content *out, uint64_t *skipped)
{
    static const char *const allowed[] = {"version",   "name",     "id",
                                          "epoch",     "lsn",      "time_ms",
                                          "skipped",   "defaults", CODEC_TRAINING_NAMES,
                                          "held",      "keys",     "workers",
                                          "checksums", NULL};
    static const char *const options[] = {CODEC_OPTION_NAMES, NULL};
    static const char where[] = "adamd_snapshot";
    const json_value *defaults = json_get(root, "defaults");
    codec_status st = read_version(r, root);
    THEN(json_check_names(root, allowed, where, r->error))
    THEN(check_tensors(r, root, file))
    THEN(snapshot_get_text(r, root, "name", where, out->name, sizeof out->name))
    THEN(snapshot_get_u64(r, root, "id", where, &out->id))
    THEN(snapshot_get_u64(r, root, "epoch", where, &out->epoch))
    THEN(snapshot_get_u64(r, root, "lsn", where, &out->lsn))
    THEN(snapshot_get_ms(r, root, "time_ms", where, &out->time_ms))
    THEN(snapshot_get_uint(r, root, "skipped", where, ADAM_MAX_STEP, skipped))
    THEN(snapshot_check_object(r, defaults, options, "defaults"))
    adam_options_default(ADAM_ALGORITHM_ADAM, &out->defaults); /* all of torch's are there */
    THEN(options_read(r->doc, defaults, "defaults", &out->defaults, r->error))
    THEN(training_read(r->doc, root, where, &out->how, r->error))
    THEN(read_held(r, root, where, out))
    THEN(read_keys(r, root, where, out))
    THEN(read_workers(r, json_get(root, "workers"), out))
    return st;
}

codec_status snapshot_read_about(const snapshot_settings *with, const safetensors *file,
                                 snapshot_content *out, uint64_t *skipped, codec_error *error)
{
    const char *about = safetensors_metadata(file, "adamd_snapshot");
    json_doc *doc = NULL;
    if (about == NULL) {
        return codec_fail(error, CODEC_INVALID_VALUE, "__metadata__.adamd_snapshot is missing");
    }
    codec_status st = json_parse(with->pool, about, strlen(about), &doc, error);
    if (st == CODEC_OK) {
        const snapshot_reader r = {.with = with, .doc = doc, .error = error};
        st = read_root(&r, json_root(doc), file, out, skipped);
        json_free(doc);
    }
    return st;
}
