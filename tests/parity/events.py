"""What happens between two steps of a configuration. Each event is a function of a pair and of the
step that comes next, which does the same to torch and to adamd; EVENTS says how often. A feature that
torch has too is compared by adding its event here."""

import copy

import torch

import gradients
import schedules
import transfers
import values
import wire


def apply(group, changes):
    """To one of torch's groups, as a training script writes group["lr"] = 0.1."""
    for key, value in changes.items():
        group[key] = value


def patch(pair, _):
    """PATCH of some hyperparameters of one group."""
    index = int(pair.rng.integers(len(pair.groups)))
    changes = values.options(pair.rng, 0.4, amsgrad=False)
    if changes:
        pair.patch(index, changes)
        apply(pair.groups[index], changes)


def flip_maximize(pair, _):
    index = int(pair.rng.integers(len(pair.groups)))
    changes = {"maximize": not pair.groups[index]["maximize"]}
    pair.patch(index, changes)
    apply(pair.groups[index], changes)


def override(pair, request):
    """Hyperparameters that come with the step."""
    request.overrides = [values.options(pair.rng, 0.3, amsgrad=False) for _ in pair.groups]
    request.before = [dict(group) for group in pair.groups]
    for group, changes in zip(pair.groups, request.overrides):
        apply(group, changes)


def add_group(pair, _):
    """add_param_group; what the new group leaves out comes from the optimizer's defaults."""
    if len(pair.groups) >= 8:
        return
    arrays = pair.new_params()
    own = pair.group_options()
    if values.chance(pair.rng, 0.5):
        pair.adamd.add_param_group(arrays, **own)
    else:
        specs = [pair.describe(name, array) for name, array in arrays.items()]
        pair.peer.request("POST", "/param_groups", {"params": specs, **own})
    spec = own.pop("schedule", None)
    pair.torch.add_param_group({"params": pair.adopt(arrays), **own})
    pair.adopt_schedule(len(pair.groups) - 1, spec)


def torch_refuses_amsgrad(pair, index):
    """Whether torch, given a gradient for every parameter of the group, raises KeyError with amsgrad
    switched on. Tried on a copy, since torch has stepped other parameters by then."""
    trial = copy.deepcopy(pair.torch)
    for group in trial.param_groups:
        for p in group["params"]:
            p.grad = None
    trial.param_groups[index]["amsgrad"] = True
    for p in trial.param_groups[index]["params"]:
        p.grad = torch.zeros_like(p)
    try:
        trial.step()
    except KeyError as error:
        assert error.args == ("max_exp_avg_sq",), error
        return True
    return False


def flip_amsgrad(pair, request):
    """Off is always possible. On, where torch raises adamd must refuse, and nowhere else."""
    index = int(pair.rng.integers(len(pair.groups)))
    changes = {"amsgrad": not pair.groups[index]["amsgrad"]}
    refusal = None
    if changes["amsgrad"] and torch_refuses_amsgrad(pair, index):
        refusal = "state-mismatch"
    in_step = refusal is not None and values.chance(pair.rng, 0.5)
    if in_step:  # a step that is refused whole
        attempt = pair.request()
        pair.fill(attempt)
        attempt.overrides = [changes if i == index else {} for i in range(len(pair.groups))]
        got = pair.refusal(lambda: pair.send(attempt))
    elif request.overrides is not None and refusal is None and values.chance(pair.rng, 0.5):
        request.overrides[index].update(changes)
        got = None
    else:
        got = pair.refusal(lambda: pair.patch(index, changes))
    pair.tally.equal(f"step {pair.steps}, refusal of {changes} in group {index}", refusal, got)
    pair.counts["refused amsgrad" if refusal else "amsgrad"] += 1
    if refusal is None:
        apply(pair.groups[index], changes)


def grad_options(pair, request):
    """Scaling, clipping and what to do about NaNs, for one step or for all that follow."""
    options = gradients.random_options(pair.rng)
    if values.chance(pair.rng, 0.8):
        request.members = options
        return
    keep = {key: options.get(key) for key in gradients.DEFAULTS}  # null: the default
    pair.peer.request("PATCH", "", keep)
    pair.grad_options = {key: value for key, value in options.items() if value is not None}


def spoil(_, request):
    """A NaN or an infinity in one gradient."""
    request.spoil = True


def other_types(pair, request):
    """Gradients in types that may not be their parameters'."""
    request.types = values.pick(pair.rng, ((torch.bfloat16,), (torch.float16,), tuple(wire.CODES)))


def reply_type(pair, request):
    """Parameters back in another type."""
    request.reply = values.pick(pair.rng, tuple(wire.CODES))


def schedule(pair, _):
    """A new schedule for one group, from its lr as it is or as it comes with it; or none any more."""
    index = int(pair.rng.integers(len(pair.groups)))
    group = pair.groups[index]
    if index in pair.schedules and values.chance(pair.rng, 0.3):
        drop_schedule(pair, index)
        return
    spec = schedules.spec(pair.rng)
    changes = {"lr": values.learning_rate(pair.rng)} if group["lr"] < 0 or values.chance(pair.rng, 0.5) else {}
    pair.patch(index, {**changes, "schedule": spec})
    apply(group, changes)
    pair.adopt_schedule(index, spec)


def drop_schedule(pair, index):
    """PATCH of null: the lr stays where it is."""
    group = pair.groups[index]
    # OneCycleLR may go below 0. An override is in torch's groups before the step tells adamd of it.
    lr = group["lr"]
    below = min(lr, pair.adamd.param_groups(data="none")[index]["lr"]) < 0
    changes = {"lr": 0.01 if lr < 0 else lr} if below else {}
    pair.patch(index, {**changes, "schedule": None})
    apply(group, changes)
    schedules.forget(group)
    del pair.schedules[index]


def end_schedules(pair):
    """Where torch's scheduler would raise after the coming step, adamd must refuse that step."""
    over = [index for index, schedule in pair.schedules.items() if schedule.ends()]
    if not over:
        return
    attempt = pair.request()
    pair.fill(attempt)
    got = pair.refusal(lambda: pair.send(attempt))
    pair.tally.equal(f"after step {pair.steps}, refusal past the end of schedules", "schedule-ended", got)
    pair.counts["schedules at their end"] += 1
    for index in over:
        drop_schedule(pair, index)


# (event, probability before each step of a configuration with this kind of event). Overrides are
# applied with the step, after what is patched before it: so they come later here, too. After them
# comes only what they do not hold, or what adds to them.
EVENTS = (
    (add_group, 0.02),
    (transfers.overwrite, 0.02),
    (transfers.restore, 0.03),
    (transfers.through_torch, 0.05),
    (schedule, 0.05),
    (patch, 0.1),
    (flip_maximize, 0.05),
    (override, 0.1),
    (flip_amsgrad, 0.1),
    (grad_options, 0.2),
    (spoil, 0.05),
    (other_types, 0.1),
    (reply_type, 0.1),
)


def choose(rng):
    """The kinds of events of one configuration: each, none or some."""
    return [entry for entry in EVENTS if values.chance(rng, 0.6)]
