"""The bounded table of one key space: windows of sums and of distinct counts per key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from detectors.features import Distinct, Feature
from detectors.hashing import U64
from detectors.index import I64, KeyIndex, positions
from detectors.pairs import PairTable
from detectors.spaces import KeySpace

Array = npt.NDArray[Any]
Identity = Callable[[I64], Mapping[str, Array]]


@dataclass
class _Window:
    """All rings of one length: sums first, then distincts, as one array."""

    length: int
    bucket: int
    buckets: int
    features: list[Feature]
    clock: I64
    rings: npt.NDArray[np.int64]  # (slots, features, buckets)
    running: npt.NDArray[np.int64]  # (slots, features)

    def leave(self, slots: I64, gap: I64) -> None:
        """Empty the buckets that come round again when these slots' clocks move on by ``gap`` >= 1 buckets."""
        far = gap >= self.buckets
        if far.any():
            self.rings[slots[far]] = 0
            self.running[slots[far]] = 0
            slots, gap = slots[~far], gap[~far]
        for step in range(1, int(gap.max(initial=0)) + 1):
            behind = slots if step == 1 else slots[gap >= step]
            bucket = (self.clock[behind] + step) % self.buckets
            self.running[behind] -= self.rings[behind, :, bucket]
            self.rings[behind, :, bucket] = 0


class SpaceTable:
    """Features per key. Ticks of one key never go back; keys are independent of each other.

    A key that is refused because the table is full has slot -1; it is counted in ``shed``.
    """

    state_version: ClassVar[int] = 1

    def __init__(self, space: KeySpace, features: Sequence[Feature]) -> None:
        self.space = space
        self._index = KeyIndex(space.capacity)
        self._allocated = 0
        self.shed = 0
        self.evicted = 0
        self._searched = -1
        self._columns: dict[str, Array] = {}
        self._last = np.zeros(0, np.int64)
        self._first = np.zeros(0, np.int64)
        self._windows: list[_Window] = []
        self._place: dict[Feature, tuple[_Window, int]] = {}
        self._pairs: dict[Feature, PairTable] = {}
        for length in sorted({f.window for f in features}):
            members = [f for f in features if f.window == length]
            window = _Window(length, members[0].bucket, members[0].buckets, members, np.zeros(0, np.int64),
                             np.zeros((0, len(members), members[0].buckets), np.int64),
                             np.zeros((0, len(members)), np.int64))  # fmt: skip
            self._windows.append(window)
            for place, feature in enumerate(members):
                self._place[feature] = (window, place)
                if isinstance(feature.aggregate, Distinct):
                    self._pairs[feature] = PairTable(space.pairs, feature.buckets)
        self._horizon = max((w.length + w.bucket for w in self._windows), default=0)

    def __len__(self) -> int:
        return len(self._index)

    def touch(self, keys: U64, ticks: I64, identity: Identity,
              admit: npt.NDArray[np.bool_] | None = None) -> I64:  # fmt: skip
        """Find or admit keys and move their windows to their ticks.

        Args:
            keys: distinct, u64, shape (n,).
            ticks: the tick in which each is touched, s.
            identity: the space's identity columns of keys given by position; asked for new keys only.
            admit: false where an absent key is not worth a slot; by default all are.

        Returns:
            int64 slots, -1 where the key is absent and not worth a slot, or the table is full.
        """
        slots = self._index.lookup(keys)
        absent = positions(slots < 0 if admit is None else (slots < 0) & admit)
        if len(absent):
            self._make_room(len(absent), int(ticks.max()))
            new = self._index.insert(keys[absent])
            slots[absent] = new
            kept = new >= 0
            self.shed += int((~kept).sum())
            if kept.any():
                self._admit(new[kept], ticks[absent[kept]], identity(absent[kept]))
        good = slots >= 0
        if good.all():
            self._advance(slots, ticks)
        else:
            self._advance(slots[good], ticks[good])
        return slots

    def _make_room(self, wanted: int, now: int) -> None:
        # Nothing new can have expired within a bucket, so a full table is not searched again before the next.
        moment = now // min((w.bucket for w in self._windows), default=1)
        if len(self._index) + wanted > self.space.capacity and moment > self._searched:
            self._searched = moment
            self.evict(now)

    def _admit(self, slots: I64, ticks: I64, columns: Mapping[str, Array]) -> None:
        self._grow(int(slots.max()) + 1, columns)
        for name, values in columns.items():
            self._columns[name][slots] = values
        self._last[slots] = ticks
        self._first[slots] = ticks
        for window in self._windows:
            window.clock[slots] = ticks // window.bucket
            window.rings[slots] = 0
            window.running[slots] = 0

    def _grow(self, needed: int, columns: Mapping[str, Array]) -> None:
        if needed <= self._allocated:
            return
        size = min(self.space.capacity, max(256, 2 * needed))
        for name, values in columns.items():
            old = self._columns.get(name, np.zeros((0, *values.shape[1:]), values.dtype))
            self._columns[name] = _enlarge(old, size)
        self._last = _enlarge(self._last, size)
        self._first = _enlarge(self._first, size)
        for window in self._windows:
            window.clock = _enlarge(window.clock, size)
            window.rings = _enlarge(window.rings, size)
            window.running = _enlarge(window.running, size)
        self._allocated = size

    def _advance(self, slots: I64, ticks: I64) -> None:
        self._last[slots] = ticks
        for window in self._windows:
            now = ticks // window.bucket
            gap = now - window.clock[slots]
            stale = positions(gap > 0)
            if not len(stale):
                continue
            window.leave(slots[stale], gap[stale])
            window.clock[slots[stale]] = now[stale]

    def add(self, slots: I64, ticks: I64, amounts: Mapping[Feature, I64]) -> None:
        """Add to sums; slots are distinct, touched in these ticks, none is -1; amounts are one per slot."""
        for window in self._windows:
            chosen = [(place, f) for place, f in enumerate(window.features) if f in amounts]
            if not chosen:
                continue
            values = np.stack([amounts[f] for _, f in chosen], axis=1)
            # One update for all sums of a window, over flat views: the cost is in the calls and their index arrays.
            flat = slots[:, None] * len(window.features) + np.array([place for place, _ in chosen])
            window.running.reshape(-1)[flat] += values
            bucket = (ticks // window.bucket) % window.buckets
            window.rings.reshape(-1)[flat * window.buckets + bucket[:, None]] += values

    def add_elements(self, feature: Feature, slots: I64, ticks: I64, elements: U64,
                     cancel: npt.NDArray[np.bool_]) -> None:  # fmt: skip
        """Add (key, element) pairs, distinct within the call, to a distinct count.

        Args:
            feature: the distinct count.
            slots: owner of each pair, touched in its tick, none is -1; repeats are expected.
            ticks: the owner's tick.
            elements: hash of each element.
            cancel: true where the element is taken out.
        """
        window, place = self._place[feature]
        aggregate = feature.aggregate
        assert isinstance(aggregate, Distinct)  # noqa: S101 - the plan routes only distincts here
        now = ticks // window.bucket
        room = window.running[slots, place] < aggregate.cap
        change = self._pairs[feature].update(self._index.keys(slots), slots, elements, now, cancel, room)
        # Flat views: the one-dimensional form of ufunc.at is several times faster.
        rings, running = window.rings.reshape(-1), window.running.reshape(-1)
        width, size = len(window.features), window.buckets
        left, entered = slots[change.left] * width + place, slots[change.entered] * width + place
        np.subtract.at(rings, left * size + change.left_bucket % size, 1)
        np.add.at(rings, entered * size + now[change.entered] % size, 1)
        np.subtract.at(running, left, 1)
        np.add.at(running, entered, 1)
        self.shed += change.shed

    def read(self, feature: Feature, slots: I64) -> I64:
        """Return a feature's value for slots that were touched in the present tick."""
        window, place = self._place[feature]
        values: I64 = window.running[slots, place]
        return values

    def since(self, slots: I64) -> I64:
        """Return the tick in which each key was admitted."""
        return self._first[slots]

    def keys(self, slots: I64) -> U64:
        """Return the keys of slots in use."""
        return self._index.keys(slots)

    def column(self, name: str, slots: I64) -> Array:
        """Return an identity column of slots in use."""
        return self._columns[name][slots]

    def evict(self, now: int) -> None:
        """Take out keys that no window holds anything of any more; results do not change."""
        live = self._index.live()
        gone = live[self._last[live] + self._horizon < now]
        if len(gone):
            lost = np.zeros(max(self._allocated, 1), np.bool_)
            lost[gone] = True
            for pairs in self._pairs.values():
                pairs.forget_owners(lost)
            self._index.remove(gone)
            self.evicted += len(gone)
        for feature, pairs in self._pairs.items():
            pairs.sweep(now // feature.bucket)

    def snapshot(self) -> dict[str, Array]:
        """Return the live content by key, in key order, as arrays."""
        slots = self._index.live()
        slots = slots[np.argsort(self._index.keys(slots))]
        state: dict[str, Array] = {
            "keys": self._index.keys(slots),
            "last": self._last[slots],
            "first": self._first[slots],
        }
        state["counters"] = np.array([self.shed, self.evicted], np.int64)
        for name, values in self._columns.items():
            state[f"column.{name}"] = values[slots]
        rank = np.full(max(self._allocated, 1), -1, np.int64)
        rank[slots] = np.arange(len(slots))
        for window in self._windows:
            state[f"clock.{window.length}"] = window.clock[slots]
            for place, feature in enumerate(window.features):
                state[f"ring.{feature.name}.{window.length}"] = window.rings[slots, place]
                if feature in self._pairs:
                    for part, values in self._pairs[feature].snapshot(rank).items():
                        state[f"pairs.{feature.name}.{window.length}.{part}"] = values
        return state

    def restore(self, state: Mapping[str, Array]) -> list[str]:
        """Take in what ``snapshot`` gave; return the features that it does not hold, which start cold."""
        keys = state["keys"]
        self.shed, self.evicted = (int(n) for n in state["counters"])
        missing = [f"{f.name}.{f.window}" for f in self._place if f"ring.{f.name}.{f.window}" not in state]
        if not len(keys):
            return missing
        columns = {n.removeprefix("column."): v for n, v in state.items() if n.startswith("column.")}
        slots = self._index.insert(keys)
        self._admit(slots, state["last"], columns)
        self._first[slots] = state["first"]
        for window in self._windows:
            clock = state.get(f"clock.{window.length}")
            if clock is None:
                continue
            window.clock[slots] = clock
            for place, feature in enumerate(window.features):
                ring = state.get(f"ring.{feature.name}.{window.length}")
                if ring is None:
                    continue
                window.rings[slots, place] = ring
                window.running[slots, place] = ring.sum(axis=1)
                if feature in self._pairs:
                    prefix = f"pairs.{feature.name}.{window.length}."
                    parts = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
                    self._pairs[feature].restore(parts, slots, keys)
        return missing


def _enlarge(values: Array, size: int) -> Array:
    grown = np.zeros((size, *values.shape[1:]), values.dtype)
    grown[: len(values)] = values
    return grown
