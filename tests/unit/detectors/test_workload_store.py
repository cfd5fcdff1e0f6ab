"""The store of what is kept per workload: who may stay in a full one."""

from __future__ import annotations

from detectors.models.store import STALE, WorkloadStore

CAPACITY = 32


def full(minute: int) -> WorkloadStore:
    store = WorkloadStore((), CAPACITY)
    hear(store, range(CAPACITY), minute)
    return store


def hear(store: WorkloadStore, numbers: range, minute: int) -> list[int]:
    rows = store.rows([f"old{n}" for n in numbers], minute)
    store["last"][rows] = minute
    return [int(row) for row in rows]


def test_a_full_store_refuses_newcomers_until_somebody_is_stale() -> None:
    store = full(1000)
    assert store.row("new", 1000 + STALE - 1) == store.row("newer", 1000 + STALE - 1) == -1
    assert store.refused == 2
    assert store.row("new", 1000 + STALE) >= 0
    assert (len(store), store.evicted) == (CAPACITY - 1, CAPACITY // 16)


def test_who_is_heard_again_is_not_stale() -> None:
    store = full(1000)
    assert store.row("new", 1000 + STALE - 1) == -1
    kept = hear(store, range(1, CAPACITY), 1000 + STALE)
    assert store.row("new", 1000 + STALE) >= 0
    assert store.row("newer", 1000 + STALE) == -1
    assert hear(store, range(1, CAPACITY), 1000 + STALE) == kept


def test_nobody_asked_for_together_makes_room_for_another() -> None:
    store = full(1000)
    later = 1000 + 2 * STALE
    rows = store.rows([*(f"new{n}" for n in range(CAPACITY - 2)), "old30", "old31"], later)
    assert len(set(rows.tolist())) == CAPACITY
    assert min(rows.tolist()) >= 0


def test_a_restored_store_lets_the_same_ones_go() -> None:
    straight, restored = full(1000), WorkloadStore((), CAPACITY)
    restored.restore(straight.snapshot())
    for store in (straight, restored):
        hear(store, range(5), 1500)
        assert store.row("new", 1500) == -1
        store.rows([f"new{n}" for n in range(9)], 1000 + STALE)
    assert straight.snapshot()["names"].tobytes() == restored.snapshot()["names"].tobytes()
