/* test_training.c: how gradients are gathered, in JSON: read with its defaults, merged over what is
 * there, printed whole, refused with what was expected. */
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

#include "codec_training.h"

#define BUDGET_BYTES ((size_t)4 << 20)
#include "budget.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

#define SYNC3 "{\"mode\": \"sync\", \"workers\": 3}"
#define SYNC3_SHOWN                                                                           \
    "{\"mode\": \"sync\", \"workers\": 3, \"quorum\": 3, \"timeout_ms\": 60000, \"reduce\": " \
    "\"mean\", \"elastic\": false, \"strict\": false}"

static codec_status read_text(fixture *f, const char *json, training *how, codec_error *error)
{
    json_doc *doc = NULL;
    if (json_parse(f->pool, json, strlen(json), &doc, error) != CODEC_OK) {
        fail_msg("%s: %s", json, error->message);
    }
    const codec_status st = training_read(doc, json_root(doc), "the body", how, error);
    json_free(doc);
    return st;
}

/* Reads an aggregation over `how`; "" for none. */
static codec_status read_aggregation(fixture *f, const char *json, training *how,
                                     codec_error *error)
{
    char body[512];
    (void)snprintf(body, sizeof body, "{%s%s}", json[0] != '\0' ? "\"aggregation\": " : "", json);
    return read_text(f, body, how, error);
}

static void assert_shown(fixture *f, const training *how, size_t setting, const char *expected)
{
    text t = {.pool = f->pool};
    training_add_value(&t, how, setting);
    text_add(&t, "", 1);
    assert_false(t.failed);
    assert_string_equal(t.buffer->data, expected);
    text_drop(&t);
}

static void assert_merged(fixture *f, const char *before, const char *patch, const char *after)
{
    training how = {0};
    codec_error error;
    if (read_aggregation(f, before, &how, &error) != CODEC_OK ||
        read_aggregation(f, patch, &how, &error) != CODEC_OK) {
        fail_msg("%s, %s: %s", before, patch, error.message);
    }
    assert_shown(f, &how, 0, after);
    training again = {0};
    assert_int_equal(read_aggregation(f, after, &again, &error), CODEC_OK);
    assert_true(aggregation_same(&how.aggregation, &again.aggregation));
}

static void test_defaults(void **state)
{
    training how = {0};
    codec_error error;
    assert_int_equal(read_text(*state, "{}", &how, &error), CODEC_OK);
    text t = {.pool = ((fixture *)*state)->pool};
    training_add(&t, &how);
    text_add(&t, "", 1);
    assert_string_equal(t.buffer->data,
                        "\"aggregation\": {\"mode\": \"immediate\"}, \"input\": \"gradients\", "
                        "\"max_consecutive_nonfinite\": null");
    text_drop(&t);
}

static void test_modes(void **state)
{
    static const char *const pairs[][2] = {
        {"null", "{\"mode\": \"immediate\"}"},
        {"{}", "{\"mode\": \"immediate\"}"},
        {"{\"mode\": \"immediate\"}", "{\"mode\": \"immediate\"}"},
        {SYNC3, SYNC3_SHOWN},
        {"{\"mode\": \"sync\", \"workers\": 10000, \"quorum\": 1, \"timeout_ms\": 3600000, "
         "\"reduce\": \"weighted\", \"elastic\": true, \"strict\": true}",
         "{\"mode\": \"sync\", \"workers\": 10000, \"quorum\": 1, \"timeout_ms\": 3600000, "
         "\"reduce\": \"weighted\", \"elastic\": true, \"strict\": true}"},
        {"{\"size\": 10000, \"mode\": \"buffered\", \"reduce\": \"sum\"}",
         "{\"mode\": \"buffered\", \"size\": 10000, \"reduce\": \"sum\", \"strict\": false}"},
        {"{\"mode\": \"async\", \"max_staleness\": 0}",
         "{\"mode\": \"async\", \"max_staleness\": 0, \"damping\": \"none\"}"},
        {"{\"mode\": \"async\", \"max_staleness\": 9007199254740992, \"damping\": \"inverse\"}",
         "{\"mode\": \"async\", \"max_staleness\": 9007199254740992, \"damping\": \"inverse\"}"},
    };
    for (size_t i = 0; i < COUNT(pairs); i++) {
        assert_merged(*state, "", pairs[i][0], pairs[i][1]);
    }
}

/* A merge patch: within the mode what is not named stays, null is the default; another mode begins
 * anew. */
static void test_merge(void **state)
{
    static const char *const triples[][3] = {
        {SYNC3, "{}", SYNC3_SHOWN},
        {SYNC3, "{\"mode\": \"sync\"}", SYNC3_SHOWN},
        {SYNC3, "null", "{\"mode\": \"immediate\"}"},
        {SYNC3, "{\"mode\": \"immediate\"}", "{\"mode\": \"immediate\"}"},
        {SYNC3, "{\"quorum\": 2}",
         "{\"mode\": \"sync\", \"workers\": 3, \"quorum\": 2, \"timeout_ms\": 60000, \"reduce\": "
         "\"mean\", \"elastic\": false, \"strict\": false}"},
        {"{\"mode\": \"sync\", \"workers\": 3, \"quorum\": 2, \"timeout_ms\": 5}",
         "{\"quorum\": null, \"timeout_ms\": null}", SYNC3_SHOWN},
        {"{\"mode\": \"sync\", \"workers\": 3, \"strict\": true, \"reduce\": \"sum\"}",
         "{\"mode\": \"buffered\", \"size\": 2}",
         "{\"mode\": \"buffered\", \"size\": 2, \"reduce\": \"mean\", \"strict\": false}"},
        {"{\"mode\": \"async\", \"max_staleness\": 4, \"damping\": \"inverse\"}",
         "{\"max_staleness\": 5}",
         "{\"mode\": \"async\", \"max_staleness\": 5, \"damping\": \"inverse\"}"},
        {"{\"mode\": \"async\", \"max_staleness\": 4}", "{\"damping\": \"inverse\"}",
         "{\"mode\": \"async\", \"max_staleness\": 4, \"damping\": \"inverse\"}"},
        {"{\"mode\": \"sync\", \"workers\": 3, \"strict\": true, \"elastic\": true, \"reduce\": "
         "\"sum\"}",
         "{\"strict\": null, \"elastic\": null, \"reduce\": null}", SYNC3_SHOWN},
        {"{\"mode\": \"async\", \"max_staleness\": 4, \"damping\": \"inverse\"}",
         "{\"damping\": null}",
         "{\"mode\": \"async\", \"max_staleness\": 4, \"damping\": \"none\"}"},
    };
    for (size_t i = 0; i < COUNT(triples); i++) {
        assert_merged(*state, triples[i][0], triples[i][1], triples[i][2]);
    }
}

typedef struct bad {
    const char *before, *json;
    codec_status status;
} bad;

static void test_bad(void **state)
{
    static const bad table[] = {
        {"", "1", CODEC_INVALID_VALUE},
        {"", "\"sync\"", CODEC_INVALID_VALUE},
        {"", "[]", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"Sync\"}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": 1}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"sync\"}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"buffered\"}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"async\"}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"async\", \"max_staleness\": null}", CODEC_INVALID_VALUE},
        {"", "{\"workers\": 3}", CODEC_UNKNOWN_FIELD},
        {"", "{\"mode\": \"immediate\", \"workers\": 3}", CODEC_UNKNOWN_FIELD},
        {"", "{\"mode\": \"sync\", \"workers\": 3, \"size\": 3}", CODEC_UNKNOWN_FIELD},
        {"", "{\"mode\": \"sync\", \"workers\": 3, \"max_staleness\": 3}", CODEC_UNKNOWN_FIELD},
        {"", "{\"mode\": \"buffered\", \"size\": 3, \"timeout_ms\": 3}", CODEC_UNKNOWN_FIELD},
        {"", "{\"mode\": \"buffered\", \"size\": 3, \"elastic\": true}", CODEC_UNKNOWN_FIELD},
        {"", "{\"mode\": \"async\", \"max_staleness\": 3, \"reduce\": \"sum\"}",
         CODEC_UNKNOWN_FIELD},
        {"", "{\"mode\": \"async\", \"max_staleness\": 3, \"Damping\": \"none\"}",
         CODEC_UNKNOWN_FIELD},
        {"", "{\"mode\": \"sync\", \"workers\": 0}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"sync\", \"workers\": 10001}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"sync\", \"workers\": -1}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"sync\", \"workers\": 1.5}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"sync\", \"workers\": \"3\"}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"sync\", \"workers\": null}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"sync\", \"workers\": 3, \"quorum\": 4}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"sync\", \"workers\": 3, \"quorum\": 0}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"sync\", \"workers\": 3, \"timeout_ms\": 0}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"sync\", \"workers\": 3, \"timeout_ms\": 3600001}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"sync\", \"workers\": 3, \"reduce\": \"median\"}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"sync\", \"workers\": 3, \"elastic\": 1}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"sync\", \"workers\": 3, \"strict\": \"true\"}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"buffered\", \"size\": 0}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"buffered\", \"size\": 10001}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"async\", \"max_staleness\": -1}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"async\", \"max_staleness\": 9007199254740993}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"async\", \"max_staleness\": \"NaN\"}", CODEC_INVALID_VALUE},
        {"", "{\"mode\": \"async\", \"max_staleness\": 3, \"damping\": true}", CODEC_INVALID_VALUE},
        {SYNC3, "{\"size\": 3}", CODEC_UNKNOWN_FIELD},
        {SYNC3, "{\"quorum\": 4}", CODEC_INVALID_VALUE},
        {SYNC3, "{\"workers\": null}", CODEC_INVALID_VALUE},
        {SYNC3, "{\"mode\": \"buffered\"}", CODEC_INVALID_VALUE},
        {SYNC3, "{\"mode\": \"buffered\", \"size\": 2, \"workers\": 3}", CODEC_UNKNOWN_FIELD},
        {"{\"mode\": \"async\", \"max_staleness\": 4}", "{\"max_staleness\": null}",
         CODEC_INVALID_VALUE},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        training how = {0};
        codec_error error = {0};
        assert_int_equal(read_aggregation(*state, table[i].before, &how, &error), CODEC_OK);
        const codec_status st = read_aggregation(*state, table[i].json, &how, &error);
        if (st != table[i].status || error.message[0] == '\0') {
            fail_msg("%s over '%s': status %d, '%s'", table[i].json, table[i].before, (int)st,
                     error.message);
        }
    }
}

static void test_others(void **state)
{
    static const char *const good[][3] = {
        {"{\"input\": \"weights\"}", "\"weights\"", "null"},
        {"{\"input\": \"gradients\"}", "\"gradients\"", "null"},
        {"{\"input\": null, \"max_consecutive_nonfinite\": 1}", "\"gradients\"", "1"},
        {"{\"max_consecutive_nonfinite\": 1000000}", "\"gradients\"", "1000000"},
        {"{\"max_consecutive_nonfinite\": null}", "\"gradients\"", "null"},
    };
    static const char *const wrong[] = {
        "{\"input\": \"grads\"}",
        "{\"input\": true}",
        "{\"input\": []}",
        "{\"max_consecutive_nonfinite\": 0}",
        "{\"max_consecutive_nonfinite\": 1000001}",
        "{\"max_consecutive_nonfinite\": -1}",
        "{\"max_consecutive_nonfinite\": 0.5}",
        "{\"max_consecutive_nonfinite\": \"1\"}",
        "{\"max_consecutive_nonfinite\": false}",
    };
    codec_error error;
    training how = {.weights = true};
    for (size_t i = 0; i < COUNT(good); i++) {
        how.weights = i == 2;
        assert_int_equal(read_text(*state, good[i][0], &how, &error), CODEC_OK);
        assert_shown(*state, &how, 1, good[i][1]);
        assert_shown(*state, &how, 2, good[i][2]);
    }
    for (size_t i = 0; i < COUNT(wrong); i++) {
        error.message[0] = '\0';
        if (read_text(*state, wrong[i], &how, &error) != CODEC_INVALID_VALUE) {
            fail_msg("%s is taken", wrong[i]);
        }
        assert_true(error.message[0] != '\0');
    }
    assert_string_equal(training_name(2), "max_consecutive_nonfinite");
    assert_null(training_name(3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_modes),
        cmocka_unit_test(test_merge),    cmocka_unit_test(test_bad),
        cmocka_unit_test(test_others),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
