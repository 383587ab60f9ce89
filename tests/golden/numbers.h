/* numbers.h: what the golden tests share with the scripts that made their files. */
#ifndef ADAM_TEST_NUMBERS_H
#define ADAM_TEST_NUMBERS_H

#include <stddef.h>
#include <stdint.h>

/* splitmix64's finaliser (Steele, Lea, Flood 2014): mix() of make_golden.py. */
static inline uint64_t mix(uint64_t counter)
{
    uint64_t z = counter * UINT64_C(0x9e3779b97f4a7c15) + UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

#define FNV_START UINT64_C(0xcbf29ce484222325)

static inline uint64_t fnv1a(uint64_t hash, const void *data, size_t n)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

#endif
