"""Hourly edges of workloads: what counts, for whom, when it is said, and what a restart changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import detectors.edges
import detectors.hour_edges
from detectors.settings import EngineSettings
from schemas.edge import Edge
from schemas.event_codec import EventMessage
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from stream.stages import DetectStage, Parts, PipelineSettings
from tests.event_rows import BEGIN, CONVERSATION, OPENED, REFUSED, UDP, Node, Row, flow
from tests.snapshots import copied

SETTINGS = PipelineSettings(engine=EngineSettings(event_partitions=1, rollup_partitions=1))
HOUR = BEGIN // 3600 * 3600
NEXT_TEN = (BEGIN // 600 + 1) * 600 - BEGIN  # s after BEGIN of the next ten minutes' beginning
WEB, DB, VIP, OUTSIDE = "10.0.0.1", "10.0.0.2", "10.96.0.7", "192.0.2.9"


def pod(ip: str, name: str, workload: str = "", **more: Any) -> InventoryObject:
    return InventoryObject(kind="Pod", uid=name, namespace="shop", name=name, ips=(ip,), workload=workload, **more)


WORLD = (
    pod(WEB, "web-1", "Deployment/web"), pod("10.0.0.3", "web-2", "Deployment/web"), pod(DB, "db-0", "StatefulSet/db"),
    InventoryObject(kind="Service", uid="vip", namespace="shop", name="db", ips=(VIP,)),
    InventoryObject(kind="Node", uid="n", name="worker", ips=("10.0.9.1",)),
)  # fmt: skip


def talk(src: str, dst: str, port: int = 5432, **more: Any) -> Row:
    counts = {"src_packets": 3, "dst_packets": 2, "src_bytes": 300, "dst_bytes": 900}
    return flow(src, dst, port, **{"marks": CONVERSATION, **counts, **more})


def stage(objects: Sequence[InventoryObject] = WORLD) -> DetectStage:
    return Parts(SETTINGS, IdentityTable(objects)).detect(0)


def said(messages: Sequence[EventMessage], objects: Sequence[InventoryObject] = WORLD) -> list[Edge]:
    return stage(objects).feed(messages).edges


def told(edge: Edge) -> tuple[Any, ...]:
    way = "→" if edge.initiated else "←"
    return edge.workload, way, edge.peer, edge.port, edge.protocol, edge.flows, edge.bytes_sent, edge.bytes_received


def test_both_ends_that_are_workloads_have_an_edge_and_replicas_are_one() -> None:
    node = Node()
    messages = [
        node.second(1, flows=[talk(WEB, DB), talk("10.0.0.3", DB)]),
        node.second(70, flows=[
            talk(WEB, DB, marks=0), talk(WEB, OUTSIDE, 53, proto=UDP), talk(WEB, VIP), talk("10.0.9.1", WEB, 80),
        ]),
        node.second(NEXT_TEN), node.second(NEXT_TEN + 1),
    ]  # fmt: skip
    edges = said(messages)
    assert [told(edge) for edge in edges] == [
        ("Deployment/web", "→", OUTSIDE, 53, "UDP", 1, 300, 900),
        ("Deployment/web", "←", "Node/worker", 80, "TCP", 1, 900, 300),
        ("Deployment/web", "→", "shop/Service/db", 5432, "TCP", 1, 300, 900),
        ("Deployment/web", "→", "shop/StatefulSet/db", 5432, "TCP", 2, 900, 2700),
        ("StatefulSet/db", "←", "shop/Deployment/web", 5432, "TCP", 2, 2700, 900),
    ]
    assert {(e.cluster, e.node, e.namespace, e.hour) for e in edges} == {("test", "node1", "shop", HOUR)}


def test_what_never_talked_is_no_edge() -> None:
    node = Node()
    rows = [
        flow(WEB, DB, 1), talk(WEB, DB, 2, marks=OPENED | REFUSED, dst_packets=1), talk(WEB, DB, 3, copy=True),
        talk(WEB, DB, 4, proto=99), talk(OUTSIDE, "192.0.2.8", 6), talk("10.7.7.7", "10.7.7.8", 7),
    ]  # fmt: skip
    assert said([node.second(1, flows=rows), node.second(NEXT_TEN + 1)]) == []


def test_later_rows_of_a_pair_that_talked_count_though_one_side_is_silent() -> None:
    node = Node()
    messages = [
        node.second(1, flows=[talk(WEB, DB)]),
        node.second(2, flows=[talk(WEB, DB, marks=0, dst_packets=0, dst_bytes=0)]),
        node.second(NEXT_TEN + 1),
    ]
    assert [told(edge)[5:] for edge in said(messages)] == [(1, 600, 900), (1, 900, 600)]


def test_an_edge_is_said_again_with_larger_counts_and_only_where_it_changed() -> None:
    node = Node()
    first = [node.second(1, flows=[talk(WEB, DB), talk(WEB, OUTSIDE, 443)]), node.second(NEXT_TEN + 1)]
    second = [node.second(NEXT_TEN + 5, flows=[talk(WEB, OUTSIDE, 443)]), node.second(NEXT_TEN + 601)]
    fed = stage()
    assert len(fed.feed(first).edges) == 3
    assert [told(edge) for edge in fed.feed(second).edges] == [
        ("Deployment/web", "→", OUTSIDE, 443, "TCP", 2, 600, 1800)
    ]


def test_the_last_second_of_an_hour_belongs_to_it_and_the_hour_is_let_go() -> None:
    node, end = Node(), HOUR + 3600 - BEGIN
    fed = stage()
    edges = fed.feed([node.second(end - 1), node.second(end, flows=[talk(WEB, OUTSIDE)])]).edges
    edges += fed.feed([node.second(end + 1, flows=[talk(WEB, OUTSIDE)]), node.second(end + 601)]).edges
    assert [(edge.hour, edge.flows) for edge in edges] == [(HOUR, 1), (HOUR + 3600, 1)]
    assert fed.table_counts()["edges"]["keys"] == 1


def test_a_node_that_is_gone_says_what_it_had_when_others_are_hours_ahead() -> None:
    gone, other = Node("gone", "g"), Node("other", "o")
    fed = stage()
    fed.feed([gone.second(1, flows=[talk(WEB, OUTSIDE)]), gone.second(62), other.second(1)])
    later = fed.feed([other.second(at) for at in range(600, 3 * 3600, 600)]).edges
    assert [(edge.node, edge.hour) for edge in later] == [("gone", HOUR)]
    assert fed.table_counts()["edges"]["keys"] == 0


def test_an_address_is_named_as_it_was_when_it_was_last_heard() -> None:
    objects = (pod(WEB, "old", "Job/old", valid_to=BEGIN + 30), pod(WEB, "new", "Job/new", valid_from=BEGIN + 90))
    node = Node()
    messages = [
        node.second(20, flows=[talk(WEB, OUTSIDE, 1)]), node.second(65, flows=[talk(WEB, OUTSIDE, 2)]),
        node.second(125, flows=[talk(WEB, OUTSIDE, 3)]), node.second(NEXT_TEN + 1),
    ]  # fmt: skip
    assert [(e.workload, e.port) for e in said(messages, objects)] == [("Job/new", 3), ("Job/old", 1)]


def test_without_names_nothing_is_gathered() -> None:
    node, fed = Node(), stage(())
    assert fed.feed([node.second(1, flows=[talk(WEB, DB)]), node.second(NEXT_TEN + 1)]).edges == []
    assert fed.table_counts()["edges"] == {"keys": 0, "shed": 0, "peers": 0, "edges": 0}


def test_what_exceeds_a_workloads_limit_or_that_of_all_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors.hour_edges, "MOST_OF_WORKLOAD", 3)
    monkeypatch.setattr(detectors.edges, "MOST_EDGES", 4)
    node, fed = Node(), stage()
    flows = [talk(WEB, f"192.0.2.{n}") for n in range(5)] + [talk(DB, f"192.0.2.{n}") for n in range(2)]
    edges = fed.feed([node.second(1, flows=flows), node.second(NEXT_TEN + 1)]).edges
    assert [(edge.workload, edge.peer) for edge in edges] == [
        ("Deployment/web", "192.0.2.0"), ("Deployment/web", "192.0.2.1"), ("Deployment/web", "192.0.2.2"),
        ("StatefulSet/db", "192.0.2.0"),
    ]  # fmt: skip
    assert fed.table_counts()["edges"] == {"keys": 4, "shed": 0, "peers": 2, "edges": 1}


def test_a_crowded_minute_refuses_further_pairs_and_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors.edges, "_PAIRS_OF_NODE", 3)
    node, fed = Node(), stage()
    fed.feed([node.second(1, flows=[talk(WEB, f"192.0.2.{n}") for n in range(5)]), node.second(62)])
    assert fed.table_counts()["edges"] == {"keys": 3, "shed": 2, "peers": 0, "edges": 0}


def test_a_number_that_another_node_gets_leaves_the_former_ones_edges_to_it() -> None:
    node, fed = Node("one"), stage()
    fed.feed([node.second(1, flows=[talk(WEB, OUTSIDE)]), node.second(2)])
    book = fed._engine._edges
    assert book.close(0, "two", BEGIN + 3, "c") == []
    assert [(edge.node, edge.hour) for edge in book.close(0, "two", BEGIN + 4 * 3600, "c")] == [("one", HOUR)]


def hours() -> list[EventMessage]:
    """Two nodes for three hours, a message a minute."""
    one, two = Node("one", "1"), Node("two", "2")
    return [
        node.second(60 * at + shift, flows=[talk(WEB, f"192.0.2.{at % 7}"), talk(DB, WEB, at % 5)])
        for at in range(180) for node, shift in ((one, 3), (two, 40))
    ]  # fmt: skip


@pytest.mark.parametrize("batch", [1, 13])
def test_batches_and_restarts_change_no_byte(batch: int) -> None:
    messages = hours()
    whole = [edge.encode() for edge in said(messages)]
    assert len(whole) > 100
    fed, again = stage(), []
    for start in range(0, len(messages), batch):
        again += [edge.encode() for edge in fed.feed(messages[start : start + batch]).edges]
        if start % 17 == 0:
            state = copied(fed.snapshot())
            fed = stage()
            assert fed.restore(state) == []
    assert again == whole


def test_what_is_said_again_after_a_restart_only_grows_or_repeats() -> None:
    messages = hours()
    fed = stage()
    greatest: dict[tuple[Any, ...], int] = {}
    fed.feed(messages[:100])
    state = copied(fed.snapshot())
    edges = fed.feed(messages[100:200]).edges
    back = stage()
    back.restore(state)
    for edge in [*edges, *back.feed(messages[100:]).edges]:
        key = (edge.node, edge.hour, edge.workload, edge.peer, edge.port, edge.initiated)
        greatest[key] = max(greatest.get(key, 0), edge.flows)
    wanted = {}
    for edge in said(messages):
        wanted[edge.node, edge.hour, edge.workload, edge.peer, edge.port, edge.initiated] = edge.flows
    assert {key: greatest[key] for key in greatest if key in wanted and key[1] > HOUR} == {
        key: flows for key, flows in wanted.items() if key[1] > HOUR
    }


def test_a_damaged_state_is_refused() -> None:
    fed, node = stage(), Node()
    fed.feed([node.second(1, flows=[talk(WEB, DB)]), node.second(2)])
    state = copied(fed.snapshot())["edges"].state
    book = detectors.edges.EdgeBook(IdentityTable(WORLD))
    state["table"]["rows"][0, 3] = 99
    with pytest.raises(ValueError, match="do not fit their nodes"):
        book.restore(state)
    fed.feed([node.second(63)])
    state = copied(fed.snapshot())["edges"].state
    state["hours"]["node1"]["peer"][0] = 99
    with pytest.raises(ValueError, match="do not fit their names"):
        book.restore(state)


def test_a_long_name_is_cut_and_stops_nothing() -> None:
    node = Node()
    objects = (pod(WEB, "web-1", "Deployment/" + "x" * 5000),)
    (edge,) = said([node.second(1, flows=[talk(WEB, OUTSIDE)]), node.second(NEXT_TEN + 1)], objects)
    assert len(edge.workload) == 320
