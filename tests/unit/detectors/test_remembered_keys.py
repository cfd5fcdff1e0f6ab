"""Remembered keys: bounded per node, no flood washes out what is known, and rounds may be cut anywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.ledger import Entry, Ledger
from detectors.remembered_keys import RememberedKeys

CAPACITY, LIFETIME = 16, 100

Tick = tuple[int, int, list[int]]  # node, tick, keys


def see(memory: RememberedKeys, ticks: list[Tick]) -> list[bool]:
    """Put ticks of different nodes into one round; returns which keys were known."""
    keys = np.array([k * 64 + node for node, _, some in ticks for k in some], np.uint64)
    nodes = np.array([node for node, _, some in ticks for _ in some], np.int64)
    at = np.array([tick for _, tick, some in ticks for _ in some], np.int64)
    slots = memory.find(keys, at)
    known = slots >= 0
    memory.touch(slots[known], at[known])
    memory.values[slots[known], 0] += 1
    memory.admit(keys[~known], nodes[~known], at[~known])
    return [bool(k) for k in known]


def state(memory: RememberedKeys) -> dict[str, Any]:
    return {name: array.tolist() for name, array in memory.snapshot().items()}


def made() -> RememberedKeys:
    return RememberedKeys(CAPACITY, LIFETIME, 1)


def test_it_knows_what_it_saw_until_its_time_is_over() -> None:
    memory = made()
    assert see(memory, [(0, 10, [1, 2])]) == [False, False]
    assert see(memory, [(0, 11, [1]), (1, 11, [1])]) == [True, False]
    assert see(memory, [(0, 10 + LIFETIME, [2, 1])]) == [False, True]
    assert memory.values[memory.find(np.array([64], np.uint64), np.array([111])), 0].tolist() == [2]


def test_a_flood_pushes_out_only_what_was_seen_once() -> None:
    memory = made()
    see(memory, [(0, 1, [1, 2, 3])])
    see(memory, [(0, 2, [1, 2, 3])])
    for tick in range(3, 20):
        see(memory, [(0, tick, [tick * 1000 + i for i in range(50)])])
        assert len(memory) <= CAPACITY
    assert see(memory, [(0, 20, [1, 2, 3])]) == [True] * 3
    assert memory.shed[0] > 500
    assert see(memory, [(1, 20, [7])]) == [False]
    assert see(memory, [(1, 21, [7])]) == [True]


def test_who_is_known_stays_and_newcomers_still_get_in() -> None:
    memory = made()
    for tick in (1, 2):
        for first in range(0, 40, 4):
            see(memory, [(0, tick * 10 + first, list(range(first, first + 4)))])
            see(memory, [(0, tick * 10 + first + 1, list(range(first, first + 4)))])
    assert see(memory, [(0, 95, list(range(12)))]) == [True] * 12
    assert see(memory, [(0, 96, [99])]) == [False]
    assert see(memory, [(0, 97, [99])]) == [True]


@given(
    log=st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.integers(0, 40), max_size=12, unique=True)), min_size=1, max_size=40
    ),
    step=st.integers(1, 30),
)
def test_how_ticks_share_rounds_changes_nothing(log: list[tuple[int, list[int]]], step: int) -> None:
    ticks: list[Tick] = [(node, 1 + at * step // 3, keys) for at, (node, keys) in enumerate(log)]
    ticks = [t for i, t in enumerate(ticks) if not any(t[0] == o[0] and t[1] == o[1] for o in ticks[:i])]
    alone, together = made(), made()
    one = [known for tick in ticks for known in see(alone, [tick])]
    many: list[bool] = []
    block: list[Tick] = []
    for tick in [*ticks, None]:
        if tick is None or any(tick[0] == other[0] for other in block):
            many += see(together, block)
            block = []
        if tick is not None:
            block.append(tick)
    assert one == many
    assert state(alone) == state(together)


def test_a_snapshot_goes_on_where_it_was() -> None:
    memory, other = made(), made()
    for tick in range(1, 9):
        see(memory, [(0, tick, [tick, tick - 1]), (1, tick, [tick, 100])])
    other.restore(memory.snapshot())
    assert state(other) == state(memory)
    for tick in range(9, 30):
        ticks: list[Tick] = [(0, tick, [tick, tick - 1, 3]), (1, tick, [tick, 100])]
        assert see(memory, ticks) == see(other, ticks)
    assert state(other) == state(memory)


@pytest.mark.parametrize("keys", [9, 14, 30])
def test_it_remembers_what_a_ledger_remembers(keys: int) -> None:
    """One key a tick: among those touched in one tick a ledger goes by their order, which columns do not have."""
    dice = np.random.default_rng(keys)
    memory, ledger = made(), Ledger(Entry, CAPACITY, LIFETIME)
    for tick in range(1, 1000):
        key = int(dice.integers(0, keys))
        known = ledger.get(0, (key,), tick) is not None
        ledger.touch(0, (key,), tick)
        assert see(memory, [(0, tick, [key])]) == [known]
    assert memory.shed == ledger.shed
