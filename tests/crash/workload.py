"""Clients that change optimizers at random and note what was acknowledged, so that it can be done
again on a server that was never disturbed."""

import array
import itertools
import json
import threading
import time

from crash_support import GONE, SAFETENSORS, Client, floats, pack

ROUND_DROPPED = ("other", 0, (("DELETE", "/round", None, None, {}),))


class Wrong(Exception):
    """The server answered what it must not."""


class Kept:
    """One optimizer. `log` is what was acknowledged: entries (kind, step before, asks), None where
    it is not there. `pending` is the log as it may be too: with the one that was not answered."""

    def __init__(self, name, size, kind, random):
        self.name, self.size, self.kind = name, size, kind
        self.log, self.pending, self.unsure = None, None, False
        self.step, self.etag = 0, None
        self.keys = []  # (ask, step) of this life's last steps
        self.saved = None  # a state_dict, and its step
        self.mirrored = []
        self.past = [(0, None)]  # when each log was acknowledged
        self.tensors = {"w": size, "b": 3}
        self.bodies = [pack({n: floats(random, k) for n, k in self.tensors.items()})
                       for _ in range(4)]

    @property
    def path(self):
        return "/v1/optimizers/" + self.name

    @property
    def grown(self):
        return any(entry[0] == "grow" for entry in self.log)

    def creation(self):
        about = {"defaults": {"lr": 0.01}}
        if self.kind == "sync":
            about["aggregation"] = {"mode": "sync", "workers": 2}
        elif self.kind == "buffered":
            about["aggregation"] = {"mode": "buffered", "size": 3}
        return pack({n: array.array("f", [0.5]) * k for n, k in self.tensors.items()},
                    {"optimizer": json.dumps(about)})


class Actor(threading.Thread):
    """One client and its optimizers; acts until the server is gone, or `most` times."""

    counter = itertools.count(1)

    def __init__(self, port, kept, random, most=None, persistent=True, times=None):
        super().__init__(daemon=True)
        self.port, self.kept, self.random, self.most = port, kept, random, most
        self.persistent = persistent
        self.failure = None
        self.done = 0
        self.clients = [Client(port), Client(port)]
        self.times = times

    def run(self):
        try:
            while self.most is None or self.done < self.most:
                self.act(self.random.choice(self.kept))
                self.done += 1
        except GONE:
            pass
        except BaseException as error:  # the test says so in the main thread
            self.failure = error
        finally:
            for client in self.clients:
                client.close()

    # ---- what is asked ----

    def act(self, kept):
        if kept.log is None:
            self.create(kept)
            return
        chance = self.random.random()
        if chance < 0.80:
            self.take_step(kept)
        elif chance < 0.985:
            self.random.choice(self.changes())(kept)
        else:
            self.remove(kept)

    def remove(self, kept):
        self.change(kept, "DELETE", "", None, 204, log=None)

    def changes(self):
        always = [self.patch, self.patch_group, self.put_params, self.save, self.load,
                  self.grow]
        return always + ([self.snapshot, self.rollback, self.fork] if self.persistent else [])

    def create(self, kept):
        kept.saved, kept.keys, kept.step = None, [], 0
        self.change(kept, "PUT", "", kept.creation(), 201, log=[], content_type=SAFETENSORS)

    def ask(self, client, kept, ask):
        method, suffix, body, content_type, headers = ask
        return client.ask(method, kept.path + suffix, body, content_type, headers)

    def change(self, kept, method, suffix, body, status, log=(), kind="other", allowed=(),
               content_type="application/json", adds=True):
        """Asks for a change; `log` is what it is added to: () the log, None: then there is none."""
        ask = (method, suffix, body, content_type, {})
        base = kept.log if log == () else log
        entry = (kind, kept.step, (ask,))
        after = None if base is None else base + [entry] if adds else list(base)
        kept.pending, kept.unsure = after, True
        reply = self.ask(self.clients[0], kept, ask)
        self.settle(kept, reply, status, after, allowed)
        return reply

    def settle(self, kept, reply, status, after, allowed=()):
        if reply.status == status:
            kept.log = after
            kept.past.append((time.monotonic(), after))
            kept.etag = reply.headers.get("ETag")
            if kept.etag is not None:
                kept.step = int(kept.etag.strip('"').rpartition("-s")[2])
        elif reply.status not in allowed:
            raise Wrong(f"{kept.name}: {reply}, expected {status}")
        kept.unsure = False

    def step_ask(self, kept, worker=None):
        headers = {"Idempotency-Key": f"k{next(Actor.counter)}", "Prefer": "return=minimal"}
        if worker is not None or self.random.random() < 0.5:
            headers["Adam-Worker"] = worker or self.random.choice("abc")
        return ("POST", "/step", self.random.choice(kept.bodies), SAFETENSORS, headers)

    def take_step(self, kept):
        if kept.kind == "sync":
            self.sync_step(kept)
            return
        ask = self.step_ask(kept)
        before = kept.step
        after = kept.log + [("step", before, (ask,))]
        kept.pending, kept.unsure = after, True
        reply = self.ask(self.clients[0], kept, ask)
        if self.times is not None:
            self.times(kept)
        if reply.status == 202:
            after = kept.log + [("other", before, (ask,))]
        self.settle(kept, reply, 202 if reply.status == 202 else 204, after)
        if reply.replayed:
            raise Wrong(f"{kept.name}: a key that was never used was replayed")
        self.note_key(kept, ask, reply)

    def note_key(self, kept, ask, reply):
        if reply.status < 300:
            kept.keys = kept.keys[-7:] + [(ask, reply.status, reply.headers.get("Adam-Step"))]

    def sync_step(self, kept):
        asks = (self.step_ask(kept, "a"), self.step_ask(kept, "b"))
        after = kept.log + [("step", kept.step, asks)]
        kept.pending, kept.unsure = after, True
        replies = both(self.clients, kept, asks)
        for ask, reply in zip(asks, replies):
            if not isinstance(reply, BaseException):
                self.settle(kept, reply, 204, after)
                self.note_key(kept, ask, reply)
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply

    def patch(self, kept):
        body = json.dumps({"max_grad_norm": self.random.choice([None, 0.5, 1, 2])}).encode()
        self.change(kept, "PATCH", "", body, 200)

    def patch_group(self, kept):
        body = json.dumps({"lr": self.random.choice([0.1, 0.01, 0.002])}).encode()
        self.change(kept, "PATCH", "/param_groups/0", body, 200)

    def put_params(self, kept):
        if not kept.grown:
            self.change(kept, "PUT", "/params", self.random.choice(kept.bodies), 204,
                        content_type=SAFETENSORS)

    def save(self, kept):
        if kept.size < 5000 and not kept.grown:
            reply = self.clients[0].ask("GET", kept.path + "/state_dict",
                                        headers={"Accept": SAFETENSORS})
            if reply.status != 200:
                raise Wrong(f"{kept.name}: {reply}")
            kept.saved = reply.body

    def load(self, kept):
        if kept.saved is not None and not kept.grown:
            self.change(kept, "PUT", "/state_dict?load=everything", kept.saved, 204,
                        content_type=SAFETENSORS)

    def grow(self, kept):
        if not kept.grown and self.random.random() < 0.3:
            group = {"params": [{"name": "more", "shape": [2], "data": [0.25, -1]}], "lr": 0.1}
            self.change(kept, "POST", "/param_groups", json.dumps(group).encode(), 201,
                        kind="grow")

    def snapshot(self, kept):
        reply = self.clients[0].ask("POST", kept.path + "/snapshot")
        if reply.status != 200:
            raise Wrong(f"{kept.name}: a snapshot: {reply}")

    def target(self, kept):
        """A step that was, and the log as it was then."""
        step = self.random.randint(max(0, kept.step - 8), kept.step)
        if step == kept.step:
            return step, list(kept.log)
        for i in range(len(kept.log) - 1, -1, -1):
            if kept.log[i][0] == "step" and kept.log[i][1] == step:
                return step, kept.log[:i]
        return None, None

    def rollback(self, kept):
        step, log = self.target(kept)
        if step is not None:
            self.change(kept, "POST", "/rollback", json.dumps({"step": step}).encode(), 200,
                        log=log + [ROUND_DROPPED], adds=False, allowed=(409,))

    def fork(self, kept):
        others = [k for k in self.kept if k.log is None and k.kind == kept.kind
                  and k.size == kept.size]
        step, log = self.target(kept)
        if not others or step is None:
            return
        fork = others[0]
        fork.step, fork.saved, fork.keys = step, None, []
        fork.pending, fork.unsure = log + [ROUND_DROPPED], True
        reply = self.clients[0].ask("POST", kept.path + "/fork", {"name": fork.name, "step": step})
        self.settle(fork, reply, 201, fork.pending, allowed=(409,))
        fork.etag = None if reply.status != 201 else reply.headers.get("ETag")
        fork.step = step


def both(clients, kept, asks):
    """Replies, or what was raised."""
    replies = [None, None]

    def one(i):
        method, suffix, body, content_type, headers = asks[i]
        try:
            replies[i] = clients[i].ask(method, kept.path + suffix, body, content_type, headers)
        except BaseException as error:
            replies[i] = error

    other = threading.Thread(target=one, args=(1,))
    other.start()
    one(0)
    other.join()
    return replies


def state_of(client, kept):
    """All of it that must come back: None where it is not there."""
    summary = client.ask("GET", kept.path)
    if summary.status == 404:
        return None
    if summary.status != 200:
        raise Wrong(f"{kept.name}: {summary}")
    digest = client.ask("GET", kept.path + "/digest").json
    about = {k: v for k, v in summary.json.items() if k not in ("epoch",)}
    digest = {k: v for k, v in digest.items() if k not in ("epoch",)}
    return about, digest, client.ask("GET", kept.path + "/round").json["gradients"]


def find_past(case, client, mirror, kept, limit):
    """Whether an optimizer is as it once was, after `limit` (a time) or at its last before that;
    goes on from there."""
    found = state_of(client, kept)
    begin = max(i for i, (when, _) in enumerate(kept.past) if i == 0 or when < limit)
    logs = [log for _, log in kept.past[begin:]] + ([kept.pending] if kept.unsure else [])
    lost = len(logs)
    were = []
    for log in logs:
        lost -= 1
        expected = mirror.expected(kept, log)
        if expected == found:
            break
        last = log[-1][2][0][:2] if log else None
        were.append((last, expected and (expected[1]["step"], expected[2])))
    else:
        case.fail(f"{kept.name} is as it never was, or has lost more than it may: {found}, "
                  f"not one of {were}, {kept.unsure=}")
    kept.log, kept.unsure, kept.etag, kept.keys = log, False, None, []
    kept.past = [(0, log)]
    kept.step = found[0]["step"] if found is not None else 0
    return lost


class Mirror:
    """A server in memory that is asked the same."""

    def __init__(self, port):
        self.clients = [Client(port), Client(port)]

    def close(self):
        for client in self.clients:
            client.close()

    def expected(self, kept, log):
        """The state after a log."""
        done = kept.mirrored
        if log is None:
            log = []
        if len(done) > len(log) or any(a is not b for a, b in zip(done, log)):
            self.clients[0].ask("DELETE", kept.path)
            done = []
        kept.mirrored = list(done)
        for entry in log[len(done):]:
            self.repeat(kept, entry[2])
            kept.mirrored.append(entry)
        return state_of(self.clients[0], kept) if log else None

    def repeat(self, kept, asks):
        if len(asks) == 2:
            replies = both(self.clients, kept, asks)
        else:
            method, suffix, body, content_type, headers = asks[0]
            headers = {k: v for k, v in headers.items() if k != "Idempotency-Key"}
            replies = [self.clients[0].ask(method, kept.path + suffix, body, content_type, headers)]
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
            if reply.status >= 300:
                raise Wrong(f"{kept.name}: undisturbed, it answers {reply}")


def find_out(case, client, mirror, kept, retries):
    """Compares an optimizer with what was acknowledged, and goes on with what is there."""
    asks = kept.pending[-1][2] if kept.unsure and kept.pending else ()
    if retries and kept.unsure and len(asks) == 1 and "Idempotency-Key" in asks[0][4]:
        method, suffix, body, content_type, headers = asks[0]
        reply = client.ask(method, kept.path + suffix, body, content_type, headers)
        case.assertIn(reply.status, (202, 204), f"{kept.name}: {reply}")
        kept.log, kept.unsure, kept.etag = kept.pending, False, None
    found = state_of(client, kept)
    expected = mirror.expected(kept, kept.log)
    if kept.unsure:
        kept.etag = None  # what was not answered may have begun an epoch and changed nothing else
    if kept.unsure and found != expected:
        expected = mirror.expected(kept, kept.pending)
        kept.log = kept.pending
    case.assertEqual(found, expected, f"{kept.name} is not what was acknowledged, {kept.unsure=}")
    kept.unsure = False
    if found is None:
        return
    kept.step = found[0]["step"]
    for ask, status, _ in kept.keys if kept.log else []:
        reply = client.ask(ask[0], kept.path + ask[1], ask[2], ask[3], ask[4])
        case.assertTrue(reply.replayed and reply.status == status,
                        f"{kept.name}: a step that was answered, again: {reply}, {reply.headers}")
    case.assertEqual(state_of(client, kept), found, f"{kept.name}: steps were taken twice")
    etag = client.ask("GET", kept.path).headers["ETag"]
    case.assertIn(kept.etag, (None, etag), kept.name)
