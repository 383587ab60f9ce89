"""Servers as processes of their own: adamd and the peers. Knows that a server says its port, nothing else."""

import os
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
STOP_SECONDS = 20


class Server:
    """A program that listens on a free port of 127.0.0.1, and says so on a line that ends with :PORT."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        try:
            self.port = int(line.rsplit(":", 1)[1])
        except (IndexError, ValueError):
            self.stop()
            raise RuntimeError(f"{os.path.basename(command[-1])} did not say that it listens") from None

    def stop(self):
        """SIGTERM, and SIGKILL where that does not help."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def adamd(path, *options):
    """adamd on a free port."""
    return Server([path, "--port", "0", "--log-level", "error", *options])


def peer(file, *options):
    """A peer that is written in Python."""
    return Server([sys.executable, "-B", os.path.join(HERE, file), *options])
