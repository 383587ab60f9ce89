/* tensor.c: types, shapes and names of tensors. Knows no optimizer. */
#include "adam/tensor.h"

#include <string.h>

size_t adam_dtype_size(adam_dtype dtype)
{
    static const size_t sizes[] = {[ADAM_FLOAT32] = sizeof(float),
                                   [ADAM_FLOAT64] = sizeof(double),
                                   [ADAM_BFLOAT16] = sizeof(uint16_t),
                                   [ADAM_FLOAT16] = sizeof(uint16_t)};
    return sizes[dtype];
}

const char *adam_dtype_name(adam_dtype dtype)
{
    static const char *const names[] = {[ADAM_FLOAT32] = "float32",
                                        [ADAM_FLOAT64] = "float64",
                                        [ADAM_BFLOAT16] = "bfloat16",
                                        [ADAM_FLOAT16] = "float16"};
    return names[dtype];
}

bool adam_shape_numel(int rank, const uint64_t *shape, uint64_t *numel)
{
    const uint64_t limit = UINT64_C(1) << 53; /* 8 bytes each: 2^56 */
    if (rank < 0 || rank > ADAM_MAX_RANK) {
        return false;
    }
    uint64_t product = 1;
    bool empty = false;
    for (int i = 0; i < rank; i++) {
        if (shape[i] == 0) {
            empty = true;
        } else if (shape[i] > limit / product) {
            return false; /* even beside a 0: such a shape is a mistake */
        } else {
            product *= shape[i];
        }
    }
    *numel = empty ? 0 : product;
    return true;
}

bool adam_shape_equal(int rank_a, const uint64_t *a, int rank_b, const uint64_t *b)
{
    return rank_a == rank_b && (rank_a == 0 || memcmp(a, b, (size_t)rank_a * sizeof *a) == 0);
}

/* Length of the UTF-8 sequence at `s` (1 to 4), or 0 where it is malformed. RFC 3629, section 4. */
static size_t utf8_sequence(const unsigned char *s, size_t left)
{
    if (s[0] < 0x80) {
        return 1;
    }
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || left < n) {
        return 0;
    }
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    switch (s[0]) {
    case 0xe0: low = 0xa0; break;
    case 0xed: high = 0x9f; break;
    case 0xf0: low = 0x90; break;
    case 0xf4: high = 0x8f; break;
    default: break;
    }
    if (s[1] < low || s[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return n;
}

bool adam_utf8_valid(const char *text, size_t length)
{
    for (size_t i = 0; i < length;) {
        size_t n = utf8_sequence((const unsigned char *)text + i, length - i);
        if (n == 0) {
            return false;
        }
        i += n;
    }
    return true;
}
