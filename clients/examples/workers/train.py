"""Four workers train one network on handwritten digits, in each mode of aggregation in turn: rounds
that all wait for, buffers that nobody waits for, and steps at once unless the gradient is too old.
In each run one worker is killed under way (SIGKILL) and started again. Checks that every gradient
that was taken counted once, that the network has learnt to read digits, and that the rounds gave
the bits of one process that adds the same four gradients and divides by four.

    python3 train.py --adamd build/release/adamd
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple

# One thread for each process's products of matrices; before numpy is imported.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402

HERE = Path(__file__).resolve().parent
sys.path[1:1] = [str(HERE.parents[1] / "python" / "src"), str(HERE.parent / "digits")]

import adamd  # noqa: E402  (found by the line above, installed or not)
import network  # noqa: E402
from demo import Failure, Server, interrupted  # noqa: E402
from worker import batch_of, shard_of  # noqa: E402

WORKERS = 4
VICTIM, LAGGARD = 2, 1  # the worker that is killed, and the one that is late then
LR = 0.005
WANTED = 0.9  # accuracy on the held-out digits
LIMIT_S = 60.0  # for one run


class Mode(NamedTuple):
    aggregation: Dict[str, Any]
    steps: int
    gradients: int  # of one step


MODES = [
    Mode({"mode": "sync", "workers": WORKERS, "reduce": "mean"}, 300, WORKERS),
    Mode({"mode": "buffered", "size": WORKERS}, 300, WORKERS),
    Mode({"mode": "async", "max_staleness": 8, "damping": "inverse"}, 1000, 1),
]


class Crew:
    """The workers' processes."""

    def __init__(self, url: str, name: str, steps: int):
        self._command = [sys.executable, str(HERE / "worker.py"), "--url", url, "--optimizer", name]
        self._command += ["--shards", str(WORKERS), "--steps", str(steps)]
        self._all: List["subprocess.Popen[str]"] = []
        for shard in range(WORKERS):
            self.start(shard)

    def start(self, shard: int) -> None:
        command = [*self._command, "--shard", str(shard)]
        self._all.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))

    def kill(self, shard: int) -> None:
        self._all[shard].kill()
        self._all[shard].wait()

    def signal(self, shard: int, number: signal.Signals) -> None:
        self._all[shard].send_signal(number)

    def finish(self, killed: int) -> List[str]:
        """Waits for their end, and returns what they said."""
        said: List[str] = []
        for number, process in enumerate(self._all):
            said += process.communicate(timeout=LIMIT_S)[0].splitlines()
            wanted = -signal.SIGKILL if number == killed else 0
            if process.returncode != wanted:
                raise Failure(f"worker {number % WORKERS} ended with {process.returncode}")
        return said

    def end(self) -> None:
        for process in self._all:
            process.kill()
            process.wait()


def wait_for_step(optimizer: adamd.Optimizer, step: int) -> int:
    """Follows the parameters as they change; a read that waits needs no polling."""
    params = optimizer.params()
    until = time.monotonic() + LIMIT_S
    while params.step < step:
        if time.monotonic() > until:
            raise Failure(f"{optimizer.name} is at step {params.step} after {LIMIT_S:.0f} s")
        params = optimizer.params(wait=5, if_none_match=params.etag) or params
    return params.step


def wait_for_round(
    optimizer: adamd.Optimizer, what: str, holds: Callable[[Dict[str, Any]], bool]
) -> int:
    """Waits until the open round is as wanted, and returns the step it is on."""
    until = time.monotonic() + LIMIT_S
    while True:
        now = optimizer.round()
        if holds(now):
            return int(now["step"])
        if time.monotonic() > until:
            raise Failure(f"{optimizer.name}: {what} did not come within {LIMIT_S:.0f} s: {now}")
        time.sleep(0.002)


def kill_in_round(optimizer: adamd.Optimizer, crew: Crew) -> None:
    """Kills the worker while it waits for its round, which another one holds up until the victim
    is back: it sends the same gradient again, and waits along."""
    crew.signal(LAGGARD, signal.SIGSTOP)
    step = wait_for_round(
        optimizer,
        "a round that lacks one gradient",
        lambda r: len(r["workers"]) == WORKERS - 1 and f"worker-{LAGGARD}" not in r["workers"],
    )
    crew.kill(VICTIM)
    crew.start(VICTIM)
    # Those of the others, of the dead one (nobody looks at it until the round ends), of its repeat;
    # or the round went on, since the last gradient was under way already.
    wait_for_round(optimizer, "the repeat", lambda r: r["waiting"] == WORKERS or r["step"] > step)
    crew.signal(LAGGARD, signal.SIGCONT)


def run_workers(url: str, optimizer: adamd.Optimizer, mode: Mode) -> str:
    """Trains with a crew, one of which is killed on the way; returns what is worth telling."""
    crew = Crew(url, optimizer.name, mode.steps)
    try:
        at = wait_for_step(optimizer, mode.steps // 6)
        if mode.aggregation["mode"] == "sync":
            kill_in_round(optimizer, crew)
        else:
            crew.kill(VICTIM)
            crew.start(VICTIM)
        said = crew.finish(killed=VICTIM)
    finally:
        crew.end()
    return f"{at:9d} {said.count('repeated'):9d} {len(said) - said.count('repeated'):8d}"


def check(optimizer: adamd.Optimizer, mode: Mode, held_out: network.Examples) -> str:
    """Each gradient that was taken is in exactly one step, and the network reads digits."""
    step = optimizer.summary()["step"]
    taken = sum(worker["steps"] for worker in optimizer.workers())
    score = network.accuracy(optimizer.params(), held_out)
    if taken != step * mode.gradients:
        raise Failure(
            f"{optimizer.name}: {taken} gradients are in {step} steps of {mode.gradients} each"
        )
    if score < WANTED:
        raise Failure(f"{optimizer.name}: accuracy {score:.1%}, expected at least {WANTED:.0%}")
    return f"{taken:10d} {step:7d} {score:9.1%}"


def train_alone(optimizer: adamd.Optimizer, examples: network.Examples, steps: int) -> None:
    """One process that does the workers' part: their gradients, added in their order, over their
    number. Every operation is one of float32, as in the server."""
    shards = [shard_of(examples, shard, WORKERS) for shard in range(WORKERS)]
    params = optimizer.params()
    for step in range(steps):
        grads = [
            network.gradients(params, batch_of(mine, shard, step, 0))[1]
            for shard, mine in enumerate(shards)
        ]
        mean = {}
        for name in params:
            total = grads[0][name]
            for grad in grads[1:]:
                total = total + grad[name]
            mean[name] = total / np.float32(WORKERS)
        params = optimizer.step(mean).params


def compare(client: adamd.Client, examples: network.Examples) -> None:
    alone = client.optimizer("alone")
    alone.create(network.initial(seed=0), lr=LR)
    train_alone(alone, examples, MODES[0].steps)
    digests = {name: client.optimizer(name).digest() for name in ("sync", "alone")}
    print(f"\nsync, {WORKERS} processes, one killed   {digests['sync']}")
    print(f"one process, the same gradients {digests['alone']}")
    if digests["sync"] != digests["alone"]:
        raise Failure("the rounds did not give the bits of one process")
    print("the same bits")


def run(binary: Path) -> None:
    examples, held_out = network.load(HERE.parent / "digits" / "digits.csv")
    server = Server(binary)
    try:
        with adamd.Client(server.url) as client:
            print(f"\n{'':9} killed at  repeated  refused  gradients   steps  accuracy")
            for mode in MODES:
                optimizer = client.optimizer(mode.aggregation["mode"])
                optimizer.create(network.initial(seed=0), lr=LR, aggregation=mode.aggregation)
                story = run_workers(server.url, optimizer, mode)
                print(f"{optimizer.name:10}{story} {check(optimizer, mode, held_out)}", flush=True)
            compare(client, examples)
        server.stop()
    except (Failure, adamd.Error) as failure:
        raise Failure(f"{failure}; {server.story()}".rstrip()) from None
    finally:
        server.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description="Four workers, one optimizer, three modes.")
    parser.add_argument("--adamd", required=True, type=Path, help="the server's binary")
    args = parser.parse_args()
    if not args.adamd.is_file():
        parser.error(f"--adamd: there is no file {str(args.adamd)!r}; build it first")
    signal.signal(signal.SIGTERM, interrupted)  # so that `finally` runs
    began = time.monotonic()
    try:
        run(args.adamd)
    except (Failure, adamd.Error, OSError, subprocess.TimeoutExpired) as error:
        print(f"train.py: FAILED: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"train.py: stopped by {stop or 'SIGINT'}; every process was ended", file=sys.stderr)
        return 1
    print(f"done in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
