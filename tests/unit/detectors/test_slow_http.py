"""Slow HTTP requests: heads that do not end, and connections that drip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from schemas.alert import Alert
from schemas.event_codec import EventMessage
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings
from tests.event_rows import BEGIN, CLOSED, EXCHANGED, Node, Row, flow

SECOND = 1_000_000_000
WEB = "10.0.0.80"


def alerts(messages: Sequence[EventMessage]) -> list[Alert]:
    found = [a for output in Pipeline(Parts(PipelineSettings())).run(messages) for a in output.alerts]
    return [a for a in found if a.detector == "slow_http" and a.revision == 1]


def at_once(node: Node, **rows: Sequence[Row]) -> list[EventMessage]:
    return [node.second(0), node.second(100, **rows), node.second(300)]


def drips(count: int, held: int = 20, packets: int = 9, port: int = 80, **more: Any) -> list[Row]:
    """Connections that end after so many seconds without an answer."""
    row = {"marks": CLOSED, "src_packets": packets, "src_payload": 300, "total_src_payload": 300}
    row |= {"total_src_packets": packets, "conn_start": (BEGIN + 100 - held) * SECOND, "end": (BEGIN + 100) * SECOND}
    return [flow("10.0.0.66", WEB, port, **row | {"src_port": 2048 + i} | more) for i in range(count)]


def heads(count: int, *, complete: bool = False) -> list[Row]:
    row = {"dst": WEB, "dst_port": 8081, "method": "GET", "head_complete": complete}
    return [row | {"src": f"10.0.1.{i % 40}", "src_port": 2048 + i, "flow_id": i} for i in range(count)]


@pytest.mark.parametrize(("count", "fires"), [(100, False), (101, True)])
def test_unfinished_heads_at_and_above_the_limit(count: int, fires: bool) -> None:
    found = alerts(at_once(Node(), http=heads(count)))
    assert bool(found) == fires
    if found:
        assert found[0].kind == "slow_http_dos"
        assert found[0].severity == "high"
        assert [(v.ip, v.port) for v in found[0].victims] == [(WEB, 8081)]
        assert found[0].attackers


def test_whole_heads_are_no_slow_requests() -> None:
    assert alerts(at_once(Node(), http=heads(400, complete=True))) == []


@pytest.mark.parametrize(("count", "fires"), [(100, False), (101, True)])
def test_dripping_connections_at_and_above_the_limit(count: int, fires: bool) -> None:
    found = alerts(at_once(Node(), flows=drips(count)))
    assert bool(found) == fires
    if found:
        assert found[0].severity == "medium"
        assert [a.ip for a in found[0].attackers] == ["10.0.0.66"]


@pytest.mark.parametrize(("held", "packets", "fires"), [(9, 9, False), (10, 9, True), (89, 5, False), (90, 5, True)])
def test_how_long_is_slow_depends_on_whether_the_client_sends(held: int, packets: int, fires: bool) -> None:
    assert bool(alerts(at_once(Node(), flows=drips(150, held, packets)))) == fires


def test_answered_fast_and_other_services_are_no_slow_requests() -> None:
    assert alerts(at_once(Node(), flows=drips(150, total_dst_payload=5000))) == []
    assert alerts(at_once(Node(), flows=drips(150, total_src_payload=20 * 501))) == []
    assert alerts(at_once(Node(), flows=drips(150, port=5432))) == []
    assert alerts(at_once(Node(), flows=drips(150, src_payload=0, total_src_payload=0))) == []


def test_a_first_word_that_comes_late_counts() -> None:
    late = drips(150, marks=EXCHANGED, dst_payload=500, total_src_payload=0, total_src_packets=0)
    assert alerts(at_once(Node(), flows=late))


@pytest.mark.parametrize(("apart", "fires"), [(59, True), (60, False)])
def test_the_window_slides(apart: int, fires: bool) -> None:
    node = Node()
    messages = [node.second(0), node.second(100, http=heads(60)), node.second(100 + apart, http=heads(60))]
    assert bool(alerts([*messages, node.second(400)])) == fires


def split(parts: Sequence[Sequence[Row]]) -> list[EventMessage]:
    """HTTP rows at the same time on as many nodes."""
    nodes = [Node(f"node{n}") for n in range(len(parts))]
    seconds = zip(nodes, parts, strict=True)
    return [*(n.second(0) for n in nodes), *(n.second(1, http=p) for n, p in seconds), *(n.second(300) for n in nodes)]


@pytest.mark.parametrize(("count", "fires"), [(100, False), (104, True)])
def test_an_attack_over_four_nodes_is_counted_together(count: int, fires: bool) -> None:
    rows = heads(count)
    found = alerts(split([rows[n::4] for n in range(4)]))
    assert bool(found) == fires
    if found:
        (alert,) = found
        assert {e.name: e.value for e in alert.evidence}["unfinished_heads"] == count
        assert len({a.ip for a in alert.attackers}) > 1


def test_servers_are_counted_apart() -> None:
    others = [row | {"dst": "10.0.0.81"} for row in heads(60)]
    assert alerts(split([heads(60), others])) == []
