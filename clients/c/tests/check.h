/* check.h: the one assertion of the client's tests. A failed one counts and goes on. */
#ifndef ADAMD_CLIENT_CHECK_H
#define ADAMD_CLIENT_CHECK_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int check_failures;

/* Bit for bit: what a client passes on is bytes. */
static inline bool same_bytes(const void *a, const void *b, size_t n)
{
    return memcmp(a, b, n) == 0;
}

#define CHECK(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            (void)fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            check_failures++;                                                             \
        }                                                                                 \
    } while (0)

/* The same, with the text of an error. */
#define CHECK_STATUS(call, wanted, error)                                                         \
    do {                                                                                          \
        adamd_status check_status = (call);                                                       \
        if (check_status != (wanted)) {                                                           \
            (void)fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, #call,               \
                          adamd_status_text(check_status), check_status ? (error)->message : ""); \
            check_failures++;                                                                     \
        }                                                                                         \
    } while (0)

#endif
