/* snapshots.h: what the tests of snapshots share: a directory of their own, and writing and reading
 * in it. Include it after budget.h. */
#ifndef TESTS_SNAPSHOTS_H
#define TESTS_SNAPSHOTS_H

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot.h"
#include "state_digest.h"

static char data_dir[64];

static void make_data_dir(void)
{
    strcpy(data_dir, "/tmp/adamd-snapshots-XXXXXX");
    assert_non_null(mkdtemp(data_dir));
}

static void remove_data_dir(void)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", data_dir);
    assert_int_equal(system(command), 0);
}

/* Of another optimizer each time. */
static snapshot_source source_of(const adam_optimizer *o, const adam_options *defaults,
                                 const training *how)
{
    static uint64_t last_id = UINT64_C(0xfedcba9876543210);
    return (snapshot_source){.name = "mlp.v-1_x",
                             .id = ++last_id,
                             .epoch = UINT64_C(0x8000000000000001),
                             .lsn = UINT64_C(0x40000000000040),
                             .optimizer = o,
                             .defaults = defaults,
                             .how = how};
}

static const adam_options plain_defaults = {.lr = 0.5, .betas = {0.9, 0.999}, .eps = 1e-8};
static const training plain_training = {.weights = false};

/* For tests of other things. */
static snapshot_source plain_source(const adam_optimizer *o)
{
    return source_of(o, &plain_defaults, &plain_training);
}

/* Begins, copies and writes. */
static snapshot_status take(const fixture *f, const snapshot_source *from, adam_pool *threads,
                            snapshot_error *error)
{
    snapshot *s = NULL;
    snapshot_status st = snapshot_begin(f->pool, adam_optimizer_bytes(from->optimizer), &s, error);
    if (st == SNAPSHOT_OK) {
        st = snapshot_copy(s, from, threads, error);
    }
    if (st == SNAPSHOT_OK) {
        st = snapshot_write(s, data_dir, error);
    }
    snapshot_drop(s);
    return st;
}

static snapshot_settings settings_of(const fixture *f)
{
    return (snapshot_settings){
        .pool = f->pool, .max_keys = 10000, .key_ttl = 3600, .worker_ttl = 3600};
}

static const char *path_of(const snapshot_source *from)
{
    static char path[512];
    snapshot_entry e = {.id = from->id, .lsn = from->lsn};
    strcpy(e.name, from->name);
    assert_true(snapshot_path(data_dir, &e, path, sizeof path));
    return path;
}

/* Reads what was taken, which must be possible. */
static snapshot_content restore(const fixture *f, const snapshot_source *from)
{
    snapshot_error error = {""};
    snapshot_content c;
    const snapshot_settings settings = settings_of(f);
    const snapshot_status st = snapshot_read(path_of(from), &settings, &c, &error);
    assert_string_equal(error.message, "");
    assert_int_equal(st, SNAPSHOT_OK);
    return c;
}

static void assert_same_digest(const adam_optimizer *a, const adam_optimizer *b)
{
    char x[STATE_DIGEST_SIZE];
    char y[STATE_DIGEST_SIZE];
    assert_true(state_digest(a, x) && state_digest(b, y));
    assert_string_equal(x, y);
}

static int begin(void **state)
{
    make_data_dir();
    return setup(state);
}

static int end(void **state)
{
    remove_data_dir();
    return teardown(state);
}

#endif
