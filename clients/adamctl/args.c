/* args.c: the command line, and what is said on stderr. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adamctl.h"

static const struct option {
    const char *name, *value, *text;
    size_t offset;
} options[] = {
#define X(member, name, value, text) {name, value, text, offsetof(ctl_options, member)},
    CTL_OPTION_MAP(X)
#undef X
};

#define N_OPTIONS (sizeof options / sizeof options[0])
#define N_COMMON  5 /* the first ones, which every command takes */

int ctl_usage(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)fputs("adamctl: ", stderr);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
    return CTL_USAGE;
}

int ctl_failed(const ctl_context *ctl, adamd_status status)
{
    char message[sizeof ctl->error.message];
    (void)snprintf(message, sizeof message, "%s",
                   ctl->error.message[0] != '\0' ? ctl->error.message : adamd_status_text(status));
    ctl_clean(message);
    if (ctl->options.json != NULL && ctl->error.type[0] != '\0') {
        (void)fprintf(stderr, "%s\n", ctl->error.body);
    } else {
        (void)fprintf(stderr, "adamctl: %s\n", message);
    }
    return status == ADAMD_TRANSPORT          ? CTL_AWAY
           : status == ADAMD_INVALID_ARGUMENT ? CTL_USAGE
                                              : CTL_REFUSED;
}

/* The option of an argument like --name or --name=value; NULL: none. */
static const struct option *find_option(const char *text)
{
    size_t length = strcspn(text, "=");
    if (strcmp(text, "-h") == 0) {
        return find_option("--help");
    }
    for (size_t i = 0; i < N_OPTIONS; i++) {
        if (strlen(options[i].name) == length && memcmp(options[i].name, text, length) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

int ctl_parse(ctl_context *ctl, int argc, char **argv)
{
    bool only_arguments = false;
    int n = 0;
    for (int i = 0; i < argc; i++) {
        char *text = argv[i];
        if (only_arguments || text[0] != '-' || text[1] == '\0') {
            argv[n++] = text;
            continue;
        }
        if (strcmp(text, "--") == 0) {
            only_arguments = true;
            continue;
        }
        const struct option *option = find_option(text);
        if (option == NULL) {
            return ctl_usage("unknown option %s; adamctl --help lists them", text);
        }
        const char **place = (const char **)((char *)&ctl->options + option->offset);
        const char *equals = strchr(text, '=');
        if (option->value[0] == '\0') {
            if (equals != NULL) {
                return ctl_usage("%s takes no value", option->name);
            }
            *place = "";
        } else if (equals != NULL) {
            *place = equals + 1;
        } else if (i + 1 < argc) {
            *place = argv[++i];
        } else {
            return ctl_usage("%s needs a value: %s %s", option->name, option->name, option->value);
        }
    }
    ctl->argc = n;
    ctl->argv = argv;
    return CTL_OK;
}

/* Whether a command takes the option. */
static bool takes(const ctl_command *command, size_t i)
{
    char word[32];
    (void)snprintf(word, sizeof word, "%s ", options[i].name);
    return i < N_COMMON || strstr(command->options, word) != NULL;
}

const char *ctl_unexpected_option(const ctl_context *ctl, const ctl_command *command)
{
    for (size_t i = 0; i < N_OPTIONS; i++) {
        const char *const *place =
            (const char *const *)((const char *)&ctl->options + options[i].offset);
        if (*place != NULL && !takes(command, i)) {
            return options[i].name;
        }
    }
    return NULL;
}

bool ctl_number(const char *what, const char *text, uint64_t least, uint64_t most, uint64_t *value)
{
    if (text == NULL) {
        return true;
    }
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || number < least ||
        number > most) {
        (void)ctl_usage("%s '%s': expected a whole number from %" PRIu64 " to %" PRIu64, what, text,
                        least, most);
        return false;
    }
    *value = number;
    return true;
}

void ctl_print_options(const ctl_command *command)
{
    for (size_t i = 0; i < N_OPTIONS; i++) {
        if (command == NULL ? i < N_COMMON : takes(command, i)) {
            char left[48];
            (void)snprintf(left, sizeof left, "%s %s", options[i].name, options[i].value);
            (void)printf("  %-20s  %s\n", left, options[i].text);
        }
    }
}
