"""What is done to gradients before a step: torch's own functions, called as a training loop calls them,
for the options that adamd knows by grad_scale, nonfinite, max_grad_norm, norm_type,
error_if_nonfinite and clip_value.

One thing is replaced: the total L2 norm. torch adds up squares in the gradients' type, in an order
that depends on the instruction set; adamd in double. For float32 gradients the norm given to torch is
the true one, rounded once. Where one is float64, it is the one that adamd reports, after it was
held against the true one: no order of additions is the right one there. All that follows from the
norm is torch's.
"""

import numpy as np
import torch
from torch.nn import utils

import values

DEFAULTS = {"grad_scale": 1, "nonfinite": "error", "max_grad_norm": None, "norm_type": 2,
            "error_if_nonfinite": False, "clip_value": None}


def random_options(rng):
    """Some of the options, as a request has them."""
    every = {
        "grad_scale": values.pick(rng, (1, 65536.0, 2.0 ** 40, 3.0, float(10 ** rng.uniform(-3, 6)))),
        "nonfinite": values.pick(rng, ("error", "skip", "apply")),
        "max_grad_norm": values.pick(rng, (None, 1.0, 0.5, float(10 ** rng.uniform(-4, 8)), 1e30, 0)),
        "norm_type": values.pick(rng, (2, 2, "inf")),
        "error_if_nonfinite": values.chance(rng, 0.3),
        "clip_value": values.pick(rng, (None, 1.0, float(10 ** rng.uniform(-6, 4)), 1e-40)),
    }
    return {key: value for key, value in every.items() if values.chance(rng, 0.5)}


def true_norm(grads):
    """The L2 norm, in extended precision. What overflows in double overflows."""
    total = sum((np.square(g.numpy().astype(np.longdouble)).sum() for g in grads), np.longdouble(0))
    return np.sqrt(total) if not total > np.finfo(np.float64).max else np.longdouble(np.inf)


def in_its_type(grads, norm):
    dtype = torch.float64 if any(g.dtype == torch.float64 for g in grads) else torch.float32
    return torch.tensor(float(norm), dtype=torch.float64).to(dtype)


class Whole:
    """What torch is given to clip in place of a parameter. A gradient of rank 0 is shown as one of rank
    1: torch would multiply a float32 one of rank 0 with a float64 coefficient in double, and those of
    any other rank in float32."""

    def __init__(self, grad):
        self.grad = grad.reshape(1) if grad.dim() == 0 else grad


class Preparation:
    """One round of it, over the .grad of a torch optimizer's parameters.

    verdict: "step", "skip" (the step is left out) or "refuse" (torch raises, or the loop is to
    stop at a gradient that is not finite). clip_coef: what the norm's clipping multiplied with.
    """

    def __init__(self, optimizer, options, reported=None):
        self._optimizer = optimizer
        self._options = {**DEFAULTS, **options}
        self._reported = reported  # adamd's norm of these gradients, if it is known yet
        self._scaler = None
        self.clip_coef = 1.0
        self.torch_norm_differs = None
        self.norm = None
        self.params = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        self.verdict = self._prepare()

    @property
    def grads(self):
        return [p.grad for p in self.params]

    def _prepare(self):
        o = self._options
        if o["grad_scale"] != 1 or o["nonfinite"] == "skip":
            self._scaler = torch.amp.GradScaler("cpu", init_scale=o["grad_scale"])
            self._scaler.scale(torch.zeros(()))  # which makes its tensors
            self._scaler.unscale_(self._optimizer)
        self.norm = true_norm(self.grads)
        finite = all(bool(torch.isfinite(g).all()) for g in self.grads)
        if not finite and o["nonfinite"] != "apply":
            return "refuse" if o["nonfinite"] == "error" else "skip"
        if o["max_grad_norm"] is not None and not self._clip_norm():
            return "refuse"
        if o["clip_value"] is not None:
            utils.clip_grad_value_(self.params, o["clip_value"])
        return "step"

    def _clip_norm(self):
        """False where torch raises."""
        most = float(self._options["max_grad_norm"])
        if self._options["norm_type"] == "inf":
            full = [g for g in self.grads if g.numel()]  # of an empty tensor torch has no such norm
            norm = utils.get_total_norm(full, float("inf"))
            norm = in_its_type(self.grads, norm)
        else:
            known = self._reported is not None and any(g.dtype == torch.float64 for g in self.grads)
            norm = in_its_type(self.grads, self._reported if known else self.norm)
            self.torch_norm_differs = not torch.equal(utils.get_total_norm(self.grads), norm)
        if self._options["error_if_nonfinite"] and not torch.isfinite(norm):
            return False  # RuntimeError in clip_grad_norm_
        utils.clip_grads_with_norm_([Whole(p.grad) for p in self.params], most, norm)
        self.clip_coef = torch.clamp(most / (norm + 1e-6), max=1.0).item()
        return True

    def step(self):
        """The optimizer's step, left out where the scaler leaves it out."""
        if self._options["nonfinite"] == "skip":
            self._scaler.step(self._optimizer)
        else:
            self._optimizer.step()
