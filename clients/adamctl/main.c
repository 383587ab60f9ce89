/* main.c: finds the command and runs it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adamctl.h"

#define MANY 1000000

static const ctl_command commands[] = {
    {"ls", "[PREFIX]", "list the optimizers", "--names ", 0, 1, ctl_ls},
    {"show", "NAME", "what an optimizer is, with its groups", "", 1, 1, ctl_show},
    {"groups", "NAME", "its param groups, every hyperparameter", "", 1, 1, ctl_groups},
    {"params", "NAME", "its parameters", "--names ", 1, 1, ctl_params},
    {"history", "NAME", "its last steps", "--last ", 1, 1, ctl_history},
    {"watch", "NAME", "its steps as they come", "--count --from ", 1, 1, ctl_watch},
    {"get", "NAME FILE", "its parameters into a safetensors file", "--dtype --state ", 2, 2,
     ctl_get},
    {"put", "NAME FILE", "overwrite its parameters from a safetensors file", "--load ", 2, 2,
     ctl_put},
    {"create", "NAME FILE|JSON [JSON]", "make an optimizer of a safetensors file, or of JSON", "",
     2, 3, ctl_create},
    {"step", "NAME FILE", "take a step with the gradients of a safetensors file",
     "--out --worker --weight --based-on --if-match --key ", 2, 2, ctl_step},
    {"set", "NAME KEY=VALUE...", "change hyperparameters and settings: lr=0.01 max_grad_norm=1",
     "--group ", 2, MANY, ctl_set},
    {"workers", "NAME", "who sends it gradients", "--remove ", 1, 1, ctl_workers},
    {"round", "NAME", "the gradients that it holds", "--drop ", 1, 1, ctl_round},
    {"snapshot", "NAME", "write a snapshot of it now", "", 1, 1, ctl_snapshot},
    {"rollback", "NAME STEP", "take it back to an earlier step", "", 2, 2, ctl_rollback},
    {"fork", "NAME NEW [STEP]", "make another optimizer of what it is, or was", "", 2, 3, ctl_fork},
    {"rm", "NAME...", "remove optimizers", "", 1, MANY, ctl_rm},
    {"bench", "", "time steps on optimizers of its own", "--numel --tensors --steps --parallel ", 0,
     0, ctl_bench},
};

#define N_COMMANDS (sizeof commands / sizeof commands[0])

static void print_help(void)
{
    (void)puts("Usage: adamctl COMMAND [ARGUMENT]... [OPTION]...\n\n"
               "Looks at the optimizers of an adamd server, and changes them.\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        char left[64];
        (void)snprintf(left, sizeof left, "%s %s", commands[i].name, commands[i].arguments);
        (void)printf("  %-29s  %s\n", left, commands[i].summary);
    }
    (void)puts("\nOptions of all commands; adamctl COMMAND --help has the others:\n");
    ctl_print_options(NULL);
    (void)puts("  --version             print the version\n\n"
               "Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 no connection.");
}

static void print_command_help(const ctl_command *command)
{
    (void)printf("Usage: adamctl %s%s%s [OPTION]...\n\n%s.\n\n", command->name,
                 command->arguments[0] != '\0' ? " " : "", command->arguments, command->summary);
    ctl_print_options(command);
}

static const ctl_command *find_command(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

/* Opens the client as the options say. */
static int connect_client(ctl_context *ctl)
{
    uint64_t retries = 2;
    uint64_t timeout = 0;
    if (!ctl_number("--retries", ctl->options.retries, 0, 1000, &retries) ||
        !ctl_number("--timeout", ctl->options.timeout, 1, 86400, &timeout)) {
        return CTL_USAGE;
    }
    const char *from_environment = getenv("ADAMD_URL");
    ctl->url = ctl->options.url != NULL                                  ? ctl->options.url
               : from_environment != NULL && from_environment[0] != '\0' ? from_environment
                                                                         : "http://127.0.0.1:2326";
    ctl->client_options.max_retries = retries == 0 ? -1 : (int)retries;
    ctl->client_options.timeout_ms = (unsigned)timeout * 1000;
    adamd_status status = adamd_open(ctl->url, &ctl->client_options, &ctl->client, &ctl->error);
    return status == ADAMD_OK ? CTL_OK : ctl_failed(ctl, status);
}

static int run(ctl_context *ctl, const ctl_command *command)
{
    const char *unexpected = ctl_unexpected_option(ctl, command);
    if (unexpected != NULL) {
        return ctl_usage("%s does not take %s; adamctl %s --help says what it takes", command->name,
                         unexpected, command->name);
    }
    if (ctl->argc < command->least || ctl->argc > command->most) {
        return ctl_usage("usage: adamctl %s %s", command->name, command->arguments);
    }
    int code = connect_client(ctl);
    if (code == CTL_OK) {
        code = command->run(ctl);
    }
    if (code == CTL_OK && (fflush(stdout) != 0 || ferror(stdout) != 0)) {
        (void)fputs("adamctl: standard output cannot be written\n", stderr);
        code = CTL_REFUSED;
    }
    adamd_close(ctl->client);
    return code;
}

int main(int argc, char **argv)
{
    static ctl_context ctl;
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        (void)puts("adamctl " ADAMCTL_VERSION);
        return CTL_OK;
    }
    int code = ctl_parse(&ctl, argc - 1, argv + 1);
    if (code != CTL_OK) {
        return code;
    }
    if (ctl.argc == 0) {
        if (ctl.options.help != NULL) {
            print_help();
            return CTL_OK;
        }
        return ctl_usage("expected a command; adamctl --help lists them");
    }
    const ctl_command *command = find_command(ctl.argv[0]);
    if (command == NULL) {
        return ctl_usage("unknown command '%s'; adamctl --help lists them", ctl.argv[0]);
    }
    if (ctl.options.help != NULL) {
        print_command_help(command);
        return CTL_OK;
    }
    ctl.argc--;
    ctl.argv++;
    return run(&ctl, command);
}
