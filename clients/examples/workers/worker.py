"""One worker of many, on one optimizer: computes gradients of the digits' network on its shard of
the data and sends them, until the optimizer has taken its steps. The loop is the same in every mode
of aggregation. train.py starts it, kills it, and starts it again.

Prints "refused CODE" where a gradient was not taken, "repeated" where it had been taken already.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[1:1] = [str(HERE.parents[1] / "python" / "src"), str(HERE.parent / "digits")]

import adamd  # noqa: E402  (found by the line above, installed or not)
import network  # noqa: E402

BATCH = 32


def shard_of(examples: network.Examples, shard: int, shards: int) -> network.Examples:
    return network.Examples(*(part[shard::shards] for part in examples))


def batch_of(mine: network.Examples, shard: int, step: int, turn: int) -> network.Examples:
    """Depends on its arguments alone: a worker that is started again draws what it drew before."""
    rows = np.random.default_rng([shard, step, turn]).integers(len(mine.labels), size=BATCH)
    return network.Examples(*(part[rows] for part in mine))


def train(optimizer: adamd.Optimizer, mine: network.Examples, shard: int, steps: int) -> None:
    name = f"worker-{shard}"
    params = optimizer.params()
    step, turn = params.step, 0  # turn counts this worker's gradients on the parameters of one step
    while step < steps:
        _, grads = network.gradients(params, batch_of(mine, shard, step, turn))
        try:
            # The key says which gradient this is. The client sends it again by itself where the
            # reply is lost. A worker that died and began anew on the same step computes the same
            # gradient, and gets the answer to the first: it counts once.
            result = optimizer.step(
                grads, worker=name, based_on=step, idempotency_key=f"{name}:{step}:{turn}"
            )
        except adamd.Conflict as refusal:
            # Too old, or for a round that is over. It was not taken: go on from what is there now.
            print(f"refused {refusal.code}", flush=True)
            params = optimizer.params()
            step, turn = params.step, 0
            continue
        if result.replayed:  # its parameters are the current ones, maybe of a later step
            print("repeated", flush=True)
            params = optimizer.params()
            now = params.step
        else:
            params, now = result.params, result.step
        step, turn = now, turn + 1 if now == step else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="One of the workers that train.py starts.")
    for option in ("--url", "--optimizer"):
        parser.add_argument(option, required=True)
    for option in ("--shard", "--shards", "--steps"):
        parser.add_argument(option, required=True, type=int)
    args = parser.parse_args()
    examples, _ = network.load(HERE.parent / "digits" / "digits.csv")
    mine = shard_of(examples, args.shard, args.shards)
    try:
        with adamd.Client(args.url) as client:
            train(client.optimizer(args.optimizer), mine, args.shard, args.steps)
    except (adamd.Error, OSError) as error:
        print(f"worker.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
