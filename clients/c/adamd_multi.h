/* adamd_multi.h: many steps in flight from one thread, over libcurl's multi interface; and the
 * stream of an optimizer's events. adamd_client.h includes this file. */
#ifndef ADAMD_MULTI_H
#define ADAMD_MULTI_H

#include "adamd_client.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define ADAMD_MAX_IN_FLIGHT 65536 /* steps of one adamd_multi */

/* --- many steps at once ---------------------------------------------------------------------- */

/* Sends steps and gathers what comes of them. Used by one thread at a time, as a client is. It
 * keeps as many connections as steps were in flight at once. */
typedef struct adamd_multi adamd_multi;

/* `options` are each step's. `max_connections` 0: no limit; steps beyond one wait their turn, which
 * in aggregation "sync" must not be for each other. On success *multi is the caller's, for
 * adamd_multi_close; on an error it is NULL. */
adamd_status adamd_multi_open(const char *url, const adamd_client_options *options,
                              unsigned max_connections, adamd_multi **multi, adamd_error *error);

/* Gives up what is in flight: such steps may have been taken or not. NULL is allowed. */
void adamd_multi_close(adamd_multi *multi);

/* Begins a step, as adamd_step takes it, and returns at once. The tensors, their names and data
 * stay the caller's and must not change until adamd_multi_next tells that the step is done;
 * `options` and the texts in it are needed only until this call returns. Steps are taken in no
 * order: one that must come after another is begun when that is done. `tag` is for the caller. On
 * an error nothing was begun. Errors: INVALID_ARGUMENT, NO_MEMORY. */
adamd_status adamd_multi_step(adamd_multi *multi, const char *name, const adamd_tensor *grads,
                              size_t n, const adamd_tensor *params_out,
                              const adamd_step_options *options, void *tag, adamd_error *error);

/* One step that is done: what adamd_step would have returned. */
typedef struct adamd_done {
    void *tag;
    adamd_status status;
    adamd_result result; /* where status is OK */
    adamd_error error;   /* where it is not */
} adamd_done;

/* Waits until a step is done, `timeout_ms` at most (-1: as long as it takes; 0: not at all), and
 * sends steps again where that is due. False where none is done by then, or none is in flight. */
bool adamd_multi_next(adamd_multi *multi, int timeout_ms, adamd_done *done);

/* Steps that were begun and not yet told of by adamd_multi_next. */
size_t adamd_multi_in_flight(const adamd_multi *multi);

/* --- events ---------------------------------------------------------------------------------- */

/* All texts are terminated, and hold until the callback returns. */
typedef struct adamd_event {
    const char *type; /* "step", "skipped", "gap", "removed"; a later server may have others */
    const char *id;   /* the step, or "" */
    const char *data; /* JSON, as docs/protocol.md says */
} adamd_event;

/* False ends adamd_events. `event` NULL: nothing has come for a second or so. */
typedef bool (*adamd_on_event)(void *context, const adamd_event *event);

/* Calls `on_event` for each event of an optimizer, beginning with the next step, or with the one
 * after `last_event_id` where that is not NULL. A connection that breaks is made again from the
 * last event on, as often as options.max_retries says without an event between; options.timeout_ms
 * is not for it. OK where the callback ended it, or the optimizer was removed. */
adamd_status adamd_events(adamd_client *client, const char *name, const char *last_event_id,
                          adamd_on_event on_event, void *context, adamd_error *error);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
