"""Workers behind a proxy that cuts, delays and doubles what they send (tests/http/cutter.h, whose
program ADAMD_CUTTER names): every step is taken once."""

import json
import os
import subprocess
import threading
import unittest
from urllib.parse import urlsplit

from support import ServerCase
import numpy as np
import adamd

CUTTER = os.environ.get("ADAMD_CUTTER")
SEED = int(os.environ.get("CUTTER_SEED", "5"))
WORKERS, STEPS, ROUNDS = 2, 60, 30


class Cutter:
    def __init__(self, port: int, seed: int):
        self.process = subprocess.Popen(
            [str(CUTTER), str(port), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self.process.stdout.readline().strip()

    def stop(self) -> dict:
        out, _ = self.process.communicate(timeout=60)
        return json.loads(out)


@unittest.skipUnless(CUTTER, "ADAMD_CUTTER does not name the proxy")
class ExactlyOnce(ServerCase):
    def steps(self, client: adamd.Client, name: str, worker: int, number: int) -> int:
        """Steps on what came back of the last one; how often that was a repeat's reply."""
        params = {"w": np.full(300, 0.5, np.float32), "v": np.full(20, -0.5)}
        noise = np.random.default_rng([SEED, worker])
        replays = 0
        for step in range(number):
            grads = {
                key: (value / 4 + noise.standard_normal(value.shape)).astype(value.dtype)
                for key, value in params.items()
            }
            opt = client.optimizer(name)
            result = opt.step(grads, worker=f"worker-{worker}", based_on=step)
            assert result.step == step + 1, (name, result.step, step + 1)
            params = result.params
            replays += result.replayed
        return replays

    def work(self, url: str, prefix: str, worker: int, replays: list) -> None:
        with adamd.Client(url, timeout=60) as client:
            count = self.steps(client, f"{prefix}-{worker}", worker, STEPS)
            replays[worker] = count + self.steps(client, f"{prefix}-shared", worker, ROUNDS)

    def course(self, urls: list, prefix: str) -> tuple:
        """All workers at once: how many replies were repeats', and what came of each optimizer."""
        start = {"w": np.full(300, 0.5, np.float32), "v": np.full(20, -0.5)}
        with adamd.Client(self.server.url) as client:
            handles = [client.optimizer(f"{prefix}-{w}") for w in (*range(WORKERS), "shared")]
            for opt in handles[:-1]:
                opt.create(start, lr=0.01)
            sync = {"mode": "sync", "workers": WORKERS}
            handles[-1].create(start, lr=0.01, aggregation=sync)
            replays = [-1] * WORKERS
            threads = [
                threading.Thread(target=self.work, args=(url, prefix, worker, replays))
                for worker, url in enumerate(urls)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertNotIn(-1, replays, f"a worker failed; seed {SEED}")
            return sum(replays), [(opt.summary()["step"], opt.digest()) for opt in handles]

    def test_exactly_once(self) -> None:
        cutters = [Cutter(urlsplit(self.server.url).port, SEED + w) for w in range(WORKERS)]
        try:
            replays, got = self.course([cutter.url for cutter in cutters], "cut")
        finally:
            counts = [cutter.stop() for cutter in cutters]
        none, expected = self.course([self.server.url] * WORKERS, "smooth")
        self.assertEqual(got, expected, f"seed {SEED}")
        self.assertEqual(none, 0)
        self.assertGreater(replays, 0)
        for name in ("cuts", "twins", "late_twins"):
            self.assertGreater(sum(count[name] for count in counts), 0, name)
        self.assertEqual([count["lost"] for count in counts], [0] * WORKERS)


if __name__ == "__main__":
    unittest.main()
