"""The network of the digits demo, in numpy: 64 pixels, one hidden layer, ten classes. Used by
worker.py and demo.py; worker.c has its own. Knows nothing of adamd."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, NamedTuple, Tuple

import numpy as np

PIXELS, HIDDEN, CLASSES = 64, 32, 10
HELD_OUT = 5  # every fifth row is for the test at the end

Params = Dict[str, np.ndarray]


class Examples(NamedTuple):
    pixels: np.ndarray  # [rows, 64], 0 to 1
    labels: np.ndarray


def load(path: Path) -> Tuple[Examples, Examples]:
    """The examples for training and those that are held out."""
    rows = np.loadtxt(path, delimiter=",", dtype=np.int64)
    if rows.shape[1:] != (PIXELS + 1,) or rows.min() < 0 or rows[:, :PIXELS].max() > 16:
        raise ValueError(f"{path}: expected rows of 64 pixels of 0 to 16 and a label")
    held_out = np.arange(len(rows)) % HELD_OUT == HELD_OUT - 1
    pixels = (rows[:, :PIXELS] / 16).astype(np.float32)
    labels = rows[:, PIXELS]
    return (
        Examples(pixels[~held_out], labels[~held_out]),
        Examples(pixels[held_out], labels[held_out]),
    )


def initial(seed: int) -> Params:
    """He initialisation; weights as torch's Linear has them: [out, in]."""
    rng = np.random.default_rng(seed)

    def weight(out: int, inputs: int) -> np.ndarray:
        return (rng.standard_normal((out, inputs)) * np.sqrt(2 / inputs)).astype(np.float32)

    return {
        "hidden.weight": weight(HIDDEN, PIXELS),
        "hidden.bias": np.zeros(HIDDEN, np.float32),
        "output.weight": weight(CLASSES, HIDDEN),
        "output.bias": np.zeros(CLASSES, np.float32),
    }


def _forward(params: Params, pixels: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    hidden = np.maximum(pixels @ params["hidden.weight"].T + params["hidden.bias"], 0)
    return hidden, hidden @ params["output.weight"].T + params["output.bias"]


def gradients(params: Params, batch: Examples) -> Tuple[float, Params]:
    """Mean softmax cross-entropy of a minibatch, and its gradients."""
    rows = np.arange(len(batch.labels))
    hidden, output = _forward(params, batch.pixels)
    odds = np.exp(output - output.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    loss = -np.log(odds[rows, batch.labels] + 1e-30).mean()
    odds[rows, batch.labels] -= 1
    error = odds / len(rows)
    below = (error @ params["output.weight"]) * (hidden > 0)
    grads = {
        "hidden.weight": below.T @ batch.pixels,
        "hidden.bias": below.sum(axis=0),
        "output.weight": error.T @ hidden,
        "output.bias": error.sum(axis=0),
    }
    return float(loss), grads


def accuracy(params: Params, examples: Examples) -> float:
    """The share of examples that get their own label."""
    output = _forward(params, examples.pixels)[1]
    return float((output.argmax(axis=1) == examples.labels).mean())
