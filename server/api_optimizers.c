/* api_optimizers.c: listing, creating, summarising and removing optimizers. */
#include <stdio.h>

#include "api_persist.h"
#include "codec_create.h"
#include "codec_grad_options.h"
#include "codec_json.h"
#include "log.h"

static void etag_of(instance *inst, reply *r)
{
    const optimizer_info info = instance_info(inst);
    api_etag(&info, r->etag, sizeof r->etag);
}

bool api_list(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    instance *page[API_LIST_LIMIT_MAX];
    bool more;
    const size_t n = registry_page(ctx->registry, rq->query.prefix, rq->query.after,
                                   rq->query.limit, page, &more);
    text t = {.pool = ctx->buffers};
    text_add_string(&t, "{\"optimizers\": [");
    for (size_t i = 0; i < n; i++) {
        const optimizer_info info = instance_info(page[i]);
        text_add_string(&t, i > 0 ? ", " : "");
        show_summary(&t, page[i]->name, &info);
    }
    if (more) {
        text_add_format(&t, "], \"next\": \"%s\"}", page[n - 1]->name);
    } else {
        text_add_string(&t, "], \"next\": null}");
    }
    for (size_t i = 0; i < n; i++) {
        instance_drop(page[i]);
    }
    return reply_json(r, 200, &t, p);
}

bool api_name_taken(const char *name, problem *p)
{
    return problem_set(
        p, PROBLEM_NAME_TAKEN,
        "there is an optimizer '%s' already; DELETE it first, or choose another name", name);
}

/* Makes what was described. */
static bool build(api_context *ctx, const creation *c, adam_optimizer **out, problem *p)
{
    adam_error error;
    adam_optimizer *optimizer = NULL;
    /* the defaults too, which groups that come later may use */
    if (adam_options_check(&c->defaults, &error) != ADAM_OK ||
        adam_optimizer_create(c->algorithm, c->groups, c->n_groups, &ctx->allocator, &optimizer,
                              &error) != ADAM_OK) {
        return problem_from_adam(p, &error);
    }
    if (adam_optimizer_set_grad_options(optimizer, &c->grad_options, &error) != ADAM_OK) {
        adam_optimizer_free(optimizer);
        return problem_from_adam(p, &error);
    }
    *out = optimizer;
    return true;
}

static codec_status read_creation(api_context *ctx, media sent, buffer *body, creation *c,
                                  codec_error *error)
{
    return sent == MEDIA_JSON ? creation_read_json(ctx->buffers, body->data, body->length, c, error)
                              : creation_read_safetensors(ctx->buffers, body->data, body->length,
                                                          ctx->config->max_json_body, c, error);
}

instance *api_make_again(api_context *ctx, media sent, buffer *body, const char *name, uint64_t id,
                         problem *p)
{
    codec_error error;
    creation c = {0};
    adam_optimizer *optimizer = NULL;
    instance *inst = NULL;
    const bool made = read_creation(ctx, sent, body, &c, &error) == CODEC_OK
                          ? build(ctx, &c, &optimizer, p)
                          : problem_from_codec(p, &error);
    if (made) {
        inst = registry_make(ctx->registry, name, optimizer, &c.defaults, &c.training, id, id);
    }
    if (made && inst == NULL) {
        adam_optimizer_free(optimizer);
        (void)problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for another optimizer");
    }
    creation_drop(&c);
    return inst;
}

/* Makes what was described and puts it under its name. */
static bool create(api_context *ctx, const char *name, const creation *c, instance **out,
                   problem *p)
{
    adam_optimizer *optimizer = NULL;
    bool no_memory;
    if (!build(ctx, c, &optimizer, p)) {
        return false;
    }
    if (registry_add(ctx->registry, name, optimizer, &c->defaults, &c->training, out, &no_memory)) {
        return true;
    }
    adam_optimizer_free(optimizer);
    return no_memory ? problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for another optimizer")
                     : api_name_taken(name, p);
}

bool api_create(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    codec_error error;
    creation c = {0};
    instance *inst = NULL;
    const codec_status st = read_creation(ctx, rq->sent, rq->body, &c, &error);
    bool made = api_reserve_request(ctx, rq, p);
    if (made) {
        made = st == CODEC_OK ? create(ctx, rq->optimizer, &c, &inst, p)
                              : problem_from_codec(p, &error);
    }
    creation_drop(&c);
    if (!made) {
        return false;
    }
    if (!api_keep_request(ctx, rq, inst, p)) {
        registry_remove(ctx->registry, inst);
        strand_leave(ctx->jobs, &inst->strand);
        instance_drop(inst);
        return false;
    }
    if (ctx->store != NULL) {
        store_created(ctx->store, inst);
    }
    strand_leave(ctx->jobs, &inst->strand);
    const optimizer_info info = instance_info(inst);
    log_write(LOG_INFO, "created optimizer %s: %zu params, %llu elements, %zu bytes", inst->name,
              info.params, (unsigned long long)info.numel, info.bytes);
    text t = {.pool = ctx->buffers};
    show_summary(&t, inst->name, &info);
    reply_json_after(r, 201, &t);
    (void)snprintf(r->location, sizeof r->location, "/v1/optimizers/%s", inst->name);
    etag_of(inst, r);
    instance_drop(inst);
    return true;
}

bool api_summary(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    const optimizer_info info = instance_info(rq->instance);
    text t = {.pool = ctx->buffers};
    show_summary(&t, rq->instance->name, &info);
    return reply_json(r, 200, &t, p);
}

/* Reads the merge patch over what is done with gradients, and how they are gathered. */
static bool read_patch(api_context *ctx, const api_request *rq, adam_grad_options *options,
                       training *how, problem *p)
{
    static const char *const allowed[] = {CODEC_GRAD_OPTION_NAMES, CODEC_TRAINING_NAMES, NULL};
    codec_error error;
    json_doc *doc = NULL;
    codec_status st = json_parse(ctx->buffers, rq->body->data, rq->body->length, &doc, &error);
    if (st == CODEC_OK) {
        const json_value *root = json_root(doc);
        st = json_type_of(root) == JSON_OBJECT
                 ? json_check_names(root, allowed, "the patch of an optimizer", &error)
                 : codec_fail(&error, CODEC_INVALID_VALUE, "the patch is %s, expected an object",
                              json_type_text(root));
        if (st == CODEC_OK) {
            st = grad_options_read(doc, root, "the patch", options, &error);
        }
        if (st == CODEC_OK) {
            st = training_read(doc, root, "the patch", how, &error);
        }
    }
    json_free(doc);
    return st == CODEC_OK || problem_from_codec(p, &error);
}

/* How gradients are gathered does not change under those that are held. */
static bool check_no_round(const instance *inst, const training *how, problem *p)
{
    const training *now = &inst->training;
    if (inst->round.first == NULL ||
        (aggregation_same(&now->aggregation, &how->aggregation) && now->weights == how->weights)) {
        return true;
    }
    return problem_set(p, PROBLEM_ROUND_OPEN,
                       "a round with %zu gradients is open: let it end, or drop it with DELETE "
                       "/v1/optimizers/%s/round",
                       inst->round.n, inst->name);
}

bool api_patch_optimizer(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    instance *inst = rq->instance;
    const training how_before = inst->training;
    training how = how_before;
    const adam_grad_options before = adam_optimizer_grad_options(inst->optimizer);
    adam_grad_options options = before;
    if (!read_patch(ctx, rq, &options, &how, p) || !check_no_round(inst, &how, p)) {
        return false;
    }
    adam_error error;
    if (adam_optimizer_set_grad_options(inst->optimizer, &options, &error) != ADAM_OK) {
        return problem_from_adam(p, &error);
    }
    const uint64_t step = adam_optimizer_step_count(inst->optimizer);
    inst->training = how;
    instance_changed(inst);
    changes_add_grad_options(inst->changes, ctx->buffers, step, &before, &options);
    changes_add_training(inst->changes, ctx->buffers, step, &how_before, &how);
    const optimizer_info info = instance_info(inst);
    text t = {.pool = ctx->buffers};
    show_summary(&t, inst->name, &info);
    reply_json_after(r, 200, &t);
    return true;
}

bool api_delete(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    if (!api_keep_request(ctx, rq, rq->instance, p)) { /* before the name is free */
        return false;
    }
    registry_remove(ctx->registry, rq->instance);
    if (ctx->store != NULL) {
        store_forget(ctx->store, rq->instance);
    }
    stream_notify(ctx->streams, rq->instance->history);
    log_write(LOG_INFO, "removed optimizer %s", rq->instance->name);
    reply_empty(r, 204);
    return true;
}
