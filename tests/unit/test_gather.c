/* test_gather.c: adam_gather: the whole is the pieces in order, whatever their sizes and however
 * many threads. */
#include <stdlib.h>
#include <string.h>

#include "support.h"

static void gather_and_compare(size_t n, size_t largest, adam_pool *pool)
{
    adam_piece *pieces = calloc(n + 1, sizeof *pieces);
    size_t bytes = 0;
    assert_non_null(pieces);
    for (size_t i = 0; i < n; i++) { /* some of them empty */
        pieces[i].at = bytes;
        pieces[i].bytes = i % 3 == 1 ? 0 : (size_t)rand() % (largest + 1);
        bytes += pieces[i].bytes;
    }
    char *from = malloc(bytes + 1);
    char *to = malloc(bytes + 1);
    assert_true(from != NULL && to != NULL);
    for (size_t i = 0; i < bytes; i++) {
        from[i] = (char)rand();
    }
    for (size_t i = 0; i < n; i++) {
        pieces[i].from = from + pieces[i].at;
    }
    memset(to, 0, bytes + 1);
    to[bytes] = 77;
    adam_gather(to, pieces, n, pool);
    assert_memory_equal(to, from, bytes);
    assert_int_equal(to[bytes], 77);
    free(to);
    free(from);
    free(pieces);
}

static void test_gather(void **state)
{
    (void)state;
    adam_pool *pools[3] = {NULL};
    assert_int_equal(adam_pool_create(2, &pools[1]), ADAM_OK);
    assert_int_equal(adam_pool_create(5, &pools[2]), ADAM_OK);
    srand(3);
    for (size_t i = 0; i < COUNT(pools); i++) {
        gather_and_compare(0, 0, pools[i]);
        gather_and_compare(5, 0, pools[i]);
        gather_and_compare(1, 100, pools[i]);
        gather_and_compare(1000, 300, pools[i]);
        gather_and_compare(1, (size_t)20 << 20, pools[i]);
        gather_and_compare(12, (size_t)3 << 20, pools[i]);
        adam_pool_free(pools[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gather)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
