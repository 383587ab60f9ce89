/* forgetful.c: preloaded to a process, it is a disk that forgets: the process is killed, and of
 * what it wrote below a directory only what was synced is left, and of the rest some 512-byte
 * pieces.
 *
 *   FORGETFUL_DIR    the directory
 *   FORGETFUL_SHADOW another one on the same file system, for what is known to be on disk
 *   FORGETFUL_AFTER  the power fails in this call that changes or syncs something, 1 is the first;
 * else or before that, at SIGUSR1 FORGETFUL_SEED   of what is left
 *
 * A shadow has a copy of every file as it was when it was synced, by its inode's number, and of
 * every directory the names that it had when it was synced. What is synced: a file's bytes and
 * length by fsync or fdatasync of it, a directory's names by fsync of it. When the power fails,
 * each directory gets the names back that its shadow has, and each name a file of the synced bytes,
 * to which pieces of the unsynced ones are added at random. A name that was not synced is kept or
 * not at random, if nothing synced stands in its place. Writes through mappings are not seen. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PIECE     512
#define MAX_DEPTH 8

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* during each call that counts */
static char root[PATH_MAX];
static char shadow[PATH_MAX];
static long calls_left = -1;
static uint64_t seed;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void die(const char *what)
{
    char text[256];
    const int n = snprintf(text, sizeof text, "forgetful: %s: %s\n", what, strerror(errno));
    (void)!REAL(write)(STDERR_FILENO, text, (size_t)n);
    _exit(99);
}

static uint64_t chance(void) /* splitmix64 */
{
    uint64_t z = (seed += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

/* The path of an open file, if that is below the directory. */
static bool ours(int fd, char path[PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const int before = errno;
    const ssize_t n = root[0] != '\0' ? readlink(link, path, PATH_MAX - 1) : -1;
    errno = before;
    if (n <= 0) {
        return false;
    }
    path[n] = '\0';
    const size_t length = strlen(root);
    return strncmp(path, root, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

static void shadow_path(char out[PATH_MAX], const char *kind, ino_t inode)
{
    if (snprintf(out, PATH_MAX, "%s/%s-%ju", shadow, kind, (uintmax_t)inode) >= PATH_MAX) {
        die("path");
    }
}

static void read_exactly(int fd, char *to, size_t n, off_t at)
{
    if (pread(fd, to, n, at) != (ssize_t)n) {
        die("read");
    }
}

static void write_exactly(int fd, const char *from, size_t n, off_t at)
{
    if (REAL(pwrite)(fd, from, n, at) != (ssize_t)n) {
        die("write");
    }
}

/* Makes one file another's copy, where they differ: all of it, or some pieces and some length. */
static void copy(int from, int to, bool all)
{
    static char a[1 << 16], b[1 << 16];
    struct stat f, t;
    if (fstat(from, &f) != 0 || fstat(to, &t) != 0) {
        die("stat");
    }
    if (all || chance() % 2 == 0 || t.st_size == 0) {
        if (REAL(ftruncate)(to, f.st_size) != 0) {
            die("ftruncate");
        }
        t.st_size = f.st_size;
    }
    const off_t end = f.st_size < t.st_size ? f.st_size : t.st_size;
    for (off_t at = 0; at < end; at += (off_t)sizeof a) {
        const off_t new = lseek(from, at, SEEK_DATA);
        const off_t old = lseek(to, at, SEEK_DATA);
        if (new < 0 && old < 0) { /* zeros from here on, in both */
            break;
        }
        const off_t next = new < 0 || (old >= 0 && old < new) ? old : new;
        at = next - next % (off_t)sizeof a;
        if (at >= end) {
            break;
        }
        const size_t n = end - at < (off_t)sizeof a ? (size_t)(end - at) : sizeof a;
        read_exactly(from, a, n, at);
        read_exactly(to, b, n, at);
        for (size_t i = 0; i < n; i += PIECE) {
            const size_t k = n - i < PIECE ? n - i : PIECE;
            if (memcmp(a + i, b + i, k) != 0 && (all || chance() % 2 == 0)) {
                write_exactly(to, a + i, k, at + (off_t)i);
            }
        }
    }
}

/* ---- what is known to be on disk ---- */

/* Keeps a file's bytes, or a directory's names with their inodes. */
static void remember(int fd)
{
    char path[PATH_MAX];
    struct stat s;
    if (fstat(fd, &s) != 0) {
        die("fstat");
    }
    if (S_ISREG(s.st_mode)) {
        shadow_path(path, "file", s.st_ino);
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        const int from = open(link, O_RDONLY);
        const int to = open(path, O_RDWR | O_CREAT, 0600);
        if (from < 0 || to < 0) {
            die(path);
        }
        copy(from, to, true);
        close(from);
        close(to);
        shadow_path(path, "now",
                    s.st_ino); /* for what it is in the end; and so its number stays its own */
        (void)linkat(AT_FDCWD, link, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
    } else if (S_ISDIR(s.st_mode)) {
        shadow_path(path, "names", s.st_ino);
        if (access(path, F_OK) != 0) {
            (void)dup(fd); /* stays open, so that its number stays its own when it is removed */
        }
        const int again = openat(fd, ".", O_RDONLY | O_DIRECTORY);
        DIR *d = fdopendir(again);
        FILE *out = fopen(path, "w");
        if (d == NULL || out == NULL) {
            die(path);
        }
        for (struct dirent *e; (e = readdir(d)) != NULL;) {
            if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
                fprintf(out, "%ju %s\n", (uintmax_t)e->d_ino, e->d_name);
            }
        }
        fclose(out);
        closedir(d);
    }
}

/* What was there before the process is on disk. */
static void remember_tree(const char *path, int depth)
{
    const int fd = open(path, O_RDONLY);
    struct stat s;
    if (fd < 0 || fstat(fd, &s) != 0) {
        die(path);
    }
    remember(fd);
    DIR *d = S_ISDIR(s.st_mode) && depth < MAX_DEPTH ? fdopendir(fd) : NULL;
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char below[PATH_MAX];
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            snprintf(below, sizeof below, "%s/%s", path, e->d_name) < PATH_MAX) {
            remember_tree(below, depth + 1);
        }
    }
    if (d != NULL) {
        closedir(d);
    } else {
        close(fd);
    }
}

/* ---- the power fails ---- */

/* A name that was there when its directory was synced. */
typedef struct name {
    uintmax_t inode;
    char text[NAME_MAX + 1];
} name;

static size_t read_names(ino_t directory, name **out)
{
    char path[PATH_MAX];
    shadow_path(path, "names", directory);
    FILE *f = fopen(path, "r");
    size_t n = 0;
    *out = NULL;
    name one;
    while (f != NULL && fscanf(f, "%ju %255[^\n]", &one.inode, one.text) == 2) {
        *out = realloc(*out, (n + 1) * sizeof one);
        if (*out == NULL) {
            die("memory");
        }
        (*out)[n++] = one;
    }
    if (f != NULL) {
        fclose(f);
    }
    return n;
}

/* Every file there is, by its inode, from before names are changed: FORGETFUL_SHADOW/now-INODE. */
static void gather(const char *path, int depth)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char below[PATH_MAX], now[PATH_MAX];
        struct stat s;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            snprintf(below, sizeof below, "%s/%s", path, e->d_name) >= PATH_MAX ||
            lstat(below, &s) != 0) {
            continue;
        }
        if (S_ISDIR(s.st_mode) && depth < MAX_DEPTH) {
            gather(below, depth + 1);
        } else if (S_ISREG(s.st_mode)) {
            shadow_path(now, "now", s.st_ino);
            if (link(below, now) != 0 && errno != EEXIST) {
                die(now);
            }
        }
    }
    if (d != NULL) {
        closedir(d);
    }
}

/* Puts at `path` what is left of the file with that inode: what was synced, and some of what it is.
 */
static void put_back(const char *path, uintmax_t inode)
{
    char now[PATH_MAX], synced[PATH_MAX];
    name *names;
    const size_t n = read_names((ino_t)inode, &names);
    if (n > 0) { /* a directory */
        (void)mkdir(path, 0700);
        for (size_t i = 0; i < n; i++) {
            if (snprintf(now, sizeof now, "%s/%s", path, names[i].text) < PATH_MAX) {
                put_back(now, names[i].inode);
            }
        }
        free(names);
        return;
    }
    shadow_path(now, "now", (ino_t)inode);
    shadow_path(synced, "file", (ino_t)inode);
    (void)REAL(unlink)(path);
    const int to = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    const int old = open(synced, O_RDONLY);
    const int new = open(now, O_RDONLY);
    if (to < 0) {
        die(path);
    }
    if (old >= 0) {
        copy(old, to, true);
        close(old);
    }
    if (new >= 0) {
        copy(new, to, false);
        close(new);
    }
    close(to);
}

static void restore(const char *path, int depth);

static void remove_tree(const char *path, int depth)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d != NULL && depth < MAX_DEPTH && (e = readdir(d)) != NULL;) {
        char below[PATH_MAX];
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            snprintf(below, sizeof below, "%s/%s", path, e->d_name) < PATH_MAX) {
            remove_tree(below, depth + 1);
        }
    }
    if (d != NULL) {
        closedir(d);
        (void)REAL(rmdir)(path);
    } else {
        (void)REAL(unlink)(path);
    }
}

/* One name that there is now: as it was, or as it is, or not at all. */
static void restore_name(const char *path, const char *text, name *names, size_t n, int depth)
{
    struct stat s;
    name *synced = NULL;
    for (size_t i = 0; i < n; i++) {
        synced = strcmp(names[i].text, text) == 0 ? &names[i] : synced;
    }
    if (lstat(path, &s) != 0) {
        return;
    }
    if (S_ISDIR(s.st_mode)) {
        if (synced != NULL || chance() % 2 == 0) {
            restore(path, depth + 1);
        } else {
            remove_tree(path, depth + 1);
        }
    } else if (synced == NULL && chance() % 2 == 0) {
        (void)REAL(unlink)(path);
    } else { /* another file of this name may have come in its place already */
        put_back(path, synced == NULL || chance() % 2 == 0 ? (uintmax_t)s.st_ino : synced->inode);
    }
    if (synced != NULL) {
        synced->text[0] = '\0'; /* is done */
    }
}

static void restore(const char *path, int depth)
{
    struct stat s;
    name *names, *now = NULL;
    size_t m = 0;
    if (depth > MAX_DEPTH || stat(path, &s) != 0) {
        return;
    }
    const size_t n = read_names(s.st_ino, &names);
    DIR *d = opendir(path);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            now = realloc(now, (m + 1) * sizeof *now);
            if (now == NULL) {
                die("memory");
            }
            snprintf(now[m++].text, sizeof now->text, "%s", e->d_name);
        }
    }
    if (d != NULL) {
        closedir(d);
    }
    char below[PATH_MAX];
    for (size_t i = 0; i < m; i++) {
        if (snprintf(below, sizeof below, "%s/%s", path, now[i].text) < PATH_MAX) {
            restore_name(below, now[i].text, names, n, depth);
        }
    }
    for (size_t i = 0; i < n; i++) { /* removed or renamed, which may not have reached the disk */
        if (names[i].text[0] != '\0' && chance() % 2 == 0 &&
            snprintf(below, sizeof below, "%s/%s", path, names[i].text) < PATH_MAX) {
            put_back(below, names[i].inode);
        }
    }
    free(names);
    free(now);
}

__attribute__((noreturn)) static void fail_power(void)
{
    gather(root, 0);
    restore(root, 0);
    kill(getpid(), SIGKILL);
    for (;;) {
        pause();
    }
}

/* ---- the calls ---- */

/* A call is over that changed something. Lets the others go on, or ends it all. */
static void count_call(void)
{
    const int error = errno;
    if (calls_left > 0 && --calls_left == 0) {
        fail_power();
    }
    pthread_mutex_unlock(&lock);
    errno = error;
}

/* Whether a path of an ...at call is below the directory. */
static bool ours_at(int directory, const char *path)
{
    char at[PATH_MAX];
    const size_t length = strlen(root);
    if (length == 0 || (path[0] != '/' && directory != AT_FDCWD)) {
        return length > 0 && ours(directory, at);
    }
    return strncmp(path[0] == '/' ? path : getcwd(at, sizeof at), root, length) == 0;
}

/* clang-format off */
#define HOOK(type, name, parameters, arguments, counts)   \
    type name parameters;                                 \
    type name parameters                                  \
    {                                                     \
        char path[PATH_MAX] = "";                         \
        if (!(counts)) {                                  \
            (void)path;                                   \
            return REAL(name) arguments;                  \
        }                                                 \
        pthread_mutex_lock(&lock);                        \
        const type result = REAL(name) arguments;         \
        count_call();                                     \
        return result;                                    \
    }
/* clang-format on */

HOOK(ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n), ours(fd, path))
HOOK(ssize_t, pwrite, (int fd, const void *b, size_t n, off_t at), (fd, b, n, at), ours(fd, path))
HOOK(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n), ours(fd, path))
HOOK(ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t at), (fd, v, n, at),
     ours(fd, path))
HOOK(int, ftruncate, (int fd, off_t length), (fd, length), ours(fd, path))
HOOK(int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n), ours(fd, path))
HOOK(int, rename, (const char *a, const char *b), (a, b), ours_at(AT_FDCWD, b))
HOOK(int, renameat, (int d, const char *a, int e, const char *b), (d, a, e, b), ours_at(e, b))
HOOK(int, unlink, (const char *a), (a), ours_at(AT_FDCWD, a))
HOOK(int, unlinkat, (int d, const char *a, int flags), (d, a, flags), ours_at(d, a))
HOOK(int, rmdir, (const char *a), (a), ours_at(AT_FDCWD, a))

static int sync_file(int fd, int (*real)(int))
{
    char path[PATH_MAX];
    if (!ours(fd, path)) {
        return real(fd);
    }
    pthread_mutex_lock(&lock);
    if (calls_left == 1) { /* the power fails before it is over */
        fail_power();
    }
    remember(fd); /* what is there in between is nobody's: the lock is held; the disk itself is not
                     asked */
    count_call();
    return 0;
}

int fsync(int fd)
{
    return sync_file(fd, REAL(fsync));
}

int fdatasync(int fd)
{
    return sync_file(fd, REAL(fdatasync));
}

static void *wait_for_signal(void *argument)
{
    int signal_number;
    sigset_t usr1;
    (void)argument;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    (void)sigwait(&usr1, &signal_number);
    pthread_mutex_lock(&lock);
    fail_power();
}

__attribute__((constructor)) static void begin(void)
{
    const char *directory = getenv("FORGETFUL_DIR");
    const char *beside = getenv("FORGETFUL_SHADOW");
    const char *after = getenv("FORGETFUL_AFTER");
    const char *with = getenv("FORGETFUL_SEED");
    pthread_t thread;
    sigset_t usr1;
    if (directory == NULL || beside == NULL) {
        return;
    }
    if (mkdir(beside, 0700) != 0 && errno != EEXIST) {
        die(beside);
    }
    if (realpath(beside, shadow) == NULL || realpath(directory, root) == NULL) {
        die(directory);
    }
    calls_left = after != NULL ? strtol(after, NULL, 10) : -1;
    seed = with != NULL ? strtoull(with, NULL, 10) : 0;
    remember_tree(root, 0);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &usr1, NULL); /* of all threads to come */
    if (pthread_create(&thread, NULL, wait_for_signal, NULL) != 0) {
        die("thread");
    }
}
