"""kill -9 at any moment, under load: what was acknowledged is there after the next start, once, and
to the bit."""

import os
import random
import shutil
import subprocess
import time
import unittest

import workload
from crash_support import BINARY, LONG, SEED, Client, CrashCase, progress, wait_until

KILLS = 200 if LONG else 8
LIVES = 8  # of one data directory

OPTIONS = ("--journal-size", "4M", "--snapshot-interval", "1")


def make_kept(rng):
    """Those of each client."""
    kinds = [[("plain", 700), ("plain", 700), ("buffered", 40), ("buffered", 40)],
             [("plain", 400_000), ("plain", 400_000)],
             [("sync", 300), ("sync", 60_000)],
             [("buffered", 90_000), ("plain", 5), ("plain", 5), ("buffered", 90_000)]]
    return [[workload.Kept(f"c{i}o{k}", size, kind, rng) for k, (kind, size) in enumerate(some)]
            for i, some in enumerate(kinds)]


class Kill(CrashCase):
    def look(self, server, everything, mirror, retries):
        client = Client(server.port)
        for kept in sum(everything, []):
            workload.find_out(self, client, mirror, kept, retries())
        client.close()

    def life(self, rng, everything, mirror, fsync):
        server = self.start("--fsync", fsync, *OPTIONS)
        self.look(server, everything, mirror, lambda: rng.random() < 0.5)
        actors = [workload.Actor(server.port, some, random.Random(rng.random()))
                  for some in everything]
        for actor in actors:
            actor.start()
        time.sleep(rng.random() * rng.choice([0.1, 0.5, 1.5]))
        server.kill()
        for actor in actors:
            actor.join(60)
            self.assertFalse(actor.is_alive())
            if actor.failure is not None:
                raise actor.failure
        if rng.random() < 0.2:  # while it starts, too
            started = subprocess.Popen([BINARY, "--port", "0", "--data-dir", self.dir],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.random() * 0.2)
            started.kill()
            started.wait()
        return sum(actor.done for actor in actors)

    def run_lives(self, fsync, kills, seed):
        rng = random.Random(seed)
        done = 0
        for first in range(0, kills, LIVES):
            server = self.mirror()
            mirror = workload.Mirror(server.port)
            everything = make_kept(rng)
            for life in range(first, min(first + LIVES, kills)):
                done += self.life(rng, everything, mirror, fsync)
                progress(f"{fsync}: killed {life + 1} of {kills} times, {done} requests")
            last = self.start("--fsync", fsync, *OPTIONS)
            self.look(last, everything, mirror, lambda: False)
            self.assertEqual(last.stop(), 0)
            again = self.start(*OPTIONS)  # from snapshots alone
            self.look(again, everything, mirror, lambda: False)
            again.kill()
            mirror.close()
            server.kill()
            shutil.rmtree(self.dir)
        self.assertGreater(done, kills * 5)

    def test_everysec(self):
        self.run_lives("everysec", KILLS // 2, SEED)

    def test_always(self):
        self.run_lives("always", KILLS // 4, SEED + 1000)

    def test_never(self):
        self.run_lives("never", KILLS // 4, SEED + 2000)


class Dropped(CrashCase):
    """The journal is dropped where nobody needs it any more, and only there."""

    def segments(self):
        return [n for n in os.listdir(os.path.join(self.dir, "journal")) if n.endswith(".log")]

    def fill(self, actor, busy, segments):
        """Steps until so many segments have begun."""
        last = max(self.segments())
        while segments > 0:
            actor.take_step(busy)
            segments -= max(self.segments()) != last
            last = max(self.segments())

    def test_idle_ones_do_not_hold_it_and_held_gradients_do(self):
        rng = random.Random(SEED)
        beside = self.mirror()
        mirror = workload.Mirror(beside.port)
        server = self.start("--journal-size", "1M")
        kept = [workload.Kept("busy", 1_000_000, "plain", rng),
                workload.Kept("idle", 5, "plain", rng), workload.Kept("held", 5, "buffered", rng)]
        actor = workload.Actor(server.port, kept, rng)
        for one in kept:
            actor.create(one)
        actor.take_step(kept[1])
        first = min(self.segments())
        self.fill(actor, kept[0], 2)
        wait_until(lambda: min(self.segments()) != first, 10, "a segment that is dropped")
        actor.take_step(kept[2])
        needed = max(self.segments())
        self.fill(actor, kept[0], 2)
        time.sleep(2.5)
        self.assertIn(needed, self.segments())
        server.kill()
        again = self.start()
        client = Client(again.port)
        for one in kept:
            workload.find_out(self, client, mirror, one, False)
        for one in actor.clients + [client]:
            one.close()
        mirror.close()


if __name__ == "__main__":
    unittest.main()
