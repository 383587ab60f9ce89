"""Every call that changes the data directory fails in turn, and every allocation: what is asked is
refused or done, never half of it, and after a start without faults it is what was acknowledged."""

import errno
import itertools
import mmap
import os
import random
import shutil
import struct
import time
import unittest

import workload
from crash_support import (GONE, LONG, SEED, Client, CrashCase, NoStart, Server, progress, wait_until)

FAULTY = os.environ.get("ADAMD_FAULTY")
STEP = 1 if LONG else 19  # each such call fails
WRITES, SYNCS, NAMES, MEMORY, LENGTHS = 1, 2, 4, 8, 16
ALWAYS = 1 << 30


class Faults:
    """What faulty.c reads."""

    def __init__(self, base, data_dir):
        self.path = os.path.join(base, "control")
        with open(self.path, "wb") as f:
            f.write(bytes(32))
        self._file = open(self.path, "r+b")
        self._map = mmap.mmap(self._file.fileno(), 32)
        self.env = {"LD_PRELOAD": FAULTY, "FAULTY_DIR": data_dir, "FAULTY_CONTROL": self.path}

    def arm(self, kinds, error, after=1, times=1, torn=0):
        self._map[0:32] = struct.pack("<IIIIiiII", 0, kinds, error, torn, after, times, 0, 0)
        self._map[0:4] = struct.pack("<I", 1)

    def disarm(self):
        self._map[0:4] = bytes(4)
        return struct.unpack_from("<I", self._map, 28)[0]

    def close(self):
        self._map.close()
        self._file.close()


class Careful(workload.Actor):
    """Goes on when it is refused; after a failure of the disk, for as long as the server would."""

    def __init__(self, case, mirror, *arguments, **options):
        super().__init__(*arguments, **options)
        self.case, self.mirror, self.refusals = case, mirror, []
        self.failed = False
        self.may_be_cut_off = False

    def settle(self, kept, reply, status, after, allowed=()):
        if reply.status < 500 and reply.status not in (413,):
            super().settle(kept, reply, status, after, allowed)
            return
        self.refusals.append(reply.status)
        self.case.assertIn(reply.status, (503, 507), reply)
        self.case.assertIn("problem", reply.headers["Content-Type"])
        ready = self.clients[0].ask("GET", "/readyz")
        code = reply.json["type"].rpartition(":")[2]
        if code == "disk-failed" and ready.status == 503:
            self.failed = True  # it may be there after the next start, or not
            return
        found = workload.state_of(self.clients[0], kept)
        self.case.assertEqual(found, self.mirror.expected(kept, kept.log),
                              f"{kept.name} has changed, but the answer was {reply}")
        kept.unsure = False

    def snapshot(self, kept):
        reply = self.clients[0].ask("POST", kept.path + "/snapshot")
        self.case.assertIn(reply.status, (200, 503, 507), reply)

    def scenario(self):
        """A little of everything; ends where the disk has failed."""
        plain, other, buffered = self.kept
        todo = [(self.create, plain), (self.create, buffered), (self.take_step, plain),
                (self.take_step, buffered), (self.patch, plain), (self.snapshot, plain),
                (self.take_step, plain), (self.put_params, plain), (self.take_step, buffered),
                (self.snapshot, buffered), (self.take_step, buffered), (self.rollback, plain),
                (self.take_step, plain), (self.fork, plain), (self.take_step, other),
                (self.take_step, plain), (self.remove, buffered), (self.create, buffered),
                (self.take_step, buffered), (self.grow, plain), (self.take_step, plain)]
        for act, one in todo:
            if self.failed:
                return
            if (one.log is None) != (act == self.create):  # something before was refused
                continue
            try:
                act(one)
            except GONE:  # an answer may be lost where there is no memory for it
                if not self.may_be_cut_off:
                    raise
                self.refusals.append(0)
                for kept in self.kept:
                    workload.find_out(self.case, self.clients[0], self.mirror, kept, False)


@unittest.skipUnless(FAULTY, "ADAMD_FAULTY does not name the library of faults")
class FaultsCase(CrashCase):
    numbers = itertools.count(0, 10000)

    def setUp(self):
        super().setUp()
        self.server = self.mirror()
        self.mirrored = workload.Mirror(self.server.port)
        self.addCleanup(self.mirrored.close)
        os.mkdir(self.dir, 0o700)
        self.faults = Faults(self.base, self.dir)
        self.addCleanup(self.faults.close)

    def make_kept(self, rng, number):
        return [workload.Kept(f"n{number}{name}", 200, kind, rng)
                for name, kind in (("plain", "plain"), ("other", "plain"),
                                   ("buffered", "buffered"))]

    def one(self, number, fsync, kinds, error, after, times, torn):
        """True: the call came."""
        what = f"kinds {kinds}, error {error}, call {after}, {times} times, --fsync {fsync}"
        rng = random.Random(SEED)
        shutil.rmtree(self.dir)
        os.mkdir(self.dir, 0o700)
        server = self.start("--fsync", fsync, env=self.faults.env)
        kept = self.make_kept(rng, number)
        actor = Careful(self, self.mirrored, server.port, kept, rng)
        actor.may_be_cut_off = kinds == MEMORY
        self.faults.arm(kinds, error, after, times, torn)
        try:
            actor.scenario()
        except GONE:
            time.sleep(0.5)
            self.fail(f"{what}: the server ended, with status {server.process.poll()}")
        except AssertionError as found:
            raise AssertionError(f"{what}: {found}") from None
        came = self.faults.disarm() > 0
        client = Client(server.port)
        for some in kept:  # reads go on
            if some.log is not None and not some.unsure:
                self.assertIsNotNone(workload.state_of(client, some), what)
        if actor.failed:
            self.assertEqual(client.ask("PUT", "/v1/optimizers/x", {"params": {"w": [1]}}).status,
                             503, what)
        elif error == errno.ENOSPC:
            wait_until(lambda: client.ask("GET", "/readyz").status == 200, 5, "space, " + what)
        client.close()
        for one in actor.clients:
            one.close()
        if number % 2:
            server.kill()
        else:
            server.stop()
        try:
            again = self.start()
        except NoStart as said:
            self.fail(f"{what}: {said}")
        client = Client(again.port)
        for some in kept:
            try:
                workload.find_out(self, client, self.mirrored, some, False)
            except AssertionError as found:
                raise AssertionError(f"{what}: {found}") from None
        client.close()
        again.kill()
        return came

    def each_call(self, fsync, kinds, error, times=1, torn=0, first=None):
        number = 0
        begin = next(self.numbers)
        after = first or 1 + SEED % STEP
        while self.one(begin + number, fsync, kinds, error, after, times, torn):
            number += 1
            after += STEP
        progress(f"kinds {kinds}, error {error}: up to call {after}")
        self.assertGreater(number, 0)

    def test_writes_without_space(self):
        self.each_call("everysec", WRITES, errno.ENOSPC)
        self.each_call("everysec", WRITES, errno.ENOSPC, torn=1)

    def test_writes_that_fail(self):
        self.each_call("everysec", WRITES | LENGTHS, errno.EIO)
        self.each_call("everysec", WRITES, errno.EIO, torn=1)

    def test_syncs_that_fail(self):
        self.each_call("always", SYNCS, errno.EIO)

    def test_names_that_fail(self):
        self.each_call("everysec", NAMES, errno.EIO)
        self.each_call("everysec", NAMES, errno.ENOSPC)

    def test_allocations_that_fail(self):
        self.each_call("everysec", MEMORY, errno.ENOMEM)

    def test_a_full_disk_and_space_again(self):
        server = self.start(env=self.faults.env)
        rng = random.Random(SEED)
        kept = workload.Kept("full", 300_000, "plain", rng)
        actor = Careful(self, self.mirrored, server.port, [kept], rng)
        actor.create(kept)
        actor.take_step(kept)
        self.faults.arm(WRITES, errno.ENOSPC, 1, ALWAYS)
        for _ in range(80):  # through the space that was asked for ahead
            actor.take_step(kept)
        self.assertIn(507, actor.refusals, server.log())
        self.assertFalse(actor.failed)
        client = Client(server.port)
        self.assertEqual(client.ask("GET", "/readyz").status, 503)
        self.assertEqual(client.ask("GET", kept.path + "/params").status, 200)
        self.faults.disarm()
        wait_until(lambda: client.ask("GET", "/readyz").status == 200, 5, "space")
        before = len(actor.refusals)
        actor.take_step(kept)
        self.assertEqual(len(actor.refusals), before)
        for one in actor.clients + [client]:
            one.close()
        server.kill()
        again = self.start()
        client = Client(again.port)
        workload.find_out(self, client, self.mirrored, kept, False)
        client.close()

    def test_faults_while_it_starts(self):
        """It starts with everything, or says why not, and loses nothing by that."""
        rng = random.Random(SEED)
        server = self.start()
        kept = self.make_kept(rng, 0)
        actor = Careful(self, self.mirrored, server.port, kept, rng)
        actor.scenario()
        self.assertEqual(actor.refusals, [])
        for one in actor.clients:
            one.close()
        server.kill()
        for kinds, error in ((WRITES | SYNCS | NAMES, errno.EIO),
                             (WRITES | SYNCS | NAMES, errno.ENOSPC), (MEMORY, errno.ENOMEM)):
            after = 1
            while True:
                self.faults.arm(kinds, error, after)
                try:
                    server = Server(self.dir, env=self.faults.env)
                    came = self.faults.disarm()
                except NoStart as caught:
                    came = self.faults.disarm()
                    self.assertIn(caught.status, (1, 2, 127), f"{kinds}, call {after}: {caught}")
                    self.assertTrue(caught.said, f"{kinds}, call {after}: it does not say why")
                    server = Server(self.dir)
                client = Client(server.port)
                for some in kept:
                    workload.find_out(self, client, self.mirrored, some, False)
                client.close()
                server.kill()
                if not came:
                    break
                after += STEP
            progress(f"the start, kinds {kinds}, error {error}: up to call {after}")


if __name__ == "__main__":
    unittest.main()
