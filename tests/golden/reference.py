"""The torch that adamd is held against: what make_golden.py and tests/parity ask of it.

It is torch's own code with one operation replaced: torch.Tensor.sqrt. The x86 builds of torch hand
it to MKL's vector math library, which is not correctly rounded on every processor; adamd's contract
is the IEEE square root, which is what numpy (and torch on other builds) computes. docs/numerics.md
has the figures.
"""

import contextlib

import numpy as np
import torch

# torch's CPU kernels take elements 16 (float32) or 8 (float64) at a time and what is left over one by
# one. Before the last `n % TAIL` elements of a tensor of n, all are taken in vectors, in both types.
TAIL = 16
# Tensors of at least this size are shared out to threads, whose shares have tails of their own.
GRAIN = 32768


def tail_start(n):
    """The index from which elements of a tensor of n may be taken one by one."""
    return n - n % TAIL if n < GRAIN else 0


def zero_sign(betas, maximize):
    """The sign a gradient's zeros must have in the tail, or None where any sign will do.

    With beta1 = 0, exp_avg of a gradient of -0 (with maximize, of +0) is a zero whose sign torch makes
    one way in its vector path and the other way in the scalar one. Such a gradient has no one answer
    to compare with, so Adam is given no such zero in a tail.
    """
    return int(maximize) if betas[0] == 0.0 else None


def ieee_sqrt(self):
    assert not self.requires_grad
    source = self.numpy()
    return torch.from_numpy(np.sqrt(source, out=np.empty_like(source)))


@contextlib.contextmanager
def ieee_root():
    """Within it, torch.Tensor.sqrt is the correctly rounded square root. Nothing else is replaced."""
    plain = torch.Tensor.sqrt
    torch.Tensor.sqrt = ieee_sqrt
    try:
        yield
    finally:
        torch.Tensor.sqrt = plain


def trouble():
    """Why this torch is none to compare with, or None."""
    if int(torch.__version__.split(".")[0]) < 2:
        return f"torch {torch.__version__}: 2.0 or later is needed; 1.x has another first moment"
    if torch.tensor([1e-40]).mul(1.0).item() == 0.0:
        return "this torch flushes denormals to zero"
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        return "this torch runs without fma (ATEN_CPU_CAPABILITY, or an old processor) and rounds more often"
    return None
