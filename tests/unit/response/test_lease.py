"""One leader at a time, whatever clocks say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from response.gateway import ClusterError
from response.lease import DURATION_S, HOLD_S, Candidate

NOW = 1_800_000_000.0


class Store:
    """A Lease as the API server keeps it: a write with an old version is refused."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0

    def write(self, lease: dict[str, Any]) -> bool:
        held = (self.lease or {}).get("metadata", {}).get("resourceVersion")
        if lease["metadata"].get("resourceVersion") != held:
            return False
        self.version += 1
        self.lease = {**lease, "metadata": {**lease["metadata"], "resourceVersion": str(self.version)}}
        return True


def attempt(candidate: Candidate, store: Store, tick: float, now: float = NOW) -> bool:
    wanted = candidate.wanted(store.lease, now, tick)
    if wanted is None or not store.write(wanted):
        return False
    candidate.wrote(tick)
    return True


def pair() -> tuple[Candidate, Candidate]:
    return Candidate("ns", "lease", "one"), Candidate("ns", "lease", "two")


def test_the_first_leads_and_the_second_stands_by() -> None:
    store, (one, two) = Store(), pair()
    assert attempt(one, store, 0)
    assert not attempt(two, store, 1)
    assert (one.leads(1), two.leads(1), two.holder) == (True, False, "one")
    assert attempt(one, store, 3)
    assert store.lease is not None
    assert store.lease["spec"]["leaseTransitions"] == 0


def test_a_leader_that_went_silent_is_replaced_after_the_lease_and_has_stopped_before() -> None:
    store, (one, two) = Store(), pair()
    attempt(one, store, 0)
    attempt(two, store, 1)
    assert not attempt(two, store, DURATION_S)
    assert one.leads(HOLD_S - 0.1)
    assert not one.leads(HOLD_S)
    assert attempt(two, store, 1 + DURATION_S + 0.1)
    assert store.lease is not None
    assert store.lease["spec"]["leaseTransitions"] == 1


def test_a_wrong_clock_of_the_leader_does_not_matter() -> None:
    store, (one, two) = Store(), pair()
    attempt(one, store, 0, now=NOW - 86_400)
    assert not attempt(two, store, 1)
    attempt(one, store, 10, now=NOW - 86_390)
    assert not attempt(two, store, 10 + DURATION_S)


def test_a_released_lease_is_taken_at_once() -> None:
    store, (one, two) = Store(), pair()
    attempt(one, store, 0)
    free = one.released(store.lease)
    assert free is not None
    assert store.write(free)
    assert not one.leads(0.1)
    assert attempt(two, store, 0.2)
    assert one.released(store.lease) is None, "another's lease is not released"


def test_the_fence_names_the_reason() -> None:
    one, _ = pair()
    with pytest.raises(ClusterError) as caught:
        one.fence(0.0)
    assert caught.value.reason == "not_leader"


def test_of_two_that_write_at_once_one_wins() -> None:
    store, (one, two) = Store(), pair()
    first, second = one.wanted(store.lease, NOW, 0), two.wanted(store.lease, NOW, 0)
    assert first is not None
    assert second is not None
    assert store.write(first)
    assert not store.write(second)


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 20), st.booleans()), max_size=60))
def test_never_two_leaders(moves: list[tuple[int, float, bool]]) -> None:
    store = Store()
    candidates = [Candidate("ns", "lease", name) for name in ("one", "two", "three")]
    # Clocks of three machines: same speed, other zero.
    zeros = (0.0, 1000.0, -500.0)
    time = 0.0
    for who, passed, lost in moves:
        time += passed
        wanted = candidates[who].wanted(store.lease, NOW + time, time + zeros[who])
        if wanted is not None and store.write(wanted) and not lost:
            candidates[who].wrote(time + zeros[who])
        leading = [c.identity for c, zero in zip(candidates, zeros, strict=True) if c.leads(time + zero)]
        assert len(leading) <= 1
