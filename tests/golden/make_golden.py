#!/usr/bin/env python3
"""Writes tests/golden/adam.txt: what torch.optim.Adam and AdamW give, for test_golden.c.

    python3 tests/golden/make_golden.py            write the file
    python3 tests/golden/make_golden.py --check    compare with it; writes nothing
    python3 tests/golden/make_golden.py --sqrt     count how often torch's own sqrt differs

The optimizers are torch's own, with foreach=False and fused=False. One operation is replaced:
torch.Tensor.sqrt. The x86 builds of torch hand it to MKL's vector math library, which is not
correctly rounded on every processor; adamd's contract is the IEEE square root, which is what
numpy (and torch on other builds) computes. docs/numerics.md has the figures; --sqrt measures them.

Parameters and gradients come from a counter-based generator that test_golden.c repeats, so the file
holds results alone: hashes of every stream, and the bits of each parameter's first elements.
"""

import argparse
import itertools
import os
import sys

import numpy as np
import torch

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "adam.txt")
SIZES = (1, 7, 16, 33)
STEPS = 10
# Parameters 0 and 1 are in the first group, 2 and 3 in the second. (lr, eps) of each.
GROUPS = ((0.003, 1e-8), (0.05, 1e-6))
MASK = (1 << 64) - 1
TYPES = {
    # type: numpy's, bits, mantissa bits, exponent bias
    "float32": (np.float32, np.uint32, 23, 127),
    "float64": (np.float64, np.uint64, 52, 1023),
}


def mix(counter):
    """splitmix64's finaliser (Steele, Lea, Flood 2014)."""
    z = (counter * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def exponent_field(bits, step, bias):
    """The exponent of one number. Step 0 makes parameters, later steps gradients."""
    kind = bits & 63
    spread = (bits >> 7) & 31
    if step == 0:
        return bias + spread % 8 - 6
    if kind == 1:
        return 0  # denormal
    if kind == 2:
        return 1 + spread  # its square is 0
    if kind == 3:
        return bias + bias // 2 + spread  # its square is infinite
    if kind == 4:
        return bias + 20 + spread
    return bias + spread - 20


def zero_sign(step, n, maximize, betas):
    """The sign of every zero among some numbers, or None where zeros have signs of their own.

    With beta1 = 0, exp_avg of a gradient of -0 is a zero whose sign torch makes one way in its
    vector path and the other way in the scalar tail behind it (16 elements have no tail). Such a
    gradient has no one answer to compare with, so Adam sees +0 there.
    """
    return int(maximize) if step > 0 and n % 16 != 0 and betas[0] == 0.0 else None


def numbers(dtype, case, step, param, n, zero):
    real, word, mantissa_bits, bias = TYPES[dtype]
    out = np.empty(n, dtype=word)
    for i in range(n):
        bits = mix(case << 48 | step << 40 | param << 32 | i)
        sign = (bits >> 6) & 1
        sign_shift = 31 if dtype == "float32" else 63
        if bits & 63 == 0:
            value = (sign if zero is None else zero) << sign_shift
        else:
            mantissa = bits >> (64 - mantissa_bits)
            value = sign << sign_shift | exponent_field(bits, step, bias) << mantissa_bits | mantissa
        out[i] = value
    return out.view(real)


def has_gradient(step, param):
    """Each parameter is left out of two steps of ten; one of them misses the first."""
    return (7 * step + 3 * param) % 5 != 0


def fnv1a(arrays):
    h = 0xCBF29CE484222325
    for a in arrays:
        for byte in a.tobytes():
            h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def ieee_sqrt(self):
    assert not self.requires_grad
    return torch.from_numpy(np.sqrt(self.numpy()))


def run_case(case, algorithm, dtype, amsgrad, maximize, weight_decay, betas):
    params = [torch.nn.Parameter(torch.from_numpy(numbers(dtype, case, 0, j, n, None).copy()))
              for j, n in enumerate(SIZES)]
    groups = [{"params": params[2 * k:2 * k + 2], "lr": lr, "eps": eps}
              for k, (lr, eps) in enumerate(GROUPS)]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[algorithm]
    optimizer = kind(groups, betas=betas, weight_decay=weight_decay, amsgrad=amsgrad,
                     maximize=maximize, foreach=False, fused=False)
    lines = [f"case {case} {algorithm} {dtype} amsgrad {amsgrad:d} maximize {maximize:d} "
             f"weight_decay {weight_decay!r} betas {betas[0]!r} {betas[1]!r}"]
    after = []
    for step in range(1, STEPS + 1):
        for j, n in enumerate(SIZES):
            grad = numbers(dtype, case, step, j, n, zero_sign(step, n, maximize, betas))
            params[j].grad = torch.from_numpy(grad.copy()) if has_gradient(step, j) else None
        optimizer.step()
        after.append(fnv1a(p.detach().numpy() for p in params))
    lines.append("after " + " ".join(f"{h:016x}" for h in after))
    for j, p in enumerate(params):
        state = optimizer.state[p]
        keys = ["exp_avg", "exp_avg_sq"] + (["max_exp_avg_sq"] if amsgrad else [])
        streams = [p.detach().numpy()] + [state[k].numpy() for k in keys]
        assert not any(np.isnan(s).any() for s in streams), "a NaN has no defined bits"
        word = TYPES[dtype][1]
        first = [f"{int(s.view(word)[0]):x}" for s in streams] + ["-"] * (4 - len(streams))
        hashes = [f"{fnv1a([s]):016x}" for s in streams] + ["-"] * (4 - len(streams))
        lines.append(f"param {j} step {int(state['step'])} " + " ".join(hashes) + " first "
                     + " ".join(first))
    return lines


def make():
    assert torch.tensor([1e-40]).mul(1.0).item() != 0.0, "denormals must not be flushed"
    capability = torch.backends.cpu.get_cpu_capability()
    assert capability != "DEFAULT", "this torch runs without fma and rounds more often"
    plain = torch.Tensor.sqrt
    torch.Tensor.sqrt = ieee_sqrt
    try:
        lines = ["# Made by make_golden.py; do not edit. "
                 f"torch {torch.__version__.split('+')[0]}, sqrt correctly rounded."]
        grid = itertools.product(("adam", "adamw"), ("float32", "float64"), (False, True),
                                 (False, True), (0.0, 0.01), ((0.9, 0.999), (0.5, 0.9), (0.0, 0.999)))
        for case, settings in enumerate(grid):
            lines += run_case(case, *settings)
    finally:
        torch.Tensor.sqrt = plain
    return "\n".join(lines) + "\nend\n"


def measure_sqrt():
    """How often torch.sqrt is not the correctly rounded root, by type and size."""
    generator = np.random.default_rng(2326)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    for dtype in TYPES:
        real, word = TYPES[dtype][:2]
        for n in (1, 7, 8, 16, 33, 1000, 1000000):
            total = wrong = most = 0
            while total < 1000000:
                x = (generator.random(n) * 2.0 ** generator.integers(-60, 60, n)).astype(real)
                got = torch.from_numpy(x).sqrt().numpy().view(word).astype(np.int64)
                want = np.sqrt(x).view(word).astype(np.int64)
                wrong += int((got != want).sum())
                most = max(most, int(np.abs(got - want).max()))
                total += n
                if n < 100 and total >= 20000:
                    break
            print(f"{dtype} size {n:7}: {100 * wrong / total:6.3f} % differ, by up to {most} ulp")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--sqrt", action="store_true")
    args = parser.parse_args()
    if args.sqrt:
        measure_sqrt()
        return 0
    text = make()
    if args.check:
        with open(PATH, encoding="ascii") as file:
            same = file.read() == text
        print("same" if same else "adam.txt differs from what this torch gives")
        return 0 if same else 1
    with open(PATH, "w", encoding="ascii") as file:
        file.write(text)
    print(f"wrote {len(text)} bytes")
    measure_sqrt()
    return 0


if __name__ == "__main__":
    sys.exit(main())
