/* budget.h: what a test of the server's codecs and records needs: a memory budget and a buffer pool
 * on it, all of which must have come back at the end. Include it after cmocka.h, with BUDGET_BYTES
 * defined. */
#ifndef TESTS_BUDGET_H
#define TESTS_BUDGET_H

#include <stdlib.h>

#include "buffer.h"
#include "codec_json.h"

typedef struct fixture {
    memory *memory;
    buffer_pool *pool;
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->memory = memory_create(BUDGET_BYTES);
    f->pool = buffer_pool_create(f->memory);
    assert_true(f->memory != NULL && f->pool != NULL);
    json_init();
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    buffer_pool_free(f->pool);
    assert_int_equal(memory_used(f->memory), 0);
    memory_free(f->memory);
    free(f);
    return 0;
}

#endif
