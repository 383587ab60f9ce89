"""Every byte of a small journal and of a small snapshot flipped in turn, files cut and missing: it is
detected, with file and place, or harmless; and it can be gone on from."""

import concurrent.futures
import os
import random
import re
import shutil
import threading
import time
import unittest

from crash_support import (LONG, SAFETENSORS, Client, CrashCase, NoStart, digests, floats, inspect,
                           lines_of, pack, progress)

OFTEN = 1 if LONG else 61  # each such byte is flipped
RECORD = 64


class Damage(CrashCase):
    def setUp(self):
        super().setUp()
        self.random = random.Random(7)
        self.states = {}  # name: every (step, digest) that it had
        self.copies = threading.local()

    def note(self, client, *names):
        for name in names:
            found = client.ask("GET", f"/v1/optimizers/{name}/digest").json
            self.states.setdefault(name, []).append((found["step"], found["digest"]))

    def step(self, client, name, n):
        reply = client.ask("POST", f"/v1/optimizers/{name}/step",
                           pack({"w": floats(self.random, n)}), SAFETENSORS,
                           {"Prefer": "return=minimal", "Idempotency-Key": f"{self.random.random()}"})
        self.assertEqual(reply.status, 204, reply)
        self.note(client, name)

    def ask(self, client, status, *request):
        reply = client.ask(*request)
        self.assertEqual(reply.status, status, reply)
        return reply

    def make_small(self):
        """One with a snapshot and records behind it, one with two, one with none; synced."""
        server = self.start()
        client = Client(server.port)
        for name in "abc":
            self.ask(client, 201, "PUT", f"/v1/optimizers/{name}", {"params": {"w": [0.5] * 4}})
            self.note(client, name)
            self.step(client, name, 4)
        for name in "aab":
            self.ask(client, 200, "POST", f"/v1/optimizers/{name}/snapshot")
            self.step(client, name, 4)
            self.ask(client, 200, "PATCH", f"/v1/optimizers/{name}/param_groups/0", {"lr": 0.5})
            self.note(client, name)
        time.sleep(1.3)  # what says that all of this is on disk
        client.close()
        server.kill()
        self.trim()
        return digests(self.dir)

    def journal(self):
        folder = os.path.join(self.dir, "journal")
        return [os.path.join(folder, n) for n in sorted(os.listdir(folder)) if n.endswith(".log")]

    def trim(self):
        """Cuts off the space that was asked for ahead, but some of it."""
        spare = os.path.join(self.dir, "journal", "spare")
        if os.path.exists(spare):
            os.remove(spare)
        path = self.journal()[-1]
        data = open(path, "rb").read().rstrip(b"\0")
        os.truncate(path, (len(data) + 2 * RECORD) // RECORD * RECORD)

    def snapshots(self, name):
        folder = os.path.join(self.dir, "snapshots", name)
        return [os.path.join(folder, n) for n in sorted(os.listdir(folder))]

    def on_copies(self, changes, look):
        """look(change, what --check says) of a copy of the directory for each change, a function."""
        def one(change):
            place = os.path.join(self.base, f"copy{threading.get_ident()}")
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(self.dir, place)
            change(place)
            look(change, *inspect(place, "--check", "--threads", "1"))

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(one, change) for change in changes]:
                done.result()

    def flips(self, path):
        relative = os.path.relpath(path, self.dir)

        def flip_at(offset, bit):
            def change(place):
                with open(os.path.join(place, relative), "r+b") as f:
                    f.seek(offset)
                    byte = f.read(1)[0]
                    f.seek(offset)
                    f.write(bytes([byte ^ (1 << bit)]))
            change.what = f"{relative}, bit {bit} of byte {offset}"
            return change

        size = os.path.getsize(path)
        return [flip_at(k, self.random.randrange(8)) for k in range(self.random.randrange(OFTEN), size,
                                                                    OFTEN)]

    def test_a_flipped_bit_of_the_journal_is_noticed_or_harmless(self):
        whole = self.make_small()
        path = self.journal()[0]
        noticed = []

        def look(change, status, out, err):
            if status == 0:
                self.assertEqual(lines_of(out), whole, f"{change.what}: {out}{err}")
            else:
                self.assertRegex(err, re.escape(os.path.basename(path)) + r", offset \d+: ",
                                 change.what)
                self.assertIn("--recover-to-last-good", err)
                noticed.append(change)

        changes = self.flips(path)
        self.on_copies(changes, look)
        progress(f"journal: {len(changes)} bits flipped, {len(noticed)} noticed")
        self.assertGreater(len(noticed), len(changes) // 2)

    def test_a_flipped_bit_of_a_snapshot_is_noticed_and_the_older_one_serves(self):
        whole = self.make_small()
        path = self.snapshots("a")[-1]

        def look(change, status, out, err):
            self.assertEqual(status, 1, f"{change.what}: {out}{err}")
            self.assertEqual(lines_of(out), whole, f"{change.what}: {out}{err}")
            self.assertIn(os.path.basename(path), err)
            self.assertRegex(err, r"offset|byte|at \d+", change.what)

        changes = self.flips(path)
        self.on_copies(changes, look)
        progress(f"snapshot: {len(changes)} bits flipped")
        changes[0](self.dir)
        server = self.start()
        client = Client(server.port)
        self.assertEqual(client.ask("GET", "/v1/optimizers/a/digest").json["digest"], whole["a"][1])
        client.close()
        server.kill()

    def check_states(self, what, status, out, err):
        """It does not go on, and says where; or every optimizer is as it was once."""
        if status != 0:
            self.assertRegex(err, r"journal|snapshots/", what)
            return
        for name, state in lines_of(out).items():
            self.assertIn(state, self.states[name], f"{what}: {name} never was like that; {err}")

    def test_a_journal_that_is_cut_ends_at_a_state_that_was(self):
        self.make_small()
        relative = os.path.relpath(self.journal()[0], self.dir)
        size = os.path.getsize(self.journal()[0])

        def cut_at(length):
            def change(place):
                os.truncate(os.path.join(place, relative), length)
            change.what = f"{relative} cut to {length} bytes"
            return change

        def look(change, *said):
            self.check_states(change.what, *said)

        self.on_copies([cut_at(k) for k in range(0, size, OFTEN)], look)

    def test_a_snapshot_that_is_cut_or_missing_is_not_needed(self):
        whole = self.make_small()
        relative = os.path.relpath(self.snapshots("a")[-1], self.dir)
        size = os.path.getsize(self.snapshots("a")[-1])

        def cut_at(length):
            def change(place):
                if length < 0:
                    os.remove(os.path.join(place, relative))
                else:
                    os.truncate(os.path.join(place, relative), length)
            change.what = f"{relative} cut to {length} bytes"
            return change

        def look(change, status, out, err):
            self.assertEqual(lines_of(out), whole, f"{change.what}: {out}{err}")

        self.on_copies([cut_at(k) for k in range(-1, size, OFTEN)], look)

    def make_segments(self):
        """Some segments, of which the first is needed."""
        server = self.start()
        client = Client(server.port)
        n = 2_000_000
        self.ask(client, 201, "PUT", "/v1/optimizers/small", {"params": {"w": [0.5] * 4}})
        self.note(client, "small")
        for _ in range(3):
            self.step(client, "small", 4)
        self.ask(client, 201, "PUT", "/v1/optimizers/big",
                 pack({"w": floats(self.random, n)}, {"optimizer": "{}"}), SAFETENSORS)
        self.note(client, "big")
        for _ in range(20):
            self.step(client, "big", n)
        self.step(client, "small", 4)
        time.sleep(1.3)
        client.close()
        server.kill()
        self.trim()
        self.assertGreater(len(self.journal()), 2)
        return digests(self.dir)

    def test_a_segment_that_is_missing_is_noticed(self):
        self.make_segments()
        for path in self.journal()[:-1]:
            os.rename(path, path + ".away")
            status, out, err = inspect(self.dir, "--check")
            self.assertNotEqual(status, 0, f"{path} is missing: {out}{err}")
            self.assertIn("journal", err)
            with self.assertRaises(NoStart) as caught:
                self.start()
            self.assertEqual(caught.exception.status, 2)
            self.assertIn("--recover-to-last-good", caught.exception.said)
            os.rename(path + ".away", path)
        os.remove(self.journal()[1])
        server = self.start("--recover-to-last-good")
        client = Client(server.port)
        self.assertIn("cut off", server.log())
        for name in ("small", "big"):
            found = client.ask("GET", f"/v1/optimizers/{name}/digest").json
            self.assertIn((found["step"], found["digest"]), self.states[name])
        self.step(client, "small", 4)
        server.kill()
        self.assertEqual(digests(self.dir)["small"], self.states["small"][-1])
        client.close()

    def test_the_end_of_the_journal_is_missing_behind_snapshots(self):
        whole = self.make_small()
        path = self.journal()[0]
        os.truncate(path, RECORD * 20)
        status, out, err = inspect(self.dir, "--check")
        self.assertNotEqual(status, 0, out + err)
        self.assertIn("snapshot", err)
        server = self.start("--recover-to-last-good")
        client = Client(server.port)
        for name in "ab":
            found = client.ask("GET", f"/v1/optimizers/{name}/digest").json
            self.assertIn((found["step"], found["digest"]), self.states[name])
            self.step(client, name, 4)
        client.close()
        server.kill()
        found = digests(self.dir)
        for name in "ab":
            self.assertEqual(found[name], self.states[name][-1])
        self.assertEqual(set(whole) - set(found) - {"c"}, set())


if __name__ == "__main__":
    unittest.main()
