"""What a run answered: every revision of every alert and incident as bytes; and how two answers differ, in words."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from schemas.alert import Alert
from schemas.event_codec import EventMessage
from schemas.incident import Incident
from stream.inventory_log import InventoryLog
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings

Key = tuple[str, int]  # id, revision
_SHOWN = 160  # characters of a value that a difference shows


@dataclass
class Answer:
    """Bytes of each (id, revision) of `alerts` and `incidents`.

    `resent` counts equal bytes that came again, which a restart may cause; `conflicts` are other bytes under a
    (id, revision) that was there already, which nothing may.
    """

    alerts: dict[Key, bytes] = field(default_factory=dict)
    incidents: dict[Key, bytes] = field(default_factory=dict)
    resent: Counter[str] = field(default_factory=Counter)
    conflicts: list[str] = field(default_factory=list)

    def add(self, word: Alert | Incident, value: bytes) -> None:
        """Take one revision."""
        kind = word.type
        held = self.alerts if isinstance(word, Alert) else self.incidents
        known = held.setdefault((word.id, word.revision), value)
        if known is not value:
            if known == value:
                self.resent[kind] += 1
            else:
                self.conflicts.append(f"said twice, differently: {_changed(kind, known, value)}")

    def covers(self, other: Answer) -> bool:
        """Tell whether every (id, revision) of another answer is in this one."""
        return other.alerts.keys() <= self.alerts.keys() and other.incidents.keys() <= self.incidents.keys()


@dataclass(frozen=True)
class Replayed:
    """The answer of a run in this process, and what it took."""

    answer: Answer
    messages: int
    rows: int
    last_tick: int
    seconds: float


def replayed(messages: Iterable[EventMessage], feed: int = 64, inventory: InventoryLog | None = None) -> Replayed:
    """Run a log through the whole composition in this process, `feed` messages at a time."""
    pipeline, answer = Pipeline(Parts(PipelineSettings(), inventory=inventory)), Answer()
    counted = [0, 0]

    def watched() -> Iterator[EventMessage]:
        for message in messages:
            counted[0] += 1
            counted[1] = max(counted[1], message.header.cut)
            yield message

    begun = time.perf_counter()
    for output in pipeline.run(watched(), feed):
        words: list[Alert | Incident] = [*output.alerts, *output.incidents]
        for word in words:
            answer.add(word, word.encode())
    return Replayed(answer, counted[0], pipeline.rows, counted[1], time.perf_counter() - begun)


def differences(wanted: Answer, found: Answer) -> list[str]:
    """Return every difference between an answer and what it should be, earliest event time first; one line each."""
    lines = [(0, line) for line in found.conflicts]
    for kind in ("alert", "incident"):
        want, have = getattr(wanted, f"{kind}s"), getattr(found, f"{kind}s")
        for key in want.keys() | have.keys():
            tick = orjson.loads(want.get(key) or have[key])["tick"]
            if key not in have:
                lines.append((tick, f"missing: {_named(kind, want[key])}"))
            elif key not in want:
                lines.append((tick, f"not expected: {_named(kind, have[key])}"))
            elif want[key] != have[key]:
                lines.append((tick, f"differs: {_changed(kind, want[key], have[key])}"))
    return [line for _, line in sorted(lines)]


def _named(kind: str, value: bytes) -> str:
    word = orjson.loads(value)
    what = f"{word['detector']} of {word['subject']}" if kind == "alert" else word["summary"]
    return f"{kind} {word['id']} revision {word['revision']} ({word['status']}) at tick {word['tick']}: {what}"


def _changed(kind: str, before: bytes, after: bytes) -> str:
    paths = list(_paths("", orjson.loads(before), orjson.loads(after)))
    text = "; ".join(f"{path}: {_short(a)} instead of {_short(b)}" for path, b, a in paths[:3])
    more = f"; and {len(paths) - 3} more fields" if len(paths) > 3 else ""
    return f"{_named(kind, before)}: {text or 'the same values in other bytes'}{more}"


def _paths(path: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            yield from _paths(f"{path}.{name}".lstrip("."), before.get(name), after.get(name))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _paths(f"{path}[{place}]", one, other)
    elif before != after:
        yield path, before, after


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
