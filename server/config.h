/* config.h: what the command line and the environment say. */
#ifndef ADAMD_CONFIG_H
#define ADAMD_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

typedef enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG } log_level;
typedef enum log_format { LOG_TEXT, LOG_JSON } log_format;

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
    log_level log_level;
    log_format log_format;
} config;

typedef enum config_result { CONFIG_RUN, CONFIG_SHOWN, CONFIG_WRONG } config_result;

/* Reads environment, then command line, which goes before it. CONFIG_SHOWN: help or version was
 * printed. CONFIG_WRONG: `error` says in one line what is wrong. Strings point into argv or the
 * environment. */
config_result config_read(int argc, char **argv, config *c, char *error, size_t error_size);

#endif
