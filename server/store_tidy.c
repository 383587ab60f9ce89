/* store_tidy.c: the thread of the store: fulfils wishes for snapshots, drops what nobody needs of
 * the journal, and removes the files of those who were removed. */
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"

#define TICK_MS 1000

/* Calls `look` for each optimizer. */
void store_each(store *s, void (*look)(store *s, instance *inst, void *context), void *context)
{
    instance *page[64];
    char after[REGISTRY_MAX_NAME + 1] = "";
    bool more = true;
    while (more) {
        const size_t n = registry_page(s->with.registry, "", after, 64, page, &more);
        for (size_t i = 0; i < n; i++) {
            strcpy(after, page[i]->name);
            look(s, page[i], context);
            instance_drop(page[i]);
        }
    }
}

static void lower_limit(store *s, instance *inst, void *context)
{
    (void)s;
    uint64_t *limit = context;
    const uint64_t needed = atomic_load(&inst->kept.needed);
    *limit = needed < *limit ? needed : *limit;
}

static void wish_where_pinned(store *s, instance *inst, void *context)
{
    const uint64_t *limit = context;
    const uint64_t needed = atomic_load(&inst->kept.needed);
    /* the first one has to get older, but what a round holds stays where it is */
    if (needed < *limit &&
        (atomic_load(&inst->kept.snapshot) < *limit || atomic_load(&inst->kept.needs) > needed)) {
        store_wish_for(s, inst);
    }
}

void store_wish_where_changed(store *s, instance *inst, void *context)
{
    (void)context;
    if (store_keeps_log(s) ? atomic_load(&inst->kept.last) > atomic_load(&inst->kept.snapshot)
                           : instance_info(inst).step != atomic_load(&inst->kept.snapshot_step)) {
        store_wish_for(s, inst);
    }
}

static void sync_directory(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        (void)close(fd);
    }
}

static void remove_files(store *s, const forgotten *f)
{
    snapshot_list files = {0};
    snapshot_error error;
    char path[4096];
    pthread_mutex_lock(&s->writing); /* another of that name may be writing its first */
    if (snapshot_list_read(store_dir(s), f->name, &files, &error) != SNAPSHOT_OK) {
        log_write(LOG_WARN, "%s", error.message);
    }
    for (size_t i = 0; i < files.n; i++) {
        if (files.entries[i].id == f->id &&
            snapshot_path(store_dir(s), &files.entries[i], path, sizeof path)) {
            (void)unlink(path);
        }
    }
    snapshot_list_drop(&files);
    (void)snprintf(path, sizeof path, "%s/snapshots/%s", store_dir(s), f->name);
    if (rmdir(path) != 0) { /* another has the name by now */
        sync_directory(path);
    }
    (void)snprintf(path, sizeof path, "%s/snapshots", store_dir(s));
    sync_directory(path);
    pthread_mutex_unlock(&s->writing);
}

void store_remove_files(store *s, const char *name, uint64_t id)
{
    forgotten f = {.id = id};
    strcpy(f.name, name);
    remove_files(s, &f);
}

/* Removes the files of those whose removal is on disk. */
void store_remove_forgotten(store *s, bool all)
{
    pthread_mutex_lock(&s->mutex);
    forgotten *left = s->forgotten;
    s->forgotten = NULL;
    pthread_mutex_unlock(&s->mutex);
    for (forgotten *f = left, *next; f != NULL; f = next) {
        next = f->next;
        if (all || s->journal == NULL || s->with.config->fsync == CONFIG_NEVER ||
            journal_durable(s->journal) >= f->lsn) {
            remove_files(s, f);
            free(f);
        } else {
            pthread_mutex_lock(&s->mutex);
            f->next = s->forgotten;
            s->forgotten = f;
            pthread_mutex_unlock(&s->mutex);
        }
    }
}

void store_forget_files(store *s, const char *name, uint64_t id, uint64_t lsn)
{
    forgotten *f = malloc(sizeof *f);
    if (f == NULL) {
        log_write(LOG_WARN, "no memory to remove the snapshots of %s", name);
        return; /* the next start does it */
    }
    f->id = id;
    f->lsn = lsn;
    strcpy(f->name, name);
    pthread_mutex_lock(&s->mutex);
    f->next = s->forgotten;
    s->forgotten = f;
    pthread_mutex_unlock(&s->mutex);
}

void store_forget(store *s, instance *inst)
{
    store_forget_files(s, inst->name, inst->kept.id, atomic_load(&inst->kept.last));
}

void store_created(store *s, instance *inst)
{
    if (!store_keeps_log(s)) {
        store_wish_for(s, inst);
    }
}

void store_wish_for_all(store *s, instance *inst, void *context)
{
    (void)context;
    store_wish_for(s, inst);
}

/* The journal has to say that an optimizer was removed for as long as it has files. */
static uint64_t first_removal(store *s, uint64_t limit)
{
    pthread_mutex_lock(&s->mutex);
    for (const forgotten *f = s->forgotten; f != NULL; f = f->next) {
        limit = f->lsn > 0 && f->lsn - 1 < limit ? f->lsn - 1 : limit;
    }
    pthread_mutex_unlock(&s->mutex);
    return limit;
}

void store_read(store *s, bool begins)
{
    pthread_mutex_lock(&s->dropping);
    s->readers += begins ? 1 : (size_t)-1;
    pthread_mutex_unlock(&s->dropping);
}

static void drop_before(store *s, uint64_t limit)
{
    pthread_mutex_lock(&s->dropping);
    if (s->readers == 0) {
        journal_drop_before(s->journal, limit);
    }
    pthread_mutex_unlock(&s->dropping);
}

/* Says in the log where the journal fails, and where it has space again. */
static void tell_health(store *s)
{
    const journal_status now = store_health(s);
    if (now == s->said) {
        return;
    }
    s->said = now;
    if (now == JOURNAL_FAILED) {
        log_write(LOG_ERROR,
                  "%s: nothing is kept any more, and changes are refused until the next "
                  "start",
                  journal_failure(s->journal));
    } else if (now == JOURNAL_NO_SPACE) {
        log_write(LOG_WARN, "no space left in %s: changes are refused until there is",
                  store_dir(s));
    } else {
        log_write(LOG_INFO, "there is space again in %s", store_dir(s));
    }
}

/* Drops what nobody needs, and has snapshots made where the journal is too long, or time is up. */
static void look_around(store *s, int64_t now)
{
    const config *c = s->with.config;
    tell_health(s);
    store_remove_forgotten(s, false);
    if (s->journal != NULL) {
        uint64_t limit = first_removal(s, journal_end(s->journal));
        uint64_t pins = limit > c->journal_size / 2 ? limit - c->journal_size / 2 : 0;
        store_each(s, lower_limit, &limit);
        drop_before(s, limit);
        if (journal_end(s->journal) - journal_first(s->journal) > c->journal_size) {
            store_each(s, wish_where_pinned, &pins);
        }
    }
    if (c->snapshot_interval > 0 &&
        now - s->last_interval >= (int64_t)c->snapshot_interval * 1000) {
        s->last_interval = now;
        store_each(s, store_wish_where_changed, NULL);
    }
    s->last_look = now;
}

/* Waits for a wish, or for the time to look around; under the mutex. */
static store_wish *next_wish(store *s)
{
    const int64_t due = s->last_look + TICK_MS;
    while (s->first == NULL && !s->stopping && clock_ms() < due) {
        const struct timespec until = {.tv_sec = due / 1000, .tv_nsec = due % 1000 * 1000000};
        (void)pthread_cond_timedwait(&s->changed, &s->mutex, &until);
    }
    store_wish *w = s->first;
    if (w != NULL) {
        s->first = w->next;
        s->last = s->first != NULL ? s->last : NULL;
    }
    return w;
}

void *store_run(void *argument)
{
    store *s = argument;
    pthread_mutex_lock(&s->mutex);
    for (;;) {
        store_wish *w = next_wish(s);
        if (w == NULL && s->stopping) {
            break;
        }
        pthread_mutex_unlock(&s->mutex);
        if (w != NULL) {
            store_fulfil(s, w);
            w->done(w);
        }
        const int64_t now = clock_ms();
        if (now - s->last_look >= TICK_MS) {
            look_around(s, now);
        }
        pthread_mutex_lock(&s->mutex);
    }
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}
