from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from response.reach import cells_of, cut_peers, find_widening, pair_ports
from schemas.policy.addresses import Span, cut_space, span_of_address
from schemas.policy.evaluator import READINGS, Flow, IpBlockReading, evaluate
from schemas.policy.networkpolicy import DIRECTIONS, PROTOCOLS
from schemas.policy.ports import ALL_PORTS, NO_PORTS, PortSet
from tests.unit.response import policy_oracle, worlds

readings = st.sampled_from(READINGS)
_pairs = st.lists(
    st.tuples(st.sampled_from(worlds.POD_IPS + worlds.ADDRESSES), st.sampled_from(worlds.POD_IPS + worlds.ADDRESSES)),
    min_size=4,
    max_size=8,
)
_intervals = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda p: (min(p), max(p))), max_size=5)


@settings(max_examples=60, deadline=None)
@given(worlds.worlds(), _pairs, readings)
def test_the_evaluator_agrees_with_enumeration(
    world: dict[str, Any], pairs: list[tuple[str, str]], reading: IpBlockReading
) -> None:
    view = worlds.view_of(world)
    for (source, destination), protocol, port in product(pairs, PROTOCOLS, worlds.PORTS):
        expected = policy_oracle.allows(world, source, destination, protocol, port, reading)
        assert evaluate(view, Flow(source, destination, protocol, port), reading).allowed == expected
        reach = pair_ports(view, span_of_address(source), span_of_address(destination), reading)
        assert (port in reach[protocol]) == expected


@settings(max_examples=80, deadline=None)
@given(worlds.worlds(), worlds.changes(), readings)
def test_a_widening_is_found_exactly_when_enumeration_finds_one(
    world: dict[str, Any], change: Any, reading: IpBlockReading
) -> None:
    after = worlds.changed(world, change)
    found = find_widening(worlds.view_of(world), worlds.view_of(after), reading)
    gained = set(_gained(world, after, reading))
    assert (found is not None) == bool(gained)
    if found is not None:
        # The counterexample itself must be real: the peer's address ends the text, bare or in brackets.
        address = found.peer.split("(")[-1].rstrip(")")
        pods = {f"{pod['ns']}/{pod['name']}": pod for pod in after["pods"]}
        old = {f"{pod['ns']}/{pod['name']}": pod for pod in world["pods"]}
        question = (found.direction, address, found.protocol, found.port, reading)
        assert policy_oracle.side_allows(after, pods[found.subject], *question)
        assert not policy_oracle.side_allows(world, old[found.subject], *question)


def _gained(before: dict[str, Any], after: dict[str, Any], reading: str) -> Any:
    for old, new in zip(before["pods"], after["pods"], strict=True):
        for question in product(("Ingress", "Egress"), worlds.ADDRESSES, PROTOCOLS, worlds.PORTS):
            has = policy_oracle.side_allows(after, new, *question, reading)
            if has and not policy_oracle.side_allows(before, old, *question, reading):
                yield (old["name"], *question)


@given(_intervals, _intervals)
def test_port_sets_behave_as_sets(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    sets = [{port for low, high in items for port in range(low, high + 1)} for items in (one, other)]
    left, right = PortSet.of(one), PortSet.of(other)
    for made, expected in (
        (left | right, sets[0] | sets[1]),
        (left - right, sets[0] - sets[1]),
        (left & right, sets[0] & sets[1]),
    ):
        assert {port for port in range(42) if port in made} == expected
        assert bool(made) == bool(expected)
    # One form for each set, however it was put together.
    assert left == PortSet.of((port, port) for port in sorted(sets[0], reverse=True))


@given(_intervals)
def test_all_ports_and_none_are_the_ends_of_the_sets(items: list[tuple[int, int]]) -> None:
    some = PortSet.of(items)
    assert some | ALL_PORTS == ALL_PORTS | some == ALL_PORTS
    assert some & ALL_PORTS == ALL_PORTS & some == some | NO_PORTS == NO_PORTS | some == some - NO_PORTS == some
    assert some - ALL_PORTS == some & NO_PORTS == NO_PORTS & some == NO_PORTS - some == NO_PORTS
    assert (ALL_PORTS - some) & some == NO_PORTS
    assert (ALL_PORTS - some) | some == ALL_PORTS


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=6))
def test_cells_cover_the_space_once_and_respect_every_edge(pairs: list[tuple[int, int]]) -> None:
    spans = [Span(4, min(pair), max(pair)) for pair in pairs]
    cells = [cell for cell in cut_space(spans) if cell.family == 4]
    assert (cells[0].low, cells[-1].high) == (0, 2**32 - 1)
    assert all(one.high + 1 == other.low for one, other in pairwise(cells))
    for span, cell in product(spans, cells):
        assert span.covers(cell) or cell.high < span.low or span.high < cell.low


@settings(max_examples=30, deadline=None)
@given(worlds.worlds())
def test_no_view_is_wider_than_itself_and_none_than_no_policy(world: dict[str, Any]) -> None:
    view = worlds.view_of(world)
    bare = worlds.view_of({**world, "policies": []})
    for reading in READINGS:
        assert find_widening(view, view, reading) is None
        assert find_widening(bare, view, reading) is None
    assert {cell.pod for cell in cells_of(view)} >= {f"{p['ns']}/{p['name']}" for p in world["pods"] if not p["host"]}


@settings(max_examples=80, deadline=None)
@given(worlds.worlds(), worlds.changes(), readings)
def test_views_that_share_what_did_not_change_give_what_separate_ones_give(
    world: dict[str, Any], change: Any, reading: IpBlockReading
) -> None:
    added, _, labels = change
    before, apart = worlds.view_of(world), worlds.view_of(worlds.changed(world, (added, False, labels)))
    # What is known of the pods by now goes over to the next view.
    assert before.pod_addresses() is not None
    named = {policy.key for policy in before.policies}
    after = before.with_policies(*(item for item in apart.policies if item.key not in named))
    if labels is not None:
        first = before.pods[0]
        after = after.changed(pods=(replace(first, labels=labels), *after.pods[1:]))
    assert find_widening(before, after, reading) == find_widening(worlds.view_of(world), apart, reading)
    for pod, direction in product(before.pods, DIRECTIONS):
        shared = cut_peers(before, after, pod.key, direction, reading)
        assert shared == cut_peers(worlds.view_of(world), apart, pod.key, direction, reading)
