/* commands_life.c: history, workers, round: what happens to an optimizer. */
#include <stdio.h>
#include <stdlib.h>

#include "adamctl.h"

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

/* Prints what the server sent, as it is or by `print`, and frees it. */
static int finish(ctl_context *ctl, adamd_status status, char *json, void (*print)(const cJSON *))
{
    if (status != ADAMD_OK) {
        return ctl_failed(ctl, status);
    }
    if (ctl->options.json != NULL) {
        ctl_print(json);
        free(json);
        return CTL_OK;
    }
    cJSON *value = ctl_read(ctl, json);
    if (value == NULL) {
        return ctl_failed(ctl, ADAMD_BAD_REPLY);
    }
    print(value);
    cJSON_Delete(value);
    return CTL_OK;
}

static void print_history(const cJSON *value)
{
    static const char *const heads[] = {"STEP",       "TIME",        "WORKER", "GRAD_NORM",
                                        "PARAM_NORM", "UPDATE_NORM", "CLIP",   ""};
    static const char *const norms[] = {"grad_norm", "param_norm", "update_norm", "clip_coef"};
    ctl_table table;
    const cJSON *step = NULL;
    ctl_table_begin(&table, "rllrrrrl");
    for (size_t i = 0; i < table.columns; i++) {
        ctl_cell(&table, "%s", heads[i]);
    }
    cJSON_ArrayForEach(step, member(value, "history"))
    {
        ctl_cell_json(&table, member(step, "step"));
        ctl_cell_json(&table, member(step, "time"));
        ctl_cell_json(&table, member(step, "worker"));
        for (size_t i = 0; i < sizeof norms / sizeof norms[0]; i++) {
            const cJSON *norm = member(step, norms[i]);
            if (cJSON_IsNumber(norm)) {
                ctl_cell(&table, "%.6g", norm->valuedouble);
            } else {
                ctl_cell_json(&table, norm);
            }
        }
        ctl_cell(&table, cJSON_IsTrue(member(step, "skipped")) ? "skipped" : "");
    }
    ctl_table_end(&table);
}

int ctl_history(ctl_context *ctl)
{
    char *json = NULL;
    uint64_t last = 0;
    if (!ctl_number("--last", ctl->options.last, 1, 1000000, &last)) {
        return CTL_USAGE;
    }
    adamd_status status =
        adamd_history(ctl->client, ctl->argv[0], (unsigned)last, &json, NULL, &ctl->error);
    return finish(ctl, status, json, print_history);
}

static void print_workers(const cJSON *value)
{
    static const char *const heads[] = {"NAME",      "STEPS",     "WEIGHT",     "STALENESS",
                                        "NONFINITE", "LAST SEEN", "QUARANTINE", "REFUSED"};
    ctl_table table;
    const cJSON *worker = NULL;
    ctl_table_begin(&table, "lrrrrlll");
    for (size_t i = 0; i < table.columns; i++) {
        ctl_cell(&table, "%s", heads[i]);
    }
    cJSON_ArrayForEach(worker, member(value, "workers"))
    {
        const cJSON *refused = member(worker, "refused");
        ctl_cell_json(&table, member(worker, "name"));
        ctl_cell_json(&table, member(worker, "steps"));
        ctl_cell_json(&table, member(worker, "weight"));
        ctl_cell_json(&table, member(member(worker, "staleness"), "last"));
        ctl_cell_json(&table, member(worker, "nonfinite"));
        ctl_cell_json(&table, member(worker, "last_seen"));
        ctl_cell_json(&table, member(worker, "quarantined"));
        ctl_cell_json(&table, cJSON_GetArraySize(refused) > 0 ? refused : NULL);
    }
    ctl_table_end(&table);
    if (ctl_number_of(value, "gone") > 0) {
        (void)printf("and %.0f that have not been heard of for long\n",
                     ctl_number_of(value, "gone"));
    }
}

int ctl_workers(ctl_context *ctl)
{
    char *json = NULL;
    if (ctl->options.remove != NULL) {
        adamd_status status =
            adamd_remove_worker(ctl->client, ctl->argv[0], ctl->options.remove, &ctl->error);
        return status == ADAMD_OK ? CTL_OK : ctl_failed(ctl, status);
    }
    adamd_status status = adamd_workers(ctl->client, ctl->argv[0], &json, NULL, &ctl->error);
    return finish(ctl, status, json, print_workers);
}

static void print_round(const cJSON *value)
{
    ctl_table table;
    const cJSON *one = NULL;
    ctl_table_begin(&table, "ll");
    ctl_cell(&table, "ROUND");
    ctl_cell(&table, "%s", "");
    cJSON_ArrayForEach(one, value)
    {
        ctl_cell(&table, "%s", one->string);
        ctl_cell_json(&table, one);
    }
    ctl_table_end(&table);
}

int ctl_round(ctl_context *ctl)
{
    char *json = NULL;
    if (ctl->options.drop != NULL) {
        adamd_status status = adamd_drop_round(ctl->client, ctl->argv[0], &ctl->error);
        return status == ADAMD_OK ? CTL_OK : ctl_failed(ctl, status);
    }
    adamd_status status = adamd_round(ctl->client, ctl->argv[0], &json, NULL, &ctl->error);
    return finish(ctl, status, json, print_round);
}
