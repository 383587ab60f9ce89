"""torch.optim.Adam without a network, in this process: the peer of adamd's core."""

import time

import torch


class TorchStep:
    """One parameter of zeros and the gradient of bench/core_step.c."""

    def __init__(self, elements, **flags):
        self.param = torch.nn.Parameter(torch.zeros(elements))
        self.param.grad = (torch.arange(elements) % 1000).float() * 1e-3 - 0.5
        self.optimizer = torch.optim.Adam([self.param], lr=1e-3, **flags)

    def seconds(self):
        """Takes a step and says how long it took."""
        start = time.perf_counter()
        self.optimizer.step()
        return time.perf_counter() - start


def describe():
    """What torch runs on, for the reader of the figures."""
    return f"torch {torch.__version__}, CPU capability {torch.backends.cpu.get_cpu_capability()}"
