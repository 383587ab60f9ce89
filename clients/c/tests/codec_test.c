/* codec_test.c: safetensors and JSON of the client, without a server. */
#include <stdlib.h>
#include <string.h>

#include "../internal.h"
#include "check.h"

/* A file from its header's text and its data's length; the data counts up from 1. */
static unsigned char *make_file(const char *header, size_t data, size_t *length)
{
    size_t n = strlen(header);
    unsigned char *file = malloc(8 + n + data);
    for (int i = 0; i < 8; i++) {
        file[i] = (unsigned char)(n >> (8 * i));
    }
    for (size_t i = 0; i < n + data; i++) {
        file[8 + i] = (unsigned char)(i < n ? header[i] : (char)(i - n + 1));
    }
    *length = 8 + n + data;
    return file;
}

/* Unpacks a file with tensors w, float32 [2], and v, float64 scalar. */
static adamd_status unpack(const char *header, size_t data, adamd_error *error)
{
    float w[2];
    double v[1];
    adamd_tensor tensors[] = {{"w", ADAMD_FLOAT32, 1, {2}, w}, {"v", ADAMD_FLOAT64, 0, {0}, v}};
    size_t length = 0;
    unsigned char *file = make_file(header, data, &length);
    adamd_status status = adamd_safetensors_unpack(file, length, tensors, 2, error);
    free(file);
    return status;
}

#define W "\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
#define V "\"v\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[8,16]}"

static void check_refusals(void)
{
    static const struct {
        const char *header;
        size_t data;
        const char *why; /* part of the message; NULL: accepted */
    } cases[] = {
        {"{" W "," V "}", 16, NULL},
        {"{" V "," W "}   ", 16, NULL},
        {"{\"__metadata__\":{\"a\\u00e9\\ud83d\\ude00\":\"\\\"\\n\"}," W "," V "}", 16, NULL},
        {"{\"v\":{\"data_offsets\":[0,8],\"dtype\":\"F64\",\"shape\":[]},"
         "\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
         16, NULL},
        {"{" W "}", 8, "'v' is missing"},
        {"{" W "," V "}", 15, "ended after 15 of 16"},
        {"{" W "," V "}", 17, "more data than the 16"},
        {"{" W "," W "," V "}", 16, "'w' came twice"},
        {"{" W "," V ",\"x\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[16,16]}}", 16,
         "'x' came though it was not asked for"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}," V "}", 16,
         "is float32 [1, 2], expected float32 [2]"},
        {"{\"w\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}," V "}", 16,
         "is float64 [1], expected float32 [2]"},
        {"{\"w\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8]}," V "}", 16,
         "expected dtype F32, F64, BF16 or F16"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}," V "}", 16,
         "as far apart as"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}," V "}", 16,
         "as far apart as"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}," V "}", 16,
         "begins at byte 8 of the data, expected"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}," V "}", 16,
         "begins at byte 4 of the data, expected 0"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}," V "}", 16,
         "expected a whole number"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}," V "}", 16,
         "expected a whole number"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[02],\"data_offsets\":[0,8]}," V "}", 16,
         "expected a whole number"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[18446744073709551616],\"data_offsets\":[0,8]}," V
         "}",
         16, "below 2^64"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}," V
         "}",
         16, "at most 2^53"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]}," V "}",
         16, "at most 8 dimensions"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}," V "}", 16,
         "expected two offsets"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2]}," V "}", 16, "once each"},
        {"{\"w\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}," V "}",
         16, "once each"},
        {"{" W "," V "} x", 16, "expected the end of the text"},
        {"{" W "," V ",}", 16, "expected a string"},
        {"{" W "," V, 16, "expected ',' or '}'"},
        {" {" W "," V "}", 16, "'{' as the first byte"},
        {"[]", 0, "'{' as the first byte"},
        {"{\"\\ud800\":1}", 0, "second half of a surrogate pair"},
        {"{\"\\u0000\":1}", 0, "without NUL"},
        {"{\"a\nb\":1}", 0, "expected the end of a string"},
        {"{\"\\x\":1}", 0, "after a backslash"},
        {"{\"__metadata__\":{\"a\":1}," W "," V "}", 16, "expected a string"},
        {"{\"__metadata__\":{\"step\":\"x\"}," W "," V "}", 16, "expected a count"},
        {"{\"__metadata__\":{\"converted\":\"-1\"}," W "," V "}", 16, "'converted' is '-1'"},
        {"{\"__metadata__\":{\"skipped\":\"yes\"}," W "," V "}", 16, "expected true or false"},
        {"{\"__metadata__\":{\"param_groups\":\"[{}]\",\"later\":\"x\"}," W "," V "}", 16, NULL},
        {"{\"w\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}," V "}", 12,
         "is bfloat16 [2], expected float32 [2]"},
        {"{\"w\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,8]}," V "}", 16,
         "as far apart as"},
        {"{\"__metadata__\":{\"grad_norm\":\"1,5\"}," W "," V "}", 16, "expected a number"},
        {"{\"__metadata__\":{},\"__metadata__\":{}," W "," V "}", 16, "__metadata__ once"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        adamd_error error = {0};
        adamd_status status = unpack(cases[i].header, cases[i].data, &error);
        bool good = cases[i].why == NULL
                        ? status == ADAMD_OK
                        : status == ADAMD_BAD_REPLY && strstr(error.message, cases[i].why) != NULL;
        if (!good) {
            (void)fprintf(stderr, "case %zu: %s\n  gave: %s\n", i, cases[i].header, error.message);
            check_failures++;
        }
    }
}

/* What was packed comes back, in portions of every size, by a reader that has another order. */
static void check_round_trip(void)
{
    float a[6] = {1, 2, 3, 4, 5, 6};
    double b[3] = {-1, 0.5, 1e300};
    float c[1] = {7};
    uint16_t h[3] = {0x3f80, 0xc000, 0x7fff};
    adamd_tensor out[] = {{"a \"quoted\" \\ \x01 \xC3\xA9", ADAMD_FLOAT32, 2, {2, 3}, a},
                          {"b", ADAMD_FLOAT64, 1, {3}, b},
                          {"empty", ADAMD_FLOAT64, 2, {0, 5}, NULL},
                          {"c", ADAMD_FLOAT32, 0, {0}, c},
                          {"bf", ADAMD_BFLOAT16, 1, {3}, h},
                          {"half", ADAMD_FLOAT16, 1, {1}, h}};
    adamd_metadata metadata[] = {{"step", "12"},
                                 {"grad_norm", "Infinity"},
                                 {"k", "\"\t"},
                                 {"skipped", "true"},
                                 {"converted", "3"}};
    unsigned char *file = NULL;
    size_t length = 0;
    adamd_error error;
    CHECK_STATUS(adamd_safetensors_pack(out, 6, metadata, 5, &file, &length, &error), ADAMD_OK,
                 &error);
    size_t data = 6 * 4 + 3 * 8 + 4 + 3 * 2 + 2;
    CHECK(file != NULL && (length - data) % 64 == 0);
    CHECK(same_bytes(file + length - data, b, sizeof b)); /* the widest first */
    CHECK(same_bytes(file + length - 2, h, 2));
    char value[8];
    CHECK(adamd_safetensors_metadata(file, length, "k", value, sizeof value) &&
          strcmp(value, "\"\t") == 0);
    CHECK(!adamd_safetensors_metadata(file, length, "none", value, sizeof value));
    CHECK(!adamd_safetensors_metadata(file, length, "grad_norm", value, sizeof value));
    locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    for (size_t portion = 1; portion <= length; portion += portion < 70 ? 1 : 61) {
        float a2[6] = {0};
        double b2[3] = {0};
        float c2[1] = {0};
        uint16_t h2[3] = {0};
        uint16_t h3[1] = {0};
        adamd_tensor in[] = {out[2], out[3], out[1], out[0], out[5], out[4]};
        in[4].data = h3;
        in[5].data = h2;
        in[1].data = c2;
        in[2].data = b2;
        in[3].data = a2;
        adamdc_scatter scatter;
        CHECK_STATUS(adamdc_scatter_begin(&scatter, in, 6, false, c_locale, &error), ADAMD_OK,
                     &error);
        for (size_t at = 0; at < length; at += portion) {
            size_t n = length - at < portion ? length - at : portion;
            CHECK_STATUS(adamdc_scatter_feed(&scatter, file + at, n, &error), ADAMD_OK, &error);
        }
        CHECK_STATUS(adamdc_scatter_finish(&scatter, &error), ADAMD_OK, &error);
        CHECK(same_bytes(a, a2, sizeof a) && same_bytes(b, b2, sizeof b) && c[0] == c2[0]);
        CHECK(scatter.stats.has_step && scatter.stats.step == 12 &&
              scatter.stats.grad_norm > 1e308);
        CHECK(scatter.stats.skipped && scatter.stats.converted == 3);
        CHECK(same_bytes(h, h2, sizeof h) && h3[0] == h[0]);
        adamdc_scatter_end(&scatter);
    }
    for (size_t cut = 0; cut < length; cut++) {
        CHECK(adamd_safetensors_unpack(file, cut, out, 6, &error) == ADAMD_BAD_REPLY);
    }
    freelocale(c_locale);
    free(file);
}

static void check_arguments(void)
{
    float w[2] = {0};
    unsigned char *file = NULL;
    size_t length = 0;
    adamd_error error;
    adamd_tensor wrong[] = {
        {NULL, ADAMD_FLOAT32, 1, {2}, w},   {"w", (adamd_dtype)7, 1, {2}, w},
        {"w", ADAMD_FLOAT32, 9, {2}, w},    {"w", ADAMD_FLOAT32, -1, {2}, w},
        {"w", ADAMD_FLOAT32, 1, {2}, NULL}, {"w", ADAMD_FLOAT32, 2, {UINT64_MAX, 2}, w},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK_STATUS(adamd_safetensors_pack(&wrong[i], 1, NULL, 0, &file, &length, &error),
                     ADAMD_INVALID_ARGUMENT, &error);
    }
    adamd_tensor twice[] = {{"w", ADAMD_FLOAT32, 1, {2}, w}, {"w", ADAMD_FLOAT32, 1, {2}, w}};
    CHECK_STATUS(adamd_safetensors_unpack("", 0, twice, 2, &error), ADAMD_INVALID_ARGUMENT, &error);
    char path[16] = "/p/";
    CHECK(adamd_path_append(path, sizeof path, "a/b.c") && strcmp(path, "/p/a%2Fb.c") == 0);
    CHECK(!adamd_path_append(path, sizeof path, "/////") && strcmp(path, "/p/a%2Fb.c") == 0);
    path[3] = '\0';
    CHECK(adamd_path_append(path, sizeof path, "..") && strcmp(path, "/p/%2E%2E") == 0);
}

static void check_problem(void)
{
    static const char text[] =
        "{\"status\":422,\"got_shape\":[1,[2,{\"a\":[]}],\"x]\\\"\"],\"n\":null,"
        "\"type\":\"urn:adamd:problem:shape-mismatch\",\"x\":{},\"detail\":\"no \\\"w\\\"\"}";
    adamd_error error;
    CHECK(adamdc_error_refused(&error, "POST /x", 422, -1, text, strlen(text)) == ADAMD_REFUSED);
    CHECK(strcmp(error.type, "urn:adamd:problem:shape-mismatch") == 0);
    CHECK(strcmp(error.detail, "no \"w\"") == 0);
    CHECK(strcmp(error.body, text) == 0);
    CHECK(strcmp(error.message, "POST /x: 422: no \"w\"") == 0);
    for (size_t cut = 0; cut < strlen(text); cut++) { /* and reads nothing behind its end */
        char *part = malloc(cut + 1);
        memcpy(part, text, cut);
        CHECK(adamdc_error_refused(&error, "", 500, -1, part, cut) == ADAMD_REFUSED);
        free(part);
    }
}

int main(void)
{
    check_refusals();
    check_round_trip();
    check_arguments();
    check_problem();
    return check_failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
