"""adamd.torch.Adam and AdamW, beside torch's own: an ordinary training, changed in one line, has
the same bits. Needs torch, and a real server whose binary ADAMD_BINARY names."""

import copy
import io
import itertools
import pickle
import unittest
import warnings
from unittest import mock

from torch_support import TorchCase, torch
import adamd

SCRIPT = """
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)){cast}
optimizer = torch.optim.{kind}(model.parameters(), {options})
losses = []
for step in range(20):
    x = torch.randn(32, 8){cast2}
    loss = ((model(x) - x.sum(1, keepdim=True)) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
"""


def model(seed: int = 0) -> "torch.nn.Module":
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


def loss_of(net: "torch.nn.Module", step: int) -> "torch.Tensor":
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(16, 4, generator=generator)
    return ((net(x) - x.sum(1, keepdim=True)) ** 2).mean()


def train(net, optimizer, first: int, last: int, after=None) -> list:
    losses = []
    for step in range(first, last):
        loss = loss_of(net, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if after is not None:
            after(losses[-1])
    return losses


class OptimCase(TorchCase):
    def adam(self, params, kind: str = "Adam", **options):
        return getattr(adamd.torch, kind)(
            params, url=self.server.url, name=self.handle().name, **options
        )

    def both(self, work, kind: str = "Adam", **options) -> list:
        """What `work(model, optimizer)` gives with torch's optimizer and with ours is equal."""
        ours, theirs = model(), model()
        got = work(ours, self.adam(ours.parameters(), kind, **options))
        expected = work(theirs, getattr(torch.optim, kind)(theirs.parameters(), **options))
        self.assertEqual(got, expected)
        self.assertBits(ours.state_dict(), theirs.state_dict())
        return got

    def assertBits(self, left: dict, right: dict) -> None:
        self.assertEqual(list(left), list(right))
        for name, value in right.items():
            self.assertEqual(left[name].dtype, value.dtype)
            self.assertEqual(left[name].numpy().tobytes(), value.numpy().tobytes(), name)

    def assertSameState(self, left: dict, right: dict) -> None:
        self.assertEqual(left["param_groups"], right["param_groups"])
        self.assertEqual(list(left["state"]), list(right["state"]))
        for key, state in right["state"].items():
            self.assertBits(left["state"][key], state)


class Trainings(OptimCase):
    def test_a_script_changed_in_one_line(self) -> None:
        for kind, (cast, cast2), options in itertools.product(
            ("Adam", "AdamW"),
            (("", ""), (".double()", ".double()")),
            ("", "lr=0.05, amsgrad=True", "lr=0.1, weight_decay=0.1, betas=(0.5, 0.75), eps=1e-4", "maximize=True"),
        ):  # fmt: skip
            with self.subTest(kind=kind, cast=cast, options=options):
                text = SCRIPT.format(kind=kind, cast=cast, cast2=cast2, options=options)
                own, name = {}, self.handle().name
                exec(text, own)
                changed = text.replace(f"torch.optim.{kind}(", f"adamd.torch.{kind}(")
                where = f"model.parameters(), url={self.server.url!r}, name={name!r},"
                there = {"adamd": adamd}
                exec(changed.replace("model.parameters(),", where), there)
                self.assertEqual(there["losses"], own["losses"])
                self.assertBits(there["model"].state_dict(), own["model"].state_dict())
                state = there["optimizer"].state_dict()
                self.assertSameState(state, own["optimizer"].state_dict())

    def test_it_is_a_torch_optimizer(self) -> None:
        self.assertTrue(issubclass(adamd.torch.Adam, torch.optim.Adam))
        self.assertTrue(issubclass(adamd.torch.AdamW, torch.optim.AdamW))
        decoupled = {"decoupled_weight_decay": True, "weight_decay": 0.1}
        self.both(lambda net, opt: train(net, opt, 0, 5), **decoupled)

    def test_schedulers(self) -> None:
        make = torch.optim.lr_scheduler
        for scheduler in (
            lambda o: make.StepLR(o, 3, 0.5),
            lambda o: make.MultiStepLR(o, [2, 5], 0.3),
            lambda o: make.ExponentialLR(o, 0.9),
            lambda o: make.ConstantLR(o, 0.5, 4),
            lambda o: make.LinearLR(o, 0.1, 1.0, 5),
            lambda o: make.PolynomialLR(o, 20, 2.0),
            lambda o: make.CosineAnnealingLR(o, 8),
            lambda o: make.CosineAnnealingWarmRestarts(o, 3, 2),
            lambda o: make.LambdaLR(o, lambda step: 1 / (step + 1)),
            lambda o: make.MultiplicativeLR(o, lambda step: 0.9),
            lambda o: make.CyclicLR(o, 0.001, 0.1, 3, cycle_momentum=True),
            lambda o: make.OneCycleLR(o, 0.1, total_steps=20),
            lambda o: make.SequentialLR(o, [make.ConstantLR(o, 0.1, 2), make.ExponentialLR(o, 0.9)], [3]),
            lambda o: make.ChainedScheduler([make.ConstantLR(o, 0.1, 2), make.ExponentialLR(o, 0.9)]),
            lambda o: torch.optim.swa_utils.SWALR(o, 0.5, 3),
        ):  # fmt: skip

            def work(net, optimizer, scheduler=scheduler):
                steps = scheduler(optimizer)
                losses = train(net, optimizer, 0, 12, lambda _: steps.step())
                return losses, steps.get_last_lr()

            self.both(work, lr=0.05)

        def plateau(net, optimizer):
            steps = make.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
            return train(net, optimizer, 0, 12, steps.step), optimizer.param_groups[0]["lr"]

        self.both(plateau, lr=0.05)

    def test_grad_scaler(self) -> None:
        def work(net, optimizer):
            scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=3)
            losses = []
            for step in range(12):
                optimizer.zero_grad()
                loss = loss_of(net, step)
                scaler.scale(loss).backward()
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
                scaler.step(optimizer)
                scaler.update()
                losses.append((loss.item(), scaler.get_scale()))
            return losses

        scales = [scale for _, scale in self.both(work)]
        self.assertLess(min(scales), 2.0**127)  # some steps were left out

    def test_clipping_and_what_is_not_finite(self) -> None:
        def work(net, optimizer):
            for step in range(4):
                optimizer.zero_grad()
                loss_of(net, step).backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
                if step == 3:
                    net[2].bias.grad[0] = float("nan")
                optimizer.step()
            return net[2].bias.isnan().tolist()

        self.assertEqual(self.both(work), [True])

    def test_closures(self) -> None:
        def work(net, optimizer):
            def closure(step):
                optimizer.zero_grad()
                loss = loss_of(net, step)
                loss.backward()
                return loss

            return [optimizer.step(lambda s=s: closure(s)).item() for s in range(5)]

        self.both(work)

    def test_parameters_without_gradients_and_groups_added(self) -> None:
        def work(net, optimizer):
            losses = []
            net[0].bias.requires_grad_(False)
            for step in range(4):
                losses += train(net, optimizer, step, step + 1)
            net[0].bias.requires_grad_(True)
            extra = torch.nn.Parameter(torch.ones(3))
            optimizer.add_param_group({"params": [extra], "lr": 0.5})
            extra.grad = torch.tensor([1.0, -2.0, 0.5])
            optimizer.step()
            optimizer.zero_grad()
            optimizer.step()  # no gradient at all
            losses += train(net, optimizer, 4, 8)
            return losses, extra.tolist(), optimizer.param_groups[1]["lr"]

        self.both(work)

    def test_tied_parameters(self) -> None:
        def work(net, optimizer=None):
            return train(net, optimizer, 0, 5)

        def tied():
            torch.manual_seed(0)
            net = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(2)))
            net[1].weight = net[0].weight
            return net

        ours, theirs = tied(), tied()
        got = work(ours, self.adam(ours.named_parameters()))
        self.assertEqual(got, work(theirs, torch.optim.Adam(theirs.named_parameters())))
        self.assertBits(ours.state_dict(), theirs.state_dict())

    def test_values_that_somebody_changed(self) -> None:
        """A model loaded behind the optimizer's back, .data written to, weights clipped."""

        def work(net, optimizer):
            net.load_state_dict(model(7).state_dict())
            losses = train(net, optimizer, 0, 3)
            net[0].weight.data.mul_(0.5)
            losses += train(net, optimizer, 3, 6)
            with torch.no_grad():
                net[2].weight.clamp_(-0.1, 0.1)
            return losses + train(net, optimizer, 6, 9)

        self.both(work)

    def test_layouts(self) -> None:
        def conv():
            torch.manual_seed(0)
            return torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)

        nets = ours, theirs = conv(), conv()
        optimizers = self.adam(ours.parameters()), torch.optim.Adam(theirs.parameters())
        for net, optimizer in zip(nets, optimizers):
            x = torch.linspace(-1, 1, 3 * 8 * 8).reshape(1, 3, 8, 8)
            for _ in range(3):
                net(x).square().sum().backward()
                optimizer.step()
        self.assertBits(ours.state_dict(), theirs.state_dict())
        self.assertTrue(ours.weight.is_contiguous(memory_format=torch.channels_last))


class State(OptimCase):
    def test_checkpoints_both_ways(self) -> None:
        whole = model()
        expected = train(whole, torch.optim.Adam(whole.parameters(), amsgrad=True), 0, 9)
        for first, second in (("ours", "theirs"), ("theirs", "ours"), ("ours", "ours")):
            with self.subTest(first=first, second=second):
                net = model()

                def make(which: str, net=net):
                    if which == "ours":
                        return self.adam(net.parameters(), amsgrad=True)
                    return torch.optim.Adam(net.parameters(), amsgrad=True)

                one = make(first)
                losses = train(net, one, 0, 4)
                file = io.BytesIO()
                torch.save(one.state_dict(), file)
                file.seek(0)
                two = make(second)
                two.load_state_dict(torch.load(file, weights_only=True))
                losses += train(net, two, 4, 9)
                self.assertEqual(losses, expected)
                self.assertBits(net.state_dict(), whole.state_dict())

    def test_options_come_with_a_checkpoint(self) -> None:
        net = model()
        optimizer = self.adam(net.parameters(), lr=0.5)
        state = optimizer.state_dict()
        state["param_groups"][0].update(lr=0.25, betas=(0.5, 0.75), mine="kept")
        optimizer.load_state_dict(state)
        self.assertEqual(optimizer.param_groups[0]["mine"], "kept")
        group = optimizer.handle.param_groups()[0]
        self.assertEqual((group["lr"], group["betas"]), (0.25, [0.5, 0.75]))

    def test_pickling(self) -> None:
        net = model()
        optimizer = self.adam(net.parameters())
        losses = train(net, optimizer, 0, 3)
        text = pickle.dumps((net, optimizer))
        net, optimizer = pickle.loads(text)
        losses += train(net, optimizer, 3, 6)
        twin = model()
        self.assertEqual(losses, train(twin, torch.optim.Adam(twin.parameters()), 0, 6))
        self.assertIn(self.server.url.encode(), text)
        copied = copy.deepcopy(optimizer)
        self.assertEqual(copied.handle.digest(), optimizer.handle.digest())

    def test_attach(self) -> None:
        net = model()
        first = self.adam(net.parameters(), lr=0.5)
        train(net, first, 0, 3)
        other = model(9)
        options = {"url": self.server.url, "name": first.handle.name}
        with self.assertRaises(adamd.Conflict):
            adamd.torch.Adam(other.parameters(), **options)
        second = adamd.torch.Adam(other.parameters(), lr=0.25, attach=True, **options)
        self.assertBits(other.state_dict(), net.state_dict())
        train(other, second, 3, 4)
        self.assertEqual(second.handle.param_groups()[0]["lr"], 0.25)
        with self.assertRaisesRegex(ValueError, "expected 'adamw'"):
            adamd.torch.AdamW(other.parameters(), attach=True, **options)
        with self.assertRaisesRegex(ValueError, "other parameters"):
            adamd.torch.Adam(list(other.parameters())[1:], attach=True, **options)

    def test_a_step_that_was_lost(self) -> None:
        """Its reply is: called again with the same gradients it counts once, with others anew."""
        net = model()
        optimizer = self.adam(net.parameters())
        handle, real = optimizer.handle, optimizer.handle.step

        def lose(*args, **kwargs):
            real(*args, **kwargs)
            raise adamd.ConnectionError("lost")

        loss_of(net, 0).backward()
        for again in (False, True):
            with mock.patch.object(handle, "step", lose), self.assertRaises(adamd.ConnectionError):
                optimizer.step()
            if again:
                for param in net.parameters():
                    param.grad.mul_(2)
            optimizer.step()
            self.assertEqual(handle.summary()["step"], 3 if again else 1)

    def test_hooks(self) -> None:
        net = model()
        optimizer = self.adam(net.parameters())
        seen = []
        optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
        optimizer.register_step_post_hook(lambda *_: seen.append("after"))
        optimizer.register_state_dict_post_hook(lambda *_: seen.append("out"))
        optimizer.register_load_state_dict_post_hook(lambda *_: seen.append("in"))
        train(net, optimizer, 0, 1)
        optimizer.load_state_dict(optimizer.state_dict())
        self.assertEqual(seen, ["before", "after", "out", "in"])


class Refused(OptimCase):
    def test_what_steps_in_another_way(self) -> None:
        for flag in ("fused", "foreach", "capturable", "differentiable"):
            with self.subTest(flag), self.assertRaisesRegex(ValueError, flag):
                self.adam(model().parameters(), **{flag: True})

    def test_parameters(self) -> None:
        for dtype in (torch.bfloat16, torch.float16, torch.complex64):
            with self.subTest(dtype), self.assertRaisesRegex(TypeError, "float32 or torch.float64"):
                self.adam([torch.nn.Parameter(torch.ones(2, dtype=dtype))])
        param = torch.nn.Parameter(torch.ones(2))
        with self.assertRaisesRegex(ValueError, "twice"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.adam([param, param])

    def test_a_group_that_is_refused_is_not_there(self) -> None:
        net = model()
        optimizer = self.adam(net.parameters())
        half = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
        with self.assertRaises(TypeError):
            optimizer.add_param_group({"params": [half]})
        optimizer.handle.delete()
        with self.assertRaises(adamd.NotFound):
            optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
        self.assertEqual(len(optimizer.param_groups), 1)


if __name__ == "__main__":
    unittest.main()
