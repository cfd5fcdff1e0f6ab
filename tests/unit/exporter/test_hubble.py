"""Hubble records: verdicts, both nodes' reports, identities, DNS of the proxy, losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exporter.chunks import CaptureReport
from schemas.events import Capability, Verdict
from tests.log_samples import BEGIN, hubble
from tests.unit.exporter.flow_logs import read_json, rows


def test_a_handshake(tmp_path: Path) -> None:
    syn, answer, ack = hubble(), hubble(reply=True, flags=("SYN", "ACK")), hubble(flags=("ACK",))
    found = rows(read_json(tmp_path, [syn, answer, ack]))
    assert [row["marks"] for row in found] == ["o", "", "e"]
    assert {(row["src"], row["dst"], row["dst_port"], row["direction_known"]) for row in found} == {
        ("10.0.0.1", "10.0.0.2", 80, True)
    }
    assert [(row["src_syn"], row["dst_synack"], row["src_flags"], row["dst_flags"]) for row in found] == [
        (1, 0, 2, 0), (0, 1, 0, 18), (0, 0, 16, 0),
    ]  # fmt: skip
    assert len({row["flow_id"] for row in found}) == 1


def test_a_refusal(tmp_path: Path) -> None:
    found = rows(read_json(tmp_path, [hubble(), hubble(reply=True, flags=("RST", "ACK"))]))
    assert [row["marks"] for row in found] == ["o", "r"]


def test_bytes_and_packets_are_not_made_up(tmp_path: Path) -> None:
    messages = read_json(tmp_path, [hubble()])
    assert rows(messages)[0]["src_packets"] == 0
    assert not Capability(messages[0].header.capabilities) & (Capability.PACKETS | Capability.ATTEMPTS)


def test_both_nodes_tell_of_one_packet(tmp_path: Path) -> None:
    there: dict[str, Any] = {
        "node_name": "node-b",
        "traffic_direction": "INGRESS",
        "trace_observation_point": "TO_ENDPOINT",
    }
    report = CaptureReport()
    assert len(rows(read_json(tmp_path, [hubble(), hubble(**there)], report))) == 1
    assert report.repeated == 1
    dropped: dict[str, Any] = {**there, "verdict": "DROPPED", "drop_reason_desc": "POLICY_DENIED"}
    found = rows(read_json(tmp_path, [hubble(), hubble(**dropped)]))
    assert [row["verdict"] for row in found] == [Verdict.ALLOWED, Verdict.DENIED]


@pytest.mark.parametrize(
    ("more", "verdict", "policy"),
    [
        ({"verdict": "DROPPED", "drop_reason_desc": "POLICY_DENIED",
          "ingress_denied_by": [{"name": "deny", "namespace": "shop"}]}, Verdict.DENIED, "shop/deny"),
        ({"verdict": "DROPPED", "drop_reason_desc": "POLICY_DENY"}, Verdict.DENIED, ""),
        ({"verdict": "DROPPED"}, Verdict.DENIED, ""),
        ({"verdict": "DROPPED", "drop_reason_desc": "STALE_OR_UNROUTABLE_IP"}, Verdict.UNKNOWN, ""),
        ({"verdict": "FORWARDED", "egress_allowed_by": [{"name": "web"}]}, Verdict.ALLOWED, "web"),
        ({"verdict": "AUDIT"}, Verdict.ALLOWED, ""),
        ({"verdict": "ERROR"}, Verdict.UNKNOWN, ""),
    ],
)  # fmt: skip
def test_verdicts(tmp_path: Path, more: dict[str, Any], verdict: int, policy: str) -> None:
    (row,) = rows(read_json(tmp_path, [hubble(**more)]))
    assert (row["verdict"], row["policy"]) == (verdict, policy)
    assert row["marks"] == "o"


def test_identities(tmp_path: Path) -> None:
    report = CaptureReport()
    host: dict[str, Any] = {
        "IP": {"source": "10.0.0.9", "destination": "10.0.0.2"},
        "source": {"labels": ["reserved:host"]},
    }
    read_json(tmp_path, [hubble(), hubble(1, **host)], report)
    client, server, node = report.identities
    assert (client.kind, client.name, client.namespace, client.workload, client.node, client.labels) == (
        "Pod", "client-1", "shop", "Deployment/client", "node-a", {"app": "client"},
    )  # fmt: skip
    assert (server.name, server.node) == ("server-1", "")
    assert (node.kind, node.name, node.ips) == ("Node", "node-a", ("10.0.0.9",))


def dns(number: int, kind: str, **more: Any) -> dict[str, Any]:
    ports = (53, 5000) if kind == "RESPONSE" else (5000, 53)
    layer = {"UDP": {"source_port": ports[0], "destination_port": ports[1]}}
    return hubble(
        number, reply=kind == "RESPONSE", Type="L7", l4=layer,
        l7={"type": kind, "dns": {"query": "www.example.com.", "qtypes": ["A"], **more}, "latency_ns": "2000000"},
    )  # fmt: skip


def test_lookups_of_the_proxy(tmp_path: Path) -> None:
    answered = dns(0, "RESPONSE", ips=["192.0.2.8"], cnames=["cdn.example.net"], ttl=30)
    lost = dns(1, "REQUEST", query="nobody.example.")
    gone = dns(9, "RESPONSE", rcode=3)
    messages = read_json(tmp_path, [dns(0, "REQUEST"), answered, lost, gone])
    found = rows(messages, "dns")
    assert [(r["qname"], r["rcode"], r["answer_number"], r["record_data"]) for r in found] == [
        ("www.example.com", 0, 1, "cdn.example.net"), ("www.example.com", 0, 2, "192.0.2.8"),
        ("nobody.example", -1, 0, ""), ("www.example.com", 3, 1, ""),
    ]  # fmt: skip
    assert {(r["client"], r["server"]) for r in found} == {("10.0.0.1", "10.0.0.2")}
    assert (found[0]["latency"], found[0]["ttl"], found[0]["qtype"]) == (2_000_000, 30, 1)
    assert not rows(messages)


def test_dns_that_was_not_foreseen_is_left_out(tmp_path: Path) -> None:
    """Capabilities are said at the beginning; rows that they do not cover are not sent."""
    many = [hubble(n, Summary="x" * 2000) for n in range(40)]
    messages = read_json(tmp_path, [*many, dns(41, "RESPONSE", rcode=3)])
    assert not rows(messages, "dns")
    assert not Capability(messages[0].header.capabilities) & Capability.DNS


def test_other_records_and_losses(tmp_path: Path) -> None:
    lost = {"lost_events": {"source": "PERF_EVENT_RING_BUFFER", "num_events_lost": "12"}, "node_name": "node-a"}
    report = CaptureReport()
    messages = read_json(tmp_path, [hubble(), lost, {"node_status": {}}, {"surprise": 1}, hubble(2)], report)
    assert sum(m.header.lost_packets for m in messages) == 12
    assert (report.records, report.malformed) == (2, 1)
    assert report.problems == ["line 4 was left out: neither a flow nor another record of Hubble"]


def test_bare_flows_without_an_envelope(tmp_path: Path) -> None:
    assert rows(read_json(tmp_path, [hubble()["flow"]])) == rows(read_json(tmp_path, [hubble()]))


def test_udp_and_icmp(tmp_path: Path) -> None:
    datagram: dict[str, Any] = {"l4": {"UDP": {"source_port": 5000, "destination_port": 4000}}}
    back: dict[str, Any] = {"l4": {"UDP": {"source_port": 4000, "destination_port": 5000}}}
    found = rows(read_json(tmp_path, [hubble(**datagram), hubble(reply=True, **back), hubble(1, **datagram)]))
    assert [row["marks"] for row in found] == ["o", "e", ""]
    (ping,) = rows(read_json(tmp_path, [hubble(l4={"ICMPv4": {"type": 8}})]))
    assert (ping["proto"], ping["icmp_type"], ping["marks"], ping["src_port"]) == (1, 8, "o", 0)
    assert ping["start"] == BEGIN * 10**9 + 250_000_001
