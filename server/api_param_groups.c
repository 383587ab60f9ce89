/* api_param_groups.c: param_groups, as torch shows them, and changes to them. */
#include <stdio.h>

#include "api.h"
#include "codec_create.h"
#include "codec_json.h"
#include "codec_options.h"
#include "codec_schedule.h"

bool api_get_param_groups(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    text t = {.pool = ctx->buffers};
    show_param_groups(&t, rq->instance->optimizer, rq->query.data);
    return reply_json(r, 200, &t, p);
}

/* Notes that a group has come. */
static void note_group(api_context *ctx, const instance *inst, size_t group)
{
    char what[64];
    const adam_group_view g = adam_optimizer_group(inst->optimizer, group);
    text from = {.pool = ctx->buffers};
    text to = {.pool = ctx->buffers};
    (void)snprintf(what, sizeof what, "param_groups[%zu]", group);
    text_add_format(&to, "{\"params\": %zu, ", g.n_params);
    group_options_add(&to, &g);
    text_add(&to, "}", 1);
    changes_add_texts(inst->changes, adam_optimizer_step_count(inst->optimizer), what, &from, &to);
}

bool api_add_param_group(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    instance *inst = rq->instance;
    const optimizer_info info = instance_info(inst);
    codec_error error;
    adam_error why;
    creation c = {0};
    const codec_status st =
        rq->sent == MEDIA_JSON
            ? creation_read_group(ctx->buffers, rq->body->data, rq->body->length, &info.defaults,
                                  info.groups, &c, &error)
            : creation_read_group_safetensors(ctx->buffers, rq->body->data, rq->body->length,
                                              ctx->config->max_json_body, &info.defaults,
                                              info.groups, &c, &error);
    bool done = st == CODEC_OK || problem_from_codec(p, &error);
    if (done && adam_optimizer_add_group(inst->optimizer, c.groups, &why) != ADAM_OK) {
        done = problem_from_adam(p, &why);
    }
    creation_drop(&c);
    if (!done) {
        return false;
    }
    instance_unpublish(inst);
    instance_rewritten(inst, registry_next_epoch(ctx->registry));
    const size_t group = adam_optimizer_group_count(inst->optimizer) - 1;
    note_group(ctx, inst, group);
    text t = {.pool = ctx->buffers};
    show_group(&t, inst->optimizer, group, SHOW_DATA_SMALL);
    reply_json_after(r, 201, &t);
    (void)snprintf(r->location, sizeof r->location, "/v1/optimizers/%s/param_groups/%zu",
                   inst->name, group);
    return true;
}

/* A change of a group: its options and, where `schedules`, its schedule or none. */
typedef struct group_patch {
    adam_options options;
    bool schedules;
    adam_schedule *schedule; /* in `room` */
    buffer *room;
} group_patch;

static codec_status read_members(buffer_pool *pool, const json_doc *doc, size_t index,
                                 group_patch *patch, codec_error *error)
{
    static const char *const allowed[] = {CODEC_OPTION_NAMES, "schedule", NULL};
    char where[64];
    (void)snprintf(where, sizeof where, "the patch of param group %zu", index);
    const json_value *root = json_root(doc);
    if (json_type_of(root) != JSON_OBJECT) {
        return codec_fail(error, CODEC_INVALID_VALUE, "%s is %s, expected an object", where,
                          json_type_text(root));
    }
    if (json_get(root, "params") != NULL) {
        return codec_fail(error, CODEC_UNKNOWN_FIELD,
                          "params of a param group cannot be changed, only its hyperparameters");
    }
    codec_status st = json_check_names(root, allowed, where, error);
    if (st == CODEC_OK) {
        st = options_read(doc, root, where, &patch->options, error);
    }
    const json_value *schedule = json_get(root, "schedule");
    patch->schedules = schedule != NULL;
    if (st == CODEC_OK && patch->schedules && json_type_of(schedule) != JSON_NULL) {
        (void)snprintf(where, sizeof where, "param group %zu", index);
        st =
            schedule_read(pool, doc, schedule, where, false, &patch->room, &patch->schedule, error);
    }
    return st;
}

/* Reads the merge patch over the group's options. In any case the caller drops patch->room. */
static bool read_patch(api_context *ctx, const api_request *rq, group_patch *patch, problem *p)
{
    codec_error error;
    json_doc *doc = NULL;
    codec_status st = json_parse(ctx->buffers, rq->body->data, rq->body->length, &doc, &error);
    if (st == CODEC_OK) {
        st = read_members(ctx->buffers, doc, rq->index, patch, &error);
    }
    json_free(doc);
    return st == CODEC_OK || problem_from_codec(p, &error);
}

static void add_schedule(text *t, const adam_schedule *schedule)
{
    if (schedule != NULL) {
        schedule_add(t, schedule);
    }
}

/* Notes what a patch has changed; takes the text of the schedule as it was. */
static void note_patch(api_context *ctx, const api_request *rq, const adam_options *before,
                       const group_patch *patch, text *from)
{
    const instance *inst = rq->instance;
    const uint64_t step = adam_optimizer_step_count(inst->optimizer);
    changes_add_options(inst->changes, ctx->buffers, step, rq->index, before, &patch->options);
    if (patch->schedules) {
        char what[64];
        text to = {.pool = ctx->buffers};
        (void)snprintf(what, sizeof what, "param_groups[%zu].schedule", rq->index);
        add_schedule(&to, adam_optimizer_group(inst->optimizer, rq->index).schedule);
        changes_add_texts(inst->changes, step, what, from, &to);
    }
    text_drop(from);
}

bool api_patch_param_group(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    adam_optimizer *o = rq->instance->optimizer;
    if (rq->index >= adam_optimizer_group_count(o)) {
        return problem_set(p, PROBLEM_NO_SUCH_GROUP,
                           "there is no param group %zu; optimizer '%s' has %zu", rq->index,
                           rq->optimizer, adam_optimizer_group_count(o));
    }
    const adam_group_view before = adam_optimizer_group(o, rq->index);
    group_patch patch = {.options = before.options};
    text from = {.pool = ctx->buffers}; /* the schedule as it was */
    adam_error error;
    bool done = read_patch(ctx, rq, &patch, p);
    if (done) {
        add_schedule(&from, before.schedule);
        const adam_status st =
            patch.schedules
                ? adam_optimizer_set_schedule(o, rq->index, &patch.options, patch.schedule, &error)
                : adam_optimizer_set_options(o, rq->index, &patch.options, &error);
        done = st == ADAM_OK || problem_from_adam(p, &error);
    }
    buffer_drop(patch.room);
    if (!done) {
        text_drop(&from);
        return false;
    }
    instance_changed(rq->instance);
    note_patch(ctx, rq, &before.options, &patch, &from);
    text t = {.pool = ctx->buffers};
    show_group(&t, o, rq->index, SHOW_DATA_SMALL);
    reply_json_after(r, 200, &t);
    return true;
}
