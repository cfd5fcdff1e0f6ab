from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from response.reach import find_widening, pair_ports
from schemas.policy.addresses import span_of_address
from schemas.policy.evaluator import READINGS, Flow, IpBlockReading, evaluate
from schemas.policy.networkpolicy import PROTOCOLS
from schemas.policy.words import Dialect
from tests.unit.response import dialect_oracle, dialect_worlds, worlds

readings = st.sampled_from(READINGS)
addresses = st.sampled_from(worlds.POD_IPS + worlds.ADDRESSES)
dialects = pytest.mark.parametrize("dialect", sorted(dialect_worlds.OBJECTS))


@dialects
@settings(max_examples=60, deadline=None)
@given(data=st.data(), reading=readings)
def test_the_evaluator_agrees_with_enumeration(dialect: Dialect, data: st.DataObject, reading: IpBlockReading) -> None:
    world = data.draw(dialect_worlds.dialect_worlds(dialect))
    view = dialect_worlds.view_of(world, dialect)
    for source, destination in data.draw(st.lists(st.tuples(addresses, addresses), min_size=4, max_size=8)):
        reach = pair_ports(view, span_of_address(source), span_of_address(destination), reading)
        for protocol, port in product(PROTOCOLS, worlds.PORTS):
            expected = dialect_oracle.allows(world, source, destination, protocol, port, reading)
            verdict = evaluate(view, Flow(source, destination, protocol, port), reading)
            assert verdict.allowed == expected, verdict.text()
            assert (port in reach[protocol]) == expected


@dialects
@settings(max_examples=50, deadline=None)
@given(data=st.data(), reading=readings)
def test_a_widening_is_found_exactly_when_enumeration_finds_one(
    dialect: Dialect, data: st.DataObject, reading: IpBlockReading
) -> None:
    world = data.draw(dialect_worlds.dialect_worlds(dialect))
    after = {**world, "objects": data.draw(dialect_worlds.OBJECTS[dialect])}
    labels = data.draw(st.none() | worlds.labels)
    if labels is not None:
        after["pods"] = [{**world["pods"][0], "labels": labels}, *world["pods"][1:]]
    found = find_widening(dialect_worlds.view_of(world, dialect), dialect_worlds.view_of(after, dialect), reading)
    gained = set(_gained(world, after, reading))
    assert (found is not None) == bool(gained)
    if found is not None:
        address = found.peer.split("(")[-1].rstrip(")")
        new, old = ({f"{pod['ns']}/{pod['name']}": pod for pod in one["pods"]}[found.subject] for one in (after, world))
        question = (address, found.protocol, found.port, reading)
        assert dialect_oracle.side_allows(after, new, found.direction, question)
        assert not dialect_oracle.side_allows(world, old, found.direction, question)


def _gained(before: dict[str, Any], after: dict[str, Any], reading: str) -> Any:
    for old, new in zip(before["pods"], after["pods"], strict=True):
        for direction, address, protocol, port in product(
            ("Ingress", "Egress"), worlds.ADDRESSES, PROTOCOLS, worlds.PORTS
        ):
            question = (address, protocol, port, reading)
            if dialect_oracle.side_allows(after, new, direction, question) and not dialect_oracle.side_allows(
                before, old, direction, question
            ):
                yield (old["name"], direction, *question)
