"""Limits fire above, not at, their value; windows are exact to one bucket. Built-in detectors and rules alike."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from detectors.rule_file import load_rule_file
from schemas.alert import Alert
from schemas.event_codec import EventMessage
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings
from tests.event_rows import CONVERSATION, ICMP, UDP, Node, Row, flow, query
from tests.mission import MISSION


def run(messages: Sequence[EventMessage], rules: str = "") -> list[Alert]:
    pipeline = Pipeline(Parts(PipelineSettings(), rules=load_rule_file(rules) if rules else None))
    return [a for output in pipeline.run(messages) for a in output.alerts]


def fired(messages: Sequence[EventMessage], detector: str, rules: str = "") -> set[str | None]:
    """Names of the rules by which a detector fired; none stands for the built-in."""
    return {a.rule for a in run(messages, rules) if a.detector == detector}


def spread(rows: Sequence[Row], seconds: Sequence[int]) -> list[EventMessage]:
    """One row per given second, and a hello before them."""
    node = Node()
    by_second: dict[int, list[Row]] = {}
    for row, second in zip(rows, seconds, strict=True):
        by_second.setdefault(second, []).append(row)
    return [node.second(0), *(node.second(s, flows=by_second[s]) for s in sorted(by_second)), node.second(700)]


def ports(count: int, **more: object) -> list[Row]:
    return [flow("10.0.0.9", "10.0.0.2", 1000 + i, **more) for i in range(count)]  # type: ignore[arg-type]


def connections(count: int, **more: object) -> list[Row]:
    return [flow(f"10.1.{i % 200}.{i % 7}", "10.0.0.2", 80, src_port=1024 + i, **more) for i in range(count)]  # type: ignore[arg-type]


def test_a_tunnel_that_asks_for_thousands_of_names_at_once_is_found() -> None:
    names = [f"{i:x}{'q7z4k9w2' * 5}.t.example.com" for i in range(5000)]
    rows = [query("10.0.0.9", name, query_bytes=80, answer_bytes=200) for name in names]
    node = Node()
    assert "dns_tunnel" in {a.detector for a in run([node.second(0), node.second(1, dns=rows), node.second(2)])}


@pytest.mark.parametrize(("count", "expected"), [(10, set()), (11, {None, "port_scan"})])
def test_ports_at_and_above_the_limit(count: int, expected: set[str | None]) -> None:
    assert fired(spread(ports(count), [1] * count), "port_scan", MISSION) == expected


@pytest.mark.parametrize(("last", "expected"), [(275, {None, "port_scan"}), (326, set())])
@pytest.mark.parametrize("begin", [1, 13, 24, 25])
def test_the_port_window_is_exact_to_one_bucket(begin: int, last: int, expected: set[str | None]) -> None:
    seconds = [begin] + [begin + last] * 10 if not expected else [begin] * 10 + [begin + last]
    assert fired(spread(ports(11), seconds), "port_scan", MISSION) == expected


@pytest.mark.parametrize(("count", "expected"), [(1000, set()), (1001, {"ddos_attack"})])
def test_connections_at_and_above_the_limit(count: int, expected: set[str]) -> None:
    messages = spread(connections(count, marks=CONVERSATION), [1] * count)
    assert fired(messages, "connection_flood", MISSION) >= expected
    assert ("ddos_attack" in fired(messages, "connection_flood", MISSION)) == bool(expected)


@pytest.mark.parametrize(("last", "fires"), [(55, True), (66, False)])
@pytest.mark.parametrize("begin", [1, 3, 5])
def test_the_connection_window_is_exact_to_one_bucket(begin: int, last: int, fires: bool) -> None:
    seconds = [begin] * 500 + [begin + last] * 501
    messages = spread(connections(1001, marks=CONVERSATION), seconds)
    assert ("ddos_attack" in fired(messages, "connection_flood", MISSION)) == fires


def test_quic_counts_as_a_connection_and_other_udp_does_not() -> None:
    quic = [flow(f"10.1.0.{i % 200}", "10.0.0.2", 443, src_port=1024 + i, proto=UDP) for i in range(1001)]
    dns = [row | {"dst_port": 53} for row in quic]
    assert fired(spread(quic, [1] * 1001), "connection_flood", MISSION) >= {"ddos_attack"}
    assert fired(spread(dns, [1] * 1001), "connection_flood", MISSION) == set()


def test_copies_count_for_the_victim_and_not_against_the_source() -> None:
    assert fired(spread(ports(40, copy=True), [1] * 40), "port_scan") == set()
    flood = [row | {"copy": True} for row in connections(1001)]
    assert "ddos_attack" in fired(spread(flood, [1] * 1001), "connection_flood", MISSION)


def test_a_conversation_is_not_a_scan_and_a_bare_handshake_is() -> None:
    assert fired(spread(ports(40, marks=CONVERSATION), [1] * 40), "port_scan") == set()
    assert fired(spread(ports(11, marks=1 | 2), [1] * 11), "port_scan") == {None}


def test_ports_that_are_answered_later_stop_counting() -> None:
    tried = ports(12)
    answered = [row | {"marks": 32} for row in tried[:6]]
    node = Node()
    messages = [node.second(1, flows=tried[:10]), node.second(2, flows=answered), node.second(3, flows=tried[10:])]
    assert fired(messages, "port_scan") == set()


@pytest.mark.parametrize(
    ("proto", "port", "limit"), [(6, 22, 20), (UDP, 161, 25), (ICMP, 0, 12)], ids=["tcp", "udp", "icmp"]
)
def test_hosts_at_and_above_the_limit(proto: int, port: int, limit: int) -> None:
    rows = [flow("10.0.0.9", f"10.0.1.{i}", port, proto=proto, icmp_type=8) for i in range(limit + 1)]
    assert fired(spread(rows[:-1], [1] * limit), "host_sweep") == set()
    assert fired(spread(rows, [1] * (limit + 1)), "host_sweep") == {None}


def test_the_flood_of_spoofed_sources_names_the_victim_once_and_nobody_a_scanner() -> None:
    node = Node()
    messages = [node.second(0)]
    for second in range(1, 11):
        rows = [
            flow(f"{11 + i % 180}.{second}.{i // 250}.{i % 250}", "10.0.0.2", 1 + (7919 * i + second) % 60000)
            for i in range(3000)
        ]
        messages.append(node.second(second, flows=rows))
    alerts = run(messages)
    assert {a.detector for a in alerts if a.severity != "info"} == {"syn_flood"}
    assert len({a.id for a in alerts if a.detector == "syn_flood"}) == 1
    assert {v.ip for a in alerts for v in a.victims} == {"10.0.0.2"}


def test_a_scanner_inside_a_flood_of_spoofed_sources_is_still_found() -> None:
    crowd = [flow(f"11.{i % 200}.{i // 250}.{i % 250}", "10.0.0.2", 1 + (7919 * i) % 60000) for i in range(3000)]
    scan = [flow("10.0.0.9", "10.0.0.2", 2000 + i) for i in range(200)]
    alerts = run([Node().second(1, flows=[*crowd, *scan])])
    assert {a.attackers[0].ip for a in alerts if a.detector == "port_scan"} == {"10.0.0.9"}
