/* changes.c: lines about changes in a ring. */
#include "changes.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "codec_grad_options.h"
#include "codec_options.h"
#include "ring.h"

struct changes {
    memory *memory;
    pthread_mutex_t lock;
    ring ring;
};

/* A line as it is kept: the texts follow, one after the other. */
typedef struct kept {
    uint64_t step;
    int64_t time_ms;
    uint32_t what_length, from_length, to_length;
} kept;

/* A JSON text, or what stands in its place. */
typedef struct value {
    const char *text;
    size_t length;
    char instead[64];
} value;

changes *changes_create(memory *m)
{
    changes *c = memory_get_zeroed(m, sizeof *c);
    if (c != NULL) {
        c->memory = m;
        pthread_mutex_init(&c->lock, NULL);
        ring_init(&c->ring, m, CHANGES_MAX_LINES, CHANGES_MAX_BYTES);
    }
    return c;
}

void changes_free(changes *c)
{
    if (c != NULL) {
        ring_clear(&c->ring);
        pthread_mutex_destroy(&c->lock);
        memory_put(c->memory, c, sizeof *c);
    }
}

static void set_value(value *v, const char *json, size_t length)
{
    const bool given = json != NULL && length > 0;
    v->text = given ? json : "null";
    v->length = given ? length : strlen("null");
    if (length > CHANGES_MAX_TEXT) {
        (void)snprintf(v->instead, sizeof v->instead, "{\"omitted_bytes\": %zu}", length);
        v->text = v->instead;
        v->length = strlen(v->instead);
    }
}

static void add(changes *c, uint64_t step, const char *what, const value *from, const value *to)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    const size_t name = strnlen(what, CHANGES_MAX_TEXT);
    pthread_mutex_lock(&c->lock);
    kept *k = ring_add(&c->ring, sizeof *k + name + from->length + to->length);
    if (k != NULL) {
        *k = (kept){.step = step,
                    .time_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
                    .what_length = (uint32_t)name,
                    .from_length = (uint32_t)from->length,
                    .to_length = (uint32_t)to->length};
        char *at = (char *)(k + 1);
        memcpy(at, what, name);
        memcpy(at + name, from->text, from->length);
        memcpy(at + name + from->length, to->text, to->length);
    }
    pthread_mutex_unlock(&c->lock);
}

void changes_add(changes *c, uint64_t step, const char *what, const char *from, const char *to)
{
    value values[2];
    set_value(&values[0], from, from != NULL ? strlen(from) : 0);
    set_value(&values[1], to, to != NULL ? strlen(to) : 0);
    add(c, step, what, &values[0], &values[1]);
}

static void set_text(value *v, const text *t)
{
    set_value(v, t->failed || t->buffer == NULL ? NULL : t->buffer->data,
              t->failed ? 0 : text_length(t));
}

void changes_add_texts(changes *c, uint64_t step, const char *what, text *from, text *to)
{
    value values[2];
    set_text(&values[0], from);
    set_text(&values[1], to);
    add(c, step, what, &values[0], &values[1]);
    text_drop(from);
    text_drop(to);
}

void changes_add_options(changes *c, buffer_pool *pool, uint64_t step, size_t group,
                         const adam_options *before, const adam_options *after)
{
    size_t place = options_differ(before, after, 0);
    for (; place != OPTIONS_SAME; place = options_differ(before, after, place + 1)) {
        char what[64];
        text from = {.pool = pool};
        text to = {.pool = pool};
        (void)snprintf(what, sizeof what, "param_groups[%zu].%s", group, options_name(place));
        options_add_value(&from, before, place);
        options_add_value(&to, after, place);
        changes_add_texts(c, step, what, &from, &to);
    }
}

static bool same_text(const text *a, const text *b)
{
    return !a->failed && !b->failed && text_length(a) == text_length(b) &&
           memcmp(a->buffer->data, b->buffer->data, text_length(a)) == 0;
}

/* Adds a line where the texts differ; takes their buffers. */
static void add_if_other(changes *c, uint64_t step, const char *what, text *from, text *to)
{
    if (same_text(from, to)) {
        text_drop(from);
        text_drop(to);
    } else {
        changes_add_texts(c, step, what, from, to);
    }
}

void changes_add_grad_options(changes *c, buffer_pool *pool, uint64_t step,
                              const adam_grad_options *before, const adam_grad_options *after)
{
    for (size_t i = 0; grad_option_name(i) != NULL; i++) {
        text from = {.pool = pool};
        text to = {.pool = pool};
        grad_option_add_value(&from, before, i);
        grad_option_add_value(&to, after, i);
        add_if_other(c, step, grad_option_name(i), &from, &to);
    }
}

void changes_add_training(changes *c, buffer_pool *pool, uint64_t step, const training *before,
                          const training *after)
{
    for (size_t i = 0; training_name(i) != NULL; i++) {
        text from = {.pool = pool};
        text to = {.pool = pool};
        training_add_value(&from, before, i);
        training_add_value(&to, after, i);
        add_if_other(c, step, training_name(i), &from, &to);
    }
}

/* Prints one line; false where it is no longer there. */
static bool show_line(changes *c, uint64_t place, const char *before, text *t)
{
    char line[sizeof(kept) + 3 * CHANGES_MAX_TEXT];
    size_t length = 0;
    pthread_mutex_lock(&c->lock);
    const void *found = place >= c->ring.first ? ring_at(&c->ring, place, &length) : NULL;
    if (found != NULL) {
        memcpy(line, found, length);
    }
    pthread_mutex_unlock(&c->lock);
    if (found == NULL) {
        return false;
    }
    kept k;
    memcpy(&k, line, sizeof k);
    const char *what = line + sizeof k;
    const char *from = what + k.what_length;
    const change_record record = {.step = k.step,
                                  .time_ms = k.time_ms,
                                  .what = what,
                                  .what_length = k.what_length,
                                  .from = from,
                                  .from_length = k.from_length,
                                  .to = from + k.from_length,
                                  .to_length = k.to_length};
    text_add_string(t, before);
    show_change(t, &record);
    return true;
}

void changes_show(changes *c, size_t last, text *t)
{
    pthread_mutex_lock(&c->lock);
    const uint64_t next = c->ring.next;
    uint64_t place = c->ring.first;
    pthread_mutex_unlock(&c->lock);
    const size_t start = text_length(t);
    bool any = false;
    for (place = next - place > last ? next - last : place; place < next && !t->failed; place++) {
        any = show_line(c, place, any ? ",\n " : "\n ", t);
        if (!any && t->buffer != NULL) {
            t->buffer->length = start; /* what was printed has gone before it */
        }
    }
}
