"""Headers as traffic really has them: extension headers, fragments, ARP, offload, lies about lengths."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from exporter.chunks import CaptureReport
from tests.unit.exporter.crafting import (
    MAC_A,
    SYN,
    Timed,
    arp,
    ether,
    icmp,
    ipv4,
    ipv6,
    messages,
    pcap,
    rows,
    tcp,
    udp,
)  # fmt: skip

C, S = "10.0.0.1", "10.0.0.2"
A6, B6 = "fd00::1", "fd00::2"
OPTIONS = b"\0" + b"\1\4\0\0\0\0"  # length 0: 8 bytes in all
AH = b"\4\0\0" + b"\0" * 20  # length 4: 24 bytes in all
FIRST_FRAGMENT = b"\0" + struct.pack(">HI", 0 << 3 | 1, 99)
LATER_FRAGMENT = b"\0" + struct.pack(">HI", 100 << 3, 99)


@pytest.mark.parametrize(
    "extensions",
    [[], [(0, OPTIONS)], [(60, OPTIONS)], [(43, OPTIONS)], [(51, AH)], [(44, FIRST_FRAGMENT)],
     [(0, OPTIONS), (60, OPTIONS), (43, OPTIONS), (44, FIRST_FRAGMENT), (51, AH), (60, OPTIONS)]],
    ids=lambda value: "-".join(str(kind) for kind, _ in value) or "none",
)  # fmt: skip
def test_ipv6_extension_headers(tmp_path: Path, extensions: list[tuple[int, bytes]]) -> None:
    packet = ipv6(A6, B6, 6, tcp(40_000, 80, SYN, b"xyz"), extensions)
    row = rows(messages(tmp_path, pcap([(0.1, ether(packet, 0x86DD))])))[0]
    assert (row["src"], row["dst"], row["dst_port"], row["proto"]) == (A6, B6, 80, 6)
    assert (row["src_bytes"], row["src_payload"], row["letters"]) == (len(packet), 3, "o")


def test_a_chain_without_end_is_malformed(tmp_path: Path) -> None:
    report = CaptureReport()
    packet = ipv6(A6, B6, 6, tcp(1, 2, SYN), [(60, OPTIONS)] * 13)
    assert rows(messages(tmp_path, pcap([(0.1, ether(packet, 0x86DD))]), report=report)) == []
    assert report.malformed == 1


def test_authentication_header_in_ipv4(tmp_path: Path) -> None:
    packet = ipv4(C, S, 51, bytes([6]) + AH + tcp(40_000, 80, SYN))
    assert rows(messages(tmp_path, pcap([(0.1, ether(packet))])))[0]["dst_port"] == 80


@pytest.mark.parametrize("version", [4, 6])
def test_later_fragments_are_no_attempt_on_port_zero(tmp_path: Path, version: int) -> None:
    datagram = udp(5000, 9000, b"x" * 100)
    if version == 4:
        first, later = ipv4(C, S, 17, datagram[:64], fragment=0x2000), ipv4(C, S, 17, datagram[64:], fragment=8)
        frames = [ether(first), ether(later)]
    else:
        first = ipv6(A6, B6, 17, datagram[:64], [(44, FIRST_FRAGMENT)])
        later = ipv6(A6, B6, 17, datagram[64:], [(44, LATER_FRAGMENT)])
        frames = [ether(first, 0x86DD), ether(later, 0x86DD)]
    found = [row for row in rows(messages(tmp_path, pcap([(0.1, frames[0]), (0.2, frames[1])]))) if row["cut"] == 1]
    assert [(row["dst_port"], row["letters"], row["src_packets"]) for row in found] == [(9000, "o", 1), (0, "", 1)]
    assert [row["src_bytes"] for row in found] == [len(first), len(later)]


def test_ethernet_padding_is_not_payload(tmp_path: Path) -> None:
    frame = ether(ipv4(C, S, 6, tcp(40_000, 80, SYN))).ljust(60, b"\0")
    row = rows(messages(tmp_path, pcap([(0.1, frame)])))[0]
    assert (row["src_bytes"], row["src_payload"]) == (40, 0)


def test_length_zero_of_segmentation_offload_is_the_frame(tmp_path: Path) -> None:
    frame = ether(ipv4(C, S, 6, tcp(40_000, 80, SYN, b"x" * 3000), length=0))
    row = rows(messages(tmp_path, pcap([(0.1, frame)])))[0]
    assert (row["src_bytes"], row["src_payload"]) == (3040, 3000)


BAD = {
    "longer than the frame": ether(ipv4(C, S, 6, tcp(1, 2, SYN), length=400)),
    "shorter than its header": ether(ipv4(C, S, 6, tcp(1, 2, SYN), length=10)),
    "header length": ether(b"\x41" + ipv4(C, S, 6, tcp(1, 2, SYN))[1:]),
    "version": ether(b"\x65" + ipv4(C, S, 6, tcp(1, 2, SYN))[1:]),
    "no ports": ether(ipv4(C, S, 17, b"\1")),
    "tiny tcp": ether(ipv4(C, S, 6, tcp(1, 2, SYN)[:8])),
    "tcp data offset": ether(ipv4(C, S, 6, tcp(1, 2, SYN)[:12] + b"\x10" + tcp(1, 2, SYN)[13:])),
    "no icmp": ether(ipv4(C, S, 1, b"\1\2")),
    "ipv6 cut": ether(ipv6(A6, B6, 17, udp(1, 2))[:30], 0x86DD),
    "arp for tokens": ether(b"\0\6" + arp(1, MAC_A, C, S)[16:], 0x0806),
    "arp cut": arp(1, MAC_A, C, S)[:30],
}


@pytest.mark.parametrize("what", BAD)
def test_lies_are_counted_and_nothing_else(tmp_path: Path, what: str) -> None:
    report = CaptureReport()
    good = ether(ipv4(C, S, 17, udp(5, 6, b"x")))
    found = messages(tmp_path, pcap([(0.1, BAD[what]), (0.2, good)]), report=report)
    assert report.malformed == sum(message.header.malformed for message in found) == 1
    assert {row["src_port"] for row in rows(found)} == {5}
    assert rows(found, "link") == []


def test_arp_claims(tmp_path: Path) -> None:
    packets: list[Timed] = [(0.1, arp(1, MAC_A, C, S)), (1.2, arp(2, MAC_A, C, S)), (1.3, arp(9, MAC_A, C, S))]
    found = rows(messages(tmp_path, pcap(packets)), "link")
    assert [(row["cut"], row["claim"], row["claimed"], row["target"]) for row in found] == [(1, 1, C, S), (2, 2, C, S)]
    assert {(row["mac"], row["claimed_mac"]) for row in found} == {(int.from_bytes(MAC_A, "big"),) * 2}


@pytest.mark.parametrize(
    ("payload", "port", "app"),
    [(b"GET / HTTP/1.1\r\n", 8080, "http"), (b"\x16\x03\x01\x02\x00\x01\x00\x01", 8443, "tls"),
     (b"SSH-2.0-x", 2222, "ssh"), (b"\0\0\0\x45\xfeSMB", 445, "smb"), (b"\3\0\0\x13\x0e\xe0\0\0", 3389, "rdp"),
     (b"whatever it is", 80, ""), (b"GET", 80, "")],
)  # fmt: skip
def test_applications_are_told_by_first_payload(tmp_path: Path, payload: bytes, port: int, app: str) -> None:
    packets = [
        (0.1, ether(ipv4(C, S, 6, tcp(40_000, port, SYN)))),
        (0.2, ether(ipv4(C, S, 6, tcp(40_000, port, 24, payload)))),
    ]
    assert rows(messages(tmp_path, pcap(packets)))[0]["app"] == app


def test_other_protocols_have_no_ports(tmp_path: Path) -> None:
    row = rows(messages(tmp_path, pcap([(0.1, ether(ipv4(C, S, 47, b"\0" * 20)))])))[0]
    assert (row["proto"], row["src_port"], row["dst_port"], row["letters"]) == (47, 0, 0, "o")


def test_icmp_of_other_kinds_is_no_attempt(tmp_path: Path) -> None:
    found = rows(messages(tmp_path, pcap([(0.1, ether(ipv4(C, S, 1, icmp(11, 0))))])))
    assert [row["letters"] for row in found] == ["", "c"]
