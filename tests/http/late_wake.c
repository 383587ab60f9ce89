/* late_wake.c: preloaded into adamd by test_drain: a thread that wakes libmicrohttpd's is held up
 * before it does, and whoever has closed the descriptor meanwhile is found out. */
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LATE_MS 600

ssize_t write(int file, const void *bytes, size_t length)
{
    const struct timespec late = {.tv_nsec = LATE_MS * 1000000L};
    const int wakes = length == 8 && getpid() != gettid(); /* an eventfd's, not main's */
    if (wakes) {
        (void)nanosleep(&late, NULL);
    }
    const ssize_t written = syscall(SYS_write, file, bytes, length);
    if (wakes && written < 0 && errno == EBADF) {
        abort();
    }
    return written;
}
