"""Client of adamd, an Adam optimizer that you reach over HTTP.

client = adamd.Client("http://127.0.0.1:2326")
opt = client.optimizer("mlp")
opt.create({"w": w, "b": b}, lr=0.01)
params = opt.step({"w": dw, "b": db}).params
"""

from ._client import Client
from ._errors import (
    BadRequest,
    Conflict,
    ConnectionError,
    Error,
    Forbidden,
    NotFound,
    OutOfMemory,
    PreconditionFailed,
    ProtocolError,
    RequestError,
    TooLarge,
    Unavailable,
    Unprocessable,
)
from ._events import Event
from ._optimizer import Optimizer, Params
from ._state import StateDict
from ._step import StepResult

__version__ = "0.1.0"

__all__ = [
    "BadRequest",
    "Client",
    "Conflict",
    "ConnectionError",
    "Error",
    "Event",
    "Forbidden",
    "NotFound",
    "Optimizer",
    "OutOfMemory",
    "Params",
    "PreconditionFailed",
    "ProtocolError",
    "RequestError",
    "StateDict",
    "StepResult",
    "TooLarge",
    "Unavailable",
    "Unprocessable",
]
