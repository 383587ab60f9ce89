"""Server-sent events, taken apart. Knows no connections."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from . import _errors
from ._repeats import Repeats

_NORMS = ("grad_norm", "param_norm", "update_norm", "clip_coef")

Json = Dict[str, Any]


@dataclass
class Event:
    """What happened: `name` is "step", "skipped", "gap" or "removed". The `id` of a step, where the
    event has one, is where to go on from: events(last_event_id=event.id). `data` of a step is as in
    the history."""

    name: str
    id: Optional[int]
    data: Json


def with_floats(record: Json) -> Json:
    """A record of a step, its norms as floats: JSON has words for those that are not finite."""
    for holder in (record, *record.get("param_groups", ())):
        for name in _NORMS:
            if name in holder:
                holder[name] = float(holder[name])
    return record


def _lines(pieces: Iterable[bytes], limit: int) -> Iterator[bytes]:
    rest: List[bytes] = []
    for piece in pieces:
        *whole, last = piece.split(b"\n")
        for line in whole:
            yield b"".join((*rest, line)).rstrip(b"\r")
            rest.clear()
        rest.append(last)
        if sum(map(len, rest)) > limit:
            raise _errors.ProtocolError(f"an event over the limit of {limit} bytes")


def parse(pieces: Iterable[bytes], limit: int) -> Iterator[Event]:
    """The events in a stream; comments and what else is not an event are passed over. What is cut
    off at the end is no event."""
    fields: Dict[str, str] = {}
    for line in _lines(pieces, limit):
        name, _, value = line.decode("utf-8", "replace").partition(":")
        if name:
            value = value[1:] if value.startswith(" ") else value
            if name == "data" and name in fields:
                value = fields[name] + "\n" + value
            fields[name] = value
        elif not line:
            if "data" in fields:
                yield _event(fields)
            fields = {}


Connect = Callable[[Optional[int]], Tuple[Optional[str], Iterator[bytes]]]


def resumed(
    connect: Connect, pieces: Iterator[bytes], last: Optional[int], repeats: Repeats, limit: int
) -> Iterator[Event]:
    """The events of a stream, and, where it ends or breaks without "removed", of the next one, that
    `connect` makes behind the last event that was whole."""
    while True:
        try:
            for event in parse(pieces, limit):
                repeats.renew()
                last = last if event.id is None else event.id
                yield event
                if event.name == "removed":
                    return
            broken = _errors.ConnectionError("the stream of events ended")
        except _errors.ConnectionError as error:
            broken = error
        repeats.wait(broken)
        pieces = connect(last)[1]


def _event(fields: Dict[str, str]) -> Event:
    try:
        data = json.loads(fields["data"])
        number = int(fields["id"]) if "id" in fields else None
        return Event(fields.get("event", "message"), number, with_floats(data))
    except (ValueError, TypeError, AttributeError) as error:
        raise _errors.ProtocolError(f"an event that cannot be read: {error}: {fields!r}") from None
