/* api_round_step.c: the step of a round, and its replies: each form is made once, for all who want
 * it. */
#include <math.h>
#include <string.h>

#include "api_persist.h"
#include "api_round.h"

/* Forms that replies may have: without a body, or one of three media with one of four types or each
 * parameter's own. */
#define FORMS_MAX 16

typedef struct form {
    bool minimal, has_dtype;
    media wanted;
    adam_dtype dtype;
    outgoing out;
    text text;
    reply made;
} form;

typedef struct round_step {
    form forms[FORMS_MAX];
    size_t n_forms;
    reduced reduced;
    outcome did;
    adam_step_plan *plan;
    uint64_t lsn; /* behind its record in the journal */
} round_step;

static bool is_form(const form *f, const api_request *rq)
{
    if (f->minimal || rq->minimal) {
        return f->minimal && rq->minimal;
    }
    return f->wanted == rq->wanted && f->has_dtype == rq->query.has_dtype &&
           (!f->has_dtype || f->dtype == rq->query.dtype);
}

static form *find_form(round_step *s, const api_request *rq)
{
    for (size_t i = 0; i < s->n_forms; i++) {
        if (is_form(&s->forms[i], rq)) {
            return &s->forms[i];
        }
    }
    return NULL;
}

/* Gets all that the form takes: nothing may fail after the step. */
static bool add_form(api_context *ctx, round_step *s, const adam_optimizer *o,
                     const api_request *rq, problem *p)
{
    const reduced *all = &s->reduced;
    form *f = &s->forms[s->n_forms++];
    *f = (form){.minimal = rq->minimal,
                .wanted = rq->wanted,
                .has_dtype = rq->query.has_dtype,
                .dtype = rq->query.dtype,
                .text = {.pool = ctx->buffers}};
    if (f->minimal) {
        return true;
    }
    if (!f->has_dtype) { /* the step writes over the gradient */
        f->out = (outgoing){.tensors = all->tensors,
                            .n = all->n,
                            .data = buffer_hold(all->data),
                            .data_length = all->data_length,
                            .own_type = true};
    } else if (!outgoing_room(ctx->buffers, all->tensors, all->n, o, &f->dtype, &f->out)) {
        return problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for the reply within the budget");
    }
    return step_reply_reserve(&f->out, &s->did, f->wanted == MEDIA_JSON, &f->text, p);
}

static bool add_forms(api_context *ctx, round_step *s, const adam_optimizer *o,
                      const worker_round *ended, const api_request *rq, problem *p)
{
    if (rq != NULL && !add_form(ctx, s, o, rq, p)) {
        return false;
    }
    for (const contribution *c = ended->first; c != NULL; c = c->next) {
        for (const api_request *w = c->waiting; w != NULL; w = w->next_waiting) {
            if (find_form(s, w) == NULL && !add_form(ctx, s, o, w, p)) {
                return false;
            }
        }
    }
    return true;
}

/* Puts the step into the journal, before it is taken: the reduced gradient, and whose parts it is
 * made of. */
static bool keep(api_context *ctx, instance *inst, const round_step *s,
                 const adam_options *overrides, const adam_grad_options *options,
                 const worker_round *ended, uint64_t *lsn, problem *p)
{
    buffer *room = buffer_get(ctx->buffers, ended->n * sizeof(journal_part));
    if (room == NULL) {
        return problem_set(p, PROBLEM_OUT_OF_MEMORY, "no memory for a record within the budget");
    }
    journal_part *parts = (void *)room->data;
    size_t n = 0;
    for (const contribution *c = ended->first; c != NULL; c = c->next) {
        const key_record *key = c->key[0] != '\0' ? idempotency_find(inst->keys, c->key) : NULL;
        parts[n++] = (journal_part){
            .worker = c->worker[0] != '\0' ? c->worker : NULL,
            .key = key != NULL ? c->key : NULL,
            .body = {key != NULL ? key->body.low : 0, key != NULL ? key->body.high : 0},
            .weight = c->weight,
            .held = c->lsn > 0};
    }
    const step_to_keep all = {.tensors = s->reduced.tensors,
                              .n = s->reduced.n,
                              .data = s->reduced.data->data,
                              .data_length = s->reduced.data_length,
                              .step = {.grad_options = *options,
                                       .overrides = (adam_options *)overrides,
                                       .n_groups = adam_optimizer_group_count(inst->optimizer),
                                       .n_tensors = s->reduced.n,
                                       .round = true,
                                       .parts = parts,
                                       .n_parts = n}};
    const bool done = api_keep_step(ctx, inst, &all, lsn, p);
    buffer_drop(room);
    return done;
}

static bool keep_or_discard(api_context *ctx, instance *inst, round_step *s,
                            const adam_options *overrides, const adam_grad_options *options,
                            const worker_round *ended, problem *p)
{
    if (keep(ctx, inst, s, overrides, options, ended, &s->lsn, p)) {
        return true;
    }
    adam_step_discard(s->plan);
    return false;
}

/* Everything up to the step itself. */
static bool prepare(api_context *ctx, instance *inst, worker_round *ended, const api_request *rq,
                    const admission *a, round_step *s, problem *p)
{
    const training *how = &inst->training;
    adam_optimizer *o = inst->optimizer;
    tensor_body *first = &ended->first->body;
    codec_error wrong;
    adam_error error;
    if (tensor_body_reread_overrides(ctx->buffers, o, first, &wrong) != CODEC_OK) {
        return problem_from_codec(p, &wrong);
    }
    const adam_grad_options now = adam_optimizer_grad_options(o);
    const adam_grad_options options =
        step_grad_options(inst, first->own_grad_options ? &first->grad_options : &now, a);
    const adam_options *overrides = first->overrides;
    if (!round_reduce(ended, o, how->weights, how->aggregation.reduce, ctx->pool, ctx->buffers,
                      &s->reduced)) {
        return problem_set(p, PROBLEM_OUT_OF_MEMORY,
                           "no memory within the budget to reduce %zu gradients", ended->n);
    }
    const adam_step_args args = {.grads = s->reduced.tensors,
                                 .n_grads = s->reduced.n,
                                 .out = s->reduced.tensors,
                                 .groups = overrides,
                                 .grad_options = &options,
                                 .pool = ctx->pool,
                                 .scratch = &ctx->scratch};
    return outcome_begin(ctx, o, &s->did, p) &&
           api_note_begin(ctx, inst, overrides, &s->did.note, p) &&
           add_forms(ctx, s, o, ended, rq, p) &&
           (adam_step_prepare(o, &args, &s->plan, &error) == ADAM_OK ||
            problem_from_adam(p, &error)) &&
           keep_or_discard(ctx, inst, s, overrides, &options, ended, p);
}

/* Takes the step and makes the replies. */
static void apply(api_context *ctx, instance *inst, const worker_round *ended, round_step *s)
{
    const outgoing own = {.tensors = s->reduced.tensors,
                          .n = s->reduced.n,
                          .data = s->reduced.data,
                          .data_length = s->reduced.data_length,
                          .own_type = true};
    const bool alone = ended->n == 1 && ended->first->worker[0] != '\0';
    instance_unpublish(inst);
    adam_step_apply(s->plan, &s->did.stats, s->did.groups);
    step_publish(ctx, inst, &own);
    instance_changed(inst);
    api_note_step(ctx, inst, alone ? ended->first->worker : NULL, &s->did.note, &s->did.stats,
                  s->did.groups);
    for (size_t i = 0; i < s->n_forms; i++) {
        form *f = &s->forms[i];
        if (f->minimal) {
            step_reply_minimal(&s->did, &f->made);
            continue;
        }
        if (f->has_dtype) {
            outgoing_fill(inst->optimizer, &f->out);
        }
        s->did.group_text.buffer->length = 0; /* each form prints it again */
        step_reply_make(&f->out, &s->did, f->wanted, &f->text, &f->made);
    }
}

static void copy_reply(const reply *made, reply *r)
{
    r->status = made->status;
    r->content_type = made->content_type;
    r->text = made->text != NULL ? buffer_hold(made->text) : NULL;
    r->data = made->data != NULL ? buffer_hold(made->data) : NULL;
    r->data_offset = made->data_offset;
    r->data_length = made->data_length;
    r->minimal = made->minimal;
}

/* Puts each contribution on record, and answers those who wait for it. */
static void settle(api_context *ctx, instance *inst, const worker_round *ended, api_request *rq,
                   reply *r, round_step *s)
{
    workers *all = atomic_load(&inst->workers);
    for (contribution *c = ended->first; c != NULL; c = c->next) {
        const key_record *record = c->key[0] != '\0' ? idempotency_find(inst->keys, c->key) : NULL;
        if (record != NULL && record->pending) { /* of a buffered one, the last alone */
            idempotency_end(inst->keys, c->key, 200, 0, &s->did.stats, s->did.groups);
        }
        if (all != NULL && c->worker[0] != '\0' && !s->did.stats.skipped) {
            workers_stepped(all, c->worker);
        }
        for (api_request *w = c->waiting, *next; w != NULL; w = next) {
            next = w->next_waiting;
            copy_reply(&find_form(s, w)->made, w->reply);
            w->lsn = s->lsn;
            api_answer(ctx, w);
        }
        c->waiting = NULL;
    }
    if (rq != NULL) {
        copy_reply(&find_form(s, rq)->made, r);
        rq->lsn = s->lsn;
    }
}

static void drop(round_step *s)
{
    for (size_t i = 0; i < s->n_forms; i++) {
        reply_drop(&s->forms[i].made);
        text_drop(&s->forms[i].text);
        outgoing_drop(&s->forms[i].out);
    }
    outcome_drop(&s->did);
    reduced_drop(&s->reduced);
}

bool api_round_step(api_context *ctx, instance *inst, worker_round *ended, api_request *rq,
                    const admission *a, reply *r, problem *p)
{
    round_step s;
    s.n_forms = 0;
    s.plan = NULL;
    s.reduced = (reduced){0};
    s.did = (outcome){0};
    s.lsn = 0;
    const bool done = prepare(ctx, inst, ended, rq, a, &s, p);
    if (done) {
        apply(ctx, inst, ended, &s);
        settle(ctx, inst, ended, rq, r, &s);
    }
    drop(&s);
    return done;
}
