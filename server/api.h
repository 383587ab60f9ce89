/* api.h: what handlers see: a request without its socket, and what the server has. */
#ifndef ADAMD_API_H
#define ADAMD_API_H

#include <stdatomic.h>

#include "adam/adam.h"
#include "alarm.h"
#include "buffer.h"
#include "codec_journal.h"
#include "codec_show.h"
#include "codec_state_dict.h"
#include "config.h"
#include "media.h"
#include "problem.h"
#include "registry.h"
#include "reply.h"
#include "store.h"
#include "stream.h"
#include "ticker.h"

/* Parameters of at least this many bytes stay published for the next reader; smaller ones are as
 * quickly copied, and would fill the budget with half-empty buffers. */
#define API_PUBLISH_MIN ((size_t)64 << 10)

#define API_LIST_LIMIT     100 /* optimizers of a page, if not said */
#define API_LIST_LIMIT_MAX 1000

#define API_MAX_WAIT 300 /* seconds of ?wait= */

#define API_LINE 64 /* of a cache */

typedef struct api_context {
    /* Bytes of bodies and replies on their way: memory that comes back without anybody's doing. On
     * a cache line of its own: every request writes it, and reads the rest. */
    _Alignas(API_LINE) atomic_size_t transit_bytes;
    char apart[API_LINE - sizeof(atomic_size_t)];
    const config *config;
    memory *memory;
    buffer_pool *buffers;
    registry *registry;
    adam_pool *pool;          /* for large steps */
    adam_allocator allocator; /* optimizer state, from the budget */
    adam_allocator scratch;   /* what a step needs until its end, in reused buffers */
    ticker *ticker;           /* of the next two, and of the deadlines of connections */
    stream_hub *streams;
    alarm_clock *alarms;
    executor *jobs;
    store *store; /* NULL: without a data directory */
    /* The optimizer as it last was at a step, and a snapshot as an optimizer, neither in the list,
     * each held once: recover.c's. NULL, with the problem set. */
    instance *(*recover_at)(struct api_context *ctx, instance *inst, uint64_t step, problem *p);
    instance *(*load)(struct api_context *ctx, const snapshot_entry *entry, problem *p);
    atomic_bool recovering; /* requests are refused */
    atomic_bool draining;
} api_context;

typedef struct api_query {
    show_data data;
    bool has_dtype; /* `dtype`: of the parameters in the reply */
    adam_dtype dtype;
    state_dict_load load;
    size_t limit;
    size_t last; /* records of a history */
    size_t wait; /* seconds until the parameters change; 0: not */
    char prefix[REGISTRY_MAX_NAME + 1], after[REGISTRY_MAX_NAME + 1];
} api_query;

struct route;

typedef struct api_request {
    const struct route *route;
    bool is_step;                   /* POST …/step */
    bool minimal;                   /* Prefer: return=minimal */
    bool has_based_on, has_last_id; /* see below */
    bool recovers;                  /* it is done again, and is in the journal */
    journal_request asked;
    uint64_t lsn;      /* behind its record in the journal; 0: none */
    instance *replays; /* not NULL: the optimizer that it is done to again, whatever its name */
    char optimizer[REGISTRY_MAX_NAME + 1]; /* {name} of the path */
    char param[ADAM_MAX_NAME + 1];         /* {param} */
    size_t param_length;
    size_t index; /* {index} */
    api_query query;
    media sent, wanted;
    const char *if_match; /* NULL: none; as the next three, as long as the request lives */
    const char *if_none_match;
    const char *worker; /* Adam-Worker */
    const char *key;    /* Idempotency-Key */
    double weight;      /* Adam-Weight, or 1 */
    uint64_t based_on;  /* Adam-Based-On */
    uint64_t last_id;   /* Last-Event-ID */
    buffer *body;       /* NULL: none */
    size_t transit;     /* bytes of transit_bytes that are its own */
    instance *instance; /* held; where the route is about one */

    /* How it waits for others: api_wait.c. */
    bool may_wait; /* its connection is suspended */
    bool of_round; /* it closed a round: a refusal is not its own fault */
    reply *reply;  /* to be filled while it waits */
    void (*answered)(struct api_request *self); /* it no longer waits: may be gone after the call */
    journal_waiter disk;
    api_context *ctx; /* while it waits for the disk */
    struct api_request *next_waiting;
    uint64_t wait_until; /* alarm_now() */
} api_request;

/* Answers, or returns false with the problem set, having changed nothing. Or leaves the request
 * waiting: see reply_wait. Where the request is
 * about an optimizer, the caller is in its strand, but for api_history, api_changes and api_events,
 * which use nothing that needs it. */
typedef bool api_handler(api_context *ctx, api_request *rq, reply *r, problem *p);

api_handler api_root, api_livez, api_readyz, api_openapi;
api_handler api_list, api_create, api_summary, api_patch_optimizer, api_delete;
api_handler api_step;
api_handler api_snapshot, api_rollback, api_fork;
api_handler api_get_round, api_drop_round, api_get_workers, api_delete_worker;
api_handler api_get_param_groups, api_add_param_group, api_patch_param_group;
api_handler api_get_params, api_put_params, api_get_param;
api_handler api_get_state, api_get_state_dict, api_put_state_dict, api_get_digest;
api_handler api_history, api_changes, api_events;

/* What a step needs to be put on record, from before it until after it. */
typedef struct step_note {
    group_record *groups; /* with the lr of the step */
    size_t n_groups;
    const adam_options *overrides; /* NULL: none */
    adam_options *before;          /* of each group; NULL where there are no overrides */
    buffer *memory;
} step_note;

/* Before a step is applied. False, with the problem set, where there is no memory; the note is to
 * be dropped in either case. */
bool api_note_begin(api_context *ctx, const instance *inst, const adam_options *overrides,
                    step_note *note, problem *p);
/* After it: adds it to the history, tells the listeners, and notes what the overrides changed.
 * `stats` of each group. */
void api_note_step(api_context *ctx, const instance *inst, const char *worker,
                   const step_note *note, const adam_step_stats *total,
                   const adam_group_stats *stats);
/* Lets go of its memory. */
void api_note_drop(step_note *note);
/* Notes a change: see changes.h. From the strand, after it. */
void api_note_change(const instance *inst, const char *what, const char *from, const char *to);

/* Memory that ran out for what others have on their way is a matter of waiting: makes it 503. */
void api_blame_memory(const api_context *ctx, const api_request *rq, problem *p);
/* The keys of an optimizer. NULL: no memory for them. */
idempotency *api_keys_of(const api_context *ctx, instance *inst);
/* Sets the problem; returns false. */
bool api_name_taken(const char *name, problem *p);
/* Writes `"e<epoch>-s<step>"`, quotes included. */
void api_etag(const optimizer_info *info, char *out, size_t size);
/* False, with the problem set, where If-Match is malformed or does not hold. */
bool api_check_if_match(const char *if_match, const char *etag, problem *p);
/* Whether If-None-Match names the tag, or is "*". */
bool api_none_match_names(const char *if_none_match, const char *etag);

/* ---- api_workers.c: who sends gradients ---- */

/* The workers of an optimizer. NULL: there was no memory for them. From any thread. */
workers *api_workers_of(api_context *ctx, instance *inst);
/* Those that wait in a round are there, however long it lasts. Before anybody asks who is gone;
 * from the strand. */
void api_see_waiting(instance *inst);
/* 403 where the worker is in quarantine. From any thread. */
bool api_check_quarantine(const api_request *rq, problem *p);
/* A step was refused: counts it for its worker, and names that in the problem where its gradient
 * was the reason. From any thread. */
void api_blame_worker(api_context *ctx, const api_request *rq, problem *p);

/* ---- api_wait.c: requests that wait for others, in the strand of their optimizer ---- */

/* Whether any request waits at the optimizer, or gradients are held. */
bool api_is_waited_at(const instance *inst);
/* The optimizer is not what it was at this step and epoch: answers those that waited for that, or
 * can no longer get what they waited for. */
void api_changed(api_context *ctx, instance *inst, const optimizer_info *before);
/* Lets the request wait for the next change of the parameters; true, with r->wait set. False, with
 * the problem set, where the server ends. */
bool api_wait_for_change(api_context *ctx, api_request *rq, reply *r, problem *p);
/* The request waits no longer; its reply is made, but for the ETag. */
void api_answer(api_context *ctx, api_request *rq);
/* Whether the request, whose reply is made, must wait until what it did is on disk; and lets it: it
 * may be answered, and gone, when this returns. */
bool api_waits_for_disk(const api_context *ctx, const api_request *rq);
void api_wait_for_disk(api_context *ctx, api_request *rq);
/* Sets the time at which somebody at the optimizer has waited long enough. */
void api_set_alarm(api_context *ctx, instance *inst);
/* The server ends: refuses all that wait, at all optimizers. From any thread. */
void api_end_waits(api_context *ctx);

/* ---- api_round.c: gradients that are held until they make a step together ---- */

/* A round is over without a step: those that wait get the problem. */
void api_round_fail(api_context *ctx, instance *inst, const problem *p);
/* What the time does to a round; and when it next does something to it, or ALARM_NEVER. */
void api_round_tick(api_context *ctx, instance *inst);
uint64_t api_round_due(instance *inst);

#endif
