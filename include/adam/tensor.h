/* tensor.h: a named view of numbers, and its limits. A view owns nothing. */
#ifndef ADAM_TENSOR_H
#define ADAM_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ADAM_MAX_RANK   8      /* dimensions of a tensor */
#define ADAM_MAX_NAME   512    /* bytes of a parameter's name, UTF-8, without a terminator */
#define ADAM_MAX_PARAMS 131072 /* parameters of an optimizer */
#define ADAM_MAX_GROUPS 4096   /* param groups of an optimizer */

/* Parameters and their state are FLOAT32 or FLOAT64; gradients come in, and parameters go out, in
 * any of the four. */
typedef enum adam_dtype { ADAM_FLOAT32, ADAM_FLOAT64, ADAM_BFLOAT16, ADAM_FLOAT16 } adam_dtype;

/* Bytes of one element: 2, 4 or 8. */
size_t adam_dtype_size(adam_dtype dtype);

/* PyTorch's name of the type, without its "torch." prefix: "float32", "bfloat16". */
const char *adam_dtype_name(adam_dtype dtype);

/* Converts n elements at `in` to `to` at `out`, rounding once, to the nearest, ties to even; what
 * is too large becomes an infinity, a NaN stays one (IEEE 754). So does torch.Tensor.to, but from
 * FLOAT64 to 16 bits, where it rounds to FLOAT32 first. Both may be at any alignment; they must not
 * overlap. */
void adam_convert(adam_dtype to, void *out, adam_dtype from, const void *in, size_t n);

/* A view: `numel` elements of `dtype`, row-major, at `data`, in native byte order and at any
 * alignment. `name` is `name_len` bytes of UTF-8 and need not be terminated. Rank 0 is a scalar
 * (one element); a dimension of 0 makes an empty tensor. */
typedef struct adam_tensor {
    const char *name;
    size_t name_len;
    adam_dtype dtype;
    int rank;
    uint64_t shape[ADAM_MAX_RANK];
    void *data;
} adam_tensor;

/* Elements of a shape into *numel. False where the rank is over ADAM_MAX_RANK, or the elements, at
 * 8 bytes each, would not fit in 2^56 bytes. */
bool adam_shape_numel(int rank, const uint64_t *shape, uint64_t *numel);

/* Whether the bytes are well-formed UTF-8 (RFC 3629: no overlong forms, no surrogates). */
bool adam_utf8_valid(const char *text, size_t length);

/* Whether two shapes are the same. */
bool adam_shape_equal(int rank_a, const uint64_t *a, int rank_b, const uint64_t *b);

#ifdef __cplusplus
}
#endif
#endif
