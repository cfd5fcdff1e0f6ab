"""Detectors that look at single DNS, HTTP and TLS rows: how nodes share rounds changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from detectors.detect import DetectEngine
from detectors.registry import build_detectors
from detectors.settings import EngineSettings
from detectors.snapshot import encode_state
from schemas.event_codec import EventMessage
from schemas.events import FlowMark
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from tests.event_rows import Node, Row, certificate, flow, query
from tests.unit.detectors.one_detector import pod, run

NODES = 4
LOOKED_AT = ("dns_hijack", "dns_spoof", "dns_tunnel", "dns_flood", "dga", "plaintext_sensitive", "slow_http",
             "tls_certificate_change")  # fmt: skip
RESOLVER = pod("dns", "10.0.0.53", "Deployment/dns", "kube-system").model_copy(
    update={"labels": {"k8s-app": "kube-dns"}}
)
SERVICE = InventoryObject(
    kind="Service", uid="s", namespace="shop", name="web", ips=("10.96.0.10",), selector={"app": "web"}
)
PODS = [pod(f"p{n}.{i}", f"10.0.{n}.{i}", f"Deployment/p{i}") for n in range(NODES) for i in range(1, 5)]
TALKED = int(FlowMark.OPENED | FlowMark.ESTABLISHED | FlowMark.EXCHANGED)


def _dns(dice: np.random.Generator, client: str, second: int) -> Iterator[Row]:
    lost = second > 15 and client.endswith(".1")
    server = "10.0.0.66" if lost else str(dice.choice(["10.0.0.53", "10.0.0.54"], p=[0.9, 0.1]))
    ends = {"client_port": 40_000 + second, "id": second}
    yield query(client, f"n{dice.integers(6)}.example.com", server=server, **ends)
    yield query(client, "web.shop.svc.cluster.local", server=server, record_type=1, **ends,
                record_data=str(dice.choice(["10.96.0.10", "10.0.0.66"], p=[0.95, 0.05])))  # fmt: skip
    name = f"{dice.integers(9)}.invalid"
    yield query(client, name, server=server, record_type=1, record_data="203.0.113.7", **ends)
    if dice.random() < 0.2:
        yield query(client, name, server=server, record_type=1, record_data="203.0.113.8", **ends) | {
            "query_bytes": 0, "answer_number": 2, "unsolicited": bool(dice.random() < 0.5),
        }  # fmt: skip


def _log(seed: int) -> list[EventMessage]:
    dice = np.random.default_rng(seed)
    senders = [Node(f"n{n}") for n in range(NODES)]
    out = []
    for second in range(1, 100):
        for number, node in enumerate(senders):
            clients = [f"10.0.{number}.{i}" for i in dice.choice(np.arange(1, 7), 3, replace=False)]
            issuer = "Evil" if second > 90 and number == 1 else "Good CA"
            web = [{"src": c, "dst": "10.0.9.9", "dst_port": 80, "credentials": bool(dice.random() < 0.3),
                    "head_complete": bool(dice.random() < 0.5)} for c in clients]  # fmt: skip
            out.append(node.second(
                second + number % 2, dns=[row for client in clients for row in _dns(dice, client, second)],
                tls=[certificate("10.0.9.8", issuer, src=client) for client in clients], http=web,
                flows=[flow(client, "10.0.9.7", int(dice.choice([21, 23, 80])), marks=TALKED) for client in clients],
            ))  # fmt: skip
    return out


def _feed(messages: list[EventMessage], cuts: list[int]) -> tuple[list[str], dict[str, bytes]]:
    detectors = [d for d in build_detectors({"slow_http": {"connections": 20}}) if d.meta.id in LOOKED_AT]
    engine = DetectEngine(0, EngineSettings(), detectors, IdentityTable([RESOLVER, SERVICE, *PODS]))
    found: list[str] = []
    for first, last in pairwise([0, *cuts, len(messages)]):
        found += [f.model_dump_json() for t in engine.feed(messages[first:last]).ticks for f in t.findings]
    kept = {name: encode_state(s.state) for name, s in engine.snapshot().items() if name.startswith("detector.")}
    return found, kept


@pytest.mark.parametrize("seed", range(3))
def test_any_feeding_gives_the_same_findings_and_the_same_state(seed: int) -> None:
    messages = _log(seed)
    whole = _feed(messages, [])
    for name in ("dns_hijack", "dns_spoof", "plaintext_sensitive", "tls_certificate_change"):  # slow_http: stage 2
        assert any(f'"{name}"' in finding for finding in whole[0]), name
    for cuts in (list(range(1, len(messages))), list(range(3, len(messages), 7))):
        assert _feed(messages, cuts) == whole


def test_an_alias_on_one_node_excuses_nothing_on_another() -> None:
    name = "web.shop.svc.cluster.local"
    alias = query("10.0.0.1", name, record_type=5, record_data="shop.example.com")
    lie = query("10.0.1.1", name, record_type=1, record_data="203.0.113.7")
    messages = [Node("a").second(1, dns=[alias]), Node("b").second(1, dns=[lie])]
    (found,) = run("dns_hijack", messages, [SERVICE, *PODS])
    assert (found.node, found.attackers[0].ip) == ("b", "203.0.113.7")


def test_an_authority_that_was_passed_over_is_known_and_another_one_found() -> None:
    node = Node()
    seconds = [node.second(at, tls=[certificate("10.0.9.8", "Good CA")]) for at in range(1, 200)]
    assert run("tls_certificate_change", seconds) == []
    late = [node.second(at, tls=[certificate("10.0.9.8", by) for by in ("Good CA", "Evil")]) for at in range(200, 210)]
    found = run("tls_certificate_change", [*seconds, *late])
    assert [f.tick - found[0].tick for f in found] == list(range(10))


def test_statements_that_come_later_are_heard() -> None:
    """What was looked up once is looked up again when the inventory says more, and when its time is over."""
    table = IdentityTable([SERVICE.model_copy(update={"valid_to": 500})])
    assert table.service_span("shop", "web", 100) == (0, 500)
    assert table.service_span("shop", "web", 500) == (500, 1 << 62)
    before = table.told
    table.add(SERVICE.model_copy(update={"valid_from": 300, "ips": ("10.96.0.11",)}))
    assert table.told > before
    assert table.service_span("shop", "web", 100) == (0, 300)
    assert table.span("10.96.0.10", 100) == (0, 300)
