"""Servers as processes of their own: adamd and the peers. Knows that a server says its port, nothing else."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
STOP_SECONDS = 20
PR_SET_PDEATHSIG = 1  # Linux


def _die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(command, **streams):
    """A process that ends with this one, however this one ends."""
    return subprocess.Popen(command, text=True, preexec_fn=_die_with_parent, **streams)


class Server:
    """A program that listens on a free port of 127.0.0.1, and says so on a line that ends with :PORT."""

    def __init__(self, command):
        self.process = start(command, stdout=subprocess.PIPE)
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
            self.process.send_signal(signal.SIGCONT)
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


class Told:
    """A program that does what lines on its standard input say, and answers each with seconds."""

    def __init__(self, command):
        self.process = start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.said = self.process.stdout.readline().strip()

    def tell(self, line=""):
        """Sends a line. The seconds that it took."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def stop(self):
        """Ends its input, and so the program."""
        self.process.stdin.close()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def awake(processes):
    """Lets processes run that stand still otherwise: they may poll when they have nothing to do."""
    for one in processes:
        one.send_signal(signal.SIGCONT)
    try:
        yield
    finally:
        for one in processes:
            one.send_signal(signal.SIGSTOP)


def adamd(path, *options):
    """adamd on a free port."""
    return Server([path, "--port", "0", "--log-level", "error", *options])


def peer(file, *options):
    """A peer that is written in Python."""
    return Server([sys.executable, "-B", os.path.join(HERE, file), *options])
