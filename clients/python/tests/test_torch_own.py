"""PyTorch's own tests of its optimizers (TestOptimRenewed of its test/test_optim.py), those that
apply to an optimizer on one CPU, under their names and in our own words. docs/torch.md lists all of
them, with the reason for each that is not here."""

import copy
import io
import unittest

from test_torch_optim import OptimCase, model, train
from torch_support import torch

if torch is not None:
    from torch.nn import Parameter
    from torch.optim.optimizer import (
        register_optimizer_step_post_hook,
        register_optimizer_step_pre_hook,
    )

KINDS = ("Adam", "AdamW")
# The inputs of torch's optim_db for Adam and AdamW, without those of CUDA.
INPUTS = (
    {},
    {"lr": 0.01},
    {"weight_decay": 0.1},
    {"weight_decay": 0.1, "maximize": True},
    {"weight_decay": 0.1, "amsgrad": True},
)


class Own(OptimCase):
    def optimizers(self, make_params, *inputs):
        for kind in KINDS:
            for options in inputs or INPUTS:
                params = make_params()
                with self.subTest(kind=kind, options=options):
                    yield options, params, self.adam(params, kind, **options)

    @staticmethod
    def params() -> list:
        torch.manual_seed(1)
        return [Parameter(torch.randn(2, 3)), Parameter(torch.randn(2))]

    @staticmethod
    def fill(params) -> None:
        generator = torch.Generator().manual_seed(2)
        for param in params:
            param.grad = torch.rand(param.shape, generator=generator, dtype=param.dtype)

    def test_errors(self) -> None:
        for options, wrong in (
            ({"lr": -1e-2}, "learning rate"),
            ({"betas": (1.0, 0.0)}, "beta parameter at index 0"),
            ({"betas": (0.0, 1.0)}, "beta parameter at index 1"),
            ({"eps": -1.0}, "epsilon"),
            ({"weight_decay": -1}, "weight_decay"),
        ):
            for kind in KINDS:
                with self.assertRaisesRegex(ValueError, wrong):
                    self.adam([Parameter(torch.randn(1))], kind, **options)
        with self.assertRaisesRegex(TypeError, "should be an iterable of Tensors or dicts"):
            self.adam(torch.randn(1))
        with self.assertRaisesRegex(TypeError, "can only optimize Tensors"):
            self.adam(["a"])
        with self.assertRaisesRegex(ValueError, "more than one parameter group"):
            param = Parameter(torch.randn(1))
            self.adam([{"params": param}, {"params": param}])
        with self.assertRaisesRegex(ValueError, "empty parameter list"):
            self.adam([])

    def goes_right(self, contiguous: bool, options: dict, optimizer_of) -> None:
        torch.manual_seed(0)
        weight = torch.randn(10, 5) if contiguous else torch.randn(10, 5, 2)[..., 0]
        bias = torch.randn(10) if contiguous else torch.randn(10, 2)[..., 0]
        weight, bias, x = Parameter(weight), Parameter(bias), torch.randn(5)
        optimizer, schedulers = optimizer_of(weight, bias)

        def closure():
            optimizer.zero_grad()
            loss = (weight.mv(x) + bias).pow(2).sum()
            loss.backward()
            return loss

        before = closure().item()
        for _ in range(20):
            loss = optimizer.step(closure)
            for scheduler in schedulers:
                args = (loss.item(),) if "Plateau" in type(scheduler).__name__ else ()
                scheduler.step(*args)
        self.assertEqual(closure().item() > before, options.get("maximize", False))

    def test_forloop_goes_right_direction(self) -> None:
        for contiguous in (True, False):
            for kind in KINDS:
                for options in INPUTS:
                    self.goes_right(
                        contiguous,
                        options,
                        lambda w, b: (self.adam([w, b], kind, **options), ()),  # noqa: B023
                    )

    def test_param_group_with_lrscheduler_goes_right_direction(self) -> None:
        make = torch.optim.lr_scheduler

        def optimizer_of(weight, bias):
            groups = [{"params": [weight]}, {"params": [bias], "lr": 0.01}]
            optimizer = self.adam(groups)
            schedulers = make.ExponentialLR(optimizer, 0.9), make.ReduceLROnPlateau(optimizer)
            return optimizer, schedulers

        for contiguous in (True, False):
            self.goes_right(contiguous, {}, optimizer_of)

    def test_tensor_lr(self) -> None:
        """Refused: torch divides it in its own type, and steps with other bits then."""
        with self.assertRaisesRegex(TypeError, "lr of param group 0 is a tensor"):
            self.adam(self.params(), lr=torch.tensor(0.01))

    def test_step_iteration(self) -> None:
        """step(): a count for each parameter, which state_dict() tells."""
        for _, params, optimizer in self.optimizers(self.params):
            for _ in range(5):
                self.fill(params)
                optimizer.step()
            for state in optimizer.state_dict()["state"].values():
                self.assertEqual(state["step"].item(), 5)

    def test_param_groups_weight_decay(self) -> None:
        torch.manual_seed(0)
        weight, bias, x = Parameter(torch.randn(10, 5)), Parameter(torch.randn(10)), torch.randn(5)
        groups = [{"params": [weight], "weight_decay": 0.1}, {"params": [bias]}]
        optimizer = self.adam(groups, weight_decay=0)
        first = None
        for _ in range(20):
            optimizer.zero_grad()
            loss = (weight.mv(x) + bias).pow(2).sum()
            loss.backward()
            optimizer.step()
            first = loss.item() if first is None else first
        self.assertLess(loss.item(), first)

    def test_param_groups_lr(self) -> None:
        param, still = Parameter(torch.ones(2)), Parameter(torch.ones(2))
        groups = [{"params": [param], "lr": 0.1}, {"params": [still]}]
        optimizer = self.adam(groups, lr=0)
        param.grad, still.grad = torch.ones(2), torch.ones(2)
        optimizer.step()
        self.assertNotEqual(param.tolist(), [1, 1])
        self.assertEqual(still.tolist(), [1, 1])

    def test_set_default_dtype_works_with_foreach(self) -> None:
        """foreach aside: the counts are of the default dtype's kind."""
        for dtype in (torch.float64, torch.float32):
            torch.set_default_dtype(dtype)
            self.addCleanup(torch.set_default_dtype, torch.float32)
            param = Parameter(torch.ones(2))
            ours, own = self.adam([param]), torch.optim.Adam([param])
            self.fill([param])
            ours.step()
            own.step()
            for optimizer in (ours, own):
                self.assertEqual(optimizer.state_dict()["state"][0]["step"].dtype, dtype)

    def test_load_state_dict_hooks(self) -> None:
        """load_state_dict_pre_hook_and_prepend, _post_hook, _pre_post_hook."""
        for _, params, optimizer in self.optimizers(self.params, {}):
            state = optimizer.state_dict()
            seen = []

            def halve(_, state):
                state["param_groups"][0]["lr"] = 0.002
                return state

            optimizer.register_load_state_dict_pre_hook(halve)
            optimizer.register_load_state_dict_pre_hook(
                lambda *_: seen.append("first"), prepend=True
            )
            optimizer.register_load_state_dict_post_hook(lambda o: seen.append("last"))
            optimizer.load_state_dict(state)
            self.assertEqual(seen, ["first", "last"])
            self.assertEqual(optimizer.param_groups[0]["lr"], 0.002)
            self.assertEqual(optimizer.handle.param_groups()[0]["lr"], 0.002)

    def test_state_dict_hooks(self) -> None:
        """state_dict_pre_hook, _post_hook, _pre_post_hook."""
        for _, params, optimizer in self.optimizers(self.params, {}):
            seen = []
            optimizer.register_state_dict_pre_hook(lambda o: seen.append("before"))

            def mark(_, state):
                state["mark"] = 1
                return state

            optimizer.register_state_dict_post_hook(mark)
            self.assertEqual(optimizer.state_dict()["mark"], 1)
            self.assertEqual(seen, ["before"])

    def test_step_hooks(self) -> None:
        """step_pre_hook, step_post_hook, step_all_hooks: in torch's order."""
        params = [Parameter(torch.ones(2))]
        optimizer = self.adam(params)
        seen = []
        for hooks in (
            register_optimizer_step_pre_hook(lambda *_: seen.append("global before")),
            register_optimizer_step_post_hook(lambda *_: seen.append("global after")),
            optimizer.register_step_pre_hook(lambda *_: seen.append("before")),
            optimizer.register_step_post_hook(lambda *_: seen.append("after")),
        ):
            self.addCleanup(hooks.remove)
        self.fill(params)
        optimizer.step()
        self.assertEqual(seen, ["global before", "before", "after", "global after"])

    def test_deepcopy_copies_all_public_attrs(self) -> None:
        for _, params, optimizer in self.optimizers(self.params):
            self.fill(params)
            optimizer.step()
            names = [
                {name for name in vars(o) if not name.startswith("_")}
                for o in (optimizer, copy.deepcopy(optimizer))
            ]
            self.assertEqual(*names)

    def test_step_is_noop_when_params_have_no_grad(self) -> None:
        for _, params, optimizer in self.optimizers(self.params):
            before = [param.tolist() for param in params]
            self.assertEqual(optimizer.step(lambda: torch.tensor([1])).item(), 1)
            self.assertEqual([param.tolist() for param in params], before)
            self.assertEqual(optimizer.handle.summary()["step"], 0)

    def test_step_is_noop_for_zero_grads(self) -> None:
        for _, params, optimizer in self.optimizers(self.params, {"weight_decay": 0}):
            before = [param.tolist() for param in params]
            for param in params:
                param.grad = torch.zeros_like(param)
            optimizer.step()
            self.assertEqual([param.tolist() for param in params], before)

    def test_optimizer_can_be_printed(self) -> None:
        for _, params, optimizer in self.optimizers(self.params):
            self.assertIn("lr: ", repr(optimizer))

    def test_state_dict_deterministic(self) -> None:
        for options, params, optimizer in self.optimizers(self.params):
            for _ in range(5):
                self.fill(params)
                optimizer.step()
            twins = [Parameter(param.detach().clone()) for param in params]
            named = [(f"name{i}", param) for i, param in enumerate(twins)]
            kind = type(optimizer).__name__
            other = self.adam(named, kind, **options)
            other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            for _ in range(5):
                for some, one in ((params, optimizer), (twins, other)):
                    self.fill(some)
                    one.step()
            self.assertEqual([p.tolist() for p in params], [p.tolist() for p in twins])
            one, two = optimizer.state_dict(), other.state_dict()
            for group in two["param_groups"]:
                group.pop("param_names", None)
            self.assertSameState(two, one)

    def test_can_load_older_state_dict(self) -> None:
        for _, params, optimizer in self.optimizers(self.params):
            self.fill(params)
            optimizer.step()
            state = optimizer.state_dict()
            for flag in ("foreach", "differentiable", "fused", "maximize", "capturable"):
                del state["param_groups"][0][flag]
            optimizer.load_state_dict(state)
            optimizer.step()

    def test_can_load_from_to_named_state_dict(self) -> None:
        for from_named in (False, True):
            for to_named in (False, True):
                first, second = model(), model()
                params = [
                    net.named_parameters() if named else net.parameters()
                    for net, named in ((first, from_named), (second, to_named))
                ]
                one, two = map(self.adam, params)
                train(first, one, 0, 3)
                two.load_state_dict(copy.deepcopy(one.state_dict()))
                train(second, two, 3, 5)
                if from_named or to_named:
                    names = [name for name, _ in first.named_parameters()]
                    self.assertEqual(two.state_dict()["param_groups"][0]["param_names"], names)

    def test_save_load_equality_with_weights_only(self) -> None:
        for _, params, optimizer in self.optimizers(self.params):
            self.fill(params)
            optimizer.step()
            state = optimizer.state_dict()
            file = io.BytesIO()
            torch.save(state, file)
            file.seek(0)
            self.assertSameState(torch.load(file, weights_only=True), state)

    def test_load_nontensor_step(self) -> None:
        for _, params, optimizer in self.optimizers(self.params):
            for _ in range(3):
                self.fill(params)
                optimizer.step()
            state = copy.deepcopy(optimizer.state_dict())
            for entry in state["state"].values():
                entry["step"] = entry["step"].item()
            optimizer.load_state_dict(state)
            optimizer.step()
            self.assertEqual(optimizer.state_dict()["state"][0]["step"].item(), 4)

    def test_cpu_load_state_dict(self) -> None:
        """Moments in another dtype than the parameters are cast, as torch casts them."""
        params = self.params()
        own = torch.optim.Adam(params)
        self.fill(params)
        own.step()
        wide = [Parameter(param.detach().double()) for param in params]
        ours = self.adam(wide)
        ours.load_state_dict(own.state_dict())
        self.assertEqual(ours.state_dict()["state"][0]["exp_avg"].dtype, torch.float64)
        self.fill(wide)
        ours.step()

    def test_non_empty_state(self) -> None:
        for _, params, optimizer in self.optimizers(self.params):
            self.fill(params)
            optimizer.step()
            state = optimizer.state_dict()["state"]
            self.assertTrue(state and all(state.values()))

    def test_grads_are_never_inplaced_into(self) -> None:
        for _, params, optimizer in self.optimizers(self.params):
            self.fill(params)
            before = [(param.grad.tolist(), param.grad._version) for param in params]
            optimizer.step()
            after = [(param.grad.tolist(), param.grad._version) for param in params]
            self.assertEqual(after, before)

    def test_adamw_serialization(self) -> None:
        """An AdamW loads what AdamW wrote, without decoupled_weight_decay, as older ones did."""
        params = self.params()
        optimizer = self.adam(params, "AdamW")
        self.fill(params)
        optimizer.step()
        state = optimizer.state_dict()
        del state["param_groups"][0]["decoupled_weight_decay"]
        optimizer.load_state_dict(state)
        self.assertTrue(optimizer.param_groups[0]["decoupled_weight_decay"])
        optimizer.step()

    def test_rosenbrock_sparse(self) -> None:
        """Adam refuses sparse gradients, in torch too."""
        param = Parameter(torch.ones(2))
        optimizer = self.adam([param])
        param.grad = torch.ones(2).to_sparse()
        with self.assertRaisesRegex(RuntimeError, "sparse gradients"):
            optimizer.step()


class Swa(OptimCase):
    """Of test_swa_utils.py: averaging beside the optimizer touches nothing of it."""

    def test_averaged_model(self) -> None:
        def work(net, optimizer):
            averaged = torch.optim.swa_utils.AveragedModel(net)
            losses = train(net, optimizer, 0, 6, lambda _: averaged.update_parameters(net))
            return losses, [p.tolist() for p in averaged.parameters()]

        self.both(work)


if __name__ == "__main__":
    unittest.main()
