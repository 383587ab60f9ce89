/* test_bad_files.c: safetensors files that are none. Checked as strictly as the reference
 * implementation does, and beyond it duplicate names and unknown members. Nothing has changed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
#define B "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}"

static const float data[] = {1, 2, 3};
static char *before;

static int setup(void **state)
{
    remove_all(*state);
    create(*state, "o", "{\"params\": {\"a\": [1, 2], \"b\": [3]}}");
    before = state_of(*state, "o");
    return 0;
}

static int teardown(void **state)
{
    assert_unchanged(*state, "o", before);
    return 0;
}

/* Sends the file wherever one is taken. */
static void refuse(peer *p, file f, int status, const char *code, const char *member)
{
    static const struct {
        const char *method, *rest;
    } places[] = {{"POST", "/step"}, {"PUT", "/params"}, {"PUT", "/state_dict?load=everything"}};
    for (size_t i = 0; i < COUNT(places); i++) {
        (void)ask_file(p, places[i].method, at("o", places[i].rest), NULL, f);
        if (p->reply.status != status) {
            print_error("with %.*s\n", (int)(f.length - 8), (const char *)f.bytes + 8);
        }
        assert_problem(p, status, code, member);
    }
    (void)ask_file(p, "PUT", at("new", ""), NULL, f);
    assert_problem(p, status, code, member);
    (void)get(p, at("new", ""));
    assert_problem(p, 404, "no-such-optimizer", NULL);
}

/* A file with this header and 12 bytes of data. */
static void refuse_header(peer *p, const char *header, int status, const char *code,
                          const char *member)
{
    file f = file_with(header, data, sizeof data);
    refuse(p, f, status, code, member);
    file_free(&f);
}

/* The file that the others are made from is good. */
static void test_good(void **state)
{
    peer *p = *state;
    file f = file_with("{" A "," B "}", data, sizeof data);
    (void)ask_file(p, "PUT", at("good", ""), NULL, f);
    assert_status(p, 201);
    (void)ask_file(p, "POST", at("good", "/step"), NULL, f);
    assert_status(p, 200);
    file_free(&f);
}

/* A file that breaks off anywhere is refused. */
static void test_truncated(void **state)
{
    file f = file_with("{" A "," B "}", data, sizeof data);
    const size_t whole = f.length;
    for (size_t length = 0; length < whole; length++) {
        f.length = length;
        refuse(*state, f, 400, "malformed-safetensors", NULL);
    }
    file_free(&f);
}

/* Lengths of the header that point outside the file, or at nothing. */
static void test_header_length(void **state)
{
    static const char header[] = "{" A "," B "}";
    static const uint64_t lengths[] = {0,
                                       1,
                                       sizeof header - 2,
                                       sizeof header - 1 + sizeof data + 1,
                                       UINT64_C(1) << 32,
                                       UINT64_C(1) << 63,
                                       UINT64_MAX - 7,
                                       UINT64_MAX};
    for (size_t i = 0; i < COUNT(lengths); i++) {
        const bool json = lengths[i] == 1 || lengths[i] == sizeof header - 2;
        file f = file_raw(lengths[i], header, data, sizeof data);
        refuse(*state, f, 400, json ? "malformed-json" : "malformed-safetensors", NULL);
        file_free(&f);
    }
}

/* Tensors fill the data from its first byte to its last, each byte once. */
static void test_offsets(void **state)
{
    static const char *const bad[] = {
        /* a hole at the start, in the middle, at the end */
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}," B "}",
        "{" A "}",
        "{}",
        /* overlaps: in part, the same place twice, one in the other */
        "{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
        "{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}," B "}",
        /* swapped, beyond the end, too long for the shape, too short */
        "{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,8]}}",
        "{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}," B "}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}," B "}",
        "{\"a\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[0,8]}," B "}",
        /* offsets that are none */
        "{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8]}}",
        "{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12,12]}}",
        "{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,-12]}}",
        "{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12.5]}}",
        "{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,\"12\"]}}",
        "{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,18446744073709551628]}}",
        "{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":12}}",
        "{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1]}}",
        /* empty tensors have their places too */
        "{" A "," B ",\"c\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[5,5]}}",
        "{" A "," B ",\"c\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[13,13]}}",
        "{" A "," B ",\"c\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[8,12]}}",
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        refuse_header(*state, bad[i], 400, "malformed-safetensors", NULL);
    }
}

/* Shapes whose product overflows, or is not a product at all. */
static void test_shapes(void **state)
{
    static const char *const shapes[] = {
        "[4294967296,4294967296,4294967296,2]",
        "[9223372036854775809,2]",
        "[18446744073709551615]",
        "[9007199254740993]",
        "[1,1,1,1,1,1,1,1,1]",
        "[-1]",
        "[0.5]",
        "[1.0]",
        "[1e0]",
        "[-0]",
        "[[1]]",
        "[null]",
        "[1, null]",
        "[\"NaN\"]",
        "1",
        "null",
        "{}",
    };
    char header[512];
    for (size_t i = 0; i < COUNT(shapes); i++) {
        (void)snprintf(header, sizeof header,
                       "{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[8,12]}}",
                       shapes[i]);
        refuse_header(*state, header, 400, "malformed-safetensors", "\"param\": \"b\"");
    }
}

/* Members that are missing, unknown, twice, or of another type. */
static void test_members(void **state)
{
    static const struct {
        const char *header;
        int status;
        const char *code;
    } bad[] = {
        {"{" A ",\"b\":[]}", 400, "malformed-safetensors"},
        {"{" A ",\"b\":null}", 400, "malformed-safetensors"},
        {"{" A ",\"b\":{\"shape\":[1],\"data_offsets\":[8,12]}}", 400, "malformed-safetensors"},
        {"{" A ",\"b\":{\"dtype\":32,\"shape\":[1],\"data_offsets\":[8,12]}}", 400,
         "malformed-safetensors"},
        {"{" A ",\"b\":{\"dtype\":\"F32\",\"data_offsets\":[8,12]}}", 400, "malformed-safetensors"},
        {"{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12],\"x\":1}}", 400,
         "unknown-field"},
        {"{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[8,12]}}",
         400, "malformed-json"},
        {"{" A ",\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}", 400,
         "malformed-json"},
        {"{" A ",\"\\u0061\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}", 400,
         "malformed-json"},
        {"{\"__metadata__\":[]," A "," B "}", 400, "malformed-safetensors"},
        {"{\"__metadata__\":null," A "," B "}", 400, "malformed-safetensors"},
        {"{\"__metadata__\":{\"format\":1}," A "," B "}", 400, "malformed-safetensors"},
        {"{\"__metadata__\":{\"format\":{}}," A "," B "}", 400, "malformed-safetensors"},
        {"{\"__metadata__\":{\"x\":\"1\"}," A "," B "}", 400, "unknown-field"},
        {"{\"__metadata__\":{\"format\":\"a\",\"format\":\"a\"}," A "," B "}", 400,
         "malformed-json"},
        {"{" A "," B "}x", 400, "malformed-json"},
        {"{" A "," B ",}", 400, "malformed-json"},
        {" {" A "," B "}", 400, "malformed-safetensors"},
        {"[]", 400, "malformed-safetensors"},
        {"{" A "," B "\xff}", 400, "malformed-json"},
        {"{" A ",\"b\":{\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[8,12]}}", 422,
         "dtype-mismatch"},
        {"{" A ",\"b\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[8,12]}}", 422,
         "dtype-mismatch"},
        {"{" A ",\"b\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[8,12]}}", 422,
         "dtype-mismatch"},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        refuse_header(*state, bad[i].header, bad[i].status, bad[i].code, NULL);
    }
}

/* Well-made files that are not steps of this optimizer. */
static void test_not_this_optimizer(void **state)
{
    peer *p = *state;
    float f32[] = {1, 2};
    float nan[] = {1, (float)strtod("nan", NULL)};
    double f64[] = {1, 1e39};
    const struct {
        adamd_tensor tensor;
        const char *code, *member;
    } bad[] = {
        {vector32("x", f32, 2), "unknown-param", "\"param\": \"x\""},
        {vector32("a", f32, 1), "shape-mismatch", "\"expected_shape\": [2], \"got_shape\": [1]"},
        {vector64("a", f64, 2), "non-finite", "too large for float32"},
        {vector32("a", nan, 2), "non-finite", "\"param\": \"a\", \"index\": 1"},
        {{.name = "b", .dtype = ADAMD_FLOAT32, .data = f32}, "shape-mismatch", "\"got_shape\": []"},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        file f = file_of(&bad[i].tensor, 1, NULL, NULL);
        (void)ask_file(p, "POST", at("o", "/step"), NULL, f);
        assert_problem(p, 422, bad[i].code, bad[i].member);
        file_free(&f);
    }
    file f = file_with("{}", NULL, 0);
    (void)ask_file(p, "POST", at("o", "/step"), NULL, f);
    assert_problem(p, 422, "empty", NULL);
    file_free(&f);
}

/* A state_dict that lacks what makes it one. */
static void test_state_dict(void **state)
{
    peer *p = *state;
    char *header;
    file f;
    (void)get_with(p, at("o", "/state_dict"), "Accept: " SAFETENSORS_TYPE);
    assert_status(p, 200);
    header = header_text(p);
    char *found = strstr(header, "\"exp_avg_sq/b\"");
    const size_t head = strlen(header);
    const char *values = body_of(p) + sizeof(uint64_t) + head;
    const size_t length = p->reply.length - sizeof(uint64_t) - head;
    static const struct {
        const char *name, *code;
    } names[] = {{"\"exp_avg_sq/x\"", "unknown-param"},
                 {"\"exp_avg_sqb\" ", "invalid-value"},
                 {"\"exp_avgs_q/b\"", "invalid-value"},
                 {"\"params/bbbbb\"", "unknown-param"},
                 {"\"exp_avg/aaaa\"", "unknown-param"}};
    assert_non_null(found);
    char *copy = malloc(length);
    assert_non_null(copy);
    memcpy(copy, values, length);
    for (size_t i = 0; i < COUNT(names); i++) {
        memcpy(found, names[i].name, 14);
        f = file_with(header, copy, length);
        (void)ask_file(p, "PUT", at("o", "/state_dict?load=everything"), NULL, f);
        assert_problem(p, 422, names[i].code, NULL);
        file_free(&f);
    }
    f = file_with("{" A "," B "}", data, sizeof data); /* no __metadata__.state_dict */
    (void)ask_file(p, "PUT", at("o", "/state_dict?load=everything"), NULL, f);
    assert_problem(p, 422, "invalid-value", NULL);
    file_free(&f);
    free(copy);
    free(header);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_good, setup, teardown),
        cmocka_unit_test_setup_teardown(test_truncated, setup, teardown),
        cmocka_unit_test_setup_teardown(test_header_length, setup, teardown),
        cmocka_unit_test_setup_teardown(test_offsets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shapes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_members, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_this_optimizer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_state_dict, setup, teardown),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
