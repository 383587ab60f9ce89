/* log.c: the log. One write for each line, so that lines of several threads never mix. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "utf8.h"

#define LOG_MAX_LINE 2048

static log_level least = LOG_INFO;
static log_format form = LOG_TEXT;

void log_begin(log_level level, log_format format)
{
    least = level;
    form = format;
}

bool log_wants(log_level level)
{
    return level <= least;
}

/* Copies the message with what would break a line or a JSON string escaped. Bytes that are not
 * ASCII pass. */
static size_t escape(const char *message, char *out, size_t size)
{
    size_t n = 0;
    for (const char *c = message; *c != '\0' && n + 7 < size; c++) {
        if (*c == '"' || *c == '\\') {
            n += (size_t)snprintf(out + n, size - n, form == LOG_JSON ? "\\%c" : "%c", *c);
        } else if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            n += (size_t)snprintf(out + n, size - n, "\\u%04x", (unsigned char)*c);
        } else {
            out[n++] = *c;
        }
    }
    out[n] = '\0';
    return n;
}

void log_write(log_level level, const char *format, ...)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    if (!log_wants(level)) {
        return;
    }
    char message[LOG_MAX_LINE];
    char safe[LOG_MAX_LINE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args);
    va_end(args);
    (void)escape(message, safe, sizeof safe);
    utf8_mend(safe); /* targets are logged as they came */

    struct timespec now;
    struct tm utc;
    char date[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    (void)strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
    char line[LOG_MAX_LINE + 128];
    const int length = snprintf(
        line, sizeof line,
        form == LOG_JSON ? "{\"time\": \"%s.%03ldZ\", \"level\": \"%s\", \"message\": \"%s\"}\n"
                         : "%s.%03ldZ %-5s %s\n",
        date, now.tv_nsec / 1000000, names[level], safe);
    const ssize_t written = write(STDERR_FILENO, line, (size_t)length);
    (void)written; /* nowhere is left to say that the log cannot be written */
}
