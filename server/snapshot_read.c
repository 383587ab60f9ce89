/* snapshot_read.c: a snapshot back from its file, with every byte checked. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec_state_dict.h"
#include "snapshot_internal.h"

/* A file in memory. */
typedef struct contents {
    char *bytes;
    size_t length;
} contents;

static snapshot_status read_bytes(int fd, const char *path, contents *c, snapshot_error *error)
{
    size_t done = 0;
    while (done < c->length) {
        const ssize_t n = read(fd, c->bytes + done, c->length - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return snapshot_fail_errno(error, "read", path, errno);
        }
        if (n == 0) {
            return snapshot_fail(error, SNAPSHOT_BAD, "%s: it ends after %zu bytes, expected %zu",
                                 path, done, c->length);
        }
        done += (size_t)n;
    }
    return SNAPSHOT_OK;
}

static snapshot_status read_file(memory *m, const char *path, contents *c, snapshot_error *error)
{
    struct stat info;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return snapshot_fail_errno(error, "open", path, errno);
    }
    snapshot_status st = SNAPSHOT_OK;
    if (fstat(fd, &info) != 0) {
        st = snapshot_fail_errno(error, "read", path, errno);
    } else if (!S_ISREG(info.st_mode)) {
        st = snapshot_fail(error, SNAPSHOT_BAD, "%s: it is no file", path);
    } else {
        c->length = (size_t)info.st_size;
        c->bytes = memory_get(m, c->length + 1);
        st = c->bytes != NULL ? read_bytes(fd, path, c, error)
                              : snapshot_fail(error, SNAPSHOT_NO_MEMORY,
                                              "%s: no memory within the budget for its %zu bytes",
                                              path, c->length);
    }
    (void)close(fd);
    return st;
}

/* The header is what was written. */
static snapshot_status check_header(const char *path, const contents *c, snapshot_error *error)
{
    const size_t least = SNAPSHOT_CRC_AT + SNAPSHOT_DIGITS;
    uint64_t length = 0;
    if (c->length >= sizeof length) {
        memcpy(&length, c->bytes, sizeof length);
    }
    if (c->length < least || length < least || length > c->length - sizeof length) {
        return snapshot_fail(error, SNAPSHOT_BAD,
                             "%s: a header of %llu bytes in a file of %zu: it is no snapshot, or "
                             "not all of it is there",
                             path, (unsigned long long)length, c->length);
    }
    if (memcmp(c->bytes + sizeof length, SNAPSHOT_BEGIN, sizeof SNAPSHOT_BEGIN - 1) != 0) {
        return snapshot_fail(error, SNAPSHOT_BAD, "%s: it is no snapshot: at byte 8, expected %s",
                             path, SNAPSHOT_BEGIN);
    }
    char digits[SNAPSHOT_DIGITS + 1];
    snapshot_crc_digits(snapshot_header_crc(c->bytes, sizeof length + length), digits);
    if (memcmp(c->bytes + SNAPSHOT_CRC_AT, digits, SNAPSHOT_DIGITS) != 0) {
        return snapshot_fail(
            error, SNAPSHOT_BAD,
            "%s: its header (bytes 0 to %llu) has the CRC-32C %s, but says %.8s at "
            "byte %zu: it is damaged",
            path, (unsigned long long)(sizeof length + length - 1), digits,
            c->bytes + SNAPSHOT_CRC_AT, SNAPSHOT_CRC_AT);
    }
    return SNAPSHOT_OK;
}

/* What the optimizer is made from: takes `file`. */
static codec_status restore_state(const snapshot_settings *with, safetensors *file,
                                  const uint64_t *skipped, adam_optimizer **out, codec_error *error)
{
    state_dict s = {0};
    adam_error why;
    codec_status st = state_dict_create(with->pool, file, with->allocator, out, error);
    if (st == CODEC_OK) {
        st = state_dict_read_file(with->pool, file, *out, STATE_DICT_LOAD_EVERYTHING, &s, error);
    }
    s.dict.skipped = skipped;
    if (st == CODEC_OK && adam_optimizer_load_state(*out, &s.dict, &why) != ADAM_OK) {
        st = codec_fail(error, why.status == ADAM_NO_MEMORY ? CODEC_NO_MEMORY : CODEC_STATE, "%s",
                        why.message);
    }
    state_dict_drop(&s);
    return st;
}

static codec_status read_content(const snapshot_settings *with, const contents *c,
                                 snapshot_content *out, codec_error *error)
{
    static const char *const keys[] = {"format", "header_crc32c", "state_dict", "adamd_snapshot",
                                       NULL};
    safetensors file;
    uint64_t skipped = 0;
    codec_status st = safetensors_parse(with->pool, c->bytes, c->length, SIZE_MAX, &file, error);
    if (st != CODEC_OK) {
        return st;
    }
    st = snapshot_read_about(with, &file, out, &skipped, error);
    if (st == CODEC_OK) { /* the version is looked at first: a later one may have more */
        st = safetensors_check_metadata(&file, keys, error);
    }
    if (st == CODEC_OK) {
        st = restore_state(with, &file, &skipped, &out->optimizer, error);
    }
    safetensors_drop(&file);
    return st;
}

snapshot_status snapshot_read(const char *path, const snapshot_settings *with,
                              snapshot_content *out, snapshot_error *error)
{
    memory *m = buffer_pool_memory(with->pool);
    contents c = {0};
    codec_error why;
    *out = (snapshot_content){0};
    snapshot_status st = read_file(m, path, &c, error);
    if (st == SNAPSHOT_OK) {
        st = check_header(path, &c, error);
    }
    if (st == SNAPSHOT_OK && read_content(with, &c, out, &why) != CODEC_OK) {
        st = snapshot_fail(error, why.status == CODEC_NO_MEMORY ? SNAPSHOT_NO_MEMORY : SNAPSHOT_BAD,
                           "%s: %s", path, why.message);
    }
    memory_put(m, c.bytes, c.length + 1);
    if (st != SNAPSHOT_OK) {
        snapshot_content_drop(out);
    }
    return st;
}

void snapshot_content_drop(snapshot_content *c)
{
    adam_optimizer_free(c->optimizer);
    idempotency_free(c->keys);
    workers_free(c->workers);
    free(c->held);
    *c = (snapshot_content){0};
}
