/* snapshot.c: a copy of an optimizer, in memory. Knows no files. */
#include "snapshot.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec_state_dict.h"
#include "snapshot_internal.h"

#define PAGE ((size_t)4096)

snapshot_status snapshot_fail(snapshot_error *error, snapshot_status status, const char *format,
                              ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
    return status;
}

snapshot_status snapshot_fail_errno(snapshot_error *error, const char *what, const char *path,
                                    int code)
{
    char why[128];
    const bool full = code == ENOSPC || code == EDQUOT || code == EFBIG;
    return snapshot_fail(error, full ? SNAPSHOT_NO_SPACE : SNAPSHOT_FAILED, "cannot %s %s: %s",
                         what, path, strerror_r(code, why, sizeof why));
}

snapshot_status snapshot_begin(buffer_pool *pool, size_t bytes, snapshot **out,
                               snapshot_error *error)
{
    memory *m = buffer_pool_memory(pool);
    snapshot *s = calloc(1, sizeof *s);
    char *data = s != NULL ? memory_get(m, bytes + 1) : NULL;
    if (data == NULL) {
        free(s);
        return snapshot_fail(error, SNAPSHOT_NO_MEMORY,
                             "no memory within the budget for a copy of the state, %zu bytes",
                             bytes);
    }
    for (size_t at = 0; at < bytes; at += PAGE) {
        ((volatile char *)data)[at] = 0; /* so that no step waits for the page */
    }
    *s = (snapshot){.pool = pool, .data = data, .room = bytes};
    s->description.pool = pool;
    s->about.pool = pool;
    s->header.pool = pool;
    *out = s;
    return SNAPSHOT_OK;
}

void snapshot_drop(snapshot *s)
{
    if (s == NULL) {
        return;
    }
    memory_put(buffer_pool_memory(s->pool), s->data, s->room + 1);
    buffer_drop(s->list);
    text_drop(&s->description);
    text_drop(&s->about);
    text_drop(&s->header);
    free(s);
}

/* What the tensors take, and then where they are put. */
typedef struct collection {
    size_t n, bytes, names_length;
    snapshot_tensor *tensors;
    adam_piece *pieces;
    char *names;
    char *data;
} collection;

static size_t bytes_of(const adam_tensor *t)
{
    uint64_t numel = 0;
    (void)adam_shape_numel(t->rank, t->shape, &numel);
    return numel * adam_dtype_size(t->dtype);
}

static void count_tensor(void *context, const char *prefix, const adam_tensor *t)
{
    collection *c = context;
    (void)prefix;
    c->n++;
    c->bytes += bytes_of(t);
    c->names_length += t->name_len;
}

static void collect_tensor(void *context, const char *prefix, const adam_tensor *t)
{
    collection *c = context;
    const size_t bytes = bytes_of(t);
    c->pieces[c->n] = (adam_piece){.from = t->data, .at = c->bytes, .bytes = bytes};
    snapshot_tensor *own = &c->tensors[c->n];
    *own = (snapshot_tensor){.prefix = prefix, .tensor = *t, .bytes = bytes};
    own->tensor.name = memcpy(c->names + c->names_length, t->name, t->name_len);
    own->tensor.data = c->data + c->bytes;
    c->n++;
    c->bytes += bytes;
    c->names_length += t->name_len;
}

static snapshot_status no_memory(const snapshot_source *from, snapshot_error *error)
{
    return snapshot_fail(error, SNAPSHOT_NO_MEMORY,
                         "no memory within the budget for a description of the state of '%s'",
                         from->name);
}

static snapshot_status copy_tensors(snapshot *s, const snapshot_source *from, adam_pool *threads,
                                    snapshot_error *error)
{
    collection c = {0};
    state_dict_each_tensor(from->optimizer, count_tensor, &c);
    if (c.bytes > s->room) {
        return snapshot_fail(error, SNAPSHOT_OUTGROWN,
                             "the state of '%s' takes %zu bytes, but %zu were made ready for it",
                             from->name, c.bytes, s->room);
    }
    s->list =
        buffer_get(s->pool, c.n * (sizeof *c.tensors + sizeof *c.pieces) + c.names_length + 1);
    if (s->list == NULL) {
        return no_memory(from, error);
    }
    s->tensors = (void *)s->list->data;
    s->n_tensors = c.n;
    s->bytes = c.bytes;
    collection to = {.tensors = s->tensors, .data = s->data};
    to.pieces = (void *)(s->tensors + c.n);
    to.names = (char *)(to.pieces + c.n);
    state_dict_each_tensor(from->optimizer, collect_tensor, &to);
    adam_gather(s->data, to.pieces, to.n, threads);
    return SNAPSHOT_OK;
}

snapshot_status snapshot_copy(snapshot *s, const snapshot_source *from, adam_pool *threads,
                              snapshot_error *error)
{
    state_dict_add_description(&s->description, from->optimizer);
    snapshot_add_about(s, from);
    if (s->description.failed || s->about.failed) {
        return no_memory(from, error);
    }
    s->entry = (snapshot_entry){.id = from->id, .lsn = from->lsn};
    (void)snprintf(s->entry.name, sizeof s->entry.name, "%s", from->name);
    return copy_tensors(s, from, threads, error);
}
