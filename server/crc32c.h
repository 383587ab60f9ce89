/* crc32c.h: the checksum of everything on disk: CRC-32C (Castagnoli), as in iSCSI and ext4. */
#ifndef ADAMD_CRC32C_H
#define ADAMD_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Goes on from the crc of what stands before; 0 at the beginning. */
uint32_t crc32c_extend(uint32_t crc, const void *data, size_t length);

static inline uint32_t crc32c(const void *data, size_t length)
{
    return crc32c_extend(0, data, length);
}

#endif
