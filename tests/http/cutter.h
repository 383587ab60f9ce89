/* cutter.h: a proxy between one client and the server that cuts connections, delays requests and
 * sends them twice, as its seed has it. */
#ifndef ADAMD_TEST_CUTTER_H
#define ADAMD_TEST_CUTTER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a connection is cut: before anything of the request is passed on, within it, when it is
 * whole, before anything of the reply is passed on, within it. */
typedef enum cut_place {
    CUT_BEFORE,
    CUT_IN_REQUEST,
    CUT_AFTER_REQUEST,
    CUT_BEFORE_REPLY,
    CUT_IN_REPLY,
    CUT_PLACES
} cut_place;

/* At most so many cuts in a row: a client that tries more often gets through. */
#define CUTTER_ROW 4

typedef struct cutter_message {
    char *bytes;
    size_t length, head; /* head: bytes up to and with the empty line */
} cutter_message;

typedef struct cutter {
    char url[64]; /* what the client connects to */
    /* Counts, to be read after cutter_stop. `lost`: exchanges that ended otherwise than planned. */
    unsigned requests, cuts[CUT_PLACES], delays, twins, late_twins, lost;

    /* Private. */
    int listener;
    unsigned server_port;
    uint64_t random;
    unsigned row;
    cutter_message kept; /* a request that will be sent again */
    unsigned keep_for;   /* exchanges until then */
    atomic_bool stopping;
    pthread_t thread;
} cutter;

/* Starts it in front of the server on this port; false where that fails. It serves one connection
 * at a time, each until it is cut or closed. */
bool cutter_start(cutter *c, unsigned server_port, uint64_t seed);
/* The client must have been closed. */
void cutter_stop(cutter *c);

unsigned cutter_cuts(const cutter *c);

#endif
