/* history.h: the last steps of an optimizer. Knows records of steps, not optimizers.
 *
 * Written from the optimizer's strand, read by anyone. Recording never fails and waits for no
 * reader: where there is no memory, or at the limits, the oldest records go. */
#ifndef ADAMD_HISTORY_H
#define ADAMD_HISTORY_H

#include "codec_history.h"
#include "memory.h"

/* Of one optimizer, however many groups it has. */
#define HISTORY_MAX_BYTES ((size_t)128 << 20)

typedef struct history history;

/* A history of the last `steps` steps, held once. NULL: no memory. */
history *history_create(memory *m, size_t steps);
history *history_hold(history *h);
/* Lets go; the last one frees it. NULL is allowed. */
void history_drop(history *h);

/* Copies the record; its time is now. */
void history_add(history *h, const step_record *record);
/* The optimizer has been removed: nothing more will come. */
void history_close(history *h);
bool history_closed(const history *h);

/* Records have places, which count up from 0: those from history_first to history_next - 1 are
 * there. */
uint64_t history_first(const history *h);
uint64_t history_next(const history *h);

/* What it holds in memory. */
size_t history_bytes(const history *h);

/* Where one goes on who has seen everything up to and with `step`. False where that is no longer
 * known: *place is then the first. */
bool history_find(history *h, uint64_t step, uint64_t *place);

/* How many listeners wait for what comes. */
void history_listen(history *h, bool begins);
unsigned history_listeners(const history *h);

/* Some records in a row, copied. */
typedef struct history_page {
    buffer *data; /* the caller's, to be dropped; NULL at first */
    const char *at;
    size_t left; /* records not yet taken */
} history_page;

typedef enum history_status {
    HISTORY_READ,
    HISTORY_NONE, /* nothing at this place yet */
    HISTORY_GONE, /* no longer there */
    HISTORY_NO_MEMORY,
} history_status;

/* Copies at least one record from `place` on to the page, whose buffer is used again. */
history_status history_read(history *h, uint64_t place, buffer_pool *pool, history_page *page);
/* Takes the next record of a page with left > 0; its pointers lead into the page. */
void history_take(history_page *page, step_record *record);

#endif
