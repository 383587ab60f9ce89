/* data_dir.h: directories for servers that keep optimizers on disk. */
#ifndef BENCH_DATA_DIR_H
#define BENCH_DATA_DIR_H

#include "harness.h"

#define BENCH_PATH_SIZE 512

/* A new directory in $TMPDIR, or beside the server where that is not set. */
void bench_directory_make(const char *adamd, char path[BENCH_PATH_SIZE]);
void bench_directory_remove(const char *path);

/* Starts adamd with the directory `name` in `parent` as its data directory. */
bench_server bench_disk_server(const char *adamd, const char *parent, const char *name,
                               const char *const *extra);
/* SIGKILL: what is in the journal stays there. */
void bench_server_kill(bench_server *s);

/* Waits until little is left that the system has still to write. */
void bench_disk_settle(void);

#endif
