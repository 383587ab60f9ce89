/* guarded.c: see guarded.h. */
#include "guarded.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MARGIN ((size_t)64)
#define MARK   0xa5

static void must(bool holds, const char *what)
{
    if (!holds) {
        perror(what);
        exit(2);
    }
}

guarded guarded_map(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t room = (bytes + page - 1) / page * page;
    unsigned char *memory =
        mmap(NULL, room + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(memory != MAP_FAILED, "mmap");
    must(mprotect(memory, page, PROT_NONE) == 0, "mprotect");
    must(mprotect(memory + page + room, page, PROT_NONE) == 0, "mprotect");
    return (guarded){memory + page, room};
}

void guarded_unmap(guarded *g)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    must(munmap(g->room - page, g->bytes + 2 * page) == 0, "munmap");
    *g = (guarded){0};
}

/* The marked bytes before and after a place: as many as there are, up to MARGIN. */
static void margins(const guarded *g, const unsigned char *place, size_t n, size_t *before,
                    size_t *after)
{
    const size_t front = (size_t)(place - g->room);
    const size_t back = g->bytes - front - n;
    *before = front < MARGIN ? front : MARGIN;
    *after = back < MARGIN ? back : MARGIN;
}

void *guarded_place(const guarded *g, size_t n, size_t shift)
{
    unsigned char *place = shift == GUARDED_END ? g->room + g->bytes - n : g->room + shift;
    size_t before, after;
    margins(g, place, n, &before, &after);
    memset(place - before, MARK, before + n + after);
    return place;
}

bool guarded_intact(const guarded *g, const void *place, size_t n)
{
    static const unsigned char marks[MARGIN] = {[0 ... MARGIN - 1] = MARK};
    const unsigned char *bytes = place;
    size_t before, after;
    margins(g, bytes, n, &before, &after);
    return memcmp(bytes - before, marks, before) == 0 && memcmp(bytes + n, marks, after) == 0;
}

/* Whether a child that reads at `address` does not live to say so. */
static bool reading_ends(const volatile unsigned char *address)
{
    const pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        must(freopen("/dev/null", "w", stderr) != NULL, "/dev/null"); /* a sanitizer's report */
        (void)*address;
        _exit(0);
    }
    int status = 0;
    must(waitpid(child, &status, 0) == child, "waitpid");
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

bool guarded_works(const guarded *g)
{
    return reading_ends(g->room - 1) && reading_ends(g->room + g->bytes) &&
           !reading_ends(g->room) && !reading_ends(g->room + g->bytes - 1);
}
