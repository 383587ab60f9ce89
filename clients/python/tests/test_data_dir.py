"""Snapshots, rollback and forks, with a server that has a data directory and one that has none."""

import tempfile
import unittest

from support import ClientCase, Server
import adamd


class WithoutDirectory(ClientCase):
    def test_refused(self) -> None:
        self.opt.create({"w": [1.0, 2.0]})
        for call in (self.opt.snapshot, lambda: self.opt.rollback(0), lambda: self.opt.fork("g")):
            with self.assertRaises(adamd.Conflict) as caught:
                call()
            self.assertEqual(caught.exception.code, "no-data-dir")


class WithDirectory(ClientCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.server = Server("--data-dir", cls.folder.name)

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        cls.folder.cleanup()

    def test_back_and_forth(self) -> None:
        """Every step is there again to the bit; a fork goes its own way."""
        self.opt.create({"w": [1.0, 2.0]}, lr=0.1)
        digests = [self.opt.digest()]
        for i in range(3):
            self.opt.step({"w": [0.5 + i, -1.0]})
            digests.append(self.opt.digest())
        self.assertEqual(self.opt.snapshot()["step"], 3)
        summary = self.opt.fork("fork", 1)
        self.assertEqual((summary["name"], summary["step"]), ("fork", 1))
        fork = self.client.optimizer("fork")
        self.assertEqual(fork.digest(), digests[1])
        self.opt.fork("now")
        self.assertEqual(self.client.optimizer("now").digest(), digests[3])
        etag = self.opt.etag()
        summary = self.opt.rollback(2)
        self.assertEqual((summary["name"], summary["step"]), (self.opt.name, 2))
        self.assertEqual(self.opt.digest(), digests[2])
        self.assertNotEqual(self.opt.etag().split("-")[0], etag.split("-")[0])
        self.opt.step({"w": [2.5, -1.0]})
        self.assertEqual(self.opt.digest(), digests[3])
        self.assertEqual(fork.digest(), digests[1])

    def test_refused(self) -> None:
        self.opt.create({"w": [1.0, 2.0]})
        with self.assertRaises(adamd.Conflict) as caught:
            self.opt.rollback(5)
        self.assertEqual(caught.exception.code, "no-such-step")
        with self.assertRaises(adamd.Conflict) as caught:
            self.opt.fork(self.opt.name)
        self.assertEqual(caught.exception.code, "name-taken")
        with self.assertRaises(adamd.Unprocessable):
            self.opt.fork("no name")
        with self.assertRaises(TypeError):
            self.opt.rollback(1.5)  # type: ignore[arg-type]


if __name__ == "__main__":
    unittest.main()
