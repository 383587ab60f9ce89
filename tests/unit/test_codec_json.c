/* test_codec_json.c: json_scan.c and codec_json.c: strict, on a budget, and with every number in
 * its place. Held against cJSON, which is laxer, on mutated texts. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec_json.h"

#define BUDGET_BYTES ((size_t)64 << 20)
#include "budget.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Asserts what the scan makes of a text: its skeleton, and its numbers joined by "|". */
static void assert_scan(fixture *f, const char *json, const char *skeleton, const char *numbers)
{
    text shape = {.pool = f->pool};
    text spans = {.pool = f->pool};
    char got[256] = "";
    codec_error error;
    if (json_scan(json, strlen(json), &(json_kept){0}, &shape, &spans, &error) != CODEC_OK) {
        fail_msg("%s: %s", json, error.message);
    }
    assert_int_equal(text_length(&shape), strlen(skeleton));
    assert_memory_equal(shape.buffer->data, skeleton, strlen(skeleton));
    for (size_t i = 0; i < text_length(&spans);) {
        const json_numbers *n = (const void *)(spans.buffer->data + i);
        (void)snprintf(got + strlen(got), sizeof got - strlen(got), "%s%.*s", i > 0 ? "|" : "",
                       (int)n->span.length, n->span.text);
        i += json_numbers_bytes(n);
    }
    assert_string_equal(got, numbers);
    text_drop(&shape);
    text_drop(&spans);
}

/* Numbers and lists of numbers are set aside in order; everything else stays, without white space.
 */
static void test_skeleton(void **state)
{
    fixture *f = *state;
    assert_scan(f, " 1 ", "0", "1");
    assert_scan(f, "[]", "[0]", "[]");
    assert_scan(f, "{}", "{}", "");
    assert_scan(f, "[ [1, 2] ,\n[3]]", "[0]", "[ [1, 2] ,\n[3]]");
    assert_scan(f, "[\"NaN\", -1e5, \"-Infinity\"]", "[0]", "[\"NaN\", -1e5, \"-Infinity\"]");
    assert_scan(f, "\"NaN\"", "\"NaN\"", "");
    assert_scan(f, "[1, \"x\", 2]", "[0,\"x\",0]", "1|2");
    assert_scan(f, "[1, null, [2, 3]]", "[0,null,[0]]", "1|[2, 3]");
    assert_scan(f, "{\"a b\": {\"c\": 1.5}, \"d\": [true, -0]}",
                "{\"a b\":{\"c\":0},\"d\":[true,0]}", "1.5|-0");
    assert_scan(f, "[[[[[[[[1]]]]]]]]", "[0]", "[[[[[[[[1]]]]]]]]");
    assert_scan(f, "[[[[[[[[[1]]]]]]]]]", "[[0]]", "[[[[[[[[1]]]]]]]]");
    assert_scan(f, "[{}, 7]", "[{},0]", "7");
    assert_scan(f, "[\"NaN\", \"nan\"]", "[\"NaN\",\"nan\"]", "");
}

/* The shape that the scan finds: the lengths joined by "x", "" for a number alone. */
static void assert_shape(fixture *f, const char *json, const char *expected)
{
    text skeleton = {.pool = f->pool};
    text numbers = {.pool = f->pool};
    char got[64] = "";
    codec_error error;
    assert_int_equal(json_scan(json, strlen(json), &(json_kept){0}, &skeleton, &numbers, &error),
                     CODEC_OK);
    const json_numbers *n = (const void *)numbers.buffer->data;
    assert_int_equal(json_numbers_bytes(n), text_length(&numbers));
    for (int i = 0; i < n->rank; i++) {
        (void)snprintf(got + strlen(got), sizeof got - strlen(got), "%s%llu", i > 0 ? "x" : "",
                       (unsigned long long)n->shape[i]);
    }
    assert_string_equal(n->rank == JSON_RAGGED ? "ragged" : got, expected);
    text_drop(&skeleton);
    text_drop(&numbers);
}

/* Lists have the shape of a tensor where lists at the same depth are as long and all numbers as
 * deep. */
static void test_shapes(void **state)
{
    fixture *f = *state;
    assert_shape(f, "1", "");
    assert_shape(f, "[]", "0");
    assert_shape(f, "[1, 2 ,3 ]", "3");
    assert_shape(f, "[[1, 2, 3], [4, 5, \"NaN\"]]", "2x3");
    assert_shape(f, "[[[1], [2]]]", "1x2x1");
    assert_shape(f, "[[], []]", "2x0");
    assert_shape(f, "[[[]], [[]], [[]]]", "3x1x0");
    assert_shape(f, "[[[[[[[[1]]]]]]]]", "1x1x1x1x1x1x1x1");
    assert_shape(f, "[[1], [2, 3]]", "ragged");
    assert_shape(f, "[[1, 2], []]", "ragged");
    assert_shape(f, "[1, [2]]", "ragged");
    assert_shape(f, "[[1], 2]", "ragged");
    assert_shape(f, "[[1], []]", "ragged");
    assert_shape(f, "[[], [[]]]", "ragged");
    assert_shape(f, "[[], 1]", "ragged");
}

/* A number is one in a list, where it is scanned another way, exactly if it is one by itself; and
 * it is refused at the same byte. All short texts, also behind enough digits for eight at a time.
 */
static void test_numbers_in_lists(void **state)
{
    static const char alphabet[] = "019.eE+-";
    static const char *const before[] = {"", "1234567", "0.1234567890123456", "-1e"};
    enum { LETTERS = sizeof alphabet - 1, LENGTH = 5 };
    fixture *f = *state;
    size_t taken = 0;
    for (size_t i = 1; i < COUNT(before) * LETTERS * LETTERS * LETTERS * LETTERS * LETTERS; i++) {
        char alone[64];
        char list[80];
        json_doc *doc = NULL;
        codec_error error[2];
        (void)strcpy(alone, before[i % COUNT(before)]);
        for (size_t k = i / COUNT(before), at = strlen(alone); k > 0; k /= LETTERS) {
            alone[at++] = alphabet[k % LETTERS];
            alone[at] = '\0';
        }
        (void)snprintf(list, sizeof list, "[%s]", alone);
        const codec_status want = json_parse(f->pool, alone, strlen(alone), &doc, &error[0]);
        json_free(want == CODEC_OK ? doc : NULL);
        const codec_status got = json_parse_floats(f->pool, list, strlen(list), 1, &doc, &error[1]);
        json_free(got == CODEC_OK ? doc : NULL);
        if (got != want || (want != CODEC_OK && error[1].position != error[0].position + 1)) {
            fail_msg("%s: %d, in a list %d", alone, want, got);
        }
        taken += want == CODEC_OK;
    }
    assert_true(taken > 1000);
}

/* Values are kept of lists that have room as a whole and fit float32, in order; of others none is,
 * and none takes room. */
static void test_floats(void **state)
{
    static const char json[] = "{\"a\": [1, 2.5], \"b\": 9, \"c\": [[3], [1e39]], \"d\": [4, "
                               "\"x\"], \"e\": [[-0.1], [\"-Infinity\"]], \"f\": [], \"g\": "
                               "[5, 6], \"h\": [7]}";
    static const char *const kept[] = {"a", "e", "f", "h"};
    static const float values[] = {1, 2.5F, -0.1F, -INFINITY, 7};
    static const size_t first[] = {0, 2, 4, 4};
    static const char *const others[] = {"b", "c", "g"};
    fixture *f = *state;
    json_doc *doc = NULL;
    codec_error error;
    assert_int_equal(json_parse_floats(f->pool, json, sizeof json - 1, 5, &doc, &error), CODEC_OK);
    const json_value *root = json_root(doc);
    assert_int_equal(json_floats(doc)->length, sizeof values);
    assert_memory_equal(json_floats(doc)->data, values, sizeof values);
    for (size_t i = 0; i < COUNT(kept); i++) {
        assert_ptr_equal(json_numbers_of(doc, json_get(root, kept[i]))->values,
                         json_floats(doc)->data + first[i] * sizeof *values);
    }
    for (size_t i = 0; i < COUNT(others); i++) {
        assert_null(json_numbers_of(doc, json_get(root, others[i]))->values);
    }
    json_free(doc);
    assert_int_equal(json_parse(f->pool, json, sizeof json - 1, &doc, &error), CODEC_OK);
    assert_null(json_floats(doc)); /* unasked, nothing is kept */
    json_free(doc);
}

static json_doc *parse(fixture *f, const char *json)
{
    json_doc *doc = NULL;
    codec_error error;
    if (json_parse(f->pool, json, strlen(json), &doc, &error) != CODEC_OK) {
        fail_msg("%s: %s", json, error.message);
    }
    return doc;
}

static void assert_number(const json_doc *doc, const json_value *value, const char *expected)
{
    const json_span span = json_number_text(doc, value);
    assert_int_equal(span.length, strlen(expected));
    assert_memory_equal(span.text, expected, span.length);
}

/* Each number is found where it stood, also among values of other types. */
static void test_numbers_in_place(void **state)
{
    static const char json[] =
        "{\"a\": [1, \"x\", 2, [3, 4], {\"b\": 5}, []], \"c\": 6, \"A\": [7]}";
    json_doc *doc = parse(*state, json);
    const json_value *root = json_root(doc);
    const json_value *list = json_get(root, "a");
    assert_int_equal(json_type_of(list), JSON_LIST);
    assert_int_equal(json_count(list), 6);
    const json_value *item = json_first(list);
    assert_number(doc, item, "1");
    item = json_next(item);
    assert_string_equal(json_string(item), "x");
    item = json_next(item);
    assert_number(doc, item, "2");
    item = json_next(item);
    assert_int_equal(json_type_of(item), JSON_NUMBERS);
    assert_number(doc, item, "[3, 4]");
    item = json_next(item);
    assert_number(doc, json_get(item, "b"), "5");
    item = json_next(item);
    assert_int_equal(json_type_of(item), JSON_NUMBERS);
    assert_null(json_next(item));
    assert_number(doc, json_get(root, "c"), "6");
    assert_number(doc, json_get(root, "A"), "[7]"); /* case counts */
    assert_null(json_get(root, "C"));
    json_free(doc);
}

/* Strings and names come decoded. */
static void test_strings(void **state)
{
    json_doc *doc = parse(*state, "{\"\\u0061\\n\": \"\\ud83d\\ude00\\\"\\/\\u00e9\", \"t\": true, "
                                  "\"n\": null, \"f\": false}");
    const json_value *root = json_root(doc);
    assert_string_equal(json_name(json_first(root)), "a\n");
    assert_string_equal(json_string(json_get(root, "a\n")), "\xf0\x9f\x98\x80\"/\xc3\xa9");
    assert_int_equal(json_type_of(json_get(root, "n")), JSON_NULL);
    assert_true(json_bool(json_get(root, "t")));
    assert_false(json_bool(json_get(root, "f")));
    json_free(doc);
}

/* A few of the texts that test_bad_json.c sends over HTTP, and where they break. */
static void test_strict(void **state)
{
    static const struct {
        const char *json;
        size_t position;
    } bad[] = {
        {"", 0},           {"01", 1},       {"1.", 2},  {"1 1", 2},         {"[1,]", 3},
        {"{\"a\":1,}", 7}, {"\"\x01\"", 1}, {"nul", 0}, {"\"\\u0000\"", 3}, {"[1", 2},
        {"\"\xff\"", 1},   {"-", 1},        {"1e+", 3}, {"[NaN]", 1},       {"\"\\ud800\"", 7}};
    fixture *f = *state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        json_doc *doc = NULL;
        codec_error error;
        assert_int_equal(json_parse(f->pool, bad[i].json, strlen(bad[i].json), &doc, &error),
                         CODEC_MALFORMED_JSON);
        assert_true(error.has_position);
        assert_int_equal(error.position, bad[i].position);
        assert_null(doc);
    }
}

/* A list of `depth` levels, innermost a number or nothing. */
static void nest(char *out, unsigned depth, const char *inside)
{
    memset(out, '[', depth);
    (void)strcpy(out + depth, inside);
    memset(out + depth + strlen(inside), ']', depth + 1);
    out[2 * depth + strlen(inside)] = '\0';
}

/* The limit of depth holds for lists of numbers, read apart, as for others. */
static void test_depth(void **state)
{
    static const char *const insides[] = {"1", "", "\"x\""};
    fixture *f = *state;
    char json[256];
    for (size_t i = 0; i < COUNT(insides); i++) {
        for (unsigned depth = CODEC_MAX_DEPTH; depth <= CODEC_MAX_DEPTH + 1; depth++) {
            json_doc *doc = NULL;
            codec_error error;
            nest(json, depth, insides[i]);
            const codec_status st = json_parse(f->pool, json, strlen(json), &doc, &error);
            assert_int_equal(st, depth > CODEC_MAX_DEPTH ? CODEC_LIMIT : CODEC_OK);
            json_free(doc);
        }
    }
}

/* Over the budget a text is refused with what it had given back. */
static void test_budget(void **state)
{
    (void)state;
    enum { LENGTH = 30000 };
    char json[LENGTH + 1] = "[";
    for (size_t i = 1; i + 5 < LENGTH; i += 3) {
        memcpy(json + i, "{},", 4);
    }
    (void)strcat(json, "{}]");
    size_t refused = 0;
    for (size_t limit = (size_t)64 << 10; limit <= (size_t)8 << 20; limit *= 2) {
        memory *m = memory_create(limit);
        buffer_pool *pool = buffer_pool_create(m);
        json_doc *doc = NULL;
        codec_error error;
        const codec_status st = json_parse(pool, json, strlen(json), &doc, &error);
        assert_true(st == CODEC_OK || st == CODEC_NO_MEMORY);
        refused += st == CODEC_NO_MEMORY;
        json_free(doc);
        buffer_pool_free(pool);
        assert_int_equal(memory_used(m), 0);
        memory_free(m);
    }
    assert_true(refused > 0 && refused < 8);
}

static uint64_t next_random(uint64_t *seed)
{
    uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Whether cJSON, by itself and with its own memory, reads the whole text. */
static bool cjson_takes(const char *json, size_t length)
{
    const char *end = NULL;
    cJSON_InitHooks(NULL);
    cJSON *root = cJSON_ParseWithLengthOpts(json, length, &end, 0);
    while (root != NULL && end < json + length && strchr(" \t\r\n", *end) != NULL) {
        end++;
    }
    const bool taken = root != NULL && end == json + length;
    cJSON_Delete(root);
    json_init();
    return taken;
}

/* Texts with a few bytes changed are parsed or refused, never worse; what is taken is JSON to
 * another reader too. */
static void test_mutations(void **state)
{
    static const char *const seeds[] = {
        "{\"grads\": {\"w\": [[1, -2.5e-3], [\"NaN\", 4]], \"b\\u00e9\": []}, \"param_groups\": "
        "[{}]}",
        "[1, \"x\", {\"a\": [true, null, 0.5, [[\"-Infinity\"]]]}, \"\\ud83d\\ude00\"]",
    };
    static const char alphabet[] = "[]{},:\"\\0123456789.eE+-ntfuNaI \n\xc3\xa9\x01";
    fixture *f = *state;
    uint64_t seed = 1;
    size_t taken = 0;
    for (int i = 0; i < 20000; i++) {
        char json[256];
        json_doc *doc = NULL;
        codec_error error;
        (void)strcpy(json, seeds[i % 2]);
        const size_t length = strlen(json);
        for (uint64_t k = next_random(&seed) % 3 + 1; k > 0; k--) {
            json[next_random(&seed) % length] =
                alphabet[next_random(&seed) % (sizeof alphabet - 1)];
        }
        if (json_parse(f->pool, json, length, &doc, &error) == CODEC_OK) {
            taken++;
            if (!cjson_takes(json, length)) {
                fail_msg("taken, but not JSON: %s", json);
            }
        } else {
            assert_true(error.message[0] != '\0');
        }
        json_free(doc);
    }
    assert_true(taken > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_skeleton, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shapes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_numbers_in_lists, setup, teardown),
        cmocka_unit_test_setup_teardown(test_floats, setup, teardown),
        cmocka_unit_test_setup_teardown(test_numbers_in_place, setup, teardown),
        cmocka_unit_test_setup_teardown(test_strings, setup, teardown),
        cmocka_unit_test_setup_teardown(test_strict, setup, teardown),
        cmocka_unit_test_setup_teardown(test_depth, setup, teardown),
        cmocka_unit_test_setup_teardown(test_budget, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mutations, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
