/* config.h: what the command line and the environment say. */
#ifndef ADAMD_CONFIG_H
#define ADAMD_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

typedef enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG } log_level;
typedef enum log_format { LOG_TEXT, LOG_JSON } log_format;

typedef enum config_fsync { CONFIG_ALWAYS, CONFIG_EVERYSEC, CONFIG_NEVER } config_fsync;
typedef enum config_journal { CONFIG_GRADIENTS, CONFIG_OFF } config_journal;

/* Steps that an optimizer may be told to remember. */
#define CONFIG_MAX_HISTORY 1000000

typedef struct config {
    const char *host;
    unsigned port, threads, max_connections;
    unsigned timeout, heartbeat;                /* seconds */
    unsigned history;                           /* steps */
    unsigned idempotency_keys;                  /* of each optimizer */
    unsigned idempotency_ttl, worker_ttl;       /* seconds; worker_ttl 0: never */
    size_t max_body, max_json_body, max_memory; /* bytes */
    int log_level;                              /* a log_level */
    int log_format;                             /* a log_format */
    const char *data_dir;                       /* NULL: everything in memory */
    int fsync;                                  /* a config_fsync */
    int journal;                                /* a config_journal */
    size_t journal_size;                        /* bytes */
    unsigned snapshot_interval;                 /* seconds; 0: not by time */
    bool recover_to_last_good, check;
    const char *replay; /* a name; NULL: none */
    size_t to;          /* a step; SIZE_MAX: the last */
} config;

typedef enum config_result { CONFIG_RUN, CONFIG_SHOWN, CONFIG_WRONG } config_result;

/* Reads environment, then command line, which goes before it. CONFIG_SHOWN: help or version was
 * printed. CONFIG_WRONG: `error` says in one line what is wrong. Strings point into argv or the
 * environment. */
config_result config_read(int argc, char **argv, config *c, char *error, size_t error_size);

#endif
