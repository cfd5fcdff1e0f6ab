"""The bounded table of one key space: windows of sums and of distinct counts per key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from detectors.features import Distinct, Feature
from detectors.index import I64, positions
from detectors.kernels import windows as kernel
from detectors.mixing import U64
from detectors.slots import Slots
from detectors.spaces import KeySpace

Array = npt.NDArray[Any]
Identity = Callable[[I64], Mapping[str, Array]]


@dataclass(frozen=True)
class _Place:
    """Where a feature stands in a row: its window's bucket length, buckets, block and features, and its number."""

    numbers: tuple[int, int, int, int, int]

    @property
    def running(self) -> int:
        return self.numbers[2] + 1 + self.numbers[4]

    @property
    def ring(self) -> slice:
        _, buckets, base, features, number = self.numbers
        first = base + 1 + features + number
        return slice(first, first + buckets * features, features)


class SpaceTable:
    """Features per key. Ticks of one key never go back; keys are independent of each other.

    While the table is roomy every key gets a slot. When fewer than ``space.reserved`` are left, a new key must have
    done several things to get one, so that a flood of keys that do one thing each cannot crowd out what matters
    (``deferred`` counts those turned away); where none is left it is refused and counted in ``shed``. Slots of keys
    whose windows are over are given back when the table is crowded. All of it depends on the order of keys alone.
    """

    state_version: ClassVar[int] = 2

    def __init__(self, space: KeySpace, features: Sequence[Feature], nodes: int = 1) -> None:
        self.space = space
        self._windows, self._places, width = _layout(features)
        self._slots = Slots(space.capacity, width)
        self._clocks: I64 = np.full(nodes, -(1 << 40), np.int64)
        self._lost: I64 = np.zeros((nodes, 2), np.int64)
        self._sketch: npt.NDArray[np.uint8] | None = None
        self._horizon = max((f.window + f.bucket for f in features), default=0)
        self._limits = np.array([space.capacity, space.capacity - space.reserved, self._horizon], np.int64)
        self._columns: dict[str, Array] = {}
        self._pairs = {f: Slots(space.pairs, 2) for f in features if isinstance(f.aggregate, Distinct)}

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def shed(self) -> int:
        """Keys and elements that were refused because there was no room at all."""
        tables = [self._slots, *self._pairs.values()]
        return sum(int(t.state[kernel.SHED]) for t in tables)

    @property
    def deferred(self) -> int:
        """Times that a key had not done enough to be admitted to a crowded table."""
        return int(self._slots.state[kernel.DEFERRED])

    @property
    def evicted(self) -> int:
        """Keys whose slots were given back."""
        return int(self._slots.state[kernel.EVICTED])

    def counts(self) -> dict[str, int]:
        """Return keys and pairs held, keys and elements refused, keys turned away and given back, so far."""
        return {
            "keys": len(self), "pairs": sum(map(len, self._pairs.values())), "shed": self.shed,
            "deferred": self.deferred, "evicted": self.evicted,
        }  # fmt: skip

    @property
    def bytes_per_key(self) -> int:
        """Bytes of one key's row, identity columns aside."""
        return int(self._slots.rows.shape[1]) * 8

    def take_lost(self) -> I64:
        """Return keys and elements refused, and keys turned away, by node since the last call; shape (nodes, 2)."""
        lost: I64 = self._lost.copy()
        self._lost[:] = 0
        return lost

    def touch(self, keys: U64, ticks: I64, identity: Identity, admit: npt.NDArray[np.bool_] | None = None,
              nodes: I64 | None = None, weight: I64 | None = None) -> I64:  # fmt: skip
        """Find or admit keys, in the order given, and move their windows to their ticks.

        Args:
            keys: distinct, u64, shape (n,).
            ticks: the tick in which each is touched, s.
            identity: the space's identity columns of keys given by position; asked for new keys only.
            admit: false where an absent key is not worth a slot; by default all are.
            nodes: number of each key's node, whose clock it moves; by default 0.
            weight: things that each key did; a crowded table admits by them; by default 1.

        Returns:
            int64 slots, -1 where the key is absent and not worth a slot, or the table is full.
        """
        count = len(keys)
        admit = np.ones(count, np.bool_) if admit is None else admit
        nodes = np.zeros(count, np.int64) if nodes is None else nodes
        weight = np.ones(count, np.int64) if weight is None else weight
        table = self._slots
        table.make_room(count)
        self._reach(int(nodes.max(initial=0)))
        crowded = len(table) + count > self._limits[1]
        if self._sketch is None and crowded:
            self._sketch = np.zeros((2, kernel.SKETCH_CELLS), np.uint8)
        sketch = self._sketch if self._sketch is not None else np.zeros((2, 0), np.uint8)
        slots: I64
        slots, fresh = kernel.touch(
            table.cells, table.rows, table.free, table.state, self._clocks, sketch, self._windows, self._limits,
            self._lost, keys.view(np.int64), ticks, nodes, admit, weight,
        )  # fmt: skip
        new = positions(fresh)
        if len(new):
            for name, values in identity(new).items():
                self._column(name, values)[slots[new]] = values
        return slots

    def _reach(self, node: int) -> None:
        if node >= len(self._clocks):
            more = np.full(2 * node + 1 - len(self._clocks), -(1 << 40), np.int64)
            self._clocks = np.concatenate([self._clocks, more])
            self._lost = np.concatenate([self._lost, np.zeros((len(more), 2), np.int64)])

    def _column(self, name: str, like: Array) -> Array:
        if name not in self._columns:
            self._columns[name] = np.zeros((self.space.capacity, *like.shape[1:]), like.dtype)
        return self._columns[name]

    def add(self, slots: I64, ticks: I64, amounts: Mapping[Feature, I64]) -> None:
        """Add to sums; slots were touched in these ticks, none is -1; amounts are one per slot."""
        if not amounts or not len(slots):
            return
        places = np.array([self._places[f].numbers for f in amounts], np.int64)
        kernel.add(self._slots.rows, slots, ticks, np.stack(list(amounts.values())), places)

    def add_elements(self, feature: Feature, slots: I64, ticks: I64, elements: U64,
                     cancel: npt.NDArray[np.bool_]) -> None:  # fmt: skip
        """Add (key, element) pairs to a distinct count.

        Args:
            feature: the distinct count.
            slots: owner of each pair, touched in its tick, none is -1; repeats are expected.
            ticks: the owner's tick.
            elements: hash of each element.
            cancel: true where the element is taken out.
        """
        pairs, aggregate = self._pairs[feature], feature.aggregate
        assert isinstance(aggregate, Distinct)  # noqa: S101 - the plan routes only distincts here
        pairs.make_room(len(slots))
        kernel.see(
            pairs.cells, pairs.rows, pairs.free, pairs.state, self._slots.rows, self._lost,
            np.array(self._places[feature].numbers, np.int64), np.array([pairs.capacity, aggregate.cap], np.int64),
            slots, ticks, elements, cancel,
        )  # fmt: skip

    def read(self, feature: Feature, slots: I64) -> I64:
        """Return a feature's value for slots that were touched in the present tick."""
        return self._numbers(slots, self._places[feature].running)

    def _numbers(self, slots: I64, column: int) -> I64:
        values: I64 = kernel.read(self._slots.rows, slots, column)
        return values

    def since(self, slots: I64) -> I64:
        """Return the tick in which each key was admitted."""
        return self._numbers(slots, kernel.FIRST)

    def keys(self, slots: I64) -> U64:
        """Return the keys of slots in use."""
        keys: U64 = self._numbers(slots, kernel.KEY).view(np.uint64)
        return keys

    def column(self, name: str, slots: I64) -> Array:
        """Return an identity column of slots in use."""
        return self._columns[name][slots]

    def evict(self) -> None:
        """Give back the slots of keys that no window holds anything of any more; results do not change."""
        table = self._slots
        kernel.sweep(table.cells, table.rows, table.free, table.state, self._clocks, self._horizon)

    def snapshot(self) -> dict[str, Any]:
        """Return the content as arrays, views of the table, and where each feature stands in a row."""
        used = self._slots.used
        return {
            "layout": [[f.name, f.window, str(f.aggregate), *p.numbers] for f, p in self._places.items()],
            "keys": self._slots.snapshot(),
            "clocks": self._clocks,
            "sketch": self._sketch if self._sketch is not None else np.zeros((2, 0), np.uint8),
            "columns": {name: values[:used] for name, values in self._columns.items()},
            "pairs": {_label(f): pairs.snapshot() for f, pairs in self._pairs.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> list[str]:
        """Take in what ``snapshot`` gave; return the features that it does not hold, which start cold.

        Raises:
            ValueError: it does not fit this table.
        """
        clocks, old = state["clocks"], state["keys"]["rows"]
        rows = self._rows(old, state["layout"])
        live = rows[:, kernel.LAST] >= 0
        nodes = rows[live, kernel.NODE]
        if len(nodes) and (nodes.min() < 0 or nodes.max() >= len(clocks)):
            problem = "a key belongs to no node of its table"
            raise ValueError(problem)
        self._slots.restore(state["keys"], rows)
        self._clocks = np.array(clocks, np.int64)
        self._lost = np.zeros((len(clocks), 2), np.int64)
        self._sketch = np.array(state["sketch"]) if state["sketch"].size else None
        for name, values in state["columns"].items():
            self._column(name, values)[: len(values)] = values
        for feature, pairs in self._pairs.items():
            known = state["pairs"].get(_label(feature))
            if known is not None:
                pairs.restore(known, np.ascontiguousarray(known["rows"]))
        was = {(name, window, aggregate) for name, window, aggregate, *_ in state["layout"]}
        return [f"{f.name}.{f.window}" for f in self._places if (f.name, f.window, str(f.aggregate)) not in was]

    def _rows(self, old: I64, layout: Sequence[Sequence[Any]]) -> I64:
        """Return rows of this table's width from rows of another layout."""
        rows = np.zeros((len(old), self._slots.rows.shape[1]), np.int64)
        rows[:, : kernel.HEAD] = old[:, : kernel.HEAD]
        was = {(name, window, aggregate): _Place((*numbers,)) for name, window, aggregate, *numbers in layout}
        for bucket, _, base, _ in self._windows.tolist():
            rows[:, base] = old[:, kernel.LAST] // bucket
        for feature, place in self._places.items():
            before = was.get((feature.name, feature.window, str(feature.aggregate)))
            if before is not None:
                rows[:, place.numbers[2]] = old[:, before.numbers[2]]
                rows[:, place.running] = old[:, before.running]
                rows[:, place.ring] = old[:, before.ring]
        return rows


def _layout(features: Sequence[Feature]) -> tuple[I64, dict[Feature, _Place], int]:
    """Return the windows for the kernels, each feature's place, and the width of a row."""
    windows: list[list[int]] = []
    places: dict[Feature, _Place] = {}
    base = kernel.HEAD
    for length in sorted({f.window for f in features}):
        members = [f for f in features if f.window == length]
        bucket, buckets = members[0].bucket, members[0].buckets
        windows.append([bucket, buckets, base, len(members)])
        for number, feature in enumerate(members):
            places[feature] = _Place((bucket, buckets, base, len(members), number))
        base += 1 + len(members) * (1 + buckets)
    return np.array(windows, np.int64).reshape(-1, 4), places, base


def _label(feature: Feature) -> str:
    return f"{feature.name}.{feature.window}.{feature.aggregate}"
