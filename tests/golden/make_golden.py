#!/usr/bin/env python3
"""Writes tests/golden/adam.txt: what torch.optim.Adam and AdamW give, for test_golden.c.

    python3 tests/golden/make_golden.py            write the file
    python3 tests/golden/make_golden.py --check    compare with it; writes nothing
    python3 tests/golden/make_golden.py --sqrt     count how often torch's own sqrt differs
    python3 tests/golden/make_golden.py --tails    show where torch's vectors and their tails differ

The optimizers are torch's own, with foreach=False and fused=False, and with the IEEE square root
(reference.py says why; --sqrt measures it).

Parameters and gradients come from a counter-based generator that test_golden.c repeats, so the file
holds results alone: hashes of every stream, and the bits of each parameter's first element.
"""

import argparse
import itertools
import os
import sys

import numpy as np
import torch

import reference

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "adam.txt")
# Below, at and above the vectors' lengths (4 to 16) and twice these, and one that goes far beyond.
SIZES = (1, 3, 7, 8, 15, 16, 17, 31, 33, 1003)
STEPS = 20
# The first five parameters are in the first group, the others in the second. lr of each.
GROUPS = (0.003, 0.05)
IN_GROUP = 5
MASK = (1 << 64) - 1
TYPES = {
    # type: numpy's, bits, mantissa bits, exponent bias
    "float32": (np.float32, np.uint32, 23, 127),
    "float64": (np.float64, np.uint64, 52, 1023),
}


def mix(counter):
    """splitmix64's finaliser (Steele, Lea, Flood 2014), of an array of counters."""
    z = counter * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def exponent_field(bits, step, bias):
    """The exponents of some numbers. Step 0 makes parameters, later steps gradients."""
    kind = bits & np.uint64(63)
    spread = (bits >> np.uint64(7) & np.uint64(31)).astype(np.int64)
    if step == 0:
        return bias + spread % 8 - 6
    rare = bits >> np.uint64(12) & np.uint64(7) == 0
    kinds = [
        (kind == 1, 0),  # denormal
        (kind == 2, 1 + spread),  # its square is 0
        ((kind == 3) & rare, bias + bias // 2 + spread),  # its square is infinite
        (kind == 4, bias + 20 + spread),
    ]
    return np.select([which for which, _ in kinds], [field for _, field in kinds], bias + spread - 20)


def numbers(dtype, case, step, param, n, zero):
    """A parameter (step 0) or a gradient. `zero` is the sign of zeros in the tail, or None: any."""
    real, word, mantissa_bits, bias = TYPES[dtype]
    index = np.arange(n, dtype=np.uint64)
    bits = mix(np.uint64(case << 48 | step << 40 | param << 32) | index)
    is_zero = bits & np.uint64(63) == 0
    sign = bits >> np.uint64(6) & np.uint64(1)
    if zero is not None:
        sign[is_zero & (index >= reference.tail_start(n))] = zero
    value = exponent_field(bits, step, bias).astype(np.uint64) << np.uint64(mantissa_bits)
    value |= bits >> np.uint64(64 - mantissa_bits)
    value[is_zero] = 0
    value |= sign << np.uint64(31 if dtype == "float32" else 63)
    return value.astype(word).view(real)


def has_gradient(step, param):
    """Each parameter is left out of one step of five; two of them miss the first."""
    return (7 * step + 3 * param) % 5 != 0


def fnv1a(arrays):
    h = 0xCBF29CE484222325
    for a in arrays:
        for byte in a.tobytes():
            h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def run_case(case, algorithm, dtype, amsgrad, maximize, weight_decay, betas, eps):
    params = [torch.nn.Parameter(torch.from_numpy(numbers(dtype, case, 0, j, n, None)))
              for j, n in enumerate(SIZES)]
    groups = [{"params": params[IN_GROUP * k:IN_GROUP * (k + 1)], "lr": lr}
              for k, lr in enumerate(GROUPS)]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[algorithm]
    optimizer = kind(groups, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
                     maximize=maximize, foreach=False, fused=False)
    lines = [f"case {case} {algorithm} {dtype} amsgrad {amsgrad:d} maximize {maximize:d} "
             f"weight_decay {weight_decay!r} betas {betas[0]!r} {betas[1]!r} eps {eps!r}"]
    zero = reference.zero_sign(betas, maximize)
    after = []
    for step in range(1, STEPS + 1):
        for j, n in enumerate(SIZES):
            grad = numbers(dtype, case, step, j, n, zero)
            params[j].grad = torch.from_numpy(grad) if has_gradient(step, j) else None
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
    assert reference.trouble() is None, reference.trouble()
    lines = ["# Made by make_golden.py; do not edit. "
             f"torch {torch.__version__.split('+')[0]}, sqrt correctly rounded."]
    grid = itertools.product(("adam", "adamw"), ("float32", "float64"), (False, True),
                             (False, True), (0.0, 0.01), ((0.9, 0.999), (0.5, 0.9), (0.0, 0.999)),
                             (1e-8, 1e-3))
    with reference.ieee_root():
        for case, settings in enumerate(grid):
            lines += run_case(case, *settings)
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


def runs(flags):
    """Where some booleans are true, as "0-15, 32"."""
    where = np.flatnonzero(flags)
    pieces = np.split(where, np.flatnonzero(np.diff(where) != 1) + 1) if len(where) else []
    return ", ".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in pieces) or "none"


def show_tails():
    """The places of a tensor where torch gives -0, for inputs that are the same at every place. An
    answer that does not depend on the place would be "none" or all of them."""
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    questions = (
        ("exp_avg +0, gradient -0, beta1 0: exp_avg.lerp_(grad, 1)", 0.0, -0.0,
         lambda old, new: old.lerp_(new, 1.0)),
        ("the same with exp_avg -0", -0.0, -0.0, lambda old, new: old.lerp_(new, 1.0)),
        ("amsgrad, vmax -0 and v +0: torch.maximum(vmax, v)", -0.0, 0.0, torch.maximum),
        ("the same with vmax +0 and v -0", 0.0, -0.0, torch.maximum),
    )
    differ = 0
    for title, old, new, operation in questions:
        for dtype in (torch.float32, torch.float64):
            vectors = operation(torch.full((reference.TAIL,), old, dtype=dtype),
                                torch.full((reference.TAIL,), new, dtype=dtype))
            everywhere = "everywhere" if np.signbit(vectors.numpy()).all() else "nowhere"
            print(f"{title}, {dtype}; adamd: -0 {everywhere}".replace("torch.float", "float"))
            for n in SIZES:
                answer = operation(torch.full((n,), old, dtype=dtype), torch.full((n,), new, dtype=dtype))
                negative = np.signbit(answer.numpy())
                differ += negative.min() != negative.max()
                print(f"  size {n:4}: -0 at {runs(negative)}")
    print(f"{differ} tensors hold zeros of both signs")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--sqrt", action="store_true")
    parser.add_argument("--tails", action="store_true")
    args = parser.parse_args()
    if args.tails:
        show_tails()
        return 0
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
