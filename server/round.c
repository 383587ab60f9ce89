/* round.c: contributions, and what they come to. */
#include "round.h"

#include <stdlib.h>
#include <string.h>

contribution *contribution_create(memory *m, tensor_body *body, buffer *held, const char *worker,
                                  const char *key, double weight)
{
    contribution *c = memory_get_zeroed(m, sizeof *c);
    if (c == NULL) {
        return NULL;
    }
    c->memory = m;
    c->body = *body;
    c->held = buffer_hold(held);
    c->weight = weight;
    strcpy(c->worker, worker != NULL ? worker : "");
    strcpy(c->key, key != NULL ? key : "");
    *body = (tensor_body){0};
    return c;
}

void round_add(worker_round *r, contribution *c)
{
    if (r->last != NULL) {
        r->last->next = c;
    } else {
        r->first = c;
    }
    r->last = c;
    r->n++;
}

contribution *round_find_worker(const worker_round *r, const char *worker)
{
    contribution *c = r->first;
    while (c != NULL && strcmp(c->worker, worker) != 0) {
        c = c->next;
    }
    return c;
}

contribution *round_find_key(const worker_round *r, const char *key)
{
    contribution *c = r->first;
    while (c != NULL && strcmp(c->key, key) != 0) {
        c = c->next;
    }
    return c;
}

void contribution_free(contribution *c)
{
    tensor_body_drop(&c->body);
    buffer_drop(c->held);
    memory_put(c->memory, c, sizeof *c);
}

void round_remove(worker_round *r, contribution *c)
{
    contribution *before = NULL;
    for (contribution *at = r->first; at != c; at = at->next) {
        before = at;
    }
    if (before != NULL) {
        before->next = c->next;
    } else {
        r->first = c->next;
    }
    r->last = r->last == c ? before : r->last;
    r->n--;
    contribution_free(c);
}

void round_clear(worker_round *r)
{
    for (contribution *c = r->first, *next; c != NULL; c = next) {
        next = c->next;
        contribution_free(c);
    }
    *r = (worker_round){0};
}

static bool names_param(const tensor_body *body, const adam_tensor *named)
{
    for (size_t i = 0; i < body->n; i++) {
        const adam_tensor *t = &body->tensors[i];
        if (t->name_len == named->name_len && memcmp(t->name, named->name, t->name_len) == 0) {
            return true;
        }
    }
    return false;
}

bool round_same_params(const tensor_body *a, const tensor_body *b)
{
    if (a->n != b->n) {
        return false;
    }
    for (size_t i = 0; i < a->n; i++) {
        const adam_tensor *x = &a->tensors[i];
        const adam_tensor *y = &b->tensors[i];
        const bool in_place =
            x->name_len == y->name_len && memcmp(x->name, y->name, x->name_len) == 0;
        if (!in_place && !names_param(b, x)) {
            return false;
        }
    }
    return true; /* names are unique */
}

/* ---- reducing ---- */

static int compare_contributions(const void *a, const void *b)
{
    const contribution *const *x = a;
    const contribution *const *y = b;
    const int by_name = strcmp((*x)->worker, (*y)->worker);
    return by_name != 0 ? by_name : ((*x)->place > (*y)->place) - ((*x)->place < (*y)->place);
}

/* Sorts the list by worker. */
static void sort(worker_round *r, contribution **room)
{
    size_t n = 0;
    for (contribution *c = r->first; c != NULL; c = c->next) {
        c->place = n;
        room[n++] = c;
    }
    qsort(room, n, sizeof(contribution *), compare_contributions);
    for (size_t i = 0; i < n; i++) {
        room[i]->next = i + 1 < n ? room[i + 1] : NULL;
    }
    r->first = room[0];
    r->last = room[n - 1];
}

/* One tensor of one contribution. */
typedef struct part {
    size_t param, place;
    const adam_tensor *tensor;
    double weight;
} part;

static int compare_parts(const void *a, const void *b)
{
    const part *x = a;
    const part *y = b;
    return x->param != y->param ? (x->param > y->param) - (x->param < y->param)
                                : (x->place > y->place) - (x->place < y->place);
}

/* All tensors of all contributions, those of a parameter side by side. Returns how many
 * parameters there are. */
static size_t gather(const worker_round *r, const adam_optimizer *o, part *parts)
{
    size_t n = 0;
    for (const contribution *c = r->first; c != NULL; c = c->next) {
        for (size_t i = 0; i < c->body.n; i++) {
            const adam_tensor *t = &c->body.tensors[i];
            parts[n] = (part){.place = n, .tensor = t, .weight = c->weight};
            (void)adam_optimizer_find(o, t->name, t->name_len, &parts[n].param); /* was checked */
            n++;
        }
    }
    qsort(parts, n, sizeof *parts, compare_parts);
    size_t params = 0;
    for (size_t i = 0; i < n; i++) {
        params += i == 0 || parts[i].param != parts[i - 1].param;
    }
    return params;
}

static uint64_t bytes_of(const adam_tensor *t)
{
    uint64_t numel = 0;
    (void)adam_shape_numel(t->rank, t->shape, &numel);
    return numel * adam_dtype_size(t->dtype);
}

/* Gives the tensors their places: the wider type first, so that all are aligned. */
static bool place(buffer_pool *pool, reduced *out)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < out->n; i++) {
        bytes += bytes_of(&out->tensors[i]);
    }
    out->data = buffer_get(pool, bytes);
    if (out->data == NULL) {
        return false;
    }
    out->data_length = bytes;
    char *at = out->data->data;
    for (size_t size = sizeof(double); size >= sizeof(float); size /= 2) {
        for (size_t i = 0; i < out->n; i++) {
            if (adam_dtype_size(out->tensors[i].dtype) == size) {
                out->tensors[i].data = at;
                at += bytes_of(&out->tensors[i]);
            }
        }
    }
    return true;
}

/* What round_reduce works with, in one buffer. */
typedef struct reducer {
    contribution **contributions;
    part *parts;
    adam_source *sources;
    adam_reduce_item *items;
    size_t n_parts;
} reducer;

static bool make_room(buffer_pool *pool, const worker_round *r, reducer *work, reduced *out)
{
    size_t parts = 0;
    for (const contribution *c = r->first; c != NULL; c = c->next) {
        parts += c->body.n;
    }
    out->room = buffer_get(pool, r->n * sizeof *work->contributions +
                                     parts * (sizeof *work->parts + sizeof *work->sources +
                                              sizeof *work->items + sizeof *out->tensors));
    if (out->room == NULL) {
        return false;
    }
    out->tensors = (void *)out->room->data;
    work->items = (void *)(out->tensors + parts);
    work->sources = (void *)(work->items + parts);
    work->parts = (void *)(work->sources + parts);
    work->contributions = (void *)(work->parts + parts);
    work->n_parts = parts;
    return true;
}

/* The item of the parameter whose `n` sources lie at `sources`. */
static adam_reduce_item make_item(const adam_optimizer *o, size_t param, bool weights,
                                  adam_reduction reduction, const adam_tensor *to,
                                  const adam_source *sources, size_t n)
{
    const adam_param_view v = adam_optimizer_param(o, param);
    const bool buffers = adam_optimizer_group(o, v.group).options.buffers;
    return (adam_reduce_item){
        .out = to->data,
        .dtype = to->dtype,
        .numel = v.numel,
        .sources = sources,
        .n = n,
        .reduction = buffers && reduction == ADAM_REDUCE_SUM ? ADAM_REDUCE_MEAN : reduction,
        .base = weights && !buffers ? v.tensor.data : NULL,
    };
}

bool round_reduce(worker_round *r, const adam_optimizer *o, bool weights, adam_reduction reduction,
                  adam_pool *threads, buffer_pool *pool, reduced *out)
{
    reducer work;
    *out = (reduced){0};
    if (!make_room(pool, r, &work, out)) {
        return false;
    }
    sort(r, work.contributions);
    out->n = gather(r, o, work.parts);
    const part *p = work.parts;
    for (size_t i = 0; i < out->n; i++) {
        out->tensors[i] = adam_optimizer_param(o, p->param).tensor;
        for (const size_t param = p->param; p < work.parts + work.n_parts && p->param == param;
             p++) {
            work.sources[p - work.parts] =
                (adam_source){p->tensor->data, p->tensor->dtype, p->weight};
        }
    }
    if (!place(pool, out)) {
        return false;
    }
    p = work.parts;
    for (size_t i = 0; i < out->n; i++) {
        const part *first = p;
        while (p < work.parts + work.n_parts && p->param == first->param) {
            p++;
        }
        work.items[i] = make_item(o, first->param, weights, reduction, &out->tensors[i],
                                  work.sources + (first - work.parts), (size_t)(p - first));
    }
    adam_reduce(work.items, out->n, threads);
    return true;
}

void reduced_drop(reduced *r)
{
    buffer_drop(r->data);
    buffer_drop(r->room);
    *r = (reduced){0};
}
