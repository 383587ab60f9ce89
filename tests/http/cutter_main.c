/* cutter_main.c: the cutter as a program, for tests in other languages: cutter PORT SEED. Says
 * where it listens, and its counts when its standard input ends. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cutter.h"

int main(int argc, char **argv)
{
    static cutter c;
    char byte = 0;
    if (argc != 3 ||
        !cutter_start(&c, (unsigned)strtoul(argv[1], NULL, 10), strtoull(argv[2], NULL, 10))) {
        (void)fprintf(stderr, "usage: cutter PORT SEED\n");
        return 2;
    }
    (void)printf("%s\n", c.url);
    (void)fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    cutter_stop(&c);
    (void)printf(
        "{\"requests\": %u, \"cuts\": %u, \"twins\": %u, \"late_twins\": %u, \"lost\": %u}\n",
        c.requests, cutter_cuts(&c), c.twins, c.late_twins, c.lost);
    return 0;
}
