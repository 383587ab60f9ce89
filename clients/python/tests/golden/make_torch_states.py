#!/usr/bin/env python3
"""Writes torch_states.json: what torch.optim.Adam's and AdamW's state_dict() were after 10 steps and
after 20, and the gradients between, for test_torch_dict.py, which has no torch.

    python3 clients/python/tests/golden/make_torch_states.py [--check]

Needs torch and numpy. As in tests/golden/make_golden.py, torch.Tensor.sqrt is replaced by the IEEE
root, and nothing else. Arrays are written as the hexadecimal digits of their little-endian bytes.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

PATH = Path(__file__).with_name("torch_states.json")
SHAPES = {"a.weight": (3, 2), "a.bias": (3,), "scalar": (), "empty": (0, 2), "late": (2, 1)}
GROUPS = (("a.weight", "scalar", "late"), ("empty", "a.bias"))
CASES = (
    ("Adam", "float32", {}),
    ("AdamW", "float32", {"amsgrad": True}),
    ("Adam", "float64", {"amsgrad": True, "maximize": True, "weight_decay": 0.25}),
    ("AdamW", "float64", {}),
)


def array(value):
    value = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    return {"dtype": value.dtype.name, "shape": list(value.shape), "hex": value.tobytes().hex()}


def state_of(optimizer):
    state = optimizer.state_dict()
    entries = {
        str(key): {kind: array(value) for kind, value in entry.items()}
        for key, entry in state["state"].items()
    }
    return {"state": entries, "param_groups": state["param_groups"]}


def gradients(rng, step, dtype):
    """ "scalar" misses every third step, and "late" the first 15."""
    grads = {n: np.asarray(rng.standard_normal(s), dtype) for n, s in SHAPES.items()}
    if step % 3 == 0:
        del grads["scalar"]
    if step <= 15:
        del grads["late"]
    return grads


def case(kind, dtype, options):
    rng = np.random.default_rng(2326)
    params = {
        n: torch.nn.Parameter(torch.from_numpy(np.asarray(rng.standard_normal(s), dtype)))
        for n, s in SHAPES.items()
    }
    groups = [{"params": [params[n] for n in names]} for names in GROUPS]
    groups[1].update(lr=0.05, eps=1e-6, betas=(0.5, 0.75))
    optimizer = getattr(torch.optim, kind)(groups, lr=0.01, foreach=False, **options)
    out = {"algorithm": kind.lower(), "groups": GROUPS, "grads": []}
    for step in range(1, 21):
        grads = gradients(rng, step, dtype)
        for name, param in params.items():
            param.grad = torch.from_numpy(grads[name]) if name in grads else None
        optimizer.step()
        if step > 10:
            out["grads"].append({n: array(g) for n, g in grads.items()})
        if step in (10, 20):
            out[f"params{step}"] = {n: array(p) for n, p in params.items()}
            out[f"torch{step}"] = state_of(optimizer)
    return out


def main():
    torch.Tensor.sqrt = lambda self: torch.from_numpy(np.asarray(np.sqrt(self.numpy())))
    made = {"torch": torch.__version__.split("+")[0], "cases": [case(*c) for c in CASES]}
    text = json.dumps(made, separators=(",", ":")).replace('{"algorithm"', '\n{"algorithm"') + "\n"
    if "--check" in sys.argv[1:]:
        same = PATH.read_text(encoding="ascii") == text
        print("same" if same else f"{PATH.name} differs from what this torch gives")
        return 0 if same else 1
    PATH.write_text(text, encoding="ascii")
    print(f"wrote {len(text)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
