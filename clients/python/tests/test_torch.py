"""adamd.torch against the torch that is installed, and a real server whose binary ADAMD_BINARY
names. Where torch is not installed, test_torch_dict.py tests the conversion on what torch gave
once."""

import copy
import itertools
import tempfile
import unittest
from pathlib import Path

import numpy as np

from torch_support import GROUPS, STEPS, Torch, TorchCase, run_server, torch
import adamd


class ThereAndBack(TorchCase):
    """A training that changes between torch and adamd has the bits of one that does not."""

    CASES = list(
        itertools.product(("Adam", "AdamW"), ("float32", "float64"), (False, True), (False, True))
    )

    def each(self, check) -> None:
        for kind, dtype, amsgrad, maximize in self.CASES:
            with self.subTest(kind=kind, dtype=dtype, amsgrad=amsgrad, maximize=maximize):
                check(kind, dtype, {"amsgrad": amsgrad, "maximize": maximize})

    def torch_adamd_torch(self, kind: str, dtype: str, options: dict) -> None:
        alone, mixed = Torch(kind, dtype, **options), Torch(kind, dtype, **options)
        handle = self.handle()
        alone.run(1, 3 * STEPS)
        mixed.run(1, STEPS)
        adamd.torch.from_torch(handle, mixed.optimizer, mixed.params)
        run_server(handle, dtype, STEPS + 1, 2 * STEPS)
        mixed.spoil()
        adamd.torch.to_torch(handle, mixed.optimizer, mixed.params)
        mixed.run(2 * STEPS + 1, 3 * STEPS)
        self.assertEqual(mixed.everything(), alone.everything())

    def adamd_torch_adamd(self, kind: str, dtype: str, options: dict) -> None:
        start, between = Torch(kind, dtype, **options), Torch(kind, dtype, 2, **options)
        alone, mixed = self.handle(), self.handle()
        for handle in (alone, mixed):
            adamd.torch.from_torch(handle, start.optimizer, start.params)
        run_server(alone, dtype, 1, 3 * STEPS)
        run_server(mixed, dtype, 1, STEPS)
        between.spoil()
        adamd.torch.to_torch(mixed, between.optimizer, between.params)
        between.run(STEPS + 1, 2 * STEPS)
        run_server(mixed, dtype, 50, 52)
        adamd.torch.from_torch(mixed, between.optimizer, between.params)
        run_server(mixed, dtype, 2 * STEPS + 1, 3 * STEPS)
        self.assertEqual(mixed.summary()["step"], 3 * STEPS)
        self.assertEqual(mixed.digest(), alone.digest())

    def test_torch_adamd_torch(self) -> None:
        self.each(self.torch_adamd_torch)

    def test_adamd_torch_adamd(self) -> None:
        self.each(self.adamd_torch_adamd)

    def test_defaults(self) -> None:
        """A group that is added later at the server is the one that torch would add, whatever the
        options of the groups that were there."""
        keys = ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize")
        rare = {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-6, "weight_decay": 0.25}
        for kind, options in (
            ("Adam", {**rare, "amsgrad": True, "maximize": True}),
            ("AdamW", rare),
            ("AdamW", {}),
        ):
            with self.subTest(kind=kind, options=options):
                w, z = (torch.nn.Parameter(torch.zeros(2)) for _ in "wz")
                own = {"params": [w], "lr": 3.0, "betas": (0.25, 0.5), "weight_decay": 0.0}
                optimizer, handle = getattr(torch.optim, kind)([own], **options), self.handle()
                adamd.torch.from_torch(handle, optimizer, {"w": w})
                optimizer.add_param_group({"params": [z]})
                handle.add_param_group({"z": np.zeros(2, np.float32)})
                for mine, theirs in zip(optimizer.param_groups, handle.param_groups()):
                    expected = {key: mine[key] for key in keys}
                    expected["betas"] = list(mine["betas"])
                    self.assertEqual({key: theirs[key] for key in keys}, expected)

    def test_defaults_of_one_that_is_there(self) -> None:
        """Loading changes no defaults: a state has none."""
        w = torch.nn.Parameter(torch.zeros(2))
        handle = self.handle()
        handle.create({"w": w}, lr=0.5)
        adamd.torch.from_torch(handle, torch.optim.Adam([w], lr=0.1), {"w": w})
        self.assertEqual(handle.param_groups()[0]["lr"], 0.1)
        self.assertEqual(handle.summary()["defaults"]["lr"], 0.5)

    def test_module(self) -> None:
        """A module, with a frozen parameter, channels_last and groups in an order of their own."""
        model = torch.nn.Sequential(
            torch.nn.Conv2d(2, 3, 3), torch.nn.ReLU(), torch.nn.Linear(4, 5)
        )
        model.to(memory_format=torch.channels_last)
        model[0].bias.requires_grad_(False)
        params = dict(model.named_parameters())
        groups = [
            {"params": [params["2.bias"], params["0.weight"]]},
            {"params": [params["2.weight"]]},
        ]
        optimizer = torch.optim.AdamW(groups, lr=0.5)
        handle = self.handle()
        adamd.torch.from_torch(handle, optimizer, model)
        self.assertEqual(
            [[p["name"] for p in g["params"]] for g in handle.param_groups()],
            [["2.bias", "0.weight"], ["2.weight"]],
        )
        frozen = model[0].bias.clone()
        grad = np.ones((3, 2, 3, 3), np.float32)
        after = handle.step({"0.weight": grad}).params["0.weight"]
        adamd.torch.to_torch(handle, optimizer, model)
        np.testing.assert_array_equal(model[0].weight.detach().numpy(), after)
        self.assertTrue(torch.equal(model[0].bias, frozen))
        state = optimizer.state[model[0].weight]
        self.assertEqual(state["exp_avg"].stride(), model[0].weight.stride())
        self.assertEqual(set(optimizer.state), {model[0].weight})  # the others had no gradient
        with self.assertRaisesRegex(
            adamd.Conflict, "name-taken"
        ):  # it is there, and was not replaced
            handle.create({"w": np.zeros(1)})

    def test_order_within_a_group(self) -> None:
        one, other = Torch("Adam", "float32"), Torch("Adam", "float32", 2)
        one.run(1, 20)
        for group in other.optimizer.param_groups:
            group["params"].reverse()
        adamd.torch.to_torch(
            adamd.torch.state_dict(one.optimizer, one.params), other.optimizer, other.params
        )
        for name, param in one.params.items():
            self.assertTrue(torch.equal(param, other.params[name]))
            for key, value in one.optimizer.state[param].items():
                self.assertTrue(torch.equal(value, other.optimizer.state[other.params[name]][key]))

    def test_schedulers_rate(self) -> None:
        """The note that a torch scheduler keeps in the groups stays with torch."""
        mine = Torch("Adam", "float32")
        scheduler = torch.optim.lr_scheduler.StepLR(mine.optimizer, 1, 0.5)
        mine.run(1, 1)
        scheduler.step()
        handle = self.handle()
        adamd.torch.from_torch(handle, mine.optimizer, mine.params)
        self.assertEqual([g["lr"] for g in handle.param_groups()], [0.005, 0.025])
        handle.patch(0, lr=0.25)
        adamd.torch.to_torch(handle, mine.optimizer, mine.params)
        groups = mine.optimizer.param_groups
        self.assertEqual([g["lr"] for g in groups], [0.25, 0.025])
        self.assertEqual([g["initial_lr"] for g in groups], [0.01, 0.05])

    def test_default_dtype(self) -> None:
        """Where torch's default is float64, it counts steps in it."""
        self.addCleanup(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float64)
        mine = Torch("Adam", "float64")
        mine.run(1, 2)
        before = mine.everything()
        adamd.torch.to_torch(
            adamd.torch.state_dict(mine.optimizer, mine.params), mine.optimizer, mine.params
        )
        self.assertEqual(mine.everything(), before)

    def test_amsgrad_switched_off(self) -> None:
        """Maxima that torch keeps although it does not use them any more stay, and so do those that
        only some parameters have."""
        mine = Torch("Adam", "float32", amsgrad=True)
        mine.run(1, 5)
        for group in mine.optimizer.param_groups:
            group["amsgrad"] = False
        mine.run(14, 17)
        alone = copy.deepcopy(mine)
        handle = self.handle()
        adamd.torch.from_torch(handle, mine.optimizer, mine.params)
        run_server(handle, "float32", 18, 20)
        mine.spoil()
        adamd.torch.to_torch(handle, mine.optimizer, mine.params)
        alone.run(18, 20)
        self.assertEqual(mine.everything(), alone.everything())
        kept = [set(entry) for entry in mine.optimizer.state_dict()["state"].values()]
        self.assertIn({"step", "exp_avg", "exp_avg_sq"}, kept)
        self.assertIn({"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"}, kept)


class Dictionaries(TorchCase):
    """The conversions without an optimizer, as for a checkpoint."""

    def test_there_and_back(self) -> None:
        mine, fresh = Torch("AdamW", "float32", amsgrad=True), Torch(
            "AdamW", "float32", amsgrad=True
        )
        mine.run(1, 20)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint.pt"
            torch.save(mine.optimizer.state_dict(), path)
            checkpoint = torch.load(path, weights_only=True)
        names = [name for group in GROUPS for name in group]
        state = adamd.torch.to_adamd_dict(checkpoint, mine.params, names=names)
        own = adamd.torch.state_dict(mine.optimizer, mine.params)
        self.assertEqual(state.digest(), own.digest())
        handle = self.handle()
        adamd.torch.from_torch(handle, mine.optimizer, mine.params)
        self.assertEqual(handle.digest(), state.digest())
        for source in (state, handle):
            fresh.optimizer.load_state_dict(adamd.torch.to_torch_dict(source, GROUPS))
            got, expected = fresh.everything(), mine.everything()
            for group in got["param_groups"] + expected["param_groups"]:
                del group["foreach"]  # as adamd has it, which is null where it was created so
            self.assertEqual(got["state"], expected["state"])
            self.assertEqual(got["param_groups"], expected["param_groups"])

    def test_names_of_torch(self) -> None:
        """An optimizer made from named_parameters() has its names in its state_dict."""
        model = torch.nn.Linear(2, 3)
        optimizer = torch.optim.Adam(model.named_parameters())
        state = adamd.torch.to_adamd_dict(optimizer.state_dict(), model.state_dict())
        self.assertEqual(state.header["param_groups"][0]["params"], ["weight", "bias"])
        adamd.torch.to_torch(state, optimizer, model)
        self.assertEqual(optimizer.param_groups[0]["param_names"], ["weight", "bias"])

    def test_copies(self) -> None:
        """What state_dict and the conversions give does not change with the model."""
        mine = Torch("Adam", "float32")
        mine.run(1, 2)
        state = adamd.torch.state_dict(mine.optimizer, mine.params)
        converted = adamd.torch.to_torch_dict(state)
        digest, moment = state.digest(), converted["state"][0]["exp_avg"].clone()
        mine.spoil()
        self.assertEqual(state.digest(), digest)
        state.arrays["exp_avg/deep.weight"] += 1
        self.assertTrue(torch.equal(converted["state"][0]["exp_avg"], moment))


if __name__ == "__main__":
    unittest.main()
