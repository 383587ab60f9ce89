/* api_step.c: one optimizer step: gradients in, updated parameters out, in one buffer. */
#include <math.h>
#include <string.h>

#include "api_persist.h"
#include "path.h"

/* Gradients of more bytes than this are not reduced on a connection's thread. */
#define INLINE_ROUND_MAX ((size_t)5 << 20)

void step_publish(api_context *ctx, instance *inst, const outgoing *out)
{
    const size_t n = adam_optimizer_param_count(inst->optimizer);
    if (!out->own_type || out->n != n || out->data_length < API_PUBLISH_MIN) {
        return;
    }
    buffer *offsets = buffer_get(ctx->buffers, n * sizeof(size_t));
    if (offsets == NULL) {
        return;
    }
    size_t *offset = (void *)offsets->data;
    const char *start = out->data->data + out->data_offset;
    for (size_t i = 0; i < n; i++) {
        size_t param;
        (void)adam_optimizer_find(inst->optimizer, out->tensors[i].name, out->tensors[i].name_len,
                                  &param);
        offset[param] = (size_t)((const char *)out->tensors[i].data - start);
    }
    inst->params = (published){.data = buffer_hold(out->data),
                               .offsets = offsets,
                               .data_offset = out->data_offset,
                               .data_length = out->data_length};
}

adam_grad_options step_grad_options(const instance *inst, const adam_grad_options *options,
                                    const admission *a)
{
    adam_grad_options own = *options;
    if (inst->training.aggregation.damps) {
        own.grad_scale *= 1.0 + (double)a->staleness; /* gradients are divided by it */
    }
    return own;
}

/* ---- a step at once ---- */

/* Puts the step on record: in the history, with its key, with its worker. */
static void note(api_context *ctx, const api_request *rq, const admission *a, const outcome *did)
{
    instance *inst = rq->instance;
    workers *all = rq->worker != NULL ? api_workers_of(ctx, inst) : NULL;
    api_note_step(ctx, inst, rq->worker, &did->note, &did->stats, did->groups);
    if (rq->key != NULL) {
        idempotency_end(inst->keys, rq->key, 200, 0, &did->stats, did->groups);
    }
    if (all != NULL && (did->stats.skipped || !isfinite(did->stats.grad_norm))) {
        workers_nonfinite(all, rq->worker, (unsigned)inst->training.max_consecutive_nonfinite);
    } else if (all != NULL) {
        workers_accepted(all, rq->worker, rq->weight, a->has_staleness, a->staleness);
    }
    if (all != NULL && !did->stats.skipped) {
        workers_stepped(all, rq->worker);
    }
}

/* Puts the step into the journal, before it is taken. */
static bool keep(api_context *ctx, api_request *rq, const admission *a, const tensor_body *body,
                 const adam_grad_options *options, problem *p)
{
    journal_part part = {.worker = rq->worker,
                         .key = rq->key,
                         .body = {a->body.low, a->body.high},
                         .weight = rq->weight,
                         .has_staleness = a->has_staleness,
                         .staleness = a->staleness};
    const step_to_keep all = {
        .tensors = body->tensors,
        .n = body->n,
        .data = body->data->data + body->data_offset,
        .data_length = body->data_length,
        .step = {.grad_options = *options,
                 .overrides = body->overrides,
                 .n_groups = adam_optimizer_group_count(rq->instance->optimizer),
                 .n_tensors = body->n,
                 .parts = &part,
                 .n_parts = 1}};
    return api_keep_step(ctx, rq->instance, &all, &rq->lsn, p);
}

static bool step(api_context *ctx, api_request *rq, const admission *a, const tensor_body *body,
                 const outgoing *out, outcome *did, reply *r, problem *p)
{
    instance *inst = rq->instance;
    const adam_grad_options options = step_grad_options(inst, &body->grad_options, a);
    const adam_step_args args = {.grads = body->tensors,
                                 .n_grads = body->n,
                                 .out = out->tensors,
                                 .groups = body->overrides,
                                 .grad_options = &options,
                                 .pool = ctx->pool,
                                 .scratch = &ctx->scratch};
    adam_error error;
    adam_step_plan *plan;
    text t = {.pool = ctx->buffers};
    if (adam_step_prepare(inst->optimizer, &args, &plan, &error) != ADAM_OK) {
        return problem_from_adam(p, &error);
    }
    if (!rq->minimal && !step_reply_reserve(out, did, rq->wanted == MEDIA_JSON, &t, p)) {
        adam_step_discard(plan);
        return false;
    }
    if (rq->key != NULL && !idempotency_begin(inst->keys, rq->key, a->body, did->n_groups)) {
        adam_step_discard(plan);
        text_drop(&t);
        return problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for the key within the budget");
    }
    if (!keep(ctx, rq, a, body, &options, p)) {
        adam_step_discard(plan);
        text_drop(&t);
        if (rq->key != NULL) {
            idempotency_abort(inst->keys, rq->key);
        }
        return false;
    }
    instance_unpublish(inst);
    adam_step_apply(plan, &did->stats, did->groups);
    step_publish(ctx, inst, out);
    instance_changed(inst);
    note(ctx, rq, a, did);
    if (rq->minimal) {
        step_reply_minimal(did, r);
    } else {
        step_reply_make(out, did, rq->wanted, &t, r);
    }
    return true;
}

static bool step_with(api_context *ctx, api_request *rq, const admission *a,
                      const tensor_body *body, reply *r, problem *p)
{
    const adam_optimizer *o = rq->instance->optimizer;
    const adam_dtype *dtype = rq->query.has_dtype ? &rq->query.dtype : NULL;
    outgoing out = {0};
    outcome did;
    bool done = outcome_begin(ctx, o, &did, p) &&
                api_note_begin(ctx, rq->instance, body->overrides, &did.note, p);
    if (done && !outgoing_of_step(ctx->buffers, body, o, dtype, &out)) {
        done = problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for the reply within the budget");
    }
    done = done && step(ctx, rq, a, body, &out, &did, r, p);
    outgoing_drop(&out);
    outcome_drop(&did);
    return done;
}

/* ---- what comes before ---- */

static codec_status read_body(api_context *ctx, const api_request *rq, tensor_body *body,
                              codec_error *error)
{
    const adam_optimizer *o = rq->instance->optimizer;
    return rq->sent == MEDIA_JSON
               ? tensor_body_read_json(ctx->buffers, rq->body, TENSOR_BODY_GRADS, o, body, error)
               : tensor_body_read_safetensors(ctx->buffers, rq->body, ctx->config->max_json_body,
                                              TENSOR_BODY_GRADS, o, body, error);
}

/* Answers as the request was answered that first had the key. */
static bool replay(api_context *ctx, api_request *rq, const key_record *first, reply *r, problem *p)
{
    codec_error error;
    tensor_body body;
    outcome did;
    bool done = read_body(ctx, rq, &body, &error) == CODEC_OK || problem_from_codec(p, &error);
    done = outcome_begin(ctx, rq->instance->optimizer, &did, p) && done;
    if (done) {
        did.stats = first->stats;
        did.held = first->held;
        did.n_groups = first->n_groups < did.n_groups ? first->n_groups : did.n_groups;
        memcpy(did.groups, first->groups, did.n_groups * sizeof *did.groups);
        done = step_reply_current(ctx, rq, &body, &did, r, p);
    }
    r->replayed = done;
    rq->lsn = rq->instance->kept.last; /* the first may not be on disk yet */
    tensor_body_drop(&body);
    outcome_drop(&did);
    return done;
}

/* Whether the key is new, or there is none. Where it is not, *answered says whether the request is,
 * or waits. */
static bool check_key(api_context *ctx, api_request *rq, admission *a, bool *answered, reply *r,
                      problem *p)
{
    instance *inst = rq->instance;
    if (rq->key == NULL) {
        return true;
    }
    if (api_keys_of(ctx, inst) == NULL) {
        return problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for the key within the budget");
    }
    a->body = fingerprint_of(rq->body->data, rq->body->length);
    const key_record *first = idempotency_find(inst->keys, rq->key);
    if (first == NULL) {
        return true;
    }
    if (!fingerprint_same(first->body, a->body)) {
        problem_set(p, PROBLEM_KEY_REUSED,
                    "the Idempotency-Key '%s' was used with another body: a new gradient needs a "
                    "new key",
                    rq->key);
        strcpy(p->header, "Idempotency-Key");
        return false;
    }
    *answered = first->pending ? api_round_wait_along(ctx, rq, r, p) : replay(ctx, rq, first, r, p);
    return false;
}

/* Of an async optimizer: the step in an If-Match, whose epoch must be the current one. */
static bool step_of_if_match(api_request *rq, const optimizer_info *info, problem *p)
{
    char etag[64];
    problem no_match;
    size_t step = 0;
    const char *end = strstr(rq->if_match, "-s");
    const char *digits = end != NULL ? end + 2 : "";
    if (path_number(digits, strspn(digits, "0123456789"), info->step, &step)) {
        optimizer_info then = *info;
        then.step = step;
        api_etag(&then, etag, sizeof etag);
        if (api_check_if_match(rq->if_match, etag, &no_match)) {
            rq->has_based_on = true;
            rq->based_on = step;
            return true;
        }
    }
    api_etag(info, etag, sizeof etag);
    return api_check_if_match(rq->if_match, etag, p);
}

static bool refuse_based_on(const api_request *rq, problem_code code, const optimizer_info *info,
                            problem *p)
{
    static const char *const why[] = {"the optimizer has not come to that step yet",
                                      "the round of that gradient is over",
                                      "the gradient is too old"};
    const char *reason = why[code == PROBLEM_INVALID_VALUE  ? 0
                             : code == PROBLEM_ROUND_CLOSED ? 1
                                                            : 2];
    problem_set(p, code, "the gradient is based on step %llu, the optimizer is at step %llu: %s",
                (unsigned long long)rq->based_on, (unsigned long long)info->step, reason);
    strcpy(p->header, "Adam-Based-On");
    p->has_step = true;
    p->step = info->step;
    if (code == PROBLEM_STALE) {
        p->has_staleness = true;
        p->based_on = rq->based_on;
        p->max_staleness = info->training.aggregation.max_staleness;
    }
    return false;
}

/* Whether the gradient is of parameters that are new enough. */
static bool check_based_on(api_request *rq, admission *a, problem *p)
{
    const aggregation *how = &rq->instance->training.aggregation;
    const bool async = how->mode == AGGREGATION_ASYNC;
    if (rq->if_match == NULL && !rq->has_based_on && !async) {
        return true;
    }
    const optimizer_info info = instance_info(rq->instance);
    char etag[64];
    api_etag(&info, etag, sizeof etag);
    if (rq->if_match != NULL &&
        !(async ? step_of_if_match(rq, &info, p) : api_check_if_match(rq->if_match, etag, p))) {
        return false;
    }
    if (!rq->has_based_on) {
        if (!async) {
            return true;
        }
        problem_set(p, PROBLEM_MALFORMED_REQUEST,
                    "an async optimizer needs Adam-Based-On, the step of the parameters that the "
                    "gradient was computed on");
        strcpy(p->header, "Adam-Based-On");
        return false;
    }
    if (rq->based_on > info.step) {
        return refuse_based_on(rq, PROBLEM_INVALID_VALUE, &info, p);
    }
    a->has_staleness = true;
    a->staleness = info.step - rq->based_on;
    if (async && a->staleness > how->max_staleness) {
        return refuse_based_on(rq, PROBLEM_STALE, &info, p);
    }
    return how->mode != AGGREGATION_SYNC || a->staleness == 0 ||
           refuse_based_on(rq, PROBLEM_ROUND_CLOSED, &info, p);
}

static bool check_worker(const api_request *rq, problem *p)
{
    if (rq->worker != NULL || rq->instance->training.aggregation.mode != AGGREGATION_SYNC) {
        return api_check_quarantine(rq, p);
    }
    problem_set(p, PROBLEM_MALFORMED_REQUEST,
                "a sync optimizer needs Adam-Worker: a round counts each worker once");
    strcpy(p->header, "Adam-Worker");
    return false;
}

/* Whether the request has to be worked on elsewhere than on its connection's thread: it may wait
 * for others, or has the gradients of others to reduce beside its own. */
static bool must_suspend(const api_request *rq)
{
    const instance *inst = rq->instance;
    const aggregation *how = &inst->training.aggregation;
    return !rq->may_wait && (how->mode == AGGREGATION_SYNC ||
                             (how->mode == AGGREGATION_BUFFERED && inst->round.n + 1 >= how->size &&
                              inst->round.n * rq->body->length > INLINE_ROUND_MAX));
}

idempotency *api_keys_of(const api_context *ctx, instance *inst)
{
    if (inst->keys == NULL) {
        inst->keys = idempotency_create(ctx->memory, ctx->config->idempotency_keys,
                                        ctx->config->idempotency_ttl);
    }
    return inst->keys;
}

bool api_step(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    codec_error error;
    tensor_body body;
    admission a = {0};
    bool answered = false;
    const training *how = &rq->instance->training;
    const aggregation_mode mode = how->aggregation.mode;
    if (must_suspend(rq)) {
        r->wait = REPLY_SUSPEND_FIRST;
        return true;
    }
    if (!check_key(ctx, rq, &a, &answered, r, p)) {
        return answered;
    }
    if (!check_worker(rq, p) || !check_based_on(rq, &a, p)) {
        return false;
    }
    const bool gathers = mode == AGGREGATION_SYNC || mode == AGGREGATION_BUFFERED || how->weights;
    bool done = read_body(ctx, rq, &body, &error) == CODEC_OK || problem_from_codec(p, &error);
    if (done) {
        done = gathers ? api_round_join(ctx, rq, &a, &body, r, p)
                       : step_with(ctx, rq, &a, &body, r, p);
    }
    tensor_body_drop(&body);
    return done;
}
