"""KeyIndex against a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.index import KeyIndex

KEYS = st.lists(st.integers(0, 300), min_size=1, max_size=40, unique=True)
STEPS = st.lists(st.tuples(st.sampled_from(["insert", "remove"]), KEYS), max_size=40)


@given(steps=STEPS, capacity=st.integers(1, 200))
def test_agrees_with_a_dictionary(steps: list[tuple[str, list[int]]], capacity: int) -> None:
    index = KeyIndex(capacity)
    model: dict[int, int] = {}
    for verb, wanted in steps:
        keys = np.array(wanted, np.uint64)
        slots = index.lookup(keys)
        assert slots.tolist() == [model.get(k, -1) for k in wanted]
        if verb == "insert":
            absent = keys[slots < 0]
            given_slots = index.insert(absent)
            room = capacity - len(model)
            assert (given_slots >= 0).tolist() == [i < room for i in range(len(absent))]
            model |= {int(k): int(s) for k, s in zip(absent, given_slots, strict=True) if s >= 0}
        else:
            index.remove(slots[slots >= 0])
            for key in wanted:
                model.pop(key, None)
        assert len(index) == len(model)
        assert sorted(model.values()) == index.live().tolist()


def test_slots_are_dense_and_reused() -> None:
    index = KeyIndex(4)
    first = index.insert(np.array([10, 11, 12], np.uint64))
    index.remove(first[1:2])
    again = index.insert(np.array([20, 21, 22], np.uint64))
    assert set(first.tolist()) == {0, 1, 2}
    assert again.tolist() == [1, 3, -1]


def test_removed_keys_do_not_hide_later_ones() -> None:
    index = KeyIndex(5000)
    keys = np.arange(4000, dtype=np.uint64)
    slots = index.insert(keys)
    index.remove(slots[::2])
    assert (index.lookup(keys) >= 0).tolist() == [i % 2 == 1 for i in range(4000)]


def test_a_table_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity must be at least 1"):
        KeyIndex(0)
