"""The digits demo's conductor: one adamd server, one optimizer, two workers in two languages.

Starts the server on a free port, creates the optimizer `digits`, lets a Python and a C worker push
gradients to it at the same time, lowers the learning rate under way, and checks at the end that
every gradient became exactly one step and that the network has learnt to read digits. The gradients
are the workers' business (worker.py, worker.c).

    python3 demo.py --adamd build/release/adamd --worker build/release/digits_worker
"""

from __future__ import annotations

import argparse
import contextlib
import queue
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any, Dict, List, Optional, Tuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "python" / "src"))

import adamd  # noqa: E402  (found by the line above, installed or not)
import network  # noqa: E402

NAME = "digits"
STEPS = 500  # gradients of each worker
BATCH = 32
INTERVAL_MS = 8  # a worker's rest after a step: slow enough to watch, and the same for both
LR, LATE_LR, LATE = 0.01, 0.001, 0.6  # the late rate holds for the rest after this share of steps
WANTED = 0.95  # accuracy on the held-out digits
QUIET_S = 20.0  # seconds without a word from the workers that are too many
LINE_EVERY = 50  # steps between two lines of progress


class Failure(Exception):
    """The demo did not do what it shows."""


class Server:
    """The server's process. Its log goes to a file, whose end is shown where something failed."""

    def __init__(self, binary: Path):
        self._log: IO[str] = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [str(binary), "--port", "0"], stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if " listening on http://" not in line:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
            story = self.story()
            self.kill()
            raise Failure(
                f"{binary} said {line.strip()!r} at its start, "
                f"expected 'adamd VERSION listening on http://HOST:PORT'; {story}"
            )
        print(line.strip())
        self.url = line.split()[-1]

    def stop(self) -> None:
        """SIGTERM, and exit status 0 within ten seconds."""
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure("the server did not end within 10 s of SIGTERM") from None
        if status != 0:
            raise Failure(f"the server ended with status {status} on SIGTERM, expected 0")
        print("the server ended with status 0 on SIGTERM")

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def story(self) -> str:
        """How it is with the server, and the end of its log: for a Failure's message."""
        status = self._process.poll()
        state = "still ran" if status is None else f"had ended with status {status}"
        self._log.seek(0)
        lines = self._log.readlines()[-10:]
        return f"the server {state}; its log:\n" + "".join(f"  {line}" for line in lines)


class Worker:
    """One worker's process. What it prints comes as (worker, line) on the shared queue, and None in
    the line's place at the end."""

    def __init__(self, name: str, command: List[str], said: "queue.Queue[Tuple[Worker, Any]]"):
        self.name = name
        self.sent = 0
        self.loss: Optional[float] = None
        self.steps: Optional[Tuple[int, int]] = None  # first and last, once it is done
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._listen, args=(said,), daemon=True).start()

    def _listen(self, said: "queue.Queue[Tuple[Worker, Any]]") -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said.put((self, line.split()))
        said.put((self, None))

    def go(self) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.close()
        except BrokenPipeError:
            raise Failure(f"the {self.name} worker died before the start") from None

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def __str__(self) -> str:
        loss = "      " if self.loss is None else f"{self.loss:6.4f}"
        bar = "" if self.loss is None else "#" * min(24, round(10 * self.loss))
        return f"{self.sent:5d} {loss} {bar:<24}"


def start_workers(url: str, binary: Path, said: "queue.Queue[Tuple[Worker, Any]]") -> List[Worker]:
    commands = {
        "python": [sys.executable, str(HERE / "worker.py")],
        "c": [str(binary)],
    }
    workers: List[Worker] = []
    try:
        for shard, (name, command) in enumerate(commands.items()):
            command += ["--url", url, "--optimizer", NAME, "--data", str(HERE / "digits.csv")]
            command += ["--shard", str(shard), "--shards", str(len(commands))]
            command += ["--steps", str(STEPS), "--batch", str(BATCH), "--seed", str(shard + 1)]
            command += ["--interval-ms", str(INTERVAL_MS)]
            workers.append(Worker(name, command, said))
    except OSError:
        for worker in workers:
            worker.kill()
        raise
    return workers


def next_word(said: "queue.Queue[Tuple[Worker, Any]]") -> Tuple[Worker, List[str]]:
    """The next line of a worker; Failure where one died or none speaks."""
    try:
        worker, words = said.get(timeout=QUIET_S)
    except queue.Empty:
        raise Failure(f"no worker said a word for {QUIET_S:.0f} s") from None
    if words is None:
        status = worker.process.wait()
        if worker.steps is None or status != 0:
            raise Failure(
                f"the {worker.name} worker died with status {status} "
                f"after {worker.sent} of {STEPS} gradients"
            )
        return worker, []
    return worker, words


def conduct(
    optimizer: adamd.Optimizer, workers: List[Worker], said: "queue.Queue[Tuple[Worker, Any]]"
) -> None:
    """Start barrier, then progress until both workers have ended."""
    ready = 0
    while ready < len(workers):
        ready += next_word(said)[1] == ["ready"]
    for worker in workers:
        worker.go()
    title = "".join(f"   {w.name + ': sent':>11} {'loss':<28}" for w in workers)
    print(f"\n  step{title.rstrip()}")
    shown, late, running = 0, False, len(workers)
    while running:
        worker, words = next_word(said)
        if not words:
            running -= 1
        elif words[0] == "progress":
            worker.sent, step, worker.loss = int(words[1]), int(words[2]), float(words[3])
            if not late and step >= LATE * STEPS * len(workers):
                late = True
                optimizer.patch(0, lr=LATE_LR)
                print(f"        lr {LR} -> {LATE_LR}, by PATCH, between two steps")
            if step >= shown + LINE_EVERY:
                shown = step
                print(f"{step:6d}" + "".join(f"      {w}" for w in workers).rstrip(), flush=True)
        elif words[0] == "done":
            worker.sent = int(words[1])
            worker.steps = (int(words[2]), int(words[3]))


def show_with_curl(url: str) -> None:
    command = ["curl", "-sS", "--fail", "--max-time", "10"]
    command.append(f"{url}/v1/optimizers/{NAME}/param_groups?data=none")
    print("\n$ " + shlex.join(command))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"curl ended with status {done.returncode}")
    print(done.stdout.rstrip() + "\n")


def check(optimizer: adamd.Optimizer, workers: List[Worker], held_out: network.Examples) -> None:
    """Every gradient is one step, the workers ran side by side, and the network reads digits."""
    total = sum(worker.sent for worker in workers)
    step = optimizer.summary()["step"]
    score = network.accuracy(optimizer.params(), held_out)
    spans: Dict[str, Tuple[int, int]] = {w.name: w.steps for w in workers if w.steps is not None}
    shared = min(last for _, last in spans.values()) - max(first for first, _ in spans.values())
    print("gradients sent  " + " + ".join(f"{w.name} {w.sent}" for w in workers) + f" = {total}")
    print(f"server's step   {step}")
    print("side by side    " + ", ".join(f"{n}: steps {a} to {b}" for n, (a, b) in spans.items()))
    print(f"test accuracy   {score:.1%} of {len(held_out.labels)} held-out digits")
    if step != total:
        raise Failure(f"the server took {step} steps for {total} gradients, expected as many")
    if shared < total // 2:
        raise Failure(f"the workers shared {shared} of {total} steps, expected at least half")
    if score < WANTED:
        raise Failure(f"accuracy {score:.1%}, expected at least {WANTED:.0%}")


def run(args: argparse.Namespace) -> None:
    examples, held_out = network.load(HERE / "digits.csv")
    server = Server(args.adamd)
    workers: List[Worker] = []
    try:
        with adamd.Client(server.url) as client:
            optimizer = client.optimizer(NAME)
            summary = optimizer.create(network.initial(seed=0), lr=LR)
            print(
                f"optimizer {NAME}: {summary['algorithm']}, {summary['params']} parameters, "
                f"{summary['numel']} numbers; {len(examples.labels)} digits to learn from"
            )
            said: "queue.Queue[Tuple[Worker, Any]]" = queue.Queue()
            workers = start_workers(server.url, args.worker, said)
            conduct(optimizer, workers, said)
            show_with_curl(server.url)
            check(optimizer, workers, held_out)
        server.stop()
    except (Failure, adamd.Error) as failure:
        raise Failure(f"{failure}; {server.story()}".rstrip()) from None
    finally:
        for worker in workers:
            worker.kill()
        server.kill()


def interrupted(number: int, _frame: Any) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def main() -> int:
    parser = argparse.ArgumentParser(description="Two workers, one optimizer, handwritten digits.")
    parser.add_argument("--adamd", required=True, type=Path, help="the server's binary")
    parser.add_argument("--worker", required=True, type=Path, help="the C worker's binary")
    args = parser.parse_args()
    for option, path in (("--adamd", args.adamd), ("--worker", args.worker)):
        if not path.is_file():
            parser.error(f"{option}: there is no file {str(path)!r}; build it first")
    # So that `finally` runs and no process is left behind.
    signal.signal(signal.SIGTERM, interrupted)
    began = time.monotonic()
    try:
        run(args)
    except (Failure, adamd.Error, OSError, ValueError) as error:
        print(f"demo.py: FAILED: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"demo.py: stopped by {stop or 'SIGINT'}; every process was ended", file=sys.stderr)
        return 1
    print(f"done in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
