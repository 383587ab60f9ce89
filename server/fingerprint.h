/* fingerprint.h: short stand-ins for bytes, to tell whether they are the same: XXH3. They hold
 * against accident, not against one who looks for two bodies with the same. */
#ifndef ADAMD_FINGERPRINT_H
#define ADAMD_FINGERPRINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fingerprint {
    uint64_t low, high;
} fingerprint;

/* 128 bits: the same on every machine. */
fingerprint fingerprint_of(const void *bytes, size_t length);

static inline bool fingerprint_same(fingerprint a, fingerprint b)
{
    return a.low == b.low && a.high == b.high;
}

/* 64 bits for a hash table, whose seed clients do not know. */
uint64_t fingerprint_hash(const void *bytes, size_t length, uint64_t seed);
uint64_t fingerprint_seed(void);

#endif
