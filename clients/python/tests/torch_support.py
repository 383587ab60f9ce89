"""What the tests of adamd.torch share: a small model with its torch optimizer, and a server."""

import unittest

import numpy as np

from support import BINARY, ServerCase
import adamd

try:
    import torch
except ImportError:
    torch = None
else:
    import adamd.torch

SHAPES = {
    "deep.weight": (4, 3),
    "deep.bias": (5,),
    "scalar": (),
    "empty": (0, 2),
    "late": (2, 2, 3),
}
GROUPS = (("deep.weight", "scalar", "late"), ("empty", "deep.bias"))
STEPS = 10


def ieee_sqrt(self: "torch.Tensor") -> "torch.Tensor":
    return torch.from_numpy(np.asarray(np.sqrt(self.numpy())))


def gradients(step: int, dtype: str, seed: int) -> dict:
    """Those of one step: "scalar" misses some, and "late" has none in the first 15."""
    rng = np.random.default_rng((seed, step))
    grads = {n: np.asarray(rng.standard_normal(s), dtype) for n, s in SHAPES.items()}
    if step % 3 == 0:
        del grads["scalar"]
    if step <= 15:
        del grads["late"]
    return grads


class Torch:
    """Named parameters and their torch optimizer."""

    def __init__(self, kind: str, dtype: str, seed: int = 1, **options):
        rng = np.random.default_rng(seed)
        self.dtype, self.options = dtype, options
        self.params = {
            name: torch.nn.Parameter(
                torch.from_numpy(np.asarray(rng.standard_normal(shape), dtype))
            )
            for name, shape in SHAPES.items()
        }
        groups = [{"params": [self.params[n] for n in names]} for names in GROUPS]
        groups[1].update(lr=0.05, eps=1e-6, weight_decay=0.125, betas=(0.5, 0.75))
        self.optimizer = getattr(torch.optim, kind)(
            groups, **{"lr": 0.01, "foreach": False, **options}
        )

    def run(self, first: int, last: int) -> None:
        for step in range(first, last + 1):
            grads = gradients(step, self.dtype, 7)
            for name, param in self.params.items():
                param.grad = torch.from_numpy(grads[name]) if name in grads else None
            self.optimizer.step()

    def spoil(self) -> None:
        """Other values, as after a wrong turn: what comes in must replace all of it."""
        self.run(100, 103)

    def everything(self) -> dict:
        """All that torch has, by bits."""
        state = self.optimizer.state_dict()
        return {
            "params": {n: p.detach().numpy().tobytes() for n, p in self.params.items()},
            "state": {
                key: {k: (str(v.dtype), tuple(v.shape), v.numpy().tobytes()) for k, v in e.items()}
                for key, e in state["state"].items()
            },
            "param_groups": state["param_groups"],
        }


def run_server(handle: adamd.Optimizer, dtype: str, first: int, last: int) -> None:
    for step in range(first, last + 1):
        handle.step(gradients(step, dtype, 7))


@unittest.skipUnless(torch, "torch is not installed: pip install 'adamd[torch]'")
@unittest.skipUnless(BINARY, "ADAMD_BINARY does not name the server")
class TorchCase(ServerCase):
    def setUp(self) -> None:
        self.client = adamd.Client(self.server.url, timeout=60)
        self.addCleanup(self.client.close)
        self.count = 0
        # The IEEE root: torch's own is MKL's, which is not correctly rounded (docs/numerics.md).
        own = torch.Tensor.sqrt
        torch.Tensor.sqrt = ieee_sqrt
        self.addCleanup(setattr, torch.Tensor, "sqrt", own)

    def handle(self) -> adamd.Optimizer:
        self.count += 1
        return self.client.optimizer(f"{self.id().rsplit('.', 1)[1]}-{self.count}")
