/* test_options.c: hyperparameters, statuses and the choice of kernel. */
#include "support.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static adam_options valid(void)
{
    adam_options options;
    adam_options_default(ADAM_ALGORITHM_ADAM, &options);
    return options;
}

/* torch's defaults; only AdamW decays by itself. */
static void test_defaults(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const adam_algorithm algorithm = i ? ADAM_ALGORITHM_ADAMW : ADAM_ALGORITHM_ADAM;
        adam_options o;
        memset(&o, 0xff, sizeof o);
        adam_options_default(algorithm, &o);
        assert_true(o.lr == 0.001);
        assert_true(o.betas[0] == 0.9 && o.betas[1] == 0.999);
        assert_true(o.eps == 1e-8);
        assert_true(o.weight_decay == (i ? 0.01 : 0.0));
        assert_false(o.amsgrad || o.maximize);
        assert_int_equal(o.foreach, ADAM_FLAG_NONE);
        assert_int_equal(o.fused, ADAM_FLAG_NONE);
        assert_int_equal(adam_options_check(&o, NULL), ADAM_OK);
    }
    assert_string_equal(adam_algorithm_name(ADAM_ALGORITHM_ADAM), "adam");
    assert_string_equal(adam_algorithm_name(ADAM_ALGORITHM_ADAMW), "adamw");
}

static void assert_refused(const adam_options *options, const char *named)
{
    adam_error error;
    memset(&error, 0xff, sizeof error);
    assert_int_equal(adam_options_check(options, &error), ADAM_INVALID_OPTION);
    assert_int_equal(error.status, ADAM_INVALID_OPTION);
    assert_non_null(strstr(error.message, named));
    assert_false(error.has_index || error.has_shapes);
    assert_string_equal(error.param, "");
    assert_int_equal(adam_options_check(options, NULL), ADAM_INVALID_OPTION);
}

/* lr, eps and weight_decay: finite and not negative; the message says which one it is. */
static void test_not_negative(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t offset;
    } fields[] = {
        {"lr", offsetof(adam_options, lr)},
        {"eps", offsetof(adam_options, eps)},
        {"weight_decay", offsetof(adam_options, weight_decay)},
    };
    const double good[] = {0.0, -0.0, 4.9406564584124654e-324, 1.0, DBL_MAX};
    const double bad[] = {-4.9406564584124654e-324, -1.0, INFINITY, -INFINITY, NAN, -NAN};
    for (size_t f = 0; f < COUNT(fields); f++) {
        adam_options o = valid();
        double *field = (double *)(void *)((char *)&o + fields[f].offset);
        for (size_t i = 0; i < COUNT(good); i++) {
            *field = good[i];
            assert_int_equal(adam_options_check(&o, NULL), ADAM_OK);
        }
        for (size_t i = 0; i < COUNT(bad); i++) {
            *field = bad[i];
            assert_refused(&o, fields[f].name);
        }
    }
}

/* Each beta is in [0, 1): at 1 the bias correction would divide by zero. */
static void test_betas(void **state)
{
    (void)state;
    const double good[] = {0.0, -0.0, 0.5, nextafter(1.0, 0.0)};
    const double bad[] = {1.0, nextafter(0.0, -1.0), 1.5, -1.0, INFINITY, -INFINITY, NAN};
    for (int beta = 0; beta < 2; beta++) {
        adam_options o = valid();
        for (size_t i = 0; i < COUNT(good); i++) {
            o.betas[beta] = good[i];
            assert_int_equal(adam_options_check(&o, NULL), ADAM_OK);
        }
        for (size_t i = 0; i < COUNT(bad); i++) {
            o.betas[beta] = bad[i];
            assert_refused(&o, beta ? "betas[1]" : "betas[0]");
        }
    }
}

/* What is checked at creation and at every change is the same check. */
static void test_checked_everywhere(void **state)
{
    (void)state;
    adam_error error;
    adam_optimizer *o = make_small(NULL);
    const image before = image_take(o);
    adam_options bad = valid();
    bad.betas[1] = 1.0;
    assert_int_equal(adam_optimizer_set_options(o, 0, &bad, &error), ADAM_INVALID_OPTION);
    const adam_group_spec spec = {.options = bad};
    assert_int_equal(adam_optimizer_add_group(o, &spec, &error), ADAM_INVALID_OPTION);
    adam_optimizer *none = NULL;
    assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAM, &spec, 1, NULL, &none, &error),
                     ADAM_INVALID_OPTION);
    assert_null(none);
    assert_unchanged(before, o);
    adam_optimizer_free(o);
}

/* set_options replaces one group's options and no other's, and refuses a group that is not there.
 */
static void test_set_options(void **state)
{
    (void)state;
    adam_error error;
    adam_optimizer *o = make_small(NULL);
    adam_options options = valid();
    options.lr = 0.25;
    options.maximize = true;
    options.foreach = ADAM_FLAG_FALSE;
    assert_int_equal(adam_optimizer_set_options(o, 0, &options, &error), ADAM_OK);
    assert_true(adam_optimizer_group(o, 0).options.lr == 0.25);
    assert_true(adam_optimizer_group(o, 0).options.maximize);
    assert_int_equal(adam_optimizer_group(o, 0).options.foreach, ADAM_FLAG_FALSE);
    assert_true(adam_optimizer_group(o, 1).options.lr == 0.1);
    const image before = image_take(o);
    assert_int_equal(adam_optimizer_set_options(o, 2, &options, &error), ADAM_NO_SUCH_GROUP);
    assert_int_equal(adam_optimizer_set_options(o, SIZE_MAX, &options, NULL), ADAM_NO_SUCH_GROUP);
    assert_unchanged(before, o);
    adam_optimizer_free(o);
}

/* Every status has a text of its own, and no number reads out of bounds. */
static void test_status_texts(void **state)
{
    (void)state;
    for (int i = 0; i < ADAM_STATUS_COUNT; i++) {
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(adam_status_text((adam_status)i),
                                    adam_status_text((adam_status)j));
        }
    }
    assert_string_equal(adam_status_text(ADAM_STATUS_COUNT), "unknown status");
    assert_string_equal(adam_status_text((adam_status)1000), "unknown status");
}

/* The kernel in use has a name, and the check agrees with it. */
static void test_kernel(void **state)
{
    (void)state;
    adam_error error;
    const char *wanted = getenv("ADAM_KERNEL");
    const adam_status st = adam_kernel_check(&error);
    if (wanted == NULL || st == ADAM_OK) {
        assert_int_equal(st, ADAM_OK);
        assert_true(strlen(adam_kernel_name()) > 0);
    }
    if (wanted != NULL && st == ADAM_OK) {
        assert_string_equal(adam_kernel_name(), wanted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),    cmocka_unit_test(test_not_negative),
        cmocka_unit_test(test_betas),       cmocka_unit_test(test_checked_everywhere),
        cmocka_unit_test(test_set_options), cmocka_unit_test(test_status_texts),
        cmocka_unit_test(test_kernel),
    };
    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
