"""Bringing a state to a server that does not have the optimizer."""

import tempfile
import unittest
from pathlib import Path

from support import ClientCase, Server
import numpy as np
import adamd

RNG = np.random.default_rng(11)
SHAPES = {"a": (3, 2), "b": (4,), "c": (), "empty": (0, 2)}


def arrays() -> dict:
    return {name: np.asarray(RNG.standard_normal(shape)) for name, shape in SHAPES.items()}


class Restored(ClientCase):
    def test_on_another_server(self) -> None:
        """Saved here, read from the file and restored there, it goes on as here."""
        params = {**arrays(), "mean": np.array([1.0, 2.0], np.float32)}
        warm = {"name": "CosineAnnealingWarmRestarts", "T_0": 3}
        linear = {"name": "LinearLR", "total_iters": 2}
        chain = {"name": "SequentialLR", "schedulers": [linear, warm], "milestones": [2]}
        self.opt.create(
            params,
            "adamw",
            [
                {"params": ["b"], "lr": 0.5, "schedule": chain},
                {"params": ["c", "a"], "betas": (0.5, 0.75), "amsgrad": True, "maximize": True},
                {"params": ["empty"], "eps": 1e-3, "bias_correction": False},
                {"params": ["mean"], "buffers": True},
            ],
            max_grad_norm=2,
            norm_type="inf",
            clip_value=1.5,
            nonfinite="skip",
            grad_scale=4,
            lr=0.125,
        )
        self.opt.configure(error_if_nonfinite=True)
        for names in ("ab", "a", "abc", "b"):
            grads = arrays()
            self.opt.step({name: grads[name] for name in names})
        self.opt.step({"mean": np.array([3.0, 0.25], np.float32)})
        there = Server()
        self.addCleanup(there.kill)
        with tempfile.TemporaryDirectory() as folder, adamd.Client(there.url, timeout=60) as client:
            path = Path(folder) / "state.safetensors"
            self.opt.state_dict().save(path)
            twin = client.optimizer("twin")
            twin.restore(adamd.StateDict.load(path))
            self.assertEqual(twin.digest(), self.opt.digest())
            self.assertEqual(twin.state_dict().header, self.opt.state_dict().header)
            self.assertEqual(
                [(g.get("initial_lr"), g.get("schedule")) for g in twin.param_groups()],
                [(g.get("initial_lr"), g.get("schedule")) for g in self.opt.param_groups()],
            )
            for _ in range(4):
                grads = arrays()
                self.assertSame(twin.step(grads).params, self.opt.step(grads).params)
            self.assertEqual(twin.digest(), self.opt.digest())
            self.assertEqual(twin.summary()["defaults"]["lr"], 0.001)  # a state has none

    def test_rate_below_0(self) -> None:
        """Whatever its schedule has made of lr; the defaults are what the caller says."""
        schedule = {
            "name": "OneCycleLR",
            "max_lr": 0.1,
            "total_steps": 3,
            "anneal_strategy": "linear",
        }
        self.opt.create(arrays(), schedule=schedule, lr=0.2)
        for _ in range(3):
            self.opt.step(arrays())
        self.assertLess(self.opt.param_groups()[0]["lr"], 0)
        twin = self.client.optimizer(self.opt.name + "-twin")
        twin.restore(self.opt.state_dict(), lr=0.2, amsgrad=True)
        self.assertEqual(twin.digest(), self.opt.digest())
        defaults = twin.summary()["defaults"]
        self.assertEqual((defaults["lr"], defaults["amsgrad"]), (0.2, True))

    def test_other_defaults(self) -> None:
        """Groups come as the state has them, whatever a later group begins with."""
        self.opt.create(arrays(), bias_correction=False)
        twin = self.client.optimizer(self.opt.name + "-twin")
        twin.restore(self.opt.state_dict(), buffers=True)
        self.assertEqual(twin.digest(), self.opt.digest())
        self.assertEqual(twin.digest(), twin.state_dict().digest())

    def test_before_the_first_step(self) -> None:
        self.opt.create(arrays())
        twin = self.client.optimizer(self.opt.name + "-twin")
        twin.restore(self.opt.state_dict())
        self.assertEqual(twin.digest(), self.opt.digest())

    def test_refused(self) -> None:
        """One that is there stays as it is, and where the state does not load nothing stays."""
        self.opt.create(arrays())
        self.opt.step(arrays())
        before, state = self.opt.etag(), self.opt.state_dict()
        with self.assertRaises(adamd.Conflict):
            self.opt.restore(state)
        self.assertEqual(self.opt.etag(), before)
        twin = self.client.optimizer(self.opt.name + "-twin")
        for name in ("schedule", "max_grad_norm", "nonfinite"):
            with self.assertRaisesRegex(TypeError, f"restore.. takes no {name}: it comes with"):
                twin.restore(state, **{name: None})
        with self.assertRaises(adamd.BadRequest):
            twin.restore(state, momentum=1)
        with self.assertRaisesRegex(ValueError, "no 'state_dict' in the metadata"):
            twin.restore(adamd.StateDict(state.part("params")))
        del state.arrays["exp_avg/b"]
        with self.assertRaises(adamd.Unprocessable):
            twin.restore(state)
        with self.assertRaises(adamd.NotFound):
            twin.summary()


if __name__ == "__main__":
    unittest.main()
