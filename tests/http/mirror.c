/* mirror.c: one optimizer twice, here and at the server, and their bits held against each other. */
#include "mirror.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JSON_SIZE ((size_t)64 << 10)

static const struct {
    const char *name;
    adamd_dtype dtype;
    int rank;
    uint64_t shape[ADAMD_MAX_RANK];
    int group;
} shapes[MIRROR_PARAMS] = {
    {"scalar", ADAMD_FLOAT32, 0, {0}, 0},
    {"v/1 \xc3\xa9", ADAMD_FLOAT32, 1, {5}, 0},
    {"m", ADAMD_FLOAT64, 2, {3, 2}, 0},
    {"empty", ADAMD_FLOAT32, 1, {0}, 0},
    {"empty3", ADAMD_FLOAT64, 3, {2, 0, 3}, 1},
    {"r8", ADAMD_FLOAT32, 8, {1, 2, 1, 2, 1, 2, 1, 2}, 1},
    {"s64", ADAMD_FLOAT64, 0, {0}, 1},
};

static size_t numel_of(const adamd_tensor *t)
{
    size_t n = 1;
    for (int i = 0; i < t->rank; i++) {
        n *= t->shape[i];
    }
    return n;
}

static size_t bytes_of(const adamd_tensor *t)
{
    return numel_of(t) * adamd_dtype_size(t->dtype);
}

static adam_tensor core_tensor(const adamd_tensor *t)
{
    adam_tensor out = {.name = t->name,
                       .name_len = strlen(t->name),
                       .dtype = t->dtype == ADAMD_FLOAT64 ? ADAM_FLOAT64 : ADAM_FLOAT32,
                       .rank = t->rank,
                       .data = t->data};
    memcpy(out.shape, t->shape, sizeof out.shape);
    return out;
}

/* ---- numbers ---- */

static uint64_t next_random(uint64_t *seed)
{
    uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Mostly numbers in -2 .. 2; now and then -0.0 or a denormal. */
static void fill(mirror *m)
{
    for (size_t i = 0; i < MIRROR_PARAMS; i++) {
        for (size_t k = 0; k < numel_of(&m->tensors[i]); k++) {
            const uint64_t r = next_random(&m->seed);
            const double even = ((double)(r >> 11) - 0x1p52) * 0x1p-51;
            const bool wide = m->tensors[i].dtype == ADAMD_FLOAT64;
            const double tiny = wide ? 0x1p-1070 : 0x1p-145;
            const double x = r % 8 == 0 ? -0.0 : r % 8 == 1 ? even * tiny : even;
            if (wide) {
                ((double *)(void *)m->data[i])[k] = x;
            } else {
                ((float *)(void *)m->data[i])[k] = (float)x;
            }
        }
    }
}

/* ---- JSON, written and read without the server's code ---- */

static size_t add_list(char *out, const adamd_tensor *t, int dim, size_t *index)
{
    size_t n = 0;
    if (dim == t->rank) {
        const size_t i = (*index)++;
        return t->dtype == ADAMD_FLOAT64
                   ? (size_t)sprintf(out, "%.17g", ((const double *)t->data)[i])
                   : (size_t)sprintf(out, "%.9g", (double)((const float *)t->data)[i]);
    }
    out[n++] = '[';
    for (uint64_t i = 0; i < t->shape[dim]; i++) {
        if (i > 0) {
            out[n++] = ',';
        }
        n += add_list(out + n, t, dim + 1, index);
    }
    out[n++] = ']';
    out[n] = '\0';
    return n;
}

char *mirror_json(const mirror *m)
{
    char *out = malloc(JSON_SIZE);
    assert_non_null(out);
    size_t n = (size_t)sprintf(out, "{");
    for (size_t i = 0; i < MIRROR_PARAMS; i++) {
        size_t index = 0;
        n += (size_t)sprintf(out + n, "%s\"%s\": ", i > 0 ? ", " : "", m->tensors[i].name);
        n += add_list(out + n, &m->tensors[i], 0, &index);
    }
    (void)strcpy(out + n, "}");
    return out;
}

/* Reads the numbers of each tensor from {"name": nested list, ...}, each by the C library. */
static void read_json(const char *json, const adamd_tensor *tensors)
{
    for (size_t i = 0; i < MIRROR_PARAMS; i++) {
        char key[128];
        (void)snprintf(key, sizeof key, "\"%s\": ", tensors[i].name);
        const char *c = strstr(json, key);
        assert_non_null(c);
        c += strlen(key);
        for (size_t k = 0; k < numel_of(&tensors[i]); k++) {
            char *end;
            c += strspn(c, "[], ");
            if (tensors[i].dtype == ADAMD_FLOAT64) {
                ((double *)tensors[i].data)[k] = strtod(c, &end);
            } else {
                ((float *)tensors[i].data)[k] = strtof(c, &end);
            }
            assert_true(end > c);
            c = end;
        }
        if (numel_of(&tensors[i]) == 0) {
            assert_true(strncmp(c, "[]", 2) == 0);
        } else if (tensors[i].rank > 0) {
            assert_int_equal(*c, ']'); /* not an element more */
        }
    }
}

/* The number behind `"key": `. */
static double number_after(const char *json, const char *key)
{
    char text[64];
    (void)snprintf(text, sizeof text, "\"%s\": ", key);
    const char *c = strstr(json, text);
    assert_non_null(c);
    return strtod(c + strlen(text), NULL);
}

/* ---- creating ---- */

static void create_here(mirror *m)
{
    adam_tensor params[MIRROR_PARAMS];
    adam_group_spec groups[2] = {0};
    adam_error error;
    for (size_t i = 0; i < MIRROR_PARAMS; i++) {
        params[i] = core_tensor(&m->tensors[i]);
    }
    for (size_t g = 0; g < 2; g++) {
        adam_options_default(ADAM_ALGORITHM_ADAM, &groups[g].options);
        groups[g].options.lr = 0.01;
        groups[g].options.amsgrad = g == 1;
        groups[g].params = params + (g == 1 ? 4 : 0);
        groups[g].n_params = g == 1 ? MIRROR_PARAMS - 4 : 4;
    }
    if (adam_optimizer_create(ADAM_ALGORITHM_ADAM, groups, 2, NULL, &m->optimizer, &error) !=
        ADAM_OK) {
        fail_msg("%s", error.message);
    }
}

/* The creation in JSON; `data`: with the values, else the groups alone, naming the tensors. */
static char *creation(const mirror *m, bool data)
{
    char *out = malloc(JSON_SIZE);
    assert_non_null(out);
    size_t n = (size_t)sprintf(out, "{\"defaults\": {\"lr\": 0.01}, \"param_groups\": [");
    for (size_t i = 0; i < MIRROR_PARAMS; i++) {
        const adamd_tensor *t = &m->tensors[i];
        const bool first = i == 0 || shapes[i].group != shapes[i - 1].group;
        n += (size_t)sprintf(out + n, first && i > 0 ? "]}, " : first ? "" : ", ");
        n += (size_t)sprintf(out + n, "%s", first ? "{" : "");
        n += (size_t)sprintf(out + n, "%s", first && i > 0 ? "\"amsgrad\": true, " : "");
        n += (size_t)sprintf(out + n, "%s", first ? "\"params\": [" : "");
        n += (size_t)sprintf(out + n, data ? "{\"name\": \"%s\"" : "\"%s\"", t->name);
        if (!data) {
            continue;
        }
        n += (size_t)sprintf(out + n, ", \"dtype\": \"float%d\", \"shape\": [",
                             t->dtype == ADAMD_FLOAT64 ? 64 : 32);
        for (int d = 0; d < t->rank; d++) {
            n += (size_t)sprintf(out + n, "%s%d", d > 0 ? ", " : "", (int)t->shape[d]);
        }
        n += (size_t)sprintf(out + n, "], \"data\": ");
        size_t index = 0;
        n += add_list(out + n, t, 0, &index);
        n += (size_t)sprintf(out + n, "}");
    }
    (void)strcpy(out + n, "]}]}");
    return out;
}

void mirror_create(mirror *m, peer *p, const char *name, bool json, uint64_t seed)
{
    *m = (mirror){.seed = seed};
    for (size_t i = 0; i < MIRROR_PARAMS; i++) {
        m->tensors[i] = (adamd_tensor){.name = shapes[i].name,
                                       .dtype = shapes[i].dtype,
                                       .rank = shapes[i].rank,
                                       .data = m->data[i]};
        memcpy(m->tensors[i].shape, shapes[i].shape, sizeof shapes[i].shape);
        assert_true(numel_of(&m->tensors[i]) <= MIRROR_NUMEL);
    }
    fill(m);
    create_here(m);
    char *text = creation(m, json);
    if (json) {
        (void)ask_json(p, "PUT", at(name, ""), text);
    } else {
        file f = file_of(m->tensors, MIRROR_PARAMS, "optimizer", text);
        (void)ask_file(p, "PUT", at(name, ""), NULL, f);
        file_free(&f);
    }
    assert_status(p, 201);
    free(text);
}

void mirror_free(mirror *m)
{
    adam_optimizer_free(m->optimizer);
}

/* ---- steps ---- */

/* The statistics of the reply, exactly those of this process. */
static void assert_stats(const peer *p, bool json, const adam_step_stats *stats)
{
    const struct {
        const char *key;
        double value;
    } all[] = {{"step", (double)stats->step},
               {"grad_norm", stats->grad_norm},
               {"param_norm", stats->param_norm},
               {"update_norm", stats->update_norm},
               {"clip_coef", stats->clip_coef}};
    for (size_t i = 0; i < COUNT(all); i++) {
        char value[64];
        double got;
        if (json) {
            got = number_after(body_of(p), all[i].key);
        } else {
            assert_true(adamd_safetensors_metadata(p->reply.body, p->reply.length, all[i].key,
                                                   value, sizeof value));
            got = strtod(value, NULL);
        }
        if (memcmp(&got, &all[i].value, sizeof got) != 0) {
            fail_msg("%s is %.17g, expected %.17g", all[i].key, got, all[i].value);
        }
    }
}

static void step_here(mirror *m, char data[][MIRROR_NUMEL * sizeof(double)], adam_step_stats *stats)
{
    adam_tensor grads[MIRROR_PARAMS];
    adam_error error;
    memcpy(data, m->data, sizeof m->data);
    for (size_t i = 0; i < MIRROR_PARAMS; i++) {
        grads[i] = core_tensor(&m->tensors[i]);
        grads[i].data = data[i];
    }
    const adam_step_args args = {.grads = grads, .n_grads = MIRROR_PARAMS, .out = grads};
    if (adam_optimizer_step(m->optimizer, &args, stats, &error) != ADAM_OK) {
        fail_msg("%s", error.message);
    }
}

void mirror_step(mirror *m, peer *p, const char *name, bool json_in, bool json_out)
{
    char expected[MIRROR_PARAMS][MIRROR_NUMEL * sizeof(double)];
    adam_step_stats stats;
    const char *accept = json_out ? JSON_TYPE : SAFETENSORS_TYPE;
    fill(m);
    step_here(m, expected, &stats);
    if (json_in) {
        char *grads = mirror_json(m);
        char *body = malloc(JSON_SIZE + 64);
        char line[64];
        assert_non_null(body);
        (void)sprintf(body, "{\"grads\": %s}", grads);
        (void)snprintf(line, sizeof line, "Accept: %s", accept);
        (void)ask_json_with(p, "POST", at(name, "/step"), line, body);
        free(body);
        free(grads);
    } else {
        file f = file_of(m->tensors, MIRROR_PARAMS, NULL, NULL);
        (void)ask_file(p, "POST", at(name, "/step"), accept, f);
        file_free(&f);
    }
    assert_status(p, 200);
    assert_header(p, "Content-Type", accept);
    memset(m->data, 0x55, sizeof m->data);
    if (json_out) {
        read_json(body_of(p), m->tensors);
    } else {
        take_tensors(p, m->tensors, MIRROR_PARAMS);
    }
    assert_stats(p, json_out, &stats);
    for (size_t i = 0; i < MIRROR_PARAMS; i++) {
        if (memcmp(m->data[i], expected[i], bytes_of(&m->tensors[i])) != 0) {
            fail_msg("%s: other bits of '%s' than in this process", p->path, shapes[i].name);
        }
    }
}

/* ---- the whole state ---- */

void mirror_compare(mirror *m, peer *p, const char *name)
{
    static const char *const kinds[] = {"params", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"};
    adamd_tensor tensors[MIRROR_PARAMS * COUNT(kinds)];
    char names[MIRROR_PARAMS * COUNT(kinds)][64];
    char data[MIRROR_PARAMS * COUNT(kinds)][MIRROR_NUMEL * sizeof(double)];
    const void *own[MIRROR_PARAMS * COUNT(kinds)];
    size_t n = 0;
    for (size_t i = 0; i < MIRROR_PARAMS; i++) {
        const adam_param_view v = adam_optimizer_param(m->optimizer, i);
        const void *const values[] = {v.tensor.data, v.exp_avg, v.exp_avg_sq, v.max_exp_avg_sq};
        for (size_t k = 0; k < COUNT(kinds); k++) {
            if (values[k] != NULL || (k < 3 && v.numel == 0) || (v.numel == 0 && v.group == 1)) {
                (void)snprintf(names[n], sizeof names[n], "%s/%s", kinds[k], shapes[i].name);
                tensors[n] = m->tensors[i];
                tensors[n].name = names[n];
                tensors[n].data = data[n];
                own[n++] = values[k];
            }
        }
    }
    (void)get_with(p, at(name, "/state_dict"), "Accept: " SAFETENSORS_TYPE);
    take_tensors(p, tensors, n);
    for (size_t i = 0; i < n; i++) {
        if (bytes_of(&tensors[i]) > 0 && memcmp(own[i], data[i], bytes_of(&tensors[i])) != 0) {
            fail_msg("other bits of '%s' than in this process", names[i]);
        }
    }
    (void)get_with(p, at(name, "/params"), "Accept: " SAFETENSORS_TYPE);
    take_tensors(p, m->tensors, MIRROR_PARAMS);
    for (size_t i = 0; i < MIRROR_PARAMS; i++) {
        const adam_param_view v = adam_optimizer_param(m->optimizer, i);
        if (v.numel > 0) {
            assert_memory_equal(v.tensor.data, m->data[i], bytes_of(&m->tensors[i]));
        }
    }
}
