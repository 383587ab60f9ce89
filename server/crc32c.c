/* crc32c.c: the only file that knows ISA-L, which picks the instruction set at run time. */
#include "crc32c.h"

#include <isa-l/crc.h>

/* The library counts in int. */
#define PIECE ((size_t)1 << 30)

uint32_t crc32c_extend(uint32_t crc, const void *data, size_t length)
{
    const unsigned char *at = data;
    uint32_t sum =
        ~crc; /* the library neither begins nor ends with the inversion of the standard */
    while (length > 0) {
        const size_t n = length < PIECE ? length : PIECE;
        sum = crc32_iscsi((unsigned char *)at, (int)n, sum); /* it only reads */
        at += n;
        length -= n;
    }
    return ~sum;
}
