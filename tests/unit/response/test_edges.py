"""Whom workloads talked to lately, and which of them a plan cuts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import response.edges
from response.edges import EdgeMemory, Talk, places_of
from response.plan import PlanContext, climb
from response.prove import Proof
from response.render import proof_table
from response.settings import ResponseSettings
from schemas.edge import Edge
from schemas.policy.cluster import Forward, NamedPort, Service
from schemas.word import iso_time
from tests.unit.response.cluster_cases import DB, NOW, OUTSIDE, VIEW, WEB, decision

HOUR = NOW // 3600 * 3600
BLOCK = decision("block_egress_destination")
QUARANTINE = decision("quarantine_pod")


def edge(peer: str, port: int = 443, carried: int = 100, **more: Any) -> Edge:
    fields: dict[str, Any] = {
        "cluster": "test", "node": "n1", "namespace": "shop", "workload": "Deployment/web", "hour": HOUR, "peer": peer,
        "port": port, "protocol": "TCP", "initiated": True, "flows": 1, "bytes_sent": carried, "bytes_received": 0,
    }  # fmt: skip
    return Edge(**{**fields, **more})


def memory(*edges: Edge, hours: int = 24) -> EdgeMemory:
    made = EdgeMemory("test", hours)
    for item in edges:
        made.take(item)
    return made


def web(found: EdgeMemory) -> list[tuple[str, int, int]]:
    return [(talk.peer, talk.flows, talk.bytes) for talk in found.of("shop", "Deployment/web")]


def test_the_greatest_counts_of_an_edge_hold_and_nodes_and_hours_are_added() -> None:
    found = memory(
        edge("a", carried=10), edge("a", carried=30, flows=4), edge("a", carried=20), edge("a", node="n2"),
        edge("a", hour=HOUR - 3600), edge("b", carried=500), edge("a", cluster="other", carried=9999),
    )  # fmt: skip
    assert web(found) == [("b", 1, 500), ("a", 6, 230)]
    assert web(memory(*[edge("a", carried=n) for n in (3, 2, 1)])) == web(
        memory(*[edge("a", carried=n) for n in (1, 2, 3)])
    )


def test_hours_that_are_over_are_let_go() -> None:
    found = memory(edge("old", hour=HOUR - 24 * 3600), edge("kept", hour=HOUR - 23 * 3600), edge("now"))
    assert [talk[0] for talk in web(found)] == ["kept", "now"]
    found.take(edge("late", hour=HOUR - 24 * 3600))
    assert len(found) == 2
    found.take(edge("x", hour=HOUR + 48 * 3600, workload="Deployment/other"))
    assert (len(found), web(found)) == (1, [])


def test_too_many_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response.edges, "MOST_EDGES", 2)
    found = memory(edge("a"), edge("b"), edge("c"), edge("a", carried=7000))
    assert (len(found), found.dropped, web(found)[0]) == (2, 1, ("a", 1, 7000))


def proven(asked: Any, *edges: Edge) -> Proof:
    context = PlanContext(asked, VIEW, ResponseSettings(), iso_time(NOW + 600), memory(*edges))
    (attempt,) = climb(context)
    assert attempt.proof is not None
    return attempt.proof


def test_a_block_cuts_only_whom_it_means() -> None:
    proof = proven(BLOCK, edge(OUTSIDE.ip, carried=900), edge("shop/StatefulSet/db", 5432), edge("192.0.2.7"))
    assert [(row.what, row.bytes, row.status) for row in proof.recent] == [
        (f"shop/Deployment/web → {OUTSIDE.ip} TCP/443", 900, "cut"),
        ("shop/Deployment/web → 192.0.2.7 TCP/443", 100, "kept"),
        ("shop/Deployment/web → shop/StatefulSet/db TCP/5432", 100, "kept"),
    ]


def test_a_quarantine_lists_all_that_it_cuts_and_says_what_it_cannot_judge() -> None:
    proof = proven(
        QUARANTINE, edge("shop/StatefulSet/db", 5432, 5000), edge("bank/Deployment/api", 80, initiated=False),
        edge("shop/Service/db", 5432), edge("Node/n1", 10250), edge("shop/Job/done", 1),
        edge("192.0.2.9", 0, protocol="ICMP"),
    )  # fmt: skip
    statuses = {row.what.split()[2]: row.status for row in proof.recent}
    assert statuses == {
        "shop/StatefulSet/db": "cut", "bank/Deployment/api": "cut", "shop/Service/db": "gone",
        "Node/n1": "unjudged", "shop/Job/done": "gone", "192.0.2.9": "unjudged",
    }  # fmt: skip
    table = proof_table(proof)
    assert "recent cut  shop/Deployment/web → shop/StatefulSet/db TCP/5432: 5000 bytes in 1 flows" in table
    assert "recent      2 cut, 2 gone, 2 unjudged" in table


def test_a_proof_without_edges_is_as_before_and_older_proofs_still_read() -> None:
    proof = proven(BLOCK)
    assert proof.recent == ()
    old = proof.model_dump(mode="json")
    del old["recent"]
    assert Proof.model_validate(old) == proof
    assert "recent" not in proof_table(proof)


def test_a_pod_without_owner_is_its_own_workload() -> None:
    alone = replace(WEB, workload="")
    view = replace(VIEW, pods=(alone, DB))
    assert places_of(Talk("shop/Pod/web-a", "TCP", 80, True, 1, 1, HOUR), view) == (("10.0.0.10", 80),)
    assert places_of(Talk("fd00::9", "TCP", 80, True, 1, 1, HOUR), view) == (("fd00::9", 80),)


def test_a_service_is_its_pods_on_their_port() -> None:
    service = Service(
        "shop", "db", ("10.96.0.9",), {"app": "db"}, (Forward("TCP", 5432, "pg"), Forward("TCP", 80, 8080))
    )
    named = replace(DB, ports=(NamedPort("pg", "TCP", 15432),))
    view = replace(VIEW, pods=(WEB, named), services=(service,))

    def places(port: int, peer: str = "shop/Service/db") -> object:
        return places_of(Talk(peer, "TCP", port, True, 1, 1, HOUR), view)

    assert places(5432) == (("10.0.0.20", 15432), ("fd00::20", 15432))
    assert places(80) == (("10.0.0.20", 8080), ("fd00::20", 8080))
    assert places(81) == places(80, "shop/Service/gone") == ()
