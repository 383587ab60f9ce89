/* listen.h: the listening socket. */
#ifndef ADAMD_LISTEN_H
#define ADAMD_LISTEN_H

#include <stddef.h>

/* Binds and listens on host and port (0: a free one, set in *port). -1, with one line in `error`,
 * on failure. */
int listen_open(const char *host, unsigned *port, char *error, size_t error_size);

#endif
