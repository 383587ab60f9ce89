/* test_kernel_choice.c: ADAM_KERNEL with a name that no kernel has. A program of its own, since the
 * choice is made once. */
#include "support.h"

#include <stdlib.h>
#include <string.h>

/* A misspelt kernel is refused, with what there is, and never quietly replaced by another one: a
 * person who measures or compares must not be told wrong. */
static void test_unknown_kernel(void **state)
{
    (void)state;
    adam_error error;
    adam_optimizer *o = NULL;
    const adam_group_spec group = {.options = {.lr = 0.1}};
    assert_int_equal(adam_kernel_check(&error), ADAM_UNSUPPORTED_OPTION);
    assert_non_null(strstr(error.message, "'sclar'"));
    assert_non_null(strstr(error.message, "scalar"));
    assert_int_equal(adam_kernel_check(NULL), ADAM_UNSUPPORTED_OPTION);
    assert_int_equal(adam_optimizer_create(ADAM_ALGORITHM_ADAM, &group, 1, NULL, &o, &error),
                     ADAM_UNSUPPORTED_OPTION);
    assert_null(o);
    assert_string_equal(adam_kernel_name(), "scalar"); /* still something that runs */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_unknown_kernel)};
    if (setenv("ADAM_KERNEL", "sclar", 1) != 0) {
        return 1;
    }
    return cmocka_run_group_tests_name("kernel_choice", tests, NULL, NULL);
}
