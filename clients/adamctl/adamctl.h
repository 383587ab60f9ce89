/* adamctl.h: what the files of adamctl share.
 *
 * Order of dependencies: table, args <- commands_* <- main. */
#ifndef ADAMCTL_H
#define ADAMCTL_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adamd_client.h"

/* Exit codes. */
enum {
    CTL_OK = 0,
    CTL_REFUSED = 1, /* by the server, or by the file system */
    CTL_USAGE = 2,
    CTL_AWAY = 3, /* no whole reply came */
};

/* One line an option: member, long form, placeholder of its value ("" none), what it does. */
#define CTL_OPTION_MAP(X)                                                                      \
    X(url, "--url", "URL", "the server (else $ADAMD_URL, else http://127.0.0.1:2326)")         \
    X(json, "--json", "", "print JSON")                                                        \
    X(retries, "--retries", "N", "tries again after a broken connection (2)")                  \
    X(timeout, "--timeout", "SECONDS", "for one request with its repeats (no limit)")          \
    X(help, "--help", "", "say what the command does")                                         \
    X(names, "--names", "", "names alone, one a line")                                         \
    X(dtype, "--dtype", "TYPE", "f32, f64, bf16 or f16: round the values to it")               \
    X(state, "--state", "", "everything that decides the next step, not parameters alone")     \
    X(load, "--load", "WHAT", "FILE is a state_dict: load \"everything\" or \"params\" of it") \
    X(out, "--out", "FILE", "write the updated parameters to FILE")                            \
    X(worker, "--worker", "NAME", "who sends the gradients")                                   \
    X(weight, "--weight", "NUMBER", "what they weigh in a weighted mean")                      \
    X(based_on, "--based-on", "STEP", "the step of the parameters they were computed on")      \
    X(if_match, "--if-match", "ETAG", "only if the optimizer is as this tag says")             \
    X(key, "--key", "KEY", "Idempotency-Key: the same step is taken once")                     \
    X(group, "--group", "INDEX", "of this group alone")                                        \
    X(count, "--count", "N", "end after N events")                                             \
    X(from, "--from", "STEP", "begin with what came after STEP")                               \
    X(remove, "--remove", "WORKER", "forget WORKER and end its quarantine")                    \
    X(drop, "--drop", "", "drop the gradients that are held")                                  \
    X(last, "--last", "N", "the last N alone")                                                 \
    X(numel, "--numel", "N", "elements of the parameters (1000000)")                           \
    X(tensors, "--tensors", "N", "parameters that they make up (10)")                          \
    X(steps, "--steps", "N", "steps in all (200)")                                             \
    X(parallel, "--parallel", "N", "optimizers that step at once (1)")

/* NULL: not given; else the value, "" for one without. */
typedef struct ctl_options {
#define X(member, name, value, text) const char *member;
    CTL_OPTION_MAP(X)
#undef X
} ctl_options;

typedef struct ctl_context {
    adamd_client *client;
    const char *url;
    ctl_options options;
    adamd_client_options client_options;
    int argc; /* behind the command */
    char **argv;
    adamd_error error;
} ctl_context;

typedef struct ctl_command {
    const char *name;
    const char *arguments; /* as the usage has them */
    const char *summary;
    const char *options; /* of its own, each with a space behind it */
    int least, most;     /* arguments */
    int (*run)(ctl_context *ctl);
} ctl_command;

/* --- args.c ---------------------------------------------------------------------------------- */

/* Says "adamctl: ..." on stderr and returns CTL_USAGE. */
int ctl_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Says what went wrong and returns the exit code. */
int ctl_failed(const ctl_context *ctl, adamd_status status);

/* Sorts a command line into options and arguments (argv is reordered). CTL_OK or CTL_USAGE. */
int ctl_parse(ctl_context *ctl, int argc, char **argv);

/* A whole number of least to most; false, having said so, where it is none. NULL leaves *value. */
bool ctl_number(const char *what, const char *text, uint64_t least, uint64_t most, uint64_t *value);

/* An option that was given and that the command does not take, or NULL. */
const char *ctl_unexpected_option(const ctl_context *ctl, const ctl_command *command);

/* The options of a command, or those of all (NULL), one a line. */
void ctl_print_options(const ctl_command *command);

/* --- table.c --------------------------------------------------------------------------------- */

/* Cells of text in columns; the first row is the head. */
typedef struct ctl_table {
    char **cells;
    size_t n, columns;
    const char *align; /* a letter a column: l or r */
} ctl_table;

void ctl_table_begin(ctl_table *table, const char *align);
/* The next cell; a copy is kept, and controls in it are shown as '?'. */
void ctl_cell(ctl_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A value as JSON, strings without their quotes, "-" for none. */
void ctl_cell_json(ctl_table *table, const cJSON *value);
/* Prints it and frees the cells. */
void ctl_table_end(ctl_table *table);

/* "1.5 KiB" */
const char *ctl_bytes(double bytes, char out[32]);
/* As people read it: control characters become '?'. In place. */
void ctl_clean(char *text);
/* Whether stdout is a terminal. */
bool ctl_is_terminal(void);

/* Prints text with one line break behind it. */
void ctl_print(const char *text);

/* Numbers and texts of a JSON object; 0 and "" where there are none. */
double ctl_number_of(const cJSON *object, const char *member);
const char *ctl_text_of(const cJSON *object, const char *member);

/* --- commands -------------------------------------------------------------------------------- */

/* Parses what the server sent, and frees it; NULL, having filled the error, where it is no JSON. */
cJSON *ctl_read(ctl_context *ctl, char *json);

int ctl_ls(ctl_context *ctl);
int ctl_show(ctl_context *ctl);
int ctl_groups(ctl_context *ctl);
int ctl_params(ctl_context *ctl);
int ctl_history(ctl_context *ctl);
int ctl_workers(ctl_context *ctl);
int ctl_round(ctl_context *ctl);
int ctl_create(ctl_context *ctl);
int ctl_set(ctl_context *ctl);
int ctl_snapshot(ctl_context *ctl);
int ctl_rollback(ctl_context *ctl);
int ctl_fork(ctl_context *ctl);
int ctl_rm(ctl_context *ctl);
int ctl_get(ctl_context *ctl);
int ctl_put(ctl_context *ctl);
int ctl_step(ctl_context *ctl);
int ctl_watch(ctl_context *ctl);
int ctl_bench(ctl_context *ctl);

#endif
