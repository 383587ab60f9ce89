/* log.h: lines on standard error, as text or JSON. One log for the process. */
#ifndef ADAMD_LOG_H
#define ADAMD_LOG_H

#include <stdbool.h>

#include "config.h"

/* Call once, before other threads. */
void log_begin(log_level level, log_format format);
bool log_wants(log_level level);
/* One line; control characters and quotes of the message are escaped. */
void log_write(log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
