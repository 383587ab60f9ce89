"""adamd.torch against the torch that is installed, and a real server whose binary ADAMD_BINARY names.
Where torch is not installed, test_torch_dict.py tests the conversion on what torch gave once."""

import itertools
import tempfile
import unittest
from pathlib import Path

import numpy as np

from support import BINARY, ServerCase
import adamd

try:
    import torch
    import adamd.torch
except ImportError:
    torch = None

SHAPES = {"deep.weight": (4, 3), "deep.bias": (5,), "scalar": (), "empty": (0, 2), "late": (2, 2, 3)}
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
            name: torch.nn.Parameter(torch.from_numpy(np.asarray(rng.standard_normal(shape), dtype)))
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

    def test_module(self) -> None:
        """A module, with a frozen parameter, channels_last and groups in an order of their own."""
        model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.ReLU(), torch.nn.Linear(4, 5))
        model.to(memory_format=torch.channels_last)
        model[0].bias.requires_grad_(False)
        params = dict(model.named_parameters())
        groups = [{"params": [params["2.bias"], params["0.weight"]]}, {"params": [params["2.weight"]]}]
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
        with self.assertRaisesRegex(adamd.Conflict, "name-taken"):  # it is there, and was not replaced
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
        before = mine.everything()
        state = adamd.torch.state_dict(mine.optimizer, mine.params)
        adamd.torch.to_torch(state, mine.optimizer, mine.params)
        self.assertEqual(mine.everything(), before)


class Dictionaries(TorchCase):
    """The conversions without an optimizer, as for a checkpoint."""

    def test_there_and_back(self) -> None:
        mine, fresh = Torch("AdamW", "float32", amsgrad=True), Torch("AdamW", "float32", amsgrad=True)
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

        for make in (torch.optim.SGD, torch.optim.NAdam, torch.optim.RAdam, torch.optim.SparseAdam, Own):
            self.refuse("neither torch.optim.Adam nor", push([w], make, lr=0.1))
        for kind in ("complex64", "float16", "bfloat16"):
            p = torch.nn.Parameter(torch.ones(2, dtype=getattr(torch, kind)))
            self.refuse(f"'p0' has dtype torch.{kind}, expected torch.float32 or", push([p]))
        sparse = torch.ones(2, 2).to_sparse().requires_grad_()
        self.refuse("'p0' is sparse", push([sparse]))
        meta = torch.nn.Parameter(torch.ones(2, device="meta"))
        self.refuse("'p0' is on the device 'meta'", push([meta]))
        self.refuse("'p0' is lazy", push([torch.nn.parameter.UninitializedParameter()], capturable=False))
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
        self.refuse("has the key 'max_momentum', which adamd knows nothing of", group(max_momentum=1))
        self.refuse("lr of param group 0 is nan, expected a finite", group(lr=float("nan")))
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
