#!/usr/bin/env python3
"""Writes tests/golden/clip.txt: steps after torch's own GradScaler.unscale_, clip_grad_norm_ and
clip_grad_value_, for test_clip.c, which makes the same parameters and gradients.

    python3 tests/golden/make_clip.py [--check]

torch adds squares in the gradients' type, adamd in double. Where a case clips by the 2-norm, its
gradients have whole norms ("exact"), so that both are exact and every bit after it can be compared.
"""

import itertools
import os
import sys

import numpy as np
import torch

import reference
from make_golden import fnv1a, mix

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clip.txt")
SIZES = (3, 17, 40, 1)
KINDS = {"float32": (0, 0, 0, 0), "float64": (1, 1, 1, 1), "mixed": (0, 1, 0, 1)}
REAL = (np.float32, np.float64)
STEPS = 6
# Norms of the four gradients: 3, 4, 12 and 84, together 85.
SHAPES = ([2.0, 1.0, 2.0], [1.0] * 16 + [0.0], [2.0] * 36 + [0.0] * 4, [84.0])
FACTORS = (1.0, 0.125, 32.0, 5.0)
BAD = {"none": {}, "nan": {3: np.nan}, "inf": {3: np.inf, 5: -np.inf}}


def random_numbers(case, step, param, n):
    """Whole multiples of 2^-20 within 8 of zero: exact in both types."""
    bits = mix(np.arange(n, dtype=np.uint64) | np.uint64(case << 48 | step << 40 | param << 32))
    return ((bits >> np.uint64(40)).astype(np.int64) - (1 << 23)) * 2.0**-20, bits


def gradient(case, step, param, exact, scale, bad):
    values, bits = random_numbers(case, step, param, SIZES[param])
    if exact:
        values = np.array(SHAPES[param]) * FACTORS[step % 4] * scale
        values[bits & np.uint64(1) == 1] *= -1.0
    if step in BAD[bad] and param == case % 4:
        values[0] = BAD[bad][step]
    return values


def hash_of(tensors):
    """A NaN has no defined bits but that it is one, so all are made alike."""
    words = []
    for tensor in tensors:
        array = tensor.detach().numpy()
        word = array.view(np.uint32 if array.dtype == np.float32 else np.uint64).copy()
        word[np.isnan(array)] = 0x7FC00000
        words.append(word)
    return fnv1a(words)


def take_step(optimizer, params, scale, max_norm, norm_type, error, clip_value, nonfinite):
    """One step, as a training loop writes it. "s": stepped, "k": skipped, "r": refused."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    scaler.scale(torch.ones(()))
    scaler.unscale_(optimizer)
    before = [p.detach().clone() for p in params]
    if max_norm is not None:
        try:
            torch.nn.utils.clip_grad_norm_(params, max_norm, norm_type, error_if_nonfinite=error)
        except RuntimeError:
            return "r"
    if clip_value is not None:
        torch.nn.utils.clip_grad_value_(params, clip_value)
    if nonfinite == "apply":
        optimizer.step()
        return "s"
    taken = []
    hook = optimizer.register_step_post_hook(lambda *_: taken.append(True))
    scaler.step(optimizer)
    hook.remove()
    assert taken or all(torch.equal(a, b) for a, b in zip(before, params))
    return "s" if taken else "k"


def run_case(case, kind, scale, max_norm, norm_type, error, clip_value, nonfinite, bad):
    exact = max_norm is not None and norm_type == 2.0
    params = [torch.nn.Parameter(torch.from_numpy(
        random_numbers(case, 0, j, n)[0].astype(REAL[KINDS[kind][j]]))) for j, n in enumerate(SIZES)]
    optimizer = torch.optim.AdamW([{"params": params[:2]}, {"params": params[2:], "lr": 0.05}],
                                  foreach=False, fused=False)
    outcome = ""
    for step in range(1, STEPS + 1):
        for j, p in enumerate(params):
            values = gradient(case, step, j, exact, scale, bad)
            p.grad = torch.from_numpy(values.astype(REAL[KINDS[kind][j]]))
        outcome += take_step(optimizer, params, scale, max_norm, norm_type, error, clip_value, nonfinite)
    moments = [optimizer.state[p][k] for p in params for k in ("exp_avg", "exp_avg_sq")
               if p in optimizer.state]
    return (f"case {case} {kind} grad_scale {scale!r} max_grad_norm {-1.0 if max_norm is None else max_norm!r} "
            f"norm_type {norm_type!r} error_if_nonfinite {error:d} "
            f"clip_value {-1.0 if clip_value is None else clip_value!r} nonfinite {nonfinite} bad {bad} "
            f"outcome {outcome} params {hash_of(params):016x} moments {hash_of(moments):016x}")


def cases():
    """Settings, without those in which torch cannot be compared with."""
    grid = itertools.product(KINDS, (1.0, 1024.0, 3.0), (None, 0.0, 0.5, 10.0, 1000.0), (2.0, np.inf),
                             (False, True), (None, 0.25), ("skip", "apply"), BAD)
    for kind, scale, max_norm, norm_type, error, clip_value, nonfinite, bad in grid:
        if max_norm is None and (norm_type != 2.0 or error):
            continue  # nothing is measured
        if error and bad == "none":
            continue
        if max_norm is not None and norm_type == 2.0 and scale == 3.0:
            continue  # the norm would not be whole
        if nonfinite == "skip" and error and bad != "none":
            continue  # torch measures gradients that it then skips, and raises; adamd skips
        yield kind, scale, max_norm, norm_type, error, clip_value, nonfinite, bad


def make():
    assert reference.trouble() is None, reference.trouble()
    lines = ["# Made by make_clip.py; do not edit. "
             f"torch {torch.__version__.split('+')[0]}, sqrt correctly rounded."]
    with reference.ieee_root():
        lines += [run_case(number, *settings) for number, settings in enumerate(cases())]
    return "\n".join(lines) + "\nend\n"


def main():
    text = make()
    if "--check" in sys.argv[1:]:
        with open(PATH, encoding="ascii") as file:
            same = file.read() == text
        print("same" if same else "clip.txt differs from what this torch gives")
        return 0 if same else 1
    with open(PATH, "w", encoding="ascii") as file:
        file.write(text)
    print(f"wrote {len(text)} bytes, {text.count('case ')} cases")
    return 0


if __name__ == "__main__":
    sys.exit(main())
