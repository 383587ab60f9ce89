/* commands_change.c: create, set, snapshot, rollback, fork, rm. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adamctl.h"

#define LARGEST_STEP (UINT64_C(1) << 53)

/* Prints what the server sent with --json, a line for people otherwise; frees it. */
static int done(ctl_context *ctl, adamd_status status, char *json, const char *said)
{
    if (status != ADAMD_OK) {
        return ctl_failed(ctl, status);
    }
    if (ctl->options.json != NULL) {
        ctl_print(json != NULL ? json : "{}");
    } else {
        ctl_print(said);
    }
    free(json);
    return CTL_OK;
}

/* --- create ---------------------------------------------------------------------------------- */

int ctl_create(ctl_context *ctl)
{
    const char *name = ctl->argv[0];
    char *json = NULL;
    char said[256];
    (void)snprintf(said, sizeof said, "%s is made", name);
    if (ctl->argv[1][0] == '{') {
        if (ctl->argc > 2) {
            return ctl_usage("create: JSON goes behind a file, or alone");
        }
        adamd_status status =
            adamd_create_json(ctl->client, name, ctl->argv[1], &json, NULL, &ctl->error);
        return done(ctl, status, json, said);
    }
    size_t n = 0;
    adamd_file *file = NULL;
    adamd_status status = adamd_file_open(ctl->argv[1], &file, &ctl->error);
    if (status == ADAMD_OK) {
        const adamd_tensor *tensors = adamd_file_tensors(file, &n);
        status = adamd_create(ctl->client, name, ctl->argc > 2 ? ctl->argv[2] : NULL, tensors, n,
                              &ctl->error);
        adamd_file_close(file);
    }
    if (status == ADAMD_OK && ctl->options.json != NULL) {
        status = adamd_summary(ctl->client, name, &json, NULL, &ctl->error);
    }
    return done(ctl, status, json, said);
}

/* --- set ------------------------------------------------------------------------------------- */

/* What belongs to the optimizer; all else is a hyperparameter of groups. */
static bool is_setting(const char *key)
{
    static const char *const settings[] = {"grad_scale",
                                           "nonfinite",
                                           "max_grad_norm",
                                           "norm_type",
                                           "error_if_nonfinite",
                                           "clip_value",
                                           "aggregation",
                                           "input",
                                           "max_consecutive_nonfinite"};
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        if (strcmp(settings[i], key) == 0) {
            return true;
        }
    }
    return false;
}

/* Adds KEY=VALUE; the value is JSON where it can be, else a word. Digits stay as they were typed.
 */
static bool add_pair(cJSON *settings, cJSON *changes, const char *pair)
{
    const char *equals = strchr(pair, '=');
    if (equals == NULL || equals == pair) {
        (void)ctl_usage("set: '%s': expected KEY=VALUE, as lr=0.01", pair);
        return false;
    }
    char key[64];
    (void)snprintf(key, sizeof key, "%.*s", (int)(equals - pair), pair);
    cJSON *parsed = cJSON_ParseWithOpts(equals + 1, NULL, 1);
    cJSON *value = parsed != NULL ? cJSON_CreateRaw(equals + 1) : cJSON_CreateString(equals + 1);
    cJSON_Delete(parsed);
    return cJSON_AddItemToObject(is_setting(key) ? settings : changes, key, value) != 0;
}

/* How many groups there are. */
static adamd_status count_groups(ctl_context *ctl, uint64_t *count)
{
    char *json = NULL;
    adamd_status status = adamd_summary(ctl->client, ctl->argv[0], &json, NULL, &ctl->error);
    if (status != ADAMD_OK) {
        return status;
    }
    cJSON *summary = ctl_read(ctl, json);
    if (summary == NULL) {
        return ADAMD_BAD_REPLY;
    }
    *count = (uint64_t)ctl_number_of(summary, "param_groups");
    cJSON_Delete(summary);
    return ADAMD_OK;
}

static adamd_status set_groups(ctl_context *ctl, const char *changes, uint64_t first, uint64_t end)
{
    adamd_status status = ADAMD_OK;
    for (uint64_t i = first; i < end && status == ADAMD_OK; i++) {
        status = adamd_patch_param_group(ctl->client, ctl->argv[0], (unsigned)i, changes, NULL,
                                         NULL, &ctl->error);
        if (status != ADAMD_OK && i > first) {
            (void)fprintf(stderr, "adamctl: groups %" PRIu64 " to %" PRIu64 " were changed\n",
                          first, i - 1);
        }
    }
    return status;
}

/* Sends what there is to send: settings, then each group. */
static adamd_status send_changes(ctl_context *ctl, const cJSON *settings, const cJSON *changes,
                                 uint64_t group)
{
    adamd_status status = ADAMD_OK;
    if (settings->child != NULL) {
        char *text = cJSON_PrintUnformatted(settings);
        status = adamd_configure(ctl->client, ctl->argv[0], text, NULL, NULL, &ctl->error);
        cJSON_free(text);
    }
    if (status == ADAMD_OK && changes->child != NULL) {
        char *text = cJSON_PrintUnformatted(changes);
        uint64_t first = group == UINT64_MAX ? 0 : group;
        uint64_t end = first + 1;
        status = group == UINT64_MAX ? count_groups(ctl, &end) : ADAMD_OK;
        status = status == ADAMD_OK ? set_groups(ctl, text, first, end) : status;
        cJSON_free(text);
    }
    return status;
}

int ctl_set(ctl_context *ctl)
{
    uint64_t group = UINT64_MAX;
    if (!ctl_number("--group", ctl->options.group, 0, 4095, &group)) {
        return CTL_USAGE;
    }
    cJSON *settings = cJSON_CreateObject();
    cJSON *changes = cJSON_CreateObject();
    bool good = true;
    for (int i = 1; i < ctl->argc && good; i++) {
        good = add_pair(settings, changes, ctl->argv[i]);
    }
    if (good && settings->child != NULL && group != UINT64_MAX) {
        (void)ctl_usage("set: %s is the optimizer's, not a group's; leave out --group",
                        settings->child->string);
        good = false;
    }
    adamd_status status = good ? send_changes(ctl, settings, changes, group) : ADAMD_OK;
    cJSON_Delete(settings);
    cJSON_Delete(changes);
    if (!good || status != ADAMD_OK) {
        return good ? ctl_failed(ctl, status) : CTL_USAGE;
    }
    return ctl_show(ctl);
}

/* --- what is on disk ------------------------------------------------------------------------- */

int ctl_snapshot(ctl_context *ctl)
{
    char *json = NULL;
    char said[256] = "";
    adamd_status status = adamd_snapshot(ctl->client, ctl->argv[0], &json, NULL, &ctl->error);
    cJSON *reply = status == ADAMD_OK ? cJSON_Parse(json) : NULL;
    (void)snprintf(said, sizeof said, "%s: step %.0f is on disk", ctl->argv[0],
                   ctl_number_of(reply, "step"));
    cJSON_Delete(reply);
    return done(ctl, status, json, said);
}

int ctl_rollback(ctl_context *ctl)
{
    char *json = NULL;
    char said[256];
    uint64_t step = 0;
    if (!ctl_number("STEP", ctl->argv[1], 0, LARGEST_STEP, &step)) {
        return CTL_USAGE;
    }
    (void)snprintf(said, sizeof said, "%s is what it was at step %" PRIu64, ctl->argv[0], step);
    adamd_status status = adamd_rollback(ctl->client, ctl->argv[0], step, &json, NULL, &ctl->error);
    return done(ctl, status, json, said);
}

int ctl_fork(ctl_context *ctl)
{
    char *json = NULL;
    char said[512];
    uint64_t step = 0;
    bool has_step = ctl->argc > 2;
    if (has_step && !ctl_number("STEP", ctl->argv[2], 0, LARGEST_STEP, &step)) {
        return CTL_USAGE;
    }
    (void)snprintf(said, sizeof said, "%s is made of %s", ctl->argv[1], ctl->argv[0]);
    adamd_status status = adamd_fork(ctl->client, ctl->argv[0], ctl->argv[1],
                                     has_step ? &step : NULL, &json, NULL, &ctl->error);
    return done(ctl, status, json, said);
}

int ctl_rm(ctl_context *ctl)
{
    int code = CTL_OK;
    for (int i = 0; i < ctl->argc; i++) {
        adamd_status status = adamd_delete(ctl->client, ctl->argv[i], &ctl->error);
        if (status != ADAMD_OK) {
            code = ctl_failed(ctl, status);
            if (code == CTL_AWAY) {
                break;
            }
        }
    }
    return code;
}
