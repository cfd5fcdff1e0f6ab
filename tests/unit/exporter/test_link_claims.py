"""Link rows of DHCP, ICMP redirects and neighbour discovery."""

from __future__ import annotations

import ipaddress
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.chunks import CaptureReport
from exporter.settings import ExporterSettings, ReadingSettings
from schemas.event_codec import encode
from schemas.events import LinkClaim
from tests.unit.exporter.crafting import MAC_A, MAC_B, Timed, arp, ether, icmp, ipv4, ipv6, messages, pcap, rows, udp

CLIENT_MAC = bytes.fromhex("0a0000000007")
NOBODY, ALL = "0.0.0.0", "255.255.255.255"
OFFER, REQUEST, ACK = 2, 3, 5


def dhcp(
    kind: int | None, *options: tuple[int, bytes], op: int = 1, ciaddr: str = NOBODY, yiaddr: str = NOBODY,
    hardware: bytes = b"\1\6", tail: bytes = b"\xff",
) -> bytes:  # fmt: skip
    four = [ipaddress.IPv4Address(address).packed for address in (ciaddr, yiaddr, NOBODY, NOBODY)]
    head = bytes([op]) + hardware + struct.pack(">BIHH", 0, 0xCAFE0001, 0, 0x8000) + b"".join(four)
    body = head + CLIENT_MAC.ljust(16, b"\0") + b"\0" * 192 + b"\x63\x82\x53\x63"
    first = [] if kind is None else [(53, bytes([kind]))]
    return body + b"".join(bytes([code, len(value)]) + value for code, value in [*first, *options]) + tail


def frame(body: bytes, src: str = NOBODY, dst: str = ALL, ports: tuple[int, int] = (68, 67)) -> bytes:
    return ether(ipv4(src, dst, 17, udp(*ports, body)), src=CLIENT_MAC, dst=b"\xff" * 6)


def link(folder: Path, *frames: bytes, report: CaptureReport | None = None) -> list[dict[str, Any]]:
    return rows(messages(folder, pcap([(0.1 + n / 100, one) for n, one in enumerate(frames)]), report=report), "link")


def number(mac: bytes) -> int:
    return int.from_bytes(mac, "big")


def test_the_four_messages_of_a_lease(tmp_path: Path) -> None:
    server, lease = "10.0.0.1", ipaddress.IPv4Address("10.0.0.50").packed
    found = link(
        tmp_path, frame(dhcp(1, (12, b"printer\0"), (60, b"vendor"))),
        frame(dhcp(OFFER, op=2, yiaddr="10.0.0.50"), server, "10.0.0.50", (67, 68)),
        frame(dhcp(REQUEST, (50, lease), (54, b"\x0a\0\0\1"), (60, b"MSFT 5.0"))),
        frame(dhcp(ACK, op=2, yiaddr="10.0.0.50"), server, ALL, (67, 68)),
    )  # fmt: skip
    assert [(row["claim"], row["claimed"], row["speaker"], row["text"]) for row in found] == [
        (LinkClaim.DHCP_DISCOVER, "::", "0.0.0.0", "printer"), (LinkClaim.DHCP_OFFER, "10.0.0.50", server, ""),
        (LinkClaim.DHCP_REQUEST, "10.0.0.50", "0.0.0.0", "MSFT 5.0"), (LinkClaim.DHCP_ACK, "10.0.0.50", server, ""),
    ]  # fmt: skip
    for row in found:
        assert (row["number"], row["claimed_mac"], row["mac"]) == (0xCAFE0001, number(CLIENT_MAC), number(CLIENT_MAC))
        assert row["destination_mac"] == (1 << 48) - 1


@pytest.mark.parametrize(
    ("kind", "claim"),
    [(4, LinkClaim.DHCP_DECLINE), (6, LinkClaim.DHCP_NAK), (7, LinkClaim.DHCP_RELEASE), (8, LinkClaim.DHCP_INFORM)],
)
def test_other_messages_and_the_clients_own_address(tmp_path: Path, kind: int, claim: int) -> None:
    (row,) = link(tmp_path, frame(dhcp(kind, ciaddr="10.0.0.9"), "10.0.0.9", "10.0.0.1"))
    assert (row["claim"], row["claimed"], row["target"], row["speaker"]) == (claim, "10.0.0.9", "10.0.0.9", "10.0.0.9")


def test_a_relayed_message_names_the_client_not_the_relay(tmp_path: Path) -> None:
    (row,) = link(tmp_path, frame(dhcp(1), "10.0.0.254", "10.9.0.1", (67, 67)))
    assert (row["claim"], row["speaker"], row["claimed_mac"]) == (1 + 9, "10.0.0.254", number(CLIENT_MAC))


def test_only_ethernet_clients_have_a_mac(tmp_path: Path) -> None:
    (row,) = link(tmp_path, frame(dhcp(1, hardware=b"\x20\x08")))
    assert row["claimed_mac"] == 0


@pytest.mark.parametrize(
    ("body", "found", "malformed"),
    [
        (dhcp(None), 0, 0), (dhcp(10), 0, 0), (dhcp(1)[:239], 0, 1),
        (dhcp(1).replace(b"\x63\x82\x53\x63", b"abcd"), 0, 1),
        (dhcp(1, hardware=b"\1\xff"), 0, 1), (dhcp(1, tail=b""), 1, 0), (dhcp(1, tail=b"\x0c\xffshort"), 1, 0),
        (dhcp(None, (53, b"\1\1")), 0, 0), (dhcp(None, (53, b"")), 0, 0), (dhcp(1, (53, b"\2")), 1, 0),
        (dhcp(None, tail=b"\0" * 20 + b"\x35\1\1\xff"), 1, 0),
        (dhcp(None, tail=b"\0" * 90 + b"\x35\1\1\xff"), 0, 0), (b"", 0, 1),
    ],
)  # fmt: skip
def test_odd_messages(tmp_path: Path, body: bytes, found: int, malformed: int) -> None:
    report = CaptureReport()
    assert len(link(tmp_path, frame(body), report=report)) == found
    assert report.malformed == malformed


def test_the_first_of_two_types_counts(tmp_path: Path) -> None:
    (row,) = link(tmp_path, frame(dhcp(1, (53, b"\2"))))
    assert row["claim"] == LinkClaim.DHCP_DISCOVER


def test_names_are_escaped_and_bounded(tmp_path: Path) -> None:
    (row,) = link(tmp_path, frame(dhcp(1, (12, b"\n" * 255))))
    assert row["text"] == ("\\010" * 255)[:512]


def redirect(gateway: str, destination: str) -> bytes:
    quoted = ipv4("10.0.0.5", destination, 17, udp(1, 2))
    return struct.pack(">BBH", 5, 1, 0) + ipaddress.IPv4Address(gateway).packed + quoted


def test_a_redirect_names_destination_and_gateway(tmp_path: Path) -> None:
    (row,) = link(tmp_path, ether(ipv4("10.0.0.1", "10.0.0.5", 1, redirect("10.0.0.66", "192.0.2.9"))))
    assert (row["claim"], row["claimed"], row["target"]) == (LinkClaim.ICMP_REDIRECT, "192.0.2.9", "10.0.0.66")
    assert (row["speaker"], row["mac"], row["claimed_mac"]) == ("10.0.0.1", number(MAC_A), 0)


def neighbour(kind: int, body: bytes, *options: tuple[int, bytes], hops: int = 255, code: int = 0) -> bytes:
    rest = b"".join(bytes([number, (2 + len(value)) // 8]) + value for number, value in options)
    packet = ipv6("fe80::1", "ff02::1", 58, struct.pack(">BBH", kind, code, 0) + body + rest)
    return ether(packet[:7] + bytes([hops]) + packet[8:], 0x86DD)


V6 = ipaddress.IPv6Address
PREFIX = (3, b"\x40\xc0" + b"\0" * 28)


def test_neighbour_discovery(tmp_path: Path) -> None:
    asked, gateway = V6("fd00::7").packed, V6("fe80::66").packed
    found = link(
        tmp_path,
        neighbour(134, struct.pack(">BBHII", 64, 0, 1800, 0, 0), PREFIX, (5, b"\0\0\0\0\5\xdc"), (1, MAC_B)),
        neighbour(135, b"\0" * 4 + asked, (1, MAC_B)), neighbour(136, b"\x60\0\0\0" + asked, (2, MAC_B)),
        neighbour(137, b"\0" * 4 + gateway + asked, (2, MAC_B)),
    )  # fmt: skip
    columns = ("claim", "claimed", "target", "speaker", "number", "claimed_mac")
    assert [tuple(row[name] for name in columns) for row in found] == [
        (LinkClaim.ROUTER_ADVERTISEMENT, "fe80::1", "::", "fe80::1", 1800, number(MAC_B)),
        (LinkClaim.NEIGHBOUR_SOLICITATION, "fe80::1", "fd00::7", "fe80::1", 0, number(MAC_B)),
        (LinkClaim.NEIGHBOUR_ADVERTISEMENT, "fd00::7", "ff02::1", "fe80::1", 0, number(MAC_B)),
        (LinkClaim.ICMP_REDIRECT, "fd00::7", "fe80::66", "fe80::1", 0, number(MAC_B)),
    ]


@pytest.mark.parametrize(
    "packet",
    [
        neighbour(136, b"\0" * 20, hops=254), neighbour(136, b"\0" * 20, code=1),  # hosts drop these
        neighbour(133, b"\0" * 4), ether(ipv4("10.0.0.1", "10.0.0.5", 1, icmp(8))),
    ],
)  # fmt: skip
def test_what_claims_nothing(tmp_path: Path, packet: bytes) -> None:
    report = CaptureReport()
    assert link(tmp_path, packet, report=report) == []
    assert report.malformed == 0


@pytest.mark.parametrize(
    "packet",
    [
        neighbour(136, b"\0" * 19), neighbour(134, b"\0" * 8), neighbour(137, b"\0" * 30),
        ether(ipv4("10.0.0.1", "10.0.0.5", 1, redirect("10.0.0.66", "192.0.2.9")[:27])),
    ],
)  # fmt: skip
def test_claims_that_are_cut_off_are_malformed(tmp_path: Path, packet: bytes) -> None:
    report = CaptureReport()
    assert link(tmp_path, packet, report=report) == []
    assert report.malformed == 1


@pytest.mark.parametrize("options", [b"\2\0" + b"\0" * 6, b"\2\2" + MAC_B, b"\2\1" + MAC_B[:5], b"\7\1" * 80])
def test_odd_options_have_no_mac(tmp_path: Path, options: bytes) -> None:
    (row,) = link(tmp_path, neighbour(136, b"\0" * 20 + options))
    assert row["claimed_mac"] == 0


def claims(seed: int) -> list[Timed]:
    """Every kind of claim, some damaged, in any order."""
    dice = random.Random(seed)
    made = [
        arp(1, MAC_A, "10.0.0.1", "10.0.0.2"), frame(dhcp(1, (12, b"a"))),
        frame(dhcp(2, op=2), "10.0.0.1", ALL, (67, 68)), neighbour(135, b"\0" * 20, (1, MAC_B)),
        ether(ipv4("10.0.0.1", "10.0.0.5", 1, redirect("10.0.0.6", "192.0.2.9"))),
    ]  # fmt: skip
    out: list[Timed] = []
    for count in range(50):
        one = dice.choice(made)
        if dice.random() < 0.3:
            at = dice.randrange(14, len(one))
            one = one[:at] + bytes([dice.randrange(256)]) + one[at + 1 :]
        out.append((count * 0.09, one))
    return out


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), size=st.integers(1, 30))
def test_chunk_sizes_change_nothing(tmp_path: Path, seed: int, size: int) -> None:
    content = pcap(claims(seed))
    whole = messages(tmp_path, content, ExporterSettings(reading=ReadingSettings(sort_bytes=0)))
    reading = ReadingSettings(sort_bytes=0, block_bytes=2048, chunk_packets=size)
    assert [encode(m) for m in messages(tmp_path, content, ExporterSettings(reading=reading))] == [
        encode(m) for m in whole
    ]
