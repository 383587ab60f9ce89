/* test_codec_safetensors.c: files written and read back, and files with a few bytes changed.
 * tests/http/test_bad_files.c has the list of what is refused. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec_safetensors.h"

#define BUDGET_BYTES ((size_t)64 << 20)
#include "budget.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define MAX_HEADER   ((size_t)1 << 16)

static double values[] = {1, 2, 3, 4, 5, 6};
static const adam_tensor tensors[] = {
    {.name = "m", .name_len = 1, .dtype = ADAM_FLOAT64, .rank = 2, .shape = {3, 2}, .data = values},
    {.name = "quote\"back\\slash\n\x01\xc3\xa9", .name_len = 20, .dtype = ADAM_FLOAT32, .rank = 0},
    {.name = "empty", .name_len = 5, .dtype = ADAM_FLOAT32, .rank = 3, .shape = {2, 0, 5}},
    {.name = "r8",
     .name_len = 2,
     .dtype = ADAM_FLOAT32,
     .rank = 8,
     .shape = {1, 1, 1, 1, 1, 1, 1, 2}},
};

/* A file of these tensors, whose data is all zeros. */
static void write_file(fixture *f, text *t)
{
    static const char zeros[64];
    static const char note[] = "say \"hi\"\\\n";
    uint64_t end = 0;
    *t = (text){.pool = f->pool};
    safetensors_begin(t);
    safetensors_add_metadata(t, "note", note, strlen(note));
    safetensors_end_metadata(t);
    for (size_t i = 0; i < COUNT(tensors); i++) {
        end = safetensors_add_tensor(t, "p/", &tensors[i], end);
    }
    safetensors_end(t);
    assert_false(t->failed);
    assert_int_equal(text_length(t) % 64, 0);
    assert_int_equal(end, 6 * 8 + 4 + 0 + 8);
    text_add(t, zeros, end);
}

/* What is written is read back: names, types, shapes, places, metadata. */
static void test_round_trip(void **state)
{
    fixture *f = *state;
    text t;
    safetensors file;
    codec_error error;
    static const char *const note[] = {"format", "note", NULL};
    static const char *const none[] = {"format", NULL};
    write_file(f, &t);
    if (safetensors_parse(f->pool, t.buffer->data, text_length(&t), MAX_HEADER, &file, &error) !=
        CODEC_OK) {
        fail_msg("%s", error.message);
    }
    assert_int_equal(file.n_tensors, COUNT(tensors));
    const char *expected = t.buffer->data + file.data_offset;
    for (size_t i = 0; i < COUNT(tensors); i++) {
        const adam_tensor *own = &tensors[i];
        const adam_tensor *read = &file.tensors[i];
        uint64_t numel = 0;
        assert_int_equal(read->name_len, own->name_len + 2);
        assert_memory_equal(read->name, "p/", 2);
        assert_memory_equal(read->name + 2, own->name, own->name_len);
        assert_int_equal(read->dtype, own->dtype);
        assert_true(adam_shape_equal(read->rank, read->shape, own->rank, own->shape));
        assert_ptr_equal(read->data, expected);
        assert_true(adam_shape_numel(own->rank, own->shape, &numel));
        expected += numel * adam_dtype_size(own->dtype);
    }
    assert_string_equal(safetensors_metadata(&file, "note"), "say \"hi\"\\\n");
    assert_string_equal(safetensors_metadata(&file, "format"), "adamd");
    assert_null(safetensors_metadata(&file, "Note"));
    assert_int_equal(safetensors_check_metadata(&file, note, &error), CODEC_OK);
    assert_int_equal(safetensors_check_metadata(&file, none, &error), CODEC_UNKNOWN_FIELD);
    safetensors_drop(&file);
    text_drop(&t);
}

/* A header is held to its limit before it is read. */
static void test_header_limit(void **state)
{
    fixture *f = *state;
    text t;
    safetensors file;
    codec_error error;
    uint64_t header;
    write_file(f, &t);
    memcpy(&header, t.buffer->data, sizeof header);
    assert_int_equal(
        safetensors_parse(f->pool, t.buffer->data, text_length(&t), header, &file, &error),
        CODEC_OK);
    safetensors_drop(&file);
    assert_int_equal(
        safetensors_parse(f->pool, t.buffer->data, text_length(&t), header - 1, &file, &error),
        CODEC_LIMIT);
    text_drop(&t);
}

static uint64_t next_random(uint64_t *seed)
{
    uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Asserts that the tensors of a file lie in its data, side by side. */
static void assert_sound(const safetensors *file, const char *data, size_t data_length)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < file->n_tensors; i++) {
        const adam_tensor *t = &file->tensors[i];
        uint64_t numel = 0;
        assert_true(adam_shape_numel(t->rank, t->shape, &numel));
        const uint64_t bytes = numel * adam_dtype_size(t->dtype);
        const char *at = t->data;
        assert_true(at >= data && bytes <= data_length && at <= data + data_length - bytes);
        sum += bytes;
    }
    assert_int_equal(sum, data_length);
}

/* Files with a few bytes of their header changed, or cut, are parsed or refused, never worse; what
 * is taken is whole. */
static void test_mutations(void **state)
{
    static const char alphabet[] = "[]{},:\"0123456789F ._-\\e\xff";
    fixture *f = *state;
    uint64_t seed = 5;
    text t;
    size_t taken = 0;
    write_file(f, &t);
    const size_t length = text_length(&t);
    char *copy = malloc(length);
    assert_non_null(copy);
    for (int i = 0; i < 20000; i++) {
        safetensors file;
        codec_error error;
        size_t cut = length;
        memcpy(copy, t.buffer->data, length);
        for (uint64_t k = next_random(&seed) % 3 + 1; k > 0; k--) {
            const size_t place = next_random(&seed) % (length - 60);
            copy[place] = place < 8 ? (char)next_random(&seed)
                                    : alphabet[next_random(&seed) % (sizeof alphabet - 1)];
        }
        if (i % 16 == 0) {
            cut = next_random(&seed) % length;
        }
        if (safetensors_parse(f->pool, copy, cut, MAX_HEADER, &file, &error) == CODEC_OK) {
            taken++;
            assert_sound(&file, copy + file.data_offset, cut - file.data_offset);
            safetensors_drop(&file);
        }
    }
    assert_true(taken > 100);
    free(copy);
    text_drop(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_header_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mutations, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
