/* power.h: a program that runs on a disk that forgets (forgetful.c), and whose power fails. */
#ifndef POWER_H
#define POWER_H

#include <stdint.h>
#include <sys/types.h>

/* Runs this test's own program with `mode` as its argument on a directory whose power fails in the
 * `after`-th call that changes or syncs something (0: never by itself). *output: where what it
 * prints can be read. */
pid_t power_start(const char *mode, const char *dir, unsigned after, uint64_t seed, int *output);
/* Waits for its end; whether the power failed. The test fails where it ended otherwise than by that
 * or with 0. Removes the shadow. */
int power_wait(pid_t pid, const char *dir);

#endif
