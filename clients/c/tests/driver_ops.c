/* driver_ops.c: the calls that the conformance driver makes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

static const cJSON *option(const call *c, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(c->options, name);
}

static const char *text(const call *c, const char *name)
{
    return cJSON_GetStringValue(option(c, name));
}

/* A number; `infinity` where it is null or a word. */
static double number(const call *c, const char *name, double otherwise)
{
    const cJSON *value = option(c, name);
    return value == NULL ? otherwise : cJSON_IsNumber(value) ? value->valuedouble : INFINITY;
}

/* A whole number, to the last digit, which cJSON does not keep. */
static uint64_t whole(const call *c, const char *name)
{
    char key[64];
    (void)snprintf(key, sizeof key, "\"%s\": ", name);
    const char *at = strstr(c->line, key);
    return at != NULL ? strtoull(at + strlen(key), NULL, 10) : 0;
}

/* What the server sent, in one line, its digits as they are. */
static cJSON *raw(const char *json)
{
    char *text = strdup(json);
    cJSON_Minify(text);
    cJSON *value = cJSON_CreateRaw(text);
    free(text);
    return value;
}

/* The reply's text becomes the result, or its member `name`. Frees the text. */
static adamd_status give(call *c, adamd_status status, char *json, const char *name)
{
    if (status == ADAMD_OK && name != NULL) {
        (void)cJSON_AddItemToObject(c->ok, name, raw(json));
    } else if (status == ADAMD_OK) {
        cJSON_Delete(c->ok);
        c->ok = raw(json);
    }
    free(json);
    return status;
}

/* An option as JSON text, for free(). */
static char *json_option(const call *c, const char *name)
{
    return cJSON_PrintUnformatted(option(c, name));
}

static void fill_options(const call *c, adamd_step_options *o)
{
    const cJSON *strict = option(c, "error_if_nonfinite");
    o->worker = text(c, "worker");
    o->if_match = text(c, "if_match");
    o->idempotency_key = text(c, "key");
    o->dtype = text(c, "dtype");
    o->weight = number(c, "weight", 0);
    o->has_based_on = option(c, "based_on") != NULL;
    o->based_on = o->has_based_on ? whole(c, "based_on") : 0;
    o->minimal = cJSON_IsTrue(option(c, "minimal"));
    o->grad.grad_scale = number(c, "grad_scale", 0);
    o->grad.nonfinite = text(c, "nonfinite");
    o->grad.max_grad_norm = number(c, "max_grad_norm", 0);
    o->grad.norm_type = number(c, "norm_type", 0);
    o->grad.clip_value = number(c, "clip_value", 0);
    o->grad.error_if_nonfinite = strict == NULL ? 0 : cJSON_IsTrue(strict) ? 1 : -1;
}

static adamd_status step(call *c)
{
    adamd_step_options options = {0};
    adamd_result r;
    wires grads = wires_read(cJSON_GetObjectItem(c->message, "grads"));
    wires into = wires_read(cJSON_GetObjectItem(c->message, "into"));
    if (into.n != grads.n) { /* no parameters are expected back */
        wires_free(&into);
        into = wires_read(cJSON_GetObjectItem(c->message, "grads"));
    }
    fill_options(c, &options);
    char *groups = option(c, "param_groups") != NULL ? json_option(c, "param_groups") : NULL;
    options.param_groups = groups;
    adamd_status status = adamd_step(c->client, c->name, grads.tensors, grads.n, into.tensors,
                                     &options, &r, &c->error);
    if (status == ADAMD_OK) {
        (void)cJSON_AddNumberToObject(c->ok, "step", (double)r.step);
        (void)cJSON_AddStringToObject(c->ok, "etag", r.etag);
        (void)cJSON_AddNumberToObject(c->ok, "pending", (double)r.pending);
        (void)cJSON_AddBoolToObject(c->ok, "replayed", r.replayed);
    }
    if (status == ADAMD_OK && !options.minimal) {
        (void)cJSON_AddItemToObject(c->ok, "params", wires_write(&into));
        (void)cJSON_AddItemToObject(c->ok, "grad_norm", number_write(r.grad_norm));
        (void)cJSON_AddItemToObject(c->ok, "param_norm", number_write(r.param_norm));
        (void)cJSON_AddItemToObject(c->ok, "update_norm", number_write(r.update_norm));
        (void)cJSON_AddItemToObject(c->ok, "clip_coef", number_write(r.clip_coef));
        (void)cJSON_AddBoolToObject(c->ok, "skipped", r.skipped);
        (void)cJSON_AddNumberToObject(c->ok, "converted", (double)r.converted);
    }
    cJSON_free(groups);
    wires_free(&grads);
    wires_free(&into);
    return status;
}

static adamd_status create(call *c)
{
    wires params = wires_read(cJSON_GetObjectItem(c->message, "params"));
    char *json =
        c->options != NULL && c->options->child != NULL ? cJSON_PrintUnformatted(c->options) : NULL;
    adamd_status status =
        adamd_create(c->client, c->name, json, params.tensors, params.n, &c->error);
    if (status == ADAMD_OK) {
        const char *reply = adamd_last_json(c->client);
        (void)cJSON_AddItemToObject(c->ok, "summary", raw(reply));
    }
    cJSON_free(json);
    wires_free(&params);
    return status;
}

/* Places for what the case does not name: the server knows the types and shapes. */
static adamd_status places(call *c, wires *into)
{
    char *json = NULL;
    const cJSON *group = NULL;
    const cJSON *one = NULL;
    *into = wires_read(cJSON_GetObjectItem(c->message, "into"));
    if (into->n > 0 || option(c, "if_none_match") != NULL) { /* which is not to be met */
        return ADAMD_OK;
    }
    adamd_status status = adamd_param_groups(c->client, c->name, "none", &json, NULL, &c->error);
    cJSON *groups = cJSON_Parse(status == ADAMD_OK ? json : "[]");
    cJSON *all = cJSON_CreateObject();
    cJSON_ArrayForEach(group, groups)
    {
        cJSON_ArrayForEach(one, cJSON_GetObjectItem(group, "params"))
        {
            const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(one, "name"));
            (void)cJSON_AddItemToObject(all, name, cJSON_Duplicate(one, 1));
        }
    }
    wires_free(into);
    *into = wires_read(all);
    cJSON_Delete(all);
    cJSON_Delete(groups);
    free(json);
    return status;
}

static adamd_status params(call *c)
{
    wires into = {0};
    bool changed = true;
    uint64_t at = 0;
    adamd_status status = places(c, &into);
    if (status != ADAMD_OK) {
        wires_free(&into);
        return status;
    }
    if (option(c, "wait") != NULL || option(c, "if_none_match") != NULL) {
        status = adamd_wait_params(c->client, c->name, text(c, "if_none_match"),
                                   (unsigned)number(c, "wait", 0), into.tensors, into.n, &changed,
                                   &at, &c->error);
    } else {
        status = adamd_get_params(c->client, c->name, into.tensors, into.n, &at, &c->error);
    }
    if (status == ADAMD_OK && !changed) {
        (void)cJSON_AddTrueToObject(c->ok, "not_modified");
    } else if (status == ADAMD_OK) {
        (void)cJSON_AddNumberToObject(c->ok, "step", (double)at);
        (void)cJSON_AddStringToObject(c->ok, "etag", adamd_last_etag(c->client));
        (void)cJSON_AddItemToObject(c->ok, "params", wires_write(&into));
    }
    wires_free(&into);
    return status;
}

static adamd_status param(call *c)
{
    wires into = wires_read(cJSON_GetObjectItem(c->message, "into"));
    adamd_tensor nothing = {.name = text(c, "param"), .rank = 1};
    adamd_tensor tensor = into.n > 0 ? into.tensors[0] : nothing;
    tensor.name = text(c, "param");
    adamd_status status = adamd_get_param(c->client, c->name, text(c, "dtype"), &tensor, &c->error);
    if (status == ADAMD_OK) {
        (void)cJSON_AddItemToObject(c->ok, "tensor", wire_write(&tensor));
    }
    wires_free(&into);
    return status;
}

static adamd_status put_params(call *c)
{
    wires in = wires_read(cJSON_GetObjectItem(c->message, "params"));
    adamd_status status = adamd_put_params(c->client, c->name, in.tensors, in.n, &c->error);
    wires_free(&in);
    return status;
}

static adamd_status list(call *c)
{
    char after[160] = "";
    cJSON *all = cJSON_AddArrayToObject(c->ok, "optimizers");
    do {
        char *json = NULL;
        adamd_status status = adamd_list(c->client, text(c, "prefix"), after,
                                         (unsigned)number(c, "page", 0), &json, NULL, &c->error);
        if (status != ADAMD_OK) {
            return status;
        }
        cJSON *page = cJSON_Parse(json);
        const char *next = cJSON_GetStringValue(cJSON_GetObjectItem(page, "next"));
        (void)snprintf(after, sizeof after, "%s", next != NULL ? next : "");
        cJSON *optimizers = cJSON_GetObjectItem(page, "optimizers");
        for (cJSON *one = NULL; (one = cJSON_DetachItemFromArray(optimizers, 0)) != NULL;) {
            (void)cJSON_AddItemToArray(all, one);
        }
        cJSON_Delete(page);
        free(json);
    } while (after[0] != '\0');
    return ADAMD_OK;
}

static adamd_status add_group(call *c)
{
    wires in = wires_read(cJSON_GetObjectItem(c->message, "params"));
    char *json = json_option(c, "group");
    adamd_status status =
        adamd_add_param_group(c->client, c->name, json, in.tensors, in.n, &c->error);
    cJSON_free(json);
    wires_free(&in);
    return status;
}

static adamd_status change(call *c, bool group)
{
    char *changes = json_option(c, "changes");
    char *json = NULL;
    adamd_status status =
        group ? adamd_patch_param_group(c->client, c->name, (unsigned)number(c, "index", 0),
                                        changes, &json, NULL, &c->error)
              : adamd_configure(c->client, c->name, changes, &json, NULL, &c->error);
    cJSON_free(changes);
    return give(c, status, json, group ? "group" : "summary");
}

static adamd_status state_dict(call *c, bool put)
{
    size_t length = 0;
    unsigned char *bytes = NULL;
    adamd_status status = ADAMD_OK;
    if (put) {
        bytes = hex_read(cJSON_GetStringValue(cJSON_GetObjectItem(c->message, "file")), &length);
        status =
            adamd_put_state_dict(c->client, c->name, text(c, "load"), bytes, length, &c->error);
    } else {
        status = adamd_get_state_dict(c->client, c->name, &bytes, &length, &c->error);
    }
    if (status == ADAMD_OK && !put) {
        char *hex = hex_write(bytes, length);
        (void)cJSON_AddStringToObject(c->ok, "file", hex);
        free(hex);
    }
    free(bytes);
    return status;
}

typedef struct taking {
    cJSON *events;
    int left;
} taking;

static bool on_event(void *context, const adamd_event *event)
{
    taking *t = context;
    if (event != NULL) {
        cJSON *one = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(one, "name", event->type);
        (void)cJSON_AddItemToObject(one, "id", cJSON_CreateRaw(event->id[0] ? event->id : "null"));
        (void)cJSON_AddItemToObject(one, "data", raw(event->data));
        (void)cJSON_AddItemToArray(t->events, one);
        t->left--;
    }
    return t->left > 0;
}

static adamd_status events(call *c)
{
    taking t = {cJSON_AddArrayToObject(c->ok, "events"), (int)number(c, "take", 0)};
    char last[32];
    (void)snprintf(last, sizeof last, "%.0f", number(c, "last_event_id", 0));
    return adamd_events(c->client, c->name, option(c, "last_event_id") != NULL ? last : NULL,
                        on_event, &t, &c->error);
}

/* Those that bring text: the member of the result that it is, NULL for the result itself. */
static bool run_text(call *c, const char *op, adamd_status *status)
{
    char *json = NULL;
    adamd_client *client = c->client;
    unsigned last = (unsigned)number(c, "last", 0);
    uint64_t at = whole(c, "step");
    const char *member = NULL;
    if (strcmp(op, "summary") == 0) {
        member = op;
        *status = adamd_summary(client, c->name, &json, NULL, &c->error);
    } else if (strcmp(op, "param_groups") == 0) {
        member = op;
        *status = adamd_param_groups(client, c->name, text(c, "data"), &json, NULL, &c->error);
    } else if (strcmp(op, "state") == 0) {
        member = op;
        *status =
            adamd_state(client, c->name, text(c, "param"), text(c, "data"), &json, NULL, &c->error);
    } else if (strcmp(op, "round") == 0) {
        member = op;
        *status = adamd_round(client, c->name, &json, NULL, &c->error);
    } else if (strcmp(op, "digest") == 0) {
        *status = adamd_digest(client, c->name, &json, NULL, &c->error);
    } else if (strcmp(op, "history") == 0) {
        *status = adamd_history(client, c->name, last, &json, NULL, &c->error);
    } else if (strcmp(op, "changes") == 0) {
        *status = adamd_changes(client, c->name, last, &json, NULL, &c->error);
    } else if (strcmp(op, "workers") == 0) {
        *status = adamd_workers(client, c->name, &json, NULL, &c->error);
    } else if (strcmp(op, "snapshot") == 0) {
        *status = adamd_snapshot(client, c->name, &json, NULL, &c->error);
    } else if (strcmp(op, "rollback") == 0) {
        member = "summary";
        *status = adamd_rollback(client, c->name, at, &json, NULL, &c->error);
    } else if (strcmp(op, "fork") == 0) {
        member = "summary";
        *status = adamd_fork(client, c->name, text(c, "name"), option(c, "step") ? &at : NULL,
                             &json, NULL, &c->error);
    } else {
        return false;
    }
    *status = give(c, *status, json, member);
    return true;
}

bool run_op(call *c, const char *op, adamd_status *status)
{
    static const struct op {
        const char *name;
        adamd_status (*run)(call *c);
    } ops[] = {{"step", step},
               {"create", create},
               {"params", params},
               {"param", param},
               {"list", list},
               {"put_params", put_params},
               {"add_param_group", add_group},
               {"events", events}};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (strcmp(ops[i].name, op) == 0) {
            *status = ops[i].run(c);
            return true;
        }
    }
    if (strcmp(op, "configure") == 0 || strcmp(op, "patch_param_group") == 0) {
        *status = change(c, op[0] == 'p');
    } else if (strcmp(op, "state_dict") == 0 || strcmp(op, "put_state_dict") == 0) {
        *status = state_dict(c, op[0] == 'p');
    } else if (strcmp(op, "delete") == 0) {
        *status = adamd_delete(c->client, c->name, &c->error);
    } else if (strcmp(op, "drop_round") == 0) {
        *status = adamd_drop_round(c->client, c->name, &c->error);
    } else if (strcmp(op, "remove_worker") == 0) {
        *status = adamd_remove_worker(c->client, c->name, text(c, "worker"), &c->error);
    } else if (strcmp(op, "livez") == 0) {
        *status = adamd_livez(c->client, &c->error);
    } else if (strcmp(op, "readyz") == 0) {
        *status = adamd_readyz(c->client, &c->error);
    } else {
        return run_text(c, op, status);
    }
    return true;
}
