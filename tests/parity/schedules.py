"""Learning-rate schedules of single groups, by torch's own schedulers.

torch's schedulers take an optimizer, and go over all its groups. So a group's scheduler gets an
optimizer of its own, whose one group is that of the real one: the same dict.
"""

import torch

import make_schedules
import values

KEYS = ("initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum")


class Schedule:
    def __init__(self, group, spec):
        """As a training loop would start it now, from the group's lr."""
        forget(group)
        self.spec = spec
        self.group = group
        self._optimizer = torch.optim.Adam([group])
        assert self._optimizer.param_groups[0] is group
        self._scheduler = make_schedules.build(self._optimizer, spec)

    def ends(self):
        """Whether torch's next step() raises. Of OneCycleLR alone."""
        s = self._scheduler
        return self.spec["name"] == "OneCycleLR" and s.last_epoch + 1 > s.total_steps

    def step(self):
        self._scheduler.step()


def forget(group):
    """What schedulers leave in a group."""
    for key in KEYS:
        group.pop(key, None)


def single(rng):
    """One scheduler whose whole course fits into some dozens of steps, or goes beyond them."""
    n = int(rng.integers(1, 60))
    f = float(rng.random())
    kind = int(rng.integers(9))
    return (
        {"name": "ConstantLR", "factor": f, "total_iters": n},
        {"name": "LinearLR", "start_factor": 0.05 + 0.9 * f, "end_factor": float(rng.random()), "total_iters": n},
        {"name": "StepLR", "step_size": n, **({"gamma": f} if f < 0.7 else {})},
        {"name": "MultiStepLR", "milestones": sorted(int(i) for i in rng.integers(0, 60, 4)), "gamma": f},
        {"name": "ExponentialLR", "gamma": 0.8 + 0.25 * f},
        {"name": "PolynomialLR", "total_iters": n, "power": 4 * f},
        {"name": "CosineAnnealingLR", "T_max": n, **({"eta_min": f / 100} if f < 0.7 else {})},
        {"name": "CosineAnnealingWarmRestarts", "T_0": n, "T_mult": int(rng.integers(1, 4)), "eta_min": f / 100},
        {"name": "OneCycleLR", "max_lr": f, "total_steps": 4 + n, "cycle_momentum": values.chance(rng, 0.6),
         "anneal_strategy": values.pick(rng, ("cos", "linear")), "three_phase": values.chance(rng, 0.3)},
    )[kind]


def spec(rng):
    if values.chance(rng, 0.8):
        return single(rng)
    parts = [s for s in (single(rng) for _ in range(int(rng.integers(1, 4)))) if s["name"] != "OneCycleLR"]
    parts = parts or [{"name": "ConstantLR"}]
    milestones = sorted(int(i) for i in rng.integers(1, 40, len(parts) - 1))
    return {"name": "SequentialLR", "schedulers": parts, "milestones": milestones}
