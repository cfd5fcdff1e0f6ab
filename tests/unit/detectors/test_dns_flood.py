"""DNS floods: names that do not exist, below one zone, and masses of questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from schemas.alert import Alert
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings
from tests.event_rows import Node, Row, query


def floods(rows: Sequence[Row], seconds: int = 1) -> list[Alert]:
    node, share = Node(), -(-len(rows) // seconds)
    parts = [node.second(s + 1, dns=rows[s * share : (s + 1) * share]) for s in range(seconds)]
    pipeline = Pipeline(Parts(PipelineSettings()))
    found = [a for o in pipeline.run([node.second(0), *parts, node.second(200)]) for a in o.alerts]
    return [a for a in found if a.detector == "dns_flood" and a.revision == 1]


def missing(count: int, client: str = "10.0.0.1", zone: str = "shop.example", **more: Any) -> list[Row]:
    nothing = {"rcode": 3, "answer_number": 0}
    return [query(client, f"n{i}x{client[-1]}.{zone}", **nothing | more) for i in range(count)]


@pytest.mark.parametrize(("count", "fires"), [(1000, False), (1001, True)])
@pytest.mark.parametrize("seconds", [1, 10])
def test_missing_names_at_and_above_the_limit(count: int, seconds: int, fires: bool) -> None:
    found = floods(missing(count), seconds)
    assert bool(found) == fires
    if found:
        assert [a.ip for a in found[0].attackers] == ["10.0.0.1"]
        assert [v.ip for v in found[0].victims] == ["10.0.0.53"]


def test_clients_are_counted_together() -> None:
    rows = missing(600) + missing(600, "10.0.0.2")
    (alert,) = floods(rows)
    assert {a.ip for a in alert.attackers} == {"10.0.0.1", "10.0.0.2"}


@pytest.mark.parametrize(("count", "fires"), [(1000, False), (1004, True)])
def test_an_attack_over_four_nodes_is_counted_together(count: int, fires: bool) -> None:
    nodes = [Node(f"node{n}") for n in range(4)]
    rows = [row | {"client": f"10.0.{n % 4}.1"} for n, row in enumerate(missing(count))]
    seconds = [node.second(1, dns=rows[n::4]) for n, node in enumerate(nodes)]
    messages = [*(n.second(0) for n in nodes), *seconds, *(n.second(200) for n in nodes)]
    found = [a for o in Pipeline(Parts(PipelineSettings())).run(messages) for a in o.alerts]
    alerts = [a for a in found if a.detector == "dns_flood" and a.revision == 1]
    assert bool(alerts) == fires
    if alerts:
        (alert,) = alerts
        assert {e.name: e.value for e in alert.evidence}["failed_dns_names"] == count
        assert {a.ip for a in alert.attackers} == {f"10.0.{n}.1" for n in range(4)}


def test_names_that_fail_all_the_time_on_many_nodes_are_no_flood() -> None:
    """A release that asks for a service that is gone: the same names, over and over, everywhere."""
    nodes = [Node(f"node{n}") for n in range(4)]
    messages = [node.second(second, dns=missing(300)) for second in range(1, 40, 3) for node in nodes]
    found = [a for o in Pipeline(Parts(PipelineSettings())).run(messages) for a in o.alerts]
    assert [a for a in found if a.detector == "dns_flood"] == []


def test_different_zones_are_not() -> None:
    assert floods(missing(600) + missing(600, zone="other.example")) == []


def test_one_name_asked_again_and_again_is_one_name() -> None:
    assert floods(missing(1) * 3000) == []


def test_search_paths_and_names_that_exist_are_no_flood() -> None:
    assert floods(missing(3000, zone="default.svc.cluster.local")) == []
    found = missing(1500) + missing(1500, rcode=0, answer_number=1)
    assert floods(found) == []


def test_a_forwarder_is_not_the_subject() -> None:
    asked = [query("10.0.0.9", "www.example.com", server="10.0.0.1")]
    assert floods(asked + missing(3000)) == []


@pytest.mark.parametrize(("count", "fires"), [(15_000, False), (15_001, True)])
def test_a_mass_of_questions_at_and_above_the_limit(count: int, fires: bool) -> None:
    assert bool(floods([query("10.0.0.1", "web.example.com")] * count)) == fires
