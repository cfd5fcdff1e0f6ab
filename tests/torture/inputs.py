"""The logs that are tortured: the recorded mixed hour, and a generated stream of any length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from benchmarks.generate import BEGIN, Shape, ordinary
from schemas.event_codec import EventMessage
from schemas.events import EventHeader
from tests.torture import hour
from tests.torture.attacks import injected, plan

# Event time after the last second in which episodes and incidents close (incidents stay open longest).
CLOSING_S = 600
_ROWS, _NODES = 400, 50


@dataclass(frozen=True)
class Log:
    """An event log that can be made again and again, the same to the byte.

    Its first `nodes` messages are one of each node; the last of each node is its end. `about` says it in words.
    """

    name: str
    about: str
    nodes: int
    messages: Callable[[], Iterator[EventMessage]]


def recorded(shifts: int = hour.SHIFTS, nodes: int = hour.NODES) -> Log:
    """The mixed hour, or its first shifts."""
    seconds = shifts * hour.SHIFT_S
    return Log("hour", f"{nodes} nodes, {seconds // 60} min, recorded", nodes, lambda: hour.messages(shifts, nodes))


def generated(flows: int, seed: int, rows: int = _ROWS, nodes: int = _NODES) -> Log:
    """Ordinary traffic of at least `flows` flow rows with attacks of every kind; 90 s of event time at least."""
    shape = Shape(nodes, max(90, -(-flows // (nodes * rows))), rows)

    def make() -> Iterator[EventMessage]:
        attacks = plan(seed, shape.nodes, shape.seconds)
        return closed(injected(ordinary(shape, seed), attacks, seed), shape)

    return Log("generated", f"{nodes} nodes, {shape.flows:,} flow rows and attacks", nodes, make)


def closed(messages: Iterable[EventMessage], shape: Shape) -> Iterator[EventMessage]:
    """Yield a generated stream and each node's end, late enough for everything to close."""
    last: dict[str, EventHeader] = {}
    for message in messages:
        last[message.header.node] = message.header
        yield message
    cut = BEGIN + shape.seconds
    for ahead, final in ((0, False), (CLOSING_S, True)):
        for header in last.values():
            change = {
                "sequence": header.sequence + 1 + final,
                "cut": cut + ahead,
                "final": final,
                "part": 0,
                "parts": 1,
            }
            yield EventMessage(header.model_copy(update=change))
