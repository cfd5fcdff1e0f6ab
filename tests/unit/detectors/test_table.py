"""SpaceTable against a slow model that keeps every event."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from detectors.features import BUCKETS, Distinct, Feature, Sum
from detectors.hashing import mix
from detectors.snapshot import encode_state
from detectors.spaces import KeySpace
from detectors.table import Identity, SpaceTable

SPACE = KeySpace("test", 1, ("name",), "test keys")
SUM60 = Feature("sum", "test", 60, Sum("amount"))
SUM300 = Feature("sum", "test", 300, Sum("amount"))
SUM90 = Feature("sum", "test", 90, Sum("amount"))  # 11 buckets of 8 s
SEEN60 = Feature("seen", "test", 60, Distinct("element", "amount", "cancel"))
SEEN300 = Feature("seen", "test", 300, Distinct("element", "amount", "cancel"))
SEEN30 = Feature("seen", "test", 30, Distinct("element", "amount", "cancel"))  # 10 buckets of 3 s
SUMS, SEEN = (SUM60, SUM90, SUM300), (SEEN30, SEEN60, SEEN300)
FEATURES = (*SUMS, *SEEN)


@dataclass
class Model:
    """Every amount and the last word on every element, by key."""

    amounts: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    elements: dict[tuple[int, int, int], tuple[int, bool]] = field(default_factory=dict)

    def add(self, key: int, tick: int, amount: int) -> None:
        self.amounts.setdefault(key, []).append((tick, amount))

    def see(self, feature: Feature, key: int, element: int, tick: int, cancel: bool) -> None:
        bucket = tick // feature.bucket
        last = self.elements.get((feature.window, key, element))
        kept = last is not None and bucket - last[0] < feature.buckets
        self.elements[feature.window, key, element] = (bucket, cancel or (kept and last is not None and last[1]))

    def total(self, feature: Feature, key: int, tick: int) -> int:
        now = tick // feature.bucket
        return sum(a for t, a in self.amounts[key] if now - t // feature.bucket < feature.buckets)

    def distinct(self, feature: Feature, key: int, tick: int) -> int:
        now = tick // feature.bucket
        own = [v for (w, k, _), v in self.elements.items() if (w, k) == (feature.window, key)]
        return sum(1 for last, out in own if now - last < feature.buckets and not out)


def named(names: ArrayLike) -> Identity:
    return lambda rows: {"name": np.asarray(names)[rows]}


STEP = st.tuples(
    st.integers(1, 40),
    st.dictionaries(st.integers(0, 5), st.integers(0, 9), min_size=1),
    st.dictionaries(st.tuples(st.integers(0, 5), st.integers(0, 8)), st.booleans()),
    st.sampled_from(["", "", "", "evict", "restore"]),
)


@settings(deadline=None)
@given(steps=st.lists(STEP, max_size=30))
def test_agrees_with_a_model_that_keeps_everything(
    steps: list[tuple[int, dict[int, int], dict[tuple[int, int], bool], str]],
) -> None:
    table, model, tick = SpaceTable(SPACE, FEATURES), Model(), 1000
    for advance, amounts, seen, then in steps:
        tick += advance
        names = sorted(amounts)
        keys, ticks = mix(np.array(names, np.uint64)), np.full(len(names), tick)
        slots = table.touch(keys, ticks, named(names))
        table.add(slots, ticks, {feature: np.array([amounts[n] for n in names]) for feature in SUMS})
        for name in names:
            model.add(name, tick, amounts[name])
        pairs = sorted((n, e) for n, e in seen if n in amounts)
        owner = np.array([names.index(n) for n, _ in pairs], np.int64)
        cancel = np.array([seen[p] for p in pairs], np.bool_)
        hashes = mix(np.array([e for _, e in pairs], np.uint64))
        for feature in SEEN:
            table.add_elements(feature, slots[owner], ticks[owner], hashes, cancel)
            for name, element in pairs:
                model.see(feature, name, element, tick, seen[name, element])
        for feature in SUMS:
            assert table.read(feature, slots).tolist() == [model.total(feature, n, tick) for n in names]
        for feature in SEEN:
            assert table.read(feature, slots).tolist() == [model.distinct(feature, n, tick) for n in names]
        if then == "evict":
            table.evict()
        elif then == "restore":
            state = table.snapshot()
            table = SpaceTable(SPACE, FEATURES)
            table.restore(state)
            assert encode_state(table.snapshot()) == encode_state(state)


@pytest.mark.parametrize("window", [*range(1, 400), 3600, 7200, 86400])
def test_the_window_is_exact_to_one_bucket(window: int) -> None:
    feature = Feature("sum", "test", window, Sum("amount"))
    assert 1 <= feature.buckets <= BUCKETS
    assert abs(feature.bucket * feature.buckets - window) < feature.bucket


def test_a_full_table_refuses_and_counts() -> None:
    table = SpaceTable(KeySpace("small", 1, ("name",), "two keys", capacity=2, reserved=0), [SUM60])
    names = np.arange(5)
    slots = table.touch(mix(names.astype(np.uint64)), np.full(5, 1000), named(names))
    assert (slots >= 0).sum() == 2
    assert table.shed == 3


def test_expired_keys_make_room() -> None:
    table = SpaceTable(KeySpace("small", 1, ("name",), "two keys", capacity=2, reserved=0), [SUM60])
    old, new = np.arange(2), np.arange(2, 4)
    table.touch(mix(old.astype(np.uint64)), np.full(2, 1000), named(old))
    slots = table.touch(mix(new.astype(np.uint64)), np.full(2, 1100), named(new))
    assert (slots >= 0).all()
    assert (table.shed, table.evicted) == (0, 2)


def test_a_key_not_worth_a_slot_gets_none_and_is_not_shed() -> None:
    table = SpaceTable(SPACE, [SUM60])
    names = np.arange(2)
    slots = table.touch(mix(names.astype(np.uint64)), np.full(2, 1000), named(names), np.array([True, False]))
    assert slots[0] >= 0
    assert slots[1] == -1
    assert table.shed == 0


def test_elements_beyond_the_cap_are_left_out() -> None:
    capped = Feature("seen", "test", 60, Distinct("element", "amount", cap=3))
    table = SpaceTable(SPACE, [capped])
    for tick in range(1000, 1006):
        slots = table.touch(np.array([7], np.uint64), np.array([tick]), named([0]))
        table.add_elements(capped, slots, np.array([tick]), mix(np.array([tick], np.uint64)), np.array([False]))
    assert table.read(capped, slots).tolist() == [3]


def test_a_feature_the_snapshot_does_not_hold_starts_cold() -> None:
    table = SpaceTable(SPACE, [SUM60])
    slots = table.touch(np.array([7], np.uint64), np.array([1000]), named([0]))
    table.add(slots, np.array([1000]), {SUM60: np.array([5])})
    wider = SpaceTable(SPACE, [SUM60, SUM300])
    wider.restore(table.snapshot())
    slots = wider.touch(np.array([7], np.uint64), np.array([1001]), named([0]))
    assert wider.read(SUM60, slots).tolist() == [5]
    assert wider.read(SUM300, slots).tolist() == [0]
