/* adamd_calls.h: the calls that speak JSON: what is there, how it goes, and changes to it.
 * adamd_client.h includes this file.
 *
 * Where a call has `json`, the reply's text is the caller's on success, terminated, to be given to
 * free(); `length` may be NULL, and `json` itself may be NULL where the text is not wanted. On an
 * error *json is NULL. What the text holds is in docs/protocol.md; a later server may add members.
 *
 * Calls that read are repeated as adamd_client.h says, all others are sent once. */
#ifndef ADAMD_CALLS_H
#define ADAMD_CALLS_H

#include "adamd_client.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* --- the server ------------------------------------------------------------------------------ */

/* ADAMD_OK where the server is alive, or ready for requests; REFUSED (503) where it is not. Sent
 * once. */
adamd_status adamd_livez(adamd_client *client, adamd_error *error);
adamd_status adamd_readyz(adamd_client *client, adamd_error *error);

/* A page of the list: {"optimizers": [summary, ...], "next": name or null}. `prefix` of the names
 * and `after`, the `next` of the page before, may be NULL; `limit` 0 is the server's own. */
adamd_status adamd_list(adamd_client *client, const char *prefix, const char *after, unsigned limit,
                        char **json, size_t *length, adamd_error *error);

/* --- reading --------------------------------------------------------------------------------- */

adamd_status adamd_summary(adamd_client *client, const char *name, char **json, size_t *length,
                           adamd_error *error);

/* The param_groups. `data` is "all", "none", or NULL: where a parameter has at most 1000 elements.
 */
adamd_status adamd_param_groups(adamd_client *client, const char *name, const char *data,
                                char **json, size_t *length, adamd_error *error);

/* Step, moments and their statistics of one parameter; `data` as above. */
adamd_status adamd_state(adamd_client *client, const char *name, const char *param,
                         const char *data, char **json, size_t *length, adamd_error *error);

/* {"digest": ...}: SHA-256 of everything that decides the next step. */
adamd_status adamd_digest(adamd_client *client, const char *name, char **json, size_t *length,
                          adamd_error *error);

/* The last steps, and the last changes from outside; `last` 0: all that the server holds. */
adamd_status adamd_history(adamd_client *client, const char *name, unsigned last, char **json,
                           size_t *length, adamd_error *error);
adamd_status adamd_changes(adamd_client *client, const char *name, unsigned last, char **json,
                           size_t *length, adamd_error *error);

/* Who sends gradients, and those that are held. */
adamd_status adamd_workers(adamd_client *client, const char *name, char **json, size_t *length,
                           adamd_error *error);
adamd_status adamd_round(adamd_client *client, const char *name, char **json, size_t *length,
                         adamd_error *error);

/* --- changing -------------------------------------------------------------------------------- */

/* Creates an optimizer from JSON alone, as docs/protocol.md has it; the reply is its summary. */
adamd_status adamd_create_json(adamd_client *client, const char *name, const char *optimizer_json,
                               char **json, size_t *length, adamd_error *error);

/* Changes settings of gradients and workers, as JSON merge patch: {"max_grad_norm": 1}. The reply
 * is the summary. */
adamd_status adamd_configure(adamd_client *client, const char *name, const char *settings_json,
                             char **json, size_t *length, adamd_error *error);

/* Adds a param group. With `params` NULL it is `group_json` alone; else its parameters are these,
 * and `group_json`, which may be NULL, has its options. */
adamd_status adamd_add_param_group(adamd_client *client, const char *name, const char *group_json,
                                   const adamd_tensor *params, size_t n, adamd_error *error);

/* Changes hyperparameters of a group, as JSON merge patch: {"lr": 0.01}. The reply is the group. */
adamd_status adamd_patch_param_group(adamd_client *client, const char *name, unsigned index,
                                     const char *changes_json, char **json, size_t *length,
                                     adamd_error *error);

/* Forgets a worker and ends its quarantine; drops the gradients that are held. */
adamd_status adamd_remove_worker(adamd_client *client, const char *name, const char *worker,
                                 adamd_error *error);
adamd_status adamd_drop_round(adamd_client *client, const char *name, adamd_error *error);

/* Removes the optimizer. */
adamd_status adamd_delete(adamd_client *client, const char *name, adamd_error *error);

/* --- what is on disk: for a server with --data-dir ------------------------------------------- */

/* Writes a snapshot now: {"step", "lsn"}. */
adamd_status adamd_snapshot(adamd_client *client, const char *name, char **json, size_t *length,
                            adamd_error *error);

/* Back to an earlier step; the reply is the summary. */
adamd_status adamd_rollback(adamd_client *client, const char *name, uint64_t step, char **json,
                            size_t *length, adamd_error *error);

/* Makes `new_name` of what the optimizer is, or, where `step` is not NULL, was at *step. The reply
 * is the summary of the new one. */
adamd_status adamd_fork(adamd_client *client, const char *name, const char *new_name,
                        const uint64_t *step, char **json, size_t *length, adamd_error *error);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
