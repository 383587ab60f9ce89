"""Random shapes, numbers and hyperparameters. One numpy generator makes everything of a configuration."""

import numpy as np

import reference

SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 255, 257, 1003)
# Beyond a chunk of adamd's (16384 elements), and beyond what torch gives to one thread (32768).
LARGE = (16383, 16384, 16385, 20011, 40009)
BETAS = ((0.9, 0.999), (0.9, 0.999), (0.5, 0.9), (0.0, 0.999), (0.0, 0.99), (0.95, 0.98), (0.999, 0.99999),
         (0.9, 0.9), (0.9, 0.0), (0.0, 0.0))
# Bits of the mantissa, bias, and the exponents that numbers of an unusual size get.
LAYOUT = {"float32": (np.uint32, 23, 127), "float64": (np.uint64, 52, 1023)}


def chance(rng, probability):
    return bool(rng.random() < probability)


def pick(rng, values):
    return values[int(rng.integers(len(values)))]


def shape(rng):
    kind = rng.random()
    if kind < 0.1:
        return ()
    if kind < 0.16:
        return pick(rng, ((0,), (0, 3), (4, 0), (2, 0, 5)))
    if kind < 0.18:
        return (pick(rng, LARGE),)
    if kind < 0.6:
        return (pick(rng, SIZES),)
    rank = int(rng.integers(2, 6))
    return tuple(int(n) for n in rng.integers(1, {2: 33, 3: 9, 4: 6, 5: 4}[rank], rank))


def of_exponents(rng, dtype, exponents, shape):
    """Numbers of random sign and mantissa whose exponents are these; 0 makes denormals."""
    word, mantissa_bits, bias = LAYOUT[dtype]
    fields = np.clip(exponents, 0, 2 * bias).astype(np.uint64) << np.uint64(mantissa_bits)
    mantissas = rng.integers(0, 1 << mantissa_bits, shape, dtype=np.uint64)
    signs = rng.integers(0, 2, shape, dtype=np.uint64) << np.uint64(8 * np.dtype(dtype).itemsize - 1)
    bits = np.asarray(fields | mantissas | signs)
    return bits.astype(word).view(dtype).reshape(shape)


def parameter(rng, dtype, shape):
    values = np.asarray(rng.standard_normal(shape)).astype(dtype)
    if chance(rng, 0.3):  # zeros of both signs
        values = np.where(rng.random(shape) < 0.1, values * np.dtype(dtype).type(0), values)
    if chance(rng, 0.1):
        values = of_exponents(rng, dtype, rng.integers(0, 2 * LAYOUT[dtype][2] - 60, shape), shape)
    return np.ascontiguousarray(values).reshape(shape)


def gradient(rng, dtype, shape, style):
    """`style`: "plain", "wild" (many sizes) or "sparse" (most of them 0)."""
    bias = LAYOUT[dtype][2]
    around = -2 if style == "plain" else int(rng.integers(-30, 12))
    spread = 3 if style == "plain" else 20
    exponents = bias + around + rng.integers(-spread, spread + 1, shape)
    kind = rng.random(shape)
    if style != "plain":
        exponents = np.where(kind < 0.02, 0, exponents)  # denormal
        exponents = np.where((kind > 0.02) & (kind < 0.03), 1, exponents)  # its square is 0
        # Its square is infinite; seldom, since a parameter stands still from then on.
        exponents = np.where(kind > 0.9995, bias + bias // 2 + 10, exponents)
    values = of_exponents(rng, dtype, exponents, shape)
    zeros = (rng.random(shape) < (0.7 if style == "sparse" else 0.03)) & (kind > 0.03)
    values = np.where(zeros, values * np.dtype(dtype).type(0), values)
    return np.ascontiguousarray(values).reshape(shape)


def doubtful_zeros(gradient, zero):
    """Where a gradient has zeros that torch has two answers for. `zero` is reference.zero_sign's."""
    flat = gradient.reshape(-1)
    if zero is None:
        return np.zeros(0, np.int64)
    start = reference.tail_start(flat.size)
    return start + np.flatnonzero((flat[start:] == 0) & (np.signbit(flat[start:]) != bool(zero)))


def learning_rate(rng):
    return pick(rng, (1e-3, 0.1, 1.0, 0.0, *(float(10 ** rng.uniform(-6, 0.3)) for _ in range(6))))


def betas(rng):
    if chance(rng, 0.5):
        return pick(rng, BETAS)
    return (float(rng.random()), float(1 - 10 ** rng.uniform(-6, -0.01)))


def eps(rng):
    return pick(rng, (1e-8,) * 8 + (1e-3, 1e-3, 1e-6, 1.0, 1e-30, 0.0, *(float(10 ** rng.uniform(-12, -1)) for _ in "1234")))


def weight_decay(rng):
    return pick(rng, (0.0, 0.0, 0.01, 1.0, float(10 ** rng.uniform(-5, -0.5))))


def options(rng, share, amsgrad=True):
    """Hyperparameters; each is there with probability `share`."""
    every = {"lr": learning_rate(rng), "betas": betas(rng), "eps": eps(rng),
             "weight_decay": weight_decay(rng), "maximize": chance(rng, 0.3)}
    if amsgrad:
        every["amsgrad"] = chance(rng, 0.5)
    return {key: value for key, value in every.items() if chance(rng, share)}
