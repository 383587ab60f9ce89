#!/usr/bin/env python3
"""Writes tests/golden/fedadam.txt: rounds of federated Adam, for test_fedadam.c, which makes the same
clients. FedAdam of Reddi et al., "Adaptive Federated Optimization" (ICLR 2021), Algorithm 2, with the
moments at zero in the beginning, its tau as eps, and with bias correction too.

    python3 tests/golden/make_fedadam.py [--check]

Each client sends new values; the server's gradient is the mean of `current - sent`. Beside the trained
parameter stands a buffer, of which the mean is taken. All in float32, every operation rounded, in
the order of docs/numerics.md. Where torch 2 can be imported, the rounds with bias correction are held
against torch.optim.Adam as well.
"""

import itertools
import os
import sys

import numpy as np

try:
    import torch
    import reference
except ImportError:
    torch = None

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fedadam.txt")
F32, F64, U64 = np.float32, np.float64, np.uint64
SIZES = (37, 5)  # of the trained parameter, of the buffer
ROUNDS = 8
LR, BETAS = 0.03, (0.9, 0.99)


def mix(counter):
    """numbers.h has the same."""
    with np.errstate(over="ignore"):
        z = counter * U64(0x9E3779B97F4A7C15) + U64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> U64(30))) * U64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> U64(27))) * U64(0x94D049BB133111EB)
        return z ^ (z >> U64(31))


def bits_of(case, number, client, tensor):
    """Of a round's client; round 0 begins the parameters."""
    first = U64(case << 48 | number << 40 | client << 32 | tensor << 24)
    return mix(np.arange(SIZES[tensor], dtype=U64) | first)


def numbers(case, number, client, tensor):
    """Whole multiples of 2^-23 within 1 of zero: exact in float32."""
    bits = bits_of(case, number, client, tensor)
    return (((bits >> U64(40)).astype(np.int64) - (1 << 23)) * 2.0**-23).astype(F32)


def weight_of(case, number, client):
    """Of samples, say: 0.1 to 100, which float32 mostly has to round."""
    return float(1 + int(bits_of(case, number, client, 1)[0]) % 1000) * 0.1


def fma(a, b, c):
    """a * b + c, rounded once: the product is exact in float64, and the sum is rounded there to odd
    (Boldo & Melquiond 2005), so that rounding it to float32 is the only rounding."""
    product, c = F64(a) * F64(b), F64(c)
    total = product + c
    back = total - product
    error = (product - (total - back)) + (c - back)
    even = total.view(U64) & U64(1) == 0
    odd = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where((error != 0) & even, odd, total).astype(F32)


def reduce(sources, weights):
    """The mean, or with weights the weighted mean, in the order of the clients."""
    if len(sources) == 1:
        return sources[0]
    if weights is not None:
        sources = [F32(w) * g for w, g in zip(weights, sources)]
    total = sources[0]
    for source in sources[1:]:
        total = total + source
    divisor = float(len(sources)) if weights is None else 0.0
    for weight in weights or ():
        divisor += weight  # sum() compensates from Python 3.12 on
    return total / F32(divisor)


def adam_step(p, m, v, g, step, eps, bias_correction):
    bias1 = 1 - BETAS[0] ** step if bias_correction else 1.0
    bias2 = 1 - BETAS[1] ** step if bias_correction else 1.0
    m = fma(F32(1 - BETAS[0]), g - m, m)
    v = fma(F32(1 - BETAS[1]) * g, g, v * F32(BETAS[1]))
    d = np.sqrt(v) / F32(bias2**0.5) + F32(eps)
    return p + F32(-(LR / bias1)) * m / d, m, v


class Torch:
    """torch.optim.Adam on the same gradients."""

    def __init__(self, start, eps):
        self.param = torch.nn.Parameter(torch.from_numpy(start.copy()))
        self.adam = torch.optim.Adam([self.param], LR, BETAS, eps, foreach=False, fused=False)

    def check(self, gradient, expected, where):
        self.param.grad = torch.from_numpy(gradient.copy())
        with reference.ieee_root():
            self.adam.step()
        if self.param.detach().numpy().tobytes() != expected.tobytes():
            sys.exit(f"{where}: torch.optim.Adam gives other parameters")


def hex_of(array):
    return " ".join(f"{word:08x}" for word in array.view(np.uint32))


def run_case(case, bias_correction, weighted, clients, eps):
    p, stat = (numbers(case, 0, 0, tensor) for tensor in (0, 1))
    m, v = np.zeros_like(p), np.zeros_like(p)
    twin = Torch(p, eps) if torch is not None and bias_correction else None
    lines = [f"case {case} bias_correction {bias_correction:d} weighted {weighted:d} "
             f"clients {clients} eps {eps!r}"]
    for number in range(1, ROUNDS + 1):
        weights = [weight_of(case, number, k) for k in range(clients)] if weighted else None
        sent = [p + numbers(case, number, k, 0) for k in range(clients)]
        gradient = reduce([p - s for s in sent], weights)
        p, m, v = adam_step(p, m, v, gradient, number, eps, bias_correction)
        stat = reduce([numbers(case, number, k, 1) for k in range(clients)], weights)
        if twin is not None:
            twin.check(gradient, p, f"case {case}, round {number}")
        lines.append(f"round {number} {hex_of(p)} {hex_of(stat)}")
    lines.append(f"moments {hex_of(m)} {hex_of(v)}")
    return lines


def main():
    if torch is not None and reference.trouble():
        sys.exit(reference.trouble())
    lines = ["# Made by make_fedadam.py; do not edit."]
    cases = itertools.product((True, False), (True, False), (1, 3, 20), (1e-8, 1e-3))
    for case, setting in enumerate(cases):
        lines += run_case(case, *setting)
    text = "\n".join([*lines, "end", ""])
    if "--check" in sys.argv[1:]:
        with open(PATH, encoding="ascii") as file:
            if file.read() != text:
                sys.exit(f"{PATH} differs")
    else:
        with open(PATH, "w", encoding="ascii") as file:
            file.write(text)
    print("held against torch", torch.__version__ if torch is not None else "not at all: none here")


if __name__ == "__main__":
    main()
