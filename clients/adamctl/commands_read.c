/* commands_read.c: ls, show, groups, params, history, workers, round. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adamctl.h"

cJSON *ctl_read(ctl_context *ctl, char *json)
{
    cJSON *value = cJSON_Parse(json);
    free(json);
    if (value == NULL) {
        (void)snprintf(ctl->error.message, sizeof ctl->error.message,
                       "the reply is not JSON: is it an adamd that answers at %s?", ctl->url);
        ctl->error.type[0] = '\0';
    }
    return value;
}

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static void heads(ctl_table *table, const char *const *names)
{
    for (size_t i = 0; i < table->columns; i++) {
        ctl_cell(table, "%s", names[i]);
    }
}

/* All pages of the list in one array. */
static adamd_status read_list(ctl_context *ctl, const char *prefix, cJSON *all)
{
    char after[160] = "";
    do {
        char *json = NULL;
        adamd_status status =
            adamd_list(ctl->client, prefix, after, 1000, &json, NULL, &ctl->error);
        if (status != ADAMD_OK) {
            return status;
        }
        cJSON *page = ctl_read(ctl, json);
        if (page == NULL) {
            return ADAMD_BAD_REPLY;
        }
        cJSON *list = cJSON_GetObjectItemCaseSensitive(page, "optimizers");
        for (cJSON *one = NULL; (one = cJSON_DetachItemFromArray(list, 0)) != NULL;) {
            (void)cJSON_AddItemToArray(all, one);
        }
        (void)snprintf(after, sizeof after, "%s", ctl_text_of(page, "next"));
        cJSON_Delete(page);
    } while (after[0] != '\0');
    return ADAMD_OK;
}

static void print_list(const cJSON *all)
{
    static const char *const names[] = {"NAME",   "ALGORITHM", "STEP",     "SKIPPED",
                                        "GROUPS", "PARAMS",    "ELEMENTS", "MEMORY"};
    ctl_table table;
    const cJSON *one = NULL;
    char bytes[32];
    ctl_table_begin(&table, "llrrrrrr");
    heads(&table, names);
    cJSON_ArrayForEach(one, all)
    {
        ctl_cell_json(&table, member(one, "name"));
        ctl_cell_json(&table, member(one, "algorithm"));
        ctl_cell_json(&table, member(one, "step"));
        ctl_cell_json(&table, member(one, "skipped"));
        ctl_cell_json(&table, member(one, "param_groups"));
        ctl_cell_json(&table, member(one, "params"));
        ctl_cell_json(&table, member(one, "numel"));
        ctl_cell(&table, "%s", ctl_bytes(ctl_number_of(one, "bytes"), bytes));
    }
    ctl_table_end(&table);
}

/* Prints JSON that was put together here. */
static void print_json(const cJSON *value)
{
    char *text = cJSON_Print(value);
    if (text != NULL) {
        ctl_print(text);
        cJSON_free(text);
    }
}

int ctl_ls(ctl_context *ctl)
{
    cJSON *all = cJSON_CreateArray();
    const cJSON *one = NULL;
    adamd_status status = read_list(ctl, ctl->argc > 0 ? ctl->argv[0] : NULL, all);
    if (status == ADAMD_OK && ctl->options.json != NULL) {
        print_json(all);
    } else if (status == ADAMD_OK && ctl->options.names != NULL) {
        cJSON_ArrayForEach(one, all)
        {
            ctl_print(ctl_text_of(one, "name"));
        }
    } else if (status == ADAMD_OK && cJSON_GetArraySize(all) > 0) {
        print_list(all);
    } else if (status == ADAMD_OK && ctl_is_terminal()) {
        (void)puts("no optimizers");
    }
    cJSON_Delete(all);
    return status == ADAMD_OK ? CTL_OK : ctl_failed(ctl, status);
}

/* Fetches param_groups without data. NULL, with a status, where that fails. */
static cJSON *read_groups(ctl_context *ctl, adamd_status *status)
{
    char *json = NULL;
    *status = adamd_param_groups(ctl->client, ctl->argv[0], "none", &json, NULL, &ctl->error);
    cJSON *groups = *status == ADAMD_OK ? ctl_read(ctl, json) : NULL;
    *status = *status == ADAMD_OK && groups == NULL ? ADAMD_BAD_REPLY : *status;
    return groups;
}

static double numel_of(const cJSON *param)
{
    double numel = 1;
    const cJSON *dimension = NULL;
    cJSON_ArrayForEach(dimension, member(param, "shape"))
    {
        numel *= dimension->valuedouble;
    }
    return numel;
}

static void print_groups(const cJSON *groups)
{
    static const char *const names[] = {"GROUP", "PARAMS", "ELEMENTS",     "LR",
                                        "BETAS", "EPS",    "WEIGHT_DECAY", "OTHERS"};
    ctl_table table;
    int index = 0;
    const cJSON *group = NULL;
    const cJSON *param = NULL;
    ctl_table_begin(&table, "rrrrrrrl");
    heads(&table, names);
    cJSON_ArrayForEach(group, groups)
    {
        double numel = 0;
        cJSON_ArrayForEach(param, member(group, "params"))
        {
            numel += numel_of(param);
        }
        ctl_cell(&table, "%d", index++);
        ctl_cell(&table, "%d", cJSON_GetArraySize(member(group, "params")));
        ctl_cell(&table, "%.0f", numel);
        ctl_cell_json(&table, member(group, "lr"));
        ctl_cell_json(&table, member(group, "betas"));
        ctl_cell_json(&table, member(group, "eps"));
        ctl_cell_json(&table, member(group, "weight_decay"));
        ctl_cell(&table, "%s%s%s%s%s", cJSON_IsTrue(member(group, "amsgrad")) ? "amsgrad " : "",
                 cJSON_IsTrue(member(group, "maximize")) ? "maximize " : "",
                 cJSON_IsFalse(member(group, "bias_correction")) ? "no-bias-correction " : "",
                 cJSON_IsTrue(member(group, "buffers")) ? "buffers " : "",
                 cJSON_IsObject(member(group, "schedule")) ? "schedule" : "");
    }
    ctl_table_end(&table);
}

static void print_summary(const cJSON *summary)
{
    static const char *const shown[] = {"name",   "algorithm", "step",  "skipped",  "epoch",
                                        "params", "numel",     "bytes", "defaults", "param_groups"};
    char bytes[32];
    ctl_table table;
    const cJSON *value = NULL;
    (void)printf("%s: %s, step %.0f", ctl_text_of(summary, "name"),
                 ctl_text_of(summary, "algorithm"), ctl_number_of(summary, "step"));
    if (ctl_number_of(summary, "skipped") > 0) {
        (void)printf(" (%.0f skipped)", ctl_number_of(summary, "skipped"));
    }
    (void)printf(", epoch %.0f\n%.0f parameters of %.0f elements, %s\n\n",
                 ctl_number_of(summary, "epoch"), ctl_number_of(summary, "params"),
                 ctl_number_of(summary, "numel"),
                 ctl_bytes(ctl_number_of(summary, "bytes"), bytes));
    ctl_table_begin(&table, "ll");
    ctl_cell(&table, "SETTING");
    ctl_cell(&table, "VALUE");
    cJSON_ArrayForEach(value, summary)
    {
        bool known = false;
        for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++) {
            known = known || strcmp(value->string, shown[i]) == 0;
        }
        if (!known) {
            ctl_cell(&table, "%s", value->string);
            ctl_cell_json(&table, value);
        }
    }
    ctl_table_end(&table);
    (void)putchar('\n');
}

int ctl_show(ctl_context *ctl)
{
    char *json = NULL;
    adamd_status status = adamd_summary(ctl->client, ctl->argv[0], &json, NULL, &ctl->error);
    cJSON *summary = status == ADAMD_OK ? ctl_read(ctl, json) : NULL;
    if (summary == NULL) {
        return ctl_failed(ctl, status == ADAMD_OK ? ADAMD_BAD_REPLY : status);
    }
    cJSON *groups = read_groups(ctl, &status);
    if (groups != NULL && ctl->options.json != NULL) {
        cJSON *both = cJSON_CreateObject();
        (void)cJSON_AddItemReferenceToObject(both, "summary", summary);
        (void)cJSON_AddItemReferenceToObject(both, "param_groups", groups);
        print_json(both);
        cJSON_Delete(both);
    } else if (groups != NULL) {
        print_summary(summary);
        print_groups(groups);
    }
    cJSON_Delete(summary);
    cJSON_Delete(groups);
    return status == ADAMD_OK ? CTL_OK : ctl_failed(ctl, status);
}

/* Every hyperparameter of each group, one a line. */
static void print_options_of(const cJSON *groups)
{
    ctl_table table;
    int index = 0;
    const cJSON *group = NULL;
    const cJSON *value = NULL;
    ctl_table_begin(&table, "rll");
    ctl_cell(&table, "GROUP");
    ctl_cell(&table, "OPTION");
    ctl_cell(&table, "VALUE");
    cJSON_ArrayForEach(group, groups)
    {
        cJSON_ArrayForEach(value, group)
        {
            bool params = strcmp(value->string, "params") == 0;
            ctl_cell(&table, "%d", index);
            ctl_cell(&table, "%s", value->string);
            if (params) {
                ctl_cell(&table, "%d", cJSON_GetArraySize(value));
            } else {
                ctl_cell_json(&table, value);
            }
        }
        index++;
    }
    ctl_table_end(&table);
}

static void print_params(const cJSON *groups, bool names_alone)
{
    static const char *const names[] = {"GROUP", "NAME", "SHAPE", "DTYPE"};
    ctl_table table;
    int index = 0;
    const cJSON *group = NULL;
    const cJSON *param = NULL;
    ctl_table_begin(&table, "rlll");
    heads(&table, names);
    cJSON_ArrayForEach(group, groups)
    {
        cJSON_ArrayForEach(param, member(group, "params"))
        {
            if (names_alone) {
                ctl_print(ctl_text_of(param, "name"));
                continue;
            }
            ctl_cell(&table, "%d", index);
            ctl_cell_json(&table, member(param, "name"));
            ctl_cell_json(&table, member(param, "shape"));
            ctl_cell_json(&table, member(param, "dtype"));
        }
        index++;
    }
    if (names_alone) {
        for (size_t i = 0; i < table.n; i++) {
            free(table.cells[i]);
        }
        table.n = 0;
    }
    ctl_table_end(&table);
}

static int print_of_groups(ctl_context *ctl, bool params)
{
    adamd_status status = ADAMD_OK;
    cJSON *groups = read_groups(ctl, &status);
    if (groups == NULL) {
        return ctl_failed(ctl, status);
    }
    if (ctl->options.json != NULL) {
        print_json(groups);
    } else if (params) {
        print_params(groups, ctl->options.names != NULL);
    } else {
        print_options_of(groups);
    }
    cJSON_Delete(groups);
    return CTL_OK;
}

int ctl_groups(ctl_context *ctl)
{
    return print_of_groups(ctl, false);
}

int ctl_params(ctl_context *ctl)
{
    return print_of_groups(ctl, true);
}
