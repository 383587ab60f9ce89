"""One worker of the digits demo, in Python. Computes gradients of a small network on its shard of
the data and leaves the optimizing to adamd. worker.c does the same in C.

Prints "ready" and waits for a line on standard input, so that all workers begin at once; then
"progress SENT STEP LOSS" from time to time and "done SENT FIRST_STEP LAST_STEP" at the end.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python" / "src"))

import adamd  # noqa: E402  (found by the line above, installed or not)
import network  # noqa: E402

REPORT = 10  # steps from one progress line to the next


def train(args: argparse.Namespace) -> None:
    examples, _ = network.load(args.data)
    mine = network.Examples(*(part[args.shard :: args.shards] for part in examples))
    rng = np.random.default_rng(args.seed)
    with adamd.Client(args.url) as client:
        optimizer = client.optimizer(args.optimizer)
        params = optimizer.params()
        print("ready", flush=True)
        if not sys.stdin.readline():
            raise EOFError("the start signal never came")
        first = step = 0
        losses = []
        for sent in range(1, args.steps + 1):
            rows = rng.integers(len(mine.labels), size=args.batch)
            loss, grads = network.gradients(params, network.Examples(*(p[rows] for p in mine)))
            result = optimizer.step(grads, worker="python")
            assert result.params is not None
            params, step = result.params, result.step
            first = first or step
            losses.append(loss)
            if sent % REPORT == 0:
                print(f"progress {sent} {step} {np.mean(losses):.6f}", flush=True)
                losses.clear()
            time.sleep(args.interval_ms / 1000)
        print(f"done {args.steps} {first} {step}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="A worker of the digits demo.")
    for name in ("--url", "--optimizer"):
        parser.add_argument(name, required=True)
    parser.add_argument("--data", required=True, type=Path)
    for name in ("--shard", "--shards", "--steps", "--batch", "--seed", "--interval-ms"):
        parser.add_argument(name, required=True, type=int)
    try:
        train(parser.parse_args())
    except (adamd.Error, OSError, ValueError, EOFError) as error:
        print(f"worker.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
