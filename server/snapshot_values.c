/* snapshot_values.c: single values of `__metadata__.adamd_snapshot`, each refused with its name. */
#include "snapshot_values.h"

#include <string.h>

#include "codec_names.h"
#include "codec_numbers.h"

codec_status snapshot_wrong(const snapshot_reader *r, const char *name, const char *where,
                            const char *expected)
{
    return codec_fail(r->error, CODEC_INVALID_VALUE, "%s of %s is expected as %s", name, where,
                      expected);
}

/* ---- single values: each of an object, by name ---- */

codec_status snapshot_get_uint(const snapshot_reader *r, const json_value *object, const char *name,
                               const char *where, uint64_t most, uint64_t *out)
{
    const json_value *v = json_get(object, name);
    if (v == NULL || json_type_of(v) != JSON_NUMBER || !numbers_uint(r->doc, v, out) ||
        *out > most) {
        return codec_fail(r->error, CODEC_INVALID_VALUE,
                          "%s of %s is expected as a whole number from 0 to %llu", name, where,
                          (unsigned long long)most);
    }
    return CODEC_OK;
}

/* Milliseconds, which may be before 1970. */
codec_status snapshot_get_ms(const snapshot_reader *r, const json_value *object, const char *name,
                             const char *where, int64_t *out)
{
    const json_value *v = json_get(object, name);
    double ms;
    if (v == NULL || json_type_of(v) != JSON_NUMBER || !numbers_double(r->doc, v, &ms) ||
        ms < -0x1p53 || ms > 0x1p53) {
        return snapshot_wrong(r, name, where, "a number of milliseconds");
    }
    *out = (int64_t)ms;
    return CODEC_OK;
}

codec_status snapshot_get_bool(const snapshot_reader *r, const json_value *object, const char *name,
                               const char *where, bool *out)
{
    const json_value *v = json_get(object, name);
    if (v == NULL || json_type_of(v) != JSON_BOOL) {
        return snapshot_wrong(r, name, where, "true or false");
    }
    *out = json_bool(v);
    return CODEC_OK;
}

codec_status snapshot_get_text(const snapshot_reader *r, const json_value *object, const char *name,
                               const char *where, char *out, size_t size)
{
    const json_value *v = json_get(object, name);
    if (v == NULL || json_type_of(v) != JSON_STRING || strlen(json_string(v)) >= size) {
        return codec_fail(r->error, CODEC_INVALID_VALUE,
                          "%s of %s is expected as a text of less than %zu bytes", name, where,
                          size);
    }
    strcpy(out, json_string(v));
    return CODEC_OK;
}

/* 16 lower-case hex digits. */
bool snapshot_read_hex(const char *at, uint64_t *out)
{
    *out = 0;
    for (int i = 0; i < 16; i++) {
        const char *digits = "0123456789abcdef";
        const char *found = at[i] != '\0' ? strchr(digits, at[i]) : NULL;
        if (found == NULL) {
            return false;
        }
        *out = *out << 4 | (uint64_t)(found - digits);
    }
    return true;
}

codec_status snapshot_get_u64(const snapshot_reader *r, const json_value *object, const char *name,
                              const char *where, uint64_t *out)
{
    const json_value *v = json_get(object, name);
    const char *hex = v != NULL && json_type_of(v) == JSON_STRING ? json_string(v) : "";
    return strlen(hex) == 16 && snapshot_read_hex(hex, out)
               ? CODEC_OK
               : snapshot_wrong(r, name, where, "16 hex digits");
}

/* Exactly n numbers. */
codec_status snapshot_get_numbers(const snapshot_reader *r, const json_value *v, const char *name,
                                  const char *where, size_t n, double *out)
{
    int rank;
    uint64_t shape[ADAM_MAX_RANK];
    if (v == NULL || json_type_of(v) != JSON_NUMBERS ||
        !numbers_have_shape(r->doc, v, &rank, shape) || rank != 1 || shape[0] != n) {
        return snapshot_wrong(r, name, where, "a list of numbers");
    }
    return numbers_read(r->doc, v, name, ADAM_FLOAT64, out, r->error);
}

/* The first of a list, which may be empty. */
codec_status snapshot_get_list(const snapshot_reader *r, const json_value *object, const char *name,
                               const char *where, const json_value **first)
{
    const json_value *v = json_get(object, name);
    *first = NULL;
    if (v != NULL && names_empty_list(r->doc, v)) {
        return CODEC_OK;
    }
    if (v == NULL || json_type_of(v) != JSON_LIST) {
        return snapshot_wrong(r, name, where, "a list");
    }
    *first = json_first(v);
    return CODEC_OK;
}

codec_status snapshot_check_object(const snapshot_reader *r, const json_value *v,
                                   const char *const *allowed, const char *where)
{
    if (v == NULL || json_type_of(v) != JSON_OBJECT) {
        return codec_fail(r->error, CODEC_INVALID_VALUE, "%s is expected as an object", where);
    }
    return json_check_names(v, allowed, where, r->error);
}
