"""Floods of packets: limits fire above, not at, their value; what only looks like one is silent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from schemas.alert import Alert
from schemas.event_codec import EventMessage
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings
from tests.event_rows import BEGIN, CONVERSATION, ICMP, OPENED, REFUSED, UDP, Node, Row, flow

VICTIM = "10.0.0.2"
SECOND = 1_000_000_000


def run(messages: Sequence[EventMessage]) -> list[Alert]:
    pipeline = Pipeline(Parts(PipelineSettings()))
    return [a for output in pipeline.run(messages) for a in output.alerts if a.revision == 1]


def alerts(rows: Sequence[Row], detector: str, before: Sequence[EventMessage] = (), node: Node | None = None,
           at: int = 1) -> list[Alert]:  # fmt: skip
    node = node or Node()
    messages = [*(before or [node.second(0)]), node.second(at, flows=rows), node.second(at + 700)]
    return [a for a in run(messages) if a.detector == detector]


def source(number: int) -> str:
    return f"198.18.{number >> 8}.{number & 255}"


def crowd(count: int, port: int = 9999, **more: Any) -> list[Row]:
    """One packet from each of so many sources, as a flood with forged addresses."""
    return [flow(source(i), VICTIM, port, proto=UDP, **more) for i in range(count)]


def few(packets: int, port: int = 8125, victim: str = VICTIM, **more: Any) -> list[Row]:
    """So many packets of four flows."""
    return [flow(source(i), victim, port, proto=UDP, src_port=5001, src_packets=packets // 4, **more)
            for i in range(4)]  # fmt: skip


@pytest.mark.parametrize(("count", "fires"), [(12_000, False), (12_001, True)])
def test_udp_flood_at_and_above_the_limit(count: int, fires: bool) -> None:
    assert bool(alerts(crowd(count), "udp_flood")) == fires


def test_udp_flood_names_no_source_of_a_crowd_and_the_victims_port() -> None:
    (alert,) = alerts(crowd(12_001), "udp_flood")
    assert alert.attackers == ()
    assert [(v.ip, v.port) for v in alert.victims] == [(VICTIM, 9999)]
    assert alert.spoofable
    assert alert.severity == "medium", "its usual rate is not known yet"


def test_udp_flood_is_summed_over_nodes_and_is_one_alert() -> None:
    one, two = Node("node1"), Node("node2")
    rows = crowd(12_002)
    messages = [one.second(0), two.second(0), one.second(1, flows=rows[:6001]), two.second(1, flows=rows[6001:]),
                one.second(90), two.second(90)]  # fmt: skip
    assert [a.detector for a in run(messages) if a.detector != "exporter_silent"] == ["udp_flood"]


@pytest.mark.parametrize(("packets", "fires"), [(240_000, False), (240_004, True)])
def test_few_flows_of_many_packets_are_a_flood_far_later(packets: int, fires: bool) -> None:
    found = alerts(few(packets), "udp_flood")
    assert bool(found) == fires
    if found:
        assert {a.ip for a in found[0].attackers} == {source(i) for i in range(4)}


@pytest.mark.parametrize(("port", "victim"), [(4789, VICTIM), (6081, VICTIM), (5004, "239.1.1.1")])
def test_tunnels_and_groups_are_not_flooded(port: int, victim: str) -> None:
    assert alerts(few(400_000, port, victim), "udp_flood") == []


def test_what_the_victim_answers_is_no_flood() -> None:
    assert alerts(crowd(13_000, marks=CONVERSATION, dst_packets=1, dst_bytes=60), "udp_flood") == []


@pytest.mark.parametrize(("answered", "fires"), [(1000, False), (10, True)])
def test_clients_of_a_dead_resolver_are_no_flood(answered: int, fires: bool) -> None:
    """The victim answered so many questions a second for 700 s; then 13,000 within a second find it dead."""
    node = Node()
    one = flow(source(1), VICTIM, 53, proto=UDP, marks=CONVERSATION, dst_packets=answered * 5)
    before = [node.second(s, flows=[one | {"src_packets": answered * 5, "src_port": s + 2048}])
              for s in range(0, 700, 5)]  # fmt: skip
    assert bool(alerts(crowd(13_000, 53), "udp_flood", before, node, 701)) == fires


def test_quic_floods_are_one_alert() -> None:
    node = Node()
    found = run([node.second(0), node.second(1, flows=crowd(12_001, 443)), node.second(90)])
    assert [a.detector for a in found] == ["udp_flood"]


def pings(count: int, each: int, **more: Any) -> list[Row]:
    return [flow(source(i), VICTIM, 0, proto=ICMP, **{"icmp_type": 8, "src_packets": each} | more)
            for i in range(count)]  # fmt: skip


@pytest.mark.parametrize(("packets", "fires"), [(3000, False), (3001, True)])
def test_icmp_flood_at_and_above_the_limit(packets: int, fires: bool) -> None:
    found = alerts(pings(1, packets), "icmp_flood")
    assert bool(found) == fires
    if found:
        assert [a.ip for a in found[0].attackers] == [source(0)]


@pytest.mark.parametrize(("senders", "fires"), [(5000, False), (24_001, True)])
def test_a_fleet_that_probes_its_gateway_is_no_flood(senders: int, fires: bool) -> None:
    assert bool(alerts(pings(senders, 1), "icmp_flood")) == fires


def test_icmp_errors_are_no_flood_and_unasked_replies_are() -> None:
    assert alerts(pings(1, 5000, icmp_type=3), "icmp_flood") == []
    assert alerts(pings(1, 5000, icmp_type=0, marks=0), "icmp_flood")


def answers(count: int, port: int = 53, reflectors: int = 100, **more: Any) -> list[Row]:
    return [flow(source(i % reflectors), VICTIM, 30_000 + i, proto=UDP, src_port=port, **more) for i in range(count)]


@pytest.mark.parametrize(("count", "reflectors", "fires"), [(1000, 100, False), (1001, 100, True), (1001, 30, False)])
def test_unasked_answers_at_and_above_the_limits(count: int, reflectors: int, fires: bool) -> None:
    found = alerts(answers(count, reflectors=reflectors), "amplification")
    assert bool(found) == fires
    if found:
        assert "DNS" in found[0].explanation
        assert found[0].spoofable


@pytest.mark.parametrize(("megabytes", "fires"), [(60, False), (61, True)])
def test_three_reflectors_suffice_for_a_large_flood(megabytes: int, fires: bool) -> None:
    rows = answers(300, 11211, 3, src_bytes=megabytes * 1_000_000 // 300, src_packets=100)
    found = alerts(rows, "amplification")
    assert bool(found) == fires
    if found:
        assert "memcached" in found[0].explanation


def test_answers_that_were_asked_for_and_peers_of_one_port_are_no_reflection() -> None:
    assert alerts(answers(2000, marks=CONVERSATION, dst_packets=1), "amplification") == []
    peers = [flow(source(i), VICTIM, 4500, proto=UDP, src_port=4500) for i in range(2000)]
    assert alerts(peers, "amplification") == []


def synacks(count: int, **more: Any) -> list[Row]:
    """Only the answers of handshakes that somebody began in the victim's name."""
    row = {"marks": 0, "src_packets": 0, "src_syn": 0, "dst_packets": 1, "dst_synack": 1}
    return [flow(VICTIM, source(i), 443, **row | {"src_port": 2048 + i} | more) for i in range(count)]


@pytest.mark.parametrize(("count", "fires"), [(1000, False), (1001, True)])
def test_unasked_synacks_at_and_above_the_limit(count: int, fires: bool) -> None:
    found = alerts(synacks(count), "amplification")
    assert bool(found) == fires
    if found:
        assert [v.ip for v in found[0].victims] == [VICTIM]


def test_synacks_that_are_answered_with_rst_count_also_when_the_flow_is_known() -> None:
    earlier = BEGIN * SECOND
    assert alerts(synacks(1500, src_rst=1, src_packets=1, conn_start=earlier), "amplification")


def test_a_handshake_that_a_cut_divides_is_no_reflection() -> None:
    earlier = BEGIN * SECOND
    assert alerts(synacks(1500, conn_start=earlier), "amplification") == []
    assert alerts(synacks(1500, marks=2, src_packets=1), "amplification") == []


def questions(count: int, servers: int, factor: int = 10) -> list[Row]:
    return [flow(VICTIM, source(i % servers), 53, proto=UDP, marks=CONVERSATION, src_port=2048 + i, src_bytes=70,
                 dst_packets=1, dst_bytes=70 * factor) for i in range(count)]  # fmt: skip


@pytest.mark.parametrize(
    ("count", "servers", "factor", "fires"),
    [(1200, 1, 10, False), (1201, 1, 10, True), (1201, 1, 9, False), (2000, 100, 10, False)],
)
def test_our_servers_used_as_reflectors(count: int, servers: int, factor: int, fires: bool) -> None:
    found = alerts(questions(count, servers, factor), "amplification")
    assert bool(found) == fires
    if found:
        assert found[0].severity == "medium"
        assert [a.ip for a in found[0].attackers] == [source(0)]


def test_reflected_answers_are_not_a_udp_flood_as_well() -> None:
    node = Node()
    rows = answers(14_000, marks=OPENED | REFUSED)
    found = run([node.second(0), node.second(1, flows=rows), node.second(90)])
    assert [a.detector for a in found] == ["amplification"]
