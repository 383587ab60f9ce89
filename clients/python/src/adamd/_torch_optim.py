"""torch.optim.Adam and AdamW whose moments are at a server, which takes the steps.

What is where: the values of the parameters and the hyperparameters are those here, as in torch.
Before a step, what has changed of them since the last one is told to the server. Moments and counts
are there alone, and come and go with state_dict() and load_state_dict()."""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np
import torch

from . import _errors, _torch_dict
from ._client import Client
from ._optimizer import Optimizer
from ._state import StateDict
from ._torch_tensors import check_fits, counter, tensor

_BITS = {4: torch.int32, 8: torch.int64}
_URL = "http://127.0.0.1:2326"

Options = Dict[str, Any]


def _options(group: Mapping[str, Any], index: int) -> Options:
    """The hyperparameters of a group; keys that are not torch's are the caller's own business."""
    own = {key: value for key, value in group.items() if key in _torch_dict.KNOWN}
    options = _torch_dict.options_of(own, f"param group {index}")
    return {key: options[key] for key in _torch_dict.STEPPED}


def _same(param: "torch.Tensor", known: "torch.Tensor") -> bool:
    """Whether every bit is the same."""
    bits = _BITS[param.element_size()]
    return bool(torch.equal(param.detach().cpu().view(bits), known.view(bits)))


def _fingerprint(grads: Mapping[str, Any], changed: Any) -> bytes:
    """Of what a step sends."""
    seen = hashlib.sha256(json.dumps([list(grads), changed]).encode())
    for grad in grads.values():
        seen.update(np.ascontiguousarray(grad.detach().cpu().numpy()).reshape(-1).data)
    return seen.digest()


class Served(torch.optim.Optimizer):
    """What Adam and AdamW have in common: a mixin before torch's own class."""

    def __init__(self, *args: Any, url: str = _URL, name: str, attach: bool = False, **kwargs: Any):
        self._names: List[List[str]] = []
        self._values: Dict[str, torch.Tensor] = {}
        self._sent: Optional[List[Options]] = None
        self._lost: Optional[Tuple[str, bytes]] = None
        self._url, self._name = url, name
        self._handle: Optional[Optimizer] = None
        super().__init__(*args, **kwargs)
        if attach:
            self._attach()
        else:
            self._create()

    @property
    def handle(self) -> Optimizer:
        """The optimizer at the server: its history, digest, settings; delete() when it is done."""
        if self._handle is None:
            self._handle = Client(self._url).optimizer(self._name)
        return self._handle

    def add_param_group(self, param_group: Dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            self._names.append(self._name_params(group))
            if self._sent is None:  # they are all sent once all are there
                return
            options = _options(group, len(self.param_groups) - 1)
            params = dict(zip(self._names[-1], group["params"]))
            self.handle.add_param_group(params, **options)
        except BaseException:
            del self.param_groups[-1], self._names[len(self.param_groups) :]
            raise
        self._sent.append(options)
        self._remember(params)

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:
        """One step at the server, with the gradients that are there; the parameters take their new
        values in place. After a ConnectionError it may have been taken; calling it again with the
        same gradients goes on with the same one, which counts once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        grads = {name: p.grad for name, p in self._params() if p.grad is not None}
        for grad in grads.values():
            if grad.is_sparse:
                raise RuntimeError("Adam does not support sparse gradients")
        if not grads:
            return loss
        self._tell_values()
        options = [_options(group, i) for i, group in enumerate(self.param_groups)]
        assert self._sent is not None
        changed = [
            {key: value for key, value in now.items() if value != before[key]}
            for now, before in zip(options, self._sent)
        ]
        self._take(grads, changed if any(changed) else None)
        self._sent = options
        return loss

    def state_dict(self) -> Dict[str, Any]:
        """As torch's, with the moments and counts of the server."""
        state = self.handle.state_dict()
        steps = state.header["steps"]
        for name, param in self._params():
            entry = _torch_dict.entry(state, name, steps[name], np.dtype(counter()))
            if entry is not None:
                self.state[param] = {
                    key: tensor(value).clone()
                    if key == "step"
                    else torch.empty_like(param, requires_grad=False).copy_(tensor(value))
                    for key, value in entry.items()
                }
        try:
            return super().state_dict()
        finally:
            self.state.clear()

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        """As torch's; moments and counts go to the server, with parameters and options."""
        super().load_state_dict(state_dict)
        try:
            self._load()
        finally:
            self.state.clear()

    def __getstate__(self) -> Dict[str, Any]:
        """Where the optimizer is, and no connection: what is pickled goes on with the same one."""
        own = {"_url": self._url, "_name": self._name, "_names": self._names}
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_url" in state:  # unpickled, or copied; torch's load_state_dict comes here too
            self._handle, self._sent, self._lost, self._values = None, None, None, {}

    # --- helpers

    def _params(self) -> Iterator[Tuple[str, "torch.Tensor"]]:
        for names, group in zip(self._names, self.param_groups):
            yield from zip(names, group["params"])

    def _name_params(self, group: Mapping[str, Any]) -> List[str]:
        """Those that torch was given (model.named_parameters()), or their numbers."""
        first = sum(map(len, self._names))
        count = len(group["params"])
        names = list(group.get("param_names") or map(str, range(first, first + count)))
        seen = {name for some in self._names for name in some}
        for name, param in zip(names, group["params"]):
            if name in seen:
                raise ValueError(f"two parameters are named {name!r}, expected a name for each")
            seen.add(name)
            _torch_dict.array_of(f"parameter {name!r}", param)  # refuses what adamd does not keep
        if len({id(param) for param in group["params"]}) != count:
            raise ValueError("a param group has one parameter twice, which adamd would step once")
        return names

    def _remember(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self._values[name] = value.detach().cpu().clone()

    def _create(self) -> None:
        options = [_options(group, i) for i, group in enumerate(self.param_groups)]
        groups = [{"params": names, **own} for names, own in zip(self._names, options)]
        params = dict(self._params())
        algorithm = _torch_dict.algorithm_of(self.param_groups, self._algorithm())
        # Gradients that are not finite are stepped with, as torch does.
        self.handle.create(params, algorithm, groups, nonfinite="apply")
        self._sent = options
        self._remember(params)

    def _algorithm(self) -> Optional[str]:
        """None where the groups say it themselves; an older torch has it in the class alone."""
        if any("decoupled_weight_decay" in group for group in self.param_groups):
            return None
        return "adamw" if isinstance(self, torch.optim.AdamW) else "adam"

    def _there(self) -> List[Options]:
        """The options of the groups at the server, which must be of the same parameters."""
        algorithm = _torch_dict.algorithm_of(self.param_groups, self._algorithm())
        found = self.handle.summary()["algorithm"]
        if found != algorithm:
            raise ValueError(f"the optimizer {self._name!r} is {found!r}, expected {algorithm!r}")
        groups = self.handle.param_groups(data="none")
        names = [[param["name"] for param in group["params"]] for group in groups]
        _torch_dict.match(names, self._names)
        return [{key: group[key] for key in _torch_dict.STEPPED} for group in groups]

    def _attach(self) -> None:
        self._sent = self._there()
        values = self.handle.params()
        for name, param in self._params():
            check_fits(name, values[name], param)
        with torch.no_grad():
            self._receive(values)

    def _receive(self, values: Mapping[str, "np.ndarray[Any, Any]"]) -> None:
        """New values into the parameters. They are kept where they came, to be compared with."""
        params = dict(self._params())
        for name, array in values.items():
            self._values[name] = tensor(array)
            params[name].copy_(self._values[name])

    def _tell_values(self) -> None:
        """Overwrites the parameters at the server where somebody has changed them here: a loaded
        model, weights that were clipped or averaged."""
        if self._sent is None:  # unpickled
            self._sent = self._there()
            self._values = {name: tensor(a) for name, a in self.handle.params().items()}
        params = dict(self._params())
        if all(_same(param, self._values[name]) for name, param in params.items()):
            return
        self.handle.put_params(params)
        self._remember(params)

    def _take(self, grads: Mapping[str, "torch.Tensor"], changed: Any) -> None:
        key = secrets.token_hex(16)
        if self._lost is not None and self._lost[1] == _fingerprint(grads, changed):
            key = self._lost[0]
        try:
            result = self.handle.step(grads, param_groups=changed, idempotency_key=key)
        except _errors.RequestError:
            self._lost = None  # nothing has changed
            raise
        except BaseException:
            self._lost = (key, _fingerprint(grads, changed))
            raise
        self._lost = None
        assert result.params is not None
        self._receive(result.params)

    def _load(self) -> None:
        names = [name for some in self._names for name in some]
        ids = iter(range(len(names)))
        groups = [
            {**_options(group, i), **_torch_dict.flags_of(group), "params": [next(ids) for _ in group["params"]]}
            for i, group in enumerate(self.param_groups)
        ]  # fmt: skip
        params = dict(self._params())
        states = {i: self.state[p] for i, p in enumerate(params.values()) if p in self.state}
        algorithm = _torch_dict.algorithm_of(self.param_groups, self._algorithm())
        torch_state = {"state": states, "param_groups": groups}
        state = _torch_dict.to_adamd(torch_state, params, names, algorithm, None, copy=False)
        header = {**state.header, "nonfinite": "apply"}
        state = StateDict(state.arrays, {"state_dict": json.dumps(header)})
        self.handle.load_state_dict(state, "everything")
        self._sent = [_options(group, i) for i, group in enumerate(self.param_groups)]
        self._remember(params)


class Adam(Served, torch.optim.Adam):
    """torch.optim.Adam, stepped by the server at `url` as the optimizer `name`, which it creates.

    All arguments but these are torch's. With `attach` the optimizer is there already, with the same
    groups of the same parameters: the model takes its values, and hyperparameters that differ go
    with the next step. What makes torch step in another way (fused, foreach, capturable,
    differentiable) is refused, and so are parameters of other types than float32 and float64.
    """


class AdamW(Served, torch.optim.AdamW):
    """torch.optim.AdamW, stepped by the server at `url` as the optimizer `name`; as Adam."""
