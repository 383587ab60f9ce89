#!/usr/bin/env python3
"""Compares adamd with the torch that is installed, live over HTTP, bit for bit.

    ./dev parity                                 1000 random configurations, 50 steps each
    ./dev parity --configs 10 --steps 200        other numbers of them
    ./dev parity --seed 123                      configuration 123 alone
    ./dev parity --plain-sqrt                    count what differs from torch with its own sqrt

A configuration is an optimizer with random groups, shapes, dtypes and hyperparameters, stepped in
torch.optim and in adamd with the same random gradients, and with events (events.py) between the steps:
changed hyperparameters, new groups, amsgrad switched. Parameters are compared after every step, moments,
step counts and hyperparameters at the end. Bodies are JSON and safetensors in turn.

torch.Tensor.sqrt is replaced by the correctly rounded square root (../golden/reference.py says why);
nothing else of torch is. Exit status: 0 where no bit differs, 1 where one does, 2 where it cannot run.
"""

import argparse
import collections
import contextlib
import os
import sys
import time
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "clients/python/src"), str(HERE.parent / "golden")]

try:
    import numpy as np
    import torch
    import urllib3
    import adamd
except ImportError as error:
    print(f"parity: {error}; needed: torch 2, numpy and urllib3", file=sys.stderr)
    sys.exit(2)

import events  # noqa: E402
import reference  # noqa: E402
import transfers  # noqa: E402
import values  # noqa: E402
from pair import Pair  # noqa: E402
from server import Refused, Server  # noqa: E402
from tally import Tally  # noqa: E402


def run_configuration(seed, steps, client, pool, url):
    """One configuration to its end. Its tally, what it was, and how often each event came."""
    rng = np.random.default_rng(seed)
    tally = Tally()
    pair = Pair(rng, tally, client, pool, url, seed)
    try:
        take_steps(pair, steps, rng)
        pair.finish()
        transfers.compare_digests(pair)
        pair.adamd.delete()
    except (adamd.Error, Refused) as error:
        tally.complain(f"after step {pair.steps}: {error!r}")
    return tally, pair.describe_self(), pair.counts


def take_steps(pair, steps, rng):
    kinds = events.choose(rng)
    for _ in range(steps):
        request = pair.request()
        for event, probability in kinds:
            if values.chance(rng, probability):
                event(pair, request)
                pair.counts[event.__name__] += 1
        events.end_schedules(pair)
        pair.fill(request)
        pair.step(request)


def say_progress(args, done, seed, total, began):
    print(f"{done:5} of {args.configs} configurations (to seed {seed}): {total.elements} elements compared, "
          f"{total.bits} bits differ, {time.monotonic() - began:.0f} s", flush=True)


def run_all(args, server):
    total, counts = Tally(), collections.Counter()
    began = time.monotonic()
    failed = []
    pool = urllib3.PoolManager(timeout=120, retries=False)
    with adamd.Client(server.url) as client:
        print(f"torch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()}), adamd "
              f"{client.server()['version']} with kernel {client.server()['kernel']}, "
              + ("torch's own sqrt" if args.plain_sqrt else "torch.Tensor.sqrt replaced by the IEEE one"))
        for done, seed in enumerate(range(args.seed, args.seed + args.configs), 1):
            tally, what, seen = run_configuration(seed, args.steps, client, pool, server.url)
            if args.verbose or tally.failed and not args.plain_sqrt:
                print(f"seed {seed}: {what}: {tally.elements} compared, {tally.different} elements differ")
                for text in tally.complaints:
                    print(f"    {text}")
            if tally.failed:
                failed.append(seed)
            tally.complaints = []
            total.add(tally)
            counts += seen
            if done % args.every == 0 or done == args.configs:
                say_progress(args, done, seed, total, began)
    print("events: " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    return total, failed


def report(args, total, failed):
    last = args.seed + args.configs - 1
    print(f"{args.configs} configurations (seeds {args.seed} to {last}) of {args.steps} steps: "
          f"{total.elements} elements compared, {total.different} differ in {total.bits} bits, "
          f"{total.nans} are NaN in both, {total.other} other differences")
    if args.plain_sqrt:
        print(f"{100 * total.different / max(total.elements, 1):.3f} % differ from torch with its own sqrt")
        return 1 if total.other else 0
    for seed in failed[:20]:
        print(f"differs: ./dev parity --steps {args.steps} --seed {seed}")
    print("parity: FAILED" if failed else "parity: the same bits")
    return 1 if failed else 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], prog="./dev parity")
    parser.add_argument("--configs", type=int, help="configurations (1000; 1 with --seed)")
    parser.add_argument("--steps", type=int, default=50, help="steps of each (50)")
    parser.add_argument("--seed", type=int, help="of the first configuration; drawn if left out")
    parser.add_argument("--plain-sqrt", action="store_true", help="leave torch.Tensor.sqrt as it is, and count")
    parser.add_argument("--every", type=int, default=50, help="configurations between two lines of progress (50)")
    parser.add_argument("--verbose", action="store_true", help="a line for every configuration")
    parser.add_argument("--adamd", default=str(ROOT / "build/release/adamd"), help="the server's binary")
    args = parser.parse_args()
    if args.configs is None:
        args.configs = 1000 if args.seed is None else 1
    if args.seed is None:
        args.seed = int.from_bytes(os.urandom(4), "little")
    if min(args.configs, args.steps, args.every) < 1 or args.seed < 0:
        parser.error("--configs, --steps and --every are at least 1, --seed at least 0")
    return args


def main():
    args = arguments()
    trouble = reference.trouble()
    if trouble is not None:
        print(f"parity: {trouble}", file=sys.stderr)
        return 2
    server = Server(args.adamd)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"), \
                contextlib.nullcontext() if args.plain_sqrt else reference.ieee_root():
            total, failed = run_all(args, server)
    finally:
        status = server.stop()
    if status != 0:
        print(f"the server ended with status {status} on SIGTERM, expected 0")
        return 1
    return report(args, total, failed)


if __name__ == "__main__":
    sys.exit(main())
