"""The power fails under load, on a disk that forgets what was not synced: with --fsync always nothing
is lost that was acknowledged, with everysec what came in the last second, and what is there is a state
that was."""

import os
import random
import shutil
import signal
import time
import unittest

import workload
from crash_support import LONG, SEED, Client, CrashCase, progress

FORGETFUL = os.environ.get("ADAMD_FORGETFUL")
FAILURES = 100 if LONG else 6
LIVES = 6  # of one data directory
INTERVAL = 1.0  # of everysec
SLACK = 2.0  # for a sync that takes its time, since this disk copies what it syncs


@unittest.skipUnless(FORGETFUL, "ADAMD_FORGETFUL does not name the library of the forgetful disk")
class Power(CrashCase):
    def make_kept(self, rng):
        kinds = [[("plain", 300), ("plain", 300)], [("buffered", 40), ("plain", 30_000)],
                 [("sync", 50)]]
        return [[workload.Kept(f"c{i}o{k}", size, kind, rng)
                 for k, (kind, size) in enumerate(some)] for i, some in enumerate(kinds)]

    def life(self, rng, fsync, everything):
        """Until the power fails."""
        shadow = os.path.join(self.base, "shadow")
        by_itself = rng.random() < 0.5
        env = {"LD_PRELOAD": FORGETFUL, "FORGETFUL_DIR": self.dir, "FORGETFUL_SHADOW": shadow,
               "FORGETFUL_AFTER": str(rng.randrange(20, 500) if by_itself else -1),
               "FORGETFUL_SEED": str(rng.randrange(1 << 30))}
        server = self.start("--fsync", fsync, "--snapshot-interval", "1", "--journal-size", "1M",
                            env=env)
        actors = [workload.Actor(server.port, some, random.Random(rng.random()))
                  for some in everything]
        for actor in actors:
            actor.start()
        end = time.monotonic() + rng.random() * rng.choice([0.3, 1, 3])
        while server.process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGUSR1)
        self.assertEqual(server.process.wait(120), -signal.SIGKILL, server.log())
        for actor in actors:
            actor.join(60)
            # one that reads files while they are made what is left of them sees damage
            if actor.failure is not None and "disk-failed" not in str(actor.failure):
                raise actor.failure
        shutil.rmtree(shadow)

    def run_lives(self, fsync, failures, seed):
        rng = random.Random(seed)
        lost = 0
        for first in range(0, failures, LIVES):
            beside = self.mirror()
            mirror = workload.Mirror(beside.port)
            everything = self.make_kept(rng)
            os.mkdir(self.dir, 0o700)
            for life in range(first, min(first + LIVES, failures)):
                self.life(rng, fsync, everything)
                server = self.start()
                client = Client(server.port)
                last = max(kept.past[-1][0] for kept in sum(everything, []))
                for kept in sum(everything, []):
                    if fsync == "always":
                        workload.find_out(self, client, mirror, kept, rng.random() < 0.5)
                    else:
                        lost += workload.find_past(self, client, mirror, kept,
                                                   last - INTERVAL - SLACK)
                client.close()
                server.kill()
                progress(f"{fsync}: the power failed {life + 1} of {failures} times, {lost} lost")
            mirror.close()
            beside.kill()
            shutil.rmtree(self.dir)

    def test_always(self):
        self.run_lives("always", FAILURES // 2, SEED)

    def test_everysec(self):
        self.run_lives("everysec", FAILURES // 2, SEED + 1000)


if __name__ == "__main__":
    unittest.main()
