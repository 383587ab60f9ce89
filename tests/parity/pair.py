"""One torch optimizer and one of adamd's, created alike and stepped alike."""

import collections
import json

import numpy as np
import torch

import adamd
import gradients
import reference
import schedules
import values
import wire
from server import Peer, Refused, from_json, to_json

KINDS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
OPTIONS = ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize")
JSON_UP_TO = 3000  # elements of a body; larger ones go as safetensors


class Request:
    """A step that is about to be taken. Events change it before it is sent.

    grads: torch tensors by name, as they are sent; torch's optimizer gets them in the type of the
    parameter. overrides: adamd's `param_groups` of this step, or None; torch's groups have the
    changes already, and `before` what they had. members: what is to be done with the gradients of
    this step (gradients.py). types: what gradients may be sent in. reply: the type of the reply's
    parameters, or None: their own.
    """

    def __init__(self):
        self.grads = {}
        self.overrides = self.before = None
        self.members = {}
        self.types = ()
        self.spoil = False
        self.reply = None


class Pair:
    def __init__(self, rng, tally, client, pool, url, seed):
        self.rng = rng
        self.tally = tally
        self.algorithm = values.pick(rng, ("adam", "adamw"))
        self.kind = KINDS[self.algorithm]
        self.dtypes = values.pick(rng, (("float32",), ("float64",), ("float32", "float64")))
        self.style = values.pick(rng, ("plain", "wild", "wild", "sparse"))
        self.params = {}  # name: torch.nn.Parameter, in order
        self.steps = 0
        self.schedules = {}  # of torch's groups, by index
        self.grad_options = {}  # of every step, where they are not the defaults
        self.counts = collections.Counter()
        name = f"parity-{seed}"
        self.adamd = client.optimizer(name)
        self.peer = Peer(pool, url, name)
        self._create()

    # --- creation

    def new_params(self):
        """Some parameters as arrays by name, not in torch yet."""
        names = ("w{}", "layer.{}.weight", "a/b {}", "κ{}", "{}")
        first = len(self.params)
        return {values.pick(self.rng, names).format(first + i):
                values.parameter(self.rng, values.pick(self.rng, self.dtypes), values.shape(self.rng))
                for i in range(int(self.rng.integers(1, 5)))}

    def adopt(self, arrays):
        """torch's parameters of these arrays."""
        made = {name: torch.nn.Parameter(torch.from_numpy(a.copy())) for name, a in arrays.items()}
        self.params.update(made)
        return list(made.values())

    def _create(self):
        defaults = values.options(self.rng, 0.6)
        groups, arrays = [], {}
        for _ in range(int(self.rng.integers(1, 5))):
            new = self.new_params()
            groups.append({"params": list(new), **self.group_options()})
            arrays.update(new)
            self.adopt(new)
        torch_groups = [{**g, "params": [self.params[n] for n in g["params"]]} for g in groups]
        for group in torch_groups:
            group.pop("schedule", None)
        self.torch = self.kind(torch_groups, foreach=False, fused=False, **defaults)
        top = {}
        if values.chance(self.rng, 0.5) or sum(a.size for a in arrays.values()) > JSON_UP_TO:
            self.adamd.create(arrays, self.algorithm, groups, **defaults)
        else:
            top = self._create_json(groups, arrays, defaults)
        for index, group in enumerate(groups):
            self.adopt_schedule(index, group.get("schedule", top.get("schedule")))

    def _create_json(self, groups, arrays, defaults):
        """Creates it from JSON. What stands beside the groups."""
        top = {}
        if values.chance(self.rng, 0.2):
            top["schedule"] = schedules.spec(self.rng)
        if values.chance(self.rng, 0.2):
            self.grad_options = gradients.random_options(self.rng)
        described = [{**g, "params": [self.describe(n, arrays[n]) for n in g["params"]]} for g in groups]
        self.peer.request("PUT", "", {"algorithm": self.algorithm, "defaults": defaults,
                                      "param_groups": described, **top, **self.grad_options})
        return top

    def group_options(self):
        """Of a new group, as adamd gets them: with a schedule, perhaps, which torch's groups have not."""
        own = values.options(self.rng, 0.3)
        if values.chance(self.rng, 0.15):
            own["schedule"] = schedules.spec(self.rng) if values.chance(self.rng, 0.7) else None
        return own

    def adopt_schedule(self, index, spec):
        """Gives one of torch's groups a schedule, from its lr as it is."""
        if spec is not None:
            self.schedules[index] = schedules.Schedule(self.groups[index], spec)

    def describe(self, name, array):
        """A parameter in JSON, as creations and new groups have it."""
        return {"name": name, "shape": list(array.shape), "dtype": array.dtype.name,
                "data": to_json(array, values.chance(self.rng, 0.5))}

    # --- hyperparameters

    @property
    def groups(self):
        return self.torch.param_groups

    def names(self, group):
        """Parameters of one of torch's groups, by adamd's names."""
        own = {id(p) for p in group["params"]}
        return [name for name, p in self.params.items() if id(p) in own]

    def patch(self, index, changes):
        """Changes one group of adamd's, through the client or in plain JSON. May raise what a refusal
        raises."""
        if values.chance(self.rng, 0.5):
            self.adamd.patch(index, **changes)
        else:
            self.peer.request("PATCH", f"/param_groups/{index}", changes)

    # --- a step

    def request(self):
        return Request()

    def fill(self, request):
        """Gradients for most parameters, for one at least."""
        missing = values.pick(self.rng, (0.0, 0.0, 0.1, 0.6))
        names = [name for name in self.params if not values.chance(self.rng, missing)]
        for name in names or [values.pick(self.rng, list(self.params))]:
            p = self.params[name].detach().numpy()
            style = values.pick(self.rng, (self.style, "plain")) if request.types else self.style
            grad = torch.from_numpy(values.gradient(self.rng, p.dtype.name, p.shape, style))
            if request.types:
                dtype = values.pick(self.rng, request.types)
                most = min(torch.finfo(t).max for t in (dtype, grad.dtype)) if values.chance(self.rng, 0.95) else float("inf")
                grad = grad.clamp(-most, most).to(dtype)
            request.grads[name] = grad
        if request.spoil:
            name = values.pick(self.rng, list(request.grads))
            flat = request.grads[name].reshape(-1)
            if flat.numel():
                bad = values.pick(self.rng, (float("nan"), float("inf"), float("-inf")))
                flat[int(self.rng.integers(flat.numel()))] = bad

    def give(self, grads):
        """Puts gradients where torch's optimizer looks for them, in the types it wants them in."""
        for name, p in self.params.items():
            grad = grads.get(name)
            p.grad = None if grad is None else grad.to(p.dtype, copy=True)

    def prepare(self, request, reported=None):
        self.give(request.grads)
        return gradients.Preparation(self.torch, {**self.grad_options, **request.members}, reported)

    def settle_zeros(self, request):
        """Takes zeros out of the gradients that torch has no one answer for (reference.zero_sign), also
        those that only come of scaling and clipping."""
        prepared = self.prepare(request)
        for group in self.groups:
            zero = reference.zero_sign(group["betas"], group["maximize"])
            for name in self.names(group):
                grad = self.params[name].grad
                if grad is not None:
                    where = values.doubtful_zeros(grad.numpy(), zero)
                    request.grads[name].reshape(-1)[where] = -0.0 if zero else 0.0
        return prepared

    def step(self, request):
        self.settle_zeros(request)
        verdict = self.settle_zeros(request).verdict  # the first may have changed the norm
        self.counts[verdict] += verdict != "step"
        if verdict == "refuse":
            got = self.refusal(lambda: self.send(request))
            self.tally.equal(f"after step {self.steps}, refusal of gradients", "non-finite", got)
            self.take_back(request)
            self.compare_params(self.read_params())
            return
        self.steps += verdict == "step"
        got, said = self.send(request)
        prepared = self.prepare(request, None if said is None else said["grad_norm"])
        prepared.step()
        if verdict == "skip":
            self.take_back(request)
        else:
            for schedule in self.schedules.values():
                schedule.step()
        if said is not None:
            self._compare_said(prepared, verdict, said, request)
        if request.reply is not None:
            self._compare_reply(got, request.reply)
            got = {}
        if len(got) < len(self.params):
            got = {**got, **self.read_params()}
        self.compare_params(got)
        if self.schedules:
            self.compare_options(self.peer.request("GET", "/param_groups?data=none"))

    def take_back(self, request):
        """What came with a step that was not taken."""
        for group, changes, before in zip(self.groups, request.overrides or (), request.before or ()):
            for key in changes:
                group[key] = before[key]

    def compare_params(self, got):
        for name, p in self.params.items():
            self.tally.arrays(f"step {self.steps}, {name!r}", p.detach().numpy(), got.get(name))

    def _compare_said(self, prepared, verdict, said, request):
        where = f"step {self.steps}, "
        self.tally.equal(where + "number", self.steps, said["step"])
        self.tally.equal(where + "skipped", verdict == "skip", said["skipped"])
        if verdict == "skip":
            return
        self.tally.same_number(where + "clip_coef", prepared.clip_coef, said["clip_coef"])
        self.tally.close(where + "grad_norm", prepared.norm, said["grad_norm"])
        converted = sum(g.dtype != self.params[name].dtype for name, g in request.grads.items())
        self.tally.equal(where + "converted", converted if request.types else 0, said["converted"])
        if prepared.torch_norm_differs is not None:
            self.counts["norms clipped"] += 1
            self.counts["norms that torch's own differs from"] += prepared.torch_norm_differs

    def _compare_reply(self, got, dtype):
        """A reply in another type. Its numbers are compared as float32 or float64, which hold them."""
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        for name, tensor in got.items():
            own = self.params[name].detach()
            expected = wire.convert(own, dtype).to(wide).numpy()
            torch_own = own.to(dtype).to(wide).numpy()
            self.counts["numbers that torch rounds twice"] += int(
                ((torch_own != expected) & ~np.isnan(expected)).sum())
            self.tally.equal(f"type of {name!r}", str(dtype), str(tensor.dtype))
            self.tally.arrays(f"step {self.steps}, {name!r} in {dtype}", expected, tensor.to(wide).numpy())

    # --- over HTTP

    def send(self, request):
        """The step, in one form or another. The parameters that came back and what was said of it, both
        of which may be missing: {} and None."""
        small = sum(g.numel() for g in request.grads.values()) <= JSON_UP_TO
        own = request.types or request.reply
        if not own and small and values.chance(self.rng, 0.5):
            return self._send_json(request)
        plain = not (own or request.members or self.grad_options)
        if not plain or values.chance(self.rng, 0.2):
            return self._send_safetensors(request)
        minimal = values.chance(self.rng, 0.1)
        done = self.adamd.step({name: g.numpy() for name, g in request.grads.items()},
                               param_groups=request.overrides, minimal=minimal)
        self.tally.equal("step", self.steps, done.step)
        return done.params or {}, None

    def _send_json(self, request):
        short = values.chance(self.rng, 0.5)
        body = {"grads": {n: to_json(g.numpy(), short) for n, g in request.grads.items()}, **request.members}
        if request.overrides is not None:
            body["param_groups"] = request.overrides
        said = self.peer.request("POST", "/step", body)
        return ({name: self.read(name, data) for name, data in said["params"].items()},
                {**said["stats"], "step": said["step"]})

    def _send_safetensors(self, request):
        metadata = wire.metadata_text(request.members)
        if request.overrides is not None:
            metadata["param_groups"] = json.dumps(request.overrides)
        query = "" if request.reply is None else f"?dtype={wire.QUERY[request.reply]}"
        tensors, said = self.peer.tensors("/step" + query, wire.encode(request.grads, metadata))
        if request.reply is None:
            tensors = {name: tensor.numpy() for name, tensor in tensors.items()}
        numbers = {key: float(said[key]) for key in ("step", "grad_norm", "clip_coef", "converted")}
        return tensors, {**numbers, "skipped": said["skipped"] == "true"}

    def read(self, name, data):
        p = self.params[name].detach().numpy()
        return from_json(data, p.dtype, p.shape)

    def read_params(self):
        numel = sum(p.numel() for p in self.params.values())
        if numel > JSON_UP_TO or values.chance(self.rng, 0.7):
            return self.adamd.params()
        said = self.peer.request("GET", "/params")
        return {name: self.read(name, data) for name, data in said["params"].items()}

    def refusal(self, action):
        """The problem's code if `action` is refused, else None."""
        try:
            action()
        except (adamd.RequestError, Refused) as refused:
            return refused.code
        return None

    # --- the end

    def finish(self):
        """Compares everything that there is."""
        if values.chance(self.rng, 0.5):
            said = self.adamd.state_dict()
            head = said.header
            steps = head["steps"]
            parts = {kind: said.part(kind) for kind in ("params", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")}
        else:
            head = self.peer.request("GET", "/state_dict")
            steps = {name: s["step"] for name, s in head["state"].items()}
            parts = {"params": {n: self.read(n, p["data"]) for n, p in head["params"].items()}}
            for kind in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
                parts[kind] = {n: self.read(n, s[kind]) for n, s in head["state"].items() if kind in s}
        self.tally.equal("steps of all", self.steps, head["step"])
        for name, p in self.params.items():
            self._compare_state(name, p, steps.get(name), {k: part.get(name) for k, part in parts.items()})
        self.compare_options(head["param_groups"])
        self.compare_initial_lrs(self.peer.request("GET", "/param_groups?data=none"))

    def _compare_state(self, name, p, steps, streams):
        state = self.torch.state.get(p, {})
        self.tally.equal(f"the end, step of {name!r}", int(state.get("step", 0)), steps)
        self.tally.arrays(f"the end, {name!r}", p.detach().numpy(), streams["params"])
        for kind in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
            where = f"the end, {kind} of {name!r}"
            if kind in state:
                self.tally.arrays(where, state[kind].numpy(), streams[kind])
            elif state:
                self.tally.equal(where + ", there", False, streams[kind] is not None)
            elif streams[kind] is not None:  # torch makes a parameter's state with its first step
                self.tally.arrays(where, np.zeros_like(p.detach().numpy()), streams[kind])

    def compare_options(self, groups):
        self.tally.equal("param groups", len(self.groups), len(groups))
        for i, (theirs, ours) in enumerate(zip(self.groups, groups)):
            for key in OPTIONS:
                value = list(theirs[key]) if key == "betas" else theirs[key]
                self.tally.equal(f"param_groups[{i}].{key}", value, ours[key])
            names = [p if isinstance(p, str) else p["name"] for p in ours["params"]]
            self.tally.equal(f"param_groups[{i}].params", self.names(theirs), names)

    def compare_initial_lrs(self, groups):
        for i, (theirs, ours) in enumerate(zip(self.groups, groups)):
            self.tally.equal(f"param_groups[{i}].initial_lr", theirs.get("initial_lr"), ours.get("initial_lr"))

    def describe_self(self):
        numel = sum(p.numel() for p in self.params.values())
        return (f"{self.algorithm}, {len(self.groups)} groups, {len(self.params)} parameters of {numel} "
                f"elements in {' and '.join(self.dtypes)}, {self.style} gradients")
