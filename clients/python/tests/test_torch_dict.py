"""The conversion between torch's state_dict and adamd's, without torch: on what torch gave once
(golden/make_torch_states.py), and with a real server between."""

import copy
import json
import unittest
from pathlib import Path

import numpy as np

from support import ServerCase
import adamd
from adamd import _torch_dict

GOLDEN = Path(__file__).parent / "golden" / "torch_states.json"


def array(value: dict) -> "np.ndarray":
    data = np.frombuffer(bytes.fromhex(value["hex"]), value["dtype"])
    return data.reshape(value["shape"])


def arrays(values: dict) -> dict:
    return {name: array(value) for name, value in values.items()}


def torch_state(golden: dict) -> dict:
    """As torch has it: integer ids, tuples of betas; arrays in place of tensors."""
    state = {int(key): arrays(entry) for key, entry in golden["state"].items()}
    groups = copy.deepcopy(golden["param_groups"])
    for group in groups:
        group["betas"] = tuple(group["betas"])
    return {"state": state, "param_groups": groups}


def cases() -> list:
    return json.loads(GOLDEN.read_text(encoding="ascii"))["cases"]


def to_adamd(state: dict, params: dict, case: dict, **changes) -> adamd.StateDict:
    names = [name for group in case["groups"] for name in group]
    options = {"names": names, "algorithm": None, "step": None, "copy": False, **changes}
    return _torch_dict.to_adamd(state, params, **options)


class Golden(ServerCase):
    def assertSame(self, got: dict, expected: dict) -> None:
        """Two of torch's state_dicts, by bits."""
        self.assertEqual(set(got["state"]), set(expected["state"]))
        for key, entry in expected["state"].items():
            self.assertEqual(set(got["state"][key]), set(entry))
            for kind, value in entry.items():
                own = got["state"][key][kind]
                self.assertEqual((own.dtype, own.shape), (value.dtype, value.shape), (key, kind))
                self.assertEqual(own.tobytes(), value.tobytes(), (key, kind))
        self.assertEqual(got["param_groups"], expected["param_groups"])

    def test_there_and_back(self) -> None:
        """A state of torch's becomes the same one again."""
        for i, case in enumerate(cases()):
            for at in ("10", "20"):
                with self.subTest(case=i, at=at):
                    state = torch_state(case["torch" + at])
                    converted = to_adamd(state, arrays(case["params" + at]), case)
                    self.assertEqual(converted.header["algorithm"], case["algorithm"])
                    self.assertEqual(converted.header["step"], int(at))
                    self.assertSame(_torch_dict.to_torch(converted, case["groups"], False), state)

    def test_through_the_server(self) -> None:
        """10 steps of torch's, gone on with by adamd, are 20 steps of torch's."""
        with adamd.Client(self.server.url, timeout=60) as client:
            for i, case in enumerate(cases()):
                with self.subTest(case=i):
                    handle = client.optimizer(f"golden-{i}")
                    state = to_adamd(torch_state(case["torch10"]), arrays(case["params10"]), case)
                    groups = state.header["param_groups"]
                    handle.create(state.part("params"), case["algorithm"], groups)
                    handle.load_state_dict(state, "everything")
                    self.assertEqual(handle.digest(), state.digest())
                    for grads in case["grads"]:
                        handle.step(arrays(grads))
                    for name, value in arrays(case["params20"]).items():
                        self.assertEqual(handle.param(name).tobytes(), value.tobytes(), name)
                    self.assertSame(
                        _torch_dict.to_torch(handle.state_dict(), case["groups"], False),
                        torch_state(case["torch20"]),
                    )


class Names(unittest.TestCase):
    def setUp(self) -> None:
        self.case = cases()[0]
        self.state = torch_state(self.case["torch10"])
        self.params = arrays(self.case["params10"])

    def convert(self, **changes) -> adamd.StateDict:
        return to_adamd(self.state, self.params, self.case, **changes)

    def test_names_in_the_groups(self) -> None:
        with self.assertRaisesRegex(ValueError, "integer ids alone: give names"):
            self.convert(names=None)
        for group, names in zip(self.state["param_groups"], self.case["groups"]):
            group["param_names"] = names
        self.assertEqual(self.convert(names=None).digest(), self.convert().digest())

    def test_an_older_torch(self) -> None:
        """Groups without decoupled_weight_decay do not say whose they are."""
        for group in self.state["param_groups"]:
            for key in ("decoupled_weight_decay", "foreach", "fused", "maximize"):
                del group[key]
        with self.assertRaisesRegex(ValueError, "say which it is"):
            self.convert()
        self.assertEqual(self.convert(algorithm="adamw").header["algorithm"], "adamw")

    def test_step(self) -> None:
        """torch has no count of the optimizer: the largest of its parameters, or what is said."""
        self.assertEqual(self.convert(step=12).header["step"], 12)
        with self.assertRaisesRegex(ValueError, "step is 9, but a parameter has taken 10"):
            self.convert(step=9)

    def test_refused(self) -> None:
        names = [name for group in self.case["groups"] for name in group]
        for text, changes in (
            ("4 names, expected 5", {"names": names[:4]}),
            ("'a.weight' stands twice", {"names": ["a.weight", *names[:4]]}),
            ("there is no parameter 'x'", {"names": ["x", *names[1:]]}),
            ("says 'adam'", {"algorithm": "adamw"}),
            ("expected 'adam' or 'adamw'", {"algorithm": "sgd"}),
        ):
            with self.subTest(text), self.assertRaisesRegex(ValueError, text):
                self.convert(**changes)
        self.state["state"][99] = {}
        with self.assertRaisesRegex(ValueError, "state of parameter 99, which no param group has"):
            self.convert()

    def test_groups(self) -> None:
        """Names for torch's groups: the order within a group is theirs, the groups are the same."""
        state = self.convert()
        swapped = [list(reversed(names)) for names in self.case["groups"]]
        converted = _torch_dict.to_torch(state, swapped, False)
        self.assertEqual(converted["param_groups"][0]["params"], [0, 1, 2])
        weight = state.arrays["exp_avg/a.weight"]
        self.assertEqual(converted["state"][2]["exp_avg"].tobytes(), weight.tobytes())
        one, other = self.case["groups"]
        for kind, text, names in (
            (TypeError, "a list of names for each", [*one, *other]),
            (ValueError, "has 2 param groups, expected 1", [[*one, *other]]),
            (
                ValueError,
                "param group 0 .*: not in torch's: 'late'; missing",
                [["x", *one[:2]], other],
            ),
            (
                ValueError,
                "param group 1 of torch's names a parameter twice",
                [one, [*other, *other]],
            ),
        ):
            with self.subTest(text), self.assertRaisesRegex(kind, text):
                _torch_dict.to_torch(state, names, False)

    def test_own_options(self) -> None:
        """What torch's Adam does not have is left behind only where that is asked for."""
        for key, value, default in (("bias_correction", False, True), ("buffers", True, False)):
            state = self.convert()
            header = state.header
            header["param_groups"][1][key] = default
            state.metadata["state_dict"] = json.dumps(header)
            plain = _torch_dict.to_torch(state, None, False)["param_groups"]
            header["param_groups"][1][key] = value
            state.metadata["state_dict"] = json.dumps(header)
            with self.assertRaisesRegex(ValueError, f"param group 1 has {key}={value}, which"):
                _torch_dict.to_torch(state, None, False)
            self.assertEqual(_torch_dict.to_torch(state, None, True)["param_groups"], plain)

    def test_long_training(self) -> None:
        """adamd counts past where torch's float32 count stands still."""
        state = self.convert()
        header = state.header
        header["step"] = header["steps"]["a.weight"] = 1 << 24
        state.metadata["state_dict"] = json.dumps(header)
        with self.assertRaisesRegex(ValueError, "stands still at 16777216"):
            _torch_dict.to_torch(state, None, False)
        wide = _torch_dict.to_torch(state, None, False, counter=np.float64)
        self.assertEqual(float(wide["state"][0]["step"]), 1 << 24)

    def test_state_before_the_first_step(self) -> None:
        """At step 0, moments of zero are no state of torch's, others are one."""
        state = self.convert()
        self.assertNotIn(2, _torch_dict.to_torch(state, None, False)["state"])
        state.arrays["exp_avg/late"] = np.array([[0.0], [-0.0]], np.float32)
        entry = _torch_dict.to_torch(state, None, False)["state"][2]
        self.assertEqual(
            (float(entry["step"]), entry["exp_avg"].tobytes()[-4:]), (0, b"\0\0\0\x80")
        )


if __name__ == "__main__":
    unittest.main()
