/* snapshot_internal.h: what the files of the snapshot share. */
#ifndef ADAMD_SNAPSHOT_INTERNAL_H
#define ADAMD_SNAPSHOT_INTERNAL_H

#include "adam/gather.h"
#include "codec_json.h"
#include "codec_safetensors.h"
#include "snapshot.h"

/* How every file begins, behind the 8 bytes of its header's length; 8 hex digits follow. */
#define SNAPSHOT_BEGIN  "{\"__metadata__\":{\"format\":\"adamd\",\"header_crc32c\":\""
#define SNAPSHOT_CRC_AT (8 + sizeof SNAPSHOT_BEGIN - 1)
#define SNAPSHOT_DIGITS 8

/* A tensor that was copied. */
typedef struct snapshot_tensor {
    const char *prefix;
    adam_tensor tensor; /* its name behind the others', its data in the snapshot's */
    size_t bytes;
} snapshot_tensor;

struct snapshot {
    buffer_pool *pool;
    char *data;
    size_t room, bytes; /* of data, and what of it is in use */
    buffer *list;       /* holds `tensors`, the pieces they were copied from and their names */
    snapshot_tensor *tensors;
    size_t n_tensors;
    text description; /* `__metadata__.state_dict` */
    text about;       /* `__metadata__.adamd_snapshot`, but for the checksums and the last brace */
    text header;      /* of the file, once it is written */
    snapshot_entry entry;
};

snapshot_status snapshot_fail(snapshot_error *error, snapshot_status status, const char *format,
                              ...) __attribute__((format(printf, 3, 4)));
/* "cannot WHAT PATH: " and the text of `code`, an errno. */
snapshot_status snapshot_fail_errno(snapshot_error *error, const char *what, const char *path,
                                    int code);

/* Prints s->about. */
void snapshot_add_about(snapshot *s, const snapshot_source *from);
/* Makes the header: the tensors with their checksums. */
void snapshot_make_header(snapshot *s);
/* The checksum of a header whose own digits count as "0". */
uint32_t snapshot_header_crc(const char *header, size_t length);
/* The digits of one. */
void snapshot_crc_digits(uint32_t crc, char out[SNAPSHOT_DIGITS + 1]);

/* Reads `__metadata__.adamd_snapshot`, checksums and all, into `out`; *skipped beside it. */
codec_status snapshot_read_about(const snapshot_settings *settings, const safetensors *file,
                                 snapshot_content *out, uint64_t *skipped, codec_error *error);

#endif
