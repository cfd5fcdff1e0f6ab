"""Replicas that share new connections, one that gets far more or hardly any, and all that makes shares differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from detectors.base import TickView, WorkloadRows
from detectors.rules.load_balancer_skew import LoadBalancerSkew, LoadBalancerSkewConfig
from schemas.addresses import pack
from schemas.finding import DataQuality, Finding
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject, ServiceEndpoint
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings
from tests.event_rows import BEGIN, CONVERSATION, Node, flow

IPS = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
EVEN = dict.fromkeys(IPS, 200)
START = BEGIN + 60


def pods(workload: str = "Deployment/web") -> list[InventoryObject]:
    return [
        InventoryObject(kind="Pod", uid=ip, namespace="shop", name=f"web-{n}", ips=(ip,), workload=workload)
        for n, ip in enumerate(IPS)
    ]


def service(name: str = "web", **more: Any) -> InventoryObject:
    told: dict[str, Any] = {"kind": "Service", "uid": name, "namespace": "shop", "name": name, "ips": ("10.96.0.1",)}
    return InventoryObject(**(told | more))


def slice_of(name: str = "web", ips: Sequence[str] = IPS, **more: Any) -> InventoryObject:
    endpoints = tuple(ServiceEndpoint(address=ip, node="n1") for ip in ips)
    told: dict[str, Any] = {"kind": "EndpointSlice", "uid": f"e-{name}", "namespace": "shop", "name": name}
    return InventoryObject(**(told | {"service": name, "endpoints": endpoints} | more))


WORLD = (*pods(), service(), slice_of())


def minute_view(number: int, counts: Mapping[str, int], table: IdentityTable, node: str = "n1") -> TickView:
    ips = sorted(counts, key=pack)
    columns: dict[str, Any] = {
        "address": np.frombuffer(b"".join(map(pack, ips)), np.uint8).reshape(-1, 16),
        "node": np.array([node] * len(ips)),
        "minute": np.full(len(ips), START + 60 * number, np.int64),
        "flows_in": np.array([counts[ip] for ip in ips], np.int64),
    }
    return TickView({}, table, {"": DataQuality()}, WorkloadRows(columns))


def found(minutes: Sequence[Mapping[str, int]], world: Sequence[InventoryObject] = WORLD, **config: Any
          ) -> list[tuple[int, Finding]]:  # fmt: skip
    detector, table = LoadBalancerSkew(LoadBalancerSkewConfig(**config)), IdentityTable(world)
    return [(n, f) for n, counts in enumerate(minutes) for f in detector.evaluate(minute_view(n, counts, table))]


def chance(minutes: int, mean: float, seed: int = 1) -> list[dict[str, int]]:
    """Minutes in which each connection goes to a replica by chance, as kube-proxy chooses."""
    random = np.random.default_rng(seed)
    return [dict(zip(IPS, random.poisson(mean, len(IPS)).tolist(), strict=True)) for _ in range(minutes)]


HOT = {**EVEN, IPS[0]: 1500}
COLD = {**EVEN, IPS[0]: 10}


def test_one_replica_gets_far_more_than_its_peers_and_than_it_usually_does() -> None:
    told = found([EVEN] * 61 + [HOT] * 6)
    assert [n for n, _ in told] == [65, 66]
    first = told[0][1]
    assert (first.severity, first.subject, first.victims[0].pod) == ("medium", "shop/Deployment/web/10.0.0.1", "web-0")
    assert [(e.name, e.value, e.limit) for e in first.evidence] == [
        ("new_connections", 1500, 1000), ("peers_mean", 200, None), ("usual_share", 1, None), ("odd_minutes", 5, 4),
    ]  # fmt: skip
    assert first.started == first.tick - 240


def test_one_that_gets_hardly_any() -> None:
    ((_, first),) = found([EVEN] * 61 + [COLD] * 5)
    assert (first.severity, first.evidence[0].name, first.evidence[0].value) == ("low", "missing_connections", 190)
    absent = {ip: count for ip, count in EVEN.items() if ip != IPS[0]}
    assert len(found([EVEN] * 61 + [absent] * 5)) == 1


@pytest.mark.parametrize(
    "minutes",
    [
        [EVEN] * 30 + [HOT] * 100,  # its own history is too short
        [EVEN] * 61 + [HOT, HOT, HOT, HOT, EVEN] * 4,  # a pool that is opened anew
        [HOT] * 200,  # it was always so
        [dict.fromkeys(IPS, 5)] * 61 + [{**dict.fromkeys(IPS, 5), IPS[0]: 100}] * 10,  # too few connections
        [{**EVEN, IPS[0]: 10}] * 100,
        chance(300, 60),
        chance(300, 2.0),
        [{IPS[0]: 900}] * 100,  # one client that is kept by the others' absence from the start
    ],
)
def test_what_is_no_skew(minutes: list[dict[str, int]]) -> None:
    assert found(minutes) == []


@pytest.mark.parametrize(
    "world",
    [
        (*pods(), service(ips=()), slice_of()),  # headless: clients choose
        (*pods(), service(session_affinity=True), slice_of()),
        (*pods(), service(local_traffic=True), slice_of()),
        (*pods(), service(), service("all", ips=()), slice_of(), slice_of("all")),  # a StatefulSet's second Service
        (*pods(), service(), slice_of(ips=IPS[:1])),
        (*pods(""), service(), slice_of()),  # nobody's replicas
        (*pods(), slice_of()),
        (*pods(), service()),
        pods(),
    ],
)
def test_services_that_do_not_share_out(world: Sequence[InventoryObject]) -> None:
    assert found([EVEN] * 61 + [HOT] * 10, world) == []


def test_a_rollout_and_what_follows_it_are_silent() -> None:
    moved = slice_of(valid_from=START + 60 * 61)
    assert [n for n, _ in found([EVEN] * 61 + [HOT] * 20, (*WORLD, moved))] == list(range(75, 81))
    three = slice_of(ips=IPS[:3], valid_from=START + 60 * 61)
    assert found([EVEN] * 61 + [{**EVEN, IPS[3]: 0}] * 20, (*WORLD, three)) == []
    ready = tuple(e.model_copy(update={"ready": e.address != IPS[0]}) for e in slice_of().endpoints)
    assert found([EVEN] * 61 + [COLD] * 20, (*pods(), service(), slice_of(endpoints=ready))) == []


def test_a_service_that_is_gone_does_not_hide_one_that_is_there() -> None:
    gone = service("old", session_affinity=True, valid_to=START)
    assert len(found([EVEN] * 61 + [HOT] * 5, (*WORLD, gone, slice_of("old", valid_to=START)))) == 1


def test_a_minute_without_a_replicas_node_says_nothing() -> None:
    detector, table = LoadBalancerSkew(), IdentityTable(WORLD)
    for n in range(61):
        assert detector.evaluate(minute_view(n, EVEN, table)) == []
    for n in range(61, 75):
        assert detector.evaluate(minute_view(n, COLD, table, node="n2")) == []


def test_a_snapshot_changes_nothing_and_late_minutes_are_left_out() -> None:
    one, two, table = LoadBalancerSkew(), LoadBalancerSkew(), IdentityTable(WORLD)
    for n, counts in enumerate([EVEN] * 61 + [HOT] * 3):
        one.evaluate(minute_view(n, counts, table))
    two.restore(one.snapshot())
    assert two.evaluate(minute_view(60, HOT, table)) == []
    assert [len(two.evaluate(minute_view(n, HOT, table))) for n in (64, 65)] == [0, 1]


def test_through_all_stages_and_several_rollup_partitions() -> None:
    node, messages = Node("n1"), []
    for minute in range(14):
        rows = [
            flow("10.0.9.9", ip, 80, marks=CONVERSATION, src_port=2000 + n, dst_bytes=90)
            for place, ip in enumerate(IPS)
            for n in range(600 if minute >= 8 and not place else 50)
        ]
        messages += [node.second(60 * minute + 5, flows=rows), node.second(60 * minute + 59)]
    settings = PipelineSettings(detectors={"load_balancer_skew": {"learning": 6, "minutes": 3}})
    pipeline = Pipeline(Parts(settings, IdentityTable(WORLD)))
    told = [a for out in pipeline.run(messages) for a in out.alerts if a.detector == "load_balancer_skew"]
    assert {(a.severity, a.subject) for a in told} == {("medium", "shop/Deployment/web/10.0.0.1")}
