"""Arrays as torch's tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def tensor(array: "np.ndarray[Any, Any]") -> "torch.Tensor":
    """The array as a tensor, not copied where it is writable and row-major."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def counter() -> Any:
    """The type in which torch counts steps."""
    return np.float64 if torch.get_default_dtype() == torch.float64 else np.float32


def check_fits(name: str, array: "np.ndarray[Any, Any]", param: "torch.Tensor") -> None:
    own = str(param.dtype).replace("torch.", "")
    if array.dtype.name != own:
        raise TypeError(f"the state has {name!r} in {array.dtype.name}, the model in {own}")
    if tuple(array.shape) != tuple(param.shape):
        raise ValueError(
            f"the state has {name!r} of shape {list(array.shape)}, the model {list(param.shape)}"
        )
