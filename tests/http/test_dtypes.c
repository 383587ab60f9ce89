/* test_dtypes.c: the four types on the wire: gradients in, parameters out with ?dtype=, in both
 * forms. Conversions themselves are tests/unit/test_convert.c's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

static int clear(void **state)
{
    remove_all(*state);
    return 0;
}

#define W(dtype, end) "{\"w\":{\"dtype\":\"" dtype "\",\"shape\":[3],\"data_offsets\":[0," end "]}}"

/* Asserts that a safetensors reply holds "w" of this type, with this data. */
static void assert_data(const peer *p, const char *dtype, const void *data, size_t length)
{
    char want[64];
    assert_status(p, 200);
    assert_header(p, "Content-Type", SAFETENSORS_TYPE);
    char *header = header_text(p);
    (void)snprintf(want, sizeof want, "\"w\":{\"dtype\":\"%s\"", dtype);
    char *flat = flatten(header);
    if (strstr(flat, want) == NULL) {
        fail_msg("%s: expected %s in %s", p->path, want, header);
    }
    assert_int_equal(p->reply.length, 8 + strlen(header) + length);
    assert_memory_equal(p->reply.body + p->reply.length - length, data, length);
    free(header);
    free(flat);
}

/* 0.1 is no number of any of these types; these are its neighbours, with 1 and -2 behind it. */
static const float single[] = {0.1F, 1, -2};
static const double wide[] = {(double)0.1F, 1, -2};
static const uint16_t brain[] = {0x3dcd, 0x3f80, 0xc000};
static const uint16_t half[] = {0x2e66, 0x3c00, 0xc000};
static const struct {
    const char *query, *name;
    const void *data;
    size_t length;
    const char *json;
} types[] = {
    {"f32", "F32", single, sizeof single, "[0.1, 1, -2]"},
    {"f64", "F64", wide, sizeof wide, "[0.10000000149011612, 1, -2]"},
    {"bf16", "BF16", brain, sizeof brain, "[0.100097656, 1, -2]"},
    {"f16", "F16", half, sizeof half, "[0.099975586, 1, -2]"},
    {"BF16", "BF16", brain, sizeof brain, "[0.100097656, 1, -2]"}, /* case does not matter */
};

static const char *const torch_name[] = {"float32", "float64", "bfloat16", "float16", "bfloat16"};

/* Parameters read in each type, one and all, in both forms. */
static void test_read(void **state)
{
    peer *p = *state;
    char path[64], text[256];
    create(p, "a", "{\"params\": {\"w\": [0.1, 1, -2]}}");
    for (size_t i = 0; i < COUNT(types); i++) {
        (void)snprintf(path, sizeof path, "/params?dtype=%s", types[i].query);
        (void)get_with(p, at("a", path), "Accept: " SAFETENSORS_TYPE);
        assert_data(p, types[i].name, types[i].data, types[i].length);
        assert_metadata(p, "step", "0");
        (void)get(p, at("a", path));
        (void)snprintf(text, sizeof text, "{\"step\": 0, \"params\": {\"w\": %s}}", types[i].json);
        assert_json(p, 200, text);
        (void)snprintf(path, sizeof path, "/params/w?dtype=%s", types[i].query);
        (void)get_with(p, at("a", path), "Accept: " SAFETENSORS_TYPE);
        assert_data(p, types[i].name, types[i].data, types[i].length);
        (void)get(p, at("a", path));
        (void)snprintf(text, sizeof text,
                       "{\"name\": \"w\", \"shape\": [3], \"dtype\": \"%s\", \"data\": %s}",
                       torch_name[i], types[i].json);
        assert_json(p, 200, text);
    }
}

/* A step answers in the type that is asked for, whatever came in. lr 0 keeps the parameters. */
static void test_step_out(void **state)
{
    peer *p = *state;
    char path[64], text[256];
    static const char *const headers[] = {W("F32", "12"), W("F64", "24"), W("BF16", "6"),
                                          W("F16", "6")};
    create(p, "a", "{\"params\": {\"w\": [0.1, 1, -2]}, \"lr\": 0}");
    for (size_t i = 0; i < COUNT(types); i++) {
        for (size_t k = 0; k < COUNT(headers); k++) {
            file f = file_with(headers[k], types[k].data, types[k].length);
            (void)snprintf(path, sizeof path, "/step?dtype=%s", types[i].query);
            (void)ask_file(p, "POST", at("a", path), NULL, f);
            assert_data(p, types[i].name, types[i].data, types[i].length);
            assert_metadata(p, "converted", k == 0 ? "0" : "1");
            (void)ask_file(p, "POST", at("a", path), JSON_TYPE, f);
            (void)snprintf(text, sizeof text, "\"params\": {\"w\": %s}, ", types[i].json);
            assert_has(p, 200, text);
            (void)snprintf(text, sizeof text, "\"converted\": %d, ", k == 0 ? 0 : 1);
            assert_has(p, 200, text);
            (void)ask_file(p, "POST", at("a", "/step"), NULL, f); /* the parameters' own type */
            assert_data(p, "F32", single, sizeof single);
            file_free(&f);
        }
        (void)ask_json(p, "POST", at("a", path), "{\"grads\": {\"w\": [1, 2, 3]}}");
        assert_has(p, 200, types[i].json);
        assert_has(p, 200, "\"converted\": 0, ");
    }
}

/* A float64 gradient for a float32 parameter is rounded; one that is too large is not finite. */
static void test_narrowed(void **state)
{
    peer *p = *state;
    static const double large[] = {1, 1e39, 1};
    create(p, "a", "{\"params\": {\"w\": [0, 0, 0]}, \"betas\": [0, 0.999]}");
    file f = file_with(W("F64", "24"), wide, sizeof wide);
    (void)ask_file(p, "POST", at("a", "/step"), NULL, f);
    assert_metadata(p, "converted", "1");
    file_free(&f);
    (void)get(p, at("a", "/state/w"));
    assert_has(p, 200, "\"exp_avg\": {\"min\": -2, \"max\": 1, ");
    assert_has(p, 200, "\"data\": [0.1, 1, -2]");
    char *before = state_of(p, "a");
    f = file_with(W("F64", "24"), large, sizeof large);
    (void)ask_file(p, "POST", at("a", "/step"), NULL, f);
    assert_problem(p, 422, "non-finite", "\"index\": 1");
    assert_has(p, 422, "too large for float32 once converted");
    assert_unchanged(p, "a", before);
    file_free(&f);
}

/* Types mixed in one body, of which 16-bit ones leave the next tensor at an odd address; each is
 * converted to its parameter's type, and none of them twice. */
static void test_mixed(void **state)
{
    static const char header[] =
        "{\"x\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[0,6]},"
        "\"y\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[6,10]},"
        "\"z\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[10,12]},"
        "\"v\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[12,20]}}";
    peer *p = *state;
    char data[20];
    const float y = 3;
    const double v = 4;
    memcpy(data, brain, 6);
    memcpy(data + 6, &y, 4);
    memcpy(data + 10, half + 1, 2);
    memcpy(data + 12, &v, 8);
    create(p, "a",
           "{\"params\": {\"v\": [0], \"x\": {\"shape\": [3], \"dtype\": \"float64\"}, \"y\": [0], "
           "\"z\": 0}, \"betas\": [0, 0.999], \"lr\": 0}");
    for (int odd = 0; odd < 2; odd++) { /* the header's length decides where the data lies */
        char spaced[sizeof header + 1];
        (void)snprintf(spaced, sizeof spaced, "%s%s", header, odd ? " " : "");
        file f = file_with(spaced, data, sizeof data);
        (void)ask_file(p, "POST", at("a", "/step"), NULL, f);
        assert_metadata(p, "converted", "3");
        (void)ask_file(p, "POST", at("a", "/step?dtype=bf16"), JSON_TYPE, f);
        assert_has(p, 200, "\"params\": {");
        file_free(&f);
        (void)get(p, at("a", "/state/x"));
        assert_has(p, 200, "\"exp_avg\": {\"min\": -2, \"max\": 1, ");
        assert_has(p, 200, "\"data\": [0.10009765625, 1, -2]");
        (void)get(p, at("a", "/state/y"));
        assert_has(p, 200, "\"exp_avg\": {\"min\": 3, \"max\": 3, ");
        (void)get(p, at("a", "/state/z"));
        assert_has(p, 200, "\"exp_avg\": {\"min\": 1, \"max\": 1, ");
        (void)get(p, at("a", "/state/v"));
        assert_has(p, 200, "\"exp_avg\": {\"min\": 4, \"max\": 4, ");
    }
    file f =
        file_with("{\"x\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[0,7]}}", data, 7);
    (void)ask_file(p, "POST", at("a", "/step"), NULL, f);
    assert_problem(p, 400, "malformed-safetensors", NULL);
    file_free(&f);
}

/* Parameters sent in 16 bits are kept as float32 of the same values. JSON names them likewise. */
static void test_create(void **state)
{
    peer *p = *state;
    static const char *const headers[] = {W("BF16", "6"), W("F16", "6")};
    for (size_t i = 0; i < 2; i++) {
        file f = file_with(headers[i], types[2 + i].data, types[2 + i].length);
        (void)ask_file(p, "PUT", at("a", ""), NULL, f);
        assert_status(p, 201);
        file_free(&f);
        (void)get(p, at("a", "/params/w"));
        assert_has(p, 200, "\"dtype\": \"float32\", \"data\": ");
        assert_has(p, 200, types[2 + i].json);
        remove_all(p);
    }
}

/* What asks for another type, or for one where there is none to choose, is refused. */
static void test_wrong_query(void **state)
{
    static const char *const bad[] = {
        "/params?dtype=",         "/params?dtype=float32", "/params?dtype=f8",
        "/params?dtype=f32,f64",  "/params?dtype=i16",     "/params?dtype=f32&dtype=f32",
        "/params/w?dtype=bfloat", "/params?dtype",         "/param_groups?dtype=f32",
        "/state/w?dtype=f32",     "/state_dict?dtype=f32", "?dtype=f32"};
    peer *p = *state;
    create(p, "a", "{\"params\": {\"w\": [1]}}");
    char *before = state_of(p, "a");
    for (size_t i = 0; i < COUNT(bad); i++) {
        (void)get(p, at("a", bad[i]));
        assert_problem(p, 400, "invalid-query", NULL);
    }
    (void)ask_json(p, "POST", at("a", "/step?dtype=f8"), "{\"grads\": {\"w\": [1]}}");
    assert_problem(p, 400, "invalid-query", "expected f32, f64, bf16 or f16");
    (void)ask_json(p, "PUT", at("a", "/params?dtype=f32"), "{\"params\": {\"w\": [2]}}");
    assert_problem(p, 400, "invalid-query", NULL);
    assert_unchanged(p, "a", before);
}

/* Minimal with a type asked for: there is nothing to convert. */
static void test_minimal(void **state)
{
    peer *p = *state;
    create(p, "a", "{\"params\": {\"w\": [1]}}");
    (void)ask_json_with(p, "POST", at("a", "/step?dtype=bf16"), "Prefer: return=minimal",
                        "{\"grads\": {\"w\": [1]}}");
    assert_empty(p, 204);
    (void)get(p, at("a", ""));
    assert_has(p, 200, "\"step\": 1, ");
}

/* A large step in another type is not what readers get afterwards: they read the parameters' own.
 */
static void test_not_published(void **state)
{
    enum { N = 200000 };
    peer *p = *state;
    static float got[N], again[N];
    static uint16_t ones[N], narrow[N];
    char header[128];
    create(p, "a", "{\"params\": {\"w\": {\"shape\": [200000]}}, \"lr\": 0.1}");
    for (size_t i = 0; i < N; i++) {
        ones[i] = 0x3f80;
    }
    (void)snprintf(header, sizeof header,
                   "{\"w\":{\"dtype\":\"BF16\",\"shape\":[%d],\"data_offsets\":[0,%d]}}", N, 2 * N);
    file f = file_with(header, ones, sizeof ones);
    (void)ask_file(p, "POST", at("a", "/step"), NULL, f);
    const adamd_tensor t = vector32("w", got, N);
    take_tensors(p, &t, 1);
    (void)ask_file(p, "POST", at("a", "/step?dtype=bf16"), NULL, f);
    assert_status(p, 200);
    memcpy(narrow, p->reply.body + p->reply.length - sizeof narrow, sizeof narrow);
    const adamd_tensor t2 = vector32("w", again, N);
    (void)get_with(p, at("a", "/params"), "Accept: " SAFETENSORS_TYPE);
    take_tensors(p, &t2, 1);
    assert_true(again[0] < got[0] && again[N - 1] < got[N - 1]);
    (void)get_with(p, at("a", "/params?dtype=bf16"), "Accept: " SAFETENSORS_TYPE);
    assert_data(p, "BF16", narrow, sizeof narrow);
    (void)get_with(p, at("a", "/params"), "Accept: " SAFETENSORS_TYPE);
    take_tensors(p, &t, 1);
    assert_memory_equal(got, again, sizeof got);
    file_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_read, clear),
        cmocka_unit_test_setup(test_step_out, clear),
        cmocka_unit_test_setup(test_narrowed, clear),
        cmocka_unit_test_setup(test_mixed, clear),
        cmocka_unit_test_setup(test_create, clear),
        cmocka_unit_test_setup(test_wrong_query, clear),
        cmocka_unit_test_setup(test_minimal, clear),
        cmocka_unit_test_setup(test_not_published, clear),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
