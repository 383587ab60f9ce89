#!/usr/bin/env python3
"""Writes tests/golden/schedules.txt: what torch.optim.lr_scheduler gives, for test_schedules.c.

    python3 tests/golden/make_schedules.py            write the file
    python3 tests/golden/make_schedules.py --check    compare with it; writes nothing

The schedulers are torch's own, over torch.optim.Adam with one parameter. A case is the schedule in
adamd's JSON, whose arguments are torch's own, so that what is left out proves the defaults; the
group's lr and beta1; what is written to the group by hand, and before which step; and what came of
it: how many pairs (lr, beta1), after the start and each step, until torch raised; a hash over their
bits; and the lr after the start, after two steps and at the end. Values are Python's float.hex().

The cosines and powers are those of the C library that Python runs on, and so are adamd's.
"""

import argparse
import itertools
import json
import os
import struct
import sys
import warnings

import torch
from torch.optim import lr_scheduler

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "schedules.txt")
STEPS = 1000
SHOWN = (0, 2)
MASK = (1 << 64) - 1


def s(name, **arguments):
    return {"name": name, **arguments}


def sequential(milestones, *schedulers):
    return s("SequentialLR", schedulers=list(schedulers), milestones=milestones)


def single_cases():
    """Every kind: defaults, other arguments, and the edges."""
    for total in (0, 1, 2, 5, 64, 999, 2000):
        yield s("ConstantLR", total_iters=total)
        yield s("LinearLR", total_iters=total)
        yield s("PolynomialLR", total_iters=total)
    yield s("ConstantLR")
    yield s("LinearLR")
    yield s("PolynomialLR")
    for factor in (0.0, 0.3, 1.0):
        yield s("ConstantLR", factor=factor, total_iters=7)
    for start, end, total in ((0.1, 1.0, 100), (1.0, 0.0, 77), (1e-6, 0.5, 1000), (1.0, 1.0, 3),
                              (0.7, 0.3, 11), (1e-300, 1.0, 10)):
        yield s("LinearLR", start_factor=start, end_factor=end, total_iters=total)
    for size, gamma in ((1, 0.99), (30, 0.1), (7, 1.0), (3, 0.0), (2, 1.01), (5000, 0.5)):
        yield s("StepLR", step_size=size, gamma=gamma)
    yield s("StepLR", step_size=10)
    for milestones in ([], [0], [1], [30, 80], [80, 30], [5, 5, 5, 9], [0, 0, 3, 2, 2], [400, 1001],
                       list(range(3, 195, 3))):
        yield s("MultiStepLR", milestones=milestones)
        yield s("MultiStepLR", milestones=milestones, gamma=0.37)
    yield s("MultiStepLR", milestones=[4, 4], gamma=0.0)
    yield s("MultiStepLR", milestones=[4, 4, 9], gamma=3.5)
    for gamma in (0.999, 0.5, 1.0, 0.0, 1.001, 2.0):
        yield s("ExponentialLR", gamma=gamma)
    for total, power in ((10, 0.0), (100, 0.9), (333, 2.0), (1000, 3.7), (50, 0.5), (9, -1.0),
                         (1, 2.0), (40, 200.0), (0, 3.0)):
        yield s("PolynomialLR", total_iters=total, power=power)
    for T_max, eta_min in itertools.product((1, 2, 3, 10, 50, 333, 1000, 5000), (None, 1e-5, 0.2)):
        yield s("CosineAnnealingLR", T_max=T_max, **({} if eta_min is None else {"eta_min": eta_min}))
    for T_0, T_mult, eta_min in itertools.product((1, 2, 10, 37, 2000), (1, 2, 3), (0.0, 0.001)):
        yield s("CosineAnnealingWarmRestarts", T_0=T_0, T_mult=T_mult, eta_min=eta_min)
    yield s("CosineAnnealingWarmRestarts", T_0=13)
    yield s("CosineAnnealingWarmRestarts", T_0=3, T_mult=1024)


def one_cycle_cases():
    for total in (1, 2, 3, 10, 100, 999, 1000, 4000):
        yield s("OneCycleLR", max_lr=0.5, total_steps=total)
        yield s("OneCycleLR", max_lr=0.5, total_steps=total, anneal_strategy="linear")
        yield s("OneCycleLR", max_lr=0.5, total_steps=total, three_phase=True)
        yield s("OneCycleLR", max_lr=0.5, total_steps=total, three_phase=True,
                anneal_strategy="linear", pct_start=0.43)
    yield s("OneCycleLR", max_lr=0.01, epochs=10, steps_per_epoch=37)
    yield s("OneCycleLR", max_lr=0.01, epochs=3, steps_per_epoch=500, cycle_momentum=False)
    yield s("OneCycleLR", max_lr=0.01, total_steps=None, epochs=2, steps_per_epoch=50)
    yield s("OneCycleLR", max_lr=1.5, total_steps=300, base_momentum=0.2, max_momentum=0.99)
    yield s("OneCycleLR", max_lr=1.5, total_steps=300, base_momentum=0.9, max_momentum=0.1,
            three_phase=True, anneal_strategy="linear")
    yield s("OneCycleLR", max_lr=0.3, total_steps=200, div_factor=3.0, final_div_factor=7.0)
    yield s("OneCycleLR", max_lr=0.3, total_steps=200, div_factor=0.5, final_div_factor=0.1)
    yield s("OneCycleLR", max_lr=0.0, total_steps=20)
    for pct, three in itertools.product((0.0, 1e-3, 0.013, 0.5, 0.77, 0.99, 1.0), (False, True)):
        yield s("OneCycleLR", max_lr=0.3, total_steps=200, pct_start=pct, three_phase=three)
        yield s("OneCycleLR", max_lr=0.3, total_steps=10, pct_start=pct, three_phase=three,
                anneal_strategy="linear")
    # Over whose first phase torch divides by zero.
    yield s("OneCycleLR", max_lr=0.3, total_steps=10, pct_start=0.1)
    yield s("OneCycleLR", max_lr=0.3, total_steps=4, pct_start=0.25, three_phase=True)


def sequential_cases():
    """Every kind before and after every other one, and what is used most."""
    kinds = (
        s("ConstantLR", factor=0.1, total_iters=20),
        s("LinearLR", start_factor=0.01, total_iters=50),
        s("StepLR", step_size=7, gamma=0.9),
        s("MultiStepLR", milestones=[0, 3, 40, 40, 11], gamma=0.5),
        s("ExponentialLR", gamma=0.995),
        s("PolynomialLR", total_iters=80, power=1.7),
        s("CosineAnnealingLR", T_max=60, eta_min=1e-4),
        s("CosineAnnealingWarmRestarts", T_0=9, T_mult=2, eta_min=1e-3),
        s("OneCycleLR", max_lr=0.7, total_steps=1500),
    )
    for first, second in itertools.product(kinds, kinds):
        yield sequential([50], first, second)
    for milestones in ([5, 30], [5, 5], [0, 7], [0, 0], [30, 5], [1, 2], [999, 1000], [2000, 3000]):
        yield sequential(milestones, kinds[1], kinds[6], kinds[4])
        yield sequential(milestones, kinds[7], kinds[5], kinds[3])
        yield sequential(milestones, kinds[0], kinds[7], kinds[8])
    # Milestones in no order: some schedulers are passed over, some entered without their start.
    for milestones in ([40, 10, 5], [10, 40, 5], [5, 40, 10], [40, 5, 10]):
        for order in ((1, 6, 7, 3), (4, 0, 5, 6), (6, 3, 1, 0), (2, 8, 4, 5), (3, 5, 6, 1),
                      (5, 7, 8, 7)):
            yield sequential(milestones, *(kinds[k] for k in order))
    yield sequential([], kinds[6])
    yield sequential([], kinds[8])
    yield sequential([100], s("LinearLR", start_factor=0.001, total_iters=100),
                     s("CosineAnnealingLR", T_max=900))
    yield sequential([10, 500, 900], s("LinearLR", start_factor=0.1, total_iters=10),
                     s("ConstantLR", factor=1.0, total_iters=0),
                     s("CosineAnnealingLR", T_max=400, eta_min=1e-6),
                     s("ExponentialLR", gamma=0.97))
    yield sequential([20], s("LinearLR", total_iters=0), s("ConstantLR", total_iters=0))
    yield sequential([20], s("ConstantLR", factor=0.0, total_iters=20), kinds[6])
    yield sequential([21], s("ConstantLR", factor=0.0, total_iters=20), kinds[6])
    yield sequential([20], kinds[6], s("CosineAnnealingLR", T_max=1))
    # OneCycleLRs share the group's max_lr and momenta; one that ends before its milestone raises.
    yield sequential([300], s("OneCycleLR", max_lr=0.7, total_steps=300, base_momentum=0.8),
                     s("OneCycleLR", max_lr=0.2, total_steps=900, max_momentum=0.9, div_factor=3.0,
                       final_div_factor=11.0, anneal_strategy="linear", three_phase=True))
    yield sequential([300], s("OneCycleLR", max_lr=0.7, total_steps=400, base_momentum=0.8),
                     s("OneCycleLR", max_lr=0.2, total_steps=600, cycle_momentum=False))
    yield sequential([300], s("OneCycleLR", max_lr=0.7, total_steps=400, cycle_momentum=False),
                     s("OneCycleLR", max_lr=0.2, total_steps=600, base_momentum=0.6))
    yield sequential([300], s("OneCycleLR", max_lr=0.7, total_steps=100), kinds[4])
    yield sequential([101], s("OneCycleLR", max_lr=0.7, total_steps=100), kinds[6])
    yield sequential([k * 50 for k in range(1, 16)], *(kinds[k % len(kinds)] for k in range(16)))


def cases():
    """(schedule, lr, beta1, [(step, key, value)])"""
    one_by_one = itertools.chain(single_cases(), one_cycle_cases(), sequential_cases())
    lrs = itertools.cycle((0.1, 0.003, 1e-3, 1.0, 0.37))
    written = []
    for i, schedule in enumerate(one_by_one):
        lr = next(lrs)
        yield schedule, lr, 0.9, []
        if i % 4 == 0:
            written.append(schedule)
    for i, schedule in enumerate(written):
        by_hand = [(3 + i % 5, "lr", 0.02), (100 + i, "lr", 0.5), (101 + i, "beta1", 0.42),
                   (500, "lr", 0.0 if i % 3 == 0 else 1e-5), (700, "lr", 0.25)]
        yield schedule, next(lrs), 0.5, by_hand
    yield s("StepLR", step_size=2), 0.0, 0.0, []
    yield s("CosineAnnealingLR", T_max=10, eta_min=0.2), 0.1, 0.9, [(9, "lr", 0.01)]


def build(optimizer, schedule):
    arguments = {k: v for k, v in schedule.items() if k != "name"}
    kind = getattr(lr_scheduler, schedule["name"])
    if "schedulers" in arguments:
        arguments["schedulers"] = [build(optimizer, child) for child in arguments["schedulers"]]
    return kind(optimizer, **arguments)


def pair(optimizer):
    group = optimizer.param_groups[0]
    return float(group["lr"]), float(group["betas"][0])


def run(schedule, lr, beta1, by_hand):
    """The pairs of every step, and what torch raised, if it did."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([parameter], lr=lr, betas=(beta1, 0.999))
    try:
        scheduler = build(optimizer, schedule)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        return [], type(error).__name__
    pairs = [pair(optimizer)]
    for step in range(1, STEPS + 1):
        optimizer.step()
        group = optimizer.param_groups[0]
        for at, key, value in by_hand:
            if at == step and key == "lr":
                group["lr"] = value
            elif at == step:
                group["betas"] = (value, group["betas"][1])
        try:
            scheduler.step()
        except (ValueError, ZeroDivisionError, OverflowError) as error:
            return pairs, type(error).__name__
        pairs.append(pair(optimizer))
    return pairs, "-"


def fnv1a(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def make():
    warnings.simplefilter("ignore")  # that lr is written, and schedulers stepped, as torch's own do
    lines = ["# Made by make_schedules.py; do not edit. "
             f"torch {torch.__version__.split('+')[0]}."]
    for number, (schedule, lr, beta1, by_hand) in enumerate(cases()):
        pairs, raised = run(schedule, lr, beta1, by_hand)
        lines.append(f"case {number} lr {lr.hex()} beta1 {beta1.hex()} by hand"
                     + "".join(f" {at}:{key}:{value.hex()}" for at, key, value in by_hand) + " .")
        lines.append(json.dumps(schedule))
        assert all(x == x for p in pairs for x in p), "a NaN has no defined bits"
        shown = [i for i in SHOWN if i < len(pairs)] + [len(pairs) - 1] * (len(pairs) > 0)
        hashed = fnv1a(b"".join(struct.pack("<dd", *p) for p in pairs))
        lines.append(f"pairs {len(pairs)} raised {raised} hash {hashed:016x} lr"
                     + "".join(f" {i}:{pairs[i][0].hex()}" for i in shown) + " .")
    return "\n".join(lines) + "\nend\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    text = make()
    if args.check:
        with open(PATH, encoding="ascii") as file:
            same = file.read() == text
        print("same" if same else "schedules.txt differs from what this torch gives")
        return 0 if same else 1
    with open(PATH, "w", encoding="ascii") as file:
        file.write(text)
    print(f"wrote {len(text)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
