"""A 256 MB model (64 M float32) is created, stepped and read through safetensors, and the server's
memory stays under 5 x 4 bytes a parameter plus 64 MB; when nobody has asked for anything for a
while it is the state's 3 x 4 bytes and 5 %, and the parameters can be read all the same. The server is
ADAMD_BINARY."""

import os
import signal
import subprocess
import sys
import time

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "clients", "python", "src"))
import adamd  # noqa: E402

N = 64 << 20
LIMIT = 5 * 4 * N + (64 << 20)
AT_REST = int(3 * 4 * N * 1.05)
SETTLE = 60  # seconds at the most


def memory(pid, field):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(next(line for line in f if line.startswith(field)).split()[1]) << 10


def settle(pid):
    """Waits until the server is at rest; returns the memory it takes then."""
    end = time.monotonic() + SETTLE
    while memory(pid, "VmRSS:") > AT_REST and time.monotonic() < end:
        time.sleep(0.2)
    return memory(pid, "VmRSS:")


def main():
    server = subprocess.Popen([os.environ["ADAMD_BINARY"], "--port", "0", "--log-level", "warn"],
                              stdout=subprocess.PIPE, text=True)
    try:
        client = adamd.Client(server.stdout.readline().split()[-1])
        optimizer = client.optimizer("large")
        values = np.zeros(N, np.float32)
        optimizer.create({"w": values}, lr=0.5)
        grads = np.ones(N, np.float32)
        for step in range(1, 4):
            result = optimizer.step({"w": grads})
            assert result.step == step
            got = result.params["w"]
            # Adam's first steps with a constant gradient move by lr, whatever its size
            assert abs(float(got[0]) + 0.5 * step) < 1e-6, got[0]
            assert (got == got[0]).all(), "elements of one step differ"
            read = optimizer.params()["w"]
            assert (read == got).all(), "what is read is not what the step answered"
            del result, got, read
        peak = memory(server.pid, "VmHWM:")
        rest = settle(server.pid)
        assert abs(float(optimizer.params()["w"][N - 1]) + 1.5) < 1e-6
    finally:
        server.send_signal(signal.SIGTERM)
        status = server.wait(timeout=60)
    assert status == 0, f"the server ended with {status}"
    assert peak < LIMIT, f"peak memory {peak >> 20} MiB, at most {LIMIT >> 20}"
    assert rest < AT_REST, f"{rest >> 20} MiB at rest, at most {AT_REST >> 20}"
    print(f"peak memory {peak >> 20} MiB of {LIMIT >> 20}; at rest {rest >> 20} of {AT_REST >> 20}")


if __name__ == "__main__":
    main()
