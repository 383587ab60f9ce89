"""What a step did, out of its reply."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional

import numpy as np

from . import _events


@dataclass
class StepResult:
    """What a step did. `params` are the updated values of the parameters that took part; they and
    what follows are None after a step with minimal=True. `etag` fits the next `if_match`.

    `skipped`: it was left out for a gradient that is not finite, and nothing has changed.
    `converted`: gradients whose type was not their parameter's. `groups` has the norms and the
    coefficient of each param group.

    With minimal=True, a step that was left out shows in `step` and `etag`, which are those of
    before: with `if_match`, it is where `etag` equals it. Where several workers step without
    `if_match` it cannot be told from these; summary()["skipped"] counts them, and history() has
    each.

    `pending`: the optimizer gathers gradients (aggregation "buffered") and has not stepped yet; it
    now holds so many, of which these are one (1 with minimal=True). 0: it has stepped. `replayed`:
    the step had been taken before, by an earlier try whose reply was lost or an earlier call with
    the same idempotency_key; the statistics and `step` are that step's, the parameters the current
    ones."""

    step: int
    etag: str
    params: Optional[Dict[str, "np.ndarray[Any, Any]"]]
    grad_norm: Optional[float]
    param_norm: Optional[float]
    update_norm: Optional[float]
    clip_coef: Optional[float]
    skipped: Optional[bool] = None
    converted: Optional[int] = None
    groups: Optional[List[Dict[str, Any]]] = None
    pending: int = 0
    replayed: bool = False


def minimal(etag: str, pending: bool, replayed: bool) -> StepResult:
    """Of a reply that has an ETag alone, "e<epoch>-s<step>"."""
    step = int(etag.rstrip('"').rpartition("s")[2])
    nothing = (None, None, None, None, None)
    return StepResult(step, etag, *nothing, pending=int(pending), replayed=replayed)


def full(
    etag: str,
    arrays: Dict[str, "np.ndarray[Any, Any]"],
    said: Mapping[str, str],
    replayed: bool,
) -> StepResult:
    """Of a safetensors reply: its tensors and its metadata. KeyError, ValueError or TypeError where
    that is not what the protocol says."""
    if said["skipped"] not in ("true", "false"):
        raise ValueError(f"skipped is {said['skipped']!r}, expected true or false")
    return StepResult(
        step=int(said["step"]),
        etag=etag,
        params=arrays,
        grad_norm=float(said["grad_norm"]),
        param_norm=float(said["param_norm"]),
        update_norm=float(said["update_norm"]),
        clip_coef=float(said["clip_coef"]),
        skipped=said["skipped"] == "true",
        converted=int(said["converted"]),
        groups=[_events.with_floats(group) for group in json.loads(said["param_groups"])],
        pending=int(said.get("pending", "0")),
        replayed=replayed,
    )
