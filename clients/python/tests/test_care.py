"""What is done with gradients, the four types, and schedules, against a server."""

import math
import unittest

from support import ClientCase
import numpy as np
import adamd
from adamd import _settings

try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None
try:
    import torch
except ImportError:
    torch = None


class Settings(ClientCase):
    def test_configure(self) -> None:
        summary = self.opt.create(
            {"w": np.zeros(2)}, lr=0.1, clip_value=2, nonfinite="skip", norm_type=math.inf
        )
        self.assertEqual(
            (summary["clip_value"], summary["nonfinite"], summary["norm_type"], summary["skipped"]),
            (2, "skip", "inf", 0),
        )
        self.assertEqual(summary["defaults"]["lr"], 0.1)
        summary = self.opt.configure(clip_value=None, max_grad_norm=3, norm_type=2)
        self.assertEqual(
            (summary["clip_value"], summary["max_grad_norm"], summary["norm_type"]), (None, 3, 2)
        )
        self.assertIsNone(self.opt.configure(max_grad_norm=math.inf)["max_grad_norm"])
        for wrong, kind in (
            ({"lr": 1}, adamd.BadRequest),
            ({"clip_value": 0}, adamd.Unprocessable),
        ):
            with self.assertRaises(kind):
                self.opt.configure(**wrong)

    def test_step(self) -> None:
        self.opt.create({"w": np.zeros(2), "v": np.zeros(1)}, betas=(0, 0.999), clip_value=1)
        result = self.opt.step(
            {"w": np.array([6.0, 8.0]), "v": np.zeros(1)},
            grad_scale=2, max_grad_norm=2.5, norm_type=2, clip_value=math.inf,
        )  # fmt: skip
        self.assertEqual((result.grad_norm, result.skipped, result.converted), (5, False, 0))
        self.assertAlmostEqual(result.clip_coef, 0.5, 6)
        self.assertEqual(result.groups, [
            {"grad_norm": 5, "param_norm": result.param_norm, "update_norm": result.update_norm,
             "clip_coef": result.clip_coef}])  # fmt: skip
        np.testing.assert_allclose(self.opt.state("w")["exp_avg"]["data"], [1.5, 2], rtol=1e-6)
        self.opt.step({"w": np.array([6.0, 0.5])})
        self.assertEqual(self.opt.state("w")["exp_avg"]["data"].tolist(), [1, 0.5])
        self.opt.step({"w": np.array([6.0, 8.0])}, max_grad_norm=4, norm_type="inf", clip_value=9)
        np.testing.assert_allclose(self.opt.state("w")["exp_avg"]["data"], [3, 4], rtol=1e-6)

    def test_not_finite(self) -> None:
        self.opt.create({"w": np.ones(2)})
        bad = {"w": np.array([1, np.nan])}
        with self.assertRaises(adamd.Unprocessable) as caught:
            self.opt.step(bad)
        self.assertEqual(
            (caught.exception.code, caught.exception.members["index"]), ("non-finite", 1)
        )
        result = self.opt.step(bad, nonfinite="skip")
        self.assertEqual((result.step, result.skipped, result.update_norm), (0, True, 0))
        self.assertTrue(math.isnan(result.grad_norm) and math.isnan(result.groups[0]["grad_norm"]))
        self.assertEqual(result.params["w"].tolist(), [1, 1])
        etag = self.opt.etag()
        minimal = self.opt.step(bad, nonfinite="skip", minimal=True, if_match=etag)
        self.assertEqual(minimal.etag, etag)  # by which to tell that it was skipped
        self.assertEqual(
            (minimal.step, minimal.skipped, minimal.converted, minimal.groups),
            (0, None, None, None),
        )
        self.assertEqual(self.opt.summary()["skipped"], 2)
        with self.assertRaisesRegex(adamd.Unprocessable, "total norm"):
            self.opt.step(bad, nonfinite="apply", max_grad_norm=1, error_if_nonfinite=True)
        self.assertTrue(np.isnan(self.opt.step(bad, nonfinite="apply").params["w"][1]))
        for wrong in ({"nonfinite": "ignore"}, {"grad_scale": 0}, {"norm_type": 3}):
            with self.subTest(wrong), self.assertRaises(adamd.Unprocessable):
                self.opt.step({"w": np.ones(2)}, **wrong)


class Types(ClientCase):
    def test_float16(self) -> None:
        self.opt.create({"w": np.array([0.1, 2], np.float16), "d": np.zeros(1)}, lr=0)
        self.assertEqual(self.opt.param("w").dtype, np.float32)
        result = self.opt.step({"w": np.ones(2, np.float16), "d": np.ones(1, np.float32)})
        self.assertEqual((result.converted, result.params["d"].dtype), (2, np.float64))
        result = self.opt.step({"w": np.ones(2, np.float32)}, dtype=np.float16)
        self.assertEqual((result.converted, result.params["w"].dtype), (0, np.float16))
        self.assertSame(self.opt.params("f16"), {
            "w": np.array([0.1, 2], np.float16), "d": np.zeros(1, np.float16)})  # fmt: skip
        self.assertEqual(self.opt.param("w", dtype="float64").dtype, np.float64)

    def test_bfloat16(self) -> None:
        """With ml_dtypes, arrays of its type; without it, float32 of the same values."""
        self.opt.create({"w": np.array([0.1, -2], np.float32)}, lr=0)
        got = self.opt.param("w", dtype="bfloat16")
        self.assertEqual(got.dtype.name, "float32" if ml_dtypes is None else "bfloat16")
        self.assertEqual(got.astype(np.float32).tolist(), [0.10009765625, -2])
        self.assertEqual(
            self.opt.step({"w": np.ones(2, np.float32)}, dtype="bf16").params["w"].tolist(),
            got.tolist(),
        )

    @unittest.skipUnless(ml_dtypes, "ml_dtypes is not installed")
    def test_ml_dtypes(self) -> None:
        w = np.array([[0.1, -2]], ml_dtypes.bfloat16)
        self.opt.create({"w": w}, lr=0)
        self.opt.add_param_group({"x": w})
        result = self.opt.step({"w": w, "x": w}, dtype=ml_dtypes.bfloat16)
        self.assertEqual(result.converted, 2)
        for name in "wx":
            self.assertEqual(result.params[name].tobytes(), w.tobytes())

    @unittest.skipUnless(torch, "torch is not installed")
    def test_torch_tensors(self) -> None:
        w = torch.tensor([[0.1, -2]], dtype=torch.bfloat16)
        self.opt.create({"w": w}, lr=0)
        grad = torch.tensor([[1.0], [0.3]], dtype=torch.bfloat16).T
        self.assertEqual(self.opt.step({"w": grad}, dtype=torch.bfloat16).converted, 1)
        self.assertEqual(self.opt.param("w").tolist(), w.float().tolist())
        self.assertEqual(
            self.opt.state("w")["exp_avg"]["data"].tolist(),
            torch.zeros(1, 2).lerp(grad.float(), 0.1).tolist(),
        )

    @unittest.skipUnless(torch, "torch is not installed")
    def test_torch_gradients(self) -> None:
        """Of each type, as they come: not row-major, with requires_grad, by value exact."""
        values = [[1.0, -0.5, 3], [0.25, 2, -1]]
        for name, converted in (("float16", 1), ("bfloat16", 1), ("float32", 0), ("float64", 1)):
            with self.subTest(name):
                opt = self.client.optimizer(f"{self.opt.name}-{name}")
                opt.create({"w": torch.nn.Parameter(torch.zeros(3, 2)), "s": torch.zeros(())})
                dtype = getattr(torch, name)
                grad = torch.tensor(values, dtype=dtype, requires_grad=True).T
                scalar = torch.tensor(2.0, dtype=dtype)
                result = opt.step({"w": grad, "s": scalar}, dtype=dtype)
                self.assertEqual(result.converted, 2 * converted)
                moment = opt.state("w")["exp_avg"]["data"]
                np.testing.assert_allclose(moment, np.array(values).T / 10, rtol=1e-6)
        self.opt.create({"w": np.zeros(1)})
        self.opt.add_param_group({"p": torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))})
        self.assertSame({"p": self.opt.param("p")}, {"p": np.ones(2, np.float32)})
        with self.assertRaisesRegex(TypeError, "'w' has dtype int64, expected float32"):
            self.opt.step({"w": torch.ones(1, dtype=torch.int64)})

    def test_names_of_types(self) -> None:
        for given, sent in (("f32", "f32"), ("bfloat16", "bf16"), (np.float64, "f64"),
                            (np.dtype(">f2"), "f16"), (float, "f64"), (None, None)):  # fmt: skip
            self.assertEqual(_settings.wire_dtype(given), sent)
        for wrong in ("int8", np.int32, object(), 16, "F32"):
            with self.subTest(wrong), self.assertRaises(ValueError):
                _settings.wire_dtype(wrong)


class Schedules(ClientCase):
    def test_schedules(self) -> None:
        half = {"name": "ExponentialLR", "gamma": 0.5}
        ones = np.ones(1)
        self.opt.create(
            {"u": ones, "v": ones},
            param_groups=[{"params": ["u"]}, {"params": ["v"], "schedule": None}],
            schedule=half,
            lr=4,
        )
        self.opt.add_param_group({"w": ones}, lr=2, schedule=half)
        self.opt.step({"u": ones})
        self.assertEqual([g["lr"] for g in self.opt.param_groups()], [2, 4, 1])
        self.assertEqual(self.opt.param_groups()[0]["schedule"], {**half, "last_epoch": 1})
        self.assertEqual(self.opt.patch(1, lr=8, schedule=half)["initial_lr"], 8)
        self.assertNotIn("schedule", self.opt.patch(0, schedule=None))
        self.opt.step({"u": ones}, param_groups=[{}, {}, {"lr": 6}])
        self.assertEqual([g["lr"] for g in self.opt.param_groups()], [2, 4, 3])
        with self.assertRaises(adamd.Unprocessable) as caught:
            self.opt.patch(0, schedule={"name": "StepLR", "step_size": 0})
        self.assertEqual(caught.exception.code, "invalid-schedule")


if __name__ == "__main__":
    unittest.main()
