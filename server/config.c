/* config.c: options, each from the command line or the environment, from one table. */
#include "config.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "version.h"

#define KIB  ((size_t)1 << 10)
#define MIB  ((size_t)1 << 20)
#define GIB  ((size_t)1 << 30)
#define YEAR ((size_t)365 * 86400)

typedef enum option_type {
    OPTION_TEXT,
    OPTION_COUNT,
    OPTION_BYTES,
    OPTION_WORD, /* one of those in `argument`, as an int */
    OPTION_FLAG  /* without a value */
} option_type;

static const struct option {
    const char *name, *variable; /* --name, ADAMD_NAME */
    option_type type;
    size_t offset;
    size_t least, most; /* of counts and bytes */
    const char *argument, *help;
} options[] = {
    {"--host", "ADAMD_HOST", OPTION_TEXT, offsetof(config, host), 0, 0, "ADDRESS",
     "address or name to listen on (127.0.0.1)"},
    {"--port", "ADAMD_PORT", OPTION_COUNT, offsetof(config, port), 0, 65535, "N",
     "port; 0 picks a free one (2326)"},
    {"--threads", "ADAMD_THREADS", OPTION_COUNT, offsetof(config, threads), 1, 256, "N",
     "threads for connections, and as many for steps (number of processors)"},
    {"--max-body", "ADAMD_MAX_BODY", OPTION_BYTES, offsetof(config, max_body), 1, SIZE_MAX / 4,
     "BYTES", "largest body taken (4G)"},
    {"--max-json-body", "ADAMD_MAX_JSON_BODY", OPTION_BYTES, offsetof(config, max_json_body), 1,
     GIB, "BYTES", "largest JSON body or safetensors header taken (32M)"},
    {"--max-memory", "ADAMD_MAX_MEMORY", OPTION_BYTES, offsetof(config, max_memory), MIB,
     SIZE_MAX / 4, "BYTES", "memory for optimizers, bodies and replies (3/4 of the machine's)"},
    {"--max-connections", "ADAMD_MAX_CONNECTIONS", OPTION_COUNT, offsetof(config, max_connections),
     1, 1000000, "N", "open connections (1024)"},
    {"--timeout", "ADAMD_TIMEOUT", OPTION_COUNT, offsetof(config, timeout), 1, 86400, "SECONDS",
     "for a whole request, plus a second for each 64 KiB it moves; for an idle connection (60)"},
    {"--history", "ADAMD_HISTORY", OPTION_COUNT, offsetof(config, history), 1, CONFIG_MAX_HISTORY,
     "STEPS", "last steps that are remembered of each optimizer (1000)"},
    {"--idempotency-keys", "ADAMD_IDEMPOTENCY_KEYS", OPTION_COUNT,
     offsetof(config, idempotency_keys), 0, 1000000, "N",
     "last idempotency keys that are remembered of each optimizer (10000)"},
    {"--idempotency-ttl", "ADAMD_IDEMPOTENCY_TTL", OPTION_COUNT, offsetof(config, idempotency_ttl),
     1, YEAR, "SECONDS", "after which an idempotency key is forgotten (86400)"},
    {"--worker-ttl", "ADAMD_WORKER_TTL", OPTION_COUNT, offsetof(config, worker_ttl), 0, YEAR,
     "SECONDS", "after which a worker that was not seen is gone; 0: never (3600)"},
    {"--heartbeat", "ADAMD_HEARTBEAT", OPTION_COUNT, offsetof(config, heartbeat), 1, 86400,
     "SECONDS", "after which an idle stream of events is sent a comment (15)"},
    {"--log-level", "ADAMD_LOG_LEVEL", OPTION_WORD, offsetof(config, log_level), 0, 0,
     "error|warn|info|debug", "what is logged (info)"},
    {"--log-format", "ADAMD_LOG_FORMAT", OPTION_WORD, offsetof(config, log_format), 0, 0,
     "text|json", "how it is logged (text)"},
    {"--data-dir", "ADAMD_DATA_DIR", OPTION_TEXT, offsetof(config, data_dir), 0, 0, "DIR",
     "where optimizers are kept; without it they are in memory alone"},
    {"--fsync", "ADAMD_FSYNC", OPTION_WORD, offsetof(config, fsync), 0, 0, "always|everysec|never",
     "when the journal is on disk: before an answer, within a second, or when the system likes "
     "(everysec)"},
    {"--journal", "ADAMD_JOURNAL", OPTION_WORD, offsetof(config, journal), 0, 0, "gradients|off",
     "off: no journal; what came after the last snapshot is lost with the process (gradients)"},
    {"--journal-size", "ADAMD_JOURNAL_SIZE", OPTION_BYTES, offsetof(config, journal_size), MIB,
     SIZE_MAX / 4, "BYTES", "of the journal, beyond which snapshots make room (1G)"},
    {"--snapshot-interval", "ADAMD_SNAPSHOT_INTERVAL", OPTION_COUNT,
     offsetof(config, snapshot_interval), 0, YEAR, "SECONDS",
     "after which a changed optimizer has a new snapshot; 0: never for that (3600)"},
    {"--recover-to-last-good", NULL, OPTION_FLAG, offsetof(config, recover_to_last_good), 0, 0, "",
     "start with a damaged data directory: up to the damage, and say what is left out"},
    {"--check", NULL, OPTION_FLAG, offsetof(config, check), 0, 0, "",
     "verify the data directory, print what is there, and end"},
    {"--replay", NULL, OPTION_TEXT, offsetof(config, replay), 0, 0, "NAME",
     "print the digest of an optimizer in the data directory at the step of --to, and end"},
    {"--to", NULL, OPTION_BYTES, offsetof(config, to), 0, SIZE_MAX - 1, "STEP",
     "the step of --replay (the last)"},
};
#define OPTIONS_LENGTH (sizeof options / sizeof options[0])

static void set_defaults(config *c)
{
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    const size_t machine = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    *c = (config){
        .host = "127.0.0.1",
        .port = 2326,
        .threads = processors > 0 ? (unsigned)processors : 1,
        .max_connections = 1024,
        .timeout = 60,
        .history = 1000,
        .idempotency_keys = 10000,
        .idempotency_ttl = 86400,
        .worker_ttl = 3600,
        .heartbeat = 15,
        .max_body = 4 * GIB,
        .max_json_body = 32 * MIB,
        .max_memory = machine / 4 * 3,
        .log_level = LOG_INFO,
        .log_format = LOG_TEXT,
        .fsync = CONFIG_EVERYSEC,
        .journal = CONFIG_GRADIENTS,
        .journal_size = GIB,
        .snapshot_interval = 3600,
        .to = SIZE_MAX,
    };
}

/* A whole number, with K, M, G or T (powers of 1024) behind it where `suffix` is allowed. */
static bool read_number(const char *text, bool suffix, size_t least, size_t most, size_t *out)
{
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    static const char letters[] = "KMGT";
    const char *letter = suffix && *end != '\0' ? strchr(letters, *end) : NULL;
    if (letter != NULL) {
        const unsigned shift = 10 * (unsigned)(letter - letters + 1);
        if (value > SIZE_MAX >> shift) {
            return false;
        }
        value <<= shift;
        end++;
    }
    *out = value;
    return errno == 0 && *end == '\0' && value >= least && value <= most;
}

/* The place of a word in "error|warn|info|debug", or -1. */
static int find_word(const char *words, const char *word)
{
    const size_t length = strlen(word);
    for (int i = 0; length > 0; i++) {
        const size_t n = strcspn(words, "|");
        if (n == length && memcmp(words, word, n) == 0) {
            return i;
        }
        if (words[n] == '\0') {
            break;
        }
        words += n + 1;
    }
    return -1;
}

static bool set_option(config *c, const struct option *o, const char *value)
{
    void *member = (char *)c + o->offset;
    size_t number;
    int word;
    switch (o->type) {
    case OPTION_TEXT: *(const char **)member = value; return value[0] != '\0';
    case OPTION_COUNT:
        if (!read_number(value, false, o->least, o->most, &number)) {
            return false;
        }
        *(unsigned *)member = (unsigned)number;
        return true;
    case OPTION_BYTES: return read_number(value, true, o->least, o->most, member);
    case OPTION_FLAG: *(bool *)member = true; return true;
    case OPTION_WORD: break;
    }
    word = find_word(o->argument, value);
    if (word >= 0) {
        *(int *)member = word;
    }
    return word >= 0;
}

static config_result refuse(const struct option *o, const char *from, const char *value,
                            char *error, size_t size)
{
    if (o->type == OPTION_COUNT || o->type == OPTION_BYTES) {
        (void)snprintf(error, size, "%s is '%s', expected a whole number from %zu to %zu%s", from,
                       value, o->least, o->most,
                       o->type == OPTION_BYTES ? ", in bytes, or with K, M, G or T behind it" : "");
    } else {
        (void)snprintf(error, size, "%s is '%s', expected %s", from, value, o->argument);
    }
    return CONFIG_WRONG;
}

static void print_help(void)
{
    printf("Usage: adamd [OPTION]...\n"
           "An Adam optimizer that you reach over HTTP.\n\n");
    for (size_t i = 0; i < OPTIONS_LENGTH; i++) {
        printf("  %s %s\n        %s\n", options[i].name, options[i].argument, options[i].help);
    }
    printf("  --version\n        print the version\n"
           "  --help\n        print this\n\n"
           "BYTES take K, M, G or T (powers of 1024). Most options can also be set by a variable:\n"
           "--max-body by ADAMD_MAX_BODY. The command line goes first. "
           "ADAM_KERNEL=scalar|avx2|avx512\n"
           "picks a kernel. Documentation: docs/operations.md.\n");
}

static config_result read_environment(config *c, char *error, size_t size)
{
    for (size_t i = 0; i < OPTIONS_LENGTH; i++) {
        const char *value = options[i].variable != NULL ? getenv(options[i].variable) : NULL;
        if (value != NULL && !set_option(c, &options[i], value)) {
            return refuse(&options[i], options[i].variable, value, error, size);
        }
    }
    return CONFIG_RUN;
}

/* The option that an argument names, "--port" or "--port=1"; *value gets what stands behind '='. */
static const struct option *find_option(const char *argument, const char **value)
{
    const size_t length = strcspn(argument, "=");
    for (size_t i = 0; i < OPTIONS_LENGTH; i++) {
        if (strlen(options[i].name) == length && memcmp(options[i].name, argument, length) == 0) {
            *value = argument[length] == '=' ? argument + length + 1 : NULL;
            return &options[i];
        }
    }
    return NULL;
}

static config_result read_arguments(int argc, char **argv, config *c, char *error, size_t size)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help();
            return CONFIG_SHOWN;
        }
        if (strcmp(argv[i], "--version") == 0) {
            printf("adamd %s\n", ADAMD_VERSION);
            return CONFIG_SHOWN;
        }
        const char *value;
        const struct option *o = find_option(argv[i], &value);
        if (o == NULL) {
            (void)snprintf(error, size, "unknown option '%s'; --help lists them", argv[i]);
            return CONFIG_WRONG;
        }
        if (o->type == OPTION_FLAG) {
            if (value != NULL) {
                (void)snprintf(error, size, "%s takes no value", o->name);
                return CONFIG_WRONG;
            }
            value = "";
        } else if (value == NULL && i + 1 == argc) {
            (void)snprintf(error, size, "%s needs a value: %s", o->name, o->argument);
            return CONFIG_WRONG;
        }
        value = value != NULL ? value : argv[++i];
        if (!set_option(c, o, value)) {
            return refuse(o, o->name, value, error, size);
        }
    }
    return CONFIG_RUN;
}

config_result config_read(int argc, char **argv, config *c, char *error, size_t error_size)
{
    set_defaults(c);
    config_result result = read_environment(c, error, error_size);
    result = result == CONFIG_RUN ? read_arguments(argc, argv, c, error, error_size) : result;
    if (result == CONFIG_RUN && c->data_dir == NULL &&
        (c->check || c->replay != NULL || c->recover_to_last_good)) {
        (void)snprintf(error, error_size, "%s needs --data-dir",
                       c->check            ? "--check"
                       : c->replay != NULL ? "--replay"
                                           : "--recover-to-last-good");
        return CONFIG_WRONG;
    }
    if (result == CONFIG_RUN && c->replay == NULL && c->to != SIZE_MAX) {
        (void)snprintf(error, error_size, "--to needs --replay");
        return CONFIG_WRONG;
    }
    if (result == CONFIG_RUN && c->replay != NULL && c->check) {
        (void)snprintf(error, error_size, "--check and --replay are asked for one at a time");
        return CONFIG_WRONG;
    }
    return result;
}
