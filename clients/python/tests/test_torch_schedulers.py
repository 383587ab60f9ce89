"""adamd.torch where torch's schedulers hang on the optimizer. Needs torch and a server."""

import copy
import inspect
import unittest

from torch_support import TorchCase, torch
import numpy as np
import adamd
from adamd import _torch_dict


def schedulers() -> dict:
    """Makers of every scheduler of torch's that takes an optimizer, by name."""
    kinds, swa = torch.optim.lr_scheduler, torch.optim.swa_utils.SWALR
    arguments = {
        "LambdaLR": (lambda epoch: 0.5**epoch,),
        "MultiplicativeLR": (lambda epoch: 0.5,),
        "StepLR": (2,),
        "MultiStepLR": ([1, 3],),
        "ConstantLR": (),
        "LinearLR": (),
        "ExponentialLR": (0.5,),
        "PolynomialLR": (),
        "CosineAnnealingLR": (5,),
        "CosineAnnealingWarmRestarts": (3,),
        "CyclicLR": (0.01, 0.1, 3),
        "OneCycleLR": (0.1, 20),
        "ReduceLROnPlateau": (),
    }
    makers = {
        name: lambda optimizer, name=name, values=values: getattr(kinds, name)(optimizer, *values)
        for name, values in arguments.items()
    }
    makers["SWALR"] = lambda optimizer: swa(optimizer, 0.05)
    return makers


class Schedulers(TorchCase):
    def test_all(self) -> None:
        """None of torch's is forgotten in these tests but what is made of others."""
        kinds = torch.optim.lr_scheduler
        found = {
            name
            for name, kind in vars(kinds).items()
            if inspect.isclass(kind) and issubclass(kind, kinds.LRScheduler)
        }
        composed = {"LRScheduler", "_LRScheduler", "SequentialLR", "ChainedScheduler"}
        self.assertEqual(found - composed, set(schedulers()) - {"SWALR"})

    def test_notes(self) -> None:
        """adamd knows each key that they write into a group, and no other."""
        noted = set()
        for make in schedulers().values():
            optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], lr=0.1)
            before = set(optimizer.param_groups[0])
            make(optimizer)
            noted |= set(optimizer.param_groups[0]) - before
        self.assertEqual(noted, set(_torch_dict.KEPT_BY_TORCH))

    def test_go_on(self) -> None:
        """Through adamd and back, a scheduler goes on as if nothing had been: the same rates, and
        its notes where they were. With drop_extras too."""
        for name, make in schedulers().items():
            for drop in (False, True):
                with self.subTest(name, drop_extras=drop):
                    self.go_on(make, drop)

    def go_on(self, make, drop: bool) -> None:
        param = torch.nn.Parameter(torch.ones(2))
        param.grad = torch.ones(2)
        optimizer = torch.optim.Adam([param], lr=0.1)
        scheduler = make(optimizer)
        loss = (1,) if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau) else ()

        def group() -> dict:
            return {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}

        def run() -> list:
            seen = []
            for _ in range(4):
                optimizer.step()
                scheduler.step(*loss)
                seen.append((group(), param.tolist()))
            return seen

        run()
        at = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict(), param.data))
        alone = run()
        optimizer.load_state_dict(at[0])
        scheduler.load_state_dict(at[1])
        param.data.copy_(at[2])
        handle = self.handle()
        adamd.torch.from_torch(handle, optimizer, {"w": param}, drop_extras=drop)
        there = handle.param_groups()[0]
        self.assertEqual((there["lr"], tuple(there["betas"])), (group()["lr"], group()["betas"]))
        self.assertFalse(set(_torch_dict.KEPT_BY_TORCH) & set(there))
        adamd.torch.to_torch(handle, optimizer, {"w": param}, drop_extras=drop)
        self.assertEqual(run(), alone)

    def test_after_steps_there(self) -> None:
        """With a schedule of adamd's in between: its lr comes back, and it does not."""
        param = torch.nn.Parameter(torch.ones(2))
        optimizer, handle = torch.optim.Adam([param], lr=0.1), self.handle()
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 20)
        adamd.torch.from_torch(handle, optimizer, {"w": param})
        notes = dict(optimizer.param_groups[0])
        handle.patch(0, schedule={"name": "ExponentialLR", "gamma": 0.5})
        handle.step({"w": np.ones(2, np.float32)})
        adamd.torch.to_torch(handle, optimizer, {"w": param}, drop_extras=True)
        group = optimizer.param_groups[0]
        self.assertEqual(group["lr"], notes["lr"] / 2)
        for key in ("max_lr", "min_lr", "max_momentum", "base_momentum"):
            self.assertEqual(group[key], notes[key])
        param.grad = torch.ones(2)
        optimizer.step()
        scheduler.step()

    def test_checkpoint(self) -> None:
        """A state_dict that was saved with a scheduler on it."""
        model = torch.nn.Linear(2, 3)
        optimizer = torch.optim.Adam(model.named_parameters())
        torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 20)
        state = adamd.torch.to_adamd_dict(optimizer.state_dict(), model.state_dict())
        group = state.header["param_groups"][0]
        self.assertFalse(set(_torch_dict.KEPT_BY_TORCH) & set(group))
        self.assertEqual(group["lr"], optimizer.param_groups[0]["lr"])

    def test_keys_of_the_callers(self) -> None:
        """to_torch leaves in the groups what adamd knows nothing of."""
        param = torch.nn.Parameter(torch.ones(2))
        optimizer, handle = torch.optim.Adam([{"params": [param], "part": "head"}]), self.handle()
        handle.create({"w": param}, lr=0.5)
        adamd.torch.to_torch(handle, optimizer, {"w": param})
        group = optimizer.param_groups[0]
        self.assertEqual((group["part"], group["lr"]), ("head", 0.5))


if __name__ == "__main__":
    unittest.main()
