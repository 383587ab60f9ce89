/* snapshot_files.c: snapshots on disk: written whole or not at all, listed, the old ones removed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot_internal.h"
#include "snapshot_values.h"

#define SNAPSHOTS "snapshots"
#define SUFFIX    ".safetensors"
#define TEMPORARY ".tmp"
/* "<16 hex>-<16 hex>" and the longer of the two. */
#define FILE_STEM 33
#define MAX_FILE  (FILE_STEM + sizeof SUFFIX)

/* Bytes between two syncs of a file: without them the last one would hold up everybody else's. */
#define SYNC_BYTES ((size_t)32 << 20)

/* ---- names ---- */

static void file_name(const snapshot_entry *e, const char *suffix, char out[MAX_FILE])
{
    (void)snprintf(out, MAX_FILE, "%016llx-%016llx%s", (unsigned long long)e->id,
                   (unsigned long long)e->lsn, suffix);
}

static bool read_file_name(const char *name, snapshot_entry *e)
{
    return strlen(name) == FILE_STEM + sizeof SUFFIX - 1 && snapshot_read_hex(name, &e->id) &&
           name[16] == '-' && snapshot_read_hex(name + 17, &e->lsn) &&
           strcmp(name + FILE_STEM, SUFFIX) == 0;
}

static bool is_temporary(const char *name)
{
    const size_t length = strlen(name);
    return length >= sizeof TEMPORARY &&
           strcmp(name + length - (sizeof TEMPORARY - 1), TEMPORARY) == 0;
}

static bool fits(int printed, size_t size)
{
    return printed >= 0 && (size_t)printed < size;
}

bool snapshot_path(const char *data_dir, const snapshot_entry *e, char *out, size_t size)
{
    char file[MAX_FILE];
    file_name(e, SUFFIX, file);
    return fits(snprintf(out, size, "%s/" SNAPSHOTS "/%s/%s", data_dir, e->name, file), size);
}

/* ---- the list ---- */

void snapshot_list_drop(snapshot_list *list)
{
    free(list->entries);
    *list = (snapshot_list){0};
}

static int compare_entries(const void *a, const void *b)
{
    const snapshot_entry *x = a;
    const snapshot_entry *y = b;
    const int order = strcmp(x->name, y->name);
    if (order != 0) {
        return order;
    }
    return x->lsn != y->lsn ? (x->lsn < y->lsn) - (x->lsn > y->lsn)
                            : (x->id < y->id) - (x->id > y->id);
}

static bool add_entry(snapshot_list *list, const snapshot_entry *e)
{
    if ((list->n & (list->n - 1)) == 0) { /* full at each power of two */
        const size_t room = list->n > 0 ? 2 * list->n : 1;
        snapshot_entry *more = realloc(list->entries, room * sizeof *more);
        if (more == NULL) {
            return false;
        }
        list->entries = more;
    }
    list->entries[list->n++] = *e;
    return true;
}

/* Calls `visit` with the name of every entry of a directory; one that is not there has none. */
static snapshot_status each_name(const char *path, bool (*visit)(void *context, const char *name),
                                 void *context, snapshot_error *error)
{
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return errno == ENOENT ? SNAPSHOT_OK : snapshot_fail_errno(error, "list", path, errno);
    }
    snapshot_status st = SNAPSHOT_OK;
    errno = 0;
    for (const struct dirent *d = readdir(dir); d != NULL; d = readdir(dir)) {
        if (d->d_name[0] != '.' && !visit(context, d->d_name)) {
            errno = ENOMEM;
            break;
        }
        errno = 0;
    }
    if (errno != 0) {
        st = snapshot_fail_errno(error, "list", path, errno);
    }
    (void)closedir(dir);
    return st;
}

typedef struct lister {
    snapshot_list *list;
    const char *root;
    snapshot_entry entry; /* its name, while its directory is read */
    snapshot_status status;
    snapshot_error *error;
} lister;

static bool list_file(void *context, const char *name)
{
    lister *l = context;
    return !read_file_name(name, &l->entry) || add_entry(l->list, &l->entry);
}

static bool list_name(void *context, const char *name)
{
    lister *l = context;
    char path[PATH_MAX];
    if (l->status != SNAPSHOT_OK || strlen(name) > SNAPSHOT_MAX_NAME) {
        return true;
    }
    strcpy(l->entry.name, name);
    if (!fits(snprintf(path, sizeof path, "%s/%s", l->root, name), sizeof path)) {
        l->status = snapshot_fail_errno(l->error, "list", l->root, ENAMETOOLONG);
        return true;
    }
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        l->status = each_name(path, list_file, l, l->error);
    }
    return true;
}

snapshot_status snapshot_list_read(const char *data_dir, const char *name, snapshot_list *out,
                                   snapshot_error *error)
{
    char root[PATH_MAX];
    *out = (snapshot_list){0};
    if (!fits(snprintf(root, sizeof root, "%s/" SNAPSHOTS, data_dir), sizeof root)) {
        return snapshot_fail_errno(error, "list", data_dir, ENAMETOOLONG);
    }
    lister l = {.list = out, .root = root, .error = error};
    snapshot_status st = SNAPSHOT_OK;
    if (name != NULL) {
        (void)list_name(&l, name);
    } else {
        st = each_name(root, list_name, &l, error);
    }
    st = st == SNAPSHOT_OK ? l.status : st;
    if (out->n > 1) {
        qsort(out->entries, out->n, sizeof *out->entries, compare_entries);
    }
    return st;
}

/* ---- writing ---- */

/* Opens a directory, which is made where it is not there, and is on disk then. */
static snapshot_status open_directory(const char *path, bool make, int *fd, snapshot_error *error)
{
    *fd = -1;
    if (make && mkdir(path, 0700) != 0 && errno != EEXIST) {
        return snapshot_fail_errno(error, "make directory", path, errno);
    }
    *fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *fd >= 0 ? SNAPSHOT_OK : snapshot_fail_errno(error, "open directory", path, errno);
}

static snapshot_status sync_directory(int fd, const char *path, snapshot_error *error)
{
    return fsync(fd) == 0 ? SNAPSHOT_OK : snapshot_fail_errno(error, "sync directory", path, errno);
}

/* The directory of a name; those above it are synced, since it may be new in them. */
static snapshot_status open_name(const char *data_dir, const char *name, char path[PATH_MAX],
                                 int *fd, snapshot_error *error)
{
    char above[PATH_MAX];
    *fd = -1;
    if (!fits(snprintf(above, sizeof above, "%s/" SNAPSHOTS, data_dir), sizeof above) ||
        !fits(snprintf(path, PATH_MAX, "%s/%s", above, name), PATH_MAX - MAX_FILE - 1)) {
        return snapshot_fail_errno(error, "open directory", data_dir, ENAMETOOLONG);
    }
    const char *const all[] = {data_dir, above, path};
    snapshot_status st = SNAPSHOT_OK;
    for (size_t i = 0; i < 3 && st == SNAPSHOT_OK; i++) {
        const int parent = *fd;
        st = open_directory(all[i], i > 0, fd, error);
        if (parent >= 0) {
            st = st == SNAPSHOT_OK ? sync_directory(parent, all[i - 1], error) : st;
            (void)close(parent);
        }
    }
    return st;
}

static snapshot_status write_bytes(int fd, const char *path, const char *bytes, size_t length,
                                   snapshot_error *error)
{
    size_t unsynced = 0;
    while (length > 0) {
        const ssize_t n = write(fd, bytes, length < SYNC_BYTES ? length : SYNC_BYTES);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return snapshot_fail_errno(error, "write", path, n < 0 ? errno : EIO);
        }
        bytes += n;
        length -= (size_t)n;
        unsynced += (size_t)n;
        if (unsynced >= SYNC_BYTES) {
            unsynced = 0;
            if (fdatasync(fd) != 0) {
                return snapshot_fail_errno(error, "sync", path, errno);
            }
        }
    }
    return SNAPSHOT_OK;
}

/* Writes the file under its temporary name, and renames it once it is on disk. */
static snapshot_status write_file(const snapshot *s, int dir, const char *dir_path,
                                  snapshot_error *error)
{
    char name[MAX_FILE];
    char temporary[MAX_FILE];
    char path[PATH_MAX + MAX_FILE + 1];
    file_name(&s->entry, SUFFIX, name);
    file_name(&s->entry, TEMPORARY, temporary);
    (void)snprintf(path, sizeof path, "%s/%s", dir_path, temporary);
    const int fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return snapshot_fail_errno(error, "create", path, errno);
    }
    snapshot_status st =
        write_bytes(fd, path, s->header.buffer->data, text_length(&s->header), error);
    if (st == SNAPSHOT_OK) {
        st = write_bytes(fd, path, s->data, s->bytes, error);
    }
    if (st == SNAPSHOT_OK && fsync(fd) != 0) {
        st = snapshot_fail_errno(error, "sync", path, errno);
    }
    if (close(fd) != 0 && st == SNAPSHOT_OK) {
        st = snapshot_fail_errno(error, "close", path, errno);
    }
    if (st == SNAPSHOT_OK && renameat(dir, temporary, dir, name) != 0) {
        st = snapshot_fail_errno(error, "rename", path, errno);
    }
    if (st != SNAPSHOT_OK) {
        (void)unlinkat(dir, temporary, 0); /* where that fails, the next one does it */
        return st;
    }
    st = sync_directory(dir, dir_path, error);
    if (st != SNAPSHOT_OK) {
        (void)unlinkat(dir, name, 0); /* who asked for it is told that there is none */
    }
    return st;
}

typedef struct sweeper {
    int dir;
} sweeper;

static bool sweep(void *context, const char *name)
{
    const sweeper *s = context;
    if (is_temporary(name)) {
        (void)unlinkat(s->dir, name, 0);
    }
    return true;
}

/* Removes what is older than the newest ones of the optimizer, but never the one just written. What
 * cannot be removed is left: the next one tries again. */
static void remove_older(const snapshot *s, const char *data_dir, int dir)
{
    snapshot_list list;
    snapshot_error ignored;
    size_t kept = 0;
    if (snapshot_list_read(data_dir, s->entry.name, &list, &ignored) == SNAPSHOT_OK) {
        for (size_t i = 0; i < list.n; i++) {
            const snapshot_entry *e = &list.entries[i];
            if (e->id == s->entry.id && ++kept > SNAPSHOT_KEPT && e->lsn != s->entry.lsn) {
                char name[MAX_FILE];
                file_name(e, SUFFIX, name);
                (void)unlinkat(dir, name, 0);
            }
        }
    }
    snapshot_list_drop(&list);
}

snapshot_status snapshot_write(snapshot *s, const char *data_dir, snapshot_error *error)
{
    char path[PATH_MAX];
    int dir;
    if (s->header.buffer == NULL) {
        snapshot_make_header(s);
    }
    if (s->header.failed) {
        return snapshot_fail(error, SNAPSHOT_NO_MEMORY,
                             "no memory within the budget for the header of a snapshot of '%s'",
                             s->entry.name);
    }
    snapshot_status st = open_name(data_dir, s->entry.name, path, &dir, error);
    if (st == SNAPSHOT_OK) {
        sweeper old = {.dir = dir};
        st = each_name(path, sweep, &old, error);
    }
    if (st == SNAPSHOT_OK) {
        st = write_file(s, dir, path, error);
    }
    if (st == SNAPSHOT_OK) {
        remove_older(s, data_dir, dir);
    }
    if (dir >= 0) {
        (void)close(dir);
    }
    return st;
}
