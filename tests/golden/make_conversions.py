#!/usr/bin/env python3
"""Writes tests/golden/conversions.txt: what torch.Tensor.to makes of numbers of four types, for
test_conversions.c, which makes the same numbers.

    python3 tests/golden/make_conversions.py [--check]

From float64 to 16 bits torch rounds twice, by way of float32, and adamd once. So these float64 numbers
are none that become a tie as float32 (tests/unit/test_convert.c has some).
"""

import os
import sys

import numpy as np
import torch

from make_golden import fnv1a, mix

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "conversions.txt")
N = 1 << 16
TYPES = ("float32", "float64", "bfloat16", "float16")


def numbers(name):
    """Every pattern of the 16-bit types; in the wide ones, all exponents that the others have and
    some beyond. There are no NaNs, whose bits nobody promises."""
    index = np.arange(N, dtype=np.uint64)
    if name in ("bfloat16", "float16"):
        tensor = torch.from_numpy(index.astype(np.int16)).view(getattr(torch, name))
    else:
        bits = mix(index | np.uint64(TYPES.index(name) << 40))
        mantissa, bias, word = (23, 127, np.uint32) if name == "float32" else (52, 1023, np.uint64)
        spread = (bits >> np.uint64(1)) % np.uint64(256 if name == "float32" else 320)
        field = spread if name == "float32" else spread + np.uint64(bias - 160)
        value = field << np.uint64(mantissa) | bits >> np.uint64(64 - mantissa)
        if name == "float64":  # float32's last bit is 1, and what is behind it less than a half
            value = (value | np.uint64(1 << 29)) & ~np.uint64(1 << 28)
        value |= (bits & np.uint64(1)) << np.uint64(8 * word().itemsize - 1)
        tensor = torch.from_numpy(value.astype(word).view(name))
    return torch.where(tensor.isnan(), torch.zeros_like(tensor), tensor)


def raw(tensor):
    return tensor.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]).numpy()


def make():
    lines = [f"# Made by make_conversions.py; do not edit. torch {torch.__version__.split('+')[0]}."]
    for source in TYPES:
        for target in TYPES:
            got = numbers(source).to(getattr(torch, target))
            lines.append(f"{source} {target} {fnv1a([raw(got)]):016x}")
    return "\n".join(lines) + "\nend\n"


def main():
    text = make()
    if "--check" in sys.argv[1:]:
        with open(PATH, encoding="ascii") as file:
            same = file.read() == text
        print("same" if same else "conversions.txt differs from what this torch gives")
        return 0 if same else 1
    with open(PATH, "w", encoding="ascii") as file:
        file.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
