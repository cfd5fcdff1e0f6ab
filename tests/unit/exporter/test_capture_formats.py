"""Every way to write the same packets down gives the same rows."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exporter.chunks import CaptureReport
from exporter.sources.capture import read_chunks
from tests.unit.exporter.crafting import (
    ACK,
    BASE,
    MAC_A,
    MAC_B,
    SYN,
    Timed,
    block,
    enhanced,
    ether,
    interface,
    ipv4,
    ipv6,
    messages,
    pcap,
    rows,
    section,
    simple,
    tcp,
    tcp4,
    udp,
)  # fmt: skip

C, S = "10.0.0.1", "10.0.0.2"
IP = [
    ipv4(C, S, 6, tcp(40_000, 80, SYN)), ipv4(S, C, 6, tcp(80, 40_000, SYN | ACK)),
    ipv4(C, S, 6, tcp(40_000, 80, ACK)), ipv4(C, S, 17, udp(5000, 9000, b"hello")),
]  # fmt: skip
IP6 = ipv6("fd00::1", "fd00::2", 17, udp(5000, 9000, b"hello"))
WHEN = [0.25, 0.5, 0.75, 1.25]
BASELINE = [(when, ether(packet)) for when, packet in zip(WHEN, IP, strict=True)]


def essence(found: Any) -> list[tuple[Any, ...]]:
    keys = ("cut", "src", "dst", "src_port", "dst_port", "proto", "letters", "src_bytes", "dst_bytes", "start", "end")
    return [tuple(row[key] for key in keys) for row in rows(found)]


@pytest.fixture
def wanted(tmp_path: Path) -> list[tuple[Any, ...]]:
    found = essence(messages(tmp_path, pcap(BASELINE)))
    assert [entry[:7] for entry in found][:2] == [
        (1, C, S, 40_000, 80, 6, "oe"), (2, C, S, 5000, 9000, 17, "o"),
    ]  # fmt: skip
    return found


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_pcap(tmp_path: Path, wanted: list[Any], order: str, nano: bool, packed: bool) -> None:
    content = pcap(BASELINE, order=order, nano=nano)
    assert essence(messages(tmp_path, gzip.compress(content) if packed else content)) == wanted


def _cooked(packet: bytes) -> bytes:
    return struct.pack(">HHH", 0, 1, 6) + MAC_A + b"\0\0" + struct.pack(">H", 0x0800) + packet


def _cooked2(packet: bytes) -> bytes:
    return struct.pack(">HHIHBB", 0x0800, 0, 3, 1, 0, 6) + MAC_A + b"\0\0" + packet


LINKS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "raw": (101, lambda packet: packet), "raw bsd": (12, lambda packet: packet),
    "raw ipv4": (228, lambda packet: packet),
    "null little": (0, lambda packet: b"\x02\0\0\0" + packet), "null big": (0, lambda packet: b"\0\0\0\x02" + packet),
    "loop": (108, lambda packet: b"\0\0\0\x02" + packet), "cooked": (113, _cooked), "cooked 2": (276, _cooked2),
    "vlan": (1, lambda packet: MAC_B + MAC_A + b"\x81\x00\x00\x00\x08\x00" + packet),
    "qinq": (1, lambda packet: MAC_B + MAC_A + b"\x88\xa8\x00\x00\x81\x00\x00\x07\x08\x00" + packet),
    "pppoe": (1, lambda packet: MAC_B + MAC_A + b"\x88\x64\x11\0\0\1\0\x40\0\x21" + packet),
}  # fmt: skip


@pytest.mark.parametrize("link", LINKS)
def test_link_types(tmp_path: Path, wanted: list[Any], link: str) -> None:
    number, wrap = LINKS[link]
    content = pcap([(when, wrap(packet)) for when, packet in zip(WHEN, IP, strict=True)], link=number)
    assert essence(messages(tmp_path, content)) == wanted


@pytest.mark.parametrize("family", [10, 24, 28, 30])
def test_ipv6_on_loopback(tmp_path: Path, family: int) -> None:
    found = rows(messages(tmp_path, pcap([(0.5, struct.pack("<I", family) + IP6)], link=0)))
    assert (found[0]["src"], found[0]["dst_port"]) == ("fd00::1", 9000)


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng(tmp_path: Path, wanted: list[Any], order: str) -> None:
    packets = [enhanced(frame, round((BASE + when) * 1e6), 0, order) for when, frame in BASELINE]
    assert essence(messages(tmp_path, section(order) + interface(order) + b"".join(packets))) == wanted


@pytest.mark.parametrize(
    ("resolution", "per_second"), [(0, 1), (3, 10**3), (9, 10**9), (10, 10**10), (0x80 | 10, 2**10), (0x80 | 32, 2**32)]
)
def test_time_resolutions(tmp_path: Path, resolution: int, per_second: int) -> None:
    ticks = BASE * per_second + per_second // 2
    content = section() + interface(resolution=resolution) + enhanced(BASELINE[0][1], ticks)
    half = 0 if per_second == 1 else 500_000_000
    assert rows(messages(tmp_path, content))[0]["start"] == BASE * 10**9 + half


def test_sections_of_both_orders_and_several_interfaces(tmp_path: Path) -> None:
    frames = [tcp4(C, 40_000 + i, S, 80, SYN) for i in range(4)]
    content = section("<") + interface("<", 1, "eth0") + interface("<", 101, "tun0", 9)
    content += enhanced(frames[0], BASE * 10**6, 0) + enhanced(frames[1][14:], BASE * 10**9 + 10**8, 1)
    content += block("<", 5, b"\0" * 12)  # statistics are skipped
    content += section(">") + interface(">", 1, "eth1") + enhanced(frames[2], BASE * 10**6 + 200_000, 0, ">")
    content += interface(">", 1, "eth2") + enhanced(frames[3], BASE * 10**6 + 300_000, 1, ">")
    found = [row for row in rows(messages(tmp_path, content)) if row["cut"] == 1]
    assert [(row["src_port"], row["interface"]) for row in found] == [
        (40_000, "eth0"), (40_001, "tun0"), (40_002, "eth1"), (40_003, "eth2"),
    ]  # fmt: skip


def test_simple_packets_take_the_time_before_them(tmp_path: Path) -> None:
    first, second = tcp4(C, 1, S, 80, SYN), tcp4(C, 2, S, 80, SYN)
    content = section() + interface() + enhanced(first, BASE * 10**6 + 500_000) + simple(second)
    found = rows(messages(tmp_path, content))
    assert [row["start"] for row in found[:2]] == [BASE * 10**9 + 500_000_000] * 2


def test_obsolete_packet_blocks(tmp_path: Path) -> None:
    frame = BASELINE[0][1]
    ticks = BASE * 10**6
    for order in "<>":
        head = struct.pack(order + "HHIIII", 1, 5, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
        content = section(order) + interface(order, 101) + interface(order, 1) + block(order, 2, head + frame)
        assert rows(messages(tmp_path, content))[0]["dst_port"] == 80


def test_a_merged_file_is_sorted(tmp_path: Path, wanted: list[Any]) -> None:
    report = CaptureReport()
    assert essence(messages(tmp_path, pcap(BASELINE[::-1]), report=report)) == wanted
    assert report.late == 0


def test_several_gzip_members_are_one_file(tmp_path: Path, wanted: list[Any]) -> None:
    content = pcap(BASELINE)
    packed = gzip.compress(content[:70]) + gzip.compress(content[70:]) + b"\0" * 8
    assert essence(messages(tmp_path, packed)) == wanted


def test_standard_input(tmp_path: Path) -> None:
    program = (
        "from exporter.sources.capture import read_messages\n"
        "print(sum(m.rows('flow') for m in read_messages('-', 'n', 'c')))"
    )
    done = subprocess.run([sys.executable, "-c", program], input=pcap(BASELINE), capture_output=True, check=True)
    assert int(done.stdout) == len(rows(messages(tmp_path, pcap(BASELINE))))


def test_frames_cut_by_the_snap_length_count_whole(tmp_path: Path) -> None:
    frame = tcp4(C, 40_000, S, 80, ACK, b"x" * 1000)
    row = rows(messages(tmp_path, pcap([(0.5, frame)], snap=60)))[0]
    assert (row["src_bytes"], row["src_payload"]) == (1040, 1000)


def test_what_is_not_ip_is_counted_apart(tmp_path: Path) -> None:
    report = CaptureReport()
    packets: list[Timed] = [(0.1, ether(b"x" * 50, 0x88CC)), (0.2, b"\1\2\3"), *BASELINE]
    messages(tmp_path, pcap(packets), report=report)
    assert (report.packets, report.other, report.malformed) == (6, 2, 0)


def test_an_unknown_link_type_is_named(tmp_path: Path) -> None:
    report = CaptureReport()
    assert rows(messages(tmp_path, pcap(BASELINE, link=195), report=report)) == []
    assert report.problems == ["link type 195 (unknown) cannot be read; its packets are left out"]


def test_chunks_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap([(i / 1000, BASELINE[0][1]) for i in range(40_000)]))
    sizes = [len(chunk) for chunk in read_chunks(path)]
    assert sizes == [32_768, 40_000 - 32_768]
