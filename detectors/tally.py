"""What detectors count on single nodes in ``observe`` and judge in stage 2, summed over nodes.

Rows are few: a detector tells of what looks odd already, never of all traffic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.ledger import Entry, Ledger
from detectors.mixing import hash_text

Address = tuple[int, int]  # upper and lower 64 bits
NOBODY: Address = (0, 0)
MAX_SUBJECT = 255  # characters
PER_TICK = 4096  # different things per tick of an event partition; more are left out and counted
_SOURCES = 32  # remembered per subject
_TARGETS = 4


class Tally(NamedTuple):
    """What is counted; all of a subject goes to one rollup partition."""

    measure: str
    subject: str
    source: Address
    target: Address
    port: int
    object: str = ""  # what was asked for, where the addresses do not say


class NodeTally(NamedTuple):
    """What one node's tick adds."""

    node: int
    tick: int
    what: Tally
    amount: int


@dataclass
class TallyBook:
    """What is gathered of one tick."""

    amounts: dict[Tally, int] = field(default_factory=dict)
    left_out: int = 0

    def add(self, what: Tally, amount: int) -> None:
        """Add an amount; what finds no room is counted."""
        if what not in self.amounts and len(self.amounts) >= PER_TICK:
            self.left_out += 1
        else:
            self.amounts[what] = self.amounts.get(what, 0) + amount

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Return the rows of the rollup section ``tally``, ordered."""
        rows = sorted(self.amounts.items())
        return {
            "measure": np.array([w.measure for w, _ in rows], np.str_),
            "subject": np.array([w.subject for w, _ in rows], np.str_),
            "source": _packed([w.source for w, _ in rows]),
            "target": _packed([w.target for w, _ in rows]),
            "port": np.array([w.port for w, _ in rows], np.int64),
            "object": np.array([w.object for w, _ in rows], np.str_),
            "amount": np.array([amount for _, amount in rows], np.int64),
        }

    def partitions(self, count: int) -> npt.NDArray[np.int64]:
        """Return the rollup partition of each row; all workers must agree, so no seed takes part."""
        return np.array([hash_text(w.subject) % count for w in sorted(self.amounts)], np.int64)

    def snapshot(self) -> list[Any]:
        """Return what is gathered as JSON values."""
        return [self.left_out, [[*what, amount] for what, amount in self.amounts.items()]]

    @classmethod
    def restored(cls, state: Sequence[Any]) -> TallyBook:
        """Return what ``snapshot`` gave."""
        left_out, rows = state
        made = cls(left_out=int(left_out))
        for measure, subject, source, target, port, asked, amount in rows:
            who, whom = ((int(high), int(low)) for high, low in (source, target))
            made.amounts[Tally(str(measure), str(subject), who, whom, int(port), str(asked))] = int(amount)
        return made


@dataclass(frozen=True)
class TallyRows:
    """The rows of one tick of stage 2, summed over nodes."""

    tick: int
    rows: tuple[tuple[Tally, int], ...]  # ordered

    @classmethod
    def of(cls, tick: int, columns: dict[str, npt.NDArray[Any]]) -> TallyRows:
        """Return the rows of columns as ``TallyBook.columns`` gives them, equal ones added up."""
        sums: dict[Tally, int] = {}
        halves = [_halves(columns[name]) for name in ("source", "target")]
        plain = (columns[name].tolist() for name in ("measure", "subject", "port", "object", "amount"))
        for measure, subject, port, asked, amount, source, target in zip(*plain, *halves, strict=True):
            what = Tally(measure, subject[:MAX_SUBJECT], source, target, port, asked[:MAX_SUBJECT])
            sums[what] = sums.get(what, 0) + amount
        return cls(tick, tuple(sorted(sums.items())))

    def of_measures(self, measures: Sequence[str]) -> Iterator[tuple[str, list[tuple[Tally, int]]]]:
        """Return the rows of some measures by subject, ordered by subject."""
        found: dict[str, list[tuple[Tally, int]]] = {}
        for what, amount in self.rows:
            if what.measure in measures:
                found.setdefault(what.subject, []).append((what, amount))
        yield from sorted(found.items())


@dataclass
class Counted(Entry):
    """What is known of one subject within a window."""

    seconds: list[list[int]] = field(default_factory=list)  # tick, a sum for each measure
    sources: list[list[int]] = field(default_factory=list)  # halves of an address, amount
    targets: list[list[int]] = field(default_factory=list)  # halves of an address, port, amount

    def sums(self) -> tuple[int, ...]:
        """Return a sum for each measure."""
        return tuple(sum(values) for values in list(zip(*self.seconds, strict=True))[1:])

    def busiest(self) -> list[Address]:
        """Return the sources, those with the largest amounts first."""
        return [(s[0], s[1]) for s in sorted(self.sources, key=lambda s: (-s[2], s[:2]))]

    def hit(self) -> list[list[int]]:
        """Return the targets as [upper half, lower half, port, amount], those with the largest amounts first."""
        return sorted(self.targets, key=lambda t: (-t[3], t[:3]))


class TallyWindow:
    """Sums of some measures by subject over a sliding window, exact to the second; bounded by its ledger."""

    def __init__(self, ledger: Ledger[Counted], measures: Sequence[str], window: int) -> None:
        """Sum.

        Args:
            ledger: where the subjects are kept.
            measures: what is summed; the amounts of the first say who is busiest.
            window: s.
        """
        self._ledger, self._measures, self._window = ledger, tuple(measures), window

    def take(self, rows: TallyRows) -> list[tuple[str, Counted]]:
        """Add one tick's rows; return the subjects that were touched, ordered."""
        return [(s, self._add(rows.tick, s, found)) for s, found in rows.of_measures(self._measures)]

    def _add(self, tick: int, subject: str, found: Sequence[tuple[Tally, int]]) -> Counted:
        entry = self._ledger.touch(0, (hash_text(subject),), tick)
        entry.seconds = [s for s in entry.seconds if s[0] > tick - self._window]
        if not entry.seconds:
            entry.sources, entry.targets = [], []
        entry.seconds.append([tick, *[0] * len(self._measures)])
        for what, amount in found:
            entry.seconds[-1][1 + self._measures.index(what.measure)] += amount
            if what.source != NOBODY:
                _note(entry.sources, [*what.source], amount, _SOURCES)
            if what.target != NOBODY:
                _note(entry.targets, [*what.target, what.port], amount, _TARGETS)
        return entry


def _note(kept: list[list[int]], key: list[int], amount: int, room: int) -> None:
    known = next((k for k in kept if k[:-1] == key), None)
    if known is not None:
        known[-1] += amount
    elif len(kept) < room:
        kept.append([*key, amount])


def _packed(addresses: Sequence[Address]) -> npt.NDArray[np.uint8]:
    halves = np.array(addresses, np.uint64).reshape(-1, 2)
    return np.ascontiguousarray(halves.astype(">u8")).view(np.uint8).reshape(-1, 16)


def _halves(packed: npt.NDArray[np.uint8]) -> list[Address]:
    words = np.ascontiguousarray(packed).view(">u8").reshape(-1, 2).tolist()
    return [(high, low) for high, low in words]
