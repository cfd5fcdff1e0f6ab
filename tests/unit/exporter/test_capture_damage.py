"""Whatever the bytes are: what came before the damage is used, one line says what happened, nothing raises."""

from __future__ import annotations

import gzip
import random
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.chunks import CaptureReport
from exporter.settings import ExporterSettings, ReadingSettings
from exporter.sources.capture import CaptureError, read_chunks, read_messages
from tests.unit.exporter.crafting import (
    ACK,
    BASE,
    SYN,
    arp,
    enhanced,
    ether,
    icmp,
    interface,
    ipv4,
    ipv6,
    messages,
    pcap,
    rows,
    section,
    tcp4,
    udp,
    udp4,
)  # fmt: skip

QUICK = ExporterSettings(reading=ReadingSettings(drain_seconds=1))
FRAMES = [
    tcp4("10.0.0.1", 40_000, "10.0.0.2", 80, SYN), tcp4("10.0.0.2", 80, "10.0.0.1", 40_000, SYN | ACK),
    udp4("10.0.0.1", 5353, "10.0.0.2", 53, b"\0\1\1\0\0\1\0\0\0\0\0\0\3www\2xy\0\0\1\0\1"),
    arp(1, b"\2\0\0\0\0\1", "10.0.0.1", "10.0.0.2"), ether(ipv4("10.0.0.1", "10.0.0.2", 1, icmp(8))),
    ether(ipv6("fd00::1", "fd00::2", 17, udp(1, 2, b"x"), [(0, b"\0" * 7), (44, b"\0" * 7)]), 0x86DD),
]  # fmt: skip
PCAP = pcap([(i / 10, frame) for i, frame in enumerate(FRAMES)])
PCAPNG = section() + interface(name="eth0") + b"".join(
    enhanced(frame, BASE * 10**6 + i * 100_000) for i, frame in enumerate(FRAMES)
)  # fmt: skip


def _ends(content: bytes, start: int, size_at: int, extra: int) -> list[int]:
    """Offsets at which a whole record ends, read apart from the code under test."""
    ends, position = [], start
    while position < len(content):
        position += struct.unpack_from("<I", content, position + size_at)[0] + extra
        ends.append(position)
    return ends


def _read(folder: Path, content: bytes) -> CaptureReport:
    """Read the packets of every size of file; every seventh goes all the way to rows."""
    path, report = folder / "cut.cap", CaptureReport()
    path.write_bytes(content)
    if len(content) % 7 == 0:
        messages(folder, content, QUICK, report)
    else:
        report.packets = sum(len(chunk) for chunk in read_chunks(path, report=report))
    return report


def test_pcap_cut_at_every_byte(tmp_path: Path) -> None:
    ends = _ends(PCAP, 24, 8, 16)
    for size in range(24, len(PCAP)):
        report = _read(tmp_path, PCAP[:size])
        assert report.packets == sum(end <= size for end in ends)
        assert bool(report.problems) == (size not in [24, *ends])


def test_pcapng_cut_at_every_byte(tmp_path: Path) -> None:
    blocks = _ends(PCAPNG, 0, 4, 0)
    for size in range(28, len(PCAPNG)):
        report = _read(tmp_path, PCAPNG[:size])
        assert report.packets == sum(end <= size for end in blocks[2:])
        assert bool(report.problems) == (size not in blocks)


@pytest.mark.parametrize("content", [PCAP, PCAPNG], ids=["pcap", "pcapng"])
def test_gzip_cut_at_every_byte(tmp_path: Path, content: bytes) -> None:
    packed = gzip.compress(content, mtime=0)
    for size in range(len(packed)):
        try:
            report = _read(tmp_path, packed[:size])
        except CaptureError:
            continue
        assert report.problems


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"), (b"hello, this is text", "is not a capture: it begins with 68 65"),
        (PCAP[:10], "inside its file header"), (PCAPNG[:4], "inside its file header"),
        (b"PK\3\4" + b"\0" * 60, "is not a capture"), (gzip.compress(b"text", mtime=0), "is not a capture"),
        (b"\x0a\x0d\x0d\x0a" + b"\xff" * 40, "inside its file header"),
    ],
)  # fmt: skip
def test_what_is_no_capture_is_one_line_with_a_remedy(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(CaptureError) as caught:
        messages(tmp_path, content)
    line = str(caught.value)
    assert says in line
    assert str(tmp_path) in line
    assert "pcap or pcapng" in line
    assert "\n" not in line


@pytest.mark.parametrize("name", ["missing.pcap", ".", "a\0b"])
def test_what_cannot_be_opened_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(CaptureError, match=r"cannot read .*check the path") as caught:
        list(read_messages(f"{tmp_path}/{name}", "n", "c"))
    assert "\n" not in str(caught.value)


def test_a_nonsense_record_length_ends_the_capture_there(tmp_path: Path) -> None:
    report = CaptureReport()
    found = messages(tmp_path, PCAP + struct.pack("<IIII", BASE + 1, 0, 1 << 31, 1 << 31) + b"x" * 100, QUICK, report)
    assert report.packets == len(FRAMES)
    assert rows(found)
    assert report.problems == ["damaged, what follows was left out: a record claims 2147483648 bytes"]


@pytest.mark.parametrize("length", [0, 8, 11, 31, 1 << 31])
def test_a_nonsense_block_length_ends_the_capture_there(tmp_path: Path, length: int) -> None:
    report = CaptureReport()
    messages(tmp_path, PCAPNG + struct.pack("<II", 6, length) + b"\0" * 100, QUICK, report)
    assert report.packets == len(FRAMES)
    assert len(report.problems) == 1


def test_a_packet_of_no_interface_ends_the_capture_there(tmp_path: Path) -> None:
    report = CaptureReport()
    messages(tmp_path, PCAPNG + enhanced(FRAMES[0], BASE * 10**6, 9), QUICK, report)
    assert (report.packets, len(report.problems)) == (len(FRAMES), 1)


FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(seed=st.integers(0, 1 << 32), changes=st.integers(1, 40), which=st.sampled_from([PCAP, PCAPNG]))
def test_flipped_bytes_raise_nothing(tmp_path: Path, seed: int, changes: int, which: bytes) -> None:
    dice = random.Random(seed)
    content = bytearray(which)
    for _ in range(changes):
        content[dice.randrange(24, len(content))] = dice.randrange(256)
    report = CaptureReport()
    settled = ExporterSettings(reading=ReadingSettings(drain_seconds=1, sort_bytes=0, block_bytes=1024))
    messages(tmp_path, bytes(content), settled, report)
    assert report.packets <= len(FRAMES) + 40


@FUZZ
@given(bodies=st.lists(st.binary(max_size=120), max_size=12), link=st.sampled_from([0, 1, 12, 101, 108, 113, 228, 276]))
def test_random_packets_raise_nothing(tmp_path: Path, bodies: list[bytes], link: int) -> None:
    report = CaptureReport()
    messages(tmp_path, pcap([(i / 10, body) for i, body in enumerate(bodies)], link=link), QUICK, report)
    assert report.packets == len(bodies)


@FUZZ
@given(
    body=st.binary(max_size=120), proto=st.sampled_from([0, 1, 6, 17, 43, 44, 51, 58, 60, 132, 135]), six=st.booleans()
)
def test_random_transports_raise_nothing(tmp_path: Path, body: bytes, proto: int, six: bool) -> None:
    frame = (
        ether(ipv6("fd00::1", "fd00::2", proto, body), 0x86DD)
        if six
        else ether(ipv4("1.2.3.4", "5.6.7.8", proto, body))
    )
    report = CaptureReport()
    messages(tmp_path, pcap([(0.1, frame), (0.2, FRAMES[0])]), QUICK, report)
    assert report.packets == 2


@FUZZ
@given(body=st.binary(max_size=200), stream=st.booleans())
def test_random_dns_raises_nothing(tmp_path: Path, body: bytes, stream: bool) -> None:
    frame = tcp4("1.2.3.4", 9, "5.6.7.8", 53, ACK, body) if stream else udp4("1.2.3.4", 9, "5.6.7.8", 53, body)
    messages(tmp_path, pcap([(0.1, frame)]), QUICK)
