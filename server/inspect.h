/* inspect.h: a data directory, looked at without serving it. */
#ifndef ADAMD_INSPECT_H
#define ADAMD_INSPECT_H

#include "api.h"

/* Does what --check or --replay says, on standard output. Returns the exit status. */
int inspect(api_context *ctx);

#endif
