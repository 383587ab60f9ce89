/* api.h: what handlers see: a request without its socket, and what the server has. */
#ifndef ADAMD_API_H
#define ADAMD_API_H

#include <stdatomic.h>

#include "adam/adam.h"
#include "buffer.h"
#include "codec_show.h"
#include "codec_state_dict.h"
#include "config.h"
#include "media.h"
#include "problem.h"
#include "registry.h"
#include "reply.h"
#include "stream.h"

/* Parameters of at least this many bytes stay published for the next reader; smaller ones are as
 * quickly copied, and would fill the budget with half-empty buffers. */
#define API_PUBLISH_MIN ((size_t)64 << 10)

#define API_LIST_LIMIT     100 /* optimizers of a page, if not said */
#define API_LIST_LIMIT_MAX 1000

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
    stream_hub *streams;
    atomic_bool draining;
} api_context;

typedef struct api_query {
    show_data data;
    bool has_dtype; /* `dtype`: of the parameters in the reply */
    adam_dtype dtype;
    state_dict_load load;
    size_t limit;
    size_t last; /* records of a history */
    char prefix[REGISTRY_MAX_NAME + 1], after[REGISTRY_MAX_NAME + 1];
} api_query;

struct route;

typedef struct api_request {
    const struct route *route;
    char optimizer[REGISTRY_MAX_NAME + 1]; /* {name} of the path */
    char param[ADAM_MAX_NAME + 1];         /* {param} */
    size_t param_length;
    size_t index; /* {index} */
    api_query query;
    media sent, wanted;
    const char *if_match; /* NULL: none */
    const char *worker;   /* Adam-Worker, NULL: none; as long as the request lives */
    bool has_last_id;     /* Last-Event-ID */
    uint64_t last_id;
    bool minimal;       /* Prefer: return=minimal */
    buffer *body;       /* NULL: none */
    size_t transit;     /* bytes of transit_bytes that are its own */
    instance *instance; /* held; where the route is about one */
} api_request;

/* Answers, or returns false with the problem set, having changed nothing. Where the request is
 * about an optimizer, the caller is in its strand, but for api_history, api_changes and api_events,
 * which use nothing that needs it. */
typedef bool api_handler(api_context *ctx, api_request *rq, reply *r, problem *p);

api_handler api_root, api_livez, api_readyz, api_openapi;
api_handler api_list, api_create, api_summary, api_patch_optimizer, api_delete;
api_handler api_step;
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
void api_note_step(api_context *ctx, const api_request *rq, const step_note *note,
                   const adam_step_stats *total, const adam_group_stats *stats);
/* Lets go of its memory. */
void api_note_drop(step_note *note);
/* Notes a change: see changes.h. From the strand, after it. */
void api_note_change(const instance *inst, const char *what, const char *from, const char *to);

/* Sets the problem; returns false. */
bool api_name_taken(const char *name, problem *p);
/* Writes `"e<epoch>-s<step>"`, quotes included. */
void api_etag(const optimizer_info *info, char *out, size_t size);
/* False, with the problem set, where If-Match is malformed or does not hold. */
bool api_check_if_match(const char *if_match, const char *etag, problem *p);

#endif
