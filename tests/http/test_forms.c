/* test_forms.c: JSON and safetensors, one in and the other out: the same numbers, to the bit. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mirror.h"

/* Every mixture of forms gives the bits of the same optimizer in this process: both types, ranks 0
 * to 8, empty tensors, -0.0 and denormals, statistics and moments. */
static void test_all_forms(void **state)
{
    peer *p = *state;
    for (unsigned forms = 0; forms < 8; forms++) {
        mirror m;
        char name[16];
        (void)snprintf(name, sizeof name, "forms%u", forms);
        mirror_create(&m, p, name, forms & 1, forms + 1);
        mirror_compare(&m, p, name);
        for (int i = 0; i < 4; i++) {
            mirror_step(&m, p, name, forms & 2, forms & 4);
        }
        mirror_compare(&m, p, name);
        mirror_free(&m);
    }
}

/* A state_dict in either form makes a fresh optimizer the same: its further steps have the same
 * bits, and so has its own state_dict. */
static void test_state_dict_round_trip(void **state)
{
    static const char *const types[] = {JSON_TYPE, SAFETENSORS_TYPE};
    peer *p = *state;
    for (size_t k = 0; k < COUNT(types); k++) {
        mirror m;
        mirror fresh;
        char from[16];
        char to[16];
        char line[64];
        (void)snprintf(from, sizeof from, "from%zu", k);
        (void)snprintf(to, sizeof to, "to%zu", k);
        mirror_create(&m, p, from, false, 11);
        mirror_create(&fresh, p, to, false, 12);
        mirror_free(&fresh);
        for (int i = 0; i < 3; i++) {
            mirror_step(&m, p, from, false, false);
        }
        char *before = state_of(p, from);
        (void)snprintf(line, sizeof line, "Accept: %s", types[k]);
        (void)get_with(p, at(from, "/state_dict"), line);
        assert_status(p, 200);
        assert_header(p, "Content-Type", types[k]);
        const size_t length = p->reply.length;
        char *dict = malloc(length);
        assert_non_null(dict);
        memcpy(dict, p->reply.body, length);
        (void)snprintf(line, sizeof line, "Content-Type: %s", types[k]);
        const char *const headers[] = {line, NULL};
        (void)ask(p, "PUT", at(to, "/state_dict?load=everything"), headers, dict, length);
        assert_empty(p, 204);
        free(dict);
        char *after = state_of(p, to);
        assert_string_equal(strchr(before, '\n'), strchr(after, '\n')); /* all but the ETag */
        free(before);
        free(after);
        mirror_step(&m, p, to, false, false);
        mirror_compare(&m, p, to);
        mirror_free(&m);
    }
}

/* Without Accept, or where it takes anything, a step answers in the form of its request, and every
 * other reply is JSON. */
static void test_form_unasked(void **state)
{
    static const char *const types[] = {JSON_TYPE, SAFETENSORS_TYPE, "application/octet-stream"};
    static const char *const accepts[] = {"Accept:", "Accept: */*", "Accept: application/*"};
    static const char *const paths[] = {"", "/params", "/params/w", "/state_dict"};
    peer *p = *state;
    float w[] = {1, 2};
    const adamd_tensor t = vector32("w", w, 2);
    file f = file_of(&t, 1, NULL, NULL);
    create(p, "unasked", "{\"params\": {\"w\": [1, 2]}}");
    for (size_t a = 0; a < COUNT(accepts); a++) {
        for (size_t k = 0; k < COUNT(types); k++) {
            char line[64];
            const char *const headers[] = {line, accepts[a], NULL};
            (void)snprintf(line, sizeof line, "Content-Type: %s", types[k]);
            if (k == 0) {
                (void)ask(p, "POST", at("unasked", "/step"), headers, "{\"grads\":{\"w\":[1,2]}}",
                          21);
            } else {
                (void)ask(p, "POST", at("unasked", "/step"), headers, f.bytes, f.length);
            }
            assert_status(p, 200);
            assert_header(p, "Content-Type", k == 0 ? JSON_TYPE : SAFETENSORS_TYPE);
        }
        for (size_t k = 0; k < COUNT(paths); k++) {
            (void)get_with(p, at("unasked", paths[k]), accepts[a]);
            assert_status(p, 200);
            assert_header(p, "Content-Type", JSON_TYPE);
        }
    }
    file_free(&f);
}

/* A client that knows no vendor types gets the same bytes under the name it asked for. */
static void test_octet_stream(void **state)
{
    peer *p = *state;
    float w[2];
    const adamd_tensor t = vector32("w", w, 2);
    create(p, "octets", "{\"params\": {\"w\": [1.5, -2]}}");
    (void)get_with(p, at("octets", "/params"), "Accept: application/octet-stream");
    assert_header(p, "Content-Type", "application/octet-stream");
    take_tensors(p, &t, 1);
    assert_true(w[0] == 1.5F && w[1] == -2);
    (void)get_with(p, at("octets", "/params/w"), "Accept: " SAFETENSORS_TYPE);
    assert_header(p, "Content-Type", SAFETENSORS_TYPE);
    w[0] = w[1] = 0;
    take_tensors(p, &t, 1);
    assert_true(w[0] == 1.5F && w[1] == -2);
}

/* The tensors of a file may come in any order of names and places, at any alignment: names are
 * identity. The reply keeps the order of the request. */
static void test_order_and_alignment(void **state)
{
    static const float data[] = {3, 4, 5, 1, 2}; /* b, then a */
    peer *p = *state;
    create(p, "order", "{\"params\": {\"a\": [1, 2], \"b\": [3, 4, 5]}, \"lr\": 0}");
    for (int shift = 0; shift < 8; shift++) {
        char header[256];
        float a[2] = {0};
        float b[3] = {0};
        const adamd_tensor tensors[] = {vector32("a", a, 2), vector32("b", b, 3)};
        (void)snprintf(header, sizeof header,
                       "{\"a\":{\"data_offsets\":[12,20],\"dtype\":\"F32\",\"shape\":[2]},"
                       "\"b\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}%*s",
                       shift, "");
        file f = file_with(header, data, sizeof data);
        (void)ask_file(p, "POST", at("order", "/step"), NULL, f);
        take_tensors(p, tensors, 2);
        assert_true(a[0] == 1 && a[1] == 2 && b[0] == 3 && b[1] == 4 && b[2] == 5);
        char *text = header_text(p);
        assert_true(strstr(text, "\"a\":{") < strstr(text, "\"b\":{"));
        free(text);
        file_free(&f);
    }
}

/* A large step's reply, and the next reader's, come from one buffer: both are whole. */
static void test_published(void **state)
{
    enum { N = 50000 };
    peer *p = *state;
    float *w = calloc(N, sizeof *w);
    double *v = calloc(N, sizeof *v);
    assert_true(w != NULL && v != NULL);
    const adamd_tensor tensors[] = {vector32("w", w, N), vector64("v", v, N)};
    const adamd_tensor reversed[] = {tensors[1], tensors[0]};
    file f = file_of(tensors, 2, NULL, NULL);
    (void)ask_file(p, "PUT", at("large", ""), NULL, f);
    assert_status(p, 201);
    file_free(&f);
    for (int i = 0; i < N; i++) {
        w[i] = (float)(i % 7) - 3;
        v[i] = (double)(i % 5) - 2;
    }
    f = file_of(reversed, 2, NULL, NULL); /* an order of its own */
    (void)ask_file(p, "POST", at("large", "/step"), NULL, f);
    take_tensors(p, tensors, 2);
    float *w1 = malloc(N * sizeof *w1);
    double *v1 = malloc(N * sizeof *v1);
    assert_true(w1 != NULL && v1 != NULL);
    memcpy(w1, w, N * sizeof *w);
    memcpy(v1, v, N * sizeof *v);
    for (int i = 0; i < 2; i++) { /* from the step's buffer; from a copy, after a change */
        (void)get_with(p, at("large", "/params"), "Accept: " SAFETENSORS_TYPE);
        take_tensors(p, tensors, 2);
        assert_metadata(p, "step", "1");
        assert_memory_equal(w, w1, N * sizeof *w);
        assert_memory_equal(v, v1, N * sizeof *v);
        (void)ask_json(p, "POST", at("large", "/param_groups"), "{\"params\": []}");
        assert_status(p, 201);
    }
    assert_true(w1[0] > 0 && w1[6] < 0 && v1[2] == 0); /* it did step */
    /* a step of a part comes with no copy for readers; they must not get the one before it */
    (void)ask_file(p, "POST", at("large", "/step"), NULL, f);
    take_tensors(p, tensors, 2);
    file part = file_of(&tensors[0], 1, NULL, NULL);
    (void)ask_file(p, "POST", at("large", "/step"), NULL, part);
    take_tensors(p, tensors, 1);
    memcpy(w1, w, N * sizeof *w);
    (void)get_with(p, at("large", "/params"), "Accept: " SAFETENSORS_TYPE);
    take_tensors(p, tensors, 2);
    assert_metadata(p, "step", "3");
    assert_memory_equal(w, w1, N * sizeof *w);
    file_free(&part);
    free(w1);
    free(v1);
    free(w);
    free(v);
    file_free(&f);
}

/* Chosen numbers, out in their shortest digits and in again with the same bits. */
static void test_shortest_digits(void **state)
{
    static const char json[] =
        "{\"name\": \"w\", \"shape\": [15], \"dtype\": \"float32\", \"data\": [0.1, 1, -0.0, 0, "
        "1e-45, "
        "1.1754942e-38, 3.4028235e+38, 16777216, 1e+16, 1234568000000000.0, 0.0001, 1e-05, "
        "\"NaN\", \"Infinity\", \"-Infinity\"]}";
    static const char wide[] =
        "{\"name\": \"d\", \"shape\": [6], \"dtype\": \"float64\", \"data\": [0.1, -0.0, 5e-324, "
        "1.7976931348623157e+308, 9007199254740993, 1e-08]}";
    peer *p = *state;
    char body[1024];
    (void)snprintf(body, sizeof body, "{\"param_groups\": [{\"params\": [%s, %s]}]}", json, wide);
    create(p, "digits", body);
    (void)get(p, at("digits", "/params/w"));
    assert_json(
        p, 200,
        "{\"name\": \"w\", \"shape\": [15], \"dtype\": \"float32\", \"data\": [0.1, 1, -0.0, "
        "0, 1e-45, 1.1754942e-38, 3.4028235e+38, 16777216, 1e+16, 1234568000000000, "
        "0.0001, 1e-05, \"NaN\", \"Infinity\", \"-Infinity\"]}");
    (void)get(p, at("digits", "/params/d"));
    assert_json(p, 200,
                "{\"name\": \"d\", \"shape\": [6], \"dtype\": \"float64\", \"data\": [0.1, -0.0, "
                "5e-324, 1.7976931348623157e+308, 9007199254740992, 1e-08]}");
    float w[15];
    double d[6];
    const adamd_tensor tensors[] = {vector32("w", w, 15), vector64("d", d, 6)};
    (void)get_with(p, at("digits", "/params"), "Accept: " SAFETENSORS_TYPE);
    take_tensors(p, tensors, 2);
    assert_true(w[0] == 0.1F && signbit(w[2]) && !signbit(w[3]) && w[4] == 0x1p-149F);
    assert_true(w[5] == 0x1.fffffcp-127F && w[6] == 0x1.fffffep127F && isnan(w[12]));
    assert_true(w[13] == INFINITY && w[14] == -INFINITY && d[2] == 0x1p-1074);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_forms),           cmocka_unit_test(test_state_dict_round_trip),
        cmocka_unit_test(test_form_unasked),        cmocka_unit_test(test_octet_stream),
        cmocka_unit_test(test_order_and_alignment), cmocka_unit_test(test_published),
        cmocka_unit_test(test_shortest_digits),
    };
    return cmocka_run_group_tests(tests, peer_with_server, peer_and_server_end);
}
