"""What is done with gradients, and the types on the wire: arguments into what is sent."""

from __future__ import annotations

import json
import math
from typing import Any, Dict, Mapping, Optional

import numpy as np

GRADIENTS = (
    "grad_scale", "nonfinite", "max_grad_norm", "norm_type", "error_if_nonfinite", "clip_value",
)  # fmt: skip
"""The settings of what is done with gradients, by the protocol's names."""

WORKERS = ("aggregation", "input", "max_consecutive_nonfinite")
"""Those of how workers work together."""

_WIRE = {"float32": "f32", "float64": "f64", "bfloat16": "bf16", "float16": "f16"}


def for_json(settings: Mapping[str, Any]) -> Dict[str, Any]:
    """Settings as JSON has them: infinity is no limit (null), and "inf" as a kind of norm."""
    sent = dict(settings)
    for name in ("max_grad_norm", "clip_value"):
        if sent.get(name) == math.inf:
            sent[name] = None
    if sent.get("norm_type") == math.inf:
        sent["norm_type"] = "inf"
    return sent


def for_metadata(settings: Mapping[str, Any]) -> Dict[str, str]:
    """The same as texts, without those that are None: not given."""
    given = for_json({name: value for name, value in settings.items() if value is not None})
    return {
        name: value if isinstance(value, str) else json.dumps(value, allow_nan=False)
        for name, value in given.items()
    }


def wire_dtype(dtype: Any) -> Optional[str]:
    """ "bf16", "bfloat16", np.float16, ...: as a query has it. None: not given."""
    if dtype is None or (isinstance(dtype, str) and dtype in _WIRE.values()):
        return dtype
    name = dtype if isinstance(dtype, str) else str(dtype).replace("torch.", "")
    if name not in _WIRE:
        try:
            name = np.dtype(dtype).name
        except TypeError:
            name = ""
    if name not in _WIRE:
        raise ValueError(f"dtype is {dtype!r}, expected float32, float64, bfloat16 or float16")
    return _WIRE[name]
