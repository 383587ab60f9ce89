"""Names that Python's str can hold and UTF-8 cannot, which is what travels."""

import tempfile
import unittest
from pathlib import Path

from support import ClientCase
import numpy as np
import adamd
from adamd import _text

LONE = "w\udc80"


class Names(ClientCase):
    def test_refused(self) -> None:
        """Before anything is sent, and with the name as Python shows it."""
        w = np.zeros(2, np.float32)
        self.opt.create({"w": w})
        before = self.opt.digest()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "state.safetensors"
        state = self.opt.state_dict()
        state.arrays["params/" + LONE] = w
        missing = self.client.optimizer("missing")
        for what, call in (
            ("create", lambda: missing.create({LONE: w})),
            ("group", lambda: missing.create({"w": w}, param_groups=[{"params": [LONE]}])),
            ("step", lambda: self.opt.step({LONE: w})),
            ("add", lambda: self.opt.add_param_group({LONE: w})),
            ("put", lambda: self.opt.put_params({LONE: w})),
            ("load", lambda: self.opt.load_state_dict(state, "params")),
            ("restore", lambda: missing.restore(state)),
            ("save", lambda: state.save(self.path)),
            ("param", lambda: self.opt.param(LONE)),
            ("state", lambda: self.opt.state(LONE)),
            ("optimizer", lambda: self.client.optimizer(LONE)),
            ("list", lambda: self.client.list(LONE)),
        ):
            with self.subTest(what):
                with self.assertRaisesRegex(ValueError, r"w\\udc80' .* lone surrogate") as caught:
                    call()
                self.assertIs(type(caught.exception), ValueError)
        with self.assertRaisesRegex(ValueError, "metadata 'state_dict', .* lone surrogate"):
            adamd.StateDict({}, {"state_dict": LONE}).save(self.path)
        self.assertEqual(list(self.path.parent.iterdir()), [])
        self.assertEqual(self.opt.digest(), before)
        self.assertEqual([s["name"] for s in self.client.list("missing")], [])

    def test_worker(self) -> None:
        self.opt.create({"w": np.zeros(1)})
        for worker in ("\u2603", LONE):
            with self.assertRaisesRegex(ValueError, "worker is '.*', expected visible ASCII"):
                self.opt.step({"w": np.ones(1)}, worker=worker)


class Texts(unittest.TestCase):
    def test_utf8(self) -> None:
        self.assertEqual(_text.utf8("the name", "\u00e9\U0001f600"), b"\xc3\xa9\xf0\x9f\x98\x80")

    def test_long(self) -> None:
        """Of a long text, what is around the place."""
        with self.assertRaises(ValueError) as caught:
            _text.utf8("the text", "a" * 1000 + "\ud800" + "b" * 1000)
        self.assertIn("its character 1000, '\\ud800'", str(caught.exception))
        self.assertLess(len(str(caught.exception)), 250)


if __name__ == "__main__":
    unittest.main()
