"""How much of a packet the kernel is asked to keep: the program, run by an interpreter of its own."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.sources.snap_filter import MAX_INTERFACES, program
from tests.unit.exporter.crafting import ACK, MAC_A, PSH, SYN, arp, ether, icmp, ipv4, ipv6, tcp, tcp4, udp, udp4

SHORT, LONG = 192, 4096
A, B = "10.0.0.1", "10.0.0.2"
A6, B6 = "fd00::1", "fd00::2"
HELLO = b"\x16\x03\x01\x02\x00\x01" + b"h" * 500


class Refused(Exception):
    """A load outside the packet, which ends the program: the kernel then drops the packet."""


def run(code: bytes, packet: bytes, interface: int) -> int:
    """Run a classic BPF program (the instructions of the kernel's filter.rst) and return its verdict."""
    lines = list(struct.iter_unpack("=HBBI", code))
    a = x = at = 0

    def load(place: int, size: int) -> int:
        if place >= 0xFFFFF000:
            return interface
        if place + size > len(packet):
            raise Refused
        return int.from_bytes(packet[place : place + size], "big")

    while True:
        opcode, true, false, value = lines[at]
        at += 1
        if opcode == 0x06:
            return int(value)
        if opcode in (0x20, 0x28, 0x30):
            a = load(value, {0x20: 4, 0x28: 2, 0x30: 1}[opcode])
        elif opcode in (0x40, 0x48, 0x50):
            a = load(x + value, {0x40: 4, 0x48: 2, 0x50: 1}[opcode])
        elif opcode == 0x80:
            a = len(packet)
        elif opcode == 0x01:
            x = value
        elif opcode == 0xB1:
            x = (load(value, 1) & 15) * 4
        elif opcode == 0x07:
            x = a
        elif opcode == 0x05:
            at += value
        elif opcode & 7 == 5:
            met = {0x15: a == value, 0x35: a >= value, 0x45: bool(a & value), 0x3D: a >= x}[opcode]
            at += true if met else false
        else:
            other = x if opcode == 0x0C else value
            a = {0x54: a & other, 0x74: a >> other, 0x0C: a + other, 0x14: a - other}[opcode] % (1 << 32)


CODE = program([3, 9], 20, SHORT, LONG)


@pytest.mark.parametrize(
    ("frame", "kept"),
    [
        (tcp4(A, 1, B, 80, SYN), SHORT),
        (tcp4(A, 1, B, 80, ACK | PSH, b"x" * 900), SHORT),
        (tcp4(A, 1, B, 443, ACK | PSH, HELLO), LONG),
        (tcp4(A, 1, B, 8080, ACK | PSH, b"GET / HTTP/1.1\r\n\r\n"), LONG),
        (tcp4(B, 8080, A, 1, ACK | PSH, b"HTTP/1.1 200 OK\r\n\r\n"), LONG),
        (tcp4(A, 1, B, 53, ACK | PSH, b"\x00\x20" + b"q" * 32), LONG),
        (udp4(A, 1, B, 53, b"q" * 300), LONG),
        (udp4(B, 53, A, 1, b"q" * 300), LONG),
        (udp4(A, 68, B, 67, b"d" * 300), LONG),
        (udp4(A, 1, B, 9000, b"d" * 300), SHORT),
        (ether(ipv4(A, B, 1, icmp(8, payload=b"p" * 100))), SHORT),
        (ether(ipv4(A, B, 17, udp(1, 53, b"q" * 90), fragment=185)), SHORT),
        (ether(ipv6(A6, B6, 17, udp(1, 53, b"q" * 90)), 0x86DD), LONG),
        (ether(ipv6(A6, B6, 6, tcp(1, 443, ACK, HELLO)), 0x86DD), LONG),
        (ether(ipv6(A6, B6, 6, tcp(1, 443, ACK, b"x" * 90)), 0x86DD), SHORT),
        (arp(1, MAC_A, A, B), LONG),
        (ether(b"whatever" * 20, 0x88CC), LONG),
    ],
)
def test_more_is_kept_of_what_is_read_beyond_headers(frame: bytes, kept: int) -> None:
    assert run(CODE, frame, 3) == kept


def test_only_watched_interfaces_and_those_to_come() -> None:
    frame = tcp4(A, 1, B, 80, SYN)
    assert [run(CODE, frame, number) for number in (1, 3, 4, 9, 20, 21, 4000)] == [0, SHORT, 0, SHORT, 0, SHORT, SHORT]


@pytest.mark.parametrize("watched", [range(0), range(1, 2), range(1, 400), range(1, 5000)])
def test_the_kernel_would_take_it(watched: range) -> None:
    code = program(watched, 6000, SHORT, LONG)
    assert len(code) // 8 <= 4096
    assert run(code, tcp4(A, 1, B, 80, SYN), 1) == (SHORT if len(watched) else 0)
    assert run(code, tcp4(A, 1, B, 80, SYN), MAX_INTERFACES + 5) == 0


@given(st.binary(min_size=14, max_size=200), st.sampled_from([0x0800, 0x86DD, 0x0806]))
def test_no_packet_is_refused_for_its_contents(body: bytes, kind: int) -> None:
    """A load outside the packet would drop it unseen and uncounted."""
    frame = body[:12] + kind.to_bytes(2, "big") + body[14:]
    assert run(CODE, frame, 3) in (SHORT, LONG)


@pytest.mark.parametrize(
    "frame",
    [tcp4(A, 1, B, 80, ACK, b"GET / HTTP/1.1\r\n\r\n"), ether(ipv6(A6, B6, 6, tcp(1, 2, ACK, HELLO)), 0x86DD)],
)
def test_no_packet_is_refused_for_its_length(frame: bytes) -> None:
    for end in range(14, len(frame)):
        assert run(CODE, frame[:end], 3) in (SHORT, LONG)
