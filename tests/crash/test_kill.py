"""kill -9 at any moment, under load: what was acknowledged is there after the next start, once, and
to the bit."""

import random
import shutil
import subprocess
import time
import unittest

import workload
from crash_support import BINARY, LONG, SEED, Client, CrashCase, progress

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


if __name__ == "__main__":
    unittest.main()
