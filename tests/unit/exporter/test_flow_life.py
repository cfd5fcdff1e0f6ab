"""What becomes of flows: marks, orientation, time-outs at exact cuts, when rows leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.settings import ExporterSettings, FlowSettings, ReadingSettings
from tests.unit.exporter.crafting import (
    ACK,
    FIN,
    MAC_A,
    PSH,
    RST,
    SYN,
    URG,
    Timed,
    ether,
    icmp,
    ipv4,
    ipv6,
    life,
    messages,
    pcap,
    rows,
    tcp4,
    udp4,
)  # fmt: skip

C, S = "10.0.0.1", "10.0.0.2"


def up(when: float, flags: int, payload: bytes = b"", port: int = 40_000) -> Timed:
    return when, tcp4(C, port, S, 443, flags, payload)


def down(when: float, flags: int, payload: bytes = b"", port: int = 40_000) -> Timed:
    return when, tcp4(S, 443, C, port, flags, payload)


HANDSHAKE = [up(0.1, SYN), down(0.2, SYN | ACK), up(0.3, ACK)]


def test_a_whole_connection_within_a_second_is_one_row(tmp_path: Path) -> None:
    talk = [up(0.4, ACK | PSH, b"q" * 10), down(0.5, ACK | PSH, b"a" * 20)]
    end = [up(0.6, FIN | ACK), down(0.7, FIN | ACK), up(0.8, ACK)]
    found = rows(messages(tmp_path, pcap([*HANDSHAKE, *talk, *end])))
    assert [(row["cut"], row["letters"]) for row in found] == [(1, "oexc")]
    row = found[0]
    assert (row["src"], row["src_port"], row["dst"], row["dst_port"], row["proto"]) == (C, 40_000, S, 443, 6)
    assert (row["src_packets"], row["dst_packets"]) == (5, 3)
    assert (row["src_bytes"], row["dst_bytes"]) == (5 * 40 + 10, 3 * 40 + 20)
    assert (row["src_payload"], row["dst_payload"], row["first_payload"]) == (10, 20, 1)
    counts = ("src_syn", "dst_synack", "src_fin", "dst_fin", "src_rst", "dst_rst")
    assert [row[name] for name in counts] == [1, 1, 1, 1, 0, 0]
    assert (row["total_src_bytes"], row["total_dst_payload"]) == (210, 20)
    assert row["direction_known"]
    assert (row["ttl_min"], row["ttl_max"], row["src_mac"]) == (64, 64, int.from_bytes(MAC_A, "big"))


def test_marks_come_once_at_the_cut_in_which_they_become_true(tmp_path: Path) -> None:
    later = [up(2.5, ACK | PSH, b"q"), down(4.5, ACK | PSH, b"a"), up(6.1, FIN | ACK), down(7.1, FIN | ACK)]
    assert life(messages(tmp_path, pcap([*HANDSHAKE, *later]))) == [(1, "oe"), (5, "x"), (8, "c")]


def test_a_bare_syn_is_unanswered_after_three_seconds_and_forgotten_when_quiet(tmp_path: Path) -> None:
    # 0.25 + 3 s lies in the second that cut 4 ends; 30 s of quiet end at 30.25, so at cut 31.
    assert life(messages(tmp_path, pcap([up(0.25, SYN)]))) == [(1, "o"), (4, "u"), (31, "c")]


def test_a_time_out_on_a_whole_second_fires_at_that_cut(tmp_path: Path) -> None:
    assert life(messages(tmp_path, pcap([up(0.0, SYN)])))[1] == (3, "u")


def test_syn_repeats_belong_to_one_attempt(tmp_path: Path) -> None:
    found = rows(messages(tmp_path, pcap([up(t, SYN) for t in (0.1, 1.1, 3.1, 7.1, 15.1)])))
    assert [row["letters"] for row in found] == ["o", "u", "c"]
    assert sum(row["src_syn"] for row in found) == 5
    assert found[-1]["total_src_packets"] == 5


def test_rst_to_a_syn_refuses(tmp_path: Path) -> None:
    found = rows(messages(tmp_path, pcap([up(0.1, SYN), down(0.2, RST | ACK)])))
    assert [(row["cut"], row["letters"], row["dst_rst"]) for row in found] == [(1, "orc", 1)]


def test_a_half_open_scan_is_neither_established_nor_refused(tmp_path: Path) -> None:
    assert life(messages(tmp_path, pcap([up(0.1, SYN), down(0.2, SYN | ACK), up(0.3, RST)]))) == [(1, "oc")]


def test_rst_after_data_is_not_a_refusal(tmp_path: Path) -> None:
    found = messages(tmp_path, pcap([*HANDSHAKE, up(1.4, ACK | PSH, b"q"), down(2.5, RST)]))
    assert life(found) == [(1, "oe"), (3, "c")]


@pytest.mark.parametrize("flags", [0, FIN, FIN | PSH | URG, URG, ACK, FIN | ACK], ids=lambda flags: f"{flags:02x}")
def test_probes_with_odd_flags_are_attempts(tmp_path: Path, flags: int) -> None:
    closed = rows(messages(tmp_path, pcap([up(0.1, flags), down(0.2, RST)])))
    assert [(row["letters"], row["src"], row["src_flags"]) for row in closed] == [("orc", C, flags)]
    assert closed[0]["direction_known"] == (not flags & ACK)
    assert life(messages(tmp_path, pcap([up(0.1, flags)])))[:2] == [(1, "o"), (4, "u")]


def test_syn_ack_first_comes_from_the_responder_and_is_no_attempt(tmp_path: Path) -> None:
    found = rows(messages(tmp_path, pcap([down(0.1, SYN | ACK)])))
    assert (found[0]["src"], found[0]["letters"], found[0]["direction_known"]) == (C, "", True)
    assert all("o" not in row["letters"] and "u" not in row["letters"] for row in found)


def test_a_syn_that_was_captured_after_its_answer_still_opens(tmp_path: Path) -> None:
    assert life(messages(tmp_path, pcap([down(0.1, SYN | ACK), up(0.2, SYN), up(0.3, ACK)])))[0] == (1, "oe")


@pytest.mark.parametrize("first", ["client", "server"])
def test_joined_in_mid_stream_the_lower_port_is_the_responder(tmp_path: Path, first: str) -> None:
    packet = up if first == "client" else down
    row = rows(messages(tmp_path, pcap([packet(0.1, ACK | PSH, b"data")])))[0]
    assert (row["src"], row["dst_port"], row["direction_known"], row["letters"]) == (C, 443, False, "")


def test_a_reused_port_is_a_new_flow(tmp_path: Path) -> None:
    again = [up(0.6, SYN), down(0.7, RST | ACK)]
    found = rows(messages(tmp_path, pcap([up(0.1, SYN), down(0.2, RST | ACK), *again])))
    assert [row["letters"] for row in found] == ["orc", "orc"]
    assert found[0]["flow_id"] != found[1]["flow_id"]
    assert [row["conn_start"] % 10**9 for row in found] == [100_000_000, 600_000_000]


def test_a_reused_port_in_a_later_second_is_a_new_flow(tmp_path: Path) -> None:
    found = life(messages(tmp_path, pcap([up(0.1, SYN), down(0.2, RST | ACK), up(2.1, SYN), down(2.2, RST | ACK)])))
    assert found == [(1, "orc"), (3, "orc")]


def test_a_flood_from_one_port_does_not_make_a_row_per_packet(tmp_path: Path) -> None:
    flood = [packet for i in range(100) for packet in (up(0.001 * i, SYN), down(0.001 * i + 0.0005, RST | ACK))]
    found = rows(messages(tmp_path, pcap(flood)))
    # The first, and as many more as one second allows.
    assert len(found) == 1 + FlowSettings().reopens_per_second
    assert sum(row["src_syn"] for row in found) == 100


def test_stray_packets_after_the_end_open_nothing(tmp_path: Path) -> None:
    end = [up(0.6, FIN | ACK), down(0.7, FIN | ACK)]
    found = rows(messages(tmp_path, pcap([*HANDSHAKE, *end, up(1.2, ACK), down(3.2, RST)])))
    assert [(row["cut"], row["letters"]) for row in found] == [(1, "oec"), (2, ""), (4, "")]
    assert len({row["flow_id"] for row in found}) == 1


def test_udp_is_established_by_its_answer_and_ends_when_idle(tmp_path: Path) -> None:
    packets = [(0.5, udp4(C, 5000, S, 9000, b"ask")), (1.5, udp4(S, 9000, C, 5000, b"tell"))]
    assert life(messages(tmp_path, pcap(packets))) == [(1, "o"), (2, "ex"), (32, "c")]


def test_udp_refused_by_icmp(tmp_path: Path) -> None:
    ask = udp4(C, 5000, S, 9000, b"ask")
    error = ether(ipv4(S, C, 1, icmp(3, 3, payload=ask[14:])))
    found = [row for row in rows(messages(tmp_path, pcap([(0.5, ask), (0.6, error)]))) if row["proto"] == 17]
    assert [(row["cut"], row["letters"]) for row in found] == [(1, "or"), (31, "c")]


def test_icmp_too_big_refuses_nothing(tmp_path: Path) -> None:
    ask = udp4(C, 5000, S, 9000, b"ask")
    error = ether(ipv4("10.0.0.9", C, 1, icmp(3, 4, payload=ask[14:])))
    found = rows(messages(tmp_path, pcap([(0.5, ask), (0.6, error)])))
    assert all("r" not in row["letters"] for row in found)


def test_udp_refused_by_icmp6(tmp_path: Path) -> None:
    ask = ipv6("fd00::1", "fd00::2", 17, udp4(C, 5000, S, 9000)[34:])
    error = ipv6("fd00::2", "fd00::1", 58, icmp(1, 4, payload=ask))
    found = rows(messages(tmp_path, pcap([(0.5, ether(ask, 0x86DD)), (0.6, ether(error, 0x86DD))])))
    assert [row["letters"] for row in found if row["proto"] == 17] == ["or", "c"]


def test_echo_and_reply_are_one_flow_by_id(tmp_path: Path) -> None:
    ask, tell = ether(ipv4(C, S, 1, icmp(8, 0, 77))), ether(ipv4(S, C, 1, icmp(0, 0, 77)))
    other = ether(ipv4(C, S, 1, icmp(8, 0, 78)))
    found = rows(messages(tmp_path, pcap([(0.1, ask), (0.2, tell), (0.3, other)])))
    assert [(row["icmp_id"], row["letters"], row["src"]) for row in found if row["cut"] == 1] == [
        (77, "oe", C), (78, "o", C),
    ]  # fmt: skip
    assert {row["icmp_type"] for row in found} == {8}
    assert all(row["src_port"] == row["dst_port"] == 0 for row in found)


def test_an_echo_reply_alone_is_no_attempt_of_its_sender(tmp_path: Path) -> None:
    row = rows(messages(tmp_path, pcap([(0.1, ether(ipv4(S, C, 1, icmp(0, 0, 77))))])))[0]
    assert (row["src"], row["letters"]) == (C, "e")


def test_a_quiet_gain_is_reported_once_a_minute(tmp_path: Path) -> None:
    trickle = [up(5.0 + 10 * i, ACK | PSH, b"x") for i in range(14)]
    found = rows(messages(tmp_path, pcap([*HANDSHAKE, *trickle])))
    assert [row["cut"] for row in found][:3] == [1, 61, 121]
    assert found[1]["src_packets"] == 6


def test_much_gained_is_reported_at_the_next_cut(tmp_path: Path) -> None:
    busy = [up(2 + i / 1000, ACK) for i in range(1000)]
    found = rows(messages(tmp_path, pcap([*HANDSHAKE, *busy])))
    assert [(row["cut"], row["src_packets"]) for row in found][:2] == [(1, 2), (3, 1000)]


def test_many_bytes_are_reported_at_the_next_cut(tmp_path: Path) -> None:
    big = [up(2 + i / 100, ACK, b"x" * 40_000) for i in range(25)]
    found = rows(messages(tmp_path, pcap([*HANDSHAKE, *big])))
    assert [(row["cut"], row["src_payload"]) for row in found][:2] == [(1, 0), (3, 1_000_000)]


def test_bursts_are_told_by_their_gaps(tmp_path: Path) -> None:
    beats = [up(10.0 * i + 0.01 * j, ACK | PSH, b"x") for i in range(1, 4) for j in range(3)]
    found = rows(messages(tmp_path, pcap([*HANDSHAKE, *beats])))
    assert sum(row["bursts"] for row in found) == 3
    # 0.3 to 10.0, 10.02 to 20.0, 20.02 to 30.0
    gaps = [9700, 9980, 9980]
    assert sum(row["burst_gap_sum"] for row in found) == sum(gaps)
    assert sum(row["burst_gap_squares"] for row in found) == sum(gap * gap for gap in gaps)


def test_a_full_table_counts_what_it_cannot_follow(tmp_path: Path) -> None:
    settings = ExporterSettings(flow=FlowSettings(capacity=16, pressure_percent=100))
    packets = [up(0.01 * i, SYN, port=40_000 + i) for i in range(20)]
    found = messages(tmp_path, pcap(packets), settings)
    first = [row for row in rows(found) if row["cut"] == 1]
    assert [row["src_port"] for row in first] == [40_000 + i for i in range(16)]
    assert sum(message.header.lost_rows for message in found) == 4


def test_under_pressure_unanswered_flows_make_room(tmp_path: Path) -> None:
    settings = ExporterSettings(flow=FlowSettings(capacity=16, pressure_percent=50))
    packets = [up(0.1 + 0.01 * i, SYN, port=40_000 + i) for i in range(12)]
    packets += [up(5 + 0.01 * i, SYN, port=50_000 + i) for i in range(12)]
    found = messages(tmp_path, pcap(packets), settings)
    assert sum(message.header.lost_rows for message in found) == 0
    assert sorted(mark for cut, mark in life(found) if cut == 4) == ["c"] * 12 + ["u"] * 12


def test_the_end_of_the_data_closes_what_is_open(tmp_path: Path) -> None:
    found = messages(tmp_path, pcap(HANDSHAKE), ExporterSettings(reading=ReadingSettings(drain_seconds=10)))
    assert life(found) == [(1, "oe"), (11, "c")]
    assert [message.header.final for message in found] == [False, False, True]


def test_vlans_keep_flows_apart(tmp_path: Path) -> None:
    def tagged(vlan: int) -> bytes:
        plain = tcp4(C, 40_000, S, 443, SYN)
        return plain[:12] + b"\x81\x00" + vlan.to_bytes(2, "big") + plain[12:]

    found = rows(messages(tmp_path, pcap([(0.1, tagged(5)), (0.2, tagged(6))])))
    assert [row["vlan"] for row in found if row["cut"] == 1] == [5, 6]
