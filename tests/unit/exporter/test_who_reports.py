"""Which node and which interface reports a flow that passes several."""

from __future__ import annotations

import pytest

from exporter.flow_origin import Resync
from tests.unit.exporter.crafting import (
    ACK,
    BASE,
    MAC_A,
    PSH,
    RST,
    SYN,
    arp,
    ether,
    icmp,
    ipv4,
    tcp4,
    udp4,
)  # fmt: skip
from tests.unit.exporter.live_packets import NODE_ADDRESS, Node, Seen, entered, left
from tests.unit.exporter.test_dns_rows import answer, question

A, B = "10.1.0.10", "10.1.0.11"  # pods here
FAR = "10.2.0.20"  # a pod of another node
OUT = "192.0.2.9"  # outside the cluster
VIP = "10.96.0.1"  # a Service


def call(src: str, dst: str, port: int = 40_000, at: float = 0.1) -> list[tuple[float, bool, bytes]]:
    """A connection with a question and an answer: (when, sent by the initiator, frame)."""
    return [
        (at, True, tcp4(src, port, dst, 80, SYN)), (at + 0.01, False, tcp4(dst, 80, src, port, SYN | ACK)),
        (at + 0.02, True, tcp4(src, port, dst, 80, ACK)),
        (at + 0.03, True, tcp4(src, port, dst, 80, ACK | PSH, b"ask")),
        (at + 0.04, False, tcp4(dst, 80, src, port, ACK | PSH, b"answer")),
    ]  # fmt: skip


def at_initiator(interface: str, talk: list[tuple[float, bool, bytes]]) -> list[Seen]:
    return [(when, interface, not ours, frame) for when, ours, frame in talk]


def at_responder(interface: str, talk: list[tuple[float, bool, bytes]]) -> list[Seen]:
    return [(when, interface, ours, frame) for when, ours, frame in talk]


def test_pods_of_one_node_see_one_row_with_both_directions() -> None:
    node, talk = Node(), call(A, B)
    node.see(*sorted([*at_initiator("veth-a", talk), *at_responder("veth-b", talk)]))
    found = node.close()
    assert [(r["src"], r["dst"], r["interface"], r["letters"], r["copy"]) for r in found] == [
        (A, B, "veth-a", "oex", False)
    ]
    assert (found[0]["src_packets"], found[0]["dst_packets"]) == (3, 2)
    assert (found[0]["src_payload"], found[0]["dst_payload"]) == (3, 6)


def test_a_service_address_is_reported_as_the_pod_sees_it() -> None:
    """Translated on the way: the client's interface shows the Service, the server's the pod behind it."""
    node = Node()
    node.see(*sorted([*at_initiator("veth-a", call(A, VIP)), *at_responder("veth-b", call(A, B))]))
    assert [(r["src"], r["dst"], r["letters"]) for r in node.close()] == [(A, VIP, "oex")]


def test_to_another_node_and_outside_the_sender_reports() -> None:
    for peer in (FAR, OUT):
        node, talk = Node(), call(A, peer)
        node.see(*sorted([*at_initiator("veth-a", talk), *at_responder("eth0", talk)]))
        assert [(r["src"], r["dst"], r["interface"]) for r in node.close()] == [(A, peer, "veth-a")]


def test_a_masked_address_on_the_uplink_is_reported_for_the_node() -> None:
    """Without connection tracking a translated flow cannot be told from one of the node's own."""
    node = Node()
    node.see(*sorted([*at_initiator("veth-a", call(A, OUT)), *at_responder("eth0", call(NODE_ADDRESS, OUT))]))
    assert [(r["src"], r["dst"]) for r in node.close()] == [(A, OUT), (NODE_ADDRESS, OUT)]


def test_from_another_node_that_one_reports() -> None:
    node, talk = Node(), call(FAR, A)
    node.see(*sorted([*at_initiator("eth0", talk), *at_responder("veth-a", talk)]))
    assert node.close() == []
    assert [node.close() for _ in range(3)] == [[], [], []]


def test_from_outside_the_uplink_reports() -> None:
    node, talk = Node(), call(OUT, A)
    node.see(*sorted([*at_initiator("eth0", talk), *at_responder("veth-a", talk)]))
    assert [(r["src"], r["dst"], r["interface"], r["copy"]) for r in node.close()] == [(OUT, A, "eth0", False)]


def test_the_node_itself_is_reported_where_it_reaches_its_pods() -> None:
    node, talk = Node(), call(NODE_ADDRESS, A)
    node.see(*at_responder("veth-a", talk))
    assert [(r["src"], r["dst"], r["interface"]) for r in node.close()] == [(NODE_ADDRESS, A, "veth-a")]


def test_an_unfinished_handshake_in_a_neighbours_name_is_a_copy() -> None:
    node = Node()
    node.see(
        entered(0.5, "eth0", tcp4(FAR, 40_000, A, 80, SYN)), left(0.5, "veth-a", tcp4(FAR, 40_000, A, 80, SYN)),
        entered(0.51, "veth-a", tcp4(A, 80, FAR, 40_000, SYN | ACK)),
        left(0.52, "eth0", tcp4(A, 80, FAR, 40_000, SYN | ACK)),
    )  # fmt: skip
    assert node.close() == []
    # It has had a second by the cut that is at least one after its start.
    found = node.close()
    assert [(r["cut"], r["src"], r["dst"], r["letters"], r["copy"], r["interface"]) for r in found] == [
        (2, FAR, A, "o", True, "eth0")
    ]
    assert (found[0]["src_syn"], found[0]["dst_synack"]) == (1, 1)


def test_a_handshake_over_the_cut_that_completes_is_no_copy() -> None:
    node = Node()
    node.see(entered(0.99, "eth0", tcp4(FAR, 40_000, A, 80, SYN)))
    assert node.close() == []
    node.see(
        left(1.01, "eth0", tcp4(A, 80, FAR, 40_000, SYN | ACK)), entered(1.02, "eth0", tcp4(FAR, 40_000, A, 80, ACK))
    )
    assert [node.close() for _ in range(4)] == [[]] * 4


def test_a_refused_neighbour_is_a_copy() -> None:
    node = Node()
    node.see(
        entered(0.2, "eth0", tcp4(FAR, 40_000, A, 81, SYN)), left(0.21, "eth0", tcp4(A, 81, FAR, 40_000, RST | ACK))
    )
    assert node.close() == []
    assert [(r["letters"], r["copy"]) for r in node.close()] == [("orc", True)]


def test_without_networks_of_the_cluster_an_uplinks_sources_are_outside() -> None:
    node = Node(cluster=())
    node.see(entered(0.2, "eth0", tcp4(FAR, 40_000, A, 80, SYN)))
    assert [(r["src"], r["copy"]) for r in node.close()] == [(FAR, False)]


def test_dns_is_told_at_the_askers_interface_alone() -> None:
    node = Node()
    asked = question("a.example")
    ask = udp4(A, 5353, B, 53, asked.to_wire())
    reply = udp4(B, 53, A, 5353, answer(asked, "a.example. 60 A 192.0.2.1"))
    node.see(
        entered(0.1, "veth-a", ask), left(0.11, "veth-b", ask), entered(0.12, "veth-b", reply),
        left(0.13, "veth-a", reply),
    )  # fmt: skip
    found = node.close("dns")
    assert [(r["client"], r["server"], r["qname"], r["answer_number"]) for r in found] == [(A, B, "a.example", 1)]


def test_http_is_told_once() -> None:
    node = Node()
    talk = call(A, B)
    talk[3] = (0.13, True, tcp4(A, 40_000, B, 80, ACK | PSH, b"GET /x HTTP/1.1\r\nHost: b\r\n\r\n"))
    talk[4] = (0.14, False, tcp4(B, 80, A, 40_000, ACK | PSH, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    node.see(*sorted([*at_initiator("veth-a", talk), *at_responder("veth-b", talk)]))
    assert [(r["src"], r["path_shape"], r["status"]) for r in node.close("http")] == [(A, "/x", 200)]


def test_a_claim_is_told_where_it_came_in() -> None:
    node = Node()
    shout = arp(1, MAC_A, A, B)
    node.see(entered(0.1, "veth-a", shout), left(0.1, "veth-b", shout), left(0.1, "eth0", shout))
    assert [(r["interface"], r["claimed"]) for r in node.close("link")] == [("veth-a", A)]


def test_an_error_about_a_packet_refuses_it_where_it_was_sent() -> None:
    node = Node()
    probe = ipv4(A, B, 17, udp4(A, 5000, B, 99)[34:])
    error = ether(ipv4(B, A, 1, icmp(3, 3, payload=probe[:28])))
    node.see(entered(0.1, "veth-a", ether(probe)), left(0.2, "veth-a", error))
    found = [r for r in node.close() if r["proto"] == 17]
    assert [(r["src"], r["letters"]) for r in found] == [(A, "or")]


def test_an_interface_that_goes_takes_its_flows_with_it() -> None:
    node = Node()
    node.see(
        *at_initiator("veth-a", call(A, OUT)), *at_initiator("veth-b", call(B, OUT, at=0.3)),
        *at_initiator("veth-a", call(A, OUT, 40_001, at=0.4)),
    )  # fmt: skip
    assert [r["letters"] for r in node.close()] == ["oex"] * 3
    node.packets.forget_interfaces([1, 2])
    gone = node.close()
    assert {(r["src"], r["src_port"], r["letters"]) for r in gone} == {(A, 40_000, "c"), (A, 40_001, "c")}
    assert {r["total_src_payload"] for r in gone} == {3}
    assert [(r["src"], r["letters"]) for r in node.close(final=True)] == [(B, "c")]


NOW = BASE * 10**9
RESTARTED = Resync(NOW + 300 * 10**9, NOW + 2 * 10**9)


@pytest.mark.parametrize(
    ("frame", "opened"),
    [
        (tcp4(A, 40_000, B, 80, ACK), False),
        (tcp4(A, 40_000, B, 80, ACK | PSH, b"data"), False),
        (tcp4(A, 40_000, B, 80, SYN), True),
        (tcp4(A, 40_000, B, 80, 0), True),
        (udp4(A, 40_000, B, 9000), False),
    ],
)
def test_after_a_restart_only_beginnings_are_new(frame: bytes, opened: bool) -> None:
    node = Node(start=RESTARTED)
    node.see(entered(0.5, "veth-a", frame))
    assert [("o" in r["letters"]) for r in node.close()] == [opened]


def test_some_time_after_a_restart_all_is_new_again() -> None:
    node = Node(start=Resync(NOW, NOW))
    node.see(entered(0.5, "veth-a", udp4(A, 40_000, B, 9000)), entered(0.6, "veth-a", tcp4(A, 40_000, B, 80, ACK)))
    assert ["o" in r["letters"] for r in node.close()] == [True, True]
