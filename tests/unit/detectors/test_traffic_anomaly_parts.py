"""The parts of the traffic anomaly model, each by itself, on generated numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river.drift import ADWIN

from detectors.models import baseline, drift, week
from detectors.models.forest import WINDOW, RoleForest
from detectors.models.roles import ROLES, role_of
from detectors.models.store import WorkloadStore
from detectors.models.windows import COUNT, FEATURES, FLOORS, NAMES, natural

HOUR = 3600
MONDAY = 1_699_833_600  # 00:00 UTC
ONE = np.array([0])


def store_of_one() -> WorkloadStore:
    store = WorkloadStore((*baseline.QUANTITIES, *week.QUANTITIES, *drift.QUANTITIES), 4)
    assert store.rows(["w"], MONDAY).tolist() == [0] or len(store) == 1
    return store


def row_of(store: WorkloadStore) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return store.rows(["w"], MONDAY)


@given(st.lists(st.floats(0, 30, width=32), min_size=1, max_size=baseline.RING))
def test_median_and_spread_are_those_of_the_filled_windows(values: list[float]) -> None:
    ring = np.full((1, baseline.RING, COUNT), 7e7)
    ring[0, : len(values)] = np.array(values)[:, None]
    center, spread = baseline.usual(ring, np.array([len(values)]))
    assert center[0, 0] == pytest.approx(np.median(values))
    mad = np.median(np.abs(np.array(values) - np.median(values)))
    assert spread[0, 0] >= max(FLOORS[0], 1.4826 * mad) - 1e-9


def test_a_full_ring_forgets_its_oldest_window() -> None:
    ring = np.zeros((1, baseline.RING, COUNT))
    seen = np.zeros(1, np.int64)
    for value in range(baseline.RING + 3):
        baseline.learn(ring, seen, ONE, np.full((1, COUNT), float(value)))
    assert ring[0, :, 0].min() == 3
    assert baseline.newest(ring[0], int(seen[0]), 3)[:, 0].tolist() == [64, 65, 66]


def test_tail_is_the_upper_edge_of_the_bin() -> None:
    histogram = np.zeros((2, baseline.BINS), np.int64)
    baseline.note_scores(histogram, np.zeros(100, np.int64), np.array([0.2] * 98 + [7.1, 7.1]))
    assert baseline.tail(histogram, 0.98).tolist() == [0.5, 0.0]
    assert baseline.tail(histogram, 0.99).tolist() == [7.5, 0.0]


def test_old_scores_fade() -> None:
    histogram = np.zeros((1, baseline.BINS), np.int64)
    for _ in range(20):
        baseline.note_scores(histogram, np.zeros(1000, np.int64), np.full(1000, 3.0))
    assert histogram.sum() < 3000
    assert baseline.tail(histogram, 0.99).tolist() == [3.5]


def test_profile_knows_this_hour_of_earlier_days_and_weeks() -> None:
    store = store_of_one()
    row = row_of(store)
    nothing = week.expected(store, row, MONDAY + 60)
    assert (nothing == -math.inf).all()
    for minute in range(60):
        week.gather(store, row, MONDAY + 9 * HOUR + 60 * (minute + 1), np.full((1, COUNT), 5.0))
    week.gather(store, row, MONDAY + 10 * HOUR + 60, np.full((1, COUNT), 1.0))
    tuesday, next_monday = MONDAY + 33 * HOUR + 60, MONDAY + week.WEEK + 9 * HOUR + 60
    assert week.expected(store, row, tuesday)[0, 0] == 5.0
    assert week.expected(store, row, next_monday)[0, 0] == 5.0
    assert week.expected(store, row, tuesday + 2 * HOUR)[0, 0] == -math.inf


def test_reference_grows_for_a_week_and_then_stands() -> None:
    store = store_of_one()
    row = row_of(store)
    store["seen"][row] = 100
    limits = (math.log(20), math.log(4))
    usual = np.full((1, COUNT), 10.0)
    noon = MONDAY + 12 * HOUR
    assert (week.ramp(store, row, noon, usual, limits)[0] == -math.inf).all()
    week.keep_reference(store, row, noon, usual)
    assert (week.ramp(store, row, noon, usual + math.log(19), limits)[0] < 0).all()
    assert (week.ramp(store, row, noon, usual + math.log(21), limits)[0] > 0).all()
    week.keep_reference(store, row, noon + 86_400, usual + 1)
    later = noon + week.WEEK
    week.keep_reference(store, row, later, usual + 5)
    excess, reference = week.ramp(store, row, later, usual + 1 + math.log(3.9), limits)
    assert (excess < 0).all()
    assert (reference == 11.0).all()
    assert (week.ramp(store, row, later, usual + 1 + math.log(4.1), limits)[0] > 0).all()
    # An hour that the first week did not hold is compared with its beginning.
    assert (week.ramp(store, row, later + HOUR, usual + math.log(19), limits)[0] < 0).all()


def samples(count: int, seed: int = 3) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    random = np.random.default_rng(seed)
    return [np.clip(random.normal(0.5, 0.05, COUNT), 0, 1) for _ in range(count)]


@pytest.mark.parametrize("cut", [0, 100, WINDOW, WINDOW + 1, 2 * WINDOW, 2 * WINDOW + 1, 3 * WINDOW + 70])
def test_a_forest_grown_again_scores_the_same(cut: int) -> None:
    forest = RoleForest(5)
    for sample in samples(cut):
        forest.learn(sample)
    again = RoleForest(5)
    again.restore(forest.snapshot())
    for sample in samples(WINDOW + 40, seed=8):
        assert again.score(sample) == forest.score(sample)
        forest.learn(sample)
        again.learn(sample)
    assert again.limit() == forest.limit()


def test_a_forest_knows_nothing_until_its_first_window_is_full() -> None:
    forest = RoleForest(1)
    odd = np.full(COUNT, 0.98)
    for sample in samples(WINDOW - 1):
        forest.learn(sample)
    assert forest.score(odd) == 0
    assert forest.limit() == 1.0
    for sample in samples(2 * WINDOW, seed=4):
        forest.learn(sample)
    assert forest.score(odd) > forest.limit() > forest.score(np.full(COUNT, 0.5))
    assert len(forest.snapshot()["samples"]) <= 2 * WINDOW


def test_drift_is_found_and_survives_being_made_again() -> None:
    random = np.random.default_rng(2)
    values = [*random.uniform(0.05, 0.2, 300), *random.uniform(0.8, 1.0, 60), *random.uniform(0.8, 1.0, 200)]
    store, other = store_of_one(), store_of_one()
    steady, moved = drift.Drift(store), drift.Drift(other)
    row = int(row_of(store)[0])
    found = []
    for place, value in enumerate(values):
        if place % 7 == 0:
            moved.forget()
        change = steady.update(row, float(value))
        assert moved.update(row, float(value)) is change
        if change:
            found.append(place)
    assert found
    assert 300 < found[0] < 330
    assert store["adwin_filled"][row] <= drift.KEPT


def test_the_first_half_buffer_is_plain_adwin() -> None:
    store = store_of_one()
    row = int(row_of(store)[0])
    mine, plain = drift.Drift(store), ADWIN(delta=0.002, clock=4)
    for place in range(drift.KEPT):
        value = float(np.float32(0.1 if place < 64 else 0.9))
        plain.update(value)
        found = mine.update(row, value)
        assert found is plain.drift_detected
        if found:
            return
    pytest.fail("a step from 0.1 to 0.9 is a drift")


def test_roles_follow_shape_and_are_few() -> None:
    def center(**values: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        out = np.zeros((1, COUNT))
        for name, value in values.items():
            out[0, NAMES.index(name)] = np.log1p(value)
        return out

    def role(**values: float) -> str:
        return ROLES[int(role_of(center(**values))[0])]

    assert len(ROLES) <= 8
    assert role(flows_out=100, bytes_out=1e4) == "quiet_client"
    assert role(flows_in=100, bytes_out=1e7) == "busy_server"
    assert role(flows_in=100, flows_out=90) == "quiet_mixed"
    assert role(dns_queries=500, flows_out=10) == "resolver"


def test_features_can_be_told_in_their_units() -> None:
    place = NAMES.index("bytes_out")
    assert natural(place, math.log1p(1000)) == pytest.approx(1000)
    assert natural(NAMES.index("failed_share"), 0.25) == 0.25
    assert natural(NAMES.index("bytes_ratio"), math.log(3)) == pytest.approx(3)
    assert len({f.name for f in FEATURES}) == COUNT
