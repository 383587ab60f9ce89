"""A whole state_dict, as it travels: arrays and metadata."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any, Dict, Union

import numpy as np

from . import _digest, _safetensors


@dataclass
class StateDict:
    """Everything an optimizer is. `arrays` are named "params/<name>", "exp_avg/<name>",
    "exp_avg_sq/<name>" and, with amsgrad, "max_exp_avg_sq/<name>"; `metadata` is the file's."""

    arrays: Dict[str, "np.ndarray[Any, Any]"]
    metadata: Dict[str, str] = field(default_factory=dict)

    @property
    def header(self) -> Dict[str, Any]:
        """What stands beside the arrays: algorithm, step, param_groups, steps."""
        if "state_dict" not in self.metadata:
            raise ValueError(
                "there is no 'state_dict' in the metadata: these arrays are no whole state"
            )
        header: Dict[str, Any] = json.loads(self.metadata["state_dict"])
        return header

    def part(self, kind: str) -> Dict[str, "np.ndarray[Any, Any]"]:
        """One kind of arrays ("params", "exp_avg", ...) by parameter name."""
        prefix = kind + "/"
        return {n[len(prefix) :]: a for n, a in self.arrays.items() if n.startswith(prefix)}

    def digest(self) -> str:
        """The digest "sha256:<hex>" of everything that decides the next step, computed here; what
        Optimizer.digest() says of an optimizer in this state."""
        return _digest.digest(self.arrays, self.header)

    def save(self, path: Union[str, "os.PathLike[str]"]) -> None:
        """Writes a safetensors file: beside the path first, then in its place."""
        parts = _safetensors.encode(self.arrays, self.metadata).parts
        partial = f"{os.fspath(path)}.partial"
        with open(partial, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)

    @classmethod
    def load(cls, path: Union[str, "os.PathLike[str]"]) -> "StateDict":
        """Reads a file that save wrote."""
        with open(path, "rb") as file:
            return cls(*_safetensors.decode(bytearray(file.read())))
