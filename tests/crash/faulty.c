/* faulty.c: preloaded to a process, it lets calls fail that change a directory, or allocations,
 * when a test says so.
 *
 *   FAULTY_DIR     the directory
 *   FAULTY_CONTROL a file of the size of `control`, mapped: the test writes into it at any time
 *
 * From when `armed` is set, calls of one of the kinds are counted; those from `after` (1 is the
 * next) on fail with `error`, `times` of them. A write that is to fail may write half before:
 * `torn`. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITES = 1, SYNCS = 2, NAMES = 4, MEMORY = 8, LENGTHS = 16 };

typedef struct control {
    _Atomic uint32_t armed, kinds, error, torn;
    _Atomic int32_t after, times;
    _Atomic uint32_t calls, failed;
} control;

static control *shared;
static char root[PATH_MAX];

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Whether this call is to fail; errno is set then. */
static bool fails(uint32_t kind)
{
    if (shared == NULL || !atomic_load(&shared->armed) ||
        (atomic_load(&shared->kinds) & kind) == 0) {
        return false;
    }
    const int32_t number = (int32_t)atomic_fetch_add(&shared->calls, 1) + 1;
    const int32_t first = atomic_load(&shared->after);
    if (number < first || number - first >= atomic_load(&shared->times)) {
        return false;
    }
    atomic_fetch_add(&shared->failed, 1);
    errno = (int)atomic_load(&shared->error);
    return true;
}

static bool below(const char *path)
{
    const size_t length = strlen(root);
    return length > 0 && strncmp(path, root, length) == 0 &&
           (path[length] == '\0' || path[length] == '/');
}

static bool ours(int fd)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const int before = errno;
    const ssize_t n =
        shared != NULL && atomic_load(&shared->armed) ? readlink(link, path, sizeof path - 1) : -1;
    errno = before;
    path[n > 0 ? n : 0] = '\0';
    return n > 0 && below(path);
}

static bool ours_at(int directory, const char *path)
{
    return path[0] != '/' && directory != AT_FDCWD ? ours(directory) : below(path);
}

/* clang-format off */
#define HOOK(type, name, parameters, arguments, kind, is_ours)  \
    type name parameters;                                       \
    type name parameters                                        \
    {                                                           \
        return (is_ours) && fails(kind) ? -1 : REAL(name) arguments; \
    }
/* clang-format on */

HOOK(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n), WRITES, ours(fd))
HOOK(int, ftruncate, (int fd, off_t n), (fd, n), LENGTHS, ours(fd))
HOOK(int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n), WRITES, ours(fd))
HOOK(int, fsync, (int fd), (fd), SYNCS, ours(fd))
HOOK(int, fdatasync, (int fd), (fd), SYNCS, ours(fd))
HOOK(int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to), NAMES,
     ours_at(a, from))
HOOK(int, rename, (const char *from, const char *to), (from, to), NAMES, below(from))
HOOK(int, unlinkat, (int a, const char *path, int flags), (a, path, flags), NAMES, ours_at(a, path))
HOOK(int, unlink, (const char *path), (path), NAMES, below(path))
HOOK(int, rmdir, (const char *path), (path), NAMES, below(path))
HOOK(int, mkdir, (const char *path, mode_t mode), (path, mode), NAMES, below(path))

/* Half of what is asked for is written, where that is told. */
static size_t half(size_t n)
{
    return atomic_load(&shared->torn) ? n / 2 : 0;
}

ssize_t write(int fd, const void *b, size_t n)
{
    if (ours(fd) && fails(WRITES)) {
        const int error = errno;
        (void)!REAL(write)(fd, b, half(n));
        errno = error;
        return -1;
    }
    return REAL(write)(fd, b, n);
}

ssize_t pwrite(int fd, const void *b, size_t n, off_t at)
{
    if (ours(fd) && fails(WRITES)) {
        const int error = errno;
        (void)!REAL(pwrite)(fd, b, half(n), at);
        errno = error;
        return -1;
    }
    return REAL(pwrite)(fd, b, n, at);
}

ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at)
{
    if (ours(fd) && fails(WRITES)) {
        const int error = errno;
        (void)!REAL(pwritev)(fd, v, (int)half((size_t)n), at);
        errno = error;
        return -1;
    }
    return REAL(pwritev)(fd, v, n, at);
}

/* What creates a file. */
int openat(int directory, const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    if ((flags & O_CREAT) != 0 && ours_at(directory, path) && fails(NAMES)) {
        return -1;
    }
    return REAL(openat)(directory, path, flags, mode);
}

/* ---- memory ---- */

#ifdef __GLIBC__
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t alignment, size_t n);

void *malloc(size_t n)
{
    return fails(MEMORY) ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    return fails(MEMORY) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    return fails(MEMORY) ? NULL : __libc_realloc(p, n);
}

void *aligned_alloc(size_t alignment, size_t n)
{
    return fails(MEMORY) ? NULL : __libc_memalign(alignment, n);
}
#endif

__attribute__((constructor)) static void begin(void)
{
    const char *directory = getenv("FAULTY_DIR");
    const char *path = getenv("FAULTY_CONTROL");
    if (directory == NULL || path == NULL) {
        return;
    }
    const int fd = open(path, O_RDWR);
    void *mapped = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || mapped == MAP_FAILED || strlen(directory) >= sizeof root) {
        fprintf(stderr, "faulty: %s: %s\n", path, strerror(errno));
        _exit(99);
    }
    close(fd);
    strcpy(root, directory);
    shared = mapped;
}
