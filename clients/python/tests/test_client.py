"""The client against a real server, whose binary ADAMD_BINARY names."""

import re
import tempfile
import threading
import unittest
from pathlib import Path

from support import BINARY, ClientCase, Server
import numpy as np
import adamd

RNG = np.random.default_rng(7)


def tensors() -> dict:
    return {
        "nn1.weight": RNG.standard_normal((3, 2)).astype(np.float32),
        "nn1.bias": RNG.standard_normal(3).astype(np.float32),
        "double/\u00e9 %": RNG.standard_normal((2, 2)),
        "scalar": np.float32(0.5),
        "empty": np.zeros((0, 4), np.float32),
    }


def like(params: dict) -> dict:
    return {
        n: np.asarray(RNG.standard_normal(np.shape(p)), np.asarray(p).dtype)
        for n, p in params.items()
    }


class Life(ClientCase):
    def test_create_list_delete(self) -> None:
        params = tensors()
        summary = self.opt.create(params, "adamw", lr=0.01, betas=(0.8, 0.9), amsgrad=True)
        self.assertEqual((summary["name"], summary["algorithm"]), (self.opt.name, "adamw"))
        self.assertEqual((summary["params"], summary["numel"], summary["step"]), (5, 14, 0))
        self.assertEqual(self.opt.summary(), summary)
        self.assertEqual(summary["defaults"]["betas"], [0.8, 0.9])
        self.assertSame(self.opt.params(), params)
        for name, value in params.items():
            self.assertSame({name: self.opt.param(name)}, {name: value})
        self.assertEqual(self.opt.etag(), f'"e{summary["epoch"]}-s0"')
        self.assertEqual([s["name"] for s in self.client.list(self.opt.name)], [self.opt.name])
        self.opt.delete()
        self.assertEqual(self.client.list(self.opt.name), [])
        with self.assertRaises(adamd.NotFound) as caught:
            self.opt.summary()
        self.assertEqual(caught.exception.code, "no-such-optimizer")

    def test_list_in_pages(self) -> None:
        names = [f"page-{i}" for i in range(7)]
        for name in names:
            self.client.optimizer(name).create({"w": np.zeros(1)})
        for page in (1, 2, 7, 1000):
            self.assertEqual([s["name"] for s in self.client.list("page-", page)], names)

    def test_server(self) -> None:
        self.assertEqual(self.client.server()["name"], "adamd")

    def test_groups(self) -> None:
        params = {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)}
        self.opt.create(
            params, param_groups=[{"params": ["b"], "lr": 0.5}, {"params": ["a"]}], lr=0.25
        )
        groups = self.opt.param_groups()
        self.assertEqual([g["params"][0]["name"] for g in groups], ["b", "a"])
        self.assertEqual([g["lr"] for g in groups], [0.5, 0.25])
        self.assertEqual(groups[1]["params"][0]["data"], [1, 1])
        self.assertNotIn("data", self.opt.param_groups(data="none")[0]["params"][0])
        self.assertEqual(self.opt.patch(1, lr=0.125, eps=1e-6)["lr"], 0.125)
        self.opt.add_param_group(
            {"c": np.array([np.inf, 1.5], np.float32), "d": np.zeros((0, 2))}, lr=2
        )
        groups = self.opt.param_groups()
        self.assertEqual([g["lr"] for g in groups], [0.5, 0.125, 2])
        self.assertSame({"c": self.opt.param("c")}, {"c": np.array([np.inf, 1.5], np.float32)})
        self.assertEqual(self.opt.param("d").shape, (0, 2))

    def test_add_large_group(self) -> None:
        """More than a body of JSON may hold, which a group need not stay under."""
        self.opt.create({"w": np.zeros(1)}, eps=0.5)
        large = RNG.standard_normal(1 << 20)
        half = {"name": "ExponentialLR", "gamma": 0.5}
        self.opt.add_param_group(
            {"x": large, "h": np.ones(2, np.float16)}, betas=(0.5, 0.75), schedule=half
        )
        group = self.opt.param_groups(data="none")[1]
        self.assertEqual([p["name"] for p in group["params"]], ["x", "h"])
        self.assertEqual((group["betas"], group["eps"]), ([0.5, 0.75], 0.5))
        self.assertEqual(group["schedule"]["last_epoch"], 0)
        self.assertSame(
            {name: self.opt.param(name) for name in "xh"},
            {"x": large, "h": np.ones(2, np.float32)},
        )

    def test_groups_by_regex(self) -> None:
        names = ("nn1.weight", "nn1.bias", "nn2.weight", "caf\u00e9/bias", "a\nb")
        params = {name: np.ones(1, np.float32) for name in names}
        self.opt.create(
            params,
            param_groups=[
                {"params": re.compile(r"\bbias$"), "weight_decay": 0},
                {"params": {"regex": "(?i)WEIGHT"}, "lr": 0.5},
                {"params": ["a\nb"]},
            ],
        )
        self.assertEqual(
            [[p["name"] for p in group["params"]] for group in self.opt.param_groups()],
            [["nn1.bias", "caf\u00e9/bias"], ["nn1.weight", "nn2.weight"], ["a\nb"]],
        )
        self.opt.delete()

    def test_regex_refused_by_the_server(self) -> None:
        for pattern, said in (("none$", "matches no parameter"), ("(?P<a>w)(?(a)x", "PCRE2")):
            with self.assertRaises(adamd.Unprocessable) as caught:
                self.opt.create({"w": np.ones(1)}, param_groups=[{"params": {"regex": pattern}}])
            self.assertIn(said, caught.exception.detail)

    def test_regex_refused_by_the_client(self) -> None:
        """What PCRE2 would not be told, and so would read otherwise than Python."""
        cases = (
            (re.compile("w", re.IGNORECASE), ValueError, "re.IGNORECASE"),
            (re.compile("w", re.ASCII), ValueError, "re.ASCII"),
            (re.compile("(?s)w."), ValueError, "re.DOTALL"),
            (re.compile(b"w"), TypeError, "bytes"),
        )
        for pattern, kind, said in cases:
            with self.assertRaisesRegex(kind, said):
                self.opt.create({"w": np.ones(1)}, param_groups=[{"params": pattern}])
        self.assertEqual(self.client.list(self.opt.name), [])


class Stepping(ClientCase):
    def test_against_numpy(self) -> None:
        """The formula, in double; the bits are the core's tests' business."""
        p = RNG.standard_normal(50)
        m, v = np.zeros(50), np.zeros(50)
        self.opt.create({"w": p}, lr=0.01)
        for t in range(1, 21):
            g = RNG.standard_normal(50)
            result = self.opt.step({"w": g}, worker="test")
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            before = p
            p = p - 0.01 / (1 - 0.9**t) * m / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            np.testing.assert_allclose(result.params["w"], p, rtol=1e-12, atol=1e-14)
            self.assertAlmostEqual(result.grad_norm, np.linalg.norm(g), 12)
            self.assertAlmostEqual(result.param_norm, np.linalg.norm(p), 12)
            self.assertAlmostEqual(result.update_norm, np.linalg.norm(p - before), 12)
            self.assertEqual((result.step, result.clip_coef, result.etag), (t, 1, self.opt.etag()))

    def test_all_kinds(self) -> None:
        params = tensors()
        self.opt.create(params)
        result = self.opt.step(like(params))
        self.assertSame(self.opt.params(), result.params)
        part = self.opt.step({"scalar": np.float32(1)})
        self.assertEqual(set(part.params), {"scalar"})
        self.assertEqual(self.opt.state("scalar")["step"], 2)
        self.assertEqual(self.opt.state("nn1.bias")["step"], 1)

    def test_minimal(self) -> None:
        self.opt.create({"w": np.zeros(3)})
        result = self.opt.step({"w": np.ones(3)}, minimal=True)
        self.assertEqual((result.step, result.params, result.grad_norm), (1, None, None))
        self.assertEqual(result.etag, self.opt.etag())

    def test_overrides(self) -> None:
        self.opt.create({"w": np.zeros(3)}, lr=1)
        self.opt.step({"w": np.ones(3)}, param_groups=[{"lr": 0.5, "betas": (0.5, 0.75)}])
        group = self.opt.param_groups()[0]
        self.assertEqual((group["lr"], group["betas"]), (0.5, [0.5, 0.75]))

    def test_if_match(self) -> None:
        self.opt.create({"w": np.zeros(3)})
        first = self.opt.step({"w": np.ones(3)}, if_match=self.opt.etag())
        with self.assertRaises(adamd.PreconditionFailed) as caught:
            self.opt.step({"w": np.ones(3)}, if_match='"e0-s0"')
        self.assertEqual(caught.exception.etag, first.etag)
        self.assertEqual(self.opt.step({"w": np.ones(3)}, if_match=first.etag).step, 2)

    def test_threads_share_a_client(self) -> None:
        self.opt.create({"w": np.zeros(1000, np.float32)})

        def work() -> None:
            for _ in range(25):
                self.opt.step({"w": np.ones(1000, np.float32)})

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.opt.summary()["step"], 100)


class Refusals(ClientCase):
    def test_refusals(self) -> None:
        self.opt.create({"w": np.zeros((3, 2), np.float32)})
        etag = self.opt.etag()
        grad = np.zeros((3, 2), np.float32)
        missing = self.client.optimizer("missing")
        cases = [
            (lambda: self.opt.create({"w": grad}), adamd.Conflict, "name-taken"),
            (lambda: missing.step({"w": grad}), adamd.NotFound, "no-such-optimizer"),
            (lambda: self.opt.step({"w": grad.T}), adamd.Unprocessable, "shape-mismatch"),
            (
                lambda: self.opt.put_params({"w": grad.astype(float)}),
                adamd.Unprocessable,
                "dtype-mismatch",
            ),
            (lambda: self.opt.step({"x": grad}), adamd.Unprocessable, "unknown-param"),
            (lambda: self.opt.step({}), adamd.Unprocessable, "empty"),
            (lambda: self.opt.step({"w": grad + np.nan}), adamd.Unprocessable, "non-finite"),
            (lambda: self.opt.put_params({}), adamd.Unprocessable, "missing-param"),
            (lambda: self.opt.patch(0, lr=-1), adamd.Unprocessable, "invalid-option"),
            (lambda: self.opt.patch(0, momentum=1), adamd.BadRequest, "unknown-field"),
            (lambda: self.opt.patch(5, lr=1), adamd.NotFound, "no-such-group"),
            (lambda: self.opt.param("x"), adamd.NotFound, "no-such-param"),
            (lambda: self.opt.state("x"), adamd.NotFound, "no-such-param"),
            (lambda: self.opt.param_groups(data="some"), adamd.BadRequest, "invalid-query"),
            (lambda: missing.create({"w": grad}, lr=-1), adamd.Unprocessable, "invalid-option"),
            (lambda: missing.create({"w": grad}, lrr=1), adamd.BadRequest, "unknown-field"),
            (
                lambda: self.client.optimizer("a b").create({"w": grad}),
                adamd.Unprocessable,
                "invalid-name",
            ),
        ]
        for call, kind, code in cases:
            with self.subTest(code), self.assertRaises(kind) as caught:
                call()
            error = caught.exception
            self.assertEqual(error.code, code)
            self.assertEqual(error.members["status"], error.status)
            self.assertTrue(error.title and error.detail)
        self.assertEqual(self.opt.etag(), etag)

    def test_members(self) -> None:
        self.opt.create({"w": np.zeros((3, 2), np.float32)})
        with self.assertRaises(adamd.Unprocessable) as caught:
            self.opt.step({"w": np.zeros((2, 3), np.float32)})
        members = caught.exception.members
        self.assertEqual(
            (members["param"], members["expected_shape"], members["got_shape"]),
            ("w", [3, 2], [2, 3]),
        )
        with self.assertRaises(ValueError):  # before it is sent: JSON has no NaN
            self.opt.patch(0, lr=float("nan"))

    def test_large_body_refused_by_its_header(self) -> None:
        """The server need not read 64 MB to say no, and the reason must arrive all the same."""
        big = np.zeros(1 << 24, np.float32)
        self.opt.create({"w": np.zeros(1)})
        for _ in range(5):
            with self.assertRaises(adamd.PreconditionFailed):
                self.opt.step({"w": big}, if_match='"e0-s0"')
            with self.assertRaises(adamd.NotFound):
                self.client.optimizer("missing").step({"w": big})
        self.assertEqual(self.opt.step({"w": np.ones(1)}).step, 1)


class State(ClientCase):
    def test_put_params(self) -> None:
        params = tensors()
        self.opt.create(params)
        before = self.opt.etag()
        params = like(params)
        self.opt.put_params(params)
        self.assertSame(self.opt.params(), params)
        self.assertNotEqual(self.opt.etag(), before)

    def test_state(self) -> None:
        self.opt.create({"w": np.zeros(4, np.float32)}, amsgrad=True)
        self.opt.step({"w": np.array([1, -2, 3, 0], np.float32)})
        state = self.opt.state("w")
        self.assertEqual((state["step"], state["exp_avg"]["data"].dtype), (1, np.float32))
        np.testing.assert_allclose(state["exp_avg"]["data"], [0.1, -0.2, 0.3, 0], rtol=1e-6)
        np.testing.assert_allclose(state["max_exp_avg_sq"]["max"], 0.009, rtol=1e-6)
        self.assertNotIn("data", self.opt.state("w", data="none")["exp_avg"])

    def test_state_dict(self) -> None:
        params = tensors()
        twin = self.client.optimizer(self.opt.name + "-twin")
        self.opt.create(params, lr=0.1, amsgrad=True)
        twin.create(params, lr=0.3, amsgrad=True)
        for _ in range(3):
            self.opt.step(like(params))
        state = self.opt.state_dict()
        self.assertEqual(state.header["step"], 3)
        self.assertSame(state.part("params"), self.opt.params())
        self.assertEqual(set(state.part("max_exp_avg_sq")), set(params))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state.safetensors"
            state.save(path)
            self.assertEqual([path], list(Path(folder).iterdir()))
            twin.load_state_dict(adamd.StateDict.load(path), "everything")
        again = twin.state_dict()
        self.assertSame(again.arrays, state.arrays)
        self.assertEqual(again.header, state.header)
        grads = like(params)
        self.assertSame(twin.step(grads).params, self.opt.step(grads).params)

    def test_load_params(self) -> None:
        params = tensors()
        twin = self.client.optimizer(self.opt.name + "-twin")
        self.opt.create(params, lr=0.1)
        twin.create(params, "adamw", lr=0.3)
        self.opt.step(like(params))
        twin.load_state_dict(self.opt.state_dict(), load="params")
        self.assertSame(twin.params(), self.opt.params())
        self.assertEqual((twin.summary()["step"], twin.param_groups()[0]["lr"]), (0, 0.3))
        with self.assertRaises(TypeError):
            twin.load_state_dict(self.opt.state_dict())  # there is no default
        with self.assertRaisesRegex(ValueError, "load is 'all', expected 'params' or 'everything'"):
            twin.load_state_dict(self.opt.state_dict(), load="all")

    def test_digest(self) -> None:
        """The digest computed here, from the state alone, is the server's; through all that a state
        can hold."""
        self.opt.create(tensors(), "adamw", lr=1, betas=(0.5, 0.75))
        seen = set()

        def compare() -> None:
            digest = self.opt.digest()
            self.assertRegex(digest, "^sha256:[0-9a-f]{64}$")
            self.assertEqual(self.opt.state_dict().digest(), digest)
            seen.add(digest)

        compare()
        self.opt.step(like(tensors()))
        compare()
        self.opt.add_param_group({"late": np.ones((2, 1, 3))}, amsgrad=True, maximize=True, eps=0.5)
        compare()
        self.opt.step({"late": np.ones((2, 1, 3))})
        compare()
        self.opt._send_json(
            "PATCH",
            "",
            {
                "grad_scale": 2,
                "max_grad_norm": 1.5,
                "norm_type": "inf",
                "error_if_nonfinite": True,
                "clip_value": 3,
                "nonfinite": "skip",
            },
        )
        compare()
        warm = {"name": "CosineAnnealingWarmRestarts", "T_0": 2}
        linear = {"name": "LinearLR", "total_iters": 1}
        cycle = {"name": "OneCycleLR", "max_lr": 1, "epochs": 3, "steps_per_epoch": 4}
        for schedule in (
            {"name": "StepLR", "step_size": 1, "gamma": 0.1},
            {"name": "MultiStepLR", "milestones": [2, 1]},
            {**cycle, "anneal_strategy": "linear", "three_phase": True},
            {"name": "SequentialLR", "schedulers": [linear, warm], "milestones": [2]},
        ):
            self.opt.patch(1, schedule=schedule)
            for _ in range(4):
                compare()
                self.opt.step({"late": np.ones((2, 1, 3))})
        self.assertEqual(len(seen), 5 + 4 * 4)
        state = self.opt.state_dict()
        state.metadata["state_dict"] = state.metadata["state_dict"].replace("{", '{"new": 1, ', 1)
        with self.assertRaisesRegex(ValueError, "has 'new', which this digest knows nothing of"):
            state.digest()


class Large(ClientCase):
    def test_16_million(self) -> None:
        n = 1 << 24
        w = RNG.standard_normal(n, dtype=np.float32)
        g = RNG.standard_normal(n, dtype=np.float32)
        self.opt.create({"w": w.reshape(4096, 4096), "b": np.zeros(3)}, lr=0.5)
        result = self.opt.step({"b": np.ones(3), "w": g.reshape(4096, 4096)})
        np.testing.assert_allclose(
            result.params["w"].ravel(), w - 0.5 * g / (abs(g) + 1e-8), rtol=1e-4, atol=1e-5
        )
        self.assertAlmostEqual(result.grad_norm / np.sqrt(float(g.astype(float) @ g) + 3), 1, 6)
        self.assertSame(self.opt.params(), result.params)
        self.opt.delete()


@unittest.skipUnless(BINARY, "ADAMD_BINARY does not name the server")
class Killed(unittest.TestCase):
    def test_killed_in_a_reply(self) -> None:
        for _ in range(5):
            server = Server()
            self.addCleanup(server.kill)
            with adamd.Client(server.url, timeout=20, max_retries=1) as client:
                opt = client.optimizer("x")
                opt.create({"w": np.zeros(1 << 24, np.float32)})
                threading.Timer(0.01 + RNG.random() * 0.02, server.process.kill).start()
                with self.assertRaises(adamd.ConnectionError):
                    for _ in range(1000):
                        opt.params()
            server.kill()

    def test_gone(self) -> None:
        server = Server()
        self.addCleanup(server.kill)
        with adamd.Client(server.url, timeout=20, max_retries=1) as client:
            opt = client.optimizer("x")
            opt.create({"w": np.zeros(4)})
            self.assertEqual(server.stop(), 0)
            with self.assertRaises(adamd.ConnectionError):
                opt.step({"w": np.zeros(4)})


if __name__ == "__main__":
    unittest.main()
