/* state_digest.h: one short text for everything that decides an optimizer's next step. */
#ifndef ADAMD_STATE_DIGEST_H
#define ADAMD_STATE_DIGEST_H

#include "adam/optimizer.h"

#define STATE_DIGEST_SIZE 72 /* "sha256:", 64 digits, terminator */

/* Writes "sha256:<hex>" of the byte string that docs/state_dict.md describes, version 1. Copies
 * nothing of the state. False where there is no memory. */
bool state_digest(const adam_optimizer *optimizer, char out[STATE_DIGEST_SIZE]);

#endif
