"""Where one node's log stands: its exporters' sequences, its unfinished seconds, its clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schemas.event_codec import EventMessage, decode, encode
from schemas.events import EventHeader
from schemas.time_shift import shifted

_REMEMBERED = 256  # sequence numbers behind the newest within which a late part is told from a repeat
_SPEAKERS = 8  # exporters, and boots of each, remembered per node; the one heard longest ago is forgotten

Key = tuple[str, str]  # exporter and boot: whose sequence a message's number belongs to


@dataclass
class Speaker:
    """One boot of one exporter.

    ``settled``: numbers up to it are accounted for, seen or said to be missing; None until its first tick closes.
    ``completed``: last cut that it has said all of.
    """

    completed: int
    settled: int | None = None
    newest: int = -1
    gone: bool = False  # it ended on purpose, or another boot has taken its place; and has not spoken since
    seen: set[int] = field(default_factory=set)

    def fresh(self, sequence: int) -> bool:
        """Tell whether a number is new, and remember it; what is too far behind to tell counts as a repeat."""
        if sequence in self.seen or sequence < self.newest - _REMEMBERED:
            return False
        self.seen.add(sequence)
        self.newest = max(self.newest, sequence)
        if len(self.seen) > 2 * _REMEMBERED:
            self.seen = {s for s in self.seen if s >= self.newest - _REMEMBERED}
        return True

    def ends(self, header: EventHeader) -> None:
        """Note that it ended on purpose, or goes on after all; parts of its last second may come after the last."""
        if header.final:
            self.gone = True
        elif header.sequence == self.newest:
            self.gone = False

    def settle(self, sequences: Iterable[int]) -> int:
        """Account for the numbers of a closed tick; return how many before the highest never came.

        Nothing is known of what came before a speaker's first tick, so nothing of that is called lost.
        """
        numbers = list(sequences)
        if len(numbers) == 1 and self.settled == numbers[0] - 1:
            self.settled = numbers[0]
            return 0
        before = min(numbers) - 1 if self.settled is None else self.settled
        last = max(numbers)
        self.settled = max(before, last)
        return max(0, last - before - sum(before < s <= last for s in self.seen))


@dataclass
class Second:
    """What has come of one unfinished second; late messages ride along and do not complete it."""

    messages: list[tuple[EventMessage, bool, bool]] = field(default_factory=list)  # message, late, restamped
    parts: dict[Key, set[int]] = field(default_factory=dict)
    wanted: dict[Key, int] = field(default_factory=dict)

    def add(self, message: EventMessage, *, late: bool, restamped: bool) -> None:
        """Take a message in."""
        self.messages.append((message, late, restamped))
        if not late:
            key = speaker_key(message)
            self.parts.setdefault(key, set()).add(message.header.part)
            self.wanted[key] = message.header.parts

    def missing(self) -> int:
        """Return how many parts are not there."""
        return sum(max(0, count - len(self.parts[key])) for key, count in self.wanted.items())

    def complete(self, key: Key) -> bool:
        """Tell whether one speaker has said all of the second."""
        return key in self.wanted and len(self.parts[key]) >= self.wanted[key]


def speaker_key(message: EventMessage) -> Key:
    """Return whose sequence a message belongs to."""
    return message.header.exporter, message.header.boot


@dataclass
class NodeLog:
    """One node. ``tick`` is the last one closed; ticks of a node only grow."""

    name: str
    tick: int
    speakers: dict[Key, Speaker] = field(default_factory=dict)
    pending: dict[int, Second] = field(default_factory=dict)
    capabilities: int = 0
    shift: int = 0  # s that its clock is ahead; taken off its cuts
    doubt: int | None = None  # append time, ms, since when its clock seems to be behind
    heard: int = 0  # active ms of the partition when it was last heard
    capture: bool = False  # its last message had no clock: it cannot be silent
    silent: bool = False
    ended: bool = False
    said: bool = False  # a tick was closed since this number was given to it
    boot: str = ""  # of its last message

    def speaker(self, message: EventMessage) -> Speaker:
        """Return the message's speaker; a new boot takes the place of its exporter's earlier ones."""
        key = speaker_key(message)
        found = self.speakers.pop(key, None)
        if found is None:
            for (exporter, _), other in self.speakers.items():
                other.gone = other.gone or exporter == key[0]
            found = Speaker(self.tick)
            if len(self.speakers) >= _SPEAKERS:
                del self.speakers[next(iter(self.speakers))]
        self.speakers[key] = found
        return found

    def ready(self, cut: int) -> bool:
        """Tell whether nobody who takes part in the node's seconds has anything left to say of one."""
        if self.pending[cut].missing():
            return False
        # Who has not said all of the last tick does not take part until it has caught up.
        return not any(self.tick <= s.completed < cut and not s.gone for s in self.speakers.values())

    def over(self) -> bool:
        """Tell whether who spoke last has ended, every other exporter too or is behind, and no part is missing."""
        last = next(reversed(self.speakers.values()))
        others = (s.gone or s.completed < self.tick for s in self.speakers.values())
        return last.gone and all(others) and not any(second.missing() for second in self.pending.values())

    def restamped(self, message: EventMessage, skew_s: int) -> tuple[EventMessage, bool]:
        """Return a message by the broker's clock, and whether it had to be moved (docs/decisions/0009)."""
        header = message.header
        shift = 0
        if header.clock == "live" and message.appended_ms is not None:
            if header.sent_at:
                self._judge(header.sent_at // 1_000_000, message.appended_ms, skew_s * 1000)
            ahead = header.cut - self.shift - message.appended_ms // 1000
            # No second can have ended after it was appended: that much the clock is wrong at least.
            shift = self.shift + (ahead if ahead > skew_s else 0)
        shift = min(shift, header.cut)
        return shifted(message, -shift), shift != 0

    def _judge(self, sent: int, appended: int, limit: int) -> None:
        """Find the clock's error from one message; all in ms.

        Sending and appending lie a delay apart, which is never negative. Sent after it was appended is a clock
        that is ahead. Sent long before may be a clock that is behind or a client that had to retry; the retries of an
        outage arrive together, so only what lasts is taken for the clock.
        """
        skew = sent - appended
        error = skew - self.shift * 1000
        if abs(error) <= limit:
            self.doubt = None
            return
        if error < 0 and abs(skew) > limit:
            if self.doubt is None or appended < self.doubt:
                self.doubt = appended
            if appended - self.doubt < limit:
                return
        self.doubt = None
        self.shift = (skew + 500) // 1000 if abs(skew) > limit else 0

    def snapshot(self) -> list[Any]:
        """Return the state as JSON values and, for messages of unfinished seconds, byte arrays."""
        return [
            [self.name, self.tick, self.capabilities, self.shift, self.doubt, self.heard],
            [self.capture, self.silent, self.ended, self.said, self.boot],
            [[*k, s.completed, s.settled, s.newest, s.gone, sorted(s.seen)] for k, s in self.speakers.items()],
            [
                [cut, late, moved, np.frombuffer(encode(message), np.uint8)]
                for cut, second in sorted(self.pending.items())
                for message, late, moved in second.messages
            ],
        ]

    @classmethod
    def restored(cls, state: list[Any]) -> NodeLog:
        """Return what ``snapshot`` gave the state of."""
        (name, tick, capabilities, shift, doubt, heard), flags, speakers, pending = state
        node = cls(name, tick, capabilities=capabilities, shift=shift, doubt=doubt, heard=heard)
        node.capture, node.silent, node.ended, node.said, node.boot = flags
        for exporter, boot, completed, settled, newest, gone, seen in speakers:
            node.speakers[exporter, boot] = Speaker(completed, settled, newest, gone, set(seen))
        for cut, late, moved, raw in pending:
            message = decode(np.asarray(raw, np.uint8).tobytes())
            node.pending.setdefault(cut, Second()).add(message, late=late, restamped=moved)
        return node
