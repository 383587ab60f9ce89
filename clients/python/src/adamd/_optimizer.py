"""The handle on one optimizer: arguments into requests, replies into arrays."""

from __future__ import annotations

import json
import operator
import secrets
from typing import (
    TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Sequence, Union, overload,
)  # fmt: skip
from urllib.parse import urlencode

import numpy as np

from . import _bodies, _errors, _events, _safetensors, _settings, _step
from ._state import StateDict
from ._step import StepResult
from ._transport import Reply

if TYPE_CHECKING:
    from ._client import Client

_SAFETENSORS = "application/vnd.safetensors"

Arrays = Dict[str, "np.ndarray[Any, Any]"]
Json = Dict[str, Any]


class Params(Arrays):
    """All parameters by name, as a dict, with the `step` and the `etag` that they are of."""

    step: int
    etag: str


class Optimizer:
    """A handle on one named optimizer of a server."""

    def __init__(self, client: "Client", name: str):
        self._client = client
        self.name = name
        self._path = "/v1/optimizers/" + _bodies.segment(name)

    def __repr__(self) -> str:
        return f"<adamd.Optimizer {self.name!r}>"

    def create(
        self,
        params: Mapping[str, Any],
        algorithm: str = "adam",
        param_groups: Optional[Sequence[Mapping[str, Any]]] = None,
        *,
        schedule: Optional[Mapping[str, Any]] = None,
        **defaults: Any,
    ) -> Json:
        """Creates it, with these initial values (float32 or float64; the 16-bit types become
        float32), and returns its summary.

        `defaults` are torch's hyperparameters (lr, betas, eps, weight_decay, amsgrad, maximize),
        adamd's own (bias_correction, buffers), and what configure() takes. `schedule` is that of
        every group that names none: {"name": "StepLR", "step_size": 30}. `param_groups` is a list
        of {"params": [names], "lr": ..., ...}; left out, one group holds every parameter. A group
        with "buffers": True is of running statistics, whose values a step takes as they are sent. In
        place of the list of names may stand re.compile(...) or {"regex": "..."}: every parameter in whose
        name the server finds it, as PCRE2 reads it.
        """
        settings = (*_settings.GRADIENTS, *_settings.WORKERS)
        own = {name: defaults.pop(name) for name in settings if name in defaults}
        spec: Json = {"algorithm": algorithm, **_settings.for_json(own)}
        if schedule is not None:
            spec["schedule"] = schedule
        if defaults:
            spec["defaults"] = defaults
        if param_groups is not None:
            spec["param_groups"] = [_bodies.new_group(group) for group in param_groups]
        metadata = {"optimizer": json.dumps(spec, allow_nan=False)}
        summary: Json = self._json("PUT", "", tensors=params, metadata=metadata)
        return summary

    def step(
        self,
        grads: Mapping[str, Any],
        *,
        worker: Optional[str] = None,
        if_match: Optional[str] = None,
        param_groups: Optional[Sequence[Mapping[str, Any]]] = None,
        minimal: bool = False,
        grad_scale: Optional[float] = None,
        nonfinite: Optional[str] = None,
        max_grad_norm: Optional[float] = None,
        norm_type: Union[None, float, str] = None,
        error_if_nonfinite: Optional[bool] = None,
        clip_value: Optional[float] = None,
        dtype: Any = None,
        idempotency_key: Optional[str] = None,
        weight: Optional[float] = None,
        based_on: Optional[int] = None,
    ) -> StepResult:
        """Sends gradients, takes one step, and returns the updated parameters.

        Gradients may be of any of the four types; they are converted to their parameter's. `dtype`
        ("bfloat16", np.float16, ...) is that of the parameters that come back; None: their own.

        What is done with the gradients of this step, before it and in this order; None stands for
        the optimizer's own setting, math.inf for no limit: `grad_scale` (they are multiplied with
        its inverse), `nonfinite` ("error", "skip" or "apply"), `max_grad_norm` with `norm_type` (2
        or math.inf) and `error_if_nonfinite`, `clip_value`.

        `param_groups` is one dict of changed hyperparameters for each group, which stay. With
        `if_match` the step is taken only on the version of that ETag (PreconditionFailed
        otherwise). `minimal` asks for neither parameters nor statistics back; StepResult says what
        is left.

        `idempotency_key` names this step among all (1 to 128 visible ASCII characters; None: 128
        random bits), so that it is taken once however often it is sent; Client says when that is.
        After a ConnectionError it may have been taken: a call with the same key and gradients goes
        on where this one ended. `weight` is what these gradients count in a weighted mean, such as
        their number of samples, `based_on` the step of the parameters that they were computed on.
        With aggregation "sync" the reply comes when the round closes.
        """
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = _bodies.visible("idempotency_key", idempotency_key)
        if worker is not None:
            headers["Adam-Worker"] = _bodies.visible("worker", worker)
        if weight is not None:
            headers["Adam-Weight"] = repr(float(weight))
        if based_on is not None:
            headers["Adam-Based-On"] = str(operator.index(based_on))
        if if_match is not None:
            headers["If-Match"] = if_match
        metadata = _settings.for_metadata(
            {
                "grad_scale": grad_scale,
                "nonfinite": nonfinite,
                "max_grad_norm": max_grad_norm,
                "norm_type": norm_type,
                "error_if_nonfinite": error_if_nonfinite,
                "clip_value": clip_value,
            }
        )
        if param_groups is not None:
            groups = [dict(group) for group in param_groups]
            metadata["param_groups"] = json.dumps(groups, allow_nan=False)
        body = _safetensors.encode(grads, metadata)
        options: Json = {"body": body, "content_type": _SAFETENSORS, "headers": headers}
        path = self._path + "/step" + self._query(dtype=_settings.wire_dtype(dtype))
        if minimal:
            headers["Prefer"] = "return=minimal"
            reply = self._client._request("POST", path, accept=_SAFETENSORS, **options)
            return _step.minimal(self._etag(reply), reply.status == 202, reply.replayed)
        reply, arrays, said = self._client._tensors("POST", path, **options)
        try:
            return _step.full(self._etag(reply), arrays, said, reply.replayed)
        except (KeyError, ValueError, TypeError) as error:
            raise _errors.ProtocolError(f"POST {path}: metadata: {error!r}") from None

    def param_groups(self, data: Optional[str] = None) -> List[Json]:
        """torch's param_groups. `data` is "all", "none", or None: values where a parameter has at
        most 1000 elements."""
        groups: List[Json] = self._json("GET", "/param_groups" + self._query(data=data))
        return groups

    def add_param_group(self, params: Mapping[str, Any], **options: Any) -> None:
        """Adds a group of new parameters, of the types that create() takes, as torch's
        add_param_group does. `options` are its hyperparameters, and `schedule`."""
        metadata = {"param_group": json.dumps(options, allow_nan=False)} if options else None
        self._send_tensors("POST", "/param_groups", params, metadata)

    def patch(self, index: int, **changes: Any) -> Json:
        """Changes hyperparameters of one group, from the next step on, and returns the group.
        `schedule` replaces the group's, and starts from its lr; None takes it away."""
        reply = self._send_json("PATCH", f"/param_groups/{index}", changes)
        group: Json = json.loads(reply.body.tobytes())
        return group

    def configure(self, **settings: Any) -> Json:
        """Changes settings, from the next step on, and returns the summary. What is done with
        gradients, as in step(): grad_scale, nonfinite, max_grad_norm, norm_type,
        error_if_nonfinite, clip_value. How workers work together: `aggregation`
        ({"mode": "sync", "workers": 4}, ...; its members go over those of the same mode), `input`
        ("gradients" or "weights"), `max_consecutive_nonfinite`. None is the default."""
        reply = self._send_json("PATCH", "", _settings.for_json(settings))
        summary: Json = json.loads(reply.body.tobytes())
        return summary

    @overload
    def params(
        self, dtype: Any = None, *, wait: Optional[int] = None, if_none_match: None = None
    ) -> Params: ...
    @overload
    def params(
        self, dtype: Any = None, *, wait: Optional[int] = None, if_none_match: str
    ) -> Optional[Params]: ...
    def params(
        self,
        dtype: Any = None,
        *,
        wait: Optional[int] = None,
        if_none_match: Optional[str] = None,
    ) -> Optional[Params]:
        """The values of all parameters, in their own types or all in `dtype`, with the step and the
        etag they are of.

        `if_none_match` is an etag: None comes where the parameters are still of it. `wait` is in
        whole seconds, 1 to 300: the reply comes when the step changes, with `if_none_match` when it
        has changed since, or at the end of the wait.
        """
        query = self._query(dtype=_settings.wire_dtype(dtype), wait=wait)
        headers = {} if if_none_match is None else {"If-None-Match": if_none_match}
        path = self._path + "/params" + query
        reply, arrays, said = self._client._tensors("GET", path, headers=headers, wait=wait or 0)
        if reply.status == 304:
            return None
        params = Params(arrays)
        params.etag = self._etag(reply)
        try:
            params.step = int(said["step"])
        except (KeyError, ValueError) as error:
            raise _errors.ProtocolError(f"GET {path}: metadata: {error!r}") from None
        return params

    def param(self, name: str, dtype: Any = None) -> "np.ndarray[Any, Any]":
        """The values of one parameter, in its own type or in `dtype`."""
        query = self._query(dtype=_settings.wire_dtype(dtype))
        path = f"{self._path}/params/{_bodies.segment(name)}{query}"
        return self._client._tensors("GET", path)[1][name]

    def put_params(self, params: Mapping[str, Any]) -> None:
        """Overwrites all parameters, by name; moments and step counts stay."""
        self._send_tensors("PUT", "/params", params, None)

    def state(self, name: str, data: Optional[str] = None) -> Json:
        """Step, moments and their statistics of one parameter. The "data" of a moment, where it
        stands (as in param_groups), is an array."""
        reply: Json = self._json("GET", f"/state/{_bodies.segment(name)}" + self._query(data=data))
        for moment in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
            if moment in reply and "data" in reply[moment]:
                nested = reply[moment]["data"]
                reply[moment]["data"] = _bodies.from_json(nested, reply["dtype"], reply["shape"])
        return reply

    def state_dict(self) -> StateDict:
        """Everything: parameters, moments, counts, hyperparameters."""
        _, arrays, metadata = self._client._tensors("GET", self._path + "/state_dict")
        return StateDict(arrays, metadata)

    def restore(self, state: StateDict, **defaults: Any) -> None:
        """Creates this optimizer as `state` is, on a server that does not have it: schedules and
        what is done with gradients come with the state. `defaults` are hyperparameters for groups
        that are added later, which a state_dict has not, as torch's has not, and how workers work
        together (aggregation, input, max_consecutive_nonfinite), which is in no state either. Where
        the state does not load, the optimizer is removed again."""
        for name in ("schedule", *_settings.GRADIENTS):
            if name in defaults:
                raise TypeError(
                    f"restore() takes no {name}: it comes with the state; change it afterwards, "
                    "with configure() or patch()"
                )
        groups = []
        for group in state.header["param_groups"]:
            # what a schedule made of these may lie beyond what can be asked for; loading sets them
            skip = {"lr", "betas", "initial_lr", "schedule"} if "schedule" in group else set()
            kept = {k: v for k, v in group.items() if k not in skip}
            groups.append({"buffers": False, **kept})  # stays as created, whatever `defaults` say
        self.create(state.part("params"), state.header["algorithm"], groups, **defaults)
        try:
            self.load_state_dict(state, "everything")
        except BaseException:
            self.delete()  # it is not what the caller wanted
            raise

    def load_state_dict(self, state: StateDict, load: str) -> None:
        """load="everything" makes this optimizer what `state` is, bit for bit; it must have the
        same groups of the same parameters. load="params" takes the values of the parameters alone;
        moments, step counts and options stay."""
        if load not in ("params", "everything"):
            raise ValueError(f"load is {load!r}, expected 'params' or 'everything'")
        arrays: Mapping[str, Any] = state.arrays
        if load == "params":  # the rest need not travel
            arrays = {"params/" + name: array for name, array in state.part("params").items()}
        metadata = state.metadata if load == "everything" else None
        self._send_tensors("PUT", "/state_dict" + self._query(load=load), arrays, metadata)

    def digest(self) -> str:
        """The digest "sha256:<hex>" of everything that decides the next step, computed by the
        server; that of its state is StateDict.digest()."""
        return str(self._json("GET", "/digest")["digest"])

    def history(self, last: Optional[int] = None) -> List[Json]:
        """The last steps, oldest first: step, time, worker, norms and, by param group, lr and
        norms. All that the server keeps, or the last `last`."""
        reply = self._json("GET", "/history" + self._query(last=last))
        return [_events.with_floats(record) for record in reply["history"]]

    def changes(self, last: Optional[int] = None) -> List[Json]:
        """What was changed between steps, oldest first: time, step, what, from, to."""
        changes: List[Json] = self._json("GET", "/changes" + self._query(last=last))["changes"]
        return changes

    def events(self, last_event_id: Optional[int] = None) -> Iterator[_events.Event]:
        """Steps as they come, from the next one on or, with the id of the last event that was seen,
        from the one after it. Where the stream breaks or ends, it goes on behind the last event, on
        a new connection, as often in a row as the client repeats (then ConnectionError); a "gap"
        tells of steps that are no longer there. Ends after "removed", which says that the optimizer
        was; close() ends it from this side."""
        return self._client._events(self._path + "/events", last_event_id)

    def workers(self) -> List[Json]:
        """Who has sent gradients, by name: "steps", "last_seen", "staleness", "nonfinite",
        "quarantined", what was "refused" of them, ..."""
        workers: List[Json] = self._json("GET", "/workers")["workers"]
        return workers

    def remove_worker(self, name: str) -> None:
        """Forgets a worker, and ends its quarantine."""
        self._client._request("DELETE", f"{self._path}/workers/{_bodies.segment(name)}")

    def round(self) -> Json:
        """The round that gathers gradients now: "mode", "open", "gradients", "wanted", "workers",
        "closes_in_ms", ..."""
        state: Json = self._json("GET", "/round")
        return state

    def drop_round(self) -> None:
        """Drops the gradients that the round holds; those who wait for it get a Conflict,
        "round-ended"."""
        self._client._request("DELETE", self._path + "/round")

    def snapshot(self) -> Json:
        """Writes a snapshot now, on a server with a data directory, and returns when it is on disk:
        {"step", "lsn"}, lsn being the place in the journal that it stands for."""
        return self._posted("/snapshot", None)

    def rollback(self, step: int) -> Json:
        """Makes it what it was at that step, to the bit, and returns the summary. The epoch
        changes; gradients that are held are dropped."""
        return self._posted("/rollback", {"step": operator.index(step)})

    def fork(self, name: str, step: Optional[int] = None) -> Json:
        """Makes another optimizer of this one as it is, or was at `step`, and returns the other's
        summary."""
        asked: Json = {"name": name}
        if step is not None:
            asked["step"] = operator.index(step)
        return self._posted("/fork", asked)

    def summary(self) -> Json:
        """Algorithm, step, counts, bytes, defaults, settings."""
        summary: Json = self._json("GET", "")
        return summary

    def etag(self) -> str:
        """The version it is at, for `if_match`."""
        return self._etag(self._client._request("HEAD", self._path))

    def delete(self) -> None:
        """Removes it from the server."""
        self._client._request("DELETE", self._path)

    # --- helpers

    def _json(
        self,
        method: str,
        rest: str,
        tensors: Optional[Mapping[str, Any]] = None,
        metadata: Optional[Dict[str, str]] = None,
    ) -> Any:
        if tensors is None:
            return self._client._json(method, self._path + rest)
        body = _safetensors.encode(tensors, metadata)
        path = self._path + rest
        return self._client._json(method, path, body=body, content_type=_SAFETENSORS)

    def _send_json(self, method: str, rest: str, value: Any) -> Reply:
        return self._client._request(method, self._path + rest, body=_bodies.json_body(value))

    def _posted(self, rest: str, value: Optional[Json]) -> Json:
        body = None if value is None else _bodies.json_body(value)
        reply: Json = self._client._json("POST", self._path + rest, body=body)
        return reply

    def _send_tensors(
        self,
        method: str,
        rest: str,
        tensors: Mapping[str, Any],
        metadata: Optional[Dict[str, str]],
    ) -> None:
        body = _safetensors.encode(tensors, metadata)
        self._client._request(method, self._path + rest, body=body, content_type=_SAFETENSORS)

    def _etag(self, reply: Reply) -> str:
        if reply.etag is None:
            raise _errors.ProtocolError(f"a reply about {self.name!r} has no ETag")
        return reply.etag

    @staticmethod
    def _query(**values: Any) -> str:
        given = {key: value for key, value in values.items() if value is not None}
        return "?" + urlencode(given) if given else ""
