/* support.c: see support.h. */
#include "support.h"

#include <stdlib.h>
#include <string.h>

/* ---- tensors ---- */

adam_tensor vector_of(const char *name, adam_dtype dtype, uint64_t n, void *data)
{
    return (adam_tensor){.name = name,
                         .name_len = strlen(name),
                         .dtype = dtype,
                         .rank = 1,
                         .shape = {n},
                         .data = data};
}

adam_tensor shaped(const char *name, int rank, const uint64_t *shape)
{
    adam_tensor t = {.name = name, .name_len = strlen(name), .rank = rank};
    for (int i = 0; i < rank && i < ADAM_MAX_RANK; i++) {
        t.shape[i] = shape[i];
    }
    return t;
}

static double random_number(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return ((double)(*state >> 11) + 0.5) / 4503599627370496.0 - 1.0; /* 2^52: (-1, 1) */
}

void fill_random(adam_dtype dtype, void *data, size_t n, uint64_t seed)
{
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    (void)random_number(&state);
    for (size_t i = 0; i < n; i++) {
        const double x = 2.0 * random_number(&state);
        if (dtype == ADAM_FLOAT64) {
            memcpy((char *)data + i * sizeof x, &x, sizeof x);
        } else {
            const float single = (float)x;
            memcpy((char *)data + i * sizeof single, &single, sizeof single);
        }
    }
}

/* ---- memory ---- */

#define HEAP_HEADER ((size_t)64) /* keeps the alignment; holds the size and a mark */
#define HEAP_MARK   ((size_t)0xada3)

static void *heap_get(void *context, size_t bytes)
{
    heap *h = context;
    h->requests++;
    if (h->fail_at != 0 && h->requests >= h->fail_at) {
        return NULL;
    }
    const size_t room = (HEAP_HEADER + bytes + 63) / 64 * 64;
    size_t *header = aligned_alloc(64, room);
    assert_non_null(header);
    memset(header, 0, room);
    header[0] = bytes;
    header[1] = HEAP_MARK;
    h->live_blocks++;
    h->live_bytes += bytes;
    return (char *)header + HEAP_HEADER;
}

static void heap_release(void *context, void *memory, size_t bytes)
{
    heap *h = context;
    size_t *header = (size_t *)(void *)((char *)memory - HEAP_HEADER);
    assert_int_equal(header[1], HEAP_MARK);
    assert_int_equal(header[0], bytes);
    header[1] = 0;
    h->live_blocks--;
    h->live_bytes -= bytes;
    free(header);
}

adam_allocator heap_allocator(heap *h)
{
    return (adam_allocator){heap_get, heap_release, h};
}

/* ---- optimizers ---- */

adam_optimizer *make_small(const adam_allocator *allocator)
{
    float a[3], c[1];
    double b[4];
    fill_random(ADAM_FLOAT32, a, 3, 101);
    fill_random(ADAM_FLOAT64, b, 4, 102);
    fill_random(ADAM_FLOAT32, c, 1, 103);
    adam_tensor first[2] = {
        vector_of("a", ADAM_FLOAT32, 3, a),
        shaped("b", 2, (uint64_t[]){2, 2}),
    };
    first[1].dtype = ADAM_FLOAT64;
    first[1].data = b;
    adam_tensor second[2] = {shaped("c", 0, NULL), vector_of("d", ADAM_FLOAT32, 0, NULL)};
    second[0].data = c;
    adam_group_spec groups[2] = {{.params = first, .n_params = 2},
                                 {.params = second, .n_params = 2}};
    for (int i = 0; i < 2; i++) {
        adam_options_default(ADAM_ALGORITHM_ADAM, &groups[i].options);
        groups[i].options.lr = 0.1;
    }
    groups[1].options.amsgrad = true;
    adam_optimizer *o = NULL;
    adam_error error;
    assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAM, groups, 2, allocator, &o, &error),
                     ADAM_OK);
    assert_non_null(o);
    return o;
}

void fill_small_grads(small_grads *g, uint64_t seed)
{
    fill_random(ADAM_FLOAT32, g->a, 3, seed + 1);
    fill_random(ADAM_FLOAT64, g->b, 4, seed + 2);
    fill_random(ADAM_FLOAT32, g->c, 1, seed + 3);
    g->d[0] = 0.0F;
    g->tensors[0] = vector_of("a", ADAM_FLOAT32, 3, g->a);
    g->tensors[1] = shaped("b", 2, (uint64_t[]){2, 2});
    g->tensors[1].dtype = ADAM_FLOAT64;
    g->tensors[1].data = g->b;
    g->tensors[2] = shaped("c", 0, NULL);
    g->tensors[2].data = g->c;
    g->tensors[3] = vector_of("d", ADAM_FLOAT32, 0, g->d);
}

void step_small(adam_optimizer *optimizer, uint64_t seed)
{
    small_grads grads;
    fill_small_grads(&grads, seed);
    const adam_step_args args = {.grads = grads.tensors, .n_grads = SMALL_PARAMS};
    assert_int_equal(adam_optimizer_step(optimizer, &args, NULL, NULL), ADAM_OK);
}

/* ---- images ---- */

static void image_add(image *im, const void *bytes, size_t n)
{
    if (n == 0) {
        return;
    }
    im->bytes = realloc(im->bytes, im->length + n);
    assert_non_null(im->bytes);
    memcpy(im->bytes + im->length, bytes, n);
    im->length += n;
}

#define ADD(im, value) image_add((im), &(value), sizeof(value))

static void image_add_group(image *im, const adam_group_view *g)
{
    ADD(im, g->options.lr);
    ADD(im, g->options.betas);
    ADD(im, g->options.eps);
    ADD(im, g->options.weight_decay);
    ADD(im, g->options.amsgrad);
    ADD(im, g->options.maximize);
    ADD(im, g->options.foreach);
    ADD(im, g->options.fused);
    ADD(im, g->options.bias_correction);
    ADD(im, g->options.buffers);
    ADD(im, g->first_param);
    ADD(im, g->n_params);
    const bool scheduled = g->schedule != NULL;
    ADD(im, scheduled);
    if (scheduled) {
        image_add(im, g->schedule, adam_schedule_bytes(g->schedule));
    }
}

static void image_add_param(image *im, const adam_optimizer *o, size_t index)
{
    const adam_param_view p = adam_optimizer_param(o, index);
    const size_t bytes = p.numel * adam_dtype_size(p.tensor.dtype);
    const bool has_max = p.max_exp_avg_sq != NULL;
    size_t found = SIZE_MAX;
    assert_true(adam_optimizer_find(o, p.tensor.name, p.tensor.name_len, &found));
    assert_int_equal(found, index);
    ADD(im, p.tensor.name_len);
    image_add(im, p.tensor.name, p.tensor.name_len + 1);
    ADD(im, p.tensor.dtype);
    ADD(im, p.tensor.rank);
    image_add(im, p.tensor.shape, (size_t)p.tensor.rank * sizeof p.tensor.shape[0]);
    ADD(im, p.numel);
    ADD(im, p.group);
    ADD(im, p.step);
    ADD(im, has_max);
    image_add(im, p.tensor.data, bytes);
    image_add(im, p.exp_avg, bytes);
    image_add(im, p.exp_avg_sq, bytes);
    if (has_max) {
        image_add(im, p.max_exp_avg_sq, bytes);
    }
}

image image_take(const adam_optimizer *o)
{
    image im = {0};
    const adam_algorithm algorithm = adam_optimizer_algorithm(o);
    const uint64_t counts[] = {adam_optimizer_group_count(o), adam_optimizer_param_count(o),
                               adam_optimizer_step_count(o), adam_optimizer_numel(o),
                               adam_optimizer_bytes(o)};
    ADD(&im, algorithm);
    ADD(&im, counts);
    const adam_grad_options grad_options = adam_optimizer_grad_options(o);
    ADD(&im, grad_options.grad_scale);
    ADD(&im, grad_options.nonfinite);
    ADD(&im, grad_options.max_grad_norm);
    ADD(&im, grad_options.norm_type);
    ADD(&im, grad_options.error_if_nonfinite);
    ADD(&im, grad_options.clip_value);
    for (size_t i = 0; i < adam_optimizer_group_count(o); i++) {
        const adam_group_view g = adam_optimizer_group(o, i);
        image_add_group(&im, &g);
    }
    for (size_t i = 0; i < adam_optimizer_param_count(o); i++) {
        image_add_param(&im, o, i);
    }
    return im;
}

void assert_unchanged(image before, const adam_optimizer *o)
{
    image now = image_take(o);
    assert_int_equal(now.length, before.length);
    assert_memory_equal(now.bytes, before.bytes, before.length);
    free(now.bytes);
    free(before.bytes);
}

void assert_same(const adam_optimizer *a, const adam_optimizer *b)
{
    assert_unchanged(image_take(a), b);
}
