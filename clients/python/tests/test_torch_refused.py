"""What adamd.torch refuses, and that neither side has changed then. Needs torch and a server."""

import unittest

import numpy as np

from torch_support import Torch, TorchCase, torch
import adamd


class Refused(TorchCase):
    """What does not fit is refused with the reason, and neither side has changed."""

    def refuse(self, text: str, call, kinds=(ValueError, TypeError)) -> None:
        with self.subTest(text), self.assertRaisesRegex(kinds, text):
            call()

    def test_from_torch(self) -> None:
        handle = self.handle()

        def push(params, make=None, model=None, **options):
            optimizer = (make or torch.optim.Adam)(params, **options)
            named = model if model is not None else [(f"p{i}", p) for i, p in enumerate(params)]
            return lambda: adamd.torch.from_torch(handle, optimizer, named)

        def group(**changes):
            w = torch.nn.Parameter(torch.ones(2))
            optimizer = torch.optim.Adam([w])
            optimizer.param_groups[0].update(changes)
            return lambda: adamd.torch.from_torch(handle, optimizer, {"w": w})

        def state(**changes):
            w = torch.nn.Parameter(torch.ones(2))
            optimizer = torch.optim.Adam([w])
            w.grad = torch.ones(2)
            optimizer.step()
            for key, value in changes.items():
                optimizer.state[w][key] = value
                if value is None:
                    del optimizer.state[w][key]
            return lambda: adamd.torch.from_torch(handle, optimizer, {"w": w})

        w = torch.nn.Parameter(torch.ones(2))

        class Own(torch.optim.Adam):
            pass

        for make in (
            torch.optim.SGD,
            torch.optim.NAdam,
            torch.optim.RAdam,
            torch.optim.SparseAdam,
            Own,
        ):
            self.refuse("neither torch.optim.Adam nor", push([w], make, lr=0.1))
        for kind in ("complex64", "float16", "bfloat16"):
            p = torch.nn.Parameter(torch.ones(2, dtype=getattr(torch, kind)))
            self.refuse(f"'p0' has dtype torch.{kind}, expected torch.float32 or", push([p]))
        sparse = torch.ones(2, 2).to_sparse().requires_grad_()
        self.refuse("'p0' is sparse", push([sparse]))
        meta = torch.nn.Parameter(torch.ones(2, device="meta"))
        self.refuse("'p0' is on the device 'meta'", push([meta]))
        self.refuse(
            "'p0' is lazy", push([torch.nn.parameter.UninitializedParameter()], capturable=False)
        )
        self.refuse("none of the model's", push([w], model=torch.nn.Linear(2, 2)))
        self.refuse("parameters need names", push([w], model=[w]))
        self.refuse("is a int, expected str", push([w], model=[(0, w)]))
        self.refuse("names 'w' twice", push([w], model=[("w", w), ("w", torch.ones(2))]))
        self.refuse("named both 'a' and 'b'", push([w], model=[("a", w), ("b", w)]))
        self.refuse("lr of param group 0 is a tensor", push([w], lr=torch.tensor(0.1)))
        self.refuse("foreach of param group 0 is True, expected None or False", group(foreach=True))
        self.refuse("fused of param group 0 is True", group(fused=True))
        self.refuse("capturable of param group 0 is True, expected False", group(capturable=True))
        self.refuse("differentiable of param group 0 is True", group(differentiable=True))
        self.refuse("betas of param group 0 are", group(betas=torch.tensor([0.9, 0.99])))
        self.refuse("betas.0. of param group 0 is a tensor", group(betas=(torch.tensor(0.9), 0.99)))
        self.refuse(
            "key 'layer_decay', which adamd knows nothing of; expected .* .initial_lr, max_lr",
            group(layer_decay=1),
        )
        self.refuse("lr of param group 0 is nan, expected a finite", group(lr=float("nan")))
        self.refuse("lr of param group 0 is -0.5, expected at least 0", group(lr=-0.5))
        self.refuse("amsgrad of param group 0 is 1, expected True or False", group(amsgrad=1))
        self.refuse("state of 'w' has 'momentum_buffer'", state(momentum_buffer=w))
        self.refuse("state of 'w' has no 'exp_avg'", state(exp_avg=None))
        self.refuse("exp_avg of 'w' has shape .3. and dtype float32", state(exp_avg=torch.ones(3)))
        self.refuse("step of 'w' is 1.5, expected a whole", state(step=torch.tensor(1.5)))
        self.refuse("step of 'w' is -1.0, expected a whole", state(step=torch.tensor(-1.0)))
        self.refuse("stands still at 16777216", state(step=torch.tensor(2.0**24)))
        mixed = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
        two = torch.optim.Adam([{"params": [p]} for p in mixed])
        two.param_groups[1]["decoupled_weight_decay"] = True
        self.refuse(
            "True in some param groups and False in others",
            lambda: adamd.torch.from_torch(handle, two, {"a": mixed[0], "b": mixed[1]}),
        )
        self.assertEqual(self.client.list(handle.name), [])

    def test_rate_below_0(self) -> None:
        """Where a schedule of adamd's has taken it: torch can be told so, and not tell it back."""
        w = torch.nn.Parameter(torch.zeros(2))
        optimizer, handle = torch.optim.Adam([w]), self.handle()
        cycle = {"name": "OneCycleLR", "max_lr": 0.1, "total_steps": 3}
        handle.create({"w": w}, schedule={**cycle, "anneal_strategy": "linear"})
        for _ in range(3):
            handle.step({"w": torch.ones(2)})
        adamd.torch.to_torch(handle, optimizer, {"w": w}, drop_extras=True)
        rate = optimizer.param_groups[0]["lr"]
        self.assertEqual(rate, handle.param_groups()[0]["lr"])
        self.assertLess(rate, 0)
        before = handle.digest()

        def back(to: adamd.Optimizer):
            return lambda: adamd.torch.from_torch(to, optimizer, {"w": w}, drop_extras=True)

        for to in (handle, self.handle()):
            self.refuse(
                "lr of param group 0 is -0.04.* at least 0: .* OneCycleLR .* set lr", back(to)
            )
        self.assertEqual(handle.digest(), before)
        optimizer.param_groups[0]["lr"] = 0.01
        back(handle)()
        self.assertEqual(handle.param_groups()[0]["lr"], 0.01)

    def test_defaults(self) -> None:
        """Defaults of torch's that adamd does not have, where it would be created."""
        w = torch.nn.Parameter(torch.zeros(2))
        optimizer, handle = torch.optim.Adam([w], fused=False, foreach=False), self.handle()
        optimizer.defaults["foreach"] = True
        self.refuse(
            "foreach of optimizer.defaults is True",
            lambda: adamd.torch.from_torch(handle, optimizer, {"w": w}),
        )
        self.assertEqual(self.client.list(handle.name), [])

    def test_created_by_halves(self) -> None:
        """Where the server takes the parameters and not the state, nothing stays there."""
        handle, mine = self.handle(), Torch("Adam", "float32")
        mine.run(1, 1)
        for step in (1 << 60, 1.5):
            with self.assertRaises(adamd.RequestError):
                adamd.torch.from_torch(handle, mine.optimizer, mine.params, step=step)
        self.assertEqual(self.client.list(handle.name), [])

    def test_into_another(self) -> None:
        """An optimizer at the server that has other parameters is not overwritten."""
        handle, mine = self.handle(), Torch("Adam", "float32")
        handle.create({"deep.weight": np.zeros((4, 3), np.float32)})
        before = handle.digest()
        with self.assertRaises(adamd.Unprocessable):
            adamd.torch.from_torch(handle, mine.optimizer, mine.params)
        self.assertEqual(handle.digest(), before)

    def test_extras(self) -> None:
        """What adamd does and a torch optimizer does not is lost only where that is said."""
        mine = Torch("Adam", "float32")
        for what, group in (
            ({"max_grad_norm": 2}, {}),
            ({"nonfinite": "skip"}, {}),
            ({}, {"schedule": {"name": "StepLR", "step_size": 2}}),
        ):
            handle = self.handle()
            adamd.torch.from_torch(handle, mine.optimizer, mine.params)
            plain = handle.digest()
            handle._send_json("PATCH", "", what)
            handle.patch(1, **group)
            before, here = handle.digest(), mine.everything()
            text = "has max_grad_norm=2|has nonfinite='skip'|param group 1 has a schedule"
            self.refuse(text, lambda: adamd.torch.from_torch(handle, mine.optimizer, mine.params))
            self.refuse(text, lambda: adamd.torch.to_torch(handle, mine.optimizer, mine.params))
            self.refuse(text, lambda: adamd.torch.to_torch_dict(handle))
            self.assertEqual((handle.digest(), mine.everything()), (before, here))
            groups = adamd.torch.to_torch_dict(handle, drop_extras=True)["param_groups"]
            self.assertEqual(groups[1].get("initial_lr"), 0.05 if group else None)
            adamd.torch.to_torch(handle, mine.optimizer, mine.params, drop_extras=True)
            adamd.torch.from_torch(handle, mine.optimizer, mine.params, drop_extras=True)
            self.assertEqual(handle.digest(), plain)

    def test_to_torch(self) -> None:
        mine = Torch("Adam", "float32")
        mine.run(1, 2)
        state = adamd.torch.state_dict(mine.optimizer, mine.params)
        other, wide = Torch("AdamW", "float32"), Torch("Adam", "float64")
        fast = Torch("Adam", "float32", foreach=True)
        w, renamed = torch.nn.Parameter(torch.ones(2)), dict(mine.params)
        renamed["early"] = renamed.pop("late")
        reshaped = dict(state.arrays)
        reshaped["params/late"] = np.zeros((3, 2, 2), np.float32)

        def pull(to, model=None, source=state, **options):
            return lambda: adamd.torch.to_torch(source, to.optimizer, model or to.params, **options)

        for target in (mine, other, wide, fast):
            target.before = target.everything()
        self.refuse("is of 'adam', but torch's optimizer is 'adamw'", pull(other))
        self.refuse("'deep.weight' in float32, the model in float64", pull(wide))
        self.refuse("foreach of param group 0 is True", pull(fast))
        self.refuse("not in torch's: 'late'; missing here: 'early'", pull(mine, renamed))
        self.refuse(
            "'late' of shape .3, 2, 2., the model .2, 2, 3.",
            pull(mine, source=adamd.StateDict(reshaped, state.metadata)),
        )
        self.refuse(
            "has 2 param groups, expected 1",
            lambda: adamd.torch.to_torch(state, torch.optim.Adam([w]), {"w": w}),
        )
        handle = self.handle()
        self.refuse("no-such-optimizer", pull(mine, source=handle), adamd.NotFound)
        for target in (mine, other, wide, fast):
            self.assertEqual(target.everything(), target.before)


if __name__ == "__main__":
    unittest.main()
