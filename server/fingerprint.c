/* fingerprint.c: the only file that knows libxxhash. */
#include "fingerprint.h"

#include <sys/random.h>
#include <time.h>
/* The plain calls are compiled for SSE2; these look at the processor first. */
#ifdef ADAMD_XXHASH_DISPATCH
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

fingerprint fingerprint_of(const void *bytes, size_t length)
{
    const XXH128_hash_t hash = XXH3_128bits(bytes, length);
    return (fingerprint){.low = hash.low64, .high = hash.high64};
}

uint64_t fingerprint_hash(const void *bytes, size_t length, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes, length, seed);
}

uint64_t fingerprint_seed(void)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) {
        struct timespec t; /* the machine has just started, and has no random bits yet */
        clock_gettime(CLOCK_REALTIME, &t);
        seed = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
    }
    return seed;
}
