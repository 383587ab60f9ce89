/* snapshot_values.h: single values of `__metadata__.adamd_snapshot`, each refused with its name. */
#ifndef ADAMD_SNAPSHOT_VALUES_H
#define ADAMD_SNAPSHOT_VALUES_H

#include "codec_json.h"
#include "snapshot.h"

typedef struct snapshot_reader {
    const snapshot_settings *with;
    const json_doc *doc;
    codec_error *error;
} snapshot_reader;

/* CODEC_INVALID_VALUE: "NAME of WHERE is expected as EXPECTED". */
codec_status snapshot_wrong(const snapshot_reader *r, const char *name, const char *where,
                            const char *expected);
/* 16 lower-case hex digits. */
bool snapshot_read_hex(const char *at, uint64_t *out);

/* Members of an object, by name. */
codec_status snapshot_get_uint(const snapshot_reader *r, const json_value *object, const char *name,
                               const char *where, uint64_t most, uint64_t *out);
/* Milliseconds, which may be before 1970. */
codec_status snapshot_get_ms(const snapshot_reader *r, const json_value *object, const char *name,
                             const char *where, int64_t *out);
codec_status snapshot_get_bool(const snapshot_reader *r, const json_value *object, const char *name,
                               const char *where, bool *out);
codec_status snapshot_get_text(const snapshot_reader *r, const json_value *object, const char *name,
                               const char *where, char *out, size_t size);
/* 16 hex digits. */
codec_status snapshot_get_u64(const snapshot_reader *r, const json_value *object, const char *name,
                              const char *where, uint64_t *out);
/* Exactly n numbers. */
codec_status snapshot_get_numbers(const snapshot_reader *r, const json_value *v, const char *name,
                                  const char *where, size_t n, double *out);
/* The first of a list; NULL: it is empty. */
codec_status snapshot_get_list(const snapshot_reader *r, const json_value *object, const char *name,
                               const char *where, const json_value **first);
codec_status snapshot_check_object(const snapshot_reader *r, const json_value *v,
                                   const char *const *allowed, const char *where);

/* Goes on where all is well so far. */
#define THEN(call)        \
    if (st == CODEC_OK) { \
        st = (call);      \
    }

#endif
